"""Frames on a serial line: whole and right, or refused.

A frame is :data:`SYNC`, the number of payload bytes, a kind, the payload, and a CRC-16 of all but
the first byte, low byte first. Both directions are the same.
"""

from contextlib import contextmanager

from amaranth.hdl import Module, Signal
from amaranth.lib import crc, enum, stream, wiring
from amaranth.lib.wiring import In, Out

SYNC = 0xA5
CRC16 = crc.catalog.CRC16_IBM_SDLC(data_width=8)
OVERHEAD = 5
"""Bytes of a frame that are not payload."""


def frame(kind: int, payload: bytes) -> bytes:
    """The frame that carries ``payload``; software's side of the same rule."""
    body = bytes([len(payload), kind]) + payload
    return bytes([SYNC]) + body + CRC16.compute(body).to_bytes(2, "little")


class Refusal(enum.Enum, shape=8):
    """Why a request was not carried out."""

    CRC = 0
    LENGTH = 1  #: more payload than any request has, or not as much as this one has
    BROKEN_OFF = 2  #: the line fell silent within a frame, or a byte had no stop bit
    UNKNOWN = 3  #: no such request
    BUSY = 4  #: a run or a sweep is under way; only RESET is taken then


class FrameReceiver(wiring.Component):
    """Bytes to frames. A frame counts when its CRC was found right, and not before.

    Its payload is kept by whoever wants it: ``byte`` belongs to it in the clocks in which
    ``keep`` is high.

    Parameters
    ----------
    capacity : int
        Payload bytes of the longest frame.
    patience : int
        Clocks of silence within a frame after which it is given up.

    Members
    -------
    byte, valid, bad : In
        As :class:`hdl.boards.uart.UartReceiver` gives them.
    busy : In(1)
        Whoever keeps payloads is not ready for another one.
    kind, length : Out
        The frame, from ``done`` until the next one begins.
    keep : Out(1)
    kept : Out(1)
        The payload was to be kept: it began when ``busy`` was low.
    done : Out(1)
        A strobe: there is a frame.
    refused : Out(1)
        A strobe: there was one, and it is dropped; ``refusal`` says why.
    """

    def __init__(self, capacity: int, patience: int):
        self._capacity = capacity
        self._patience = patience
        super().__init__(
            {
                "byte": In(8),
                "valid": In(1),
                "bad": In(1),
                "busy": In(1),
                "kind": Out(8),
                "length": Out(range(capacity + 1)),
                "keep": Out(1),
                "kept": Out(1),
                "done": Out(1),
                "refused": Out(1),
                "refusal": Out(Refusal),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.crc = check = CRC16.create()
        left = Signal.like(self.length)
        silence = Signal(range(self._patience + 1))

        m.d.comb += check.data.eq(self.byte)
        m.d.sync += [self.done.eq(0), self.refused.eq(0), silence.eq(silence + 1)]
        with m.If(self.valid):
            m.d.sync += silence.eq(0)

        def refuse(why):
            m.d.sync += [self.refused.eq(1), self.refusal.eq(why)]
            m.next = "SYNC"

        @contextmanager
        def state(name):
            """A state within a frame: its body sees to a byte."""
            with m.State(name):
                with m.If(self.bad | (silence == self._patience)):
                    refuse(Refusal.BROKEN_OFF)
                with m.If(self.valid):
                    yield

        with m.FSM():
            with m.State("SYNC"):
                m.d.comb += check.start.eq(1)
                m.d.sync += silence.eq(0)
                with m.If(self.valid & (self.byte == SYNC)):
                    m.next = "LENGTH"

            with state("LENGTH"):
                m.d.comb += check.valid.eq(1)
                m.d.sync += [
                    self.length.eq(self.byte),
                    left.eq(self.byte),
                    self.kept.eq(~self.busy),
                ]
                m.next = "KIND"
                with m.If(self.byte > self._capacity):
                    refuse(Refusal.LENGTH)

            with state("KIND"):
                m.d.comb += check.valid.eq(1)
                m.d.sync += self.kind.eq(self.byte)
                m.next = "CRC_LOW"
                with m.If(self.length != 0):
                    m.next = "PAYLOAD"

            with state("PAYLOAD"):
                m.d.comb += check.valid.eq(1)
                m.d.sync += left.eq(left - 1)
                m.d.comb += self.keep.eq(self.kept)
                with m.If(left == 1):
                    m.next = "CRC_LOW"

            with state("CRC_LOW"):
                m.d.comb += check.valid.eq(1)
                m.next = "CRC_HIGH"

            with state("CRC_HIGH"):
                m.d.comb += check.valid.eq(1)
                m.next = "CHECK"

            with m.State("CHECK"):
                m.next = "SYNC"
                with m.If(check.match_detected):
                    m.d.sync += self.done.eq(1)
                with m.Else():
                    refuse(Refusal.CRC)
        return m


class FrameTransmitter(wiring.Component):
    """Frames to bytes, straight from where they are.

    Parameters
    ----------
    capacity : int
        Payload bytes of the longest frame.

    Members
    -------
    kind, length : In
        Of the frame; they hold while ``valid``.
    begun : Out(1)
        A strobe: a frame begins; ``byte`` is looked at later.
    byte : In(8), next : Out(1)
        A byte of the payload. In the clock ``next`` is high it leaves, and the next one follows.
    valid : In(1)
        There is a frame; it holds until ``ready``.
    ready : Out(1)
        The last byte of the frame leaves in this clock.
    idle : Out(1)
        Nothing of a frame has left yet.
    bytes : Out(stream.Signature(8))
    """

    def __init__(self, capacity: int):
        super().__init__(
            {
                "kind": In(8),
                "length": In(range(capacity + 1)),
                "begun": Out(1),
                "byte": In(8),
                "next": Out(1),
                "valid": In(1),
                "ready": Out(1),
                "idle": Out(1),
                "bytes": Out(stream.Signature(8)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.crc = check = CRC16.create()
        left = Signal.like(self.length)
        out = self.bytes
        sent = out.valid & out.ready

        m.d.comb += [check.data.eq(out.payload), check.valid.eq(sent)]
        with m.FSM() as fsm:
            m.d.comb += [
                self.idle.eq(fsm.ongoing("SYNC")),
                out.valid.eq(1),
            ]
            with m.State("SYNC"):
                m.d.comb += [
                    out.payload.eq(SYNC),
                    out.valid.eq(self.valid),
                    check.start.eq(1),
                    check.valid.eq(0),
                ]
                m.d.sync += left.eq(self.length)
                m.d.comb += self.begun.eq(sent)
                with m.If(sent):
                    m.next = "LENGTH"
            with m.State("LENGTH"):
                m.d.comb += out.payload.eq(self.length)
                with m.If(sent):
                    m.next = "KIND"
            with m.State("KIND"):
                m.d.comb += out.payload.eq(self.kind)
                with m.If(sent):
                    m.next = "PAYLOAD"
                    with m.If(left == 0):
                        m.next = "CRC_LOW"
            with m.State("PAYLOAD"):
                m.d.comb += out.payload.eq(self.byte)
                with m.If(sent):
                    m.d.comb += self.next.eq(1)
                    m.d.sync += left.eq(left - 1)
                    with m.If(left == 1):
                        m.next = "CRC_LOW"
            with m.State("CRC_LOW"):
                m.d.comb += [out.payload.eq(check.crc[:8]), check.valid.eq(0)]
                with m.If(sent):
                    m.next = "CRC_HIGH"
            with m.State("CRC_HIGH"):
                m.d.comb += [out.payload.eq(check.crc[8:]), check.valid.eq(0)]
                with m.If(sent):
                    m.d.comb += self.ready.eq(1)
                    m.next = "SYNC"
        return m
