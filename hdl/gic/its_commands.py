"""The ITS's command queue: fetches commands and carries them out, one after the other."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..registers.gits import (
    COMMAND_BYTES,
    ERROR_BASE,
    CommandWords,
    GitsCbaser,
    Opcode,
    Reason,
    error_code,
    itt_address,
)
from ..tap import EventKind, TapSignature, tap_event
from .interfaces import LpiCommand, LpiOperation
from .its_tables import TableOperation, TablePort


class Action(data.Struct):
    """What a command asks of the redistributor of CPU ``cpu``."""

    cpu: 8
    command: LpiCommand


class CommandUnit(wiring.Component):
    """Carries out the commands between CREADR and CWRITER.

    A command is consumed (``read_offset`` moves on) when its table entries are written and what
    it asks of a redistributor has been handed to the link; SYNC, when the redistributor has
    confirmed. What each command does, and what is wrong with it in which order, is documented
    with :class:`hdl.gic.its.Its`.

    Members
    -------
    run : In(1)
        Enabled, and the queue is valid.
    queue : In(GitsCbaser), write_offset : In(15)
        ``write_offset`` counts commands. One outside the queue stops it.
    read_offset : Out(15), stalled : Out(1)
    rewind : In(1)
        The queue was set up anew: offset zero, no longer stalled. Only while ``idle``.
    retry : In(1)
        Ends a stall: the same command is fetched again.
    idle : Out(1)
        No command is under way (one at which the queue has stalled is not).
    tables : Out(TablePort())
    actions : Out(stream of Action), synced : In(cpus)
    forget, forget_device, forget_event, forget_all : Out
        What the translation cache must not know any more.
    mark : Out(1), drained : In(1)
        See :class:`TranslationUnit`.
    tap : Out(TapSignature())
        COMMAND, COMMAND_ERROR.
    """

    def __init__(self, *, cpus: int, device_id_bits: int, event_id_bits: int, stall_on_error: bool):
        self._cpus = cpus
        self._device_id_bits = device_id_bits
        self._event_id_bits = event_id_bits
        self._stall_on_error = stall_on_error
        super().__init__(
            {
                "run": In(1),
                "queue": In(GitsCbaser),
                "write_offset": In(15),
                "read_offset": Out(15),
                "stalled": Out(1),
                "rewind": In(1),
                "retry": In(1),
                "idle": Out(1),
                "tables": Out(TablePort()),
                "actions": Out(stream.Signature(Action)),
                "synced": In(cpus),
                "forget": Out(1),
                "forget_device": Out(device_id_bits),
                "forget_event": Out(event_id_bits),
                "forget_all": Out(1),
                "mark": Out(1),
                "drained": In(1),
                "tap": Out(TapSignature()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        words = Signal(data.ArrayLayout(64, COMMAND_BYTES // 8))
        command = data.View(CommandWords, words.as_value())
        word = Signal(range(COMMAND_BYTES // 8))
        reason = Signal(8)
        operation = Signal(TableOperation)
        action = Signal(Action)

        # What TRANSLATE said, and for MOVI where the new collection is.
        intid = Signal(16)
        cpu = Signal(8)
        collection_mapped = Signal()
        new_cpu = Signal(8)

        tables, answer = self.tables, self.tables.answer
        offset = self.read_offset << 5
        new_intid = Signal(32)
        with m.Switch(command.opcode):
            with m.Case(Opcode.MAPI):
                m.d.comb += new_intid.eq(command.event)
            with m.Case(Opcode.MOVI):
                m.d.comb += new_intid.eq(intid)
            with m.Default():
                m.d.comb += new_intid.eq(command.intid)
        m.d.comb += [
            tables.request.operation.eq(operation),
            tables.request.address.eq((self.queue.address << 12) + offset + (word << 3)),
            tables.request.device.eq(command.device),
            tables.request.event.eq(command.event),
            tables.request.intid.eq(new_intid),
            tables.request.collection.eq(command.collection),
            tables.request.target.eq(command.target),
            tables.request.size.eq(command.event[:5]),
            tables.request.itt_address.eq(itt_address(command)),
            tables.request.valid.eq(command.valid),
            self.forget_device.eq(command.device),
            self.forget_event.eq(command.event),
            self.actions.payload.eq(action),
        ]

        def fail(why):
            m.d.sync += reason.eq(why)
            m.next = "FAIL"

        def table(what):
            m.d.sync += operation.eq(what)
            m.next = "TABLE"

        def act(cpu, what, *, lpi=0, target=0):
            m.d.sync += [
                action.cpu.eq(cpu),
                action.command.operation.eq(what),
                action.command.intid.eq(lpi),
                action.command.target.eq(target),
            ]
            m.next = "ACT"

        with m.If(self.retry):
            m.d.sync += self.stalled.eq(0)
        with m.If(self.rewind):
            m.d.sync += [self.read_offset.eq(0), self.stalled.eq(0)]

        with m.FSM():
            with m.State("IDLE"):
                # Two reasons not to begin: nothing to do, or a CWRITER that is never reached.
                outside = (self.write_offset >> 7) > self.queue.size
                begin = (
                    self.run
                    & ~self.stalled
                    & ~self.rewind
                    & ~outside
                    & (self.read_offset != self.write_offset)
                )
                m.d.comb += self.idle.eq(~begin)
                m.d.sync += [operation.eq(TableOperation.READ), word.eq(0)]
                with m.If(begin):
                    m.next = "FETCH"

            with m.State("FETCH"):
                m.d.comb += tables.valid.eq(1)
                with m.If(tables.done):
                    m.d.sync += [words[word].eq(answer.data), word.eq(word + 1)]
                    with m.If(answer.reason != Reason.OK):
                        m.d.sync += words.eq(0)
                        fail(answer.reason)
                    with m.Elif(word == COMMAND_BYTES // 8 - 1):
                        m.next = "EXECUTE"

            with m.State("EXECUTE"):
                by_collection = (command.opcode == Opcode.MAPC) | (command.opcode == Opcode.INVALL)
                m.d.comb += tap_event(
                    self.tap,
                    EventKind.COMMAND,
                    id=Mux(by_collection, command.collection, command.device),
                    address=offset,
                    data=command.opcode,
                )
                with m.Switch(command.opcode):
                    with m.Case(Opcode.MOVI, Opcode.INT, Opcode.CLEAR, Opcode.INV, Opcode.DISCARD):
                        table(TableOperation.TRANSLATE)
                    with m.Case(Opcode.MAPD):
                        table(TableOperation.MAP_DEVICE)
                    with m.Case(Opcode.MAPC):
                        table(TableOperation.MAP_COLLECTION)
                    with m.Case(Opcode.MAPTI, Opcode.MAPI):
                        table(TableOperation.MAP_EVENT)
                    with m.Case(Opcode.INVALL):
                        table(TableOperation.COLLECTION)
                    with m.Case(Opcode.MOVALL):
                        with m.If(
                            (command.target >= self._cpus) | (command.second_target >= self._cpus)
                        ):
                            fail(Reason.SIZE_OOR)
                        with m.Elif(command.target == command.second_target):
                            m.next = "ADVANCE"
                        with m.Else():
                            act(
                                command.target,
                                LpiOperation.MOVE_ALL,
                                target=command.second_target,
                            )
                    with m.Case(Opcode.SYNC):
                        with m.If(command.target >= self._cpus):
                            fail(Reason.TARGET_OOR)
                        with m.Else():
                            m.d.comb += self.mark.eq(1)
                            m.next = "DRAIN"
                    with m.Default():
                        fail(Reason.UNKNOWN_COMMAND)

            with m.State("TABLE"):
                m.d.comb += tables.valid.eq(1)
                unmapped = answer.reason == Reason.UNMAPPED_COLLECTION
                with m.If(tables.done):
                    m.next = "NEXT"
                    # A DISCARD without a redistributor to tell removes the translation anyway.
                    with m.If(
                        (answer.reason != Reason.OK)
                        & ~(unmapped & (command.opcode == Opcode.DISCARD))
                    ):
                        fail(answer.reason)
                    with m.If(operation == TableOperation.TRANSLATE):
                        m.d.sync += [
                            intid.eq(answer.intid),
                            cpu.eq(answer.target),
                            collection_mapped.eq(~unmapped),
                        ]
                    with m.Elif(operation == TableOperation.COLLECTION):
                        m.d.sync += new_cpu.eq(answer.target)

            # The table operation was successful; what comes next?
            with m.State("NEXT"):
                m.next = "ADVANCE"
                with m.Switch(command.opcode):
                    with m.Case(Opcode.MAPD, Opcode.MAPC):
                        m.d.comb += self.forget_all.eq(1)
                    with m.Case(Opcode.MAPTI, Opcode.MAPI):
                        m.d.comb += self.forget.eq(1)
                    with m.Case(Opcode.INT):
                        act(cpu, LpiOperation.SET, lpi=intid)
                    with m.Case(Opcode.CLEAR):
                        act(cpu, LpiOperation.CLEAR, lpi=intid)
                    with m.Case(Opcode.INV):
                        act(cpu, LpiOperation.INVALIDATE, lpi=intid)
                    with m.Case(Opcode.INVALL):
                        act(new_cpu, LpiOperation.INVALIDATE_ALL)
                    with m.Case(Opcode.MOVI), m.Switch(operation):
                        with m.Case(TableOperation.TRANSLATE):
                            table(TableOperation.COLLECTION)
                        with m.Case(TableOperation.COLLECTION):
                            table(TableOperation.MAP_EVENT)
                        with m.Default():
                            m.d.comb += self.forget.eq(1)
                            with m.If(cpu != new_cpu):
                                act(cpu, LpiOperation.MOVE, lpi=intid, target=new_cpu)
                    with m.Case(Opcode.DISCARD):
                        # Removed first: what is translated later cannot slip in behind the CLEAR.
                        with m.If(operation == TableOperation.TRANSLATE):
                            table(TableOperation.UNMAP_EVENT)
                        with m.Else():
                            m.d.comb += self.forget.eq(1)
                            with m.If(collection_mapped):
                                act(cpu, LpiOperation.CLEAR, lpi=intid)

            with m.State("ACT"):
                m.d.comb += self.actions.valid.eq(1)
                with m.If(self.actions.ready):
                    m.next = "ADVANCE"
                    with m.If(action.command.operation == LpiOperation.SYNC):
                        m.next = "SYNC"

            with m.State("DRAIN"), m.If(self.drained):
                act(command.target, LpiOperation.SYNC)

            with m.State("SYNC"), m.If(self.synced.bit_select(action.cpu, 1)):
                m.next = "ADVANCE"

            with m.State("FAIL"):
                m.d.comb += tap_event(
                    self.tap,
                    EventKind.COMMAND_ERROR,
                    address=offset,
                    data=self._error_code(command.opcode, reason),
                )
                if self._stall_on_error:
                    m.d.sync += self.stalled.eq(1)
                    m.next = "IDLE"
                else:
                    m.next = "ADVANCE"

            with m.State("ADVANCE"):
                following = (self.read_offset + 1)[:16]
                m.d.sync += self.read_offset.eq(
                    Mux((following >> 7) > self.queue.size, 0, following)
                )
                m.next = "IDLE"
        return m

    @staticmethod
    def _error_code(opcode, reason):
        """:func:`hdl.registers.gits.error_code` of two signals."""
        clear = opcode == Opcode.CLEAR
        movall = (opcode == Opcode.MOVALL) & (reason == Reason.SIZE_OOR)
        low = Mux(movall, error_code(Opcode.MOVALL, Reason.SIZE_OOR) & 0xFF, reason)
        middle = Mux(clear, error_code(Opcode.CLEAR, 0) >> 8 & 0xFF, opcode)
        return Cat(Const(0, 16), Const(ERROR_BASE >> 16, 16)) | middle << 8 | low
