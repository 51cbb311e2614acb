"""Anything at any register: an answer within a bound, and a machine that still works afterwards.

Every CPU and a device ask at once, of sizes that no port should be asked for and at addresses that
are not aligned. (Byte lanes that no port can produce are tried with each block on its own.)
"""

from random import Random

import pytest

from hdl.bus import RequesterKind
from hdl.config import APIC_WINDOW, DISTRIBUTOR, ECAM, RAM_BASE
from hdl.cpu_port import Operation
from hdl.registers import pci
from hdl.registers.gicd import GicdRegister as Gicd
from hdl.registers.gicr import SGI_FRAME
from hdl.registers.gicr import GicrRegister as Gicr
from hdl.registers.gits import GitsRegister as Gits
from hdl.registers.lapic import LapicRegister
from hdl.registers.pci import Device
from hdl.registers.sysreg import SystemRegister
from sim.bench import Bench
from sim.hosts.base import EXTERNAL, Poke, operation_pokes

from . import machines

ROUNDS = 6
"""Of bad traffic, each followed by a recovery that uses registers alone."""
CLOCKS = 10_000
"""Of bad traffic in a round: some hundred accesses by each asker."""
BOUND = 4_000
"""Clocks within which every access is answered, whatever all the others ask for.

The worst is an access behind the PCI host, which may have to wait for three queues of sixteen
posted writes, each of them a message that waits for a walk of the ITS's tables. The longest seen in
a million answers was 210.
"""
SPURIOUS = 1023
FINISH = 60_000


class Askers:
    """All CPUs and the external initiator, each asking again when it has been answered."""

    def __init__(self, bench: Bench, seed: int):
        self.host, self.config = bench.host, bench.config
        self.dice = Random(seed)
        self.since: dict[int, int] = {}
        self.longest = 0
        self.answers = 0

    def run(self, clocks: int) -> None:
        end = self.host.cycle + clocks
        everyone = [*range(self.config.cpus), EXTERNAL]
        while self.host.cycle < end or self.since:
            pokes: list[Poke] = []
            if self.host.cycle < end:
                for asker in everyone:
                    if asker not in self.since:
                        pokes += self._ask(asker)
            wake = self.host.advance(pokes, self.host.cycle + BOUND)
            for asker in wake.responses:
                self.longest = max(self.longest, wake.cycle - self.since.pop(asker))
                self.answers += 1
            late = [a for a, begun in self.since.items() if wake.cycle - begun > BOUND]
            assert not late, f"no answer to {late} within {BOUND} clocks"
            self.host.forget_records()

    def _ask(self, asker: int) -> list[Poke]:
        dice, cycle = self.dice, self.host.cycle
        self.since[asker] = cycle
        if asker != EXTERNAL and dice.random() < 0.3:
            operation = dice.choice((Operation.READ_SYSREG, Operation.WRITE_SYSREG))
            register = dice.choice((*SystemRegister, dice.randrange(64)))
            return operation_pokes(asker, cycle, operation.value, 0, register, self._value(64))
        operation = dice.choice((Operation.LOAD, Operation.STORE, Operation.STORE))
        size = dice.choice((0, 1, 2, 2, 2, 3))
        address = self._address()
        if dice.random() < 0.9:
            address &= -(1 << size)
        pokes = operation_pokes(asker, cycle, operation.value, size, address, self._value(64))
        if asker == EXTERNAL:
            kind = dice.choice((RequesterKind.DEVICE, RequesterKind.DEVICE, RequesterKind.CPU))
            pokes.append(Poke(cycle, "external_requester.kind", kind.value))
            requester = dice.choice((8, 8, dice.getrandbits(16)))
            pokes.append(Poke(cycle, "external_requester.id", requester))
        return pokes

    def _address(self) -> int:
        dice, config = self.dice, self.config
        frames = (DISTRIBUTOR, config.its_region, *config.redistributors)
        region = dice.choice(frames)
        registers = {DISTRIBUTOR: Gicd, config.its_region: Gits}.get(region, Gicr)
        choices = (
            region.base + dice.choice(tuple(registers)) + dice.randrange(8),
            region.base + dice.randrange(0x1000),
            region.base + dice.randrange(region.size),
            APIC_WINDOW.base + dice.choice((dice.randrange(0x1000), dice.randrange(1 << 20))),
            ECAM.base + (dice.randrange(3) << 15) + dice.randrange(0x120),
            machines.bar(0) + dice.randrange(pci.BAR_SIZE),
            RAM_BASE + dice.randrange(config.ram_bytes + 8),
            dice.getrandbits(dice.choice((32, 40, 64))),
        )
        return dice.choice(choices)

    def _value(self, bits: int) -> int:
        dice = self.dice
        ram = RAM_BASE + dice.randrange(self.config.ram_bytes)
        values = (0, 1, (1 << bits) - 1, 1 << dice.randrange(bits), dice.getrandbits(bits), ram)
        return dice.choice(values)


