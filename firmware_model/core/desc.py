"""What is known about one interrupt: its state words, its levels, who wants it.

Names and values are the kernel's (kernel/irq/internals.h, include/linux/irq.h).
"""

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from hdl.probe import CpuContext

from ..machine.cpu import Cpu
from ..machine.locks import Mutex, SpinLock
from ..machine.ops import Context

if TYPE_CHECKING:
    from .chip import IrqChip
    from .core import IrqCore
    from .domain import IrqDomain
    from .flow import FlowHandler

# Plain numbers: enumeration members are slow to compute with, and these are looked at all the time.


class IState:
    """Bits of ``IrqDesc.istate``, the core's own word; under the descriptor's lock."""

    SPURIOUS_DISABLED = 0x0002  #: nobody cared: switched off
    POLL_INPROGRESS = 0x0008  #: the spurious poller runs the handler now
    ONESHOT = 0x0020  #: stays masked until its threads are done
    REPLAY = 0x0040  #: a re-send was issued and has not started yet
    WAITING = 0x0080  #: autoprobe
    PENDING = 0x0200  #: something came that could not be handled yet
    SUSPENDED = 0x0800
    NMI = 0x2000


class Irqd:
    """Bits of ``IrqDesc.flags``, shared by all levels; under the descriptor's lock."""

    TRIGGER_MASK = 0xF  #: a :class:`Trigger`
    SETAFFINITY_PENDING = 1 << 8  #: a new affinity waits for the next interrupt
    ACTIVATED = 1 << 9  #: the hardware has been told where to send it
    PER_CPU = 1 << 11
    AFFINITY_SET = 1 << 12
    LEVEL = 1 << 13
    IRQ_DISABLED = 1 << 16  #: in software; the hardware may still be unmasked
    IRQ_MASKED = 1 << 17  #: what the core believes of the hardware
    IRQ_INPROGRESS = 1 << 18  #: a CPU runs the actions, without the lock
    WAKEUP_ARMED = 1 << 19
    FORWARDED_TO_VCPU = 1 << 20  #: a guest will deactivate it
    AFFINITY_MANAGED = 1 << 21
    IRQ_STARTED = 1 << 22
    SINGLE_TARGET = 1 << 24
    CAN_RESERVE = 1 << 26  #: x86: no vector until it is requested
    HANDLE_ENFORCE_IRQCTX = 1 << 27  #: never sent again by software
    RESEND_WHEN_IN_PROGRESS = 1 << 30


class Trigger:
    """What makes a wire an interrupt; values as in include/linux/irq.h."""

    NONE = 0  #: not known yet
    EDGE_RISING = 1
    EDGE_FALLING = 2
    LEVEL_HIGH = 4
    LEVEL_LOW = 8


class IrqReturn:
    """What a handler returns; ``True`` and ``False`` will do for the first two."""

    NONE = 0
    HANDLED = 1
    WAKE_THREAD = 2


class ActionFlag:
    """How an interrupt is requested."""

    SHARED = 1 << 0
    ONESHOT = 1 << 1
    NO_AUTOEN = 1 << 2
    PERCPU = 1 << 3
    TIMER = 1 << 4
    DISABLE_UNLAZY = 1 << 5  #: disable_irq masks the hardware at once
    NO_DEBUG = 1 << 6  #: not counted as spurious


Handler = Callable[[Cpu], Coroutine[Any, Any, int]]


class Action:
    """One handler on one interrupt; what request_irq makes and free_irq takes.

    Attributes
    ----------
    handler, thread : async function (cpu) returning an :class:`IrqReturn`
        ``thread`` runs as a task would, after the handler returned ``WAKE_THREAD``.
    flags : int
        Of :class:`ActionFlag`.
    thread_mask : int
        Its bit among the threads of a one-shot interrupt.
    thread_running : int
        Wake-ups that have not been served.
    """

    def __init__(self, handler: Handler, name: str, flags: int = 0, thread: Handler | None = None):
        self.handler = handler
        self.name = name
        self.flags = flags
        self.thread = thread
        self.thread_mask = 0
        self.thread_running = 0

    def __repr__(self) -> str:
        return f"<Action {self.name!r}>"


