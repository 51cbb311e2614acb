"""Translations that were used before: (DeviceID, EventID) to (INTID, CPU), in one clock."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out


class TranslationCache(wiring.Component):
    """A direct-mapped cache of ``entries`` translations in block memory.

    * ``lookup`` in clock t: ``hit``, ``intid`` and ``target`` count in t + 1.
    * ``fill`` stores a translation in the place of whatever shared its index.
    * ``forget`` drops the translation of one event (and whatever shares its index).
    * ``forget_all`` drops everything: from the next clock on nothing hits, and for ``entries``
      clocks nothing can be stored.
    * ``fill`` and ``forget`` in one clock: nothing is stored.

    Which entry an event takes: its low EventID bits, exclusive-or those of DeviceID / 8 (the
    function number is in the low three bits), so that a device's events do not collide with each
    other.

    Parameters
    ----------
    entries : int
        A power of two, 2 to 1,024.
    device_id_bits, event_id_bits : int
    cpus, intid_bits : int
    """

    def __init__(self, entries: int, *, device_id_bits: int, event_id_bits: int, cpus: int):
        if not isinstance(entries, int) or isinstance(entries, bool):
            raise TypeError(f"Translation cache size must be an integer, not {entries!r}")
        if entries not in range(2, 1025) or entries & (entries - 1):
            raise ValueError(
                f"Translation cache size must be a power of two between 2 and 1024, not {entries}"
            )
        self._entries = entries
        self._cpus = cpus
        super().__init__(
            {
                "device": In(device_id_bits),
                "event": In(event_id_bits),
                "lookup": In(1),
                "hit": Out(1),
                "intid": Out(16),
                "target": Out(range(cpus)),
                "fill": In(1),
                "fill_intid": In(16),
                "fill_target": In(range(cpus)),
                "forget": In(1),
                "forget_device": In(device_id_bits),
                "forget_event": In(event_id_bits),
                "forget_all": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        index_bits = self._entries.bit_length() - 1

        def index(device, event):
            return (event ^ (device >> 3))[:index_bits]

        def tag(device, event):
            # The low EventID bits follow from the index and the DeviceID.
            return Cat(device, event[index_bits:])

        entry = data.StructLayout(
            {
                "tag": len(tag(self.device, self.event)),
                "intid": 16,
                "target": range(self._cpus),
                "valid": 1,
            }
        )
        m.submodules.entries = entries = memory.Memory(shape=entry, depth=self._entries, init=[])
        read = entries.read_port()
        write = entries.write_port()
        looked_for = Signal(len(tag(self.device, self.event)))
        emptying = Signal()
        emptied = Signal(index_bits)
        was_emptying = Signal()

        m.d.comb += [
            read.addr.eq(index(self.device, self.event)),
            read.en.eq(self.lookup),
            self.hit.eq(read.data.valid & (read.data.tag == looked_for) & ~was_emptying),
            self.intid.eq(read.data.intid),
            self.target.eq(read.data.target),
        ]
        with m.If(self.lookup):
            m.d.sync += [
                looked_for.eq(tag(self.device, self.event)),
                was_emptying.eq(emptying),
            ]

        with m.If(emptying):
            m.d.comb += [write.addr.eq(emptied), write.en.eq(1)]
            m.d.sync += emptied.eq(emptied + 1)
            with m.If(emptied == self._entries - 1):
                m.d.sync += emptying.eq(0)
        with m.Elif(self.forget):
            m.d.comb += [
                write.addr.eq(index(self.forget_device, self.forget_event)),
                write.en.eq(1),
            ]
        with m.Else():
            m.d.comb += [
                write.addr.eq(index(self.device, self.event)),
                write.data.tag.eq(tag(self.device, self.event)),
                write.data.intid.eq(self.fill_intid),
                write.data.target.eq(self.fill_target),
                write.data.valid.eq(1),
                write.en.eq(self.fill),
            ]
        with m.If(self.forget_all):
            m.d.sync += [emptying.eq(1), emptied.eq(0)]
        return m
