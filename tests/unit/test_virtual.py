"""List registers and the guest's view of them."""

import random
import re

import pytest

from hdl.gic.virtual import VirtualInterface
from hdl.registers.ich import IchHcr, IchLr, IchMisr, IchVmcr, IchVtr, ListState
from hdl.registers.sysreg import SystemRegister
from hdl.tap import EventKind, LineKind
from sim.reference.implementation import Implementation
from sim.reference.virtual import VirtualInterface as ReferenceInterface
from tests.unit.gic_drivers import Sysregs, run, until

PENDING, ACTIVE, BOTH = ListState.PENDING, ListState.ACTIVE, ListState.PENDING_ACTIVE
EOI = 1 << 9  # in pintid, when hw is 0


def lr(vintid, state=PENDING, *, priority=0xA0, pintid=0, hw=0, group=1):
    fields = {
        "vintid": vintid,
        "state": state,
        "priority": priority,
        "pintid": pintid,
        "hw": hw,
        "group": group,
    }
    return IchLr.const(fields).as_bits()


class Actor:
    """Host and guest of one CPU."""

    def __init__(self, ctx, dut):
        self.ctx = ctx
        self.dut = dut
        self.sysregs = Sysregs(ctx, dut.sysreg)

    async def host(self, name, value=None):
        """Reads or writes an ICH register."""
        return await self._access(f"ICH_{name}_EL2", value)

    async def guest(self, name, value=None):
        """Reads or writes an ICV register."""
        return await self._access(f"ICV_{name}_EL1", value)

    async def _access(self, name, value):
        if value is None:
            return await self.sysregs.read(name)
        return await self.sysregs.write(name, value)

    async def start(self, *, mode=0, **hcr):
        self.ctx.set(self.dut.deactivate.ready, 1)
        await self.host("HCR", IchHcr.const({"en": 1, **hcr}).as_bits())
        fields = {"veng1": 1, "vpmr": 0xFF, "veoim": mode}
        await self.host("VMCR", IchVmcr.const(fields).as_bits())

    async def state(self, n=0):
        return IchLr.from_bits(await self.host(f"LR{n}")).state

    async def misr(self):
        return IchMisr.from_bits(await self.host("MISR"))

    async def count(self):
        return IchHcr.from_bits(await self.host("HCR")).eoi_count


def scenario(body, *others, physical=None):
    """``physical`` is a list for the INTIDs that are deactivated physically."""
    dut = VirtualInterface(1)

    def actor(role):
        async def testbench(ctx):
            await role(Actor(ctx, dut))

        return testbench

    async def record(ctx):
        port = dut.deactivate
        async for _, _, valid, ready, intid in ctx.tick().sample(
            port.valid, port.ready, port.p.intid
        ):
            if valid and ready and physical is not None:
                physical.append(intid)

    roles = [actor(role) for role in (body, *others)]
    return run(dut, *roles, taps=dut.taps, background=[record])


def test_parameters():
    text = "VirtualInterface: index must be between 0 and 15, not 16"
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        VirtualInterface(16)


def test_reset_values_and_fixed_fields():
    async def body(v):
        vtr = IchVtr.from_bits(await v.host("VTR"))
        assert (vtr.list_regs, vtr.pre_bits, vtr.pri_bits) == (3, 4, 4)
        assert await v.host("ELRSR") == 0b1111
        assert await v.host("EISR") == await v.host("MISR") == await v.host("HCR") == 0
        vmcr = IchVmcr.from_bits(await v.host("VMCR"))
        assert (vmcr.vbpr0, vmcr.vbpr1, vmcr.vpmr) == (2, 3, 0)
        assert await v.guest("IAR1") == await v.guest("HPPIR1") == 1023
        assert await v.guest("RPR") == 0xFF
        assert await v.guest("CTLR") == 4 << 8 | 1 << 15
        for n in range(4):
            await v.host(f"LR{n}", 0xFFFF_FFFF_FFFF_FFFF)
            assert await v.host(f"LR{n}") == 0xF0F8_1FFF_0000_FFFF
        await v.host("HCR", 0xFFFF_FFFF)
        assert await v.host("HCR") == 0xF800_7CFF
        await v.host("VMCR", 0xFFFF_FFFF)
        assert await v.host("VMCR") == 0xF8FC_0213

    scenario(body)


