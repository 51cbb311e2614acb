"""A small machine with the ports of the Soc, for tests of the hosts.

It is quick to build and stays as it is while the Soc grows. Its interrupt lines, its answers'
latencies and a stream of tap records are in the test's hand.
"""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.bus import BusSignature, Interconnect, Region, Requester, RequesterKind
from hdl.cpu_port import CpuLink, CpuPort, OperationLink
from hdl.memory import Ram
from hdl.probe import ProbeSignature
from hdl.soc import EXTERNAL_UNIT, RAM_BASE, SocConfig
from hdl.tap import EventKind, TapSignature, tap_event

SLOW = Region("slow", 0x1000_0000, 0x100)
SCENE_FLOOD = 1 << 15
"""Bit of the probe's scene that asks for a tap record in every clock."""


class SlowTarget(wiring.Component):
    """Answers a read of word ``n`` after ``n + 1`` clocks with the clocks since reset."""

    bus: In(BusSignature())

    def elaborate(self, platform):
        m = Module()
        clocks, left, owed, was_write = Signal(32), Signal(6), Signal(), Signal()
        request, response = self.bus.request, self.bus.response
        m.d.sync += clocks.eq(clocks + 1)
        m.d.comb += [
            request.ready.eq(~owed),
            response.valid.eq(owed & (left == 0)),
        ]
        with m.If(~was_write):
            m.d.comb += response.p.data.eq(clocks)
        with m.If(request.valid & request.ready):
            m.d.sync += [owed.eq(1), left.eq(request.p.address[2:8]), was_write.eq(request.p.write)]
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
        with m.If(response.valid & response.ready):
            m.d.sync += owed.eq(0)
        return m


class SmallMachine(wiring.Component):
    """CPU ports, RAM and a :class:`SlowTarget`.

    Lines of CPU ``i``: ``irq`` is bit ``i`` of the probe's scene, ``virq`` bit ``8 + i`` one clock
    later, ``intr`` bit ``i`` of the data of the last write to RAM. While :data:`SCENE_FLOOD` is
    set the channel ``flood`` speaks in every clock: its records count up in every field.
    """

    def __init__(self, config: SocConfig):
        self.config = config
        self._ram = Ram(config.ram_bytes)
        self.channels = (*(f"cpu{i}" for i in range(config.cpus)), "external", "flood")
        super().__init__(
            {
                "cpu": In(CpuLink()).array(config.cpus),
                "external": In(OperationLink()),
                "external_requester": In(Requester),
                "tap": Out(TapSignature()).array(len(self.channels)),
                "tap_active": Out(len(self.channels)),
                "probe": In(ProbeSignature(config.cpus)),
                "ram_written": Out(1),
                "ram_index": Out(range(self._ram.words)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        cpus = self.config.cpus
        m.submodules.ram = ram = self._ram
        m.submodules.slow = slow = SlowTarget()
        m.submodules.interconnect = interconnect = Interconnect(
            cpus + 1, [Region("ram", RAM_BASE, self.config.ram_bytes), SLOW]
        )
        wiring.connect(m, interconnect.targets[0], ram.bus)
        wiring.connect(m, interconnect.targets[1], slow.bus)
        m.d.comb += [self.ram_written.eq(ram.written), self.ram_index.eq(ram.index)]

        units = [*range(cpus), EXTERNAL_UNIT]
        links = [*(cpu.port for cpu in self.cpu), self.external]
        for i, (unit, link) in enumerate(zip(units, links, strict=True)):
            m.submodules[f"port{i}"] = port = CpuPort(unit, private=False, sysregs=False)
            wiring.connect(m, wiring.flipped(link), port.link)
            wiring.connect(m, port.bus, interconnect.initiators[i])
            if i < cpus:
                m.d.comb += [port.requester.id.eq(i), port.requester.kind.eq(RequesterKind.CPU)]
            else:
                m.d.comb += port.requester.eq(self.external_requester)
            m.d.comb += [
                self.tap[i].valid.eq(port.tap.valid),
                self.tap[i].record.eq(port.tap.record),
            ]
        self._add_lines(m, ram)
        self._add_flood(m)
        m.d.comb += self.tap_active.eq(Cat(channel.valid for channel in self.tap))
        return m

    def _add_lines(self, m, ram):
        last = Signal(32)
        with m.If(ram.written):
            m.d.sync += last.eq(ram.bus.request.p.data)
        for i, cpu in enumerate(self.cpu):
            m.d.comb += [cpu.irq.eq(self.probe.scene[i]), cpu.intr.eq(last[i])]
            m.d.sync += cpu.virq.eq(self.probe.scene[8 + i])

    def _add_flood(self, m):
        count = Signal(16)
        with m.If(self.probe.scene[15]):
            m.d.sync += count.eq(count + 1)
            m.d.comb += tap_event(
                self.tap[len(self.channels) - 1],
                EventKind.MESSAGE,
                address=Cat(count, ~count, count, ~count),
                data=Cat(~count, count),
                id=count,
                unit=count,
            )
