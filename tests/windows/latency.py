"""How fast interrupts travel, measured on the whole machine from its tap: counts of clocks.

``python -m tests.windows.latency`` prints the table. Every number is exact and repeats; the tests
hold the machine to :data:`STATED`.

A *message* is a device's write to GITS_TRANSLATER. Its clock is the one in which the interconnect
takes it, where an endpoint's MESSAGE record stands. The *line* is the target CPU's ``irq``; its
LINE record stands in the first clock in which it is high.

Where the 9 clocks of a cached message go: 1 interconnect, 1 frame of the ITS, 1 queue, 1 looking
it up (TRANSLATION), 1 flight, 1 link, 1 the engine takes it, 1 it is stored (PENDING_SET) and
compared with the candidate, 1 priority mask and line. The walk reads three tables through the
interconnect; an LPI that its CPU has never seen has its property read too.

Throughput: one port gives a message every 6 clocks, and the interconnect a request to one target
every 4. A walk is not overlapped with the next.

Commands: from a command's COMMAND record to that of the one behind it, whose fetch of four 64-bit
words over the interconnect (45 clocks) is therefore contained. "..., SYNC": until the SYNC behind
it is consumed too.
"""

from collections.abc import Callable

from hdl.config import RAM_BASE
from hdl.cpu_port import Operation
from hdl.gic.interfaces import FIRST_LPI, NO_INTERRUPT
from hdl.registers.gicr import GicrRegister
from hdl.registers.gits import (
    encode_clear,
    encode_discard,
    encode_int,
    encode_inv,
    encode_invall,
    encode_mapc,
    encode_mapd,
    encode_mapi,
    encode_mapti,
    encode_movall,
    encode_movi,
    encode_sync,
)
from hdl.registers.sysreg import SystemRegister
from hdl.tap import EventKind
from sim.bench import Bench
from sim.events import Event
from sim.hosts.base import EXTERNAL, Poke, operation_pokes

from ..its_driver import ItsDriver
from .rig import DEVICE, DIRECT, EVENT, LPI, QUIET, SKIPPING, WORD, Rig, lpi_of

LPIS = SKIPPING.lpis
CACHED = 64
"""Translations that the ITS remembers."""
LOWEST = 0xF8
"""A priority that the CPUs' mask stops."""
PORT = 6
"""Clocks from one write through a CPU port to the next, if nobody else is there."""
ASKED_TO_TAKEN = 1
"""Clocks between an initiator's being asked to write and the interconnect's taking it."""

Figures = dict[str, float]


def clocks_to_line(rig: Rig, event: int, cpu: int = 0) -> dict[EventKind, int]:
    """One message; clocks from it to the translation, to pending, and to the line."""
    rig.bench.host.forget_records()
    taken = rig.bench.cycle + ASKED_TO_TAKEN
    rig.send(event)
    rig.wait(EventKind.LINE, unit=cpu, data=1)
    kinds = (EventKind.TRANSLATION, EventKind.PENDING_SET, EventKind.LINE)
    return {kind: rig.seen(kind)[0].cycle - taken for kind in kinds}


def handle(rig: Rig, cpu: int = 0) -> int:
    """Acknowledge and end; the INTID."""
    intid = rig.acknowledge(cpu)
    rig.end(cpu, intid)
    rig.step(40)
    return intid


# Latency


def measure_stages(rig: Rig) -> Figures:
    rig.restore()
    rig.warm()
    clocks = clocks_to_line(rig, EVENT)
    return {
        "message -> translated, cached": clocks[EventKind.TRANSLATION],
        "translated -> pending": clocks[EventKind.PENDING_SET] - clocks[EventKind.TRANSLATION],
        "pending -> line": clocks[EventKind.LINE] - clocks[EventKind.PENDING_SET],
        "message -> line, cached": clocks[EventKind.LINE],
    }


def measure_walks(rig: Rig) -> Figures:
    """The first message of an event, and one whose translation alone has been forgotten."""
    rig.restore()
    cold = clocks_to_line(rig, EVENT)[EventKind.LINE]
    handle(rig)
    rig.its.run(encode_mapc(5, 0))  # any MAPC empties the cache
    rig.settle()
    walk = clocks_to_line(rig, EVENT)[EventKind.LINE]
    return {
        "message -> line, walk of three tables": walk,
        "message -> line, walk, property read as well": cold,
    }