def test_guest_registers_are_views_of_vmcr():
    async def body(v):
        await v.guest("PMR", 0xA7)
        await v.guest("IGRPEN1", 1)
        await v.guest("CTLR", 2)
        await v.guest("BPR1", 5)
        vmcr = IchVmcr.from_bits(await v.host("VMCR"))
        assert (vmcr.vpmr, vmcr.veng1, vmcr.veoim, vmcr.vbpr1) == (0xA0, 1, 1, 5)
        assert await v.guest("PMR") == 0xA0
        assert await v.guest("BPR1") == 5
        await v.guest("BPR1", 0)
        assert await v.guest("BPR1") == 3
        await v.host("VMCR", IchVmcr.const({"vcbpr": 1, "vbpr0": 4, "vbpr1": 3}).as_bits())
        assert await v.guest("BPR1") == 5
        assert await v.guest("CTLR") & 3 == 1
        await v.guest("BPR1", 7)
        assert await v.guest("BPR1") == 5, "ignored while BPR0 counts for both"
        await v.host("VMCR", IchVmcr.const({"vcbpr": 1, "vbpr0": 7}).as_bits())
        assert await v.guest("BPR1") == 7
        await v.host("AP1R0", 0x10)
        assert await v.guest("AP1R0") == 0x10
        assert await v.guest("RPR") == 4 << 3
        await v.guest("AP1R0", 0)
        assert await v.host("AP1R0") == 0

    scenario(body)


def test_what_is_not_there_is_answered_with_an_error():
    async def body(v):
        await v.start()
        await v.host("LR0", lr(40))
        known = {r.value for r in SystemRegister if r.name.startswith(("ICH_", "ICV_"))}
        for number in set(range(32, 64)) - known:
            for write in (0, 1):
                response = await v.sysregs.access(number, write, 0xFFFF_FFFF_FFFF_FFFF)
                assert (response.error, response.data) == (1, 0), hex(number)
        read_only = ("ICH_VTR", "ICH_MISR", "ICH_EISR", "ICH_ELRSR")
        for name in (*(f"{n}_EL2" for n in read_only), "ICV_IAR1_EL1", "ICV_RPR_EL1"):
            assert (await v.sysregs.access(SystemRegister[name], 1, 1)).error, name
        for name in ("ICV_EOIR1_EL1", "ICV_DIR_EL1"):
            assert (await v.sysregs.access(SystemRegister[name], 0)).error, name
        assert await v.state() is PENDING

    scenario(body)


@pytest.mark.parametrize("mode", [0, 1])
@pytest.mark.parametrize("vintid", [5, 40, 1019, 8192])
@pytest.mark.parametrize("hw", [0, 1])
def test_life_of_a_list_register(mode, vintid, hw):
    """EOIR1 alone ends an LPI in either mode; DIR ends the others in mode 1."""
    physical = []

    async def body(v):
        await v.start(mode=mode)
        await v.host("LR2", lr(vintid, hw=hw, pintid=77))
        assert await v.guest("HPPIR1") == vintid
        assert await v.guest("IAR1") == vintid
        assert await v.state(2) is ACTIVE
        assert await v.guest("RPR") == 0xA0
        assert await v.guest("IAR1") == 1023
        await v.guest("DIR", vintid) if mode == 0 else None
        assert await v.state(2) is ACTIVE
        await v.guest("EOIR1", vintid)
        assert await v.guest("RPR") == 0xFF
        ended = mode == 0 or vintid >= 8192
        assert await v.state(2) is (ListState.INVALID if ended else ACTIVE)
        assert physical == ([77] if ended and hw else [])
        await v.guest("DIR", vintid)
        assert await v.state(2) is ListState.INVALID
        assert physical == ([77] if hw else [])
        assert await v.count() == 0
        assert (await v.host("ELRSR")) == 0b1111

    events = scenario(body, physical=physical)
    kinds = [(kind, intid) for n, kind, _, intid, _ in events if n == 0]
    assert kinds == [(EventKind.VIRTUAL_ACKNOWLEDGE, vintid), (EventKind.VIRTUAL_EOI, vintid)]


def test_active_and_pending_becomes_pending():
    async def body(v):
        await v.start()
        await v.host("LR0", lr(40, BOTH))
        assert await v.guest("IAR1") == 1023, "not while active"
        await v.host("AP1R0", 1 << 20)
        await v.guest("EOIR1", 40)
        assert await v.state() is PENDING
        assert await v.guest("IAR1") == 40

    scenario(body)


@pytest.mark.parametrize("pintid", [0, 1019, 1020, 1023, 8191])
def test_only_pintids_below_1020_are_deactivated(pintid):
    physical = []

    async def body(v):
        await v.start()
        await v.host("LR0", lr(40, ACTIVE, hw=1, pintid=pintid))
        await v.guest("EOIR1", 40)
        assert await v.state() is ListState.INVALID

    scenario(body, physical=physical)
    assert physical == ([pintid] if pintid < 1020 else [])


