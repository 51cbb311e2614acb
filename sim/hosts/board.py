"""The host that is real: a machine on an FPGA, at the other end of a serial line.

The machine stands still between the clocks of a run, so trials on it are the same, clock for
clock, as on the other hosts.
"""

import heapq
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

import numpy
import serial
from amaranth.hdl import UnusedElaboratable

from hdl.boards import protocol
from hdl.boards.framing import CRC16, OVERHEAD, SYNC, Refusal, frame
from hdl.boards.lab import make_soc, settable_ports
from hdl.boards.protocol import LabConfig, Reply, Request
from hdl.config import SocConfig

from ..ports import port_map
from .base import Poke, Response, Wake, asker_prefix
from .verilated import RECORD

# A machine is made here only to be asked for its ports.
warnings.filterwarnings("ignore", category=UnusedElaboratable)

BAUD = 1_000_000
PATIENCE = 30.0
"""Seconds that a reply may take."""
ATTEMPTS = 3
"""Times that a request is sent that the board refused as damaged on its way."""
FIRST_PATIENCE = 2.0
"""Seconds that the first reply may take."""
LAST = {
    Request.INFO: Reply.INFO,
    Request.RUN: Reply.WAKE,
    Request.SWEEP: Reply.SWEPT,
    Request.COUNT: Reply.COUNT,
}
"""With what a request ends that does not end with DONE."""
LONGEST = 64
"""More bytes than a request has."""
DAMAGED = (Refusal.CRC, Refusal.LENGTH, Refusal.BROKEN_OFF)


class LinkError(OSError):
    """The serial line is not there, is silent, or what came over it was damaged."""


class RefusedError(LinkError):
    """The board did not carry a request out."""

    def __init__(self, request: Request, reason: Refusal):
        super().__init__(f"the board refused {request.name}: {reason.name}")
        self.reason = reason


def open_port(name: str, timeout: float = PATIENCE) -> serial.Serial:
    """The serial line called ``name``."""
    try:
        return serial.Serial(name, BAUD, timeout=timeout)
    except serial.SerialException as error:
        raise LinkError(f"no board at {name!r}: {_reason(error)}") from error


def _reason(error: serial.SerialException) -> str:
    return os.strerror(error.errno) if error.errno else str(error).splitlines()[0]


class Board:
    """Requests and replies.

    Parameters
    ----------
    port
        As :class:`serial.Serial`: ``read`` with a timeout, ``write``, ``close``.
    labs : sequence of LabConfig
        Those that may be on the board; it says which it is.
    """

    def __init__(self, port: Any, labs: Sequence[LabConfig]):
        self._port = port
        self._requests, self._replies = labs[0].requests(), labs[0].replies()
        self._find()
        info = self.ask(Request.INFO)
        known = {lab.identity: lab for lab in labs}
        if info.version != protocol.VERSION or info.identity not in known:
            raise LinkError(
                f"the board carries {info.identity:#010x} of version {info.version}, which is "
                "not of this irqscope: build and flash it again with irqscope synth --flash"
            )
        self.lab = known[info.identity]
        self._requests, self._replies = self.lab.requests(), self.lab.replies()

    def _find(self) -> None:
        """Whatever the board was doing, and whatever is on the line: from here on it listens.

        Zeros first: they end a frame that somebody left unfinished.
        """
        done = frame(Reply.DONE.value, bytes([Request.RESET.value]))
        patience = self._port.timeout
        self._port.timeout = min(patience, FIRST_PATIENCE)
        try:
            for _ in range(ATTEMPTS):
                self._port.write(bytes(LONGEST))
                self.send(Request.RESET)
                heard = b""
                given_up = monotonic() + patience
                while monotonic() < given_up and (byte := self._port.read(1)):
                    heard += byte
                    if heard.endswith(done):
                        return
        except serial.SerialException as error:
            raise LinkError(f"the board is gone: {_reason(error)}") from error
        finally:
            self._port.timeout = patience
        raise LinkError(
            f"no board answers at {self._port.name}: is it flashed with irqscope synth?"
        )

    def close(self) -> None:
        self._port.close()

    def __enter__(self) -> "Board":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def send(self, request: Request, /, **fields: Any) -> None:
        """One request, without waiting for what it leads to."""
        layout = self._requests[request]
        bits = layout.const(fields).as_bits() if fields else 0
        payload = bits.to_bytes(protocol.size_in_bytes(layout), "little")
        try:
            self._port.write(frame(request.value, payload))
        except serial.SerialException as error:
            raise LinkError(f"the board is gone: {_reason(error)}") from error

    def receive(self) -> tuple[Reply, Any]:
        """The next reply; of what it carries, fields are attributes."""
        head = self._read(3)
        if head[0] != SYNC:
            raise LinkError(f"a reply began with {head[0]:#x}: the line is damaged")
        body = head[1:] + self._read(head[1] + OVERHEAD - 3)
        if CRC16.compute(body[:-2]) != int.from_bytes(body[-2:], "little"):
            raise LinkError("a reply arrived damaged")
        try:
            reply = Reply(body[1])
        except ValueError:
            raise LinkError(f"the board sent a reply of unknown kind {body[1]:#x}") from None
        layout = self._replies[reply]
        bits = int.from_bytes(body[2:-2], "little") & ((1 << layout.size) - 1)
        return reply, layout.from_bits(bits)

    def _read(self, count: int) -> bytes:
        try:
            got = self._port.read(count)
        except serial.SerialException as error:
            raise LinkError(f"the board is gone: {_reason(error)}") from error
        if len(got) < count:
            raise LinkError(f"the board is silent: {len(got)} of {count} bytes came")
        return got

    def ask(
        self, request: Request, heard: Callable[[Any], None] | None = None, /, **fields: Any
    ) -> Any:
        """Send one request and return its last reply; those before it go to ``heard``.

        A request that the board refused as damaged was not carried out, so it is sent again.

        Raises
        ------
        RefusedError
            If the board has another reason, or the line is too bad.
        LinkError
            If there is no answer, or a damaged one. Whether the request was carried out is not
            known then.
        """
        for attempt in range(ATTEMPTS):
            self.send(request, **fields)
            while True:
                reply, payload = self.receive()
                if reply == LAST.get(request, Reply.DONE):
                    return payload
                if reply == Reply.REFUSED:
                    break
                if heard:
                    heard(payload)
            reason = Refusal(payload.reason)
            if reason not in DAMAGED or attempt == ATTEMPTS - 1:
                raise RefusedError(request, reason)
        raise AssertionError