def until(bench: Bench, address: int, mask: int, value: int, what: str) -> None:
    """Poll a register as a driver does."""
    limit = bench.cycle + FINISH
    while bench.cpu[0].read(address) & mask != value:
        assert bench.cycle < limit, f"{what} not within {FINISH} clocks"
        bench.step(50)


def recover(bench: Bench) -> None:
    """What a driver does with a machine in an unknown state; no reset."""
    config, cpu = bench.config, bench.cpu[0]
    gicd, its = DISTRIBUTOR.base, config.its_region.base
    for k in range(len(config.endpoints)):
        calm(bench, k)
    cpu.write(its + Gits.CTLR, 0)
    until(bench, its + Gits.CTLR, 1 << 31, 1 << 31, "Quiescent")
    for region in config.redistributors:
        cpu.write(region.base + Gicr.CTLR, 0)
        until(bench, region.base + Gicr.CTLR, 1 << 3, 0, "GICR_CTLR.RWP")
        forget(bench, region.base + SGI_FRAME, 0)
    for first in range(32, 32 + config.spis, 32):
        forget(bench, gicd, first)
    for intid in range(32, 32 + config.spis):
        cpu.write64(gicd + Gicd.IROUTER + 8 * intid, 0)
    until(bench, gicd + Gicd.CTLR, 1 << 31, 0, "GICD_CTLR.RWP")
    bench.ram.write(RAM_BASE, bytes(config.ram_bytes))
    for own in bench.cpu:
        own.write_sysreg("ICC_CTLR_EL1", 0)
        own.write_sysreg("ICC_AP1R0_EL1", 0)
        for n in range(4):
            own.write_sysreg(f"ICH_LR{n}_EL2", 0)
        own.write_sysreg("ICH_HCR_EL2", 0)
        own.write(APIC_WINDOW.base + LapicRegister.TPR, 0)
        own.write(APIC_WINDOW.base + LapicRegister.SVR, 0x1FF)
        for _ in range(512):  # all that IRR and ISR can hold
            if not own.intr:
                own.write(APIC_WINDOW.base + LapicRegister.EOI, 0)
            own.read_sysreg("LAPIC_INTA")
        for _ in range(256):
            own.write(APIC_WINDOW.base + LapicRegister.EOI, 0)


def calm(bench: Bench, k: int) -> None:
    """A function that has nothing to say and messages that are off.

    What is pending leaves with bus mastering off, so it is gone.
    """
    function, endpoint, cpu = bench.endpoint[k], bench.config.endpoints[k], bench.cpu[0]
    function.config_write(pci.Header.BAR1, 0)
    function.config_write(pci.Header.BAR0, machines.bar(k))
    function.config_write(pci.Header.COMMAND, pci.COMMAND_MEMORY, 2)
    for register in (Device.GENERATOR_CONTROL, Device.DMA_CONTROL):
        cpu.write(machines.bar(k) + register, 0)
    bench.step(500)  # the burst under way
    cpu.write(machines.bar(k) + Device.ACKNOWLEDGE, cpu.read(machines.bar(k) + Device.COUNT))
    for n in range(endpoint.msix_vectors):
        entry = machines.bar(k) + pci.BAR_MSIX_TABLE + pci.MSIX_ENTRY_SIZE * n
        cpu.write(entry + pci.MSIX_ENTRY_CONTROL, 0)
    if endpoint.maskable:
        mask = endpoint.capability("msi") + pci.msi_mask(endpoint.msi == "64")
        function.config_write(mask, 0)
    for name, flags in (("msix", pci.MSIX_FLAGS), ("msi", pci.MSI_FLAGS)):
        if name in endpoint.capabilities:
            for value in (0xFFFF & ~pci.MSIX_FLAGS_MASK_ALL, 0):
                function.config_write(endpoint.capability(name) + flags, value, 2)
                bench.step(500)


