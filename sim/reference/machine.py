"""Everything at its address: a machine to hold against the hardware."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from .bits import WORD
from .cpu_interface import CpuInterface, sgi_targets
from .endpoint import CONFIG_BYTES, Endpoint
from .faults import BusFaultError, UndefinedRegisterError
from .gicd import Distributor, affinity
from .gicr import SGI_BASE, Redistributor
from .implementation import AddressMap, Implementation, PciLayout
from .its import Its, TranslationFrame
from .lapic import ApicBus, LocalApic
from .memory import Memory
from .shape import Shape
from .virtual import VirtualInterface

BUS_LIMIT = 1 << 40
"""Bus addresses have 40 bits; nothing answers above."""

FRAME_BITS = 16
LAPIC_BYTES, LAPIC_WINDOW_BYTES = 0x1000, 0x10_0000


class Frame(Protocol):
    """64 KiB of registers, accessed by aligned words."""

    def narrow(self, offset: int) -> bool: ...
    def read(self, offset: int) -> int: ...
    def write(self, offset: int, value: int, lanes: int) -> None: ...


class Place(NamedTuple):
    """A frame on the bus; ``start`` is the offset of its first byte within the frame's block."""

    frame: Frame
    start: int


class ReferenceMachine:
    """The functional model behind ``Bench(host="reference")``.

    Every access takes effect at once. Same inputs, same state: there is no time and no chance.

    Parameters
    ----------
    config : object with the fields of SocConfig, optional
        See :class:`.shape.Shape` for the fields that count and their defaults.
    implementation, addresses : optional
        What the architecture leaves open, where things are.
    pci : PciLayout or sequence of PciLayout, optional
        How functions look: all the same, or one for each.

    Attributes
    ----------
    counters : collections.Counter
        What was dropped, and why. Not architectural, so not part of :meth:`state`.
    """

    def __init__(
        self,
        config: "object | None" = None,
        implementation: "Implementation | None" = None,
        addresses: "AddressMap | None" = None,
        pci: "PciLayout | Sequence[PciLayout] | None" = None,
    ):
        self.shape = shape = Shape() if config is None else Shape.of(config)
        self.implementation = choices = implementation or Implementation()
        self.addresses = addresses = addresses or AddressMap()
        count = len(shape.endpoints)
        if pci is None or isinstance(pci, PciLayout):
            pci = (pci or PciLayout(),) * count
        if len(pci) != count:
            raise ValueError(f"There must be one PciLayout for each of {count}, not {len(pci)}")
        self.pci = tuple(pci)
        self.counters: Counter = Counter()
        cpus = range(shape.cpus)
        self.memory = Memory(addresses.ram, shape.ram_bytes)
        self.distributor = Distributor(shape, choices)
        self.redistributors = [Redistributor(i, shape, choices, self.memory) for i in cpus]
        self.interfaces = [
            CpuInterface(i, self.distributor, self.redistributors[i], choices, self._send_sgi)
            for i in cpus
        ]
        self.virtual = [
            VirtualInterface(choices, self.interfaces[i].deactivate, self._maintenance(i))
            for i in cpus
        ]
        self.its = None
        if shape.gic and shape.its:
            self.its = Its(shape, choices, self.memory, self.redistributors, self.counters)
        self.apics = ApicBus(shape.cpus, choices, self.counters) if shape.local_apics else None
        self.endpoints = [
            Endpoint(
                endpoint,
                choices,
                self.pci[k],
                self._sender(self.pci[k].requester_id(k)),
                self._blocked,
                self._pin(k),
            )
            for k, endpoint in enumerate(shape.endpoints)
        ]
        self._affinities = [affinity(i) for i in cpus]
        self._sysregs = [self._registers(i) for i in cpus]
        self._places = self._map()

    # Assembly ---------------------------------------------------------------------------------

    def _registers(self, cpu: int) -> dict:
        registers = {}
        if self.shape.gic:
            registers = {**self.interfaces[cpu].registers, **self.virtual[cpu].registers}
        if self.apics:
            registers["LAPIC_INTA"] = (self.apics.apics[cpu].acknowledge, None)
        return registers

    def _map(self) -> dict[int, Place]:
        """Frames by the upper bits of their addresses."""
        if not self.shape.gic:
            return {}
        places = {self.addresses.gicd: Place(self.distributor, 0)}
        for i, redistributor in enumerate(self.redistributors):
            base = self.addresses.redistributor(i)
            places[base] = Place(redistributor, 0)
            places[base + SGI_BASE] = Place(redistributor, SGI_BASE)
        if self.its:
            places[self.addresses.gits] = Place(self.its, 0)
            places[self.addresses.gits_translation] = Place(TranslationFrame(self.its), 0)
        return {base >> FRAME_BITS: place for base, place in places.items()}

    def _maintenance(self, cpu: int):
        private = self.redistributors[cpu].private
        intid = self.implementation.maintenance_intid
        return lambda level: private.set_line(intid, level, "maintenance")

    def _sender(self, requester: int):
        def send(address: int, data: int) -> None:
            try:
                if self._function(address) or self._bar(address):  # no way back into the bridge
                    raise BusFaultError(address)
                self.message(address, data, requester)
            except BusFaultError:  # a posted write: nobody is told
                self.counters["message: no target"] += 1

        return send

    def _blocked(self) -> None:
        self.counters["message: bus mastering off"] += 1

    def _pin(self, endpoint: int):
        layout = self.pci[endpoint]
        intid = layout.intx_intids[(layout.first_device + endpoint + layout.pin - 1) % 4]
        spis = self.distributor.spis
        if intid not in spis or not self.shape.gic:
            return lambda level: None
        return lambda level: spis.set_line(intid, level, ("pin", endpoint))

    def _send_sgi(self, sender: int, value: int) -> None:
        intid = value >> 24 & 0xF
        for cpu in sgi_targets(sender, value, self._affinities):
            private = self.redistributors[cpu].private
            if private.group1 >> intid & 1 or not self.implementation.sgi_checks_group:
                private.set_pending(intid)

    # Loads and stores -------------------------------------------------------------------------

    def load(self, cpu: int, address: int, size: int = 4) -> int:
        """Read ``size`` bytes (1, 2, 4, or 8 as two words, the low one first) as CPU ``cpu``.

        Raises BusFaultError where nothing answers and for an address not aligned to the size.
        """
        self._check_cpu(cpu)
        if size == 8:
            return self.load(cpu, address) | self.load(cpu, address + 4) << 32
        self._check_access(address, size)
        if self._own_apic(cpu, address) and size != 4:
            self._check_narrow(address)
        word = self._read(cpu, address & ~3)
        return word >> 8 * (address & 3) & (1 << 8 * size) - 1

    def store(self, cpu: int, address: int, value: int, size: int = 4) -> None:
        """Write ``size`` bytes; see :meth:`load`."""
        self._check_cpu(cpu)
        if size == 8:
            self.store(cpu, address, value & WORD)
            self.store(cpu, address + 4, value >> 32)
            return
        self._check_access(address, size)
        self._write(cpu, address, value, size)

    @staticmethod
    def _check_access(address: int, size: int) -> None:
        if size not in (1, 2, 4):
            raise ValueError(f"An access has 1, 2, 4 or 8 bytes, not {size}")
        if address % size or not 0 <= address < BUS_LIMIT:
            raise BusFaultError(address)

    def _check_cpu(self, cpu: int) -> None:
        if not 0 <= cpu < self.shape.cpus:
            raise ValueError(f"CPU must be between 0 and {self.shape.cpus - 1}, not {cpu}")

    def _read(self, cpu: int, address: int) -> int:
        """The word at an aligned address, for a CPU."""
        if address in self.memory:
            return int.from_bytes(self.memory.read(address, 4), "little")
        place = self._places.get(address >> FRAME_BITS)
        if place is not None:
            return place.frame.read(place.start + (address & 0xFFFF))
        if (apic := self._own_apic(cpu, address)) is not None:
            return apic.read(address - self.addresses.lapic)
        return self._read_pci(address)

    def _write(self, cpu: int, address: int, value: int, size: int) -> None:
        place, choices = self._places.get(address >> FRAME_BITS), self.implementation
        if address in self.memory:
            self._write_ram(address, value, size)
        elif place and isinstance(place.frame, TranslationFrame) and choices.cpu_messages:
            self.message(address, value, cpu, size)
        elif place is not None:
            self._write_frame(place, address, value, size)
        elif (apic := self._own_apic(cpu, address)) is not None:
            word, lanes = _lanes(address, value, size)
            if lanes != WORD:
                self._check_narrow(address)
            if lanes == WORD or choices.lapic_narrow == "merge":
                apic.write(address - self.addresses.lapic & ~3, word, lanes)
        else:
            self._write_pci(address, value, size)

    def _write_ram(self, address: int, value: int, size: int) -> None:
        self.memory.write(address, (value & (1 << 8 * size) - 1).to_bytes(size, "little"))

    def _write_frame(self, place: Place, address: int, value: int, size: int) -> None:
        offset = place.start + (address & 0xFFFC)
        word, lanes = _lanes(address, value, size)
        narrow = lanes != WORD and not place.frame.narrow(offset)
        if not narrow or self.implementation.narrow_writes == "merge":
            place.frame.write(offset, word, lanes)

    def _check_narrow(self, address: int) -> None:
        """An access to a part of a local APIC's register."""
        if self.implementation.lapic_narrow == "error":
            raise BusFaultError(address)

    def _own_apic(self, cpu: int, address: int) -> "LocalApic | None":
        """The local APIC of the CPU itself, if that is where ``address`` is."""
        if self.apics and 0 <= address - self.addresses.lapic < LAPIC_BYTES:
            return self.apics.apics[cpu]
        return None

    # PCI windows ------------------------------------------------------------------------------

    def _function(self, address: int) -> "tuple[Endpoint | None, int] | None":
        """Which endpoint, if any, and which register an ECAM address names."""
        offset = address - self.addresses.ecam
        if not (self.endpoints and 0 <= offset < self.addresses.ecam_bytes):
            return None
        function, register = divmod(offset, CONFIG_BYTES)
        for k, endpoint in enumerate(self.endpoints):
            if self.pci[k].requester_id(k) == function and endpoint.present:
                return endpoint, register
        return None, register

    def _bar(self, address: int) -> "tuple[Endpoint | None, int] | None":
        """Which endpoint, if any, and which BAR offset an MMIO address names."""
        offset = address - self.addresses.mmio
        if not (self.endpoints and 0 <= offset < self.addresses.mmio_bytes):
            return None
        for endpoint in self.endpoints:
            if endpoint.bar is not None:
                base, size = endpoint.bar
                if base <= address < base + size:
                    return endpoint, address - base
        return None, 0

    def _read_pci(self, address: int) -> int:
        """What no function claims reads as all ones, as a PCI master abort does."""
        if (function := self._function(address)) is not None:
            endpoint, register = function
            return WORD if endpoint is None else endpoint.config_read(register, 4)
        if (bar := self._bar(address)) is not None:
            endpoint, offset = bar
            return WORD if endpoint is None else endpoint.bar_read(offset)
        raise BusFaultError(address)

    def _write_pci(self, address: int, value: int, size: int) -> None:
        if (function := self._function(address)) is not None:
            endpoint, register = function
            if endpoint is not None:
                endpoint.config_write(register, value, size)
        elif (bar := self._bar(address)) is not None:
            endpoint, offset = bar
            if endpoint is not None:
                endpoint.bar_write(offset & ~3, *_lanes(address, value, size))
        else:
            raise BusFaultError(address)

    # Devices ----------------------------------------------------------------------------------

    def message(self, address: int, data: int, device_id: int, size: int = 4) -> None:
        """A memory write of 1, 2 or 4 bytes by the device ``device_id``.

        Raises BusFaultError where nothing answers; an endpoint's own message is lost there.
        """
        if size not in (1, 2, 4):
            raise ValueError(f"A message has 1, 2 or 4 bytes, not {size}")
        self._check_access(address, size)
        place = self._places.get(address >> FRAME_BITS)
        if place is not None and isinstance(place.frame, TranslationFrame):
            word, lanes = _lanes(address, data, size)
            place.frame.message(address & 0xFFFC, word, lanes, device_id)
        elif place is not None:
            self._write_frame(place, address, data, size)
        elif address in self.memory:
            self._write_ram(address, data, size)
        elif self.apics and 0 <= address - self.addresses.lapic < LAPIC_WINDOW_BYTES:
            self.apics.message(address, *_lanes(address, data, size))
        else:
            self._write_pci(address, data, size)

    def config_read(self, endpoint: int, offset: int, size: int = 4) -> int:
        """Read a function's configuration space as the host bridge does."""
        self._check_config(endpoint, offset, size)
        return self.endpoints[endpoint].config_read(offset, size)

    def config_write(self, endpoint: int, offset: int, value: int, size: int = 4) -> None:
        self._check_config(endpoint, offset, size)
        self.endpoints[endpoint].config_write(offset, value, size)

    def _check_config(self, endpoint: int, offset: int, size: int) -> None:
        self._check_endpoint(endpoint)
        if size not in (1, 2, 4):
            raise ValueError(f"A configuration access has 1, 2 or 4 bytes, not {size}")
        if offset % size or not 0 <= offset < CONFIG_BYTES:
            raise ValueError(
                f"A configuration offset must be a multiple of its size below {CONFIG_BYTES:#x}, "
                f"not {offset:#x}"
            )

    def _check_endpoint(self, endpoint: int) -> None:
        if not 0 <= endpoint < len(self.endpoints):
            raise ValueError(
                f"Endpoint must be below {len(self.endpoints)}, their number, not {endpoint}"
            )

    def raise_event(self, endpoint: int, vector: int = 0) -> None:
        """The device has something to say."""
        self._check_endpoint(endpoint)
        self.endpoints[endpoint].raise_event(vector)

    def unplug(self, endpoint: int, gone: bool = True) -> None:
        """Pull a function out, or put it back in its reset state."""
        self._check_endpoint(endpoint)
        self.endpoints[endpoint].unplug(bool(gone))

    def set_wire(self, intid: int, level: bool) -> None:
        """Drive the wired input of an SPI."""
        if intid not in self.distributor.spis:
            last = 31 + self.shape.spis
            raise ValueError(f"A wired SPI must be between 32 and {last}, not {intid}")
        self.distributor.spis.set_line(intid, bool(level))

    def set_ppi(self, cpu: int, intid: int, level: bool) -> None:
        """Drive one CPU's private input."""
        self._check_cpu(cpu)
        if not 16 <= intid < 32:
            raise ValueError(f"A PPI must be between 16 and 31, not {intid}")
        self.redistributors[cpu].private.set_line(intid, bool(level))

    # System registers and lines ---------------------------------------------------------------

    def read_sysreg(self, cpu: int, name: str) -> int:
        """Read a system register by its architectural name.

        ``LAPIC_INTA`` is the interrupt-acknowledge cycle of an x86 CPU. A name that is unknown or
        write-only raises UndefinedRegisterError.
        """
        self._check_cpu(cpu)
        read, _ = self._sysregs[cpu].get(name, (None, None))
        if read is None:
            raise UndefinedRegisterError(name, "read")
        return read()

    def write_sysreg(self, cpu: int, name: str, value: int) -> None:
        """Write a system register; see :meth:`read_sysreg`."""
        self._check_cpu(cpu)
        _, write = self._sysregs[cpu].get(name, (None, None))
        if write is None:
            raise UndefinedRegisterError(name, "written")
        write(value)

    def irq(self, cpu: int) -> bool:
        """The physical interrupt line of a CPU."""
        return self.interfaces[cpu].irq

    def virq(self, cpu: int) -> bool:
        """The virtual interrupt line of a CPU."""
        return self.virtual[cpu].virq

    def intr(self, cpu: int) -> bool:
        """The line of a CPU's local APIC; low if it has none."""
        return self.apics is not None and self.apics.apics[cpu].intr

    # Backdoor ---------------------------------------------------------------------------------

    def ram_read(self, address: int, count: int) -> bytes:
        return self.memory.read(address, count)

    def ram_write(self, address: int, data: bytes) -> None:
        """Change RAM; to caches of tables this is a store like any other."""
        self.memory.write(address, data)

    # Comparison -------------------------------------------------------------------------------

    def permitted_acknowledges(self, cpu: int) -> frozenset[int]:
        """What ICC_IAR1_EL1 may return now: more than one INTID only while property bytes that
        were changed without an invalidation decide about it."""
        self._check_cpu(cpu)
        return frozenset(self.interfaces[cpu].permitted())

    def acknowledge(self, cpu: int, intid: int, running: "int | None" = None) -> None:
        """Read IAR1 as other hardware did, with the permitted result ``intid``.

        ``running`` is its RPR afterwards. It tells of which priority the property bytes are that
        the hardware used, if several could be; without it the most urgent one counts.
        """
        self._check_cpu(cpu)
        self.interfaces[cpu].acknowledge(intid, running)

    def state(self) -> dict:
        """Architectural state, in plain dictionaries and lists.

        An LPI listed under ``uncertain`` may be treated by hardware according to any of the bytes
        given there; everything else is exact.
        """
        return {
            "distributor": self.distributor.state(),
            "cpus": [
                {
                    "redistributor": self.redistributors[i].state(),
                    "interface": self.interfaces[i].state(),
                    "virtual": self.virtual[i].state(),
                    "lapic": self.apics.apics[i].state() if self.apics else None,
                }
                for i in range(self.shape.cpus)
            ],
            "its": self.its.state() if self.its else None,
            "endpoints": [endpoint.state() for endpoint in self.endpoints],
        }


def _lanes(address: int, value: int, size: int) -> "tuple[int, int]":
    """``value`` moved to its place in the word, and the lanes it takes."""
    shift = 8 * (address & 3)
    mask = (1 << 8 * size) - 1
    return (value & mask) << shift, mask << shift
