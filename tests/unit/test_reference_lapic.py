"""Local APICs of the reference model: messages, priority, registers (section 8a)."""

import pytest

from sim.reference import BusFaultError, Implementation
from tests.unit.reference_rig import Rig

BASE = 0xFEE0_0000
TPR, PPR, EOI, LDR, DFR, SVR = 0x80, 0xA0, 0xB0, 0xD0, 0xE0, 0xF0
ISR, TMR, IRR, ESR, ICR, ICR_HIGH = 0x100, 0x180, 0x200, 0x280, 0x300, 0x310


class ApicRig(Rig):
    def __init__(self, implementation=None, cpus=3, enable=True):
        super().__init__(implementation, cpus=cpus, endpoints=())
        for cpu in range(cpus):
            if enable:
                self.apic(cpu, SVR, 0x1FF)
            self.apic(cpu, LDR, 1 << 24 + cpu)

    def apic(self, cpu, offset, value=None, size=4):
        return self._access(cpu, BASE + offset, value, size)

    def inta(self, cpu):
        return self.read_sysreg(cpu, "LAPIC_INTA")

    def requested(self):
        """(CPU, vector) pairs in the IRRs."""
        cpus = self.state()["cpus"]
        return [(cpu, v) for cpu, state in enumerate(cpus) for v in state["lapic"]["irr"]]


@pytest.fixture
def rig():
    return ApicRig()


def test_a_message_is_requested_then_in_service_then_done(rig):
    rig.message(BASE | 1 << 12, 0x45, 8)
    assert rig.requested() == [(1, 0x45)]
    assert [rig.intr(cpu) for cpu in range(3)] == [False, True, False]
    assert rig.apic(1, IRR + 0x20) == 1 << 5
    assert rig.inta(1) == 0x45
    assert (rig.apic(1, IRR + 0x20), rig.apic(1, ISR + 0x20)) == (0, 1 << 5)
    assert rig.apic(1, PPR) == 0x40
    rig.apic(1, EOI, 0)
    assert rig.apic(1, ISR + 0x20) == 0
    assert rig.inta(1) == 0xFF


def test_at_most_two_of_a_vector_are_outstanding(rig):
    for _ in range(2):
        rig.message(BASE, 0x45, 8)
    assert rig.inta(0) == 0x45
    for _ in range(3):
        rig.message(BASE, 0x45, 8)
    assert rig.inta(0) == 0xFF  # its own class is in service
    rig.apic(0, EOI, 0)
    assert rig.inta(0) == 0x45
    rig.apic(0, EOI, 0)
    assert not rig.intr(0)


def test_priority_classes(rig):
    rig.message(BASE, 0x45, 8)
    rig.inta(0)
    rig.message(BASE, 0x4F, 8)
    assert not rig.intr(0)
    rig.message(BASE, 0x50, 8)
    rig.apic(0, TPR, 0x5F)
    assert not rig.intr(0)
    assert rig.apic(0, PPR) == 0x5F
    rig.apic(0, TPR, 0x4F)
    assert rig.apic(0, PPR) == 0x4F
    assert rig.inta(0) == 0x50
    rig.apic(0, EOI, 0)
    assert rig.inta(0) == 0xFF
    rig.apic(0, EOI, 0)
    rig.apic(0, TPR, 0)
    assert rig.inta(0) == 0x4F


