"""The CPU interface: priorities in force, what is signalled, and what an EOI may change."""

from amaranth.hdl import Const, Mux, Signal, Value

from hdl.gic.cpu_interface import CpuInterface, group_mask, is_special
from hdl.gic.interfaces import FIRST_LPI, FIRST_SPI, NO_INTERRUPT
from hdl.registers.icc import IDLE_PRIORITY, SPECIAL_INTIDS
from hdl.registers.sysreg import SystemRegister

from ..harness import Harness
from ..proof import Properties

PROPERTIES = Properties("cpu-interface")


class Interface(Harness):
    """The interface of CPU 0 of two, with candidates as their sources may give them."""

    def __init__(self):
        super().__init__(CpuInterface(0, cpus=2))
        dut, s = self.dut, self.state
        self.candidates = (dut.private, dut.spi, dut.lpi)
        self.acknowledges = (
            dut.acknowledge_private,
            dut.acknowledge_spi,
            dut.acknowledge_lpi,
        )
        self.assume(dut.private.intid < FIRST_SPI)
        self.assume((dut.spi.intid >= FIRST_SPI) & (dut.spi.intid < SPECIAL_INTIDS.start))
        self.assume(dut.lpi.intid >= FIRST_LPI)
        self.idle, self.execute, self.answer = (s.fsm(x) for x in ("IDLE", "EXECUTE", "ANSWER"))
        self.bits, self.running = s["active.bits"], s["active.running"]
        self.taken = dut.sysreg.request.valid & dut.sysreg.request.ready
        self.acknowledged = Const(0)
        for acknowledge in self.acknowledges:
            self.acknowledged = self.acknowledged | acknowledge.valid
        self.lemma("legal", s.legal())

    def writes(self, register: SystemRegister) -> Value:
        return self.execute & self.state["write"] & (self.state["register"] == register)

    def reads(self, register: SystemRegister) -> Value:
        return self.execute & ~self.state["write"] & (self.state["register"] == register)

    def pass_the_rules(self, candidate) -> Value:
        """Group enabled, above the mask, above what runs; written from the manual's words."""
        dut = self.dut
        preempts = (candidate.priority & group_mask(dut._bpr)) < self.running
        unmasked = candidate.priority[3:] < dut._pmr
        return candidate.valid & dut._enabled & unmasked & preempts


@PROPERTIES.proof(steps=1)
def running_priority_is_the_stack() -> Harness:
    """Acknowledgements stack ever more urgent priorities and EOIs take them off in reverse: when
    as many EOIs as acknowledgements came after any acknowledgement, and its own, the priorities
    in force are those of before."""
    h = Interface()
    tracked, below = Signal(), Signal(32)
    level, depth = Signal(5), Signal(6)
    load = h.writes(SystemRegister.ICC_AP1R0_EL1)
    push, drop = h.acknowledged, h.state["drop"]
    chosen = h.arbitrary(1, "chosen")
    pushed = h.state["group_priority"][3:]
    popped = Signal()
    h.m.d.sync += popped.eq(tracked & drop & (depth == 1))
    with h.m.If(~tracked & push & chosen):
        h.m.d.sync += [tracked.eq(1), below.eq(h.bits), level.eq(pushed), depth.eq(1)]
    with h.m.Elif(load):
        h.m.d.sync += tracked.eq(0)
    with h.m.Elif(tracked & push):
        h.m.d.sync += depth.eq(depth + 1)
    with h.m.Elif(tracked & drop):
        h.m.d.sync += depth.eq(depth - 1)
        with h.m.If(depth == 1):
            h.m.d.sync += tracked.eq(0)
    own = Const(1, 32) << level
    lower = (own - 1)[:32]
    nested = h.bits & lower
    h.lemma("more-urgent", ~tracked | ((below & (lower | own)) == 0))
    h.lemma("stacked", ~tracked | ((h.bits & ~lower) == (below | own)))
    count = sum((nested[i] for i in range(32)), Const(0, 1))
    h.lemma("counted", ~tracked | (depth == count + 1))
    running = Const(IDLE_PRIORITY, 8)
    for i in reversed(range(32)):
        running = Mux(h.bits[i], i << 3, running)
    h.claim("running", h.running == running)
    h.claim("strictly-urgent", ~push | ((pushed << 3) < h.running))
    h.claim("in-reverse", ~popped | (h.bits == below))
    return h


