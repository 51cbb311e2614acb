"""Sweeps: grids, workers that die, Ctrl-C, files, answers and exit status."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import pyarrow.parquet
import pytest

from sim.cache import ROOT
from sim.runs import make_plan
from sim.scenarios import find_scenario
from sim.scenarios.own import absolute, load_class
from sim.sweep import (
    Result,
    Sweep,
    executor,
    parse_grid,
    points,
    run_points,
    run_sweep,
    write_results,
)
from sim.sweep.pool import ATTEMPTS
from sim.toolchain import ToolError
from sim.verdict import VERDICTS

TORN = find_scenario("torn-msi")

OWN = '''
import os
from pathlib import Path
from firmware_model.strategies.torn_msi import Naive

class Backwards(Naive):
    name = "backwards"
    summary = "the data first"
    claims_correct = True

    async def update(self, cpu, move):
        move.log(cpu, "direct")
        await move.write_data(cpu, move.new)
        await move.write_address(cpu, move.new)

class Raises(Backwards):
    name = "raises"

    def __init__(self):
        raise KeyError("no such thing")

class Notes(Backwards):
    """Leaves a mark for every trial that came to its move."""

    name = "notes"

    async def update(self, cpu, move):
        with Path(__file__).with_suffix(".notes").open("a") as notes:
            notes.write(".")
        await super().update(cpu, move)

class Dies(Backwards):
    """Takes its process along, in every trial."""

    name = "dies"

    def __init__(self):
        os._exit(7)

class DiesOnce(Backwards):
    name = "dies-once"

    def __init__(self):
        mark = Path(__file__).with_suffix(".died")
        if not mark.exists():
            mark.touch()
            os._exit(7)

class Nameless(Naive):
    name = property()

class Unrelated:
    pass
'''


@pytest.fixture
def own(tmp_path):
    """Names a class of OWN, as --strategy does."""
    file = tmp_path / "own.py"
    file.write_text(OWN)
    return lambda name: f"{file}:{name}"


def trials(*strategies, grid=("quick", "inject=40:70:10", "hotplug=1")):
    return points(strategies, parse_grid(TORN, grid))


# Grids


def test_a_grid_starts_with_defaults_and_later_words_win():
    [grid] = parse_grid(TORN, ["quick", "inject=0x10:20:2", "bus_latency=7"])
    assert [*grid["inject"]] == [16, 18, 20]
    assert [*grid["bus_latency"]] == [7]
    assert [*grid["hotplug"]] == [0, 1], "from quick"
    assert [*grid["ordering"]] == [0], "the default"
    assert parse_grid(TORN, ["inject=3:5", "quick"]) == parse_grid(TORN, [])
    [grid] = parse_grid(TORN, ["full", "default"])
    assert [*grid["inject"]] == [45]


def test_a_later_word_means_every_block_of_an_earlier_one():
    pmu = find_scenario("shared-pmu")
    blocks = pmu.grids["full"]
    grid = parse_grid(pmu, ["full", "which=1"])
    assert len(grid) == len(blocks) > 1
    assert all([*block["which"]] == [1] for block in grid)
    assert [block["overflow"] for block in grid[:2]] == [block["overflow"] for block in blocks[:2]]


def test_points_are_the_product():
    found = points(["a", "b"], [{"x": [1, 2], "y": [3]}])
    assert [(p.strategy, p.at) for p in found] == [
        (name, {"x": x, "y": 3}) for name in "ab" for x in (1, 2)
    ]


def test_a_point_of_two_blocks_comes_once():
    found = points(["a"], [{"x": [1, 2], "y": [3]}, {"x": [2, 4], "y": [3]}])
    assert [p.at["x"] for p in found] == [1, 2, 4]


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("huge", r"takes quick, full, default or AXIS=LO:HI\[:STEP\], not 'huge'"),
        ("injekt=1:2", "torn-msi has no axis 'injekt'; it has: inject, "),
        ("inject=", "whole number or LO:HI.*, not ''"),
        ("inject=a:b", "whole number or LO:HI.*, not 'a:b'"),
        ("inject=1:2:3:4", "whole number or LO:HI.*, not '1:2:3:4'"),
        ("inject=9:3", "goes upwards, not '9:3'"),
        ("inject=3:9:0", "goes upwards, not '3:9:0'"),
        ("inject=3:9999", "inject must be between 0 and 400, not 9999"),
    ],
)
def test_a_wrong_grid_says_what_would_be_right(word, says):
    with pytest.raises(ValueError, match=says):
        parse_grid(TORN, [word])


# Strategies of one's own


def test_a_class_of_ones_own_is_a_strategy(own):
    word = own("Backwards")
    strategy = TORN.strategy(word)
    assert (strategy.summary, strategy.claims_correct) == ("the data first", True)
    assert TORN.label(word) == "backwards"
    assert make_plan("torn-msi", word, {}).machine
    assert load_class(word, TORN.own) is strategy.code, "the file is run once"


def test_its_file_is_found_from_everywhere(own, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert absolute("own.py:Backwards") == own("Backwards")
    assert absolute("naive") == "naive"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Missing", "must have a class Missing, a subclass of MsiStrategy"),
        ("Unrelated", "must have a class Unrelated, a subclass of MsiStrategy"),
        ("OWN", "must have a class OWN, a subclass of MsiStrategy"),
    ],
)
def test_a_class_that_is_none_is_refused(own, name, says):
    with pytest.raises(ValueError, match=says):
        TORN.strategy(own(name))


def test_a_class_without_a_name_and_a_file_that_is_not_there_are_refused(tmp_path):
    bare = tmp_path / "bare.py"
    bare.write_text(
        "from firmware_model.strategies.torn_msi import MsiStrategy\nclass B(MsiStrategy): pass"
    )
    with pytest.raises(
        ValueError, match=r"must have name \(str\), summary \(str\), claims_correct \(bool\)"
    ):
        TORN.strategy(f"{bare}:B")
    with pytest.raises(ValueError, match=r"there is no file nowhere.py"):
        TORN.strategy("nowhere.py:B")
    with pytest.raises(ValueError, match=r"FILE.py:CLASS, not 'naive'"):
        load_class("naive", object)
    with pytest.raises(ValueError, match=r"has no strategy 'x'; it has: naive, .*, or FILE.py"):
        TORN.strategy("x")
    with pytest.raises(ValueError, match=r"has no strategy 'own.py:X'; it has: plain$"):
        find_scenario("first-msi").strategy("own.py:X")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("class B(:", r"bad.py: SyntaxError: .*line 1"),
        ("import missing_module", r"bad.py, line 1: ModuleNotFoundError"),
        ("\nraise SystemExit(3)", r"bad.py, line 2: SystemExit: 3"),
        (OWN + "class B(Backwards): name = 'a/b'", r"name of B in .* not 'a/b'$"),
    ],
)
def test_a_file_that_does_not_do_is_one_line(text, says, tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text(text)
    with pytest.raises(ValueError, match=says):
        TORN.strategy(f"{bad}:B")


def test_an_exception_of_its_constructor_names_the_line(own):
    with pytest.raises(ValueError, match=r"own.py, line \d+: KeyError: 'no such thing'"):
        make_plan("torn-msi", own("Raises"), {})


# Workers


def test_a_trial_that_kills_its_process_is_tried_twice_and_costs_nothing_else(own):
    wanted = trials(own("Dies"), grid=["inject=40"]) + trials("naive", "two-step")
    found = list(run_points("torn-msi", wanted, 2))
    assert len(found) == len(wanted)
    [dead] = [result for result in found if result.error]
    assert dead.point == wanted[0]
    assert dead.error == f"the process ended with status 7, {ATTEMPTS} times"
    assert dead.verdicts == frozenset()


def test_a_trial_that_kills_its_process_once_is_done_at_last(own, tmp_path):
    [result] = run_points("torn-msi", trials(own("DiesOnce"), grid=["inject=10"]), 1)
    assert (tmp_path / "own.died").exists()
    assert not result.error
    assert result.cycles


def test_an_exception_of_the_software_is_a_result(own):
    [result] = run_points("torn-msi", trials(own("Raises"), grid=["inject=10"]), 1)
    assert "no such thing" in result.error


def test_a_worker_that_cannot_start_ends_the_sweep():
    with pytest.raises(ToolError, match="did not start: the process ended with status 1"):
        list(run_points("no such scenario", trials("naive"), 1))


def test_the_number_of_processes_does_not_matter():
    wanted = trials("naive", "two-step-under-lock")
    one, two = (
        {(r.point.strategy, r.point.at["inject"]): r for r in run_points("torn-msi", wanted, jobs)}
        for jobs in (1, 2)
    )
    assert one == two
    assert len(one) == len(wanted)


# What comes out


@pytest.fixture(scope="module")
def swept():
    names = ["naive", "two-step", "as-coded"]
    told = []
    execute = executor(TORN, names, 2)
    found = run_sweep(TORN, names, trials(*names), execute, lambda: told.append(1))
    assert len(told) == found.wanted == 12
    return found


def test_the_answer_is_as_documented(swept, tmp_path):
    answer = swept.answer(tmp_path)
    assert (answer["scenario"], answer["host"], answer["trials"]) == ("torn-msi", "verilated", 12)
    assert answer["seconds"] > 0
    assert answer["cycles"] > 12 * 1000
    assert not answer["stopped"]
    naive, two_step, _ = answer["strategies"]
    assert list(naive["verdicts"]) == ["ok", *VERDICTS]
    assert len(naive["verdicts"]) == 10
    assert naive["trials"] == 4
    assert naive["verdicts"]["lost"] == naive["verdicts"]["misdirected"] > 0
    smallest = naive["smallest_counterexample"]
    assert (smallest["verdict"], smallest["at"]) == ("lost", {"inject": 60})
    assert smallest["events"] == str(tmp_path / "naive-lost.jsonl")
    assert two_step["verdicts"]["ok"] == 4
    assert two_step["smallest_counterexample"] is None
    assert json.loads(json.dumps(answer)) == answer


def test_only_a_broken_claim_is_refuted(swept):
    assert swept.refuted == ["as-coded"], "naive claims nothing, two-step holds"


def test_files_hold_every_trial_and_the_events_of_counterexamples(swept, tmp_path):
    write_results(swept, tmp_path)
    table = pyarrow.parquet.read_table(tmp_path / "results.parquet").to_pylist()
    assert len(table) == 12
    lost = [(row["strategy"], row["inject"]) for row in table if row["lost"]]
    assert ("naive", 60) in lost
    assert set(table[0]) == {"strategy", *TORN.axes, *VERDICTS, "stalls", "cycles", "error"}
    events = [json.loads(line) for line in (tmp_path / "naive-lost.jsonl").open()]
    assert {"cycle": 760, "kind": "DEVICE_EVENT"}.items() <= next(
        event for event in events if event["kind"] == "DEVICE_EVENT"
    ).items()
    files = {path.name for path in tmp_path.iterdir()}
    stems = ("naive-lost", "naive-misdirected", "as-coded-lost", "as-coded-misdirected")
    assert files == {"results.parquet", *(f"{stem}.jsonl" for stem in stems)}


def test_the_printed_command_is_one_that_run_takes(swept, tmp_path):
    command = shlex.split(swept.counterexamples("naive")[0].command(tmp_path))
    assert command[:4] == ["irqscope", "run", "torn-msi", "--strategy"]
    assert command[command.index("--at") + 1] == "inject=60"
    assert command[command.index("--vcd") + 1] == str(tmp_path / "naive-lost.vcd")
    assert {"--gtkw", "--png"} < set(command)


def test_small_is_usual_first_and_then_small():
    results = [
        Result(
            points(["naive"], parse_grid(TORN, [f"inject={inject}", f"ordering={ordering}"]))[0],
            frozenset({"lost"}),
        )
        for inject, ordering in ((9, 1), (80, 0), (70, 0))
    ]
    sweep = Sweep(TORN, ["naive"], 3, results, 1.0)
    assert sweep.counterexamples("naive")[0].at == {"inject": 70}


# The command


def irqscope(*arguments, **options):
    command = [sys.executable, "-P", "-m", "sim", "sweep", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, **options)


def test_the_command_tells_a_broken_claim_by_its_status(own, tmp_path):
    arguments = ["torn-msi", "--grid", "inject=40:70:6", "--jobs", "1"]
    done = irqscope(*arguments, "--strategy", "naive", "--strategy", "two-step")
    assert done.returncode == 0, done.stderr
    assert "irqscope run torn-msi --strategy naive --at inject=58 --vcd" in done.stdout
    assert done.stderr == ""
    out = tmp_path / "out"
    done = irqscope(*arguments, "--strategy", own("Backwards"), "--out", str(out), "--json", "-")
    assert done.returncode == 1
    assert done.stderr == ""
    [strategy] = json.loads(done.stdout)["strategies"]
    assert strategy["name"] == "backwards"
    assert strategy["verdicts"]["lost"]
    assert (out / "backwards-lost.jsonl").exists()


def test_the_command_reports_trials_that_failed(own):
    done = irqscope("torn-msi", "--grid", "inject=40", "--strategy", own("Raises"))
    assert done.returncode == 1
    assert done.stderr.startswith("irqscope: 1 of 1 trials failed; the first: ")


def heed_ctrl_c():
    """A shell's background job, as CI may be, ignores it, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def stopped_by_ctrl_c(arguments, out, notes, trials):
    """A sweep of 7712 trials that gets Ctrl-C when so many have begun: its checked (done, text).

    ``notes`` is a file to which the strategy adds a byte in every trial.
    """
    command = [sys.executable, "-P", "-m", "sim", "sweep", *arguments]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_ctrl_c,
    ) as process:
        give_up = time.monotonic() + 100
        while not notes.exists() or notes.stat().st_size < trials:
            assert time.monotonic() < give_up, f"the sweep never came to its trial {trials}"
            assert process.poll() is None, "the sweep ended by itself"
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        text, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    done = pyarrow.parquet.read_table(out / "results.parquet").num_rows
    assert 10 < done < 7712
    assert errors == f"irqscope: stopped after {done} of 7712 trials; those are kept\n"
    return done, text


