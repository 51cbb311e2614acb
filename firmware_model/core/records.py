"""Every record that the interrupt core and its chips write: the words a verdict can rely on."""

from enum import StrEnum


class Kind(StrEnum):
    """``Record.kind``; the comment names the fields. ``irq`` is the Linux number everywhere.

    Beside these stand the machine's own: see :class:`firmware_model.machine.ops.Record`. What a
    kernel would warn about because a caller broke a rule is ``misuse``, with the ``rule`` in words.
    """

    # An interrupt comes in
    INTERRUPT = "interrupt"  #: vector, or intid: acknowledged at the local APIC, or at the GIC
    SPURIOUS_VECTOR = "spurious_vector"  #: the acknowledge found nothing
    SPURIOUS_INTID = "spurious_intid"  #: intid (1020 to 1023): the acknowledge found nothing
    NO_IRQ_HANDLER = "no_irq_handler"  #: vector, or intid: nobody holds it on this CPU; it is lost
    VECTOR_DROPPED = "vector_dropped"  #: vector, state: ignored silently, as the table says
    UNEXPECTED_IRQ = "unexpected_irq"  #: irq: it has no flow handler (yet, or any more)

    # A flow handler decides
    EARLY_OUT = "early_out"  #: irq, flow, why (busy, disabled, no_action), pended: remembered
    BUSY_WAIT = "busy_wait"  #: irq: this CPU waits until the handler on another one has ended
    HANDLER_START = "handler_start"  #: irq, action (its name)
    HANDLER_END = "handler_end"  #: irq, action, result (:class:`.desc.IrqReturn`)
    THREAD_START = "thread_start"  #: irq, action
    THREAD_END = "thread_end"  #: irq, action, result

    # Send again
    RESEND = "resend"  #: irq, by: hardware or software; it comes once more
    RESEND_REFUSED = "resend_refused"  #: irq, why: level, busy (a re-send is out already), no_way
    RETRIGGER = "retrigger"  #: irq, target, vector or intid: the chip was told to raise it
    IPI = "ipi"  #: target, vector or intid

    # Affinity
    SET_AFFINITY = "set_affinity"  #: irq, mask, result; ``result`` 0 may mean "at the next one"
    MOVE_PENDING = "move_pending"  #: irq, mask: stored for the next interrupt
    MOVE_START = "move_start"  #: irq, mask: the chip is asked now
    MOVE_END = "move_end"  #: irq, result, effective: the mask that counts from now on
    MOVE_PATH = "move_path"  #: irq, path: direct or two_step or a strategy's word, old, new
    MIGRATED = "migrated"  #: irq, broke_affinity: moved off a CPU that goes offline
    CLEANUP = "cleanup"  #: irq, vector, done: the old vector was given back, or is still in the IRR
    VECTOR_ASSIGNED = "vector_assigned"  #: irq, target, vector
    ROUTED = "routed"  #: irq, target: the GIC sends it to CPU ``target`` from now on

    # Life of an interrupt
    REQUEST_IRQ = "request_irq"  #: irq, action, result
    FREE_IRQ = "free_irq"  #: irq, action: no handler of it starts after this
    DISABLE_IRQ = "disable_irq"  #: irq, depth
    ENABLE_IRQ = "enable_irq"  #: irq, depth
    BAD_RETURN = "bad_return"  #: irq, result: a handler returned what is no IrqReturn
    NOBODY_CARED = "nobody_cared"  #: irq, unhandled: switched off
    REENABLED = "reenabled"  #: irq: a new action revived a line that nobody cared for

    # Mappings of a controller's numbers (hwirq) to irqs
    MAPPED = "mapped"  #: irq, domain, hwirq
    MAPPING_FOUND = "mapping_found"  #: irq, domain, hwirq: it was mapped already
    UNMAPPED = "unmapped"  #: irq, domain, hwirq, references: the controller has let go of it
    DESC_FREED = "desc_freed"  #: irq: the grace period is over
    DOMAIN_REMOVED = "domain_removed"  #: domain
    DOMAIN_BUSY = "domain_busy"  #: domain, mapped: it cannot be removed, so many are left

    # A guest, and those who serve it
    EVENTFD = "eventfd"  #: name: it was signalled
    INJECT = "inject"  #: intid, level, news: a virtual line, and whether the guest must know
    GUEST_ENTRY = "guest_entry"  #: the guest gets its CPU
    GUEST_EXIT = "guest_exit"  #: the host takes it
    GUEST_GONE = "guest_gone"  #: the guest will never run again
    GUEST_START = "guest_start"  #: intid: the guest's handler begins
    GUEST_END = "guest_end"  #: intid, served: it has ended; whether the device had anything to say
    GUEST_ACKED = "guest_acked"  #: intid: the host has seen the guest's end of the interrupt
    RESAMPLED = "resampled"  #: irq, again: unmasked, or signalled again since the device still asks
    BYPASS = "bypass"  #: irq, linked: the guest's end of the interrupt ends it from now on, or not
    HOST_WORK = "host_work"  #: what, steps, clocks: what the host did for an interrupt or a guest

    # A kernel's warning that is nobody's misuse
    WARNING = "warning"  #: text, and what it is about

    # What drivers say
    READY = "ready"  #: the set-up of a system is complete
    PROBED = "probed"  #: function, irq: a driver has bound to its device
    PROBE_FAILED = "probe_failed"  #: function, irq
    REMOVED = "removed"  #: function, irq: its driver has let go, and the device is deleted
    HANDLED = "handled"  #: events: the event device's driver has seen that many new ones
    DISTURBED = "disturbed"  #: a driver was called whose device never interrupts
    OFFLINE = "offline"  #: this CPU takes no interrupts any more
    FORGED = "forged"  #: address, data: a function is about to write a message it was not given
    PMU_PROBE = "pmu_probe"  #: pmu, result: its driver was bound, or a negative error
    PMU_OVERFLOW = "pmu_overflow"  #: pmu, counter, event_cpu: its handler found it (None: no event)
    EVENT_MOVED = "event_moved"  #: pmu, counter, target: a perf event belongs to CPU ``target`` now
    PMU_MOVE = "pmu_move"  #: pmus, source, target: their events and their line begin to move
    PMU_MOVED = "pmu_moved"  #: pmus, source, target, window: clocks from events to line
