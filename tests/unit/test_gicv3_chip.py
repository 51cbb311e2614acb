"""The software's GICv3: on the reference model, which answers at once."""

from types import SimpleNamespace

import pytest

from firmware_model.chips.gicv3 import ACTIVE, MASKED, PENDING, GicFrames
from firmware_model.core import Kind
from firmware_model.core.desc import Action, Irqd
from firmware_model.core.manage import request_irq, synchronize_irq
from firmware_model.core.migration import irq_set_affinity
from firmware_model.platforms.arm64 import Arm64System
from hdl.registers.gicd import GicdRegister
from hdl.registers.sysreg import SystemRegister
from sim.reference import ReferenceMachine

from ..reference_host import STORE, WRITE_SYSREG, ReferenceHost

INTID = 40
LATER = 2000
ICC_EOIR1, ICC_DIR = (SystemRegister[name].value for name in ("ICC_EOIR1_EL1", "ICC_DIR_EL1"))


class System(Arm64System):
    """One SPI, whose handler works 50 clocks."""

    def __init__(self, *, level=False, **options):
        super().__init__(**options)
        self.level = level
        self.desc = self.add_spi(33, INTID, affinity=1)
        self.ran = []
        self.action = Action(self.handle, "device")

    async def set_up(self, cpu):
        await self.gic.set_type(cpu, self.desc.data, level=self.level)
        await request_irq(cpu, self.desc, self.action)

    async def handle(self, cpu):
        self.ran.append(cpu.index)
        await cpu.delay(50)
        return True


def run(system, *programs, cpus=2, events=None):
    """Boot, then each program on its CPU at clock LATER; the host afterwards."""
    config = SimpleNamespace(cpus=cpus, spis=32, lpis=0, its=False, local_apics=False, endpoints=())
    for cpu, program in zip(system.machine.cpus, programs, strict=False):
        if program is not None:
            cpu.spawn(_later, program)
    host = ReferenceHost(system.machine, ReferenceMachine(config), events=events)
    assert host.run(10_000).finished
    return host


async def _later(cpu, program):
    await cpu.delay_until(LATER)
    await program(cpu)


def poke(register, intid=INTID, value=None):
    """An event: CPU 0's debugger writes one bit of a distributor array."""

    def event(host):
        address = GicFrames().distributor + register + intid // 32 * 4
        host.reference.store(0, address, 1 << intid % 32, 4)
        host._look()

    return event


RAISE = poke(GicdRegister.ISPENDR)


def no_its(**options):
    return System(frames=GicFrames(its=None), **options)


def rules(system):
    return [record.fields["rule"] for record in system.machine.log if record.kind == "misuse"]


def kinds(system, *wanted):
    return [record.kind for record in system.machine.log if record.kind in wanted]


def ends(host):
    """(which register, INTID) of every EOIR1 and DIR written."""
    names = {ICC_EOIR1: "EOIR1", ICC_DIR: "DIR"}
    return [
        (names[address], data)
        for _, _, operation, _, address, data in host.accesses
        if operation == WRITE_SYSREG and address in names
    ]


@pytest.mark.parametrize(
    ("eoimode", "expected"),
    [(0, [("EOIR1", INTID)]), (1, [("EOIR1", INTID), ("DIR", INTID)])],
)
def test_an_spi_is_acknowledged_and_ended(eoimode, expected):
    system = no_its(eoimode=eoimode)
    host = run(system, events={LATER: RAISE})
    assert system.ran == [0]
    assert ends(host) == expected
    assert system.gic.running == [[], []]
    assert not rules(system)


def test_priority_is_dropped_before_the_handler_in_eoimode_1():
    system = no_its(eoimode=1)
    seen = []

    async def handle(cpu):
        seen.append(list(system.gic.running[0]))
        return True

    system.action.handler = handle
    run(system, events={LATER: RAISE})
    assert seen == [[]]


def test_an_interrupt_that_nobody_holds_is_ended():
    for eoimode, expected in ((0, [("EOIR1", 50)]), (1, [("EOIR1", 50), ("DIR", 50)])):
        system = no_its(eoimode=eoimode)

        async def enable(cpu, gic=system.gic):
            await gic.unmask(cpu, 50)

        host = run(system, enable, events={LATER + 50: poke(GicdRegister.ISPENDR, 50)})
        assert kinds(system, Kind.NO_IRQ_HANDLER) == [Kind.NO_IRQ_HANDLER]
        assert ends(host) == expected


def test_a_level_that_went_away_is_spurious():
    """The line is high, but the acknowledge finds nothing: no EOI."""
    system = no_its()
    system.machine.cpus[0].vector = system.vector

    async def take(cpu):
        await system.gic.vector(cpu, None)

    host = run(system, take)
    assert [r.fields for r in system.machine.log if r.kind == Kind.SPURIOUS_INTID] == [
        {"intid": 1023}
    ]
    assert not ends(host)


def test_an_eoi_without_its_acknowledge_is_misuse_and_is_written():
    system = no_its()

    async def end(cpu):
        await system.gic.drop_priority(cpu, INTID)

    host = run(system, end)
    assert rules(system) == ["EOI without its acknowledge"]
    assert ends(host) == [("EOIR1", INTID)]


def test_an_interrupt_that_is_not_ended_is_misuse():
    system = no_its()

    async def forget(cpu, desc):
        """A flow without an EOI."""

    system.desc.handle = forget
    run(system, events={LATER: RAISE})
    assert rules(system) == ["an interrupt was left running"]


