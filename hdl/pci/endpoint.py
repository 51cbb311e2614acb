"""A PCI Express function whose interrupts can be watched while software rewrites them."""

from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Module, Mux, ResetInserter
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..registers import pci
from ..tap import EventKind, TapSignature, tap_event
from .config_space import ConfigSpace, ExpressCapability
from .event_device import EventDevice
from .interfaces import (
    CONFIG_BITS,
    AccessSignature,
    Bar,
    PostedWrite,
    QuirkSignature,
    StimulusSignature,
)
from .intx import IntxPin
from .messenger import Messenger
from .msi import MsiCapability
from .msix import MsixTable

PINS = "ABCD"
BAR_BITS = pci.BAR_SIZE.bit_length() - 1
NO_REGISTER = 0xFFC
"""An offset in the device's half of the BAR that reads as zero and ignores writes."""


@dataclass(frozen=True)
class EndpointConfig:
    """What one function has.

    Attributes
    ----------
    msi : str
        "none", "32" or "64": the address width of the MSI capability.
    maskable : bool
        The MSI capability has mask and pending bits for each vector.
    msi_vectors : int
        1, 2, 4, 8, 16 or 32.
    msix_vectors : int
        Entries of the MSI-X table, 0 (no MSI-X) to 64.
    intx : bool
        The function has an INTx pin.
    pin : str
        Which one, "A" to "D".
    bar_bits : int
        32 or 64: the width of the base address register.
    device_id : int
        Device id in configuration space, 16 bits.
    basic : bool
        Without what an interrupt does not need: no event generator and no data before a message
        (their registers read as zero and ignore writes), no quirks, and so no MSI-X.
    """

    msi: str = "64"
    maskable: bool = False
    msi_vectors: int = 1
    msix_vectors: int = 0
    intx: bool = True
    pin: str = "A"
    bar_bits: int = 32
    device_id: int = pci.DEVICE_ID
    basic: bool = False

    def __post_init__(self):
        def check(name, accepted, kind, said):
            value = getattr(self, name)
            if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
                raise TypeError(f"EndpointConfig.{name} must be {said}, not {value!r}")
            if value not in accepted:
                raise ValueError(f"EndpointConfig.{name} must be {said}, not {value!r}")

        check("msi", ("none", "32", "64"), str, '"none", "32" or "64"')
        check("maskable", (False, True), bool, "True or False")
        check("msi_vectors", (1, 2, 4, 8, 16, 32), int, "1, 2, 4, 8, 16 or 32")
        check("msix_vectors", range(65), int, "an integer from 0 to 64")
        check("intx", (False, True), bool, "True or False")
        check("pin", tuple(PINS), str, '"A", "B", "C" or "D"')
        check("bar_bits", (32, 64), int, "32 or 64")
        check("device_id", range(1 << 16), int, "an integer from 0 to 65535")
        check("basic", (False, True), bool, "True or False")
        if self.basic and self.msix_vectors:
            raise ValueError(
                f"EndpointConfig.basic excludes MSI-X: set msix_vectors to 0, not "
                f"{self.msix_vectors!r}"
            )
        if self.msi == "none" and (self.maskable or self.msi_vectors != 1):
            raise ValueError(
                'EndpointConfig.maskable and msi_vectors need MSI: set msi to "32" or "64", '
                f"or leave them at their defaults (maskable={self.maskable!r}, "
                f"msi_vectors={self.msi_vectors!r})"
            )
        if self.msi == "none" and not self.msix_vectors and not self.intx:
            raise ValueError(
                "EndpointConfig has no interrupt at all: set msi, msix_vectors or intx"
            )

    @property
    def vectors(self) -> int:
        """How many vectors events can name."""
        return max(self.msi_vectors if self.msi != "none" else 1, self.msix_vectors)

    @property
    def pin_number(self) -> int:
        """The interrupt pin register: 0 for none, 1 for INTA to 4 for INTD."""
        return PINS.index(self.pin) + 1 if self.intx else 0

    @property
    def capabilities(self) -> tuple[str, ...]:
        """Names of the capabilities in the order of their chain."""
        has = {"msi": self.msi != "none", "msix": bool(self.msix_vectors), "express": True}
        return tuple(name for name, present in has.items() if present)

    def capability(self, name: str) -> int:
        """Offset of the capability ``name`` ("msi", "msix", "express") in configuration space."""
        if name not in self.capabilities:
            raise ValueError(f"This endpoint has {', '.join(self.capabilities)}, but no {name!r}")
        return ConfigSpace.capability_base(self.capabilities.index(name))