def forget(bench: Bench, frame: int, first: int) -> None:
    """Nothing of these 32 interrupts is active, pending, enabled or edge-triggered."""
    cpu = bench.cpu[0]
    for array in (Gicd.ICENABLER, Gicd.ICACTIVER, Gicd.ICPENDR):
        cpu.write(frame + array + first // 8, 0xFFFF_FFFF)
    for half in (0, 4):
        cpu.write(frame + Gicd.ICFGR + first // 4 + half, 0)


def take(bench: Bench, cpu: int) -> int:
    """Wait for the line, acknowledge, end."""
    limit = bench.cycle + 2_000
    while not bench.cpu[cpu].irq:
        assert bench.cycle < limit, f"no interrupt at CPU {cpu}"
        bench.step(10)
    intid = bench.cpu[cpu].read_sysreg("ICC_IAR1_EL1")
    bench.cpu[cpu].write_sysreg("ICC_EOIR1_EL1", intid)
    return intid


def check_canaries(bench: Bench) -> None:
    """An SPI, an SGI, an LPI, an endpoint's MSI and a message to a local APIC arrive."""
    config = bench.config
    for call in machines.prepare(config):
        call(bench)
    its = config.its_region.base
    own, *_ = machines.device_ids(config)
    bench.step(2_000)
    for cpu in range(config.cpus):
        assert bench.cpu[cpu].read_sysreg("ICC_IAR1_EL1") == SPURIOUS
    bench.set_wire(40, True)
    bench.step(200)
    bench.set_wire(40, False)
    bench.step(200)
    assert not bench.cpu[0].irq, "a level that fell"
    bench.cpu[1].write_sysreg("ICC_SGI1R_EL1", 7 << 24 | 1)
    assert take(bench, 0) == 7
    bench.message(DISTRIBUTOR.base + Gicd.SETSPI_NSR, 41, 8)
    assert take(bench, 0) == 41
    for event in range(4):
        bench.message(its + Gits.TRANSLATER, event, own)
        assert take(bench, event % config.cpus) == 8192 + event
    bench.endpoint[0].raise_event(1)
    assert take(bench, 1) == 8193
    bench.message(APIC_WINDOW.base | 1 << 12, 0x41, own)
    bench.step(50)
    assert bench.cpu[1].intr
    assert bench.cpu[1].read_sysreg("LAPIC_INTA") == 0x41


def test_bad_traffic_is_answered_and_survived(pair, first_seed):
    bench = pair.gateware
    for seed in range(first_seed, first_seed + ROUNDS):
        pair.restart(prepared=bool(seed % 3))
        askers = Askers(bench, seed)
        askers.run(CLOCKS)
        assert askers.answers > CLOCKS // 40
        recover(bench)
        check_canaries(bench)


@pytest.mark.slow
def test_bad_traffic_for_long(pair, first_seed):
    """The same without a restart in between."""
    bench = pair.gateware
    pair.restart()
    for seed in range(first_seed, first_seed + 10 * ROUNDS):
        Askers(bench, seed).run(CLOCKS)
        recover(bench)
        check_canaries(bench)


def test_the_canaries_can_die(pair):
    """A machine that nobody repaired after bad traffic fails the check."""
    bench = pair.gateware
    pair.restart()
    bench.cpu[0].write_sysreg("ICC_AP1R0_EL1", 1)
    with pytest.raises(AssertionError, match="no interrupt at CPU 0"):
        check_canaries(bench)
