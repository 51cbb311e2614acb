"""What goes over the serial line: requests, replies, and how a program looks in memory.

Every structure is packed from its lowest bit, its bytes lowest first. The host packs and unpacks
with the same layouts, so they stand once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from amaranth.lib import data, enum

from ..bus import ADDRESS_BITS
from ..config import SocConfig
from ..cpu_port import Operation
from ..memory import BLOCK_RAM_LIMIT
from ..tap import TapRecord
from .framing import CRC16
from .uart import check_divisor

VERSION = 2
LINES = ("irq", "virq", "intr")
"""Of a CPU; in a mask the first is the lowest bit."""
STEP_BITS = 12
COUNT_BITS = 16
"""Width of the number of trials in a sweep."""
CLOCKS_BITS = 32
"""Width of the clocks that a sweep takes on the board."""
PAIRS = 4
"""(CPU, vector) pairs that a program can speak of."""


class Request(enum.Enum, shape=8):
    """From the host. Each is answered by one last reply: DONE unless the comment says another."""

    INFO = 1  #: answered by INFO
    RESET = 2  #: the machine as after power-up, every input zero; ends a run or a sweep
    POKE = 3
    SUBMIT = 4  #: an operation is offered on the port of a CPU in the next clock
    RUN = 5  #: RECORDs, then WAKE
    LOAD_EDGE = 6
    LOAD_OPERATION = 7
    LOAD_STIMULUS = 8
    SWEEP = 9  #: TRIALs, then SWEPT
    COUNT = 10  #: answered by COUNT


class Reply(enum.Enum, shape=8):
    """From the board."""

    DONE = 0x80
    REFUSED = 0x81
    INFO = 0x82
    WAKE = 0x83
    RECORD = 0x84
    TRIAL = 0x85
    SWEPT = 0x86
    COUNT = 0x87


class Fact(enum.Flag, shape=4):
    """What the software's own log says about a trial, whatever the hardware did."""

    WRONG_CPU = 1
    OVERLAP = 2
    STORM = 4
    CRASH = 8


class Verdict(enum.Flag, shape=9):
    """What a trial earned, a bit each, in the order of the interface description."""

    LOST = 1
    MISDIRECTED = 2
    SPURIOUS = 4
    DUPLICATE = 8
    WRONG_CPU = 16
    OVERLAP = 32
    STARVED = 64
    STORM = 128
    CRASH = 256


COUNTERS = len(Verdict) + 2
"""Counted by a sweep: each verdict; trials with none; trials that left the program."""


class Deadline(enum.Enum, shape=2):
    """What becomes of the one timer."""

    KEEP = 0  #: nothing
    AFTER = 1  #: it runs out in so many clocks
    AT = 2  #: it runs out in that clock of the trial


class Info(data.Struct):
    """``identity`` stands for the configuration: see :attr:`LabConfig.identity`."""

    version: 8
    identity: 32


class Poke(data.Struct):
    """Input ``field`` (see :func:`hdl.boards.lab.settable_ports`) has ``value`` from now on."""

    field: 8
    value: 64


