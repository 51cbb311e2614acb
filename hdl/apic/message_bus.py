"""Brings messages of devices and inter-processor interrupts to the local APICs."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..bus import BusSignature, FairArbiter, RequesterKind
from ..registers.lapic import (
    FIRST_LEGAL_VECTOR,
    PHYSICAL_BROADCAST,
    REGISTER_BASE,
    DeliveryMode,
    DestinationModel,
    InterruptCommand,
    LapicRegister,
    MessageAddress,
    MessageData,
    MessageFault,
    Shorthand,
)
from ..tap import EventKind, TapSignature, tap_event
from .local_apic import ApicLink


class _Interrupt(data.Struct):
    """A device's message or an inter-processor interrupt, in common terms."""

    command: InterruptCommand
    destination: 8
    redirection: 1
    partial: 1
    ignored: 1


class ApicMessageBus(wiring.Component):
    """The one path to the local APICs, one message at a time, fairly shared.

    A device writes to 0xFEE0_0000 to 0xFEEF_FFFF (:class:`hdl.registers.lapic.MessageAddress`);
    the data (:class:`hdl.registers.lapic.MessageData`) name the vector. An APIC sends
    inter-processor interrupts by its ICR. Destinations:

    * physical: the APIC with this id, 255 means all;
    * logical, by each APIC's DFR: those whose LDR shares a bit with it (flat), or whose upper
      four bits are the same and that share a bit of the lower four (cluster). There is no
      broadcast to all clusters, as in QEMU;
    * an IPI's shorthand instead: itself, all, all others.

    Delivery modes: fixed, to all of them; lowest-priority, to the one with the lowest number
    that is enabled (a legal choice, since APR is not compared). The redirection hint does the
    same. What is level-triggered without the assert bit is ignored, an IPI like a message.
    Address bits 11:4 are ignored.

    What reaches no one is *bad*: it is counted, and reported on the tap with the reason
    (:class:`hdl.registers.lapic.MessageFault`): no APIC matches, another delivery mode, vector
    below 16 (its destinations take note in their ESR), not a whole word written, all
    destinations disabled. One destination of several that takes it is enough. An IPI is
    subject to the same, except that an illegal vector is already stopped by the sender.

    Answers on ``bus``: a device's or controller's write, good or bad, is answered without error,
    once every destination has taken it. A read, and any access by a CPU (whose own APIC's page
    does not come this way, and which sends by its ICR), is answered with an error and does
    nothing.

    Timing: message written (request taken) to ``intr`` 5 clocks, to the answer 5 clocks; IPI
    offered to the destination's ``intr`` 4 (write to ICR_LOW taken to ``intr``: 7). Every message
    is delivered within ``10 * (cpus + 1)`` clocks of being taken or offered (not counting the 32
    clocks after reset in which the APICs wait).

    Simplification: SMI, NMI, INIT, STARTUP and ExtINT are bad, for there is no CPU behind that
    could do anything with them.

    Parameters
    ----------
    cpus : int
        Local APICs, 1 to 255.

    Members
    -------
    bus : In(BusSignature())
    link : array of In(ApicLink()), one for each APIC
    bad : Out(16)
        Number of bad messages and IPIs; wraps around.
    tap : Out(TapSignature())
        MESSAGE_BAD, with ``unit`` the fault. For a device: address, data and requester id as
        written. For an IPI: address that of ICR_LOW, data the command, id the sender.
    """

    def __init__(self, cpus: int):
        if isinstance(cpus, bool) or not isinstance(cpus, int):
            raise TypeError(f"Number of local APICs must be an integer, not {cpus!r}")
        if not 1 <= cpus <= 255:
            raise ValueError(f"Number of local APICs must be between 1 and 255, not {cpus}")
        self._cpus = cpus
        super().__init__(
            {
                "bus": In(BusSignature()),
                "link": In(ApicLink()).array(cpus),
                "bad": Out(16),
                "tap": Out(TapSignature()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        written = Signal(data.StructLayout({"address": MessageAddress, "data": 32, "id": 16}))
        partial = Signal()
        waits = Signal()
        finish = Signal()
        device_done = Signal()
        self._device_port(m, written, partial, waits, device_done)

        m.submodules.arbiter = arbiter = FairArbiter(self._cpus + 1)
        owner = Signal(self._cpus + 1)
        device = self._cpus
        sources = Cat(*(link.ipi.valid for link in self.link), waits)
        for i, link in enumerate(self.link):
            m.d.comb += link.ipi.ready.eq(finish & owner[i])
        m.d.comb += device_done.eq(finish & owner[device])

        current = Signal(_Interrupt)
        self._select(m, current, owner, written, partial)
        matching, chosen = self._destinations(m, current, owner)

        waiting = Signal(self._cpus)
        matched = Signal()
        accepted = Signal()
        supported = (current.command.delivery == DeliveryMode.FIXED) | (
            current.command.delivery == DeliveryMode.LOWEST_PRIORITY
        )
        legal = current.command.vector >= FIRST_LEGAL_VECTOR
        for i, link in enumerate(self.link):
            m.d.comb += [
                link.message.valid.eq(waiting[i]),
                link.message.p.vector.eq(current.command.vector),
                link.message.p.level.eq(current.command.level),
            ]
            with m.If(waiting[i] & link.message.ready):
                m.d.sync += waiting[i].eq(0)
                with m.If(link.identity.enabled & legal):
                    m.d.sync += accepted.eq(1)

        with m.FSM(name="bus"):
            with m.State("IDLE"):
                m.d.comb += [
                    arbiter.requests.eq(sources),
                    arbiter.taken.eq(arbiter.grant.any()),
                ]
                m.d.sync += owner.eq(arbiter.grant)
                with m.If(arbiter.grant.any()):
                    m.next = "MATCH"

            with m.State("MATCH"):
                m.d.sync += [matched.eq(matching.any()), accepted.eq(0)]
                with m.If(current.ignored | current.partial | ~supported | ~chosen.any()):
                    m.next = "FINISH"
                with m.Else():
                    m.d.sync += waiting.eq(chosen)
                    m.next = "DELIVER"

            with m.State("DELIVER"):
                taken = Cat(link.message.ready for link in self.link)
                with m.If(~(waiting & ~taken).any()):
                    m.next = "FINISH"

            with m.State("FINISH"):
                m.d.comb += finish.eq(1)
                with m.If(~accepted & ~current.ignored):
                    m.d.sync += self.bad.eq(self.bad + 1)
                    self._report(m, current, owner, written, supported, legal, matched)
                m.next = "IDLE"
        return m

    def _device_port(self, m, written, partial, waits, done):
        """Keep one write until it is delivered; refuse reads, and CPUs."""
        request, response = self.bus.request, self.bus.response
        owed = Signal()
        answered = Signal()
        error = Signal()
        m.d.comb += [
            request.ready.eq(~owed),
            response.valid.eq(answered),
            response.p.error.eq(error),
        ]
        with m.If(done):
            m.d.sync += [waits.eq(0), answered.eq(1)]
        with m.If(request.valid & request.ready):
            by_cpu = request.p.requester.kind == RequesterKind.CPU
            message = request.p.write & ~by_cpu
            m.d.sync += [
                owed.eq(1),
                waits.eq(message),
                answered.eq(~message),
                error.eq(~message),
                written.address.eq(request.p.address[:32]),
                written.data.eq(request.p.data),
                written.id.eq(request.p.requester.id),
                partial.eq(~request.p.select.all()),
            ]
        with m.If(response.valid & response.ready):
            m.d.sync += [owed.eq(0), answered.eq(0)]

    def _select(self, m, current, owner, written, partial):
        """Put the owner's message, which holds until it is finished, into common terms."""
        command = current.command
        for i, link in enumerate(self.link):
            with m.If(owner[i]):
                m.d.comb += [
                    command.eq(link.ipi.p.command),
                    current.destination.eq(link.ipi.p.destination),
                ]
        with m.If(owner[self._cpus]):
            word = data.View(MessageData, written.data)
            m.d.comb += [
                command.vector.eq(word.vector),
                command.delivery.eq(word.delivery),
                command.level.eq(word.level),
                command.asserted.eq(word.asserted),
                command.logical.eq(written.address.logical),
                current.destination.eq(written.address.destination),
                current.redirection.eq(written.address.redirection),
                current.partial.eq(partial),
            ]
        m.d.comb += current.ignored.eq(~current.partial & command.level & ~command.asserted)

    def _destinations(self, m, current, owner):
        """Every APIC that matches, and those of them that shall get the message."""
        matching = Signal(self._cpus)
        chosen = Signal(self._cpus)
        destination = current.destination
        for i, link in enumerate(self.link):
            identity = link.identity
            members = destination & identity.logical
            physical = (destination == identity.id) | (destination == PHYSICAL_BROADCAST)
            flat = (identity.model == DestinationModel.FLAT) & members.any()
            cluster = (
                (identity.model == DestinationModel.CLUSTER)
                & (destination[4:] == identity.logical[4:])
                & members[:4].any()
            )
            with m.Switch(current.command.shorthand):
                with m.Case(Shorthand.NONE):
                    m.d.comb += matching[i].eq(
                        Mux(current.command.logical, flat | cluster, physical)
                    )
                with m.Case(Shorthand.SELF):
                    m.d.comb += matching[i].eq(owner[i])
                with m.Case(Shorthand.ALL):
                    m.d.comb += matching[i].eq(1)
                with m.Case(Shorthand.OTHERS):
                    m.d.comb += matching[i].eq(~owner[i])

        one = (current.command.delivery == DeliveryMode.LOWEST_PRIORITY) | current.redirection
        enabled = Cat(link.identity.enabled for link in self.link)
        candidates = Signal(self._cpus)
        m.d.comb += [
            candidates.eq(matching & enabled),
            chosen.eq(Mux(one, candidates & -candidates, matching)),
        ]
        return matching, chosen

    def _report(self, m, current, owner, written, supported, legal, matched):
        fault = Signal(MessageFault, init=MessageFault.NO_DESTINATION)
        with m.If(current.partial):
            m.d.comb += fault.eq(MessageFault.PARTIAL_WRITE)
        with m.Elif(~supported):
            m.d.comb += fault.eq(MessageFault.UNSUPPORTED_MODE)
        with m.Elif(~legal):
            m.d.comb += fault.eq(MessageFault.ILLEGAL_VECTOR)
        with m.Elif(matched):
            m.d.comb += fault.eq(MessageFault.DISABLED)
        with m.Else():
            m.d.comb += fault.eq(MessageFault.NO_DESTINATION)

        m.d.comb += tap_event(self.tap, EventKind.MESSAGE_BAD, unit=fault)
        with m.If(owner[self._cpus]):
            m.d.comb += [
                self.tap.record.address.eq(written.address),
                self.tap.record.data.eq(written.data),
                self.tap.record.id.eq(written.id),
            ]
        for i, link in enumerate(self.link):
            with m.If(owner[i]):
                m.d.comb += [
                    self.tap.record.address.eq(REGISTER_BASE + LapicRegister.ICR_LOW),
                    self.tap.record.data.eq(link.ipi.p.command),
                    self.tap.record.id.eq(i),
                ]
