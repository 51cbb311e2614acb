"""The ./irqscope script: what it names when something is missing, and that it sets up once.

Python stands in for itself here: the script sees a small script called python3, so that no test
installs anything.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOOLS = (
    "sh",
    "env",
    "readlink",
    "dirname",
    "mktemp",
    "tail",
    "rm",
    "cat",
    "mkdir",
    "chmod",
    "rmdir",
    "sleep",
)
COMPILERS = {
    "g++": "a C++ compiler (Debian: apt install g++)",
    "make": "make (Debian: apt install make)",
    "perl": "perl (Debian: apt install perl)",
}
PYTHON = "Python 3.11 or later (Debian: apt install python3 python3-venv)"
VENV = "Python's venv module (Debian: apt install python3-venv)"

STAND_IN = r"""#!/bin/sh
# python3 -c CHECK | python3 -m venv FOLDER
case "$1 $2" in
    "-c import sys"*) exit "${OLD_PYTHON:-0}" ;;
    "-c import ensurepip"*) exit "${NO_VENV:-0}" ;;
    "-m venv")
        echo "venv $3" >>"$SET_UPS"
        mkdir -p "$3/bin"
        cat >"$3/bin/python" <<'END'
#!/bin/sh
case "$2" in
    pip) [ -z "${PIP_FAILS:-}" ] || { echo "pip says why"; exit 1; } ;;
    *) for word in "$@"; do echo "<$word>"; done; exit "${STATUS:-0}" ;;
esac
END
        chmod +x "$3/bin/python"
        ;;