def test_ctrl_c_keeps_what_was_done(own, tmp_path):
    out, notes = tmp_path / "out", tmp_path / "own.notes"
    arguments = ["torn-msi", "--strategy", own("Notes"), "--grid", "full", "--out", str(out)]
    done, text = stopped_by_ctrl_c([*arguments, "--jobs", "1"], out, notes, 20)
    assert f"{done} of 7712 trials" in text


def test_the_strategy_of_the_readme_loses_nothing(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    [block] = [block for block in blocks if "class VectorFirst" in block]
    file = tmp_path / "mine.py"
    file.write_text(block)
    out = tmp_path / "sweep.json"
    done = irqscope(
        *("torn-msi", "--strategy", f"{file.name}:VectorFirst", "--strategy", "naive"),
        *("--grid", "inject=40:80:3", "--json", str(out)),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    mine, naive = json.loads(out.read_text())["strategies"]
    assert mine["name"] == "vector-first"
    assert mine["claims_correct"]
    assert mine["verdicts"]["lost"] == 0
    assert mine["verdicts"]["misdirected"] > 0
    assert naive["verdicts"]["lost"] > 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["torn"], "there are: first-msi, torn-msi, "),
        (["torn-msi", "--strategy", "x"], "has no strategy 'x'"),
        (["torn-msi", "--grid", "huge"], "quick, full, default"),
        (["torn-msi", "--executor", "dask"], "say where the dask scheduler is"),
        (["torn-msi", "--scheduler", "tcp://x:1"], "--scheduler goes with --executor dask"),
        (["torn-msi", "--stalls", "1"], "--stalls and --stall-lengths go with --explore"),
        (["torn-msi", "--explore", "--stall-lengths", "5,x"], "clocks, not '5,x'"),
        (["torn-msi", "--explore", "--stall-lengths", "0"], "clocks, not '0'"),
        (["torn-msi", "--jobs", "0"], "--jobs"),
    ],
)
def test_a_wrong_request_is_one_line_and_status_2(arguments, says):
    done = irqscope(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("irqscope: ")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