@PROPERTIES.proof(steps=1)
def nothing_of_lower_priority() -> Harness:
    """The line and IAR give only what is enabled, above the mask and strictly above what runs; IAR
    gives the most urgent candidate, and only an answered IAR acknowledges, one source once."""
    h = Interface()
    dut = h.dut
    any_passes = Const(0)
    for candidate in h.candidates:
        any_passes = any_passes | h.pass_the_rules(candidate)
    passed = h.before(any_passes, "passed")
    h.claim("irq-for-a-reason", ~dut.irq | passed)
    for i, (mine, acknowledge) in enumerate(zip(h.candidates, h.acknowledges, strict=True)):
        taken = acknowledge.valid
        h.claim(
            f"passes-{i}", ~taken | (h.pass_the_rules(mine) & (acknowledge.intid == mine.intid))
        )
        h.claim(f"asked-{i}", ~taken | h.reads(SystemRegister.ICC_IAR1_EL1))
        for j, other in enumerate(h.candidates):
            if j != i:
                less = (other.priority > mine.priority) | (
                    (other.priority == mine.priority) & (other.intid > mine.intid)
                )
                h.claim(f"best-{i}-{j}", ~(taken & other.valid) | less)
                h.claim(f"one-{i}-{j}", ~(taken & h.acknowledges[j].valid))
    reading = h.before(h.reads(SystemRegister.ICC_IAR1_EL1), "reading")
    took = h.before(h.acknowledged, "took")
    best = Const(0, 16)
    for acknowledge in h.acknowledges:
        best = Mux(acknowledge.valid, acknowledge.intid, best)
    got = h.before(best, "got")
    answered = reading & dut.sysreg.response.valid
    data = dut.sysreg.response.p.data
    h.claim("answer", ~answered | (data == Mux(took, got, NO_INTERRUPT)))
    h.claim("not-lost", ~took | answered)
    return h


@PROPERTIES.proof(steps=1)
def eoi_changes_only_its_own() -> Harness:
    """EOIR drops one running priority and, in EOImode 0, deactivates exactly the INTID it names,
    acknowledged or not; with a special INTID it does nothing; no EOI touches anything else."""
    h = Interface()
    dut = h.dut
    eoi, dir_ = (h.writes(r) for r in (SystemRegister.ICC_EOIR1_EL1, SystemRegister.ICC_DIR_EL1))
    intid = h.state["value"][:24]
    ends = eoi | dir_
    port = dut.deactivate
    splits = Mux(eoi, ~dut._eoi_mode, dut._eoi_mode)
    wanted = ends & splits & (intid < SPECIAL_INTIDS.start)
    h.claim("only-the-named", port.valid == wanted)
    h.claim("as-named", ~port.valid | (port.p.intid == intid))
    for name in ("pmr", "bpr", "eoi_mode", "enabled"):
        register = getattr(dut, f"_{name}")
        was = h.before(register, f"{name}_before")
        h.claim(f"keeps-{name}", ~h.before(ends, f"ended_{name}") | (register == was))
    h.claim("acknowledges-nothing", ~(ends & (h.acknowledged | dut.sgi_targets.any())))
    bits = h.before(h.bits, "bits_before")
    over = eoi & ~is_special(intid) & (~wanted | port.ready)
    ended, done = h.before(ends, "ended"), h.before(over, "done")
    h.claim("drops-one", ~done | (h.bits == (bits & (bits - 1))))
    h.claim("drops-no-other", ~(ended & ~done) | (h.bits == bits))

    given, owed, asked = Signal(2), Signal(), Signal()
    with h.m.If(h.taken):
        h.m.d.sync += given.eq(0)
    with h.m.Elif(port.valid & port.ready):
        h.m.d.sync += given.eq(Mux(given == 3, 3, given + 1))
    with h.m.If(ends):
        h.m.d.sync += [owed.eq(wanted), asked.eq(1)]
    with h.m.If(h.taken):
        h.m.d.sync += [owed.eq(0), asked.eq(0)]
    h.lemma("not-yet", ~h.execute | (given == 0))
    h.lemma("asked", ~asked | h.idle | h.answer | ends)
    h.claim("handed-over-once", ~(h.answer & asked) | (given == owed))
    return h
