"""The simulated board as a user has it: one terminal for the board, one for irqscope."""

import json
import os
import signal
import subprocess
import sys

import pytest

PATIENCE = 120


def start(*words):
    return subprocess.Popen(
        [sys.executable, "-m", "sim.hosts.board_simulated", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def irqscope(*words):
    done = subprocess.run(
        [sys.executable, "-m", "sim", *words], capture_output=True, text=True, timeout=2 * PATIENCE
    )
    return done.returncode, done.stdout, done.stderr


def test_a_board_in_another_terminal():
    board = start("icebreaker")
    try:
        port = board.stdout.readline().strip()
        assert port.startswith("/dev/"), board.stderr.read()
        words = ["torn-msi", "--strategy", "naive", "--host", "board", "--port", port]
        status, said, complaint = irqscope("run", *words, "--at", "inject=53", "--json", "-")
        assert (status, complaint) == (0, "")
        assert "lost" in json.loads(said)["verdicts"]
    finally:
        os.killpg(board.pid, signal.SIGINT)  # as Ctrl-C does: the simulator hears it, too
        said, complaint = board.communicate(timeout=PATIENCE)
    assert (board.returncode, said, complaint) == (0, "", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "say which board: one of ulx3s-85f, "),
        (["nexys4"], "no board is called 'nexys4'; there are: ulx3s-85f, "),
    ],
)
def test_a_board_that_is_not_known(words, said):
    board = start(*words)
    _, complaint = board.communicate(timeout=PATIENCE)
    assert board.returncode == 2
    assert complaint.count("\n") == 1
    assert complaint.startswith(f"board_simulated: {said}")