@dataclass(frozen=True)
class LabConfig:
    """A machine and the laboratory around it.

    Attributes
    ----------
    soc : SocConfig
        With an endpoint, and RAM that is on the chip: at most 64 KiB.
    edges, operations, stimuli : int
        Words of program memory (2 to 4096), of each CPU's operation memory (2 to 256), of the
        stimulus memory (2 to 256; the last one stays unused).
    divisor : int
        Clocks a bit of the serial line.
    cycle_bits : int
        Width of the clocks of a trial or a run, 12 to 32.
    recorded : tuple of str, or None
        The tap's channels whose records a run sends; None for all.
    """

    soc: SocConfig
    edges: int = 512
    operations: int = 128
    stimuli: int = 16
    divisor: int = 4
    cycle_bits: int = 24
    recorded: tuple[str, ...] | None = None

    def __post_init__(self):
        if not isinstance(self.soc, SocConfig):
            raise TypeError(f"LabConfig.soc must be a SocConfig, not {self.soc!r}")
        if self.soc.ram_bytes > BLOCK_RAM_LIMIT:
            raise ValueError(
                f"LabConfig.soc.ram_bytes must be at most {BLOCK_RAM_LIMIT}, which is on the "
                f"chip, not {self.soc.ram_bytes}"
            )
        if not self.soc.endpoints:
            raise ValueError("LabConfig.soc must have an endpoint, whose events are judged")
        ranges = {
            "edges": (2, 4096),
            "operations": (2, 256),
            "stimuli": (2, 256),
            "cycle_bits": (12, 32),
        }
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"LabConfig.{name} must be an integer, not {value!r}")
            if not least <= value <= most:
                raise ValueError(
                    f"LabConfig.{name} must be between {least} and {most}, not {value}"
                )
        check_divisor(self.divisor)

    @property
    def identity(self) -> int:
        """Tells host and board whether they mean the same machine."""
        sizes = self.edges, self.operations, self.stimuli, self.cycle_bits
        text = repr((VERSION, self.soc, sizes, self.recorded))
        return CRC16.compute(text.encode()) | len(text) << 16

    @property
    def lines(self) -> tuple[str, ...]:
        """Those of :data:`LINES` that the CPUs of this machine have."""
        return LINES if self.soc.gic else LINES[2:]

    def pack_lines(self, masks: Sequence[int]) -> int:
        """The lines of all CPUs side by side, of masks as in :data:`LINES`."""
        first = LINES.index(self.lines[0])
        width = len(self.lines)
        return sum((mask >> first) << width * cpu for cpu, mask in enumerate(masks))

    def unpack_lines(self, packed: int) -> tuple[int, ...]:
        """What :meth:`pack_lines` packed."""
        first = LINES.index(self.lines[0])
        width = len(self.lines)
        one = (1 << width) - 1
        return tuple((packed >> width * cpu & one) << first for cpu in range(self.soc.cpus))

    @property
    def data_bits(self) -> int:
        """Width of what a CPU reads and writes; only a GIC's system registers have 64."""
        return 64 if self.soc.gic else 32

    @property
    def operation(self) -> data.StructLayout:
        """An operation: a :class:`hdl.cpu_port.CpuRequest` without what no address here needs."""
        return data.StructLayout(
            {
                "operation": Operation,
                "size": 2,
                "address": ADDRESS_BITS if self.soc.high_frames else 32,
                "data": self.data_bits,
            }
        )

    @property
    def stimulus(self) -> data.StructLayout:
        """In clock ``cycle`` (``swept``: plus the trial's offset) a :class:`Poke` happens."""
        return data.StructLayout(
            {"used": 1, "swept": 1, "cycle": self.cycle_bits, "field": 8, "value": 16}
        )

    @property
    def pair(self) -> data.StructLayout:
        return data.StructLayout({"cpu": range(self.soc.cpus), "vector": 8})

    @property
    def sweep(self) -> data.StructLayout:
        """``count`` trials; the offset of swept stimuli is 0 in the first and grows by ``step``.

        ``limit``, ``settle``, ``patience``: as of the scenario. A trial is reported if it earned
        one of ``report``, and all are with ``report_all``. ``function``: whose events and messages
        count.
        """
        return data.StructLayout(
            {
                "count": COUNT_BITS,
                "step": STEP_BITS,
                "limit": self.cycle_bits,
                "settle": self.cycle_bits,
                "patience": self.cycle_bits,
                "report": Verdict,
                "report_all": 1,
                "function": range(len(self.soc.endpoints)),
                "pairs": data.ArrayLayout(self.pair, PAIRS),
            }
        )

    @property
    def trial(self) -> data.StructLayout:
        """A trial of a sweep. ``left``: its software met what the program does not know."""
        return data.StructLayout(
            {"cycles": self.cycle_bits, "index": COUNT_BITS, "verdicts": Verdict, "left": 1}
        )

    @property
    def seen(self) -> data.StructLayout:
        """What software sees when it goes on: the guard of an edge."""
        cpus = self.soc.cpus
        return data.StructLayout(
            {
                "answered": cpus,
                "error": cpus,
                "data": data.ArrayLayout(32, cpus),
                "lines": len(self.lines) * cpus,
                "due": 1,
            }
        )

    @property
    def edge(self) -> data.StructLayout:
        """A word of the program. The edges of a node are neighbours, ``last`` ends them.

        ``seen`` is what must have been seen for this edge to be taken. The rest is what software
        does then: operations to submit, how its timer is set and whether it is ``waiting`` for
        that, which lines it takes interrupts from, and what its log says: ``start`` of the
        owner's handler or of a ``foreign`` one, an interrupt that was ``unheld``, one ``resent``,
        ``facts``, and which pairs the owner has ``held`` since. ``target`` is the next node.
        """
        cpus = self.soc.cpus
        return data.StructLayout(
            {
                "seen": self.seen,
                "last": 1,
                "target": range(self.edges),
                "submit": cpus,
                "operation": data.ArrayLayout(range(self.operations), cpus),
                "deadline": Deadline,
                "clocks": self.cycle_bits,
                "waiting": 1,
                "watch": len(self.lines) * cpus,
                "resting": 1,
                "start": 1,
                "foreign": 1,
                "unheld": 1,
                "resent": 1,
                "facts": Fact,
                "held": PAIRS,
            }
        )

    @property
    def load_edge(self) -> data.StructLayout:
        return data.StructLayout({"index": 16, "word": self.edge})

    @property
    def load_operation(self) -> data.StructLayout:
        return data.StructLayout({"cpu": 8, "index": 16, "word": self.operation})

    @property
    def load_stimulus(self) -> data.StructLayout:
        return data.StructLayout({"index": 8, "word": self.stimulus})

    @property
    def record(self) -> data.StructLayout:
        """A tap record of clock ``cycle``."""
        return data.StructLayout({"cycle": self.cycle_bits, "channel": 8, "record": TapRecord})

    @property
    def wake(self) -> data.StructLayout:
        """A run ended in front of clock ``cycle``, or, if that has ``passed``, behind it; then
        ``lines`` and answers are those of it."""
        cpus = self.soc.cpus
        answer = data.StructLayout({"data": self.data_bits, "error": 1, "valid": 1})
        return data.StructLayout(
            {
                "cycle": self.cycle_bits,
                "passed": 1,
                "lines": len(self.lines) * cpus,
                "answer": data.ArrayLayout(answer, cpus),
            }
        )

    def requests(self) -> dict:
        """Payload of each request."""
        return {
            Request.INFO: data.StructLayout({}),
            Request.RESET: data.StructLayout({}),
            Request.POKE: data.Layout.cast(Poke),
            Request.SUBMIT: data.StructLayout({"cpu": 8, "word": self.operation}),
            Request.RUN: data.StructLayout({"until": self.cycle_bits}),
            Request.LOAD_EDGE: self.load_edge,
            Request.LOAD_OPERATION: self.load_operation,
            Request.LOAD_STIMULUS: self.load_stimulus,
            Request.SWEEP: self.sweep,
            Request.COUNT: data.StructLayout({"index": 8}),
        }

    def replies(self) -> dict:
        """Payload of each reply."""
        return {
            Reply.DONE: data.StructLayout({"request": 8}),
            Reply.REFUSED: data.StructLayout({"reason": 8}),
            Reply.INFO: data.Layout.cast(Info),
            Reply.WAKE: self.wake,
            Reply.RECORD: self.record,
            Reply.TRIAL: self.trial,
            Reply.SWEPT: data.StructLayout({"clocks": CLOCKS_BITS}),
            Reply.COUNT: data.StructLayout({"value": COUNT_BITS}),
        }


def size_in_bytes(layout: data.Layout) -> int:
    return -(-layout.size // 8)
