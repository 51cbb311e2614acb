"""An interrupt that moves, and comes again, while its handler still runs."""

from collections.abc import Collection, Mapping
from operator import itemgetter
from typing import Any

from firmware_model.core.records import Kind
from firmware_model.platforms import stimuli
from firmware_model.platforms.arm64_messages import MBI_INTID, MessageSystem
from firmware_model.platforms.x86 import X86System
from firmware_model.strategies.fasteoi import STRATEGIES, EdgeStrategy, FasteoiStrategy
from firmware_model.strategies.torn_msi import TwoStep
from hdl.gic.interfaces import FIRST_LPI
from hdl.registers.pci import requester_id

from ..trial import Outcome, Plan
from ..verdict import GicOwner, Owner, judge, judge_gic, left_behind
from .base import Axis, Block, Scenario, device_event, strategies_of
from .machines import ARM, X86, gic_frames

BOOT = 4_000
"""Clock at which the stimulus begins."""
PAUSE = 200
"""Clocks between free_irq and the next request_irq."""
LAST = 3_000
"""Clock of the stimulus in which the device has an event for whoever requested it again."""
LIMIT = 8_000
"""Clocks of a stimulus that does not come to rest; a usual one takes 1500."""
JIFFY = 300
LEAD = 40
"""Clocks from the write of the affinity to the first event, at least, on the x86 machine."""
BEARABLE = 4
"""Runs of the handler in vain; a trial has time for no more than seven of the usual length."""
NEVER = 0
SWITCH = (0, 1)
ENDPOINT = 0
ACTION = "event device"
OLD, NEW = 0, 1
"""The CPU that the interrupt goes to at first, and where it moves."""


EVENT = 300
"""Clock of the first event in the full grid."""
SHORT, LONG = 50, 230
"""Clocks that its handlers work: until after a second event has come; so long that a move which
begins after the handler takes effect before its end."""


def _full() -> list[Block]:
    """Every clock of the move against every clock of the second event, where they can race.

    The first event is acknowledged 45 clocks after it comes, and its handler looks at the device
    10 clocks after it began. Messages meet the new CPU from 190 to 230 clocks into a move, which
    holds the descriptor for 285 clocks or more.

    1. The move began before the acknowledge, and takes effect after the first event: its handler
       starts when the move is complete. What comes before that looks at the device is served; only
       what is on its way to the old CPU when messages begin to meet the new one is served there.
    2. The move begins after the handler, and takes effect before its end. The second event races
       with it from the handler's look at the device on, and on either CPU.
    3. A third thing happens, at any time while a handler works for 600 clocks, as usual.

    Earlier moves are complete when the first event comes; later ones take effect when its handler
    has ended.
    """
    early, late = range(EVENT - 240, EVENT + 49), range(EVENT + 49, EVENT + LONG - 150)
    every: list[Block] = [
        {
            "move": (move,),
            "inject2": [*range(move + 195, move + 232), *range(move + 285, move + 340)],
            "handler_cycles": (SHORT,),
        }
        for move in early
    ]
    after = range(EVENT, EVENT + LONG + 75)
    every += [{"move": late, "inject2": after, "handler_cycles": (LONG,)}]
    every = [{**block, "inject1": (EVENT,)} for block in every]
    every += [{axis: range(1, 1001)} for axis in ("move_back", "disable_enable", "free_irq")]
    every += [{"inject2": range(100, 1001)}]
    return [{**block, "eoimode": SWITCH} for block in every]


