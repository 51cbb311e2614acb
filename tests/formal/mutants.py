"""For every property at least one small change of the gateware that breaks it."""

from amaranth.hdl import Array, Signal, Value

from hdl.gic.bank import BankAccess, BankRegister
from sim.formal.harness import Harness

from .mutation import Mutant

_BUS = "hdl.bus:Interconnect."
_ICC = "hdl.gic.cpu_interface:"
_APIC = "hdl.apic.local_apic:LocalApic."
_MSI = "hdl.pci.msi:MsiCapability._answers"
_MSIX = "hdl.pci.msix:MsixTable."
_LPI = "hdl.gic.lpi:LpiEngine._leaf"
_LINKS = "hdl.gic.its:Its._links"
_COMMANDS = "hdl.gic.its_commands:CommandUnit.elaborate"
_CACHE = "hdl.gic.its_cache:TranslationCache.elaborate"
_NETWORK = "hdl.gic.lpi_links:HandoverNetwork.elaborate"
_BANK = "hdl.gic.bank:InterruptBank."


def _two_edges(h: Harness) -> None:
    """Two edge-triggered SPIs, one for each CPU; both rise when they like, and the CPUs
    acknowledge together."""
    dut, step = h.dut, Signal(3)
    writes = Array(
        Value.cast(
            BankAccess.const(
                {"register": register, "index": index, "write": 1, "data": word, "select": 0b1111}
            )
        )
        for register, index, word in (
            (BankRegister.CONFIG, 0, 0b1010),
            (BankRegister.GROUP, 0, 0b11),
            (BankRegister.ROUTE, 1, 1),
            (BankRegister.SET_ENABLE, 0, 0b11),
        )
    )
    over = step == len(writes)
    h.assume(dut.access.valid == ~over)
    h.assume(over | (Value.cast(dut.access.payload) == writes[step]))
    with h.m.If(dut.access.valid & dut.access.ready):
        h.m.d.sync += step.eq(step + 1)
    h.assume(~dut.deactivate.valid & (dut.wires[2:] == 0) & (dut.withdraw_distance == 0))
    h.assume(dut.acknowledge[0].valid == dut.acknowledge[1].valid)
    h.assume(h.spi == 1)


def _plain_device(h: Harness) -> None:
    """A device without quirks, that software leaves alone and whose writes are taken at once."""
    quirks = h.dut.quirks
    h.assume(~(quirks.latch_at_event | quirks.hold_when_no_master) & (quirks.moderation == 0))
    h.assume(~h.dut.memory.request.valid & h.dut.posted.ready)


