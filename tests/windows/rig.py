"""A machine in which interrupts race: things happen in chosen clocks, and the tap says what came.

A *window* is a stretch of clocks in which hardware may do one thing or the other. A test opens it
with a distance (an input of the machine), lets one thing happen inside it, and looks at what
software could see; another test shows what software does to close it.
"""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from hdl.bus import RequesterKind
from hdl.config import SocConfig
from hdl.cpu_port import Operation
from hdl.gic.interfaces import FIRST_LPI
from hdl.registers.gits import encode_mapti
from hdl.registers.pci import (
    COMMAND_MASTER,
    COMMAND_MEMORY,
    MSI_ADDRESS_HI,
    MSI_ADDRESS_LO,
    MSI_FLAGS,
    MSI_FLAGS_ENABLE,
    Header,
    msi_data,
)
from hdl.tap import EventKind
from sim.bench import Bench
from sim.events import Event
from sim.hosts.base import EXTERNAL, operation_pokes

from ..its_driver import ItsDriver

SKIPPING = SocConfig(lpis=1024, spis=32, local_apics=False)
STALLING = SocConfig(lpis=64, spis=32, local_apics=False, its_on_error="stall")
DIRECT = SocConfig(cpus=1, lpis=1024, spis=32, its=False, local_apics=False, endpoints=0)

Case = TypeVar("Case")

DEVICE = 0xBEEF
EVENT_BITS = 10
EVENTS = range(4)
"""Mapped at first, all to CPU 0."""
EVENT = 2
"""The one that most tests use."""

QUIET = 600
"""Clocks without a record after which nothing is under way: at most two distances, each below
256 clocks, follow each other."""
WAIT_BOUND = 20_000
WORD = 2
"""Size of a store of 32 bits, as a CPU port has it."""


def lpi_of(event: int) -> int:
    """The LPI that an event of :data:`DEVICE` is mapped to."""
    return FIRST_LPI + event


LPI = lpi_of(EVENT)