class IrqData:
    """An interrupt as one level of the hierarchy sees it: its chip, and its number there.

    ``chip_data`` belongs to the chip. ``parent`` is the level closer to the CPU. ``domain`` is
    where ``hwirq`` is mapped, None if that is not of interest.
    """

    def __init__(self, desc: "IrqDesc", chip: "IrqChip", hwirq: int, parent: "IrqData | None"):
        self.desc = desc
        self.chip = chip
        self.hwirq = hwirq
        self.parent = parent
        self.chip_data: Any = None
        self.domain: IrqDomain | None = None


PROBE_BITS = (
    ("flags", Irqd.IRQ_INPROGRESS),
    ("istate", IState.PENDING),
    ("istate", IState.REPLAY),
    ("flags", Irqd.IRQ_DISABLED),
    ("flags", Irqd.IRQ_MASKED),
    ("flags", Irqd.SETAFFINITY_PENDING),
    ("flags", Irqd.IRQ_STARTED),
    ("flags", Irqd.ACTIVATED),
    ("istate", IState.ONESHOT),
    ("istate", IState.SPURIOUS_DISABLED),
    ("istate", IState.POLL_INPROGRESS),
    ("flags", Irqd.WAKEUP_ARMED),
    ("flags", Irqd.FORWARDED_TO_VCPU),
)
"""The probe's ``state``, from bit 0: word and bit. ``depth`` (7: more) is in bits 15:13."""

_ISTATE = tuple((bit, 1 << i) for i, (word, bit) in enumerate(PROBE_BITS) if word == "istate")
_FLAGS = tuple((bit, 1 << i) for i, (word, bit) in enumerate(PROBE_BITS) if word == "flags")


