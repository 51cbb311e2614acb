"""What goes over the serial line: requests, replies, and how a program looks in memory.

Every structure is packed from its lowest bit, its bytes lowest first. The host packs and unpacks
with the same layouts, so they stand once.
"""

from dataclasses import dataclass

from amaranth.lib import data, enum

from ..config import SocConfig
from ..cpu_port import CpuRequest, Operation
from ..memory import BLOCK_RAM_LIMIT
from ..tap import TapRecord
from .framing import CRC16
from .uart import check_divisor

VERSION = 1
LINES = 3
"""Lines of a CPU, a bit each: IRQ, VIRQ, INTR."""
CYCLE_BITS = 20
"""Width of the clocks of a trial."""
STEP_BITS = 12
PAIRS = 4
"""(CPU, vector) pairs that a program can speak of."""


class Request(enum.Enum, shape=8):
    """From the host. Each is answered by one last reply: DONE unless the comment says another."""

    INFO = 1  #: answered by INFO
    RESET = 2  #: the machine as after power-up, every input zero; ends a run or a sweep
    POKE = 3
    SUBMIT = 4
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


class Submission(data.Struct):
    """``request`` is offered on the port of ``cpu`` in the next clock."""

    cpu: 8
    request: CpuRequest


class Record(data.Struct):
    """A tap record of clock ``cycle``."""

    cycle: 32
    channel: 8
    record: TapRecord


class Trial(data.Struct):
    """A trial of a sweep. ``left``: its software met what the program does not know."""

    index: 24
    verdicts: Verdict
    left: 1
    cycles: CYCLE_BITS


class Swept(data.Struct):
    """``clocks`` of the board that the sweep took."""

    clocks: 48


class Stimulus(data.Struct):
    """In clock ``cycle`` (``swept``: plus the trial's offset) a :class:`Poke` happens."""

    used: 1
    swept: 1
    cycle: CYCLE_BITS
    field: 8
    value: 16


class Pair(data.Struct):
    cpu: 3
    vector: 8


class Sweep(data.Struct):
    """``count`` trials; the offset of swept stimuli is 0 in the first and grows by ``step``.

    ``limit``, ``settle``, ``patience``: as of the scenario. A trial is reported if it earned one
    of ``report``, and all are with ``report_all``. ``unit``, ``requester``: whose events and
    messages count.
    """

    count: 24
    step: STEP_BITS
    limit: CYCLE_BITS
    settle: CYCLE_BITS
    patience: CYCLE_BITS
    report: Verdict
    report_all: 1
    unit: 8
    requester: 16
    pairs: data.ArrayLayout(Pair, PAIRS)


class Compact(data.Struct):
    """An operation in the operation memory: a :class:`hdl.cpu_port.CpuRequest` without padding."""

    operation: Operation
    size: 2
    address: 40
    data: 32


@dataclass(frozen=True)
class LabConfig:
    """A machine and the laboratory around it.

    Attributes
    ----------
    soc : SocConfig
        Its RAM must be on the chip: at most 64 KiB.
    edges, operations, stimuli : int
        Words of program memory (2 to 4096), of each CPU's operation memory (2 to 256), of the
        stimulus memory (2 to 256; the last one stays unused).
    divisor : int
        Clocks a bit of the serial line.
    """

    soc: SocConfig
    edges: int = 512
    operations: int = 128
    stimuli: int = 16
    divisor: int = 4

    def __post_init__(self):
        if not isinstance(self.soc, SocConfig):
            raise TypeError(f"LabConfig.soc must be a SocConfig, not {self.soc!r}")
        if self.soc.ram_bytes > BLOCK_RAM_LIMIT:
            raise ValueError(
                f"LabConfig.soc.ram_bytes must be at most {BLOCK_RAM_LIMIT}, which is on the "
                f"chip, not {self.soc.ram_bytes}"
            )
        for name, most in (("edges", 4096), ("operations", 256), ("stimuli", 256)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"LabConfig.{name} must be an integer, not {value!r}")
            if not 2 <= value <= most:
                raise ValueError(f"LabConfig.{name} must be between 2 and {most}, not {value}")
        check_divisor(self.divisor)

    @property
    def identity(self) -> int:
        """Tells host and board whether they mean the same machine."""
        text = repr((VERSION, self.soc, self.edges, self.operations, self.stimuli))
        return CRC16.compute(text.encode()) | len(text) << 16

    @property
    def seen(self) -> data.StructLayout:
        """What software sees when it goes on: the guard of an edge."""
        cpus = self.soc.cpus
        return data.StructLayout(
            {
                "answered": cpus,
                "error": cpus,
                "data": data.ArrayLayout(32, cpus),
                "lines": LINES * cpus,
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
                "clocks": CYCLE_BITS,
                "waiting": 1,
                "watch": LINES * cpus,
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
        return data.StructLayout({"cpu": 8, "index": 16, "word": Compact})

    @property
    def load_stimulus(self) -> data.StructLayout:
        return data.StructLayout({"index": 8, "word": Stimulus})

    @property
    def wake(self) -> data.StructLayout:
        """``cycle``: the first clock whose inputs can still be chosen; the others were seen in
        the clock before."""
        cpus = self.soc.cpus
        answer = data.StructLayout({"data": 64, "error": 1, "valid": 1, "lines": LINES})
        return data.StructLayout({"cycle": 32, "answer": data.ArrayLayout(answer, cpus)})

    def requests(self) -> dict:
        """Payload of each request."""
        return {
            Request.INFO: data.StructLayout({}),
            Request.RESET: data.StructLayout({}),
            Request.POKE: data.Layout.cast(Poke),
            Request.SUBMIT: data.Layout.cast(Submission),
            Request.RUN: data.StructLayout({"until": 32}),
            Request.LOAD_EDGE: self.load_edge,
            Request.LOAD_OPERATION: self.load_operation,
            Request.LOAD_STIMULUS: self.load_stimulus,
            Request.SWEEP: data.Layout.cast(Sweep),
            Request.COUNT: data.StructLayout({"index": 8}),
        }

    def replies(self) -> dict:
        """Payload of each reply."""
        return {
            Reply.DONE: data.StructLayout({"request": 8}),
            Reply.REFUSED: data.StructLayout({"reason": 8}),
            Reply.INFO: data.Layout.cast(Info),
            Reply.WAKE: self.wake,
            Reply.RECORD: data.Layout.cast(Record),
            Reply.TRIAL: data.Layout.cast(Trial),
            Reply.SWEPT: data.Layout.cast(Swept),
            Reply.COUNT: data.StructLayout({"value": 24}),
        }


def size_in_bytes(layout: data.Layout) -> int:
    return -(-layout.size // 8)
