"""Random operations: register traffic, devices, CPUs and guests, ITS commands good and bad.

Most of it is plausible, so that it gets somewhere; a part of everything is wild. What the
architecture leaves undefined for software that breaks its rules, and two correct machines may
therefore do differently, is left out:

* tables of the ITS in memory that something else writes to, or that overlap (their format is
  private); tables in windows that are neither RAM nor the interrupt controller's;
* the endpoint's event generator, which counts clocks;
* endpoint messages to RAM, where the order of several decides what stays.
"""

from hdl.config import APIC_WINDOW, DISTRIBUTOR, RAM_BASE, SocConfig
from hdl.registers import gits, pci
from hdl.registers.gicd import GicdRegister as Gicd
from hdl.registers.gicr import SGI_FRAME
from hdl.registers.gicr import GicrRegister as Gicr
from hdl.registers.gits import GitsRegister as Gits
from hdl.registers.gits import Opcode
from hdl.registers.lapic import LapicRegister
from hdl.registers.sysreg import SystemRegister

from . import draws as st
from . import machines
from .draws import Draw, pick, weighted
from .operations import (
    Command,
    Handle,
    Repair,
    on_bench,
    on_cpu,
    on_endpoint,
    on_ram,
)

WORDS = pick(
    st.sampled_from((0, 0xFFFF_FFFF)),
    st.integers(0, 31).map(lambda n: 1 << n),
    st.integers(0, 0xFFFF_FFFF),
)
LONGS = pick(
    st.sampled_from((0, (1 << 64) - 1)),
    st.integers(0, 63).map(lambda n: 1 << n),
    st.integers(0, (1 << 64) - 1),
)
ARRAYS = (
    Gicd.ISENABLER,
    Gicd.ISENABLER,
    Gicd.ICENABLER,
    Gicd.ISPENDR,
    Gicd.ISPENDR,
    Gicd.ISPENDR,
    Gicd.ICPENDR,
    Gicd.ISACTIVER,
    Gicd.ICACTIVER,
    Gicd.ICACTIVER,
)
"""Where a bit of the word written sets or clears something; those that set pending more often."""
PRIORITIES = st.sampled_from((0, 0x10, 0x40, 0x47, 0x80, 0xA0, 0xF0, 0xF8, 0xFF))
RETRY = 1
FIRST_GENERATOR = pci.Device.GENERATOR_PERIOD
LAST_GENERATOR = pci.Device.GENERATOR_CONTROL


def _access(cpus, base: int, offsets, values=WORDS):
    """A load or store of 1, 2 or 4 bytes at an aligned offset."""

    def access(cpu, offset, size, lane, reads, value):
        place = base + (offset & ~3 | lane & -size)
        if reads:
            return on_cpu(cpu, "read", place, size)
        return on_cpu(cpu, "write", place, value & (1 << 8 * size) - 1, size)

    sizes, reads = st.sampled_from((4, 4, 4, 2, 1)), st.sampled_from((True, False, False, False))
    return st.builds(access, cpus, offsets, sizes, st.integers(0, 3), reads, values)