class Rig:
    """A :class:`Bench` with an ITS, whose state can be taken back, and a device.

    The translations of :data:`EVENTS` are mapped, but nothing has used them yet.
    """

    def __init__(self, config: SocConfig):
        self.bench = Bench(config)
        self.its = ItsDriver(self.bench)
        self.cpu = self.bench.cpu
        self.its.wake()
        self.its.map_device(DEVICE, EVENT_BITS)
        self.map(EVENTS)
        self._drivers: dict[int, tuple[int, int]] = {}
        self._home, self._fork = self._keep(), self._keep()

    def close(self) -> None:
        self.bench.close()

    def map(self, events: Iterable[int], cpu: int = 0) -> None:
        """MAPTI of events to their LPIs at ``cpu``."""
        self.its.run(*(encode_mapti(DEVICE, event, lpi_of(event), cpu) for event in events))

    # Time

    def _keep(self, slot: int | None = None) -> int:
        self.bench.host.forget_records()
        slot = self.bench.host.snapshot(slot)
        self._drivers[slot] = (self.its.tail, self.its.tables)
        return slot

    def _back(self, slot: int) -> None:
        self.bench.host.restore(slot)
        self.its.tail, self.its.tables = self._drivers[slot]

    def restore(self) -> None:
        """Back to the state after the set-up."""
        self._back(self._home)

    def each(self, values: Iterable[Case]) -> Iterator[Case]:
        """``values``; each meets the machine as it is now, and it is so again afterwards.

        Do not nest.
        """
        slot = self._keep(self._fork)
        for value in values:
            yield value
            self._back(slot)

    def step(self, clocks: int) -> None:
        self.bench.step(clocks)

    def settle(self) -> None:
        """Let everything that is under way arrive."""
        for _ in range(WAIT_BOUND // QUIET):
            before = len(self.bench.host.records())
            self.step(QUIET)
            if len(self.bench.host.records()) == before:
                return
        raise AssertionError(f"Something was still happening after {WAIT_BOUND} clocks")

    # The machine's inputs

    def set_knobs(self, **values: int) -> None:
        """Inputs of :class:`hdl.soc.GicKnobs`, from the next clock on."""
        for name, value in values.items():
            self.bench.poke(f"gic_knobs.{name}", value)
        self.step(1)

    def send(self, event: int = EVENT, *, after: int = 0) -> None:
        """:data:`DEVICE` offers its message ``after`` so many clocks; nobody waits for it."""
        host = self.bench.host
        cycle = host.cycle + after
        host.poke(cycle, "external_requester.kind", RequesterKind.DEVICE.value)
        host.poke(cycle, "external_requester.id", DEVICE)
        pokes = operation_pokes(
            EXTERNAL, cycle, Operation.STORE.value, WORD, self.its.translater, event
        )
        for poke in pokes:
            host.poke(*poke)

    def set_up_msi(self, *, master: bool) -> int:
        """The endpoint's MSI becomes an LPI of its own at CPU 1; the LPI."""
        endpoint = self.bench.endpoint[0]
        base = self.bench.config.endpoints[0].capability("msi")
        command = COMMAND_MEMORY | (COMMAND_MASTER if master else 0)
        intid = lpi_of(self.bench.config.lpis - 1)
        endpoint.config_write(Header.COMMAND, command, 2)
        endpoint.config_write(base + MSI_ADDRESS_LO, self.its.translater & 0xFFFF_FFFF)
        endpoint.config_write(base + MSI_ADDRESS_HI, self.its.translater >> 32)
        endpoint.config_write(base + msi_data(wide=True), EVENT, 2)
        endpoint.config_write(base + MSI_FLAGS, MSI_FLAGS_ENABLE, 2)
        self.its.map_device(endpoint.requester_id, 4)
        self.its.run(encode_mapti(endpoint.requester_id, EVENT, intid, 1))
        return intid

    # What happened

    def seen(self, kind: EventKind, *, since: int = 0, **fields: int) -> list[Event]:
        """Records of ``kind`` since clock ``since`` with these fields."""
        return [
            event
            for event in self.bench.events
            if event.kind == kind
            and event.cycle >= since
            and all(getattr(event, name) == value for name, value in fields.items())
        ]

    def wait(self, kind: EventKind, **fields: int) -> Event:
        """Clock by clock until such a record is there; the first since now."""
        start = self.bench.cycle
        for _ in range(WAIT_BOUND):
            if found := self.seen(kind, since=start, **fields):
                return found[0]
            self.step(1)
        raise AssertionError(f"Waited {WAIT_BOUND} clocks for {kind.name} with {fields}")

    def arrivals(self, *, since: int = 0) -> list[tuple[int, int]]:
        """CPU and LPI of everything that became pending, in order."""
        return [(e.unit, e.id) for e in self.seen(EventKind.PENDING_SET, since=since)]

    # CPUs

    def acknowledge(self, cpu: int) -> int:
        return self.cpu[cpu].read_sysreg("ICC_IAR1_EL1")

    def end(self, cpu: int, intid: int) -> None:
        self.cpu[cpu].write_sysreg("ICC_EOIR1_EL1", intid)

    def handle_all(self) -> list[tuple[int, int]]:
        """Every CPU handles what is pending, when all is quiet: (CPU, INTID) in that order."""
        self.settle()
        handled = []
        for cpu in self.cpu:
            while cpu.irq:
                intid = self.acknowledge(cpu.index)
                self.end(cpu.index, intid)
                handled.append((cpu.index, intid))
                self.settle()
        return handled

    def warm(self, event: int = EVENT) -> None:
        """Have the translation and the property of an event cached, and no record of it."""
        self.send(event)
        handled = self.handle_all()
        assert [intid for _, intid in handled] == [lpi_of(event)]
        self.bench.host.forget_records()