class Endpoint(wiring.Component):
    """One function: configuration space, BAR with an event device, MSI, MSI-X and INTx.

    The ports know nothing of our system: an adapter can put the function behind any PCI Express
    host. Memory requests reach ``memory`` by offset in the BAR; whoever routes them compares
    addresses with ``bar``.

    Answers: configuration accesses and the device's registers in the clock after they are taken;
    the MSI-X half of the BAR as :class:`~hdl.pci.msix.MsixTable` says, at most 45 clocks when
    not in its reset sweep (``4 * msix_vectors`` clocks after reset or plugging in). No access
    waits for anything outside the function.

    A message is what the registers hold at one clock, 3 clocks after the event when nothing is in
    the way, and is offered 5 (MSI) or 9 (MSI-X) clocks after the event; see
    :class:`~hdl.pci.messenger.Messenger` for the steps and the quirks. When both MSI and MSI-X
    are enabled, which software must not do, MSI-X counts.

    ``unplug`` makes the function disappear at once: it is silent from that clock on, and reset.
    What the posted stream took before is on its way. Ask nothing of it meanwhile; an answer it
    still owed never comes. A strobe of ``event`` is ignored then.

    Simplifications: one function, one BAR, single-word writes; no power management, no function
    level reset, no extended configuration registers, no relaxed ordering (posted writes and INTx
    keep their order).

    Parameters
    ----------
    config : EndpointConfig
    unit : int
        ``unit`` of its tap records.

    Members
    -------
    config_access : In(AccessSignature(12))
        Configuration space, byte address.
    memory : In(AccessSignature(13))
        The BAR, byte offset.
    bar : Out(Bar)
        Where the BAR lies and whether it answers.
    posted : Out(stream of PostedWrite)
        Memory writes, in order.
    intx : Out(1)
        Level of the function's pin.
    stimulus : In(StimulusSignature())
    quirks : In(QuirkSignature())
    event_tap : Out(TapSignature())
        DEVICE_EVENT.
    blocked_tap : Out(TapSignature())
        MESSAGE_BLOCKED: bus mastering off, or unplugged with an interrupt under way (one record,
        whatever number was waiting).
    """

    def __init__(self, config: EndpointConfig = EndpointConfig(), *, unit: int = 0):
        self.config = config
        self._unit = unit
        super().__init__(
            {
                "config_access": In(AccessSignature(CONFIG_BITS)),
                "memory": In(AccessSignature(BAR_BITS)),
                "bar": Out(Bar),
                "posted": Out(stream.Signature(PostedWrite)),
                "intx": Out(1),
                "stimulus": In(StimulusSignature()),
                "quirks": In(QuirkSignature()),
                "event_tap": Out(TapSignature()),
                "blocked_tap": Out(TapSignature()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        here = ~self.stimulus.unplug
        m.submodules.space = space = ConfigSpace(
            bar_bits=config.bar_bits,
            pin=config.pin_number,
            device_id=config.device_id,
            capabilities=len(config.capabilities),
        )
        m.submodules.device = device = EventDevice(vectors=config.vectors, basic=config.basic)
        m.submodules.messenger = messenger = Messenger(vectors=config.vectors, basic=config.basic)
        m.submodules.pin = pin = IntxPin()
        wiring.connect(m, wiring.flipped(self.config_access), space.config)
        m.d.comb += self.bar.eq(space.bar)

        keepers = self._capabilities(m, space)
        self._keep_messages(m, messenger, keepers)
        self._split_bar(m, device, keepers.get("msix"))

        if not config.basic:
            wiring.connect(m, wiring.flipped(self.quirks), messenger.quirks)
        m.d.comb += [
            device.stimulus.eq(self.stimulus.event & here),
            device.stimulus_vector.eq(self.stimulus.vector),
            device.waiting.eq(messenger.waiting),
            messenger.event.eq(device.event & here),
            messenger.vector.eq(device.vector),
            messenger.count.eq(device.count),
            messenger.dma_enable.eq(device.dma_enable),
            messenger.dma_address.eq(device.dma_address),
            messenger.master.eq(space.master),
            self.posted.valid.eq(messenger.posted.valid & here),
            self.posted.payload.eq(messenger.posted.payload),
            messenger.posted.ready.eq(self.posted.ready),
            pin.cause.eq(device.cause),
            pin.signal.eq(messenger.signal),
            pin.message_enable.eq(messenger.message_enable),
            pin.suppress.eq(self.quirks.drop_when_disabled & (not config.basic)),
            pin.disable.eq(space.intx_disable),
            space.interrupt_status.eq(pin.status),
        ]
        if config.intx:
            m.d.comb += self.intx.eq(pin.level & here)

        with m.If(device.event & here):
            m.d.comb += tap_event(
                self.event_tap, EventKind.DEVICE_EVENT, unit=self._unit, id=device.vector
            )
        with m.If(Mux(here, messenger.blocked, messenger.waiting)):
            m.d.comb += tap_event(
                self.blocked_tap,
                EventKind.MESSAGE_BLOCKED,
                unit=self._unit,
                id=messenger.subject,
            )
        return ResetInserter(self.stimulus.unplug)(m)

    def _capabilities(self, m, space):
        """Build the capability chain; the capabilities that keep messages, by name."""
        config = self.config
        keepers = {}
        for number, name in enumerate(config.capabilities):
            last = number == len(config.capabilities) - 1
            following = 0 if last else space.capability_base(number + 1)
            if name == "msi":
                capability = keepers[name] = MsiCapability(
                    wide=config.msi == "64",
                    maskable=config.maskable,
                    vectors=config.msi_vectors,
                    next_capability=following,
                )
            elif name == "msix":
                capability = keepers[name] = MsixTable(
                    entries=config.msix_vectors, next_capability=following
                )
            else:
                capability = ExpressCapability(following)
            m.submodules[name] = capability
            wiring.connect(m, space.capability[number], capability.registers)
        return keepers

    def _keep_messages(self, m, messenger, keepers):
        """Join the messenger to the keeper in use: MSI-X if that is enabled, else MSI."""
        asker = messenger.messages
        use_msix = keepers["msix"].enable if "msix" in keepers else Const(0)
        for name, keeper in keepers.items():
            keeper = keeper.messages
            chosen = use_msix if name == "msix" else ~use_msix
            m.d.comb += [
                keeper.request.payload.eq(asker.request.payload),
                keeper.request.valid.eq(asker.request.valid & chosen),
            ]
            with m.If(chosen):
                m.d.comb += [
                    asker.request.ready.eq(keeper.request.ready),
                    asker.resumable.eq(keeper.resumable),
                ]
            # whoever was asked replies, even if it has been disabled since
            with m.If(keeper.reply_valid):
                m.d.comb += [asker.reply_valid.eq(1), asker.reply.eq(keeper.reply)]
            if self.config.basic:  # the only one, and it holds
                m.d.comb += asker.reply.eq(keeper.reply)
        m.d.comb += messenger.message_enable.eq(
            Cat(keeper.enable for keeper in keepers.values()).any()
        )

    def _split_bar(self, m, device, msix):
        """The device's registers in the lower half of the BAR, MSI-X or zeros in the upper."""
        request, response = self.memory.request, self.memory.response
        upper = request.p.address[-1]
        halves = [(device.registers, ~upper)]
        if msix is not None:
            halves.append((msix.window, upper))
        for half, chosen in halves:
            asked, answer = half.request, half.response
            m.d.comb += [
                asked.valid.eq(request.valid & chosen),
                *(asked.p[name].eq(request.p[name]) for name in ("write", "data", "select")),
                asked.p.address.eq(request.p.address),
                answer.ready.eq(response.ready),
            ]
            with m.If(chosen):
                m.d.comb += request.ready.eq(asked.ready)
            # one request at a time, so only the half that was asked answers
            with m.If(answer.valid):
                m.d.comb += [response.valid.eq(1), response.payload.eq(answer.payload)]
        if msix is None:
            with m.If(upper):
                m.d.comb += [
                    request.ready.eq(device.registers.request.ready),
                    device.registers.request.valid.eq(request.valid),
                    device.registers.request.p.address.eq(NO_REGISTER),
                ]
