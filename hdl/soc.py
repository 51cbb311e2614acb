"""Assembly: CPU ports, RAM, interrupt controllers and devices on one bus."""

from dataclasses import dataclass

from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .apic.local_apic import LocalApic
from .apic.message_bus import ApicMessageBus
from .bus import Interconnect, Region, Requester, RequesterKind
from .cpu_port import CpuLink, CpuPort, OperationLink
from .memory import Ram
from .probe import ProbeSignature
from .sysreg_decoder import SysregDecoder
from .tap import TapSignature

RAM_BASE = 0x4000_0000
RAM_LIMIT = 512 << 20
APIC_WINDOW = Region("apic", 0xFEE0_0000, 1 << 20)
EXTERNAL_UNIT = 0xFE
"""``unit`` of the external initiator in BUS_ERROR records."""


def _check_integer(name, value, low, high, *, power_of_two=False):
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"SocConfig.{name} must be an integer, not {value!r}")
    if not low <= value <= high:
        raise ValueError(f"SocConfig.{name} must be between {low} and {high}, not {value}")
    if power_of_two and value & (value - 1):
        raise ValueError(f"SocConfig.{name} must be a power of two, not {value}")


def _check_flag(name, value):
    if not isinstance(value, bool):
        raise TypeError(f"SocConfig.{name} must be True or False, not {value!r}")


@dataclass(frozen=True)
class SocConfig:
    """How many of what. What a sweep varies is an input of the :class:`Soc`, not here.

    Attributes
    ----------
    cpus : int
        CPU ports, and what comes one to a CPU (1 to 8).
    ram_bytes : int
        RAM at 0x4000_0000; a power of two from 4 KiB to 512 MiB.
    local_apics : bool
        A local APIC per CPU, and the message window at 0xFEE0_0000.
    """

    cpus: int = 2
    ram_bytes: int = 4 << 20
    local_apics: bool = True

    def __post_init__(self):
        _check_integer("cpus", self.cpus, 1, 8)
        _check_integer("ram_bytes", self.ram_bytes, 4096, RAM_LIMIT, power_of_two=True)
        _check_flag("local_apics", self.local_apics)


class Soc(wiring.Component):
    """The whole machine.

    Members
    -------
    cpu : array of In(CpuLink()), one per CPU
    external : In(OperationLink())
        An initiator outside the chip, for debuggers and stray bus masters; it has no system
        registers.
    external_requester : In(Requester)
        In whose name it asks.
    tap : array of Out(TapSignature()); :attr:`channels` names them
    tap_active : Out(channels)
        One bit a channel: its ``valid``.
    probe : In(ProbeSignature(cpus))
    ram_written, ram_index : Out
        See :class:`hdl.memory.Ram`.
    """

    def __init__(self, config: SocConfig = SocConfig()):
        self.config = config
        cpus = range(config.cpus)
        apics = config.local_apics
        self._ram = Ram(config.ram_bytes)
        self._ports = [CpuPort(i, private=apics, sysregs=True) for i in cpus]
        self._external = CpuPort(EXTERNAL_UNIT, private=False, sysregs=False)
        self._apics = [LocalApic(i) for i in cpus] if apics else []
        self._apic_bus = ApicMessageBus(config.cpus) if apics else None

        channels = dict(self._tap_channels())
        self.channels = tuple(channels)
        self._taps = tuple(channels.values())
        super().__init__(
            {
                "cpu": In(CpuLink()).array(config.cpus),
                "external": In(OperationLink()),
                "external_requester": In(Requester),
                "tap": Out(TapSignature()).array(len(channels)),
                "tap_active": Out(len(channels)),
                "probe": In(ProbeSignature(config.cpus)),
                "ram_written": Out(1),
                "ram_index": Out(range(self._ram.words)),
            }
        )

    def _tap_channels(self):
        """Name and channel of every source of events, causes before effects."""
        if self._apic_bus:
            yield "apic_bus", self._apic_bus.tap
        for i, apic in enumerate(self._apics):
            yield f"apic{i}", apic.tap[0]
            yield f"apic{i}_line", apic.tap[1]
        for i, port in enumerate(self._ports):
            yield f"cpu{i}", port.tap
        yield "external", self._external.tap

    def elaborate(self, platform):
        m = Module()
        initiators = []
        targets = []
        self._add_external(m, initiators)
        self._add_cpus(m, initiators)
        self._add_ram(m, targets)
        if self._apic_bus:
            self._add_apics(m, targets)

        m.submodules.interconnect = interconnect = Interconnect(
            len(initiators), [region for region, _ in targets]
        )
        for initiator, port in zip(initiators, interconnect.initiators, strict=True):
            wiring.connect(m, initiator, port)
        for (_, target), port in zip(targets, interconnect.targets, strict=True):
            wiring.connect(m, port, target)

        for out, channel in zip(self.tap, self._taps, strict=True):
            m.d.comb += [out.valid.eq(channel.valid), out.record.eq(channel.record)]
        m.d.comb += self.tap_active.eq(Cat(channel.valid for channel in self._taps))
        return m

    def _add_external(self, m, initiators):
        m.submodules.external = self._external
        m.d.comb += self._external.requester.eq(self.external_requester)
        wiring.connect(m, wiring.flipped(self.external), self._external.link)
        initiators.append(self._external.bus)

    def _add_cpus(self, m, initiators):
        for i, port in enumerate(self._ports):
            m.submodules[f"cpu{i}"] = port
            m.submodules[f"sysregs{i}"] = sysregs = SysregDecoder(
                gic=False, apic=self.config.local_apics
            )
            m.d.comb += [port.requester.id.eq(i), port.requester.kind.eq(RequesterKind.CPU)]
            wiring.connect(m, wiring.flipped(self.cpu[i].port), port.link)
            wiring.connect(m, port.sysreg, sysregs.cpu)
            initiators.append(port.bus)
            if self._apics:
                apic = self._apics[i]
                m.submodules[f"apic{i}"] = apic
                wiring.connect(m, port.private, apic.private)
                wiring.connect(m, sysregs.apic, apic.inta)
                m.d.comb += self.cpu[i].intr.eq(apic.intr)
            m.d.comb += [self.cpu[i].irq.eq(0), self.cpu[i].virq.eq(0)]

    def _add_ram(self, m, targets):
        m.submodules.ram = ram = self._ram
        m.d.comb += [self.ram_written.eq(ram.written), self.ram_index.eq(ram.index)]
        targets.append((Region("ram", RAM_BASE, self.config.ram_bytes), ram.bus))

    def _add_apics(self, m, targets):
        m.submodules.apic_bus = self._apic_bus
        for apic, link in zip(self._apics, self._apic_bus.link, strict=True):
            wiring.connect(m, apic.link, link)
        targets.append((APIC_WINDOW, self._apic_bus.bus))