def measure_all_lpis(rig: Rig) -> Figures:
    """Every LPI in turn, its translation cached: the slowest."""
    rig.restore()
    rig.map(range(LPIS))
    slowest = 0
    for event in range(LPIS):
        clocks_to_line(rig, event)
        assert handle(rig) == lpi_of(event)
        slowest = max(slowest, clocks_to_line(rig, event)[EventKind.LINE])
        assert handle(rig) == lpi_of(event)
    return {f"message -> line, cached, slowest of {LPIS:,} LPIs": slowest}


def measure_full(rig: Rig) -> Figures:
    """All other LPIs are pending, too low in priority for the CPU."""
    rig.restore()
    for event in range(LPIS):
        if event != EVENT:
            rig.its.configure(lpi_of(event), priority=LOWEST)
    rig.map(range(LPIS))
    rig.warm()
    others = [event for event in range(LPIS) if event != EVENT]
    for event in others:
        rig.send(event)
        rig.step(60)
    rig.settle()
    assert sorted(intid for _, intid in rig.arrivals()) == [lpi_of(event) for event in others]
    rig.send(EVENT)  # the others have pushed it out of the cache
    rig.settle()
    assert handle(rig) == LPI
    clocks = clocks_to_line(rig, EVENT)[EventKind.LINE]
    return {f"message -> line, cached, {LPIS - 1:,} others pending": clocks}


def measure_acknowledge(rig: Rig) -> Figures:
    """Two are pending; after the acknowledge and the end of one the line rises for the other."""
    rig.restore()
    for event in (1, 2):
        rig.send(event)
        rig.settle()
    rig.bench.host.forget_records()
    rig.end(0, rig.acknowledge(0))
    rig.settle()
    (taken,) = rig.seen(EventKind.ACKNOWLEDGE)
    (risen,) = rig.seen(EventKind.LINE, data=1)
    return {"acknowledge -> line for the next, EOI at once": risen.cycle - taken.cycle}


def measure_device_event(rig: Rig) -> Figures:
    """The endpoint's own way before that: from the event to its message on the bus."""
    rig.restore()
    rig.set_up_msi(master=True)
    for _ in range(2):
        rig.bench.host.forget_records()
        rig.bench.endpoint[0].raise_event()
        rig.wait(EventKind.LINE, unit=1, data=1)
        handle(rig, 1)
    (event,), (message,) = rig.seen(EventKind.DEVICE_EVENT), rig.seen(EventKind.MESSAGE)
    (line,) = rig.seen(EventKind.LINE, unit=1, data=1)
    return {
        "endpoint's event -> message": message.cycle - event.cycle,
        "endpoint's message -> line, cached": line.cycle - message.cycle,
    }


# Throughput


def per_thousand(records: list[Event]) -> float:
    """Records per 1,000 clocks, from the first to the last."""
    return round(1000 * (len(records) - 1) / (records[-1].cycle - records[0].cycle), 1)


def cache(rig: Rig, events: range) -> None:
    """Have the translations and properties of events cached; the records are forgotten."""
    for event in events:
        rig.send(event)
        rig.step(60)
    rig.handle_all()
    rig.bench.host.forget_records()


def measure_burst(rig: Rig) -> Figures:
    """One device that writes as fast as its port can."""
    rig.restore()
    rig.map(range(CACHED))
    cache(rig, range(CACHED))
    figures = {}
    for event in range(CACHED):
        rig.send(event, after=PORT * event)
    rig.settle()
    pending = rig.seen(EventKind.PENDING_SET)
    assert [record.id for record in pending] == [lpi_of(event) for event in range(CACHED)]
    figures["events / 1,000 clocks, one device, cached"] = per_thousand(pending)

    rig.handle_all()
    rig.its.run(encode_mapc(5, 0))  # any MAPC empties the cache
    rig.settle()
    rig.bench.host.forget_records()
    for event in range(CACHED):
        rig.bench.message(rig.its.translater, event, DEVICE)
    rig.settle()
    pending = rig.seen(EventKind.PENDING_SET)
    assert len(pending) == CACHED
    figures["events / 1,000 clocks, one device, a walk each"] = per_thousand(pending)
    return figures