def test_the_states_of_an_interrupt():
    system = no_its()
    gic, data = system.gic, system.desc.data
    seen = []

    async def look(cpu):
        for state in (PENDING, ACTIVE, MASKED):
            await gic.set_irqchip_state(cpu, data, state, True)
            seen.append(await gic.get_irqchip_state(cpu, data, state))
            await gic.set_irqchip_state(cpu, data, state, False)
            seen.append(await gic.get_irqchip_state(cpu, data, state))

    async def quiet(cpu):
        async with cpu.irqs_disabled():
            await gic.set_irqchip_state(cpu, data, MASKED, True)
        await look(cpu)

    run(system, quiet)
    assert seen == [True, False] * 3
    assert not system.ran


def test_an_lpi_has_no_such_state():
    system = no_its()
    lpi = SimpleNamespace(hwirq=8192, desc=system.desc)
    for call in (
        system.gic.get_irqchip_state(None, lpi, ACTIVE),
        system.gic.set_irqchip_state(None, lpi, ACTIVE, True),
    ):
        with pytest.raises(ValueError, match=r"^Only INTIDs below 8192 have a state, not 8192$"):
            call.send(None)


def test_active_elsewhere_is_waited_for():
    """synchronize_irq asks the distributor, so it waits for the end and not only the handler."""
    system = no_its()
    at = {}

    async def wait(cpu):
        await cpu.delay(30)
        await synchronize_irq(cpu, system.desc)
        at["synchronized"] = cpu.machine.cycle

    host = run(system, None, wait, events={LATER: RAISE})
    written = [c for c, _, op, _, a, _ in host.accesses if op == WRITE_SYSREG and a == ICC_EOIR1]
    assert at["synchronized"] > written[-1]


def test_it_moves_at_once_masked_meanwhile():
    system = no_its()

    async def move(cpu):
        assert await irq_set_affinity(cpu, system.desc, 0b10) == 0

    run(system, move, events={LATER + 200: RAISE})
    assert system.ran == [1]
    assert system.desc.effective_affinity == 0b10


def test_it_cannot_move_to_a_cpu_that_is_not_there():
    system = no_its()
    results = []

    async def move(cpu):
        results.append(await system.gic.irq_set_affinity(cpu, system.desc.data, 0b100, False))
        private = SimpleNamespace(hwirq=20, desc=system.desc)
        results.append(await system.gic.irq_set_affinity(cpu, private, 1, False))

    run(system, move)
    assert results == [-22, -22]


def test_it_can_be_raised_again():
    system = no_its()

    async def again(cpu):
        assert await system.gic.irq_retrigger(cpu, system.desc.data)
        lpi = SimpleNamespace(hwirq=8192, desc=system.desc)
        assert not await system.gic.irq_retrigger(cpu, lpi)

    run(system, again)
    assert system.ran == [0]


@pytest.mark.parametrize(("level", "flag"), [(True, Irqd.LEVEL), (False, 0)])
def test_its_type_is_written_only_if_that_is_a_change(level, flag):
    system = no_its(level=level)
    host = run(system)
    register = GicFrames().distributor + GicdRegister.ICFGR + INTID // 16 * 4
    stores = [d for _, _, op, _, a, d in host.accesses if op == STORE and a == register]
    assert stores == ([0] if level else [0, 2 << 2 * (INTID % 16)])
    assert system.desc.flags & Irqd.LEVEL == flag


def test_one_that_a_guest_has_is_not_deactivated_and_loses_its_state_when_masked():
    system = no_its(eoimode=1)
    gic, data = system.gic, system.desc.data
    active = []

    async def forward(cpu):
        await gic.irq_set_vcpu_affinity(cpu, data, True)
        await gic.irq_retrigger(cpu, data)
        await cpu.delay(100)
        active.append(await gic.get_irqchip_state(cpu, data, ACTIVE))
        await gic.irq_mask(cpu, data)
        active.append(await gic.get_irqchip_state(cpu, data, ACTIVE))
        await gic.irq_set_vcpu_affinity(cpu, data, False)

    host = run(system, forward)
    assert active == [True, False]
    assert ends(host) == [("EOIR1", INTID)]
    assert not system.desc.flags & Irqd.FORWARDED_TO_VCPU


def test_cross_calls_are_sgis():
    system = no_its()
    ran = []

    async def remote(cpu):
        ran.append((cpu.index, cpu.in_interrupt))

    async def call(cpu):
        await system.calls.call(cpu, 1, remote)

    host = run(system, call)
    assert ran == [(1, True)]
    assert ends(host) == [("EOIR1", 1)]


def test_a_cpu_goes_and_comes_back():
    system = no_its()

    async def down_and_up(cpu):
        await irq_set_affinity(cpu, system.desc, 0b10)
        await system.take_down(cpu, 1)
        assert system.desc.effective_affinity == 0b01
        await cpu.spin_until(lambda: system.machine.cpus[1].dead)
        system.bring_up(1)
        await cpu.delay(1000)
        await irq_set_affinity(cpu, system.desc, 0b10)

    run(system, down_and_up, events={LATER + 600: RAISE, LATER + 3000: RAISE})
    assert system.ran == [0, 1]
    assert not rules(system)


def test_a_cpu_with_another_ones_redistributor_says_so():
    frames = GicFrames(redistributors=(0x080A_0000, 0x080A_0000), its=None)
    system = System(frames=frames)
    run(system)
    assert "a redistributor is another CPU's" in rules(system)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eoimode": 2}, "^eoimode must be 0 or 1, not 2$"),
        ({"cpus": 3}, "^frames must name a redistributor for each of 3 CPUs, not 2$"),
    ],
)
def test_bad_systems(options, message):
    with pytest.raises(ValueError, match=message):
        System(**options)
