"""Recordings in the format of the real ones, made with the reference model.

They show what the real ones at hand do not: EOImode 1 with DIR, interrupts of several priorities
that nest, PPI 30, LPIs that are switched off. What is recorded is what the model says, which
shares nothing with the gateware.
"""

from random import Random

from hdl.config import DISTRIBUTOR, RAM_BASE, SocConfig
from hdl.registers.gicd import GicdRegister
from hdl.registers.gicr import GicrRegister
from hdl.registers.gits import (
    COMMAND_BYTES,
    GitsRegister,
    Opcode,
    command_bytes,
    encode_inv,
    encode_mapc,
    encode_mapd,
    encode_mapti,
    encode_movi,
    encode_sync,
)
from hdl.registers.sysreg import SystemRegister
from sim.backends import reference_machine

QUEUE, DEVICES, COLLECTIONS, PROPERTIES, PENDING, ITT = (
    RAM_BASE + (i << 16) for i in (0, 1, 2, 3, 4, 6)
)
VALID = 1 << 63
DEVICE, EVENTS, FIRST_LPI = 0x48, 8, 8192
MOVING, SWITCHED = range(4), range(4, EVENTS)
"""Events that go from CPU to CPU, and events whose LPIs are switched off and on.

Not both: INV tells only the CPU that an LPI goes to now. The model's other CPUs, and the
gateware's, remember what they read before, so what such a recording shows is not one property.
"""
SPIS = (40, 41, 42, 43)
TIMER = 30
SPURIOUS = 1023