@pytest.mark.parametrize(
    ("address", "data", "targets"),
    [
        (0x0_1000, 0x40, [1]),
        (0x0_3000, 0x40, []),  # no such id
        (0xF_F000, 0x40, [0, 1, 2]),
        (0x0_0FF0 & ~0xC, 0x40, [0]),  # reserved bits
        (0x0_1004, 0x40, [0]),
        (0x0_6004, 0x40, [1, 2]),
        (0x0_0004, 0x40, []),
        (0x0_600C, 0x40, [1]),  # one is enough
        (0x0_6004, 0x140, [1]),  # lowest priority
        (0xF_F000, 0x40 | 0xC000, [0, 1, 2]),  # level assert
        (0xF_F000, 0x40 | 0x8000, []),  # level deassert
        (0xF_F000, 0x40 | 0x4000, [0, 1, 2]),  # as older kernels write it
        (0xF_F000, 0x240, []),  # SMI
        (0xF_F000, 0x440, []),
        (0xF_F000, 0x540, []),
        (0xF_F000, 0x740, []),
        (0xF_F000, 0x0F, []),  # illegal vector
    ],
)
def test_message_decoding(rig, address, data, targets):
    rig.message(BASE | address, data, 8)
    assert rig.requested() == [(cpu, data & 0xFF) for cpu in targets]
    level = data >> 15 & 1
    for cpu in targets:
        assert bool(rig.apic(cpu, TMR + 0x20) & 1) == level


def test_part_of_a_word_is_no_message(rig):
    rig.message(BASE, 0x40, 8, size=2)
    assert rig.requested() == []


@pytest.mark.parametrize(("choice", "target"), [("first", 0), ("least_busy", 1)])
def test_arbitration(choice, target):
    rig = ApicRig(Implementation(lapic_arbitration=choice))
    rig.apic(0, TPR, 0x30)
    rig.message(BASE | 0x7004, 0x140, 8)
    assert rig.requested() == [(target, 0x40)]


def test_cluster_model(rig):
    for cpu, ldr in ((0, 0x11), (1, 0x12), (2, 0x21)):
        rig.apic(cpu, DFR, 0x0000_0000)
        rig.apic(cpu, LDR, ldr << 24)
    rig.message(BASE | 0x13 << 12 | 4, 0x40, 8)
    assert rig.requested() == [(0, 0x40), (1, 0x40)]
    rig.apic(0, DFR, 0x5000_0000)  # no such model
    rig.message(BASE | 0x13 << 12 | 4, 0x41, 8)
    assert (0, 0x41) not in rig.requested()


def test_disabled_apic_drops_messages_and_keeps_requests(rig):
    rig.message(BASE, 0x45, 8)
    rig.apic(0, SVR, 0xFF)
    rig.message(BASE, 0x46, 8)
    assert rig.requested() == [(0, 0x45)]
    assert not rig.intr(0)
    rig.apic(0, SVR, 0x1FF)
    assert rig.inta(0) == 0x45
    assert ApicRig(enable=False).apic(0, SVR) == 0xFF


def test_disabled_apic_may_deliver_what_it_has():
    rig = ApicRig(Implementation(lapic_off_delivers=True))
    rig.message(BASE, 0x45, 8)
    rig.apic(0, SVR, 0xFF)
    assert rig.inta(0) == 0x45


@pytest.mark.parametrize(
    ("low", "high", "targets"),
    [
        (0x40, 1 << 24, [1]),
        (0x40 | 1 << 11, 6 << 24, [1, 2]),
        (0x40 | 1 << 18, 0, [0]),
        (0x40 | 2 << 18, 0, [0, 1, 2]),
        (0x40 | 3 << 18, 0, [1, 2]),
        (0x40 | 4 << 8, 1 << 24, []),
    ],
)
def test_interprocessor_interrupts(rig, low, high, targets):
    rig.apic(0, ICR_HIGH, high)
    rig.apic(0, ICR, low)
    assert rig.requested() == [(cpu, 0x40) for cpu in targets]
    assert (rig.apic(0, ICR), rig.apic(0, ICR_HIGH)) == (low, high)
    rig.apic(0, ICR, 0x41, size=1)
    assert rig.apic(0, ICR) == low


@pytest.mark.parametrize(("latched", "reads"), [(True, [0, 0x40]), (False, [0x40, 0])])
def test_error_status(latched, reads):
    rig = ApicRig(Implementation(lapic_esr_latched=latched))
    rig.message(BASE, 0x0F, 8)
    first = rig.apic(0, ESR)
    rig.apic(0, ESR, 0)
    assert [first, rig.apic(0, ESR)] == reads
    rig.apic(0, ESR, 0)
    assert rig.apic(0, ESR) == 0


