"""A board that falls silent, goes away or is not understood: one line, whatever was going on."""

import os
import sys
import threading
import tty

import pytest

from hdl.boards import protocol
from hdl.boards.framing import SYNC, frame
from hdl.boards.platforms import find_board
from hdl.boards.protocol import Reply, Request
from sim.cli import main
from sim.hosts import board

LAB = find_board("icebreaker").lab
INFO = LAB.replies()[Reply.INFO]


class FakeBoard(threading.Thread):
    """Says DONE to everything and knows who it is, until it is asked to sweep."""

    def __init__(self, identity: int, ending: bytes | None):
        super().__init__(daemon=True)
        self._ours, theirs = os.openpty()
        tty.setraw(theirs)
        self.port = os.ttyname(theirs)
        self._theirs = theirs
        self._identity, self._ending = identity, ending
        self.start()

    def run(self):
        while True:
            head = os.read(self._ours, 1)
            if head[0] != SYNC:
                continue
            head += os.read(self._ours, 1) + os.read(self._ours, 1)
            rest = b""
            while len(rest) < head[1] + 2:
                rest += os.read(self._ours, head[1] + 2 - len(rest))
            request = Request(head[2])
            if request == Request.SWEEP:
                break
            if request == Request.INFO:
                info = INFO.const({"version": protocol.VERSION, "identity": self._identity})
                os.write(self._ours, frame(Reply.INFO.value, info.as_bits().to_bytes(5, "little")))
            else:
                os.write(self._ours, frame(Reply.DONE.value, bytes([request.value])))
        if self._ending is None:
            os.close(self._theirs)
            os.close(self._ours)
        else:
            os.write(self._ours, self._ending)


TRIAL = frame(Reply.TRIAL.value, bytes(5))


@pytest.mark.parametrize(
    ("identity", "ending", "said"),
    [
        (LAB.identity, b"", "the board is silent: 0 of 3 bytes came"),
        (LAB.identity, TRIAL + TRIAL[:4], "the board is silent: 1 of 7 bytes came"),
        (LAB.identity, TRIAL[:-1] + bytes([TRIAL[-1] ^ 4]), "a reply arrived damaged"),
        (LAB.identity, b"?" + TRIAL, "a reply began with 0x3f: the line is damaged"),
        (LAB.identity, None, "the board is gone: "),
        (LAB.identity ^ 1, b"", f"the board carries {LAB.identity ^ 1:#010x} of version "),
    ],
)
def test_a_sweep_on_a_board_that_fails(monkeypatch, capsys, identity, ending, said):
    monkeypatch.setattr(board, "PATIENCE", 0.3)
    monkeypatch.setattr(board.open_port, "__defaults__", (0.3,))
    port = FakeBoard(identity, ending).port
    words = ["sweep", "torn-msi", "--strategy", "naive", "--grid", "inject=30:31"]
    monkeypatch.setattr(sys, "argv", ["irqscope", *words, "--host", "board", "--port", port])
    with pytest.raises(SystemExit) as end:
        main()
    text = capsys.readouterr().err
    assert end.value.code == 2
    assert text.count("\n") == 1
    assert text.startswith(f"irqscope: {said}")


@pytest.mark.parametrize("name", ["file", "null"])
def test_a_port_that_is_no_serial_line(monkeypatch, capsys, tmp_path, name):
    (tmp_path / "file").write_text("")
    port = str(tmp_path / "file") if name == "file" else os.devnull
    words = ["run", "torn-msi", "--strategy", "naive", "--host", "board", "--port", port]
    monkeypatch.setattr(sys, "argv", ["irqscope", *words])
    with pytest.raises(SystemExit) as end:
        main()
    text = capsys.readouterr().err
    assert end.value.code == 2
    assert text.count("\n") == 1
    assert text.startswith(f"irqscope: no board at {port!r}: ")
