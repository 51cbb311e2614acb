"""A board at the end of its line: what it takes, what it refuses, and that it never does half."""

import pytest

from hdl.boards.framing import Refusal, frame
from hdl.boards.protocol import Reply, Request, size_in_bytes
from sim import trial
from sim.hosts.base import Poke
from sim.hosts.board import Board, BoardHost, LinkError, RefusedError, open_port
from sim.race import check_counterexamples
from sim.scenarios import find_scenario
from sim.sweep.grid import Point
from sim.sweep.pool import Result, Runner

from .rig import LAB, board

SCENARIO = find_scenario("torn-msi")
LONG = (1 << LAB.cycle_bits) - 1


@pytest.fixture(scope="module")
def there():
    with board() as found:
        yield found


def tell(there, request, payload=b"", damage=None):
    """Send a frame, damaged at byte ``damage``; the reply."""
    text = bytearray(frame(request.value, payload))
    if damage is not None:
        text[damage] ^= 0x10
    there._port.write(bytes(text))
    return there.receive()


def test_a_damaged_request_is_refused_and_nothing_of_it_is_done(there):
    there.ask(Request.RESET)
    payload = there._requests[Request.RUN].const({"until": 9}).as_bits().to_bytes(4, "little")
    for position in (3, 5, len(payload) + 4):
        reply, found = tell(there, Request.RUN, payload, damage=position)
        assert (reply, Refusal(found.reason)) == (Reply.REFUSED, Refusal.CRC)
    assert there.ask(Request.RUN, until=0).cycle == 0, "the machine ran"
    assert there.ask(Request.RUN, until=9).cycle == 9


def test_a_request_that_was_damaged_is_sent_again(there, monkeypatch):
    there.ask(Request.RESET)
    written = []

    class Noisy:
        """The first frame is damaged on its way."""

        def write(self, text):
            written.append(text)
            port.write(text if len(written) > 1 else text[:-1] + bytes([text[-1] ^ 1]))

        def read(self, count):
            return port.read(count)

    port = there._port
    monkeypatch.setattr(there, "_port", Noisy())
    assert there.ask(Request.RUN, until=5).cycle == 5
    assert len(written) == 2


def test_a_request_that_does_not_exist(there):
    there._port.write(frame(0x77, b""))
    reply, found = there.receive()
    assert (reply, Refusal(found.reason)) == (Reply.REFUSED, Refusal.UNKNOWN)


@pytest.mark.parametrize("size", [0, 3, 5])
def test_a_request_of_the_wrong_length(there, size):
    reply, found = tell(there, Request.RUN, bytes(size))
    assert (reply, Refusal(found.reason)) == (Reply.REFUSED, Refusal.LENGTH)


def test_while_it_runs_only_reset_is_taken(there):
    there.ask(Request.RESET)
    there.send(Request.RUN, until=LONG)
    with pytest.raises(RefusedError, match="the board refused POKE: BUSY"):
        there.ask(Request.POKE, field=0, value=1)
    there.ask(Request.RESET)
    assert there.ask(Request.RUN, until=3).cycle == 3


def test_reset_ends_a_sweep(there):
    there.send(Request.SWEEP, count=1000, limit=LONG, settle=LONG)
    with pytest.raises(RefusedError, match="BUSY"):
        there.ask(Request.COUNT, index=0)
    there.ask(Request.RESET)
    assert there.ask(Request.RUN, until=3).cycle == 3


def test_a_board_is_found_whatever_was_going_on(there):
    there.send(Request.SWEEP, count=1000, limit=LONG, settle=LONG, report_all=1)
    there._port.write(frame(Request.RUN.value, bytes(4))[:5])  # whoever asked was killed
    assert Board(there._port, [LAB]).ask(Request.RUN, until=3).cycle == 3


def test_a_board_that_carries_something_else(there):
    from dataclasses import replace

    other = replace(LAB, edges=LAB.edges * 2)
    with pytest.raises(LinkError, match="which is not of this irqscope: build and flash it again"):
        Board(there._port, [other])


def test_every_payload_fits_the_length_byte():
    layouts = [*LAB.requests().values(), *LAB.replies().values()]
    assert max(map(size_in_bytes, layouts)) < 64


@pytest.mark.parametrize(("strategy", "inject"), [("naive", 45), ("two-step", 60)])
def test_a_trial_on_the_board_is_the_trial_of_the_verilated_host(there, strategy, inject):
    host = BoardHost(there)
    ours = trial.run(SCENARIO.plan(strategy, {"inject": inject}), host)
    with Runner("torn-msi") as runner:
        theirs = runner.outcome(Point(strategy, {"inject": inject}))
    assert (ours.cycles, ours.quiet, ours.log) == (theirs.cycles, theirs.quiet, theirs.log)
    assert LAB.recorded
    assert [(e.cycle, e.channel, e.kind, e.data) for e in ours.events] == [
        (e.cycle, e.channel, e.kind, e.data) for e in theirs.events if e.channel in LAB.recorded
    ]


@pytest.mark.parametrize("name", ["external_request_valid", "endpoint_1_event"])
def test_what_a_board_cannot_set(there, name):
    host = BoardHost(there)
    with pytest.raises(ValueError, match=f"this board's machine has no input {name} that can"):
        host.advance([Poke(0, name, 1)], 1)


def test_a_counterexample_that_is_none_is_noticed(there):
    wrong = Result(Point("naive", SCENARIO.complete("naive", {"inject": 200})), frozenset({"lost"}))
    with pytest.raises(RuntimeError, match=r"the sequencer found \['lost'\], the whole judgement"):
        check_counterexamples(SCENARIO, there, [wrong])


def test_no_board(tmp_path):
    with pytest.raises(LinkError, match=r"no board at .*nowhere.*No such file"):
        open_port(str(tmp_path / "nowhere"))


def test_a_silent_line(tmp_path):
    import os
    import tty

    ours, theirs = os.openpty()
    tty.setraw(theirs)
    try:
        with (
            open_port(os.ttyname(theirs), 0.2) as port,
            pytest.raises(LinkError, match=r"no board answers at .*: is it flashed"),
        ):
            Board(port, [LAB])
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_damaged_reply():
    class Line:
        def __init__(self, answer):
            self.answer = answer

        def read(self, count):
            got, self.answer = self.answer[:count], self.answer[count:]
            return got

    good = frame(Reply.DONE.value, b"\x01")
    for text, words in (
        (good[:-1] + b"\x00", "a reply arrived damaged"),
        (b"\x00" + good, "a reply began with 0x0"),
        (frame(0x11, b""), "unknown kind 0x11"),
        (good[:4], "the board is silent: 1 of 3 bytes came"),
    ):
        there = Board.__new__(Board)
        there._port, there._replies = Line(text), LAB.replies()
        with pytest.raises(LinkError, match=words):
            there.receive()