@dataclass(frozen=True)
class _Hardware:
    """What is asked of a design: its machine and its tap's channels."""

    config: SocConfig
    channels: tuple[str, ...]


class BoardHost:
    """A machine on a board, fresh out of reset; the twin of the Verilated host."""

    def __init__(self, board: Board):
        self._board = board
        config = board.lab.soc
        soc = make_soc(board.lab)
        self.design = _Hardware(config, soc.channels)
        self._ports = port_map(soc)
        self._numbers = {name: i for i, name in enumerate(settable_ports(soc))}
        self._driven = dict.fromkeys(self._numbers, 0)
        self._operations = [dict[str, int]() for _ in range(config.cpus)]
        self._schedule: list[tuple[int, int, Poke]] = []
        self._sequence = 0
        self._records: list[tuple] = []
        self.cycle = 0
        self.lines = (0,) * config.cpus
        board.ask(Request.RESET)

    def advance(self, pokes: Iterable[Poke], until: int) -> Wake:
        """Clock on until software has something to decide, or to the start of clock ``until``."""
        for poke in pokes:
            self._sequence += 1
            heapq.heappush(self._schedule, (poke.cycle, self._sequence, poke))
        while True:
            while self._schedule and self._schedule[0][0] <= self.cycle:
                self._apply(heapq.heappop(self._schedule)[2])
            stop = min([until, *(cycle for cycle, _, _ in self._schedule[:1])])
            wake = self._run(stop)
            changed = wake.lines != self.lines
            self.cycle, self.lines = wake.cycle, wake.lines
            if wake.responses or changed or wake.cycle >= until:
                return wake

    def _run(self, until: int) -> Wake:
        if until >> self._board.lab.cycle_bits:
            raise ValueError(
                f"this board counts clocks up to {(1 << self._board.lab.cycle_bits) - 1}; "
                f"the trial wants to go on to {until}"
            )
        found = self._board.ask(Request.RUN, self._keep, until=until)
        if not found.passed:
            return Wake(found.cycle, {}, self.lines)
        answers = [found.answer[cpu] for cpu in range(self.design.config.cpus)]
        responses = {
            cpu: Response(answer.data, bool(answer.error))
            for cpu, answer in enumerate(answers)
            if answer.valid
        }
        return Wake(found.cycle + 1, responses, self._board.lab.unpack_lines(found.lines))

    def _keep(self, found: Any) -> None:
        record = found.record
        self._records.append(
            (found.cycle, found.channel, 0, record.address, record.data, record.id, record.unit)
            + (record.kind.value,)
        )

    def _apply(self, poke: Poke) -> None:
        for cpu, operation in enumerate(self._operations):
            port = asker_prefix(cpu)
            if poke.name.startswith(f"{port}_request_payload."):
                operation[poke.name.rpartition(".")[2]] = poke.value
                return
            if poke.name == f"{port}_request_valid":
                if poke.value:  # the board takes it away again by itself
                    self._submit(cpu, operation)
                return
        if poke.name.startswith("probe_"):  # the gateware ignores it
            return
        field = self._ports.fields.get(poke.name)
        if field is None or field.port not in self._numbers:
            raise ValueError(f"this board's machine has no input {poke.name} that can be set")
        mask = ((1 << field.width) - 1) << field.lsb
        value = self._driven[field.port] & ~mask | (poke.value << field.lsb) & mask
        self._driven[field.port] = value
        self._board.ask(Request.POKE, field=self._numbers[field.port], value=value)

    def _submit(self, cpu: int, operation: dict[str, int]) -> None:
        layout = self._board.lab.operation
        for name, value in operation.items():
            if value >> layout[name].width:
                raise ValueError(
                    f"{name} {value:#x} of an operation has more than the {layout[name].width} "
                    "bits that this board carries"
                )
        self._board.ask(Request.SUBMIT, cpu=cpu, word=operation)

    @property
    def record_count(self) -> int:
        """How many tap records there are so far."""
        return len(self._records)

    def records(self, first: int = 0) -> numpy.ndarray:
        """The tap so far from record ``first`` on, as an array of
        :data:`sim.hosts.verilated.RECORD`."""
        return numpy.array(self._records[first:], RECORD)
