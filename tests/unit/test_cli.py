"""The command line: answers, and one clear line for what cannot be answered."""

import json
import subprocess
import sys

import pytest


def irqscope(*arguments, cwd=None):
    command = [sys.executable, "-P", "-m", "sim", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300)


def test_help_shows_the_commands_and_each_has_an_example():
    top = irqscope("--help")
    assert top.returncode == 0
    for command in ("demo", "list", "run", "sweep", "wave", "bench", "test"):
        assert command in top.stdout
        detail = irqscope(command, "--help")
        assert detail.returncode == 0
        assert f"irqscope {command}" in detail.stdout.split("Example:")[1]


def test_list_json_is_all_that_is_printed():
    answer = json.loads(irqscope("list", "--json", "-").stdout)
    names = {scenario["name"] for scenario in answer["scenarios"]}
    assert "first-msi" in names
    for scenario in answer["scenarios"]:
        assert scenario["summary"]
        assert scenario["source"]
        assert scenario["strategies"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["frobnicate"], "No such command 'frobnicate'"),
        (["run"], "Missing argument 'SCENARIO'"),
        (["run", "nothing", "--strategy", "plain"], "there are: first-msi"),
        (["run", "first-msi", "--strategy", "x"], "it has: plain"),
        (["run", "first-msi", "--strategy", "plain", "--at", "inject"], "AXIS=VALUE"),
        (["run", "first-msi", "--strategy", "plain", "--stall", "0:1"], "CPU:STEP:CLOCKS"),
        (["run", "first-msi", "--strategy", "plain", "--stall", "2:60:9"], "only 0 to 1"),
        (["run", "first-msi", "--strategy", "plain", *["--stall", "0:60:9"] * 2], "twice"),
        (["sweep", "first-msi", "--explore", "--stall-lengths", "0"], "from 1 to 1000"),
        (["sweep", "first-msi", "--executor", "dask", "--scheduler", "x"], "tcp://HOST:PORT"),
        (["run", "first-msi", "--strategy", "plain", "--at", "inject=x"], "whole number"),
        (["run", "first-msi", "--strategy", "plain", "--at", "injekt=1"], "it has: inject"),
        (["run", "first-msi", "--strategy", "plain", "--at", "inject=401"], "between 0 and 400"),
        (
            ["run", "first-msi", "--strategy", "plain", "--host", "verilated", "--vcd", "x.vcd"],
            "--host cocotb",
        ),
        (["run", "first-msi", "--strategy", "plain", "--gtkw", "x.gtkw"], "--vcd FILE"),
        (["wave", "missing.vcd"], "missing.vcd"),
    ],
)
def test_a_wrong_request_is_one_line_and_status_2(arguments, says, tmp_path):
    done = irqscope(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("irqscope: ")
    assert says in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_run_tells_the_story_of_one_interrupt(tmp_path):
    target = tmp_path / "run.json"
    arguments = ["run", "first-msi", "--strategy", "plain", "--at", "inject=55"]
    done = irqscope(*arguments, "--json", str(target))
    assert done.returncode == 0, done.stderr
    answer = json.loads(target.read_text())
    kinds = [event["kind"] for event in answer["events"] if event["cycle"] >= 455]
    order = ["DEVICE_EVENT", "MESSAGE", "PENDING_SET", "LINE", "ACKNOWLEDGE", "LINE", "EOI"]
    assert kinds == order
    assert answer["events"][-len(order)]["cycle"] == 455
    assert [entry["kind"] for entry in answer["software"]] == ["ready", "interrupt", "handled"]
    assert answer["software"][-1]["cpu"] == 1
    assert answer["quiet"]
    assert "message" in done.stdout
