"""From recordings to the sequencer's memories.

The recordings of trials that differ in their stimuli alone are put together: as long as software
saw the same, it did the same. That makes a tree, whose branches are what the stimuli changed;
equal ends of branches are then made one.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hdl.boards.protocol import PAIRS, Fact, LabConfig
from hdl.boards.sequencer import TALLY_BITS
from hdl.cpu_port import Operation

from .record import CompileError, Deed, Recording, Seen

FACTS = {"wrong_cpu": Fact.WRONG_CPU, "overlap": Fact.OVERLAP, "storm": Fact.STORM}
FACTS["crash"] = Fact.CRASH


@dataclass
class _Node:
    """What software knows; what it may see next leads on."""

    edges: dict[Seen, tuple[Deed, "_Node"]] = field(default_factory=dict)


@dataclass(frozen=True)
class Image:
    """What goes into the memories, and what the pairs mean."""

    edges: list[int]
    operations: list[list[Any]]
    pairs: list[tuple[int, int]]


class Program:
    """The software of a family of trials."""

    def __init__(self, recordings: Iterable[Recording] = ()):
        self._root = _Node()
        for recording in recordings:
            self.add(recording)

    def add(self, recording: Recording) -> None:
        """Let the program also do what software did in ``recording``.

        Raises
        ------
        CompileError
            If software did different things after it had seen the same.
        """
        starts = sum(deed.marks.start for _, deed in recording.steps)
        if starts >= 1 << TALLY_BITS:
            raise CompileError(f"{starts} handler runs in a trial are more than can be counted")
        node = self._root
        for seen, deed in recording.steps:
            known = node.edges.get(seen)
            if known is None:
                known = node.edges[seen] = (deed, _Node())
            elif known[0] != deed:
                raise CompileError(
                    f"having seen the same, software did {deed} once and {known[0]} before"
                )
            node = known[1]

    def image(self, lab: LabConfig) -> Image:
        """The program as the memories of ``lab`` hold it.

        Raises
        ------
        CompileError
            If it does not fit, or needs what the sequencer cannot do.
        """
        return _Assembler(lab).assemble(self._root)


class _Assembler:
    def __init__(self, lab: LabConfig):
        self._lab = lab
        cpus = lab.soc.cpus
        self._operations: list[dict[tuple, int]] = [{} for _ in range(cpus)]
        self._pairs: dict[tuple[int, int], int] = {}
        self._numbers: dict[tuple, int] = {}
        self._nodes: list[tuple] = []

    def assemble(self, root: _Node) -> Image:
        entry = self._number(root)
        # The root comes first; the others follow as they were numbered, ends of trials first.
        order = [entry, *(n for n in range(len(self._nodes)) if n != entry)]
        address, place = 0, {}
        for number in order:
            place[number] = address
            address += max(len(self._nodes[number]), 1)
        if address > self._lab.edges:
            raise CompileError(
                f"the program needs {address} words; this board has {self._lab.edges}"
            )
        words = []
        for number in order:
            edges = self._nodes[number]
            for i, (seen, deed, target) in enumerate(edges):
                words.append(self._word(seen, deed, place[target], i == len(edges) - 1))
            if not edges:
                words.append(self._end())
        return Image(
            words,
            [[self._compact(*key) for key in operations] for operations in self._operations],
            list(self._pairs),
        )

    def _number(self, root: _Node) -> int:
        """Equal nodes have one number. Without recursion: trials may be long."""
        done: dict[int, int] = {}
        stack = [root]
        while stack:
            node = stack[-1]
            missing = [n for _, n in node.edges.values() if id(n) not in done]
            if missing:
                stack += missing
                continue
            stack.pop()
            key = tuple((seen, deed, done[id(n)]) for seen, (deed, n) in node.edges.items())
            if key not in self._numbers:
                self._numbers[key] = len(self._nodes)
                self._nodes.append(key)
            done[id(node)] = self._numbers[key]
        return done[id(root)]

    def _operation(self, cpu: int, key: tuple) -> int:
        known = self._operations[cpu]
        if key not in known:
            if len(known) == self._lab.operations:
                raise CompileError(
                    f"CPU {cpu} has more than the {self._lab.operations} different operations "
                    "that this board can keep"
                )
            known[key] = len(known)
        return known[key]

    def _compact(self, operation: int, size: int, address: int, data: int) -> dict[str, Any]:
        layout = self._lab.operation
        if address >> layout["address"].width or data >> layout["data"].width:
            raise CompileError(f"operation on {address:#x} with {data:#x}: too wide")
        return {
            "operation": Operation(operation),
            "size": size,
            "address": address,
            "data": data,
        }

    def _held(self, held: frozenset[tuple[int, int]]) -> int:
        mask = 0
        for pair in sorted(held):
            number = self._pairs.setdefault(pair, len(self._pairs))
            mask |= 1 << number
        if len(self._pairs) > PAIRS:
            raise CompileError(f"more than {PAIRS} pairs of CPU and vector: {list(self._pairs)}")
        return mask

    def _word(self, seen: Seen, deed: Deed, target: int, last: bool) -> int:
        lab = self._lab
        answers = [answer or (0, 0) for answer in seen.answers]
        if any(data >> 32 for data, _ in answers):
            raise CompileError("an answer is wider than the sequencer compares")
        operation = [0] * lab.soc.cpus
        for submission in deed.submissions:
            operation[submission.cpu] = self._operation(submission.cpu, submission[1:])
        facts = Fact(0)
        for name in deed.marks.facts:
            facts |= FACTS[name]
        return lab.edge.const(
            {
                "seen": {
                    "answered": _mask(answer is not None for answer in seen.answers),
                    "error": _mask(error for _, error in answers),
                    "data": [data for data, _ in answers],
                    "lines": lab.pack_lines(seen.lines),
                    "due": int(seen.due),
                },
                "last": int(last),
                "target": target,
                "submit": _mask(
                    any(s.cpu == cpu for s in deed.submissions) for cpu in range(lab.soc.cpus)
                ),
                "operation": operation,
                "deadline": deed.timer[0],
                "clocks": deed.timer[1],
                "waiting": int(deed.waiting),
                "watch": lab.pack_lines(deed.watch),
                "resting": int(deed.resting),
                "start": int(deed.marks.start),
                "foreign": int(deed.marks.foreign),
                "unheld": int(deed.marks.unheld),
                "resent": int(deed.marks.resent),
                "facts": facts,
                "held": self._held(deed.marks.held),
            }
        ).as_bits()

    def _end(self) -> int:
        """An edge that nothing takes: an error without an answer is never seen."""
        seen = {"error": (1 << self._lab.soc.cpus) - 1}
        return self._lab.edge.const({"seen": seen, "last": 1}).as_bits()


def _mask(bits: Iterable[Any]) -> int:
    return sum(bool(bit) << i for i, bit in enumerate(bits))
