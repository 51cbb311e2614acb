"""The event tap: everything an observer may know leaves the Soc as one kind of record.

Each source of events has a channel of its own (valid + record), because two things may happen
in one clock. Monitors, the sweep's logger and a board's trace memory read the same channels, in
channel order within a clock.
"""

from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import Out


class EventKind(enum.Enum, shape=8):
    """What happened. Comments give the fields that mean something; the others are zero."""

    DEVICE_EVENT = 1  #: unit: endpoint or PMU, id: vector; the device has something to say
    CONFIG_WRITE = 2  #: id: requester id of the function, address: register, data: lanes written
    MESSAGE = 3  #: address, data, id: requester; a device's memory write went onto the bus
    TRANSLATION = 4  #: id: DeviceID, address: EventID, data: INTID, unit: target CPU
    TRANSLATION_DROPPED = 5  #: id: DeviceID, address: EventID, data: reason
    PENDING_SET = 6  #: unit: CPU (0xFF: distributor), id: INTID or vector; became pending
    PENDING_CLEARED = 7  #: unit, id as above; by software, hand-over or DISCARD
    LINE = 8  #: unit: CPU, id: which line (LineKind), data: new level
    ACKNOWLEDGE = 9  #: unit: CPU, id: INTID or vector that IAR or the APIC's cycle returned
    EOI = 10  #: unit: CPU, id: INTID or vector; priority drop
    DEACTIVATE = 11  #: unit: CPU that asked, id: INTID
    BUS_ERROR = 12  #: unit: initiator, address, data: 1 for a write
    MESSAGE_BAD = 13  #: address, data, id: requester; a target could not make sense of a message
    COMMAND = 14  #: data: opcode, id: DeviceID or ICID, address: offset in the queue
    COMMAND_ERROR = 15  #: data: error code, address: offset in the queue
    PENDING_MOVED = 16  #: unit: old CPU, data: new CPU, id: INTID
    INTX = 17  #: unit: endpoint, id: pin (0..3), data: level on the wire
    WIRE = 18  #: id: INTID of the wire, data: new level
    CONFIG_READ = 19  #: id: requester id of the function, address: register, data: value
    MESSAGE_BLOCKED = 20  #: unit: endpoint, id: vector; bus mastering off or function gone
    PENDING_DROPPED = 21  #: unit: CPU, id: INTID; could not become pending: LPIs off, no such LPI
    VIRTUAL_ACKNOWLEDGE = 22  #: unit: CPU, id: vINTID that the guest's IAR returned
    VIRTUAL_EOI = 23  #: unit: CPU, id: vINTID; the guest's priority drop


class LineKind(enum.Enum, shape=2):
    """Which interrupt input of a CPU a LINE record speaks of."""

    IRQ = 0
    VIRQ = 1
    INTR = 2


class TapRecord(data.Struct):
    """One event, 128 bits. See :class:`EventKind` for what each field means."""

    address: 64
    data: 32
    id: 16
    unit: 8
    kind: EventKind


class TapSignature(wiring.Signature):
    """A channel, seen from the block the events come from: ``record`` counts while ``valid``."""

    def __init__(self):
        super().__init__({"valid": Out(1), "record": Out(TapRecord)})


def tap_event(channel, kind: EventKind, **fields):
    """Statements that put one event of ``kind`` on ``channel`` (a TapSignature interface).

    Use inside ``m.If``: ``m.d.comb += tap_event(self.tap, EventKind.EOI, unit=0, id=intid)``.
    """
    return [
        channel.valid.eq(1),
        channel.record.kind.eq(kind),
        *(channel.record[name].eq(value) for name, value in fields.items()),
    ]
