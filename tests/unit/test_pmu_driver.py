"""What the PMU drivers do to the registers, access by access (the facts on Linux, 6.2 and 6.3)."""

import pytest

from firmware_model.core.records import Kind
from firmware_model.drivers.perf import PerfEvent
from firmware_model.drivers.pmu import COUNTERS, Dmc620Pmu, LiveDmc620Pmu, SmmuPmu
from hdl.registers.pmu import PmuRegister, counter_control, counter_value, event_counter

BASE = 0x0B00_0000
STATUS, STATUS_CLK = PmuRegister.OVERFLOW_STATUS, PmuRegister.OVERFLOW_STATUS_CLK
START = 1 << 31


class Bus:
    """Instead of a CPU: registers that are what they were set to, and a list of accesses."""

    index = 0

    def __init__(self, **registers):
        self.registers = {PmuRegister[name]: value for name, value in registers.items()}
        self.accesses = []
        self.records = []

    async def load(self, address):
        self.accesses.append(("R", address - BASE))
        return self.registers.get(address - BASE, 0)

    async def store(self, address, value):
        self.accesses.append(("W", address - BASE, value))

    load64, store64 = load, store

    def log(self, kind, **fields):
        self.records.append((kind, fields))


def run(coroutine):
    """The result of software that never waits."""
    with pytest.raises(StopIteration) as stop:
        coroutine.send(None)
    return stop.value.value


def counting(kind, counters=(0, 1), cpu=1):
    pmu = kind(3, BASE)
    pmu.events = {counter: PerfEvent(pmu, counter, cpu) for counter in counters}
    return pmu


def overflows(bus):
    return [fields for kind, fields in bus.records if kind == Kind.PMU_OVERFLOW]


def test_an_smmu_without_an_overflow_is_only_looked_at():
    bus = Bus(OVSSET=0)
    assert run(counting(SmmuPmu).handle(bus)) is False
    assert bus.accesses == [("R", PmuRegister.OVSSET)]


def test_an_smmu_clears_what_it_has_read_and_nothing_else():
    bus = Bus(OVSSET=0b10)
    pmu = counting(SmmuPmu)
    assert run(pmu.handle(bus)) is True
    assert bus.accesses == [
        ("R", PmuRegister.OVSSET),
        ("W", PmuRegister.OVSCLR, 0b10),
        ("R", event_counter(1)),
        ("W", event_counter(1), START),
    ]
    assert overflows(bus) == [{"pmu": 3, "counter": 1, "event_cpu": 1}]
    assert [pmu.events[counter].samples for counter in (0, 1)] == [0, 1]


def test_a_dmc_stops_before_it_looks_and_starts_after_it_cleared():
    bus = Bus(OVERFLOW_STATUS=0b01)
    assert run(counting(Dmc620Pmu).handle(bus)) is True
    enabled = 0b101  # the enable bit, and event 1
    assert bus.accesses == [
        ("W", counter_control(0), 0),
        ("W", counter_control(1), 0),
        ("R", STATUS),
        ("R", STATUS_CLK),
        ("R", counter_value(0)),
        ("W", counter_value(0), START),
        ("W", STATUS, 0),
        ("W", counter_control(0), enabled),
        ("W", counter_control(1), enabled),
    ]


def test_a_dmc_says_handled_without_an_overflow():
    bus = Bus()
    assert run(counting(Dmc620Pmu, counters=()).handle(bus)) is True
    assert bus.accesses == [("R", STATUS), ("R", STATUS_CLK)]


def test_the_mutation_differs_in_that_the_counters_run():
    bus = Bus(OVERFLOW_STATUS=0b01)
    run(counting(LiveDmc620Pmu).handle(bus))
    assert not any(access[1] == counter_control(0) for access in bus.accesses)
    assert ("W", STATUS, 0) in bus.accesses


@pytest.mark.parametrize("kind", [SmmuPmu, Dmc620Pmu])
def test_an_overflow_without_an_event_is_cleared_with_a_warning(kind):
    bus = Bus(OVSSET=1, OVERFLOW_STATUS=1)
    assert run(counting(kind, counters=(1,)).handle(bus)) is True
    assert overflows(bus) == [{"pmu": 3, "counter": 0, "event_cpu": None}]
    assert [kind for kind, _ in bus.records] == [Kind.PMU_OVERFLOW, Kind.WARNING]


def test_a_deleted_event_of_an_smmu_stops_before_its_interrupt_does():
    bus = Bus()
    pmu = counting(SmmuPmu)
    run(pmu.delete(bus, pmu.events[0]))
    assert bus.accesses == [
        ("W", PmuRegister.CNTENCLR, 1),
        ("R", event_counter(0)),
        ("W", PmuRegister.INTENCLR, 1),
    ]
    assert list(pmu.events) == [1]


@pytest.mark.parametrize(
    ("kind", "cleared"), [(SmmuPmu, PmuRegister.OVSCLR), (Dmc620Pmu, PmuRegister.OVERFLOW_STATUS)]
)
def test_a_reset_stops_every_counter_before_it_clears_the_status(kind, cleared):
    bus = Bus()
    run(kind(0, BASE).reset(bus))
    last = max(i for i, access in enumerate(bus.accesses) if access[1] == cleared)
    stops = {PmuRegister.CNTENCLR} | {counter_control(i) for i in range(COUNTERS)}
    assert all(i < last for i, access in enumerate(bus.accesses) if access[1] in stops)
    assert all(access[0] == "W" for access in bus.accesses)