@pytest.mark.parametrize(("choice", "error"), [(True, 0x80), (False, 0)])
def test_errors_of_its_own_cpu(choice, error):
    rig = ApicRig(Implementation(lapic_illegal_register=choice))
    assert rig.apic(0, 0x060) == 0
    rig.apic(0, 0x400, 1)
    rig.apic(0, ESR, 0)
    assert rig.apic(0, ESR) == error
    rig.apic(0, ICR, 0x0F)
    rig.apic(0, ESR, 0)
    assert rig.apic(0, ESR) == 0x20


@pytest.mark.parametrize(
    ("offset", "written", "expected"),
    [
        (0x020, 0xFFFF_FFFF, 0x0200_0000),
        (0x030, 0, 0x0005_0014),
        (TPR, 0xFFFF_FFFF, 0xFF),
        (0x090, 0xFFFF_FFFF, 0),
        (PPR, 0xFFFF_FFFF, 0),
        (EOI, 0xFFFF_FFFF, 0),
        (LDR, 0xFFFF_FFFF, 0xFF00_0000),
        (DFR, 0, 0x0FFF_FFFF),
        (SVR, 0xFFFF_FFFF, 0x1FF),
        (IRR, 0xFFFF_FFFF, 0),
        (0x320, 0xFFFF_FFFF, 0),
        (0x084, 0xFFFF_FFFF, 0),
    ],
)
def test_register(rig, offset, written, expected):
    rig.apic(2, offset, written)
    assert rig.apic(2, offset) == expected
    assert rig.requested() == []


def test_id_may_be_writable():
    rig = ApicRig(Implementation(lapic_id_writable=True))
    rig.apic(0, 0x020, 0x0900_0000)
    rig.message(BASE | 9 << 12, 0x40, 8)
    assert rig.requested() == [(0, 0x40)]


def test_registers_belong_to_one_cpu_and_devices_see_none(rig):
    rig.message(BASE | TPR, 0x55, 8)  # a message for APIC 0, not a register
    assert rig.apic(0, TPR) == 0
    with pytest.raises(BusFaultError):
        rig.load(0, BASE + 0x1000)


@pytest.mark.parametrize(("choice", "expected"), [("merge", 0x30), ("ignore", 0)])
def test_narrow_write(choice, expected):
    rig = ApicRig(Implementation(lapic_narrow=choice))
    rig.apic(0, TPR, 0x30, size=1)
    assert rig.apic(0, TPR) == expected


def test_narrow_access_can_be_an_error():
    rig = ApicRig(Implementation(lapic_narrow="error"))
    for access in (
        lambda: rig.store(0, BASE + TPR, 0x30, 1),
        lambda: rig.load(0, BASE + TPR, 2),
    ):
        with pytest.raises(BusFaultError):
            access()
    assert rig.apic(0, TPR) == 0


def test_local_vectors_can_be_storage():
    rig = ApicRig(Implementation(lapic_local_storage=True))
    assert (rig.apic(0, 0x350), rig.apic(0, 0x380)) == (1 << 16, 0)
    for offset, kept in ((0x350, 0x1234), (0x380, 0x1234), (0x390, 0)):
        rig.apic(0, offset, 0x1234)
        assert rig.apic(0, offset) == kept
    assert ApicRig(Implementation()).apic(0, 0x350) == 0


def test_without_local_apics():
    rig = Rig(local_apics=False)
    assert not rig.intr(0)
    assert rig.state()["cpus"][0]["lapic"] is None
    with pytest.raises(BusFaultError):
        rig.load(0, BASE + TPR)
    with pytest.raises(BusFaultError):
        rig.message(BASE, 0x40, 8)
    with pytest.raises(KeyError):
        rig.read_sysreg(0, "LAPIC_INTA")
