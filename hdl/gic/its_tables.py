"""The ITS's tables in RAM: looking things up in them, and changing them."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out

from ..bus import ADDRESS_BITS, BusSignature, Region, RequesterKind
from ..registers.gits import (
    CollectionEntry,
    DeviceEntry,
    GitsBaser,
    Reason,
    TranslationEntry,
)
from .interfaces import FIRST_LPI

PHYSICAL_BITS = 52


class TableOperation(enum.Enum, shape=3):
    """What a client wants; every operation is carried out as a whole before the next."""

    READ = 0  #: 64 bits at ``address``: a word of the command queue
    TRANSLATE = 1  #: (device, event) to (intid, collection, target)
    COLLECTION = 2  #: collection to target
    MAP_DEVICE = 3
    MAP_COLLECTION = 4
    MAP_EVENT = 5
    UNMAP_EVENT = 6


class TableRequest(data.Struct):
    """Operands; each operation looks at the ones it needs. ``valid``: map, otherwise unmap."""

    operation: TableOperation
    address: PHYSICAL_BITS
    device: 32
    event: 32
    intid: 32
    collection: 16
    target: 36
    size: 5
    itt_address: 44
    valid: 1


class TableAnswer(data.Struct):
    """``reason`` is a :class:`hdl.registers.gits.Reason`.

    ``intid`` and ``collection`` also count when only the collection turned out to be unmapped.
    """

    reason: 8
    data: 64
    intid: 16
    collection: 16
    target: 8


class TablePort(wiring.Signature):
    """Seen from the client: ``valid`` and ``request`` hold until ``done``, which ends the
    operation; ``answer`` counts in that clock and for READ's ``data`` until the next operation."""

    def __init__(self):
        super().__init__(
            {
                "valid": Out(1),
                "request": Out(TableRequest),
                "done": In(1),
                "answer": In(TableAnswer),
            }
        )


class Step(enum.Enum, shape=4):
    """Which word the bus access under way is about."""

    READ_LOW = 0
    READ_HIGH = 1
    DEVICE_LOW = 2
    DEVICE_HIGH = 3
    EVENT = 4
    COLLECTION = 5
    WRITE_DEVICE_LOW = 6
    WRITE_DEVICE_HIGH = 7
    WRITE_EVENT = 8
    WRITE_COLLECTION = 9