class FasteoiMigration(Scenario):
    """CPU 0 handles the device's interrupt; it moves to CPU 1, and comes there meanwhile.

    On the Arm machine CPU 2 writes the affinity, which moves the interrupt at once. On the x86
    machine CPU 1 does, and the next interrupt carries the move out: the first event's, before
    which the affinity is written there, however late ``move`` is.
    """

    name = "fasteoi-migration"
    summary = "an interrupt moves to another CPU and comes there while the old one handles it"
    source = (
        "irq: fasteoi handler re-runs on concurrent invoke (March to June 2023); "
        "genirq: Prevent migration live lock in handle_edge_irq() (July 2025)"
    )
    config = ARM
    boot_clocks = BOOT
    boot_axes = ("eoimode",)
    axes = {
        "inject1": Axis(100, 0, 2000, "clocks to the device's first event"),
        "inject2": Axis(550, 0, 2000, "clocks to its second event"),
        "move": Axis(160, 1, 2000, "clocks to the write of the affinity: from CPU 0 to CPU 1"),
        "move_back": Axis(NEVER, 0, 2000, "clocks to the write that moves it back; 0: never"),
        "handler_cycles": Axis(600, 0, 2000, "clocks that the handler works"),
        "eoimode": Axis(0, *SWITCH, "1: priority drop at once, deactivation after the handler"),
        "free_irq": Axis(NEVER, 0, 2000, "clocks to free_irq, soon requested again; 0: never"),
        "disable_enable": Axis(
            NEVER, 0, 2000, "clocks to disable_irq_nosync and enable_irq; 0: never"
        ),
    }
    strategies = strategies_of(
        STRATEGIES, lambda code: X86 if issubclass(code, EdgeStrategy) else None
    )
    grids = {
        "quick": [{"inject2": range(100, 1101, 50), "move": (60, 160), "eoimode": SWITCH}],
        "full": _full(),
    }
    own = FasteoiStrategy

    def idle_axes(self, strategy: str) -> Collection[str]:
        return ("move", "eoimode") if issubclass(self.code(strategy), EdgeStrategy) else ()

    def boot(self, strategy: str, at: Mapping[str, int]) -> MessageSystem | X86System:
        code = self.code(strategy)
        if issubclass(code, EdgeStrategy):
            return X86System(TwoStep, kernel=code.kernel, flow=code(), jiffy=JIFFY)
        return MessageSystem(
            code(),
            code.kernel,
            spi=code.spi,
            frames=gic_frames(self.config),
            cpus=self.config.cpus,
            eoimode=at["eoimode"],
        )

    def stimulate(
        self, system: MessageSystem | X86System, strategy: str, at: Mapping[str, int]
    ) -> Plan:
        system.driver.work = at["handler_cycles"]
        desc, action = system.desc, system.action
        writer, owner = system.machine.cpus[-1], system.machine.cpus[NEW]
        move = at["move"]
        if isinstance(system, X86System):
            move = min(move, max(at["inject1"] - LEAD, 1))
        tasks: list[tuple[Any, ...]] = [
            (move, writer, stimuli.move, desc, 1 << NEW),
            (at["move_back"], writer, stimuli.move, desc, 1 << OLD),
            (at["disable_enable"], owner, stimuli.disable_and_enable, desc),
            (at["free_irq"], owner, stimuli.free_and_request, desc, action, PAUSE),
        ]
        for clock, cpu, task, *what in sorted(tasks, key=itemgetter(0)):
            if clock != NEVER:
                cpu.spawn(task, BOOT + clock, *what)
        events = [at["inject1"], at["inject2"]]
        if at["free_irq"]:
            events.append(LAST)
        pokes = [poke for clock in events for poke in device_event(ENDPOINT, BOOT + clock)]
        return Plan(system.machine, pokes, limit=BOOT + LIMIT, settle=JIFFY + 100)

    def judge(self, strategy: str, at: Mapping[str, int], outcome: Outcome) -> frozenset[str]:
        code = self.code(strategy)
        if issubclass(code, EdgeStrategy):
            return self._judge_edge(outcome)
        intid = MBI_INTID if code.spi else FIRST_LPI
        owner = GicOwner(ENDPOINT, MessageSystem.irq, ACTION, intid, LIMIT // 2, BEARABLE)
        return judge_gic(outcome, owner)

    @staticmethod
    def _judge_edge(outcome: Outcome) -> frozenset[str]:
        requester = requester_id(ENDPOINT)
        owner = Owner(ENDPOINT, requester, X86System.irq, ACTION, patience=LIMIT // 2)
        found = judge(outcome, owner)
        vectors = {r.fields["vector"] for r in outcome.log if r.kind == Kind.VECTOR_ASSIGNED}
        if left_behind(outcome.events, outcome.log, X86System.irq, vectors, strict=False):
            found |= {"wrong_cpu"}
        return found

    def drivers(self, strategy: str) -> Mapping[str, int]:
        return {ACTION: ENDPOINT}

    def window(self, at: Mapping[str, int], outcome: Outcome) -> tuple[int, int]:
        clock = BOOT + at["inject2"]
        return clock - 100, clock + at["handler_cycles"] + 200
