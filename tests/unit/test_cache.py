"""Things made once, whoever asks and however the making ends."""

import signal
import subprocess
import sys
import textwrap

import pytest

from sim import cache
from sim.cache import ROOT, cache_folder, digest, made_once

MAKER = """
    import os, signal, sys, time
    from pathlib import Path
    from sim.cache import made_once

    def make(folder):
        with open(sys.argv[1], "a") as log:
            log.write(f"{os.getpid()}\\n")
        (folder / "half").write_text("half")
        if sys.argv[2] == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.3)
        (folder / "whole").write_text("whole")

    print(made_once("kind", "key", make))
"""


@pytest.fixture
def maker(empty_cache, quiet_environment, tmp_path):
    """Starts a process that wants ``kind/key``; every making is a line of ``made``."""
    made = tmp_path / "made"

    def start(ending="well"):
        return subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(MAKER), str(made), ending],
            env=quiet_environment | {"IRQSCOPE_CACHE": str(empty_cache), "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )

    start.made = made
    return start


def test_several_processes_make_it_once(maker, empty_cache):
    processes = [maker() for _ in range(4)]
    answers = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0] * 4
    assert answers == {str(empty_cache / "kind" / "key")}
    assert len(maker.made.read_text().splitlines()) == 1
    assert (empty_cache / "kind" / "key" / "whole").read_text() == "whole"
    assert sorted(path.name for path in (empty_cache / "kind").iterdir()) == ["key", "key.lock"]


def test_a_process_that_is_killed_leaves_nothing_finished(maker, empty_cache):
    killed = maker("die")
    assert killed.wait(timeout=60) == -signal.SIGKILL
    killed.stdout.close()
    assert not (empty_cache / "kind" / "key").exists()

    made = made_once("kind", "key", lambda folder: (folder / "whole").write_text("ours"))
    assert [path.name for path in made.iterdir()] == ["whole"]
    assert sorted(path.name for path in (empty_cache / "kind").iterdir()) == ["key", "key.lock"]


def test_clearing_up_spares_the_neighbours(empty_cache):
    """Another key's folder, even one that is being made, is not an abandoned one of ours."""
    other = empty_cache / "kind" / "key2.unfinished"
    other.mkdir(parents=True)
    made_once("kind", "key", lambda folder: None)
    assert other.exists()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_maker_that_raises_leaves_nothing(empty_cache, error):
    def fail(folder):
        (folder / "half").write_text("half")
        raise error("on purpose")

    with pytest.raises(error, match=r"^on purpose$"):
        made_once("kind", "key", fail)
    assert [path.name for path in (empty_cache / "kind").iterdir()] == ["key.lock"]

    made = made_once("kind", "key", lambda folder: (folder / "whole").write_text("whole"))
    assert [path.name for path in made.iterdir()] == ["whole"]


def test_what_exists_is_not_made_again(empty_cache):
    def forbidden(folder):
        raise AssertionError("made twice")

    first = made_once("kind", "key", lambda folder: None)
    assert made_once("kind", "key", forbidden) == first == empty_cache / "kind" / "key"


def test_kinds_and_keys_are_apart(empty_cache):
    made = []
    for kind, key in (("a", "x"), ("a", "y"), ("b", "x")):
        made_once(kind, key, made.append)
    assert len(made) == 3


def test_folder_by_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("IRQSCOPE_CACHE", str(tmp_path / "elsewhere"))
    assert cache_folder() == tmp_path / "elsewhere"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("IRQSCOPE_CACHE", "~/mine")
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IRQSCOPE_CACHE", "here")
    assert cache_folder() == tmp_path / "here"


@pytest.mark.parametrize("value", [None, ""])
def test_folder_of_a_checkout(monkeypatch, tmp_path, value):
    monkeypatch.delenv("IRQSCOPE_CACHE", raising=False)
    if value is not None:
        monkeypatch.setenv("IRQSCOPE_CACHE", value)
    monkeypatch.setattr(cache, "ROOT", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    assert cache_folder() == tmp_path / ".irqscope"


def test_folder_of_an_installation(monkeypatch, tmp_path):
    monkeypatch.delenv("IRQSCOPE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(cache, "ROOT", tmp_path / "site-packages")
    assert cache_folder().name == "irqscope"
    assert cache_folder() != tmp_path / "site-packages" / ".irqscope"


def test_digest_depends_on_every_part_and_its_ends():
    texts = [("ab", "c"), ("a", "bc"), ("abc",), ("ab", "c", ""), ("c", "ab")]
    assert len({digest(*parts) for parts in texts}) == len(texts)
    assert digest("text") == digest(b"text")
    assert len(digest()) == 20


def test_a_cache_in_a_folder_with_a_space_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("IRQSCOPE_CACHE", str(tmp_path / "my cache"))
    with pytest.raises(ValueError, match=r"my cache.*IRQSCOPE_CACHE to a folder without spaces"):
        cache_folder()