class TableUnit(wiring.Component):
    """Carries out one table operation at a time for two clients, through one bus port.

    An operation is never interleaved with another, so a walk sees every entry either before or
    after a command has changed it, and no walk that began before a MAPD is under way after it.

    Checks, in this order: DeviceID within ``device_id_bits`` and the device table (DEVICE_OOR;
    without a valid table every DeviceID is out of range), MAPD's size (SIZE_OOR), device mapped
    (UNMAPPED_DEVICE), EventID within the device's range (ID_OOR), INTID an LPI that exists
    (PHYSICALID_OOR), collection within its table (COLLECTION_OOR), MAPC's target (SIZE_OOR),
    event mapped (UNMAPPED_INTERRUPT), collection mapped to a CPU that exists
    (UNMAPPED_COLLECTION). What is found in memory is checked like an operand; an entry that makes
    no sense counts as unmapped. A bus error, or an address beyond the bus or in a ``forbidden``
    region, is MEMORY_FAULT. Nothing is written unless all checks have passed.

    Clocks, with b = clocks of one bus access, those of the request and of the response included:
    READ 3 + 2 b; TRANSLATE 5 + 4 b; COLLECTION 3 + b; MAP_DEVICE 3 + 2 b (unmap: 3 + b);
    MAP_COLLECTION 3 + b; MAP_EVENT and UNMAP_EVENT 4 + 3 b; to which the other client's operation
    under way may add its own. The clients take turns.

    Members
    -------
    commands, translations : In(TablePort())
    devices, collections : In(GitsBaser)
        BASER0 and BASER1; they change only while neither client wants anything.
    bus : Out(BusSignature())
    """

    def __init__(
        self,
        *,
        cpus: int,
        lpis: int,
        device_id_bits: int,
        event_id_bits: int,
        forbidden: "tuple[Region, ...]" = (),
    ):
        self._cpus = cpus
        self._lpis = lpis
        self._device_id_bits = device_id_bits
        self._event_id_bits = event_id_bits
        self._forbidden = tuple(forbidden)
        super().__init__(
            {
                "commands": In(TablePort()),
                "translations": In(TablePort()),
                "devices": In(GitsBaser),
                "collections": In(GitsBaser),
                "bus": Out(BusSignature()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        for_commands = Signal()
        request = Signal(TableRequest)
        answer = Signal(TableAnswer)
        done = Signal()
        step = Signal(Step)
        address = Signal(PHYSICAL_BITS + 1)
        write_data = Signal(32)

        m.d.comb += [
            request.eq(Mux(for_commands, self.commands.request, self.translations.request)),
            self.commands.answer.eq(answer),
            self.translations.answer.eq(answer),
            self.commands.done.eq(done & for_commands),
            self.translations.done.eq(done & ~for_commands),
        ]

        # The entry that is being read, or is to be written.
        device_entry = data.View(DeviceEntry, answer.data)
        new_device = Signal(DeviceEntry)
        new_event = Signal(TranslationEntry)
        new_collection = Signal(CollectionEntry)
        m.d.comb += [
            new_device.size.eq(request.size),
            new_device.itt_address.eq(request.itt_address),
            new_device.valid.eq(request.valid),
            new_collection.target.eq(Mux(request.valid, request.target, 0)),
            new_collection.valid.eq(request.valid),
        ]
        with m.If(request.operation == TableOperation.MAP_EVENT):
            m.d.comb += [
                new_event.collection.eq(request.collection),
                new_event.intid.eq(request.intid),
            ]
        writes = Signal()
        with m.Switch(step):
            with m.Case(Step.WRITE_DEVICE_LOW):
                m.d.comb += [writes.eq(1), write_data.eq(new_device.as_value()[:32])]
            with m.Case(Step.WRITE_DEVICE_HIGH):
                m.d.comb += [writes.eq(1), write_data.eq(new_device.as_value()[32:])]
            with m.Case(Step.WRITE_EVENT):
                m.d.comb += [writes.eq(1), write_data.eq(new_event)]
            with m.Case(Step.WRITE_COLLECTION):
                m.d.comb += [writes.eq(1), write_data.eq(new_collection)]

        refused = Signal()
        m.d.comb += [
            refused.eq(
                address[ADDRESS_BITS:].any()
                | Cat(region.covers(address[:ADDRESS_BITS]) for region in self._forbidden).any()
            ),
            self.bus.request.p.address.eq(Cat(Const(0, 2), address[2:ADDRESS_BITS])),
            self.bus.request.p.write.eq(writes),
            self.bus.request.p.data.eq(write_data),
            self.bus.request.p.select.eq(0b1111),
            self.bus.request.p.requester.id.eq(self._cpus),
            self.bus.request.p.requester.kind.eq(RequesterKind.CONTROLLER),
        ]

        def finish(reason):
            m.d.sync += answer.reason.eq(reason)
            m.next = "DONE"

        def access(next_step, at):
            m.d.sync += [step.eq(next_step), address.eq(at)]
            m.next = "ACCESS"

        # Collection operand: of the command, or what the translation entry says.
        looking_up_event = Signal()
        collection = Signal(16)
        m.d.comb += collection.eq(Mux(looking_up_event, answer.collection, request.collection))
        collection_exists = Signal()
        device_exists = Signal()
        event_exists = Signal()
        intid_exists = Signal()
        m.d.comb += [
            collection_exists.eq(self._within(self.collections, collection)),
            device_exists.eq(
                ~request.device[self._device_id_bits :].any()
                & self._within(self.devices, request.device[: self._device_id_bits])
            ),
            event_exists.eq(
                ~request.event[self._event_id_bits :].any()
                & ~((request.event[: self._event_id_bits] >> device_entry.size) >> 1).any()
            ),
            intid_exists.eq(self._is_lpi(request.intid)),
        ]
        collection_at = self._base(self.collections) + (collection << 3)
        target_exists = request.target < self._cpus

        with m.FSM():
            with m.State("IDLE"):
                # The client that was served last waits if the other wants something too.
                m.d.sync += for_commands.eq(
                    self.commands.valid & ~(self.translations.valid & for_commands)
                )
                with m.If(self.commands.valid | self.translations.valid):
                    m.next = "START"

            with m.State("START"), m.Switch(request.operation):
                with m.Case(TableOperation.READ):
                    access(Step.READ_LOW, request.address)
                with m.Case(TableOperation.COLLECTION):
                    access(Step.COLLECTION, collection_at)
                    with m.If(~collection_exists):
                        finish(Reason.COLLECTION_OOR)
                with m.Case(TableOperation.MAP_COLLECTION):
                    access(Step.WRITE_COLLECTION, collection_at)
                    with m.If(~collection_exists):
                        finish(Reason.COLLECTION_OOR)
                    with m.Elif(request.valid & ~target_exists):
                        finish(Reason.SIZE_OOR)
                with m.Default():
                    device_at = self._base(self.devices) + (
                        request.device[: self._device_id_bits] << 3
                    )
                    maps = request.operation == TableOperation.MAP_DEVICE
                    access(Step.DEVICE_LOW, device_at)
                    with m.If(~device_exists):
                        finish(Reason.DEVICE_OOR)
                    with m.Elif(maps & request.valid):
                        access(Step.WRITE_DEVICE_LOW, device_at)
                        with m.If(request.size >= self._event_id_bits):
                            finish(Reason.SIZE_OOR)
                    with m.Elif(maps):
                        # The valid bit is in the upper word: one write unmaps.
                        access(Step.WRITE_DEVICE_HIGH, device_at + 4)

            with m.State("ACCESS"):
                m.d.comb += self.bus.request.valid.eq(~refused)
                with m.If(refused):
                    finish(Reason.MEMORY_FAULT)
                with m.Elif(self.bus.request.ready):
                    m.next = "WAIT"

            with m.State("WAIT"):
                m.d.comb += self.bus.response.ready.eq(1)
                word = self.bus.response.p.data
                with m.If(self.bus.response.valid):
                    finish(Reason.OK)
                    with m.If(self.bus.response.p.error):
                        finish(Reason.MEMORY_FAULT)
                    with m.Else(), m.Switch(step):
                        with m.Case(Step.READ_LOW):
                            m.d.sync += answer.data[:32].eq(word)
                            access(Step.READ_HIGH, address + 4)
                        with m.Case(Step.READ_HIGH):
                            m.d.sync += answer.data[32:].eq(word)
                        with m.Case(Step.DEVICE_LOW):
                            m.d.sync += answer.data[:32].eq(word)
                            access(Step.DEVICE_HIGH, address + 4)
                        with m.Case(Step.DEVICE_HIGH):
                            m.d.sync += answer.data[32:].eq(word)
                            m.next = "DEVICE"
                        with m.Case(Step.EVENT):
                            entry = data.View(TranslationEntry, word)
                            m.d.sync += [
                                answer.intid.eq(entry.intid),
                                answer.collection.eq(entry.collection),
                            ]
                            m.next = "EVENT"
                        with m.Case(Step.COLLECTION):
                            entry = data.View(CollectionEntry, word)
                            m.d.sync += answer.target.eq(entry.target)
                            with m.If(~entry.valid | (entry.target >= self._cpus)):
                                finish(Reason.UNMAPPED_COLLECTION)
                        with m.Case(Step.WRITE_DEVICE_LOW):
                            access(Step.WRITE_DEVICE_HIGH, address + 4)

            with m.State("DEVICE"):
                event_at = (device_entry.itt_address << 8) + (
                    request.event[: self._event_id_bits] << 3
                )
                maps = request.operation == TableOperation.MAP_EVENT
                unmaps = request.operation == TableOperation.UNMAP_EVENT
                access(Step.EVENT, event_at)
                with m.If(~device_entry.valid):
                    finish(Reason.UNMAPPED_DEVICE)
                with m.Elif(~event_exists):
                    finish(Reason.ID_OOR)
                with m.Elif(maps & ~intid_exists):
                    finish(Reason.PHYSICALID_OOR)
                with m.Elif(maps & ~collection_exists):
                    finish(Reason.COLLECTION_OOR)
                with m.Elif(maps | unmaps):
                    access(Step.WRITE_EVENT, event_at)

            with m.State("EVENT"):
                m.d.comb += looking_up_event.eq(1)
                access(Step.COLLECTION, collection_at)
                with m.If(~self._is_lpi(answer.intid)):
                    finish(Reason.UNMAPPED_INTERRUPT)
                with m.Elif(~collection_exists):
                    finish(Reason.UNMAPPED_COLLECTION)

            with m.State("DONE"):
                m.d.comb += done.eq(1)
                m.next = "IDLE"
        return m

    def _is_lpi(self, intid):
        return (intid >= FIRST_LPI) & (intid < FIRST_LPI + self._lpis)

    @staticmethod
    def _within(table, number):
        """Whether the table has an entry ``number``: 512, 2,048 or 8,192 fit a page."""
        page = Mux(
            table.page_size == 0, number >> 9, Mux(table.page_size == 1, number >> 11, number >> 13)
        )
        return table.valid & (page <= table.size)

    @staticmethod
    def _base(table):
        """Byte address; with 64 KiB pages the field's low bits are bits 51:48."""
        low, rest = table.address[:4], table.address[4:]
        large = table.page_size[1]
        return Cat(Const(0, 12), Mux(large, 0, low), rest, Mux(large, low, 0))