MUTANTS = (
    # A target is asked again while it still works: its owner is forgotten.
    Mutant(
        "bus.answered-once",
        _BUS + "_request_path",
        "request.valid & stage_free & ~(wanted[i] & busy).any()",
        "request.valid & stage_free",
        8,
    ),
    Mutant(
        "bus.answered-once",
        _BUS + "_response_path",
        "m.d.sync += response_for.eq(0)",
        "m.d.sync += response_for.eq(response_for & (response_for - 1) | response_for[0])",
        8,
    ),
    Mutant("bus.taken-in-time", _BUS + "_response_path", "busy[t].eq(0)", "busy[t].eq(t)", 20),
    Mutant(
        "bus.answer-to-the-asker",
        _BUS + "_response_path",
        "response_for.eq(1 << owner[t])",
        "response_for.eq(1 << owner[0])",
        8,
    ),
    Mutant(
        "bus.answer-to-the-asker",
        _BUS + "_response_path",
        "Mux(error, 0, target.response.p.data)",
        "target.response.p.data",
        8,
    ),
    Mutant(
        "bus.request-as-asked",
        _BUS + "_request_path",
        "stage_for.eq(wanted[i])",
        "stage_for.eq(Mux(wanted[i] == 2, 1, wanted[i]))",
        8,
    ),
    Mutant(
        "bus.overtaken-at-most-once",
        "hdl.bus:FairArbiter.elaborate",
        "m.Elif(self.grant[j])",
        "m.Elif(self.grant[j] & ~self.requests[i])",
        6,
    ),
    Mutant(
        "distributor.active-is-silent",
        _BANK + "_compute_row",
        "new.group & ~new.active",
        "new.group",
        14,
    ),
    Mutant(
        "distributor.signalled-to-one-cpu",
        _BANK + "_offer",
        "mine = self._target_exists & (self._target == c)",
        "mine = self._target_exists",
        14,
    ),
    Mutant(
        "distributor.signalled-is-due",
        _BANK + "_compute_row",
        "self._unmasked & new.enable",
        "self._unmasked",
        12,
    ),
    Mutant(
        "distributor.best-is-signalled",
        _BANK + "_offer",
        "rank <= best.as_value()",
        "rank >= best.as_value()",
        18,
    ),
    Mutant(
        "distributor.level-follows-the-line",
        _BANK + "_watch_wires",
        "changed[mine].any()",
        "rise[mine].any()",
        18,
    ),
    # As it was until the proof was tried: an edge that rose after one CPU's acknowledgement was
    # taken in beside that of another CPU, and cleared with the first one's latch.
    Mutant(
        "distributor.edge-is-kept",
        _BANK + "_watch_wires",
        "self._acknowledged.any()",
        "0",
        34,
        given=_two_edges,
    ),
    Mutant(
        "distributor.edge-is-kept",
        _BANK + "_watch_wires",
        "risen[mine].eq(rise[mine])",
        "risen[mine].eq(0)",
        12,
    ),
    Mutant(
        "cpu-interface.running-priority-is-the-stack",
        _ICC + "ActivePriorities.elaborate",
        "self.bits & (self.bits - 1)",
        "0",
        15,
    ),
    Mutant(
        "cpu-interface.nothing-of-lower-priority",
        _ICC + "CpuInterface.elaborate",
        "(candidate.priority < pmr)",
        "(candidate.priority <= pmr)",
        8,
    ),
    Mutant(
        "cpu-interface.nothing-of-lower-priority",
        _ICC + "CpuInterface.elaborate",
        "group_mask(self._bpr)) < active.running",
        "group_mask(self._bpr)) <= active.running",
        11,
    ),
    Mutant(
        "cpu-interface.nothing-of-lower-priority",
        _ICC + "CpuInterface._best",
        "low.priority <= high.priority",
        "low.priority < high.priority",
        8,
    ),
    Mutant(
        "cpu-interface.eoi-changes-only-its-own",
        _ICC + "CpuInterface._write",
        "with m.If(done):",
        "with m.If(1):",
        6,
    ),
    Mutant(
        "cpu-interface.eoi-changes-only-its-own",
        _ICC + "CpuInterface._deactivate",
        "needed = wanted & (intid < SPECIAL_INTIDS.start)",
        "needed = wanted",
        4,
    ),
    Mutant(
        "local-apic.irr-isr-eoi",
        _APIC + "_engine",
        "new.irr.eq(old.irr & ~bit)",
        "new.irr.eq(old.irr)",
        46,
    ),
    Mutant(
        "local-apic.irr-isr-eoi",
        _APIC + "_choose_access",
        "self._read.addr.eq(self._top_in_service)",
        "self._read.addr.eq(self._top_requested)",
        46,
    ),
    Mutant(
        "local-apic.requests-coalesce",
        _APIC + "_engine",
        "new.irr.eq(old.irr | bit)",
        "new.irr.eq(old.irr ^ bit)",
        42,
    ),
    Mutant(
        "local-apic.requests-coalesce",
        _APIC + "_engine",
        "with m.If(~new.irr.any()):",
        "with m.If(~(new.irr & ~1).any()):",
        44,
        slow=True,
    ),
    Mutant(
        "local-apic.intr-obeys-priority",
        _APIC + "_priority",
        "self._tpr[4:] >= self._top_in_service",
        "self._tpr[4:] <= self._top_in_service",
        48,
    ),
    Mutant(
        "local-apic.intr-obeys-priority",
        _APIC + "_priority",
        "self._svr.enable & (",
        "(",
        44,
    ),
    Mutant(
        "local-apic.answers-in-time",
        "hdl.bus:FairArbiter.elaborate",
        "i_first.eq(0)",
        "i_first.eq(1)",
        48,
    ),
    Mutant(
        "endpoint.masked-is-silent",
        _MSI,
        "reply.send.eq(wanted & ~masked)",
        "reply.send.eq(wanted)",
        14,
    ),
    Mutant(
        "endpoint.message-of-one-clock",
        _MSI,
        "(data[:replaced] & ~low_bits) | vector",
        "data[:replaced]",
        12,
    ),
    Mutant(
        "endpoint.message-of-one-clock",
        "hdl.pci.messenger:Messenger.elaborate",
        "write.address.eq(Message(chosen).address)",
        "write.address.eq(Message(message).address)",
        12,
    ),
    Mutant(
        "endpoint.pending-is-sent-once",
        _MSI,
        "Mux(masked, pending | bit, pending & ~bit)",
        "Mux(masked, pending | bit, pending)",
        18,
    ),
    Mutant(
        "endpoint.pending-is-sent-once",
        _MSI,
        "Mux(masked, pending | bit, pending & ~bit)",
        "Mux(masked, pending, pending & ~bit)",
        12,
    ),
    Mutant(
        "endpoint.naive-update-tears",
        _MSI,
        "reply.send.eq(wanted & ~masked)",
        "reply.send.eq(0)",
        None,
    ),
    # Data that are written once and no more.
    Mutant(
        "endpoint.two-step-update-never-tears",
        "hdl.pci.msi:MsiCapability._registers",
        "merge(Cat(data, Const(0, 16)), new, select)",
        "Mux(data.any(), data, merge(Cat(data, Const(0, 16)), new, select))",
        21,
        given=_plain_device,
    ),
    # The data of an earlier message beside the address of this one.
    Mutant(
        "endpoint.two-step-update-never-tears",
        "hdl.pci.messenger:Messenger.elaborate",
        "write.data.eq(Message(chosen).data)",
        "write.data.eq(Message(message).data)",
        26,
        slow=True,
    ),
    Mutant(
        "endpoint.msix-masked-is-silent",
        _MSIX + "_message_states",
        "masked = control.mask | ~self._live",
        "masked = ~self._live",
        24,
    ),
    Mutant(
        "endpoint.msix-masked-is-silent",
        _MSIX + "elaborate",
        "self.enable & ~function_mask",
        "self.enable",
        28,
    ),
    Mutant(
        "endpoint.msix-message-of-one-clock",
        _MSIX + "_message_states",
        "self._fetch(m, asked.vector, ADDRESS_HI)",
        "self._fetch(m, asked.vector, ADDRESS_LO)",
        28,
    ),
    Mutant(
        "endpoint.msix-message-of-one-clock",
        _MSIX + "_message_states",
        "self._fetch(m, asked.vector, DATA)",
        "self._fetch(m, asked.vector + 1, DATA)",
        28,
    ),
    Mutant(
        "endpoint.msix-pending-is-sent-once",
        _MSIX + "_message_states",
        'VectorControl.const({"pending": 1})',
        'VectorControl.const({"pending": 0})',
        22,
    ),
    Mutant(
        "endpoint.msix-pending-is-sent-once",
        _MSIX + "_message_states",
        "self._write.data.eq(0)",
        'self._write.data.eq(VectorControl.const({"pending": 1}))',
        36,
        slow=True,
    ),
    Mutant(
        "endpoint.msix-unmasked-is-found",
        _MSIX + "_access",
        "m.d.sync += self._left.eq(self._entries)",
        "m.d.sync += self._left.eq(self._left)",
        24,
    ),
    Mutant(
        "endpoint.msix-unmasked-is-found",
        _MSIX + "elaborate",
        "with m.If(self._live & ~was_live):",
        "with m.If(0):",
        36,
    ),
    Mutant(
        "endpoint.basic-function-is-no-worse",
        "hdl.pci.messenger:Messenger.elaborate",
        "self.posted.p.data.eq(reply.message.data)",
        "self.posted.p.data.eq(request.p.vector)",
        12,
    ),
    Mutant(
        "endpoint.intx-tells-what-is-left",
        "hdl.pci.intx:IntxPin.elaborate",
        "self.status & ~self.disable",
        "self.status",
        10,
    ),
    Mutant(
        "endpoint.intx-tells-what-is-left",
        "hdl.pci.intx:IntxPin.elaborate",
        "self.cause & ~self.message_enable",
        "self.cause",
        10,
    ),
    Mutant(
        "endpoint.intx-tells-what-is-left",
        "hdl.pci.intx:IntxPin.elaborate",
        "with m.If(self.signal):",
        "with m.If(self.signal & ~self.message_enable):",
        10,
    ),
    Mutant(
        "redistributor.best-lpi-is-signalled",
        _LPI,
        "Cat(s.job_lpi, new.priority) < Cat(s.shown_lpi, s.shown_priority)",
        "Cat(s.job_lpi, new.priority) > Cat(s.shown_lpi, s.shown_priority)",
        18,
    ),
    Mutant(
        "redistributor.pending-stays",
        _LPI,
        "new.pending.eq(pending)",
        "new.pending.eq(pending & (s.job != Job.REFRESH))",
        16,
    ),
    Mutant(
        "redistributor.acknowledge-clears-one",
        _LPI,
        "Mux(acked, repeats, was.pending)",
        "was.pending",
        18,
    ),
    Mutant(
        "redistributor.moved-is-handed-over",
        _LPI,
        "s.moved.target.eq(s.job_target)",
        "s.moved.target.eq(0)",
        16,
    ),
    # Told too early: with the next job that is done, whoever wanted it.
    Mutant(
        "redistributor.arrival-is-carried-out",
        _LPI,
        "self.arrival.ready.eq(s.job_origin == Origin.ARRIVAL)",
        "self.arrival.ready.eq(1)",
        18,
    ),
    Mutant(
        "redistributor.arrival-is-taken-in-time",
        "hdl.gic.lpi:LpiEngine.elaborate",
        'm.State("SEARCH"), m.If(tree.done)',
        'm.State("SEARCH"), m.If(tree.done & ~self.arrival.valid)',
        36,
    ),
    Mutant(
        "redistributor.command-is-taken-in-time",
        "hdl.gic.lpi:LpiEngine.elaborate",
        "direct_was_last.eq(use_direct)",
        "direct_was_last.eq(0)",
        40,
    ),
    Mutant(
        "redistributor.handover-arrives-once",
        _NETWORK,
        "target.valid.eq(there & (command.target == i))",
        "target.valid.eq(there)",
        6,
    ),
    Mutant(
        "redistributor.handover-arrives-once",
        _NETWORK,
        "source.ready.eq(sender[i] & arrived)",
        "source.ready.eq(sender[i] & self.busy)",
        6,
    ),
    Mutant(
        "its.walks-stay-at-home",
        "hdl.gic.its_tables:TableUnit.elaborate",
        "with m.Elif(~event_exists):",
        "with m.Elif(0):",
        18,
    ),
    Mutant(
        "its.walks-stay-at-home",
        "hdl.gic.its_tables:TableUnit.elaborate",
        "request.event[: self._event_id_bits] << 3",
        "request.event[: self._event_id_bits] << 2",
        18,
    ),
    Mutant(
        "its.changes-are-forgotten",
        _COMMANDS,
        "self.forget_event.eq(command.event)",
        "self.forget_event.eq(command.device)",
        12,
    ),
    Mutant(
        "its.changes-are-forgotten",
        _COMMANDS,
        "self.forget_all.eq(1)",
        "self.forget.eq(1)",
        12,
    ),
    Mutant("its.no-stale-translation", _CACHE, "m.Elif(self.forget)", "m.Elif(0)", 14),
    Mutant("its.no-stale-translation", _CACHE, " & ~was_emptying", "", 16),
    Mutant(
        "its.devices-are-isolated",
        _CACHE,
        "(read.data.tag == looked_for)",
        "1",
        14,
    ),
    Mutant(
        "its.movi-loses-nothing",
        _LINKS,
        "m.d.comb += action.ready.eq(1)",
        "m.d.comb += [action.ready.eq(1), departure.ready.eq(1)]",
        5,
    ),
    Mutant(
        "its.movi-doubles-nothing",
        _LINKS,
        "departure.ready.eq(1)",
        "departure.ready.eq(action_was_last)",
        6,
    ),
    Mutant(
        "its.movi-moves",
        _COMMANDS,
        "act(cpu, LpiOperation.MOVE, lpi=intid, target=new_cpu)",
        "act(new_cpu, LpiOperation.MOVE, lpi=intid, target=new_cpu)",
        22,
    ),
    Mutant("its.movi-moves", _COMMANDS, "with m.If(cpu != new_cpu):", "with m.If(0):", 22),
    Mutant(
        "its.movi-moves",
        _CACHE,
        "m.Elif(self.forget)",
        "m.Elif(0)",
        28,
    ),
    Mutant(
        "its.creadr-stays-behind",
        _COMMANDS,
        "(self.read_offset != self.write_offset)",
        "1",
        16,
    ),
    Mutant(
        "its.queue-keeps-moving",
        _COMMANDS,
        "with m.If(self.actions.ready):",
        "with m.If(self.actions.ready & self.write_offset[0]):",
        18,
    ),
)