class IrqDesc:
    """One interrupt.

    Attributes
    ----------
    irq : int
        Its Linux number.
    data : IrqData
        Its outermost level; set by :meth:`add_level`.
    handle : FlowHandler
    action : list of Action
        In the order they are called.
    depth : int
        How often it is disabled; 0 is enabled.
    affinity, effective_affinity, pending_mask : int
        One bit a CPU: wanted, reached, and waiting for the next interrupt.
    lock : SpinLock
        Of class ``desc``; guards everything here but what is said to be free of it.
    request_mutex : Mutex
    threads_oneshot : int
        Threads that a one-shot interrupt waits for.
    no_request : bool
        Nobody may request it: it is not mapped yet, or not any more.
    references : int
        Of its kernel object; at 0 it goes, after a grace period.
    serving : IrqData or None
        The outermost level as the flow that runs the actions found it: EOI goes there, even if
        the mapping is torn down meanwhile.
    """

    def __init__(self, core: "IrqCore", irq: int, affinity: int, handle: "FlowHandler"):
        self.core = core
        self.irq = irq
        self.handle = handle
        self.action: list[Action] = []
        self.istate = 0
        self.flags = Irqd.IRQ_DISABLED | Irqd.IRQ_MASKED
        self.depth = 1
        self.affinity = affinity
        self.effective_affinity = 0
        self.pending_mask = 0
        self.threads_oneshot = 0
        self.threads_active = 0
        self.threads_handled = 0
        self.threads_handled_last = 0
        self.disable_unlazy = False
        self.no_debug = False
        self.count = 0
        self.irq_count = 0
        self.irqs_unhandled = 0
        self.last_unhandled = 0
        self.no_request = False
        self.references = 1
        self.serving: IrqData | None = None
        self.lock = SpinLock(f"irq {irq}", lock_class="desc")
        self.request_mutex = Mutex(f"request irq {irq}", lock_class="request_mutex")
        self._data: IrqData | None = None

    def __repr__(self) -> str:
        return f"<IrqDesc {self.irq}>"

    @property
    def data(self) -> IrqData:
        """The outermost level."""
        if self._data is None:
            raise ValueError(f"irq {self.irq} has no chip yet; add_level() gives it one")
        return self._data

    @property
    def has_chip(self) -> bool:
        """Whether it has a level at all."""
        return self._data is not None

    @property
    def chip(self) -> "IrqChip":
        """The outermost level's chip."""
        return self.data.chip

    def add_level(self, chip: "IrqChip", hwirq: int) -> IrqData:
        """Put a level on top: the one next to the CPU first, the device's own last."""
        self._data = IrqData(self, chip, hwirq, self._data)
        return self._data

    def remove_level(self) -> IrqData:
        """Take the outermost level off."""
        data = self.data
        self._data = data.parent
        return data

    def set_chip(self, chip: "IrqChip") -> None:
        """Another chip for the outermost level; who serves the interrupt just now keeps the old."""
        old = self.remove_level()
        new = self.add_level(chip, old.hwirq)
        new.domain, new.chip_data = old.domain, old.chip_data

    # Its kernel object

    def get(self) -> None:
        """One more reference."""
        if not self.references:
            raise ReferenceCountError(f"irq {self.irq} has no reference left to take another from")
        self.references += 1

    def put(self) -> bool:
        """One reference less; whether it was the last."""
        if not self.references:
            raise ReferenceCountError(f"irq {self.irq} has no reference left to give back")
        self.references -= 1
        return not self.references

    def free(self) -> None:
        """From now on, to touch it is a crash."""
        self.__class__ = FreedIrqDesc

    def held(self, cpu: Cpu, context: Context = None) -> "_Held":
        """``async with desc.held(cpu):`` the lock, with interrupts masked.

        The lane shows the interrupt meanwhile, as ``context`` (None: of a task, or of a flow in
        an interrupt).
        """
        return _Held(self, cpu, context)

    # State words: each change shows on the lane of the CPU that makes it.

    def set_istate(self, cpu: Cpu, bits: int) -> None:
        self.istate |= bits
        self.show(cpu)

    def clear_istate(self, cpu: Cpu, bits: int) -> None:
        self.istate &= ~bits
        self.show(cpu)

    def set_flag(self, cpu: Cpu, bits: int) -> None:
        self.flags |= bits
        self.show(cpu)

    def clear_flag(self, cpu: Cpu, bits: int) -> None:
        self.flags &= ~bits
        self.show(cpu)

    def show(self, cpu: Cpu) -> None:
        """Put the state on ``cpu``'s probe lane."""
        cpu.set_state(self.probe_state)

    @property
    def probe_state(self) -> int:
        """The state as :data:`PROBE_BITS` packs it."""
        istate, flags = self.istate, self.flags
        word = min(self.depth, 7) << 13
        for bit, shown in _ISTATE:
            if istate & bit:
                word |= shown
        for bit, shown in _FLAGS:
            if flags & bit:
                word |= shown
        return word

    # What it is about now

    @property
    def disabled(self) -> bool:
        return bool(self.flags & Irqd.IRQ_DISABLED)

    @property
    def masked(self) -> bool:
        return bool(self.flags & Irqd.IRQ_MASKED)

    @property
    def in_progress(self) -> bool:
        return bool(self.flags & Irqd.IRQ_INPROGRESS)

    @property
    def started(self) -> bool:
        return bool(self.flags & Irqd.IRQ_STARTED)

    @property
    def pending(self) -> bool:
        return bool(self.istate & IState.PENDING)

    @property
    def runnable(self) -> bool:
        """Enabled, and somebody wants it."""
        return bool(self.action) and not self.flags & Irqd.IRQ_DISABLED


class FreedIrqDesc(IrqDesc):
    """What is left of a descriptor: memory that is watched, as by a kernel's address sanitizer."""

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__"):
            return object.__getattribute__(self, name)
        irq = object.__getattribute__(self, "irq")
        raise UseAfterFreeError(f"irq {irq} was used after it was freed: {name}")

    def __repr__(self) -> str:
        return "<IrqDesc, freed>"


class ReferenceCountError(Exception):
    """A count of references left its range."""


class UseAfterFreeError(Exception):
    """Software touched what was freed."""


class _Held:
    __slots__ = ("_guard", "_lane")

    def __init__(self, desc: IrqDesc, cpu: Cpu, context: Context):
        if context is None:
            context = CpuContext.FLOW if cpu.in_interrupt else CpuContext.TASK
        self._lane = cpu.context(context, irq=desc.irq)
        self._guard = desc.lock.guard_irqsave(cpu)

    async def __aenter__(self) -> None:
        self._lane.__enter__()
        await self._guard.__aenter__()

    async def __aexit__(self, kind: Any, error: Any, traceback: Any) -> None:
        self._lane.__exit__(kind, error, traceback)
        await self._guard.__aexit__(kind, error, traceback)