esac
"""


@pytest.fixture
def checkout(tmp_path):
    """A copy of what the script needs to see, and a PATH of its own."""
    return Checkout(tmp_path, tmp_path / "a-checkout")


class Checkout:
    def __init__(self, scratch, folder):
        self.folder = folder
        self.folder.mkdir()
        for name in ("irqscope", "pyproject.toml"):
            shutil.copy(ROOT / name, self.folder / name)
        self.venv = self.folder / ".venv"
        self.path = scratch / "bin"
        self.path.mkdir()
        for tool in (*TOOLS, *COMPILERS):
            found = shutil.which(tool)
            if found is None:
                pytest.skip(f"this system has no {tool}")
            (self.path / tool).symlink_to(found)
        self.set_ups = scratch / "set-ups"
        self.set_ups.touch()
        self.temporary = scratch / "tmp"
        self.temporary.mkdir()
        self._stand_in(self.path / "python3")

    @staticmethod
    def _stand_in(file):
        file.write_text(STAND_IN)
        file.chmod(0o755)

    def without(self, program):
        (self.path / program).unlink()

    def run(self, *arguments, cwd=None, command=None, **variables):
        return subprocess.run(
            [command or self.folder / "irqscope", *arguments],
            env={
                "PATH": str(self.path),
                "SET_UPS": str(self.set_ups),
                "TMPDIR": str(self.temporary),
                **variables,
            },
            cwd=cwd or self.folder.parent,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @property
    def times_set_up(self):
        return len(self.set_ups.read_text().splitlines())


def assert_refused(checkout, run, *missing):
    """Exit status 2, exactly these things named, and nothing begun."""
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr == "irqscope: missing:\n" + "".join(f"  {thing}\n" for thing in missing)
    assert sorted(path.name for path in checkout.folder.iterdir()) == ["irqscope", "pyproject.toml"]
    assert checkout.times_set_up == 0


@pytest.mark.parametrize("program", COMPILERS)
def test_a_missing_tool_is_named(checkout, program):
    checkout.without(program)
    assert_refused(checkout, checkout.run("demo"), COMPILERS[program])


def test_everything_missing_is_named_at_once(checkout):
    for program in (*COMPILERS, "python3"):
        checkout.without(program)
    assert_refused(checkout, checkout.run("demo"), PYTHON, *COMPILERS.values())


def test_another_compiler_does_not_help(checkout):
    """The simulators are built with g++, so CXX must not talk the script out of asking for it."""
    checkout.without("g++")
    (checkout.path / "clang++").symlink_to(shutil.which("sh"))
    assert_refused(checkout, checkout.run("demo", CXX="clang++"), COMPILERS["g++"])


def test_an_old_python_is_named(checkout):
    assert_refused(checkout, checkout.run("demo", OLD_PYTHON="1"), PYTHON)


def test_a_python_without_venv_is_named(checkout):
    assert_refused(checkout, checkout.run("demo", NO_VENV="1"), VENV)


def test_a_newer_python_under_another_name_is_found(checkout):
    (checkout.path / "python3").rename(checkout.path / "python3.12")
    assert checkout.run("list").returncode == 0
    assert checkout.times_set_up == 1


def test_arguments_and_status_are_handed_on(checkout):
    run = checkout.run("run", "two words", "", "--at", "a=1", STATUS="1")
    assert run.returncode == 1
    assert run.stdout == "<-P>\n<-m>\n<sim>\n<run>\n<two words>\n<>\n<--at>\n<a=1>\n"
    assert "setting up" in run.stderr


def test_it_is_set_up_once(checkout):
    for _ in range(3):
        assert checkout.run("list").returncode == 0
    assert checkout.times_set_up == 1
    assert "setting up" not in checkout.run("list").stderr
    assert list(checkout.temporary.iterdir()) == [], "no log is left behind"


def test_it_is_set_up_again_when_the_dependencies_change(checkout):
    checkout.run("list")
    with open(checkout.folder / "pyproject.toml", "a") as project:
        project.write("\n# another dependency\n")
    checkout.run("list")
    checkout.run("list")
    assert checkout.times_set_up == 2


def test_it_is_set_up_again_when_the_folder_has_moved(checkout):
    """An editable installation remembers where it was made."""
    checkout.run("list")
    moved = checkout.folder.with_name("moved")
    checkout.folder.rename(moved)
    run = checkout.run("list", command=moved / "irqscope")
    assert run.returncode == 0
    assert checkout.times_set_up == 2
    assert checkout.set_ups.read_text().splitlines()[1] == f"venv {moved / '.venv'}"


def test_a_set_up_that_broke_off_is_done_again(checkout):
    checkout.venv.mkdir()
    (checkout.venv / "half").touch()
    assert checkout.run("list").returncode == 0
    assert checkout.times_set_up == 1
    assert not (checkout.venv / "half").exists()


def test_a_set_up_that_fails_says_why_and_leaves_nothing(checkout):
    run = checkout.run("list", PIP_FAILS="1")
    assert run.returncode == 2
    assert run.stdout == ""
    assert "irqscope: set-up failed; what pip said last:\npip says why\n" in run.stderr
    assert not checkout.venv.exists()
    assert list(checkout.temporary.iterdir()) == []
    assert checkout.run("list").returncode == 0
    assert checkout.times_set_up == 2


def test_it_finds_itself_from_anywhere(checkout, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = elsewhere / "link"
    link.symlink_to(os.path.relpath(checkout.folder / "irqscope", elsewhere))
    for command in (link, "./link"):
        assert checkout.run("list", cwd=elsewhere, command=command).returncode == 0
    assert checkout.venv.exists()
    assert checkout.times_set_up == 1
    assert [path.name for path in elsewhere.iterdir()] == ["link"]


def test_continuous_integration_runs_what_people_run():
    script = (ROOT / ".ci" / "run").read_text()
    assert script.rstrip().endswith("exec ./irqscope test")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert os.access(ROOT / "irqscope", os.X_OK)


def test_a_folder_with_a_space_is_refused_before_anything_is_done(tmp_path):
    checkout = Checkout(tmp_path, tmp_path / "my projects")
    run = checkout.run("list")
    assert run.returncode == 2
    assert run.stderr.startswith("irqscope: make cannot build below a folder with a space")
    assert checkout.times_set_up == 0


def test_two_first_runs_at_once_set_up_once(checkout):
    runs = [
        subprocess.Popen(
            [checkout.folder / "irqscope", "list"],
            env={
                "PATH": str(checkout.path),
                "SET_UPS": str(checkout.set_ups),
                "TMPDIR": str(checkout.temporary),
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(3)
    ]
    assert [run.wait(timeout=60) for run in runs] == [0, 0, 0]
    assert checkout.times_set_up == 1
    assert not (checkout.folder / ".venv.lock").exists()


def test_where_nothing_can_be_made_one_line_says_so(checkout):
    lock = checkout.folder / ".venv.lock"
    lock.touch()
    run = checkout.run("list")
    assert run.returncode == 2
    assert run.stderr == f"irqscope: cannot make {lock}, so nothing can be set up here\n"
    assert checkout.times_set_up == 0