def test_a_guest_eoi_waits_until_the_physical_side_takes_it():
    async def target(v):
        await until(v.ctx, v.dut.deactivate.valid, "the deactivation")
        await v.ctx.tick().repeat(20)
        assert v.ctx.get(v.dut.deactivate.valid)
        v.ctx.set(v.dut.deactivate.ready, 1)
        await v.ctx.tick()
        assert not v.ctx.get(v.dut.deactivate.valid), "once"

    async def body(v):
        await v.start()
        v.ctx.set(v.dut.deactivate.ready, 0)
        await v.host("LR0", lr(40, ACTIVE, hw=1, pintid=40))
        await v.host("AP1R0", 0b11)
        await v.guest("EOIR1", 40)
        assert v.sysregs.clocks >= 20
        assert await v.host("AP1R0") == 0b10, "one priority drop"

    scenario(body, target)


def test_priority_mask_preemption_and_group():
    async def body(v):
        await v.start()
        for n, (vintid, priority) in enumerate(((50, 0xA0), (51, 0x40), (49, 0x40), (52, 0x08))):
            await v.host(f"LR{n}", lr(vintid, priority=priority, group=n != 3))
        order = []
        for _ in range(3):
            order.append(await v.guest("IAR1"))
        assert order == [51, 1023, 1023], "lowest register number first; equals do not preempt"
        assert await v.guest("HPPIR1") == 49
        assert not v.ctx.get(v.dut.virq)
        await v.guest("EOIR1", 51)
        await v.ctx.tick()
        assert v.ctx.get(v.dut.virq)
        await v.guest("PMR", 0x40)
        assert not v.ctx.get(v.dut.virq)
        assert await v.guest("IAR1") == 1023
        await v.guest("PMR", 0x48)
        assert await v.guest("IAR1") == 49
        await v.guest("EOIR1", 49)
        await v.guest("PMR", 0xFF)
        assert await v.guest("IAR1") == 50
        await v.guest("EOIR1", 50)
        assert await v.guest("HPPIR1") == 1023, "group 0 has no registers"
        await v.host("LR3", lr(52))
        await v.guest("IGRPEN1", 0)
        assert (await v.guest("IAR1"), await v.guest("HPPIR1")) == (1023, 1023)
        await v.guest("IGRPEN1", 1)
        await v.host("HCR", 0)
        assert (await v.guest("IAR1"), await v.guest("HPPIR1")) == (1023, 1023)

    scenario(body)


def test_line_follows_the_list_registers():
    async def body(v):
        await v.start()
        await v.host("LR0", lr(40))
        assert v.ctx.get(v.dut.virq), "at the latest when the access is answered"
        await v.guest("IAR1")
        assert not v.ctx.get(v.dut.virq)

    events = scenario(body)
    assert [e[1:] for e in events if e[0] == 1] == [
        (EventKind.LINE, 1, LineKind.VIRQ.value, 1),
        (EventKind.LINE, 1, LineKind.VIRQ.value, 0),
    ]


def test_eois_without_a_list_register_are_counted():
    async def body(v):
        await v.start(lrenpie=1)
        for _ in range(3):
            await v.guest("EOIR1", 60)
        await v.guest("EOIR1", 8192)  # LPIs are not counted
        await v.guest("EOIR1", 1023)
        await v.guest("DIR", 60)  # ignored in this mode
        assert await v.count() == 3
        assert (await v.misr()).lrenp
        assert v.ctx.get(v.dut.maintenance)
        for _ in range(29):
            await v.guest("EOIR1", 60)
        assert await v.count() == 0, "five bits, wrapping"
        await v.guest("CTLR", 2)
        await v.guest("EOIR1", 60)
        assert await v.count() == 0
        await v.guest("DIR", 60)
        await v.guest("DIR", 8192)
        await v.guest("DIR", 1020)
        assert await v.count() == 1

    scenario(body)


def test_end_of_interrupt_maintenance():
    async def body(v):
        await v.start()
        await v.host("LR1", lr(40, pintid=EOI))
        assert await v.host("ELRSR") == 0b1101
        await v.guest("IAR1")
        assert not v.ctx.get(v.dut.maintenance)
        await v.guest("EOIR1", 40)
        assert v.ctx.get(v.dut.maintenance)
        assert await v.host("EISR") == 0b0010
        assert await v.host("ELRSR") == 0b1101, "not empty until the host has seen it"
        assert (await v.misr()).eoi
        await v.host("LR1", 0)
        assert not v.ctx.get(v.dut.maintenance)
        assert (await v.host("EISR"), await v.host("ELRSR")) == (0, 0b1111)
        # With HW = 1 the same bit is part of the pINTID.
        await v.host("LR1", lr(40, ListState.INVALID, hw=1, pintid=EOI | 1))
        assert (await v.host("EISR"), await v.host("ELRSR")) == (0, 0b1111)

    scenario(body)


