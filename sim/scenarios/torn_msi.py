"""A message whose address and data change one after the other, while the device may fire."""

from collections.abc import Collection, Mapping

from firmware_model.core.records import Kind
from firmware_model.platforms.arm64_messages import MessageSystem
from firmware_model.platforms.x86 import MovingInterrupt
from firmware_model.strategies import direct_lpi
from firmware_model.strategies.torn_msi import STRATEGIES, Mask, MsiStrategy, Transit, Unmasked
from hdl.registers.pci import requester_id
from hdl.tap import EventKind

from ..hosts.base import Poke
from ..trial import Outcome, Plan
from ..verdict import Owner, judge
from . import torn_msi_arm as arm
from .base import Axis, Scenario, device_event, strategies_of
from .machines import MASKABLE, MSIX, PLAIN, X86

ACTION = "event device"
OLD_VECTOR, NEW_VECTOR = 0x35, 0x22

MOVE = 700
"""Clock at which the affinity is written, or CPU 0 starts to go offline."""
FIRST = 720
"""Clock of the event whose interrupt carries the move out (not with ``hotplug``)."""
JIFFY = 300
LIMIT = 4_000
"""Clocks of a trial without latencies that does not come to rest; a usual one takes 1500."""
ACCESSES = 60
"""Accesses of the function in a trial, at most: each can be late by both latencies."""
SETTLE = 100
"""Clocks in which whatever is under way without latencies arrives."""
SWITCH = (0, 1)


