"""The ITS: isolation of devices, MOVI against translations, and its command queue.

Its parts are proved one by one. :class:`Walks`: the table unit among arbitrary clients and memory.
:class:`Translations`: translations and their cache, whose tables change at any time.
:class:`Queue`: the command unit, whose neighbours take any time. :class:`Passage`: the links,
between arbitrary departures and actions. :class:`Service`: the whole ITS for two CPUs, with 2-bit
ids and a cache of two entries, whose tables are :class:`Tables`: one tracked event of one device,
wherever MOVI has moved it last, and arbitrary answers about all others. Redistributors do behind
the links what :mod:`.lpi` proves of the real ones.
"""

from amaranth.hdl import Cat, Const, Fragment, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.bus import BusSignature
from hdl.gic.flight import Flight
from hdl.gic.interfaces import FIRST_LPI, LpiCommand, LpiOperation
from hdl.gic.its import LINK_DEPTH, Its
from hdl.gic.its_commands import Action, CommandUnit
from hdl.gic.its_tables import Step, TableAnswer, TableOperation, TablePort, TableRequest, TableUnit
from hdl.gic.its_translation import FLIGHT_DEPTH, Departure, Message, TranslationUnit
from hdl.registers.gits import (
    CollectionEntry,
    CommandWords,
    DeviceEntry,
    GitsBaser,
    Opcode,
    Reason,
    TranslationEntry,
)
from hdl.tap import EventKind

from ..harness import Harness
from ..proof import Properties
from ..state import Registers, State

PROPERTIES = Properties("its")
_LPI = FIRST_LPI + 5
"""The tracked LPI. No part of the ITS looks into an INTID that the tables give, so any will do."""
_CPUS, _IDS, _CACHE, _LPIS = 2, 2, 2, 32
_WALK_IDS = 4