def measure_two_devices(rig: Rig) -> Figures:
    """The endpoint has an event in every clock, and another device writes as often as it can."""
    rig.restore()
    rig.map(range(CACHED))
    rig.set_up_msi(master=True)
    cache(rig, range(CACHED))
    rig.bench.poke("endpoint_0_event", 1)
    rig.step(200)
    rig.bench.host.forget_records()
    for _ in range(4):
        for event in range(CACHED):
            rig.bench.message(rig.its.translater, event, DEVICE)
    translated = rig.seen(EventKind.TRANSLATION)
    assert len({record.id for record in translated}) == 2
    assert not rig.seen(EventKind.TRANSLATION_DROPPED)
    return {"translations / 1,000 clocks, two devices, cached": per_thousand(translated)}


def measure_service(rig: Rig) -> Figures:
    """Messages without a pause, and both CPUs do nothing but acknowledge and end."""
    rig.restore()
    rig.map(range(0, CACHED, 2), cpu=0)
    rig.map(range(1, CACHED, 2), cpu=1)
    cache(rig, range(CACHED))
    serve(rig, [event % CACHED for event in range(8 * CACHED)])
    served = [e for e in rig.seen(EventKind.ACKNOWLEDGE) if e.id != NO_INTERRUPT]
    return {"interrupts handled / 1,000 clocks, two CPUs": per_thousand(served)}


def serve(rig: Rig, messages: list[int]) -> None:
    """Sends ``messages`` one after the other while every CPU handles what it sees."""
    host = rig.bench.host
    left = iter(messages)
    handling: dict[int, SystemRegister] = {}

    def ask(asker: int, operation: Operation, address: int, data: int = 0) -> list[Poke]:
        return operation_pokes(asker, host.cycle, operation.value, WORD, address, data)

    def message() -> list[Poke]:
        event = next(left, None)
        if event is None:
            return []
        return ask(EXTERNAL, Operation.STORE, rig.its.translater, event)

    pokes = message()
    end = host.cycle + 100 * len(messages)
    while host.cycle < end:
        wake = host.advance(pokes, end)
        pokes = message() if EXTERNAL in wake.responses else []
        for cpu in range(len(rig.cpu)):
            answer = wake.responses.get(cpu)
            if answer and handling.pop(cpu) == SystemRegister.ICC_IAR1_EL1:
                handling[cpu] = SystemRegister.ICC_EOIR1_EL1
                pokes += ask(cpu, Operation.WRITE_SYSREG, handling[cpu], answer.data)
            if cpu not in handling and wake.lines[cpu] & 1:
                handling[cpu] = SystemRegister.ICC_IAR1_EL1
                pokes += ask(cpu, Operation.READ_SYSREG, handling[cpu])


# Commands

WIDE = RAM_BASE + 0x30_0000
"""A translation table of 16,384 events, so that an event can have the number of an LPI."""
NOTHING = encode_movall(0, 0)
"""Does nothing and needs no table: only its record counts."""
SYNC = encode_sync(0)
COMMANDS: dict[str, tuple[int, ...]] = {
    "MAPD": encode_mapd(DEVICE + 2, 14, WIDE),
    "MAPD, V=0": encode_mapd(DEVICE + 1, 14, WIDE, valid=False),
    "MAPC": encode_mapc(5, 0),
    "MAPTI": encode_mapti(DEVICE, 9, lpi_of(9), 0),
    "MAPI": encode_mapi(DEVICE + 1, FIRST_LPI + 9, 0),
    "MOVI": encode_movi(DEVICE, EVENT, 1),
    "MOVALL": encode_movall(0, 1),
    "INT": encode_int(DEVICE, EVENT),
    "CLEAR": encode_clear(DEVICE, EVENT),
    "INV": encode_inv(DEVICE, EVENT),
    "INVALL": encode_invall(0),
    "DISCARD": encode_discard(DEVICE, EVENT),
    "SYNC": SYNC,
}