class TornMsi(Scenario):
    """The event device's interrupt moves to another CPU; an event hits the move.

    On x86 that is from CPU 0 to CPU 1. What the strategies on Arm have instead is said in
    :mod:`.torn_msi_arm`; they do not know ``hotplug`` and ``foreign``.
    """

    name = "torn-msi"
    summary = "address and data of an MSI change one after the other; the device fires in between"
    source = (
        "PCI/MSI: Avoid torn updates to MSI pairs (January 2020); x86/apic/msi: Plug non-maskable "
        "MSI affinity race (January and February 2020)"
    )
    config = X86
    boot_clocks = MOVE
    boot_axes = ("foreign_new", "foreign_old", "hi_changes", "keep_pin")
    axes = {
        "inject": Axis(45, 0, 400, "clocks from the start of the move to the device's event"),
        "bus_latency": Axis(0, 0, 500, "clocks a posted write takes from the function to the bus"),
        "read_latency": Axis(0, 0, 500, "clocks added to the answer of every read of the function"),
        "ordering": Axis(0, *SWITCH, "1: read completions may overtake posted writes (not PCI)"),
        "hotplug": Axis(1, *SWITCH, "1: CPU 0 goes offline; 0: the next interrupt carries it out"),
        "foreign_new": Axis(0, *SWITCH, "1: the new vector is another device's on CPU 0"),
        "foreign_old": Axis(0, *SWITCH, "1: the old vector is another device's on CPU 1"),
        "hi_changes": Axis(0, *SWITCH, "1: on Arm, the upper address words of the CPUs differ"),
        "keep_pin": Axis(0, *SWITCH, "1: the function asserts its pin while its MSI is off"),
    }
    strategies = strategies_of(STRATEGIES) | strategies_of(direct_lpi.STRATEGIES, arm.config)
    grids = {
        "quick": [{"inject": range(0, 161, 4), "hotplug": SWITCH}],
        # Without latencies the first write is 33 clocks into the move, the last one 110.
        "full": [
            {
                "inject": range(241),
                "hotplug": SWITCH,
                "bus_latency": (0, 60),
                "ordering": SWITCH,
                "foreign_new": SWITCH,
                "foreign_old": SWITCH,
                "hi_changes": SWITCH,
            }
        ],
    }
    own = MsiStrategy

    def begin(self, strategy: str) -> int:
        return arm.BOOT if _on_arm(self.code(strategy)) else MOVE

    def idle_axes(self, strategy: str) -> Collection[str]:
        on_arm = _on_arm(self.code(strategy))
        return ("hotplug", "foreign_new", "foreign_old", "keep_pin") if on_arm else ("hi_changes",)

    def boot(self, strategy: str, at: Mapping[str, int]) -> MovingInterrupt | MessageSystem:
        code = self.code(strategy)
        if _on_arm(code):
            return arm.boot(code, at["hi_changes"])
        endpoint = _endpoint(code)
        return MovingInterrupt(
            code,
            move_at=None,
            old_vector=OLD_VECTOR,
            new_vector=NEW_VECTOR,
            foreign_new=bool(at["foreign_new"]),
            foreign_old=bool(at["foreign_old"]),
            device=endpoint + 1,
            keep_pin=bool(at["keep_pin"]),
            capability="msix" if endpoint == MSIX else "msi",
            jiffy=JIFFY,
        )

    def stimulate(
        self, system: MovingInterrupt | MessageSystem, strategy: str, at: Mapping[str, int]
    ) -> Plan:
        endpoint = _endpoint(self.code(strategy))
        begin = self.begin(strategy)
        pokes = [
            Poke(begin, "fabric_posted_latency", at["bus_latency"]),
            Poke(begin, "fabric_completion_latency", at["read_latency"]),
            Poke(begin, "fabric_completions_pass_posted", at["ordering"]),
        ]
        if isinstance(system, MovingInterrupt):
            system.hotplug = bool(at["hotplug"])
            system.start_move(begin)
            pokes += device_event(endpoint, _event(at))
            if not at["hotplug"]:
                pokes += device_event(endpoint, FIRST)
        else:
            arm.move(system, at["hi_changes"])
            pokes += device_event(endpoint, begin + at["inject"])
        limit = begin - MOVE + _limit(at)
        settle = SETTLE + at["bus_latency"] + at["read_latency"]
        return Plan(system.machine, pokes, limit=limit, settle=settle)

    def judge(self, strategy: str, at: Mapping[str, int], outcome: Outcome) -> frozenset[str]:
        code = self.code(strategy)
        if _on_arm(code):
            return arm.verdicts(code, outcome, ACTION, _limit(self.complete(strategy, at)) // 2)
        return judge(outcome, self.owner(strategy, self.complete(strategy, at)))

    def owner(self, strategy: str, at: Mapping[str, int]) -> Owner:
        """Whose trial it is."""
        code = self.code(strategy)
        endpoint = _endpoint(code)
        foreign = {(0, NEW_VECTOR)} if at["foreign_new"] else set()
        foreign |= {(1, OLD_VECTOR)} if at["foreign_old"] else set()
        return Owner(
            endpoint,
            requester_id(endpoint),
            MovingInterrupt.irq,
            ACTION,
            shared=frozenset({code.VECTOR} if issubclass(code, Transit) else ()),
            foreign=frozenset(foreign),
            patience=_limit(at) // 2,
        )

    def figures(
        self, strategy: str, at: Mapping[str, int], outcome: Outcome
    ) -> Mapping[str, float]:
        """What a move costs beside the events: interrupts sent again, runs of anybody's handler in
        vain, and assertions of the function's pin."""
        asserted = [e for e in outcome.events if e.kind == EventKind.INTX and e.data]
        kinds = [record.kind for record in outcome.log]
        vain = [
            record
            for record in outcome.log
            if record.kind == Kind.HANDLER_END and not int(record.fields["result"])
        ]
        return {
            "resent": kinds.count(Kind.RETRIGGER),
            "in_vain": len(vain) + kinds.count(Kind.NO_IRQ_HANDLER),
            "pin": len(asserted),
        }

    def drivers(self, strategy: str) -> Mapping[str, int]:
        return {ACTION: _endpoint(self.code(strategy))}

    def window(self, at: Mapping[str, int], outcome: Outcome) -> tuple[int, int]:
        raised = [e.cycle for e in outcome.events if e.kind == EventKind.DEVICE_EVENT]
        return raised[-1] - 40, raised[-1] + 120


def _on_arm(code: type[MsiStrategy]) -> bool:
    return code in direct_lpi.STRATEGIES.values()


def _endpoint(code: type[MsiStrategy]) -> int:
    """Most are about an MSI without mask bits; those that mask, or are about MSI-X, are not."""
    return MASKABLE if issubclass(code, Mask) else MSIX if issubclass(code, Unmasked) else PLAIN


def _limit(at: Mapping[str, int]) -> int:
    return LIMIT + ACCESSES * (at["bus_latency"] + at["read_latency"])


def _event(at: Mapping[str, int]) -> int:
    """Clock of the event that is to hit the move."""
    return (MOVE if at["hotplug"] else FIRST + 1) + at["inject"]