class Tables(wiring.Component):
    """In place of :class:`hdl.gic.its_tables.TableUnit`: its ports, and its promise that one
    operation is carried out as a whole before the next. Collection n is at CPU n."""

    def __init__(self):
        super().__init__(
            {
                "commands": In(TablePort()),
                "translations": In(TablePort()),
                "devices": In(GitsBaser),
                "collections": In(GitsBaser),
                "bus": Out(BusSignature()),
                "device": In(_IDS),
                "event": In(_IDS),
                "lpi": In(16),
                "done_now": In(1),
                "for_commands": In(1),
                "other": In(TableAnswer),
                "where": Out(range(_CPUS)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        for port, mine in (
            (self.commands, self.for_commands),
            (self.translations, ~self.for_commands),
        ):
            request, answer = port.request, port.answer
            tracked = (request.device == self.device) & (request.event == self.event)
            m.d.comb += [port.done.eq(port.valid & mine & self.done_now), answer.eq(self.other)]
            with m.If(tracked & (request.operation == TableOperation.TRANSLATE)):
                m.d.comb += [
                    answer.reason.eq(Reason.OK),
                    answer.intid.eq(self.lpi),
                    answer.target.eq(self.where),
                ]
            with m.If(request.operation == TableOperation.COLLECTION):
                exists = request.collection < _CPUS
                m.d.comb += [
                    answer.reason.eq(Mux(exists, Reason.OK, Reason.COLLECTION_OOR)),
                    answer.target.eq(request.collection),
                ]
            with m.If(tracked & (request.operation == TableOperation.MAP_EVENT)):
                m.d.comb += answer.reason.eq(Reason.OK)
                with m.If(port.done):
                    m.d.sync += self.where.eq(request.collection)
        return m


class Remembering(Harness):
    """A translation unit: alone, or in the ITS under the name ``unit``."""

    def __init__(self, dut: wiring.Component):
        super().__init__(dut)
        self.device, self.event = (self.constant(_IDS, name) for name in ("device", "event"))

    def cache(self, unit: str = ""):
        """What the cache knows of the tracked LPI it knows of the tracked event."""
        s = self.state
        self.head = Message(s[f"{unit}queue.slot_0"][9:])
        self.found = ~s.fsm("LOOK_UP", f"{unit}fsm_state")
        in_range = ~(self.head.device[_IDS:].any() | self.head.event[_IDS:].any())
        here = self.head.device == self.device
        self.is_tracked = here & (self.head.event == self.event)
        self.lemma("unit-legal", s.legal(f"{unit}fsm_state"))
        self.lemma("head", ~self.found | (s[f"{unit}queue.slot_0"][0] & in_range))
        self.entry = data.StructLayout(
            {"tag": 2 * _IDS - 1, "intid": 16, "target": range(_CPUS), "valid": 1}
        )
        self.tag = Cat(self.device, self.event[1:])
        self.index = (self.event ^ (self.device >> 3))[0]
        head_tag = Cat(self.head.device[:_IDS], self.head.event[1:_IDS])
        looked_for = s[f"{unit}cache.looked_for"]
        self.lemma("looked-for", ~self.found | (looked_for == head_tag))
        self.rows = [
            data.View(self.entry, s[f"{unit}cache.entries.row_{i}"]) for i in range(_CACHE)
        ]
        self.read = data.View(self.entry, s[f"{unit}cache.entries.read__data"])
        head_index = self.head.event[0]
        for i, row in enumerate(self.rows):
            right = (row.tag == self.tag) & (self.index == i)
            self.lemma(f"row-{i}", ~(row.valid & (row.intid == _LPI)) | right)
        right = (self.read.tag == self.tag) & (self.index == head_index)
        known = self.found & self.read.valid & (self.read.intid == _LPI)
        self.lemma("read", ~known | right)
        result = Departure(s[f"{unit}result"])
        self.walked = self.found & s[f"{unit}walked"]
        self.lemma("walked", ~(self.walked & (result.intid == _LPI)) | self.is_tracked)
        self.result = result


class Service(Remembering):
    """The ITS, the places where a pending tracked LPI can be, and who takes it."""

    def __init__(self):
        its = Its(
            cpus=_CPUS,
            lpis=_LPIS,
            device_id_bits=_IDS,
            event_id_bits=_IDS,
            translation_cache=_CACHE,
        )
        Fragment.get(its._tables, None)
        its._tables = self.tables = Tables()
        super().__init__(its)
        s = self.state
        other = self.arbitrary(TableAnswer, "other")
        self.m.d.comb += [
            self.tables.device.eq(self.device),
            self.tables.event.eq(self.event),
            self.tables.lpi.eq(_LPI),
            self.tables.done_now.eq(self.arbitrary(1, "done_now")),
            self.tables.for_commands.eq(self.arbitrary(1, "for_commands")),
            self.tables.other.eq(other),
        ]
        self.assume((other.intid != _LPI) & (other.target < _CPUS))
        self.words = CommandWords(s["commands.words"])
        self.executes = s.fsm("EXECUTE", "commands.fsm_state")
        self._lawful_commands()
        tap = its.tap
        translated = tap.valid & (tap.record.kind == EventKind.TRANSLATION)
        self.departs = self.named(translated & (tap.record.data == _LPI), "departs")

    def _lawful_commands(self):
        """Software moves the tracked event as it likes, but does not unmap or remap it."""
        words = self.words
        mine = (words.device == self.device) & (words.event == self.event)
        maps = (words.opcode == Opcode.MAPTI) | (words.opcode == Opcode.MAPI)
        tells = Cat(
            words.opcode == code for code in (Opcode.INT, Opcode.CLEAR, Opcode.DISCARD)
        ).any()
        remaps = (words.opcode == Opcode.MAPD) | (words.opcode == Opcode.MAPC)
        self.assume(~self.executes | ~(remaps | (mine & (maps | tells))))


class Translations(Remembering):
    """The translation unit alone, its cache told to forget at any time."""

    def __init__(self):
        super().__init__(
            TranslationUnit(cpus=_CPUS, device_id_bits=_IDS, event_id_bits=_IDS, cache=_CACHE)
        )
        tables, tap = self.dut.tables, self.dut.tap
        asked = tables.request
        tracked = (asked.device == self.device) & (asked.event == self.event)
        self.assume(tracked | (tables.answer.intid != _LPI))
        self.assume(tables.valid | ~tables.done)
        translated = tap.valid & (tap.record.kind == EventKind.TRANSLATION)
        self.departs = self.named(translated & (tap.record.data == _LPI), "departs")
        self.cache()


class Walks(Harness):
    """The table unit alone; both clients ask what they like, and memory answers what it likes.

    What it answered in the operation under way is remembered by address.
    """

    def __init__(self):
        super().__init__(
            TableUnit(cpus=_CPUS, lpis=_LPIS, device_id_bits=_WALK_IDS, event_id_bits=_WALK_IDS)
        )
        m, s, dut = self.m, self.state, self.dut
        for table in ("devices", "collections"):
            m.d.comb += getattr(dut, table).eq(self.constant(GitsBaser, table))
        for name in ("commands", "translations"):
            port = getattr(dut, name)
            waits = self.before(port.valid & ~port.done, f"{name}_wait")
            asked = self.before(port.request, f"{name}_asked")
            self.assume(~waits | (port.valid & (Value.cast(port.request) == asked)))
            self.assume(Cat(port.request.operation == x for x in TableOperation).any())
        request = Mux(s["for_commands"], dut.commands.request, dut.translations.request)
        self.request = request = TableRequest(request)
        self.idle, self.done = s.fsm("IDLE"), s.fsm("DONE")
        self.at_bus = s.fsm("ACCESS") | s.fsm("WAIT")
        self.operation = request.operation
        device, event = request.device[:_WALK_IDS], request.event[:_WALK_IDS]

        def remembered(name: str, at, after):
            """What memory first answered at ``at`` in this operation, ``after`` something else was
            known; and whether it did."""
            word, known = Signal(32, name=name), Signal(name=f"{name}_known")
            answered = s.fsm("WAIT") & dut.bus.response.valid & ~dut.bus.response.p.error
            with m.If(s.fsm("START")):
                m.d.sync += known.eq(0)
            new = answered & after & ~known & ~dut.bus.request.p.write
            with m.If(new & (s["address"] == at)):
                m.d.sync += [word.eq(dut.bus.response.p.data), known.eq(1)]
            return word, known

        self.device_at = TableUnit._base(dut.devices) + (device << 3)
        low, self.low_known = remembered("device_low", self.device_at, Const(1))
        high, self.high_known = remembered("device_high", self.device_at + 4, Const(1))
        self.device_entry = DeviceEntry(Cat(low, high))
        self.event_at = (self.device_entry.itt_address << 8) + (event << 3)
        self.device_known = self.low_known & self.high_known
        word, self.event_known = remembered("event_word", self.event_at, self.device_known)
        self.event_entry = TranslationEntry(word)
        intid = self.event_entry.intid
        self.is_lpi = (intid >= FIRST_LPI) & (intid < FIRST_LPI + _LPIS)
        looked_up = self.operation == TableOperation.TRANSLATE
        collection = Mux(looked_up, self.event_entry.collection, request.collection)
        self.collection_at = TableUnit._base(dut.collections) + (collection << 3)
        before = self.event_known | (self.operation == TableOperation.COLLECTION)
        word, self.collection_known = remembered("collection_word", self.collection_at, before)
        self.collection_entry = CollectionEntry(word)
        self.device_exists = ~request.device[_WALK_IDS:].any()
        fits = ~(request.event[_WALK_IDS:].any() | ((event >> self.device_entry.size) >> 1).any())
        exists = self.device_exists & self.device_entry.valid
        self.maps_event = self.device_known & exists & fits
        self._steps()

    def asks(self, *operations: TableOperation) -> Value:
        return Cat(self.operation == operation for operation in operations).any()

    def _steps(self):
        s, answer = self.state, TableAnswer(self.state["answer"])
        step, address = s["step"], s["address"]
        translate, map_, unmap = (
            TableOperation.TRANSLATE,
            TableOperation.MAP_EVENT,
            TableOperation.UNMAP_EVENT,
        )
        walks = self.asks(translate, map_, unmap)
        event_known = self.asks(translate) & self.maps_event & self.event_known
        self.lemma("legal", s.legal())
        self.lemma("known-step", Cat(step == x for x in Step).any())
        waits = Mux(s["for_commands"], self.dut.commands.valid, self.dut.translations.valid)
        self.lemma("asked", self.idle | waits)
        known = answer.data == Value.cast(self.device_entry)
        here = {
            Step.READ_LOW: self.asks(TableOperation.READ),
            Step.READ_HIGH: self.asks(TableOperation.READ),
            Step.DEVICE_LOW: walks & (address == self.device_at),
            Step.DEVICE_HIGH: walks
            & (address == self.device_at + 4)
            & self.low_known
            & (answer.data[:32] == Value.cast(self.device_entry)[:32]),
            Step.EVENT: self.asks(translate) & (address == self.event_at) & self.maps_event,
            Step.COLLECTION: (self.asks(TableOperation.COLLECTION) | event_known)
            & (address == self.collection_at),
            Step.WRITE_DEVICE_LOW: self.asks(TableOperation.MAP_DEVICE)
            & (address == self.device_at),
            Step.WRITE_DEVICE_HIGH: self.asks(TableOperation.MAP_DEVICE)
            & (address == self.device_at + 4),
            Step.WRITE_EVENT: self.asks(map_, unmap) & (address == self.event_at) & self.maps_event,
            Step.WRITE_COLLECTION: self.asks(TableOperation.MAP_COLLECTION)
            & (address == self.collection_at),
        }
        for which, condition in here.items():
            now = self.at_bus & (step == which)
            self.lemma(f"step-{which.name.lower()}".replace("_", "-"), ~now | condition)
        known_words = Cat(self.low_known, self.high_known, self.event_known, self.collection_known)
        reads = (Step.DEVICE_LOW, Step.DEVICE_HIGH, Step.EVENT, Step.COLLECTION)
        for i, which in enumerate(reads):
            now = self.at_bus & (step == which)
            self.lemma(f"new-{i}", ~now | ~known_words[i:].any())
        self.lemma("new-event", ~s.fsm("DEVICE") | ~known_words[2:].any())
        self.lemma("new-collection", ~s.fsm("EVENT") | ~known_words[3])
        entry = (answer.intid == self.event_entry.intid) & (
            answer.collection == self.event_entry.collection
        )
        in_device = s.fsm("DEVICE")
        self.lemma("has-device", ~in_device | (walks & self.device_known & known))
        self.lemma("exists", ~(walks & (self.at_bus | in_device)) | self.device_exists)
        self.lemma("has-event", ~s.fsm("EVENT") | (event_known & entry))
        translated = self.asks(translate) & ((self.at_bus & (step == Step.COLLECTION)) | self.done)
        ok = self.at_bus | (answer.reason == Reason.OK)
        self.lemma("answer", ~(translated & ok) | (event_known & entry & self.is_lpi))
        complete = self.done & self.asks(translate) & (answer.reason == Reason.OK)
        target = self.collection_entry.target
        right = self.collection_known & self.collection_entry.valid & (target < _CPUS)
        self.lemma("target", ~complete | (right & (answer.target == target)))


class Silent(wiring.Component):
    """A unit with the ports of another, that the harness speaks for."""

    def __init__(self, unit: wiring.Component):
        super().__init__(unit.signature)

    def elaborate(self, platform):
        return Module()


class Passage(Harness):
    """The ITS's links between arbitrary departures and arbitrary actions of commands, and the
    places where a pending tracked LPI can be until a CPU takes it.

    Arbitrary covers every interleaving of MOVI and MOVALL with translations; :func:`movi_moves`
    says which actions a MOVI really has.
    """

    def __init__(self):
        its = Its(cpus=_CPUS, lpis=_LPIS)
        for unit in ("_tables", "_translations", "_commands"):
            whole = getattr(its, unit)
            setattr(its, unit, Silent(whole))
            Fragment.get(whole, None)
        super().__init__(its)
        self.flight = flight = Flight(Departure, depth=FLIGHT_DEPTH)
        elaborated = Fragment.get(flight, Registers())
        self.slots = State(elaborated)
        self.m.submodules.flight = elaborated
        departure, departures = flight.near, its._translations.departures
        action, actions = self.arbitrary(Action, "action"), its._commands.actions
        self.m.d.comb += [
            departure.valid.eq(self.arbitrary(1, "departs_now")),
            departure.payload.eq(self.arbitrary(Departure, "departure")),
            departures.valid.eq(flight.far.valid),
            departures.payload.eq(flight.far.payload),
            flight.far.ready.eq(departures.ready),
            flight.distance.eq(self.arbitrary(8, "distance")),
            actions.valid.eq(self.arbitrary(1, "acts_now")),
            actions.payload.eq(action),
        ]
        command = Action(action).command
        others = Cat(command.operation == x for x in (LpiOperation.SET, LpiOperation.CLEAR)).any()
        self.assume(~(others & (command.intid == _LPI)))
        leaves = departure.valid & departure.ready
        self.departs = self.named(leaves & (departure.p.intid == _LPI), "departs")
        self.assume(~departure.valid | (departure.p.target < _CPUS))
        self._redistributors()
        self._in_order()

    def _redistributors(self):
        """Two redistributors as far as the tracked LPI goes: pending here, or on its way over."""
        m, s = self.m, self.state
        self.pending = [Signal(name=f"pending_{i}") for i in range(_CPUS)]
        self.leaving = [Signal(name=f"leaving_{i}") for i in range(_CPUS)]
        self.acknowledges = []
        lands = [self.arbitrary(1, f"lands_{i}") & self.leaving[i] for i in range(_CPUS)]
        for i, link in enumerate(self.dut.links):
            command, ready = link.command, self.arbitrary(1, f"ready_{i}")
            pending, leaving, other = self.pending[i], self.leaving[i], 1 - i
            ours = command.p.intid == _LPI
            moves = (command.p.operation == LpiOperation.MOVE) & ours
            moves |= command.p.operation == LpiOperation.MOVE_ALL
            taken = command.valid & command.ready
            acknowledges = self.arbitrary(1, f"acknowledges_{i}") & pending
            self.acknowledges.append(acknowledges)
            m.d.comb += command.ready.eq(ready & ~leaving)
            with m.If(acknowledges):
                m.d.sync += pending.eq(0)
            with m.If(taken & moves & (command.p.target == other)):
                m.d.sync += [pending.eq(0), leaving.eq(pending & ~acknowledges)]
            with m.If(lands[i]):
                m.d.sync += leaving.eq(0)
            with m.If(taken & ours & (command.p.operation == LpiOperation.SET)):
                m.d.sync += pending.eq(1)
            with m.If(lands[other]):
                m.d.sync += pending.eq(1)
        flights = [self.slots[f"slot_{k}"] for k in range(FLIGHT_DEPTH)]
        departing = [slot[0] & (Departure(slot[9:]).intid == _LPI) for slot in flights]
        on_links = []
        for i in range(_CPUS):
            for k in range(LINK_DEPTH):
                slot = s[f"link_{i}.slot_{k}"]
                command = LpiCommand(slot[9:])
                is_set = command.operation == LpiOperation.SET
                on_links.append(slot[0] & is_set & (command.intid == _LPI))
        self.places = self.named(Cat(*departing, *on_links, *self.pending, *self.leaving), "places")

    def _in_order(self):
        """The slots of a flight are used from the first on."""
        flights = {"flight": [self.slots[f"slot_{k}"] for k in range(FLIGHT_DEPTH)]}
        for i in range(_CPUS):
            flights[f"link-{i}"] = [self.state[f"link_{i}.slot_{k}"] for k in range(LINK_DEPTH)]
        for name, slots in flights.items():
            for k in range(1, len(slots)):
                self.lemma(f"{name}-{k}", ~slots[k][0] | slots[k - 1][0])


@PROPERTIES.proof(steps=1)
def devices_are_isolated() -> Harness:
    """A message of another device, or another event, never sets an LPI that the tables give only
    for the tracked event of the tracked device, whatever is remembered in between."""
    h = Translations()
    h.claim("only-its-own", ~h.departs | h.is_tracked)
    return h


@PROPERTIES.proof(steps=1, reach=12)
def walks_stay_at_home() -> Harness:
    """A translation answers what memory holds at the entry of its own device and event, within the
    range MAPD gave; a command writes only the entries it names, and a translation none."""
    h = Walks()
    s, dut, answer = h.state, h.dut, TableAnswer(h.state["answer"])
    complete = h.done & h.asks(TableOperation.TRANSLATE) & (answer.reason == Reason.OK)
    entry, collection = h.event_entry, h.collection_entry
    h.claim("mapped", ~complete | (h.maps_event & h.event_known & h.is_lpi))
    h.claim("its-own", ~complete | (answer.intid == entry.intid))
    at_cpu = h.collection_known & collection.valid & (answer.target == collection.target)
    h.claim("its-cpu", ~complete | at_cpu)
    request, address = dut.bus.request, s["address"]
    writes = request.valid & request.p.write
    shown = request.p.address == Cat(Const(0, 2), address[2 : len(request.p.address)])
    h.claim("on-the-bus", ~request.valid | (shown & ~address[len(request.p.address) :].any()))
    device = (address == h.device_at) | (address == h.device_at + 4)
    mine = (
        (h.asks(TableOperation.MAP_DEVICE) & device)
        | (h.asks(TableOperation.MAP_COLLECTION) & (address == h.collection_at))
        | (
            h.asks(TableOperation.MAP_EVENT, TableOperation.UNMAP_EVENT)
            & (address == h.event_at)
            & h.maps_event
        )
    )
    h.claim("writes-its-own", ~writes | mine)
    return h


@PROPERTIES.proof(steps=1, reach=24)
def changes_are_forgotten() -> Harness:
    """In the clock after a command's MAPTI, MAPI, MOVI or DISCARD has changed an event's entry, the
    cache is told to forget that event, and after MAPD and MAPC to forget all."""
    h = Queue(stall_on_error=False)
    s, dut = h.state, h.dut
    request, answer = dut.tables.request, dut.tables.answer
    unmapped = (answer.reason == Reason.UNMAPPED_COLLECTION) & (
        request.operation == TableOperation.UNMAP_EVENT
    )
    changed = dut.tables.valid & dut.tables.done & ((answer.reason == Reason.OK) | unmapped)
    whole = Cat(
        request.operation == x for x in (TableOperation.MAP_DEVICE, TableOperation.MAP_COLLECTION)
    ).any()
    single = Cat(
        request.operation == x for x in (TableOperation.MAP_EVENT, TableOperation.UNMAP_EVENT)
    ).any()
    opcode, operation = h.words.opcode, s["operation"]
    at_work = s.fsm("TABLE") | s.fsm("NEXT")
    for what, opcodes in (
        (TableOperation.MAP_DEVICE, (Opcode.MAPD,)),
        (TableOperation.MAP_COLLECTION, (Opcode.MAPC,)),
        (TableOperation.MAP_EVENT, (Opcode.MAPTI, Opcode.MAPI, Opcode.MOVI)),
        (TableOperation.UNMAP_EVENT, (Opcode.DISCARD,)),
    ):
        those = Cat(opcode == code for code in opcodes).any()
        name = what.name.lower().replace("_", "-")
        h.lemma(f"by-{name}", ~(at_work & (operation == what)) | those)
    h.lemma("fetch", ~s.fsm("FETCH") | (operation == TableOperation.READ))
    device, event = (h.before(request[name], name) for name in ("device", "event"))
    this = (dut.forget_device == device[:_IDS]) & (dut.forget_event == event[:_IDS])
    h.claim("event", ~h.before(changed & single, "changed_one") | (dut.forget & this))
    h.claim("all", ~h.before(changed & whole, "changed_many") | dut.forget_all)
    return h


@PROPERTIES.proof(steps=1)
def no_stale_translation() -> Harness:
    """Whatever changes the mapping of an event, and however often: a translation that begins after
    the cache was told to forget goes where the tables say then, or nowhere if nowhere."""
    h = Translations()
    m, s, dut = h.m, h.state, h.dut
    tables = dut.tables
    place = data.StructLayout({"intid": 16, "target": range(_CPUS)})
    where, mapped = Signal(place, name="where"), Signal(name="mapped")
    changes, new = h.arbitrary(1, "changes"), h.arbitrary(place, "new")
    with m.If(changes):
        m.d.sync += [where.eq(new), mapped.eq(h.arbitrary(1, "maps"))]
    tracked = (tables.request.device == h.device) & (tables.request.event == h.event)
    done, answer = tables.done, tables.answer
    there = (answer.intid == where.intid) & (answer.target == where.target)
    h.assume(~(done & changes))
    h.assume(~(done & tracked) | ((answer.reason == Reason.OK) == mapped))
    h.assume(~(done & tracked & mapped) | there)
    told = (dut.forget_device == h.device) & (dut.forget_event == h.event)
    must_forget = h.before(changes, "must_forget")
    h.assume(~must_forget | dut.forget_all | (dut.forget & told))
    stale = Signal()
    with m.If(~h.found):
        m.d.sync += stale.eq(0)
    with m.If(changes | must_forget):
        m.d.sync += stale.eq(1)

    def fresh(entry) -> Value:
        return mapped & (entry.intid == where.intid) & (entry.target == where.target)

    emptying, emptied = s["cache.emptying"], s["cache.emptied"]
    for i, row in enumerate(h.rows):
        its = row.valid & (row.tag == h.tag) & (h.index == i)
        to_be_emptied = emptying & (emptied <= i)
        h.lemma(f"emptied-{i}", ~(emptying & (emptied > i) & row.valid))
        h.lemma(f"fresh-{i}", ~its | to_be_emptied | must_forget | fresh(row))
    found = h.found & h.is_tracked
    h.lemma("fresh-read", ~(found & s["cache.hit"]) | stale | fresh(h.read))
    h.lemma("fresh-walk", ~(h.walked & h.is_tracked) | stale | fresh(h.result))
    translated = dut.tap.valid & (dut.tap.record.kind == EventKind.TRANSLATION) & found
    record = dut.tap.record
    right = mapped & (record.data == where.intid) & (record.unit == where.target)
    h.claim("as-mapped", ~translated | stale | right)
    return h


@PROPERTIES.proof(steps=1, reach=8)
def movi_loses_nothing() -> Harness:
    """However MOVI, MOVALL and translations of the event interleave, an LPI that was set off is
    under way, pending at a CPU or being handed over until a CPU acknowledges it."""
    h = Passage()
    live = Signal()
    with h.m.If(h.acknowledges[0] | h.acknowledges[1]):
        h.m.d.sync += live.eq(0)
    with h.m.If(h.departs):
        h.m.d.sync += live.eq(1)
    h.claim("somewhere", ~live | h.places.any())
    return h


@PROPERTIES.proof(steps=1, reach=8)
def movi_doubles_nothing() -> Harness:
    """However MOVI, MOVALL and the translation of one message interleave, its LPI is in at most one
    place and acknowledged at most once."""
    h = Passage()
    sent, taken = Signal(), Signal()
    h.assume(~(h.departs & sent))
    with h.m.If(h.departs):
        h.m.d.sync += sent.eq(1)
    acknowledged = h.acknowledges[0] | h.acknowledges[1]
    with h.m.If(acknowledged):
        h.m.d.sync += taken.eq(1)
    places = [*h.places]
    count = sum(places[1:], places[0])
    h.lemma("sent-first", ~taken | sent)
    h.claim("one-place", count <= (sent & ~taken))
    h.claim("one-acknowledge", ~(taken & acknowledged))
    return h


@PROPERTIES.proof(steps=1)
def movi_moves() -> Harness:
    """MOVI tells the redistributor that had the event to move its LPI to the one that has it now,
    and a translation that begins after it goes there, cached or not."""
    h = Service()
    h.cache("translations.")
    s, words, where = h.state, h.words, h.tables.where
    mine = (words.device == h.device) & (words.event == h.event) & (words.opcode == Opcode.MOVI)
    tables, following, act = (s.fsm(x, "commands.fsm_state") for x in ("TABLE", "NEXT", "ACT"))
    operation, cpu = s["commands.operation"], s["commands.cpu"]
    translate, collect, map_ = (
        operation == x
        for x in (TableOperation.TRANSLATE, TableOperation.COLLECTION, TableOperation.MAP_EVENT)
    )
    maps = h.named(h.tables.commands.done & tables & map_ & mine, "maps")
    was = Signal(range(_CPUS))
    with h.m.If(maps):
        h.m.d.sync += was.eq(where)
    knows = mine & ((following & translate) | ((tables | following) & collect) | (tables & map_))
    right = (s["commands.intid"] == _LPI) & (cpu == where)
    h.lemma("commands-legal", s.legal("commands.fsm_state"))
    h.lemma("kinds", ~(mine & (tables | following)) | translate | collect | map_)
    event = (words.device == h.device) & (words.event == h.event)
    maps_other = Cat(words.opcode == x for x in (Opcode.MAPTI, Opcode.MAPI)).any() & ~event
    lawful = (words.opcode == Opcode.MOVI) | maps_other
    fetching = s.fsm("FETCH", "commands.fsm_state")
    draining = s.fsm("DRAIN", "commands.fsm_state")
    h.lemma("drains", ~draining | (words.opcode == Opcode.SYNC))
    h.lemma("reads", ~fetching | (operation == TableOperation.READ))
    h.lemma("lawful", ~((tables | following) & map_) | lawful)
    h.lemma("knows", ~knows | right)
    new = mine & ((following & collect) | (tables & map_))
    to = (s["commands.new_cpu"] == words.collection) & (words.collection < _CPUS)
    h.lemma("new", ~new | to)
    mapped = mine & following & map_
    same = (s["commands.intid"] == _LPI) & (cpu == was) & (s["commands.new_cpu"] == where)
    h.lemma("mapped", ~mapped | same)
    action = s["commands.action"]
    command = LpiCommand(action[8:])
    told = (command.operation == LpiOperation.MOVE) & (command.intid == _LPI)
    h.claim("told", ~(act & mine) | (told & (action[:8] == was) & (command.target == where)))
    silent = h.before(mapped & (was != where), "must_tell")
    h.claim("tells", ~silent | act)

    stale, forgets = Signal(), mapped
    with h.m.If(~h.found):
        h.m.d.sync += stale.eq(0)
    with h.m.If(maps | forgets):
        h.m.d.sync += stale.eq(1)
    emptying, emptied = (s[f"translations.cache.{name}"] for name in ("emptying", "emptied"))
    for i, row in enumerate(h.rows):
        its = row.valid & (row.tag == h.tag) & (h.index == i)
        to_be_emptied = emptying & (emptied <= i)
        h.lemma(f"emptied-{i}", ~(emptying & (emptied > i) & row.valid))
        h.lemma(
            f"fresh-{i}",
            ~its | to_be_emptied | mapped | ((row.target == where) & (row.intid == _LPI)),
        )
    its = h.found & h.is_tracked & s["translations.cache.hit"]
    h.lemma("fresh-read", ~its | stale | ((h.read.target == where) & (h.read.intid == _LPI)))
    walked = h.walked & h.is_tracked
    h.lemma("fresh-walk", ~walked | stale | (h.result.target == where))
    h.claim("goes-there", ~h.departs | stale | (h.dut.tap.record.unit == where))
    return h


class Queue(Harness):
    """The command unit, with software that only ever appends to the queue."""

    def __init__(self, *, stall_on_error: bool):
        super().__init__(
            CommandUnit(
                cpus=_CPUS, device_id_bits=_IDS, event_id_bits=_IDS, stall_on_error=stall_on_error
            )
        )
        dut = self.dut
        size = self.constant(8, "size")
        self.assume((dut.queue.size == size) & ~dut.rewind)
        entries = (size + 1) << 7
        self.read = dut.read_offset

        def ahead(write):
            """Commands between CREADR and ``write``."""
            return Mux(write >= self.read, write - self.read, write + entries - self.read)[:15]

        written = self.before(dut.write_offset, "written")
        self.assume(dut.write_offset < entries)
        self.left = self.named(ahead(dut.write_offset), "left")
        self.assume(self.left >= ahead(written))
        self.idle, self.advances = (self.state.fsm(x) for x in ("IDLE", "ADVANCE"))
        self.lemma("legal", self.state.legal())
        self.lemma("inside", self.read < entries)
        self.lemma("written-inside", written < entries)
        self.words = CommandWords(self.state["words"])
        self.lemma("something-to-do", self.idle | (ahead(written) != 0))


@PROPERTIES.proof(steps=1, reach=14)
def creadr_stays_behind() -> Harness:
    """CREADR moves by one command at a time and only while it has not reached CWRITER; a command is
    begun only then, and a stalled queue does not move."""
    h = Queue(stall_on_error=True)
    before = h.before(h.left, "left_before")
    read = h.before(h.read, "read_before")
    advanced = h.before(h.advances, "advanced")
    h.claim("behind", ~h.advances | (h.left != 0))
    moved = h.read != read
    h.claim("only-then", ~moved | advanced)
    h.claim("by-one", ~advanced | (h.left >= before - 1))
    h.claim("begins", h.idle | (h.left != 0))
    return h


@PROPERTIES.proof(steps=1, reach=16)
def queue_keeps_moving() -> Harness:
    """With "skip", every command is consumed within 13 clocks of its own, whatever it is: clocks in
    which it waits for its table operation, a link, translations or a redistributor aside."""
    h = Queue(stall_on_error=False)
    dut, s = h.dut, h.state
    at = {state: s.fsm(state) for state in s.states()}
    operation, action = s["operation"], s["action"]
    waits = (at["FETCH"] | at["TABLE"]) & ~dut.tables.done
    waits |= at["ACT"] & ~dut.actions.ready
    waits |= at["DRAIN"] & ~dut.drained
    waits |= at["SYNC"] & ~dut.synced.bit_select(action[:8], 1)
    age = Signal(5)
    with h.m.If(h.idle | h.advances):
        h.m.d.sync += age.eq(0)
    with h.m.Elif(~waits):
        h.m.d.sync += age.eq(age + 1)
    first = operation == TableOperation.TRANSLATE
    second = operation == TableOperation.COLLECTION
    reached = Mux(first, 5, Mux(second, 7, 9))
    h.lemma("fetches", ~at["FETCH"] | (age == s["word"]))
    h.lemma("executes", ~at["EXECUTE"] | (age == 4))
    h.lemma("looks-up", ~at["TABLE"] | (age <= reached))
    h.lemma("goes-on", ~at["NEXT"] | (age <= reached + 1))
    h.lemma("waits-for-translations", ~at["DRAIN"] | (age == 5))
    h.lemma("acts", ~(at["ACT"] | at["FAIL"]) | (age <= 11))
    h.lemma("waits-for-a-cpu", ~at["SYNC"] | (age <= 12))
    h.lemma("begins-anew", ~h.idle | (age == 0))
    h.claim("consumed", age <= 13)
    return h
