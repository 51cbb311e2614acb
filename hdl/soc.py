"""Assembly: CPU ports, RAM, interrupt controllers and devices on one bus."""

from dataclasses import dataclass

from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .bus import Interconnect, Region, Requester, RequesterKind
from .cpu_port import CpuLink, CpuPort, OperationLink
from .memory import Ram
from .probe import ProbeSignature
from .tap import TapSignature

RAM_BASE = 0x4000_0000
RAM_LIMIT = 512 << 20
EXTERNAL_UNIT = 0xFE
"""``unit`` of the external initiator in BUS_ERROR records."""


def _check_integer(name, value, low, high, *, power_of_two=False):
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"SocConfig.{name} must be an integer, not {value!r}")
    if not low <= value <= high:
        raise ValueError(f"SocConfig.{name} must be between {low} and {high}, not {value}")
    if power_of_two and value & (value - 1):
        raise ValueError(f"SocConfig.{name} must be a power of two, not {value}")


@dataclass(frozen=True)
class SocConfig:
    """How many of what. What a sweep varies is an input of the :class:`Soc`, not here.

    Attributes
    ----------
    cpus : int
        CPU ports (1 to 8).
    ram_bytes : int
        RAM at 0x4000_0000; a power of two from 4 KiB to 512 MiB.
    """

    cpus: int = 2
    ram_bytes: int = 4 << 20

    def __post_init__(self):
        _check_integer("cpus", self.cpus, 1, 8)
        _check_integer("ram_bytes", self.ram_bytes, 4096, RAM_LIMIT, power_of_two=True)


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
        self._ram = Ram(config.ram_bytes)
        self._ports = [CpuPort(i, private=False, sysregs=False) for i in range(config.cpus)]
        self._external = CpuPort(EXTERNAL_UNIT, private=False, sysregs=False)
        taps = [(f"cpu{i}", port.tap) for i, port in enumerate(self._ports)]
        taps.append(("external", self._external.tap))
        self._taps = [tap for _, tap in taps]
        self.channels = tuple(name for name, _ in taps)
        super().__init__(
            {
                "cpu": In(CpuLink()).array(config.cpus),
                "external": In(OperationLink()),
                "external_requester": In(Requester),
                "tap": Out(TapSignature()).array(len(taps)),
                "tap_active": Out(len(taps)),
                "probe": In(ProbeSignature(config.cpus)),
                "ram_written": Out(1),
                "ram_index": Out(range(self._ram.words)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.ram = ram = self._ram
        m.submodules.external = self._external
        m.d.comb += self._external.requester.eq(self.external_requester)
        for i, port in enumerate(self._ports):
            m.submodules[f"cpu{i}"] = port
            m.d.comb += [port.requester.id.eq(i), port.requester.kind.eq(RequesterKind.CPU)]
        links = [*(cpu.port for cpu in self.cpu), self.external]
        ports = [*self._ports, self._external]
        for link, port in zip(links, ports, strict=True):
            wiring.connect(m, wiring.flipped(link), port.link)
        for cpu in self.cpu:
            m.d.comb += [cpu.irq.eq(0), cpu.virq.eq(0), cpu.intr.eq(0)]

        initiators = [port.bus for port in ports]
        targets = [(Region("ram", RAM_BASE, self.config.ram_bytes), ram.bus)]
        m.submodules.interconnect = interconnect = Interconnect(
            len(initiators), [region for region, _ in targets]
        )
        for initiator, port in zip(initiators, interconnect.initiators, strict=True):
            wiring.connect(m, initiator, port)
        for (_, target), port in zip(targets, interconnect.targets, strict=True):
            wiring.connect(m, port, target)

        for out, channel in zip(self.tap, self._taps, strict=True):
            m.d.comb += [out.valid.eq(channel.valid), out.record.eq(channel.record)]
        m.d.comb += [
            self.tap_active.eq(Cat(channel.valid for channel in self._taps)),
            self.ram_written.eq(ram.written),
            self.ram_index.eq(ram.index),
        ]
        return m