def _bits(intids):
    """A word for the array of bits in which the chosen INTID is, and its offset."""
    change = st.builds(
        lambda array, intid, more: (array + 4 * (intid // 32), more | 1 << intid % 32),
        st.sampled_from(ARRAYS),
        intids,
        st.sampled_from((0, 0, 0, 0, 0, 0, 0xFFFF_FFFF, 0x0101_0101)),
    )
    group = st.builds(
        lambda intid, gone: (Gicd.IGROUPR + 4 * (intid // 32), ~(gone << intid % 32) & 0xFFFF_FFFF),
        intids,
        st.integers(0, 1),
    )
    return pick(change, change, change, group)


def _state_bits(cpus, base: int, intids):
    """The arrays that move an interrupt through its states."""
    return st.builds(
        lambda cpu, pair: on_cpu(cpu, "write", base + pair[0], pair[1]), cpus, _bits(intids)
    )


def _priorities(cpus, base: int, intids):
    return st.builds(
        lambda cpu, intid, priority: on_cpu(
            cpu, "write", base + Gicd.IPRIORITYR + intid, priority, 1
        ),
        cpus,
        intids,
        PRIORITIES,
    )


def _triggers(cpus, base: int, intids):
    return st.builds(
        lambda cpu, intid, word: on_cpu(cpu, "write", base + Gicd.ICFGR + intid // 16 * 4, word),
        cpus,
        intids,
        WORDS,
    )


class Traffic:
    """What can be drawn for one machine."""

    def __init__(self, config: SocConfig):
        self.config = config
        self.its = config.its_region.base
        self.cpus = st.integers(0, config.cpus - 1)
        self.spis = st.sampled_from((32, 33, 36, 37, 63, 31 + config.spis))
        self.privates = st.sampled_from((0, 1, 7, 15, 16, 25, 31))
        self.lpis = st.sampled_from((8192, 8193, 8200, 8201, 8192 + 31, 8191 + config.lpis))
        self.intids = pick(
            self.spis, self.privates, self.lpis, st.sampled_from((0, 1019, 1020, 1022, 1023, 4096))
        )
        self.devices = st.sampled_from(machines.device_ids(config))
        self.events = st.sampled_from((0, 1, 2, 3, 7, 31, 32, 63, 64, 255, 256, 0xFFFF))
        self.collections = st.sampled_from((0, 1, 2, 3, 511, 512, 0xFFFF))
        self.targets = st.sampled_from((*range(config.cpus), config.cpus, 0x8000))

    def operations(self) -> Draw:
        """A few operations that belong together; mostly one."""
        return weighted((20, self.single().map(lambda operation: [operation])), (1, self.stories()))

    def single(self) -> Draw:
        return weighted(
            (5, self.handling()),
            (3, self.distributor()),
            (3, self.redistributor()),
            (3, self.wires()),
            (5, self.messages()),
            (5, self.commands()),
            (2, self.properties()),
            (1, self.its_registers()),
            (3 if self.config.its_on_error == "stall" else 0, st.just(Repair())),
            (3, self.physical()),
            (3, self.virtual()),
            (3, self.apics()),
            (3, self.endpoints()),
            (1, self.memory()),
            (1, self.tables()),
        )

    # Interrupt controller ---------------------------------------------------------------------

    def handling(self):
        guest = st.sampled_from((False, False, True))
        end = st.sampled_from((True, True, True, True, False))
        return st.builds(Handle, self.cpus, guest, end, st.booleans())

    def distributor(self):
        base = DISTRIBUTOR.base
        fixed = st.sampled_from(tuple(Gicd))
        wild = pick(fixed, st.integers(0, 0xFFFF))
        affinity = st.sampled_from((0, 1, 2, 3, 0x100, 0x1_0000, 1 << 31))
        route = st.builds(
            lambda cpu, intid, value: on_cpu(cpu, "write", base + Gicd.IROUTER + 8 * intid, value),
            self.cpus,
            self.spis,
            affinity,
        )
        return pick(
            _state_bits(self.cpus, base, self.spis),
            _state_bits(self.cpus, base, self.spis),
            _priorities(self.cpus, base, self.spis),
            _triggers(self.cpus, base, self.spis),
            route,
            _access(self.cpus, base, st.just(Gicd.CTLR), st.sampled_from((2, 2, 2, 3, 2, 0))),
            _access(self.cpus, base, wild),
        )

    def redistributor(self):
        region = st.sampled_from([region.base for region in self.config.redistributors])
        return region.flatmap(self._redistributor)

    def _redistributor(self, base: int):
        sgi = base + SGI_FRAME
        lpi_registers = st.sampled_from(
            (Gicr.SETLPIR, Gicr.CLRLPIR, Gicr.INVLPIR, Gicr.INVALLR, Gicr.SYNCR)
        )
        return pick(
            _state_bits(self.cpus, sgi, self.privates),
            _state_bits(self.cpus, sgi, self.privates),
            _priorities(self.cpus, sgi, self.privates),
            _triggers(self.cpus, sgi, self.privates),
            _access(self.cpus, base, st.just(Gicr.WAKER), st.sampled_from((0, 0, 0, 2))),
            _access(self.cpus, base, st.just(Gicr.CTLR), st.sampled_from((1, 1, 0))),
            _access(self.cpus, base, lpi_registers, self.lpis),
            _access(self.cpus, base, st.integers(0, 0x1FFFF)).filter(
                lambda call: not _is_table_base(call.arguments[0] - base)
            ),
        )

    def wires(self):
        levels = st.booleans()
        return pick(
            st.builds(lambda n, level: on_bench("set_wire", n, level), self.spis, levels),
            st.builds(
                lambda cpu, n, level: on_bench("set_ppi", cpu, n, level),
                self.cpus,
                st.sampled_from((16, 25, 31)),
                levels,
            ),
        )

    def physical(self):
        targets = st.builds(
            lambda intid, cpus, everyone, wild: intid << 24 | cpus | everyone << 40 | wild,
            st.sampled_from((0, 1, 7, 15, 4)),
            st.integers(0, 0xF),
            st.sampled_from((0, 0, 1)),
            st.sampled_from((0, 0, 0, 1 << 16, 1 << 32, 1 << 44, 1 << 48)),
        )
        return pick(
            *(self._sysreg("ICC_SGI1R_EL1", targets),) * 3,
            self._sysreg("ICC_PMR_EL1", pick(st.just(0xF8), st.just(0xFF), PRIORITIES)),
            self._sysreg("ICC_BPR1_EL1", st.integers(0, 7)),
            self._sysreg("ICC_CTLR_EL1", st.sampled_from((0, 2))),
            self._sysreg("ICC_EOIR1_EL1", self.intids),
            self._sysreg("ICC_DIR_EL1", self.intids),
            self._any_sysreg("ICC_"),
        )

    def virtual(self):
        hardware = st.builds(
            lambda v, p, priority, group, state: (
                v | p << 32 | priority << 48 | group << 60 | 1 << 61 | state << 62
            ),
            self.intids,
            pick(self.intids, st.sampled_from((0x420, 0x1020, 0x3FB, 0x3FC))),
            PRIORITIES,
            st.sampled_from((1, 1, 1, 0)),
            st.sampled_from((1, 1, 1, 2, 2, 0, 3)),
        )
        software = st.builds(
            lambda v, eoi, priority, group, state: (
                v | eoi << 41 | priority << 48 | group << 60 | state << 62
            ),
            self.intids,
            st.integers(0, 1),
            PRIORITIES,
            st.sampled_from((1, 1, 1, 0)),
            st.sampled_from((1, 1, 1, 2, 2, 0, 3)),
        )
        entry = st.sampled_from([f"ICH_LR{n}_EL2" for n in range(4)])
        return pick(
            *(entry.flatmap(lambda name: self._sysreg(name, hardware)),) * 2,
            *(entry.flatmap(lambda name: self._sysreg(name, software)),) * 2,
            self._sysreg("ICH_HCR_EL2", st.sampled_from((1, 1, 1, 0xFF, 0, 0x7D01))),
            self._sysreg("ICH_VMCR_EL2", st.sampled_from((0xF800_0002, 0xF800_0202, 0xFFFF_FFFF))),
            self._sysreg("ICV_EOIR1_EL1", self.intids),
            self._sysreg("ICV_DIR_EL1", self.intids),
            self._sysreg("ICV_PMR_EL1", pick(st.just(0xF8), st.just(0xFF), PRIORITIES)),
            self._any_sysreg("IC[HV]_"),
        )

    def _sysreg(self, name: str, values):
        return st.builds(
            lambda cpu, value: on_cpu(cpu, "write_sysreg", name, value), self.cpus, values
        )

    def _any_sysreg(self, prefix: str):
        names = [r.name for r in SystemRegister if r.name[: len("ICC_")] in _prefixes(prefix)]
        return pick(
            st.builds(
                lambda cpu, name: on_cpu(cpu, "read_sysreg", name),
                self.cpus,
                st.sampled_from(names),
            ),
            st.builds(
                lambda cpu, name, value: on_cpu(cpu, "write_sysreg", name, value),
                self.cpus,
                st.sampled_from(names),
                LONGS,
            ),
        )

    # LPIs and ITS -----------------------------------------------------------------------------

    def messages(self):
        """Devices' writes: to the ITS, to SETSPI and CLRSPI, to local APICs, to anything."""
        gicd = DISTRIBUTOR.base
        spi = pick(self.spis, self.spis, self.spis, st.sampled_from((0x120, 0x420, 0, 8192)))
        return pick(
            *(self._event(),) * 4,
            self._message(st.just(self.its + Gits.TRANSLATER), self.events),
            self._message(st.sampled_from((gicd + Gicd.SETSPI_NSR, gicd + Gicd.CLRSPI_NSR)), spi),
            self._message(self._apic_targets(), self._apic_data()),
            self._message(
                st.sampled_from(
                    (
                        self.its + Gits.TRANSLATER + 4,
                        self.its + Gits.TRANSLATER + 2,
                        gicd + Gicd.SETSPI_NSR + 2,
                        machines.SCRATCH,
                        machines.NOWHERE,
                        1 << 40,
                        APIC_WINDOW.base + 2,
                    )
                ),
                WORDS,
            ),
        )

    def _event(self):
        """An event that is likely to be mapped."""
        return st.builds(
            lambda pair: on_bench("message", self.its + Gits.TRANSLATER, pair[1], pair[0], 4),
            self._mapped(),
        )

    def _mapped(self):
        own, other, third, *_ = machines.device_ids(self.config)
        return st.sampled_from(
            (*((own, n) for n in range(8)), (other, 0), (other, 1), (other, 31), (third, 2))
        )

    def _message(self, addresses, data):
        return st.builds(
            lambda address, value, device, size: on_bench(
                "message", address, value & (1 << 8 * size) - 1, device, size
            ),
            addresses,
            data,
            self.devices,
            st.sampled_from((4, 4, 4, 4, 4, 2, 1)),
        )

    def commands(self):
        """Each command for the mapped and the unmapped; the unknown; reserved fields not zero."""
        return weighted(
            (3, self._commands(self._mapped(), st.integers(0, self.config.cpus - 1))),
            (1, self._commands(st.tuples(self.devices, self.events), self.collections)),
        )

    def _commands(self, events, c):
        d, t = self.devices, self.targets
        lpis = pick(self.lpis, self.lpis, st.sampled_from((0, 8191, 8192 + self.config.lpis)))
        sizes = st.sampled_from((1, 3, 5, 6, 8, 16, 17, 32))
        tables = st.sampled_from((*machines.EVENTS, machines.NOWHERE, DISTRIBUTOR.base))
        valid = st.sampled_from((True, True, True, False))
        good = (
            st.builds(gits.encode_mapd, d, sizes, tables, valid).filter(_fits),
            st.builds(gits.encode_mapc, c, t, valid),
            st.builds(lambda pair, lpi, c: gits.encode_mapti(*pair, lpi, c), events, lpis, c),
            st.builds(lambda pair, lpi, c: gits.encode_mapti(*pair, lpi, c), events, lpis, c),
            st.builds(gits.encode_mapi, d, pick(self.events, lpis), c),
            st.builds(lambda pair, c: gits.encode_movi(*pair, c), events, c),
            st.builds(lambda pair, c: gits.encode_movi(*pair, c), events, c),
            st.builds(gits.encode_movall, t, t),
            st.builds(gits.encode_movall, c, c),
            st.builds(lambda pair: gits.encode_discard(*pair), events),
            st.builds(lambda pair: gits.encode_int(*pair), events),
            st.builds(lambda pair: gits.encode_int(*pair), events),
            st.builds(lambda pair: gits.encode_clear(*pair), events),
            st.builds(lambda pair: gits.encode_inv(*pair), events),
            st.builds(gits.encode_invall, c),
            st.builds(gits.encode_sync, t),
        )
        opcodes = pick(st.integers(0, 255), st.sampled_from([int(o) | 0x20 for o in Opcode]))
        unknown = st.tuples(opcodes.filter(lambda o: o not in list(Opcode)), LONGS, LONGS, LONGS)
        reserved = st.builds(
            lambda words, first, last: (words[0] | first << 8, *words[1:3], words[3] | last),
            pick(*good),
            st.integers(0, (1 << 24) - 1),
            st.integers(0, 0xFFFF),
        )
        words = weighted((8, pick(*good)), (1, reserved), (1, unknown))
        return words.map(lambda words: Command(tuple(words)))

    def properties(self):
        """Bytes of the property table, by a CPU's store: hardware may notice or not."""
        return st.builds(
            lambda cpu, lpi, priority, enable: on_cpu(
                cpu, "write", machines.PROPERTIES + lpi - 8192, priority & 0xFC | 2 | enable, 1
            ),
            self.cpus,
            self.lpis,
            PRIORITIES,
            st.integers(0, 1),
        )

    def its_registers(self):
        base = self.its
        wild = pick(st.sampled_from(tuple(Gits)), st.integers(0, 0x1FF), st.integers(0, 0x1FFFF))
        return pick(
            _access(self.cpus, base, st.just(Gits.CTLR), st.sampled_from((1, 1, 1, 0))),
            self._store(base + Gits.CWRITER, st.integers(0, 24).map(lambda n: 32 * n)),
            self._store(base + Gits.CWRITER, st.sampled_from((1, 0x1000, 0x2000, 0xF_FFE1))),
            self._store(base + Gits.CWRITER, st.integers(0, 24).map(lambda n: 32 * n | RETRY)),
            _access(self.cpus, base, wild).filter(
                lambda call: not _is_its_base(call.arguments[0] - base)
            ),
        )

    def tables(self):
        """Where the tables are: takes effect while LPIs or the ITS are off."""
        valid, nowhere = machines.VALID, machines.NOWHERE
        devices = (valid | machines.DEVICES, valid | machines.FEW_DEVICES, valid | nowhere, 0)
        collections = (valid | machines.COLLECTIONS, valid | self.its, valid | nowhere, 0)
        queues = (valid | machines.QUEUE, valid | machines.SECOND_QUEUE | 1, valid | nowhere, 0)
        noise = st.sampled_from((0, 0, 0x0700_0000_0000_0C00))
        its = pick(
            self._long(self.its + Gits.BASER0, devices, noise),
            self._long(self.its + Gits.BASER1, collections, noise),
            self._long(self.its + Gits.CBASER, queues, noise),
        )
        properties = tuple(machines.PROPERTIES | bits for bits in (13, 13, 15, 12, 0))
        pending = (machines.pending_table(0), machines.pending_table(1))
        frames = []
        for region in self.config.redistributors:
            frames += [
                self._long(region.base + Gicr.PROPBASER, (*properties, nowhere | 13), noise),
                self._long(
                    region.base + Gicr.PENDBASER,
                    (*pending, pending[0] | machines.ALL_ZERO, nowhere),
                    noise,
                ),
            ]
        return pick(its, *frames)

    def _long(self, address: int, values, noise):
        return st.builds(
            lambda cpu, value, bits: machines.store64(cpu, address, value | bits),
            self.cpus,
            st.sampled_from(values),
            noise,
        )

    def _store(self, address: int, values):
        return st.builds(lambda cpu, value: on_cpu(cpu, "write", address, value), self.cpus, values)

    # x86 and PCI ------------------------------------------------------------------------------

    def _apic_targets(self):
        destinations = pick(st.sampled_from((0, 1, 2, 3, 0xFF)), st.integers(0, 0xFF))
        modes = st.sampled_from((0, 0, 0, 4, 8, 12, 0xFF0))
        return st.builds(lambda d, mode: APIC_WINDOW.base | d << 12 | mode, destinations, modes)

    def _vectors(self):
        return pick(st.sampled_from((0x0F, 0x10, 0x30, 0x31, 0x80, 0xFF)), st.integers(0, 255))

    def _apic_data(self):
        modes = st.sampled_from((0, 0, 0, 0x100, 0x200, 0x400, 0x8000, 0xC000, 0x4000))
        return st.builds(lambda vector, mode: vector | mode, self._vectors(), modes)

    def apics(self):
        base = APIC_WINDOW.base
        command = st.builds(
            lambda data, shorthand, logical: data | shorthand << 18 | logical << 11,
            self._apic_data(),
            st.integers(0, 3),
            st.integers(0, 1),
        )
        interrupt = st.builds(lambda cpu: on_cpu(cpu, "read_sysreg", "LAPIC_INTA"), self.cpus)
        registers = pick(st.sampled_from(tuple(LapicRegister)), st.integers(0, 0xFFF))
        tops = st.integers(0, 0xFF).map(lambda byte: byte << 24)
        return pick(
            interrupt,
            interrupt,
            self._store(base + LapicRegister.EOI, st.just(0)),
            self._store(base + LapicRegister.ICR_LOW, command),
            self._store(base + LapicRegister.ICR_HIGH, tops),
            self._store(base + LapicRegister.TPR, st.sampled_from((0, 0, 0x2F, 0x30, 0xFF))),
            self._store(base + LapicRegister.SVR, st.sampled_from((0x1FF, 0x1FF, 0xFF, 0x121))),
            self._store(base + LapicRegister.LDR, tops),
            self._store(base + LapicRegister.DFR, st.sampled_from((0xFFFF_FFFF, 0, 1 << 28))),
            _access(self.cpus, base, registers),
        )

    def endpoints(self):
        numbers = range(len(self.config.endpoints))
        return pick(*(self._endpoint(k) for k in numbers))

    def _endpoint(self, k: int):
        endpoint = self.config.endpoints[k]
        event = st.integers(0, endpoint.vectors - 1).map(lambda n: on_endpoint(k, "raise_event", n))
        unplug = st.sampled_from((True, False)).map(lambda gone: on_endpoint(k, "unplug", gone))
        parts = [event, event, event, self._config(k), self._bar(k)]
        if endpoint.msi != "none":
            parts += [self._msi(k)] * 2
        if endpoint.msix_vectors:
            parts += [self._msix(k)] * 2
        return pick(*parts, unplug) if k else pick(*parts)

    def _destinations(self):
        return st.sampled_from(
            (
                self.its + Gits.TRANSLATER,
                self.its + Gits.TRANSLATER,
                DISTRIBUTOR.base + Gicd.SETSPI_NSR,
                APIC_WINDOW.base,
                APIC_WINDOW.base | 1 << 12,
                pci.ECAM_BASE | 1 << 15,
                pci.MMIO_BASE + pci.Device.TRIGGER,
                0x6000_0000,
            )
        )

    def _config(self, k: int):
        """Command, BAR, and any byte of the configuration space."""
        command = st.sampled_from((6, 6, 4, 2, 0, 0x406, 0xFFFF))
        place = st.sampled_from((machines.bar(k), machines.bar(k), machines.bar(0), 0xFFFF_FFFF))
        sizes = st.sampled_from((1, 2, 4))
        offsets = st.integers(0, 0x40 * (len(self.config.endpoints[k].capabilities) + 1) + 8)
        read = st.builds(
            lambda offset, size: on_endpoint(k, "config_read", offset & -size, size), offsets, sizes
        )
        write = st.builds(
            lambda offset, value, size: on_endpoint(
                k, "config_write", offset & -size, value & (1 << 8 * size) - 1, size
            ),
            offsets,
            WORDS,
            sizes,
        ).filter(lambda call: not _moves_a_message(self.config.endpoints[k], call.arguments[0]))
        return pick(
            command.map(lambda v: on_endpoint(k, "config_write", pci.Header.COMMAND, v, 2)),
            place.map(lambda v: on_endpoint(k, "config_write", pci.Header.BAR0, v, 4)),
            read,
            write,
        )

    def _msi(self, k: int):
        endpoint = self.config.endpoints[k]
        base, wide = endpoint.capability("msi"), endpoint.msi == "64"
        flags = st.integers(0, 7).map(lambda n: n << 4 | 1)
        data = pick(self.events, self.spis, self._vectors()).map(lambda n: n & 0xFFFF)

        def write(offset, values, size):
            return values.map(lambda v: on_endpoint(k, "config_write", base + offset, v, size))

        parts = [
            write(pci.MSI_FLAGS, pick(flags, flags, st.just(0)), 2),
            write(pci.MSI_ADDRESS_LO, self._destinations(), 4),
            write(pci.msi_data(wide), data, 2),
        ]
        if wide:
            parts.append(write(pci.MSI_ADDRESS_HI, st.sampled_from((0, 0, 0, 1, 0x100)), 4))
        if endpoint.maskable:
            masks = st.sampled_from((0, 0, 0xFF, 0x55, 1))
            parts.append(write(pci.msi_mask(wide), masks, 4))
        return pick(*parts)

    def _msix(self, k: int):
        base = self.config.endpoints[k].capability("msix")
        flags = st.sampled_from((0x8000, 0x8000, 0xC000, 0))
        return pick(
            flags.map(lambda v: on_endpoint(k, "config_write", base + pci.MSIX_FLAGS, v, 2)),
            self._table(k),
            self._table(k),
        )

    def _table(self, k: int):
        last = self.config.endpoints[k].msix_vectors - 1
        entry = st.sampled_from((0, 1, min(31, last), min(32, last), last)).map(
            lambda n: machines.bar(k) + pci.BAR_MSIX_TABLE + pci.MSIX_ENTRY_SIZE * n
        )
        data = pick(self.events, self.spis, self._vectors())

        def write(offset, values):
            return st.builds(
                lambda cpu, place, value: on_cpu(cpu, "write", place + offset, value),
                self.cpus,
                entry,
                values,
            )

        return pick(
            write(pci.MSIX_ENTRY_ADDRESS_LO, self._destinations()),
            write(pci.MSIX_ENTRY_DATA, data),
            write(pci.MSIX_ENTRY_CONTROL, st.sampled_from((0, 0, 1, 0xFFFF_FFFE))),
        )

    def _bar(self, k: int):
        """The event device, without its generator; pending bits; loads from all of it."""
        base = machines.bar(k)
        acknowledge = base + pci.Device.ACKNOWLEDGE
        dma = (machines.SCRATCH, machines.SCRATCH + 0x40, 0x6000_0000, machines.SCRATCH + 3)
        return pick(
            self._store(acknowledge, st.integers(0, 6)),
            self._store(base + pci.Device.TRIGGER, st.integers(0, 64)),
            self._store(base + pci.Device.DMA_ADDRESS_LO, st.sampled_from(dma)),
            self._store(base + pci.Device.DMA_CONTROL, st.sampled_from((0, 1))),
            _access(self.cpus, base, st.sampled_from((0, 4, 8, 12, 0x10, 0x14, 0x18, 0x30))),
            _access(self.cpus, base, st.integers(0, 0x1FFF)).filter(
                lambda call: call.method == "read" and not _is_generator(call.arguments[0] - base)
            ),
        )

    # Stories ----------------------------------------------------------------------------------

    def stories(self):
        """What takes several steps in a certain order, and would seldom come about by chance."""
        return pick(
            st.builds(self._moved_while_active, self.cpus, self.cpus, self.spis),
            st.builds(self._forwarded, self.cpus, self.privates, self.intids, st.booleans()),
            st.builds(self._sgi_of_group_0, self.cpus, self.cpus, st.integers(0, 15)),
            st.builds(self._moved_while_pending, self._mapped(), self.cpus, self.cpus),
            st.builds(self._lpis_off, self.cpus, self._mapped(), self.cpus),
        )

    def _moved_while_active(self, old: int, new: int, spi: int):
        gicd = DISTRIBUTOR.base
        route = gicd + Gicd.IROUTER + 8 * spi
        return [
            on_cpu(old, "write", route, old),
            on_cpu(old, "write", gicd + Gicd.IPRIORITYR + spi, 0, 1),
            on_cpu(old, "write", gicd + Gicd.ISPENDR + spi // 32 * 4, 1 << spi % 32),
            Handle(old, end=False),
            on_cpu(old, "write", route, new),
            on_cpu(old, "write_sysreg", "ICC_EOIR1_EL1", spi),
            on_cpu(old, "write_sysreg", "ICC_DIR_EL1", spi),
        ]

    def _forwarded(self, cpu: int, intid: int, virtual: int, named: bool):
        """A private interrupt is given to the guest; its pINTID may have a bit too many."""
        frame = self.config.redistributors[cpu].base + SGI_FRAME
        physical = intid if named else intid | 1 << 10
        return [
            on_cpu(cpu, "write", frame + Gicd.IPRIORITYR + intid, 0, 1),
            on_cpu(cpu, "write_sysreg", "ICC_CTLR_EL1", 2),
            on_cpu(cpu, "write", frame + Gicd.ISPENDR, 1 << intid),
            Handle(cpu),
            on_cpu(
                cpu,
                "write_sysreg",
                "ICH_LR1_EL2",
                virtual | physical << 32 | 1 << 60 | 1 << 61 | 1 << 62,
            ),
            Handle(cpu, guest=True),
        ]

    def _sgi_of_group_0(self, sender: int, cpu: int, sgi: int):
        frame = self.config.redistributors[cpu].base + SGI_FRAME
        return [
            on_cpu(cpu, "write", frame + Gicd.IGROUPR, 0xFFFF_FFFF ^ 1 << sgi),
            on_cpu(sender, "write_sysreg", "ICC_SGI1R_EL1", sgi << 24 | 1 << cpu),
            on_cpu(cpu, "write", frame + Gicd.IGROUPR, 0xFFFF_FFFF),
        ]

    def _moved_while_pending(self, pair, old: int, new: int):
        message = on_bench("message", self.its + Gits.TRANSLATER, pair[1], pair[0], 4)
        move = Command(gits.encode_movi(*pair, new))
        return [Command(gits.encode_movi(*pair, old)), message, move, message, Handle(old)]

    def _lpis_off(self, cpu: int, pair, other: int):
        """A redistributor forgets its LPIs or finds them again, and meets one that moves in."""
        control = self.config.redistributors[cpu].base + Gicr.CTLR
        message = on_bench("message", self.its + Gits.TRANSLATER, pair[1], pair[0], 4)
        return [
            Command(gits.encode_movi(*pair, other)),
            message,
            on_cpu(cpu, "write", control, 0),
            Command(gits.encode_movall(other, cpu)),
            on_cpu(cpu, "write", control, 1),
        ]

    # Memory -----------------------------------------------------------------------------------

    def memory(self):
        offsets = st.integers(0, machines.SCRATCH_BYTES - 1)
        bit = st.integers(0, self.config.lpis // 8 - 1)
        return pick(
            _access(self.cpus, machines.SCRATCH, offsets),
            st.builds(
                lambda cpu, n, value: on_ram(
                    "write", machines.pending_table(cpu) + 0x400 + n, bytes((value,))
                ),
                self.cpus,
                bit,
                st.integers(0, 255),
            ),
            st.sampled_from((0, RAM_BASE - 4, machines.NOWHERE, 1 << 40, RAM_BASE + 1)).flatmap(
                lambda address: st.sampled_from(
                    (on_cpu(0, "read", address), on_cpu(0, "write", address, 0))
                )
            ),
        )


def _prefixes(prefix: str) -> tuple[str, ...]:
    return ("ICH_", "ICV_") if prefix == "IC[HV]_" else (prefix,)


def _fits(words) -> bool:
    """A table of more than 256 events only where it ends with RAM."""
    return words[1] & 0x1F < 8 or words[2] & (1 << 52) - 1 not in machines.EVENTS[:3]


def _is_table_base(offset: int) -> bool:
    return offset & ~7 in (Gicr.PROPBASER, Gicr.PENDBASER)


def _is_its_base(offset: int) -> bool:
    return offset & ~7 in (Gits.CBASER, Gits.BASER0, Gits.BASER1)


def _is_generator(offset: int) -> bool:
    return FIRST_GENERATOR <= offset < LAST_GENERATOR + 4


def _moves_a_message(endpoint, offset: int) -> bool:
    """Addresses of messages and of the BAR have a choice of their own."""
    if offset & ~7 == pci.Header.BAR0:
        return True
    if endpoint.msi == "none":
        return False
    base = endpoint.capability("msi")
    return base + pci.MSI_ADDRESS_LO <= offset & ~3 < base + pci.msi_data(endpoint.msi == "64")