def measure_commands(rig: Rig) -> Figures:
    """From a command's record to that of the one after it, which has been fetched meanwhile."""
    rig.restore()
    rig.its.run(encode_mapd(DEVICE + 1, 14, WIDE))
    rig.warm()
    rig.send()
    rig.settle()
    queues = {name: [command] for name, command in COMMANDS.items()}
    queues |= {f"{name}, SYNC": [command, SYNC] for name, command in COMMANDS.items()}
    figures: Figures = {}
    for name in rig.each(queues):
        rig.its.queue(*queues[name], NOTHING)
        rig.settle()
        records = rig.seen(EventKind.COMMAND)
        assert len(records) == len(queues[name]) + 1
        assert not rig.seen(EventKind.COMMAND_ERROR)
        figures[name] = records[-1].cycle - records[0].cycle
    return figures


# Without an ITS


def measure_direct(bench: Bench) -> Figures:
    """The CPU writes SETLPIR; the second time its property is known."""
    driver = ItsDriver(bench)
    driver.wake_cpus()
    driver.wake_lpis()
    figures = {}
    base = bench.config.redistributors[0].base
    for title in ("SETLPIR -> line, property read", "SETLPIR -> line"):
        bench.step(QUIET)
        bench.host.forget_records()
        taken = bench.cycle + ASKED_TO_TAKEN
        bench.cpu[0].write(base + GicrRegister.SETLPIR, LPI)
        bench.step(100)
        risen = [e for e in bench.events if e.kind == EventKind.LINE and e.data]
        figures[title] = risen[0].cycle - taken
        assert bench.cpu[0].read_sysreg("ICC_IAR1_EL1") == LPI
        bench.cpu[0].write_sysreg("ICC_EOIR1_EL1", LPI)
    return figures


STATED: dict[Callable[[Rig], Figures], Figures] = {
    measure_stages: {
        "message -> translated, cached": 4,
        "translated -> pending": 3,
        "pending -> line": 2,
        "message -> line, cached": 9,
    },
    measure_walks: {
        "message -> line, walk of three tables": 31,
        "message -> line, walk, property read as well": 36,
    },
    measure_all_lpis: {"message -> line, cached, slowest of 1,024 LPIs": 9},
    measure_full: {"message -> line, cached, 1,023 others pending": 9},
    measure_device_event: {
        "endpoint's event -> message": 7,
        "endpoint's message -> line, cached": 9,
    },
    measure_acknowledge: {"acknowledge -> line for the next, EOI at once": 10},
    measure_burst: {
        "events / 1,000 clocks, one device, cached": 166.7,
        "events / 1,000 clocks, one device, a walk each": 41.7,
    },
    measure_two_devices: {"translations / 1,000 clocks, two devices, cached": 236.1},
    measure_service: {"interrupts handled / 1,000 clocks, two CPUs": 142.9},
    measure_commands: {
        "MAPD": 59,
        "MAPD, V=0": 55,
        "MAPC": 55,
        "MAPTI": 64,
        "MAPI": 64,
        "MOVI": 97,
        "MOVALL": 50,
        "INT": 70,
        "CLEAR": 70,
        "INV": 71,
        "INVALL": 59,
        "DISCARD": 87,
        "SYNC": 52,
        "MAPD, SYNC": 111,
        "MAPD, V=0, SYNC": 107,
        "MAPC, SYNC": 107,
        "MAPTI, SYNC": 116,
        "MAPI, SYNC": 116,
        "MOVI, SYNC": 149,
        "MOVALL, SYNC": 318,
        "INT, SYNC": 122,
        "CLEAR, SYNC": 122,
        "INV, SYNC": 123,
        "INVALL, SYNC": 323,
        "DISCARD, SYNC": 139,
        "SYNC, SYNC": 104,
    },
}
"""What the machine with 1,024 LPIs needs, by measurement."""

STATED_DIRECT: Figures = {
    "SETLPIR -> line, property read": 10,
    "SETLPIR -> line": 5,
}
"""The same for one without an ITS."""


def table(measured: Figures, stated: Figures) -> str:
    return "\n".join(f"{name:50}{value:>8}{stated[name]:>8}" for name, value in measured.items())


def main() -> None:
    print(f"{'clocks, or as it says':50}{'here':>8}{'stated':>8}")
    rig = Rig(SKIPPING)
    for measure, stated in STATED.items():
        print(table(measure(rig), stated), flush=True)
    rig.close()
    with Bench(DIRECT) as bench:
        print(table(measure_direct(bench), STATED_DIRECT))


if __name__ == "__main__":
    main()