class Recorder:
    """A reference machine whose traffic is written down."""

    def __init__(self, config: SocConfig):
        self.config = config
        self.machine = reference_machine(config)
        self.lines: list[str] = []
        self._shown = [(SPURIOUS, 0xFF, 0)] * config.cpus
        self._tail = 0
        self.property = dict.fromkeys(range(FIRST_LPI, FIRST_LPI + EVENTS), 0)
        self.collection = dict.fromkeys(range(EVENTS), 0)

    def say(self, cpu, text):
        self.lines.append(f"{10 * len(self.lines)} {cpu} {text}")

    def show(self, cpu):
        """HPPI lines for whatever has changed; ``cpu`` caused it."""
        for unit in range(self.config.cpus):
            intid = self.machine.read_sysreg(unit, "ICC_HPPIR1_EL1")
            irq = int(self.machine.irq(unit))
            state = (intid, 0xFF if intid == SPURIOUS else self.priority(unit, intid), irq)
            if state != self._shown[unit]:
                self._shown[unit] = state
                shown = 0 if intid == SPURIOUS else intid
                self.say(cpu, f"HPPI c{unit} {shown} g2 p{state[1]:#04x} fiq=0 irq={irq}")

    def priority(self, cpu, intid):
        if intid >= FIRST_LPI:
            return self.property[intid] & 0xFC
        if intid < 32:
            base = self.config.redistributors[cpu].base + GicrRegister.IPRIORITYR
        else:
            base = DISTRIBUTOR.base + GicdRegister.IPRIORITYR
        return self.machine.load(cpu, base + intid, 1)

    # Accesses

    def frame(self, name):
        if name == "GICD":
            return DISTRIBUTOR.base
        if name == "GITS":
            return self.config.its_region.base
        return self.config.redistributors[int(name[4:])].base

    def write(self, cpu, name, offset, value, size=4):
        self.machine.store(cpu, self.frame(name) + offset, value & 0xFFFF_FFFF, min(size, 4))
        if size == 8:
            self.machine.store(cpu, self.frame(name) + offset + 4, value >> 32, 4)
        self.show(cpu)
        self.say(cpu, f"{name} W {offset:#06x} {size} {value:#x}")

    def read(self, cpu, name, offset, size=4):
        value = self.machine.load(cpu, self.frame(name) + offset, min(size, 4))
        if size == 8:
            value |= self.machine.load(cpu, self.frame(name) + offset + 4, 4) << 32
        self.say(cpu, f"{name} R {offset:#06x} {size} {value:#x}")

    def icc(self, cpu, name, value):
        self.say(cpu, f"ICC W {name} {value:#x}")
        self.machine.write_sysreg(cpu, SystemRegister[f"ICC_{name}_EL1"].name, value)
        self.show(cpu)

    def read_icc(self, cpu, name):
        value = self.machine.read_sysreg(cpu, f"ICC_{name}_EL1")
        if name == "IAR1":
            self.show(cpu)
        self.say(cpu, f"ICC R {name} {value:#x}")
        return value

    def sgi(self, cpu, intid, targets):
        self.say(cpu, f"SGI sgi={intid} irm=0 aff=0x0 list={targets:#x}")
        self.machine.write_sysreg(cpu, "ICC_SGI1R_EL1", intid << 24 | targets)
        for unit in range(self.config.cpus):
            if targets >> unit & 1:
                self.say(cpu, f"SGIPEND rd{unit} sgi={intid}")
        self.show(cpu)

    def ppi(self, unit, intid, level):
        self.say("-", f"LINE ppi rd{unit} {intid} {int(level)}")
        self.machine.set_ppi(unit, intid, level)
        self.show("-")

    def spi(self, intid, level):
        self.say("-", f"LINE spi {intid} {int(level)}")
        self.machine.set_wire(intid, level)
        self.show("-")

    def message(self, event):
        cpu = self.collection[event]
        tail = f"dte.v=1 ite.v=1 intid={FIRST_LPI + event} icid={cpu} cte.v=1 rd={cpu}"
        self.say("-", f"MSI devid={DEVICE:#x} eventid={event:#x} size=4 {tail}")
        address = self.config.its_region.base + GitsRegister.TRANSLATER
        self.machine.message(address, event, DEVICE)
        self.show("-")

    def commands(self, cpu, *commands):
        for words in commands:
            self.machine.ram_write(QUEUE + self._tail, command_bytes(words))
            name, raw = Opcode(words[0] & 0xFF).name, ":".join(f"{word:016x}" for word in words)
            self.say(cpu, f"CMD @{self._tail:#07x} op={words[0] & 0xFF:#04x} {name} raw={raw}")
            self._tail = (self._tail + COMMAND_BYTES) % 0x1000
        self.write(cpu, "GITS", GitsRegister.CWRITER, self._tail)
        self.read(cpu, "GITS", GitsRegister.CREADR)

    def configure_lpi(self, cpu, event, priority, enable):
        """Property byte and INV."""
        lpi = FIRST_LPI + event
        self.property[lpi] = priority | 2 | enable
        self.machine.ram_write(PROPERTIES + event, bytes([self.property[lpi]]))
        self.commands(cpu, encode_inv(DEVICE, event), encode_sync(self.collection[event]))

    # What software does

    def boot(self, eoi_mode):
        self.read(0, "GICD", GicdRegister.TYPER)
        self.write(0, "GICD", GicdRegister.CTLR, 0x12)
        for spi in SPIS:
            word, bit = spi // 32, 1 << spi % 32
            self.write(0, "GICD", GicdRegister.IGROUPR + 4 * word, 0xFFFF_FFFF)
            self.write(0, "GICD", GicdRegister.IPRIORITYR + spi, 0x80 + 8 * (spi % 4), 1)
            self.write(0, "GICD", GicdRegister.IROUTER + 8 * spi, spi % 2, 8)
            self.write(0, "GICD", GicdRegister.ISENABLER + 4 * word, bit)
        for cpu in range(self.config.cpus):
            redistributor = f"GICR{cpu}"
            self.read(cpu, redistributor, GicrRegister.TYPER, 8)
            self.write(cpu, redistributor, GicrRegister.WAKER, 0)
            self.write(cpu, redistributor, GicrRegister.IGROUPR0, 0xFFFF_FFFF)
            for word, value in enumerate((0xA0A0_90C0, 0xA0A0_A0A0)):
                self.write(cpu, redistributor, GicrRegister.IPRIORITYR + 4 * word, value)
            self.write(cpu, redistributor, GicrRegister.IPRIORITYR + 28, 0x4040_4040)
            self.write(cpu, redistributor, GicrRegister.ISENABLER0, 0xFFFF | 1 << TIMER)
            self.icc(cpu, "PMR", 0xF0)
            self.icc(cpu, "CTLR", eoi_mode << 1)
            self.icc(cpu, "IGRPEN1", 1)
            self.read_icc(cpu, "CTLR")
        gits = (
            (GitsRegister.BASER0, VALID | DEVICES | 2 << 8),
            (GitsRegister.BASER1, VALID | COLLECTIONS | 2 << 8),
            (GitsRegister.CBASER, VALID | QUEUE),
        )
        self.read(0, "GITS", GitsRegister.TYPER, 8)
        for offset, value in gits:
            self.write(0, "GITS", offset, value, 8)
        self.write(0, "GITS", GitsRegister.CTLR, 1)
        for cpu in range(self.config.cpus):
            redistributor = f"GICR{cpu}"
            self.write(cpu, redistributor, GicrRegister.PROPBASER, PROPERTIES | 13, 8)
            self.write(
                cpu, redistributor, GicrRegister.PENDBASER, 1 << 62 | PENDING + (cpu << 16), 8
            )
            self.write(cpu, redistributor, GicrRegister.CTLR, 1)
            self.commands(cpu, encode_mapc(cpu, cpu), encode_sync(cpu))
        self.commands(0, encode_mapd(DEVICE, 5, ITT))
        for event in range(EVENTS):
            self.property[FIRST_LPI + event] = 2
            self.commands(0, encode_mapti(DEVICE, event, FIRST_LPI + event, 0), encode_sync(0))
            self.configure_lpi(0, event, self.lpi_priority(event), True)
            # Each is seen once: a recording shows the priority of an LPI only when it is the best.
            self.message(event)
            self.icc(0, "EOIR1", self.read_icc(0, "IAR1"))

    @staticmethod
    def lpi_priority(event):
        return 0x60 + 0x10 * (event % 4)