@pytest.mark.parametrize(
    ("enable", "condition"),
    [
        ("uie", {"lrs": {0: lr(40, ACTIVE)}}),
        ("npie", {"lrs": {0: lr(40, ACTIVE)}}),
        ("vgrp1eie", {"vmcr": {"veng1": 1}}),
        ("vgrp1die", {"vmcr": {"veng1": 0}}),
        ("vgrp0eie", {"vmcr": {"veng0": 1}}),
        ("vgrp0die", {"vmcr": {"veng0": 0}}),
    ],
)
def test_maintenance_conditions(enable, condition):
    """Each holds when enabled and only then, and is heard only while HCR.En is one."""
    opposite = {
        "uie": {"lrs": {0: lr(40, ACTIVE), 3: lr(41, PENDING)}},
        "npie": {"lrs": {0: lr(40, ACTIVE), 3: lr(41, PENDING)}},
        "vgrp1eie": {"vmcr": {"veng1": 0}},
        "vgrp1die": {"vmcr": {"veng1": 1}},
        "vgrp0eie": {"vmcr": {"veng0": 0}},
        "vgrp0die": {"vmcr": {"veng0": 1}},
    }[enable]

    async def body(v):
        async def apply(setting):
            await v.host("VMCR", IchVmcr.const(setting.get("vmcr", {})).as_bits())
            for n in range(4):
                await v.host(f"LR{n}", setting.get("lrs", {}).get(n, 0))

        for setting, expected in ((condition, 1), (opposite, 0)):
            await apply(setting)
            await v.host("HCR", IchHcr.const({"en": 1, enable: 1}).as_bits())
            assert bool(await v.host("MISR")) == bool(expected)
            assert v.ctx.get(v.dut.maintenance) == expected
            await v.host("HCR", IchHcr.const({"en": 0, enable: 1}).as_bits())
            assert bool(await v.host("MISR")) == bool(expected)
            assert not v.ctx.get(v.dut.maintenance)
            await v.host("HCR", IchHcr.const({"en": 1}).as_bits())
            assert await v.host("MISR") == 0

    scenario(body)


@pytest.mark.parametrize("seed", range(4))
def test_against_the_reference_model(seed):
    """Random host and guest accesses; every value read, and both lines, are equal."""
    rng = random.Random(seed)
    choices = Implementation(lr_mask=0xF0FF_1FFF_0000_FFFF)
    expected_deactivations, physical = [], []
    level = [False]
    reference = ReferenceInterface(
        choices, expected_deactivations.append, lambda now: level.__setitem__(0, now)
    )
    vintids = (5, 40, 41, 1023, 8192, 8193)

    def value_for(name):
        if name.startswith("ICH_LR"):
            return lr(
                rng.choice(vintids),
                ListState(rng.randrange(4)),
                priority=rng.choice((0, 0x40, 0x48, 0xA0, 0xFF)),
                pintid=rng.choice((0, 33, 77, EOI, EOI | 1)),
                hw=rng.randrange(2),
                group=rng.randrange(4) > 0,
            )
        if name.endswith(("EOIR1_EL1", "DIR_EL1")):
            return rng.choice(vintids)
        if name == "ICH_HCR_EL2":
            return rng.getrandbits(32) | 1
        if name == "ICH_VMCR_EL2":
            return rng.getrandbits(32) & ~(3 << 18) | 0xF000_0002
        return rng.getrandbits(64)

    async def body(v):
        v.ctx.set(v.dut.deactivate.ready, 1)
        names = list(reference.registers)
        usual = ["ICV_IAR1_EL1", "ICV_EOIR1_EL1", "ICV_DIR_EL1", "ICH_LR0_EL2", "ICH_LR1_EL2"]
        for _ in range(400):
            name = rng.choice(usual if rng.randrange(2) else names)
            read, write = reference.registers[name]
            if write is None or (read is not None and rng.randrange(3) == 0):
                assert await v.sysregs.read(name) == read(), name
            else:
                value = value_for(name)
                await v.sysregs.write(name, value)
                write(value)
            await v.ctx.tick().repeat(2)
            assert v.ctx.get(v.dut.maintenance) == level[0], name
            assert v.ctx.get(v.dut.virq) == reference.virq, name

    scenario(body, physical=physical)
    # The model leaves it to the physical side to ignore numbers from 1020 up.
    assert physical == [intid for intid in expected_deactivations if intid < 1020]