def record(config: SocConfig, *, eoi_mode: int, steps: int, seed: int) -> list[str]:
    """Random traffic after a boot: the lines of a recording."""
    random = Random(seed)
    recorder = Recorder(config)
    recorder.boot(eoi_mode)
    running: list[list[int]] = [[] for _ in range(config.cpus)]
    dropped: list[list[int]] = [[] for _ in range(config.cpus)]
    enabled = [True] * EVENTS
    for _ in range(steps):
        cpu = random.randrange(config.cpus)
        what = random.randrange(10)
        if what == 0:
            recorder.ppi(cpu, TIMER, random.random() < 0.5)
        elif what == 1:
            recorder.spi(random.choice(SPIS), random.random() < 0.5)
        elif what == 2:
            recorder.sgi(cpu, random.randrange(8), random.randrange(1, 1 << config.cpus))
        elif what == 3:
            recorder.message(random.randrange(EVENTS))
        elif what == 4 and random.random() < 0.3:
            event, target = random.choice(MOVING), random.randrange(config.cpus)
            old, recorder.collection[event] = recorder.collection[event], target
            recorder.commands(cpu, encode_movi(DEVICE, event, target), encode_sync(old))
        elif what == 5 and random.random() < 0.3:
            event = random.choice(SWITCHED)
            enabled[event] = not enabled[event]
            recorder.configure_lpi(cpu, event, recorder.lpi_priority(event), enabled[event])
        elif what in (6, 7):
            if recorder.machine.irq(cpu):
                intid = recorder.read_icc(cpu, "IAR1")
                running[cpu].append(intid)
        elif what == 8 and running[cpu]:
            intid = running[cpu].pop()
            recorder.icc(cpu, "EOIR1", intid)
            if eoi_mode and intid < FIRST_LPI:
                dropped[cpu].append(intid)
        elif what == 9 and dropped[cpu]:
            recorder.icc(cpu, "DIR", dropped[cpu].pop(random.randrange(len(dropped[cpu]))))
    return recorder.lines
