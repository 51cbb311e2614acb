"""A PCI function that has something to say: MSI, MSI-X or an interrupt pin (section 8b).

A message is whatever the function's registers hold in the moment it leaves. Address low, address
high and data are separate registers, so software that changes them one by one can be overtaken by
an event: that tear is the function working as specified.
"""

from collections.abc import Callable

from .bits import WORD, merge
from .event_device import EventDevice
from .implementation import Implementation, PciLayout
from .shape import EndpointShape

COMMAND, STATUS, CACHE_LINE, BAR0 = 0x04, 0x06, 0x0C, 0x10
SUBSYSTEM, CAPABILITIES, INTERRUPT = 0x2C, 0x34, 0x3C

MEMORY_ENABLE, BUS_MASTER, INTX_DISABLE = 1 << 1, 1 << 2, 1 << 10
INTERRUPT_STATUS, CAPABILITY_LIST = 1 << 3, 1 << 4

BAR_TYPE_64 = 0b100
MSI_ID, EXPRESS_ID, MSIX_ID = 0x05, 0x10, 0x11
MSI_ENABLE, MSI_64, MSI_MASKABLE = 1 << 0, 1 << 7, 1 << 8
MSIX_ENABLE, MSIX_MASK_ALL = 1 << 15, 1 << 14

CONFIG_BYTES = 4096
"""Configuration space of one function; beyond the capabilities it reads zero."""


class Registers:
    """Bytes of which software can change some: the stuff of a configuration space."""

    def __init__(self, size: int):
        self._bytes = bytearray(size)
        self._writable = bytearray(size)

    def define(self, offset: int, size: int, value: int = 0, writable: int = 0) -> None:
        """``size`` bytes at ``offset``: the value after reset and the bits that can be written."""
        self._bytes[offset : offset + size] = value.to_bytes(size, "little")
        self._writable[offset : offset + size] = writable.to_bytes(size, "little")

    def get(self, offset: int, size: int) -> int:
        return int.from_bytes(self._bytes[offset : offset + size], "little")

    def set(self, offset: int, size: int, value: int) -> None:
        """The function changes its own register, read-only or not."""
        self._bytes[offset : offset + size] = value.to_bytes(size, "little")

    def write(self, offset: int, size: int, value: int) -> None:
        """Software writes; read-only bits stay."""
        for i in range(offset, offset + size):
            self._bytes[i] = merge(self._bytes[i], value & 0xFF, self._writable[i])
            value >>= 8


class MsiCapability:
    """MSI: one address, one data word, up to 32 vectors in its low bits.

    Without the mask register there are no pending bits, and clearing Enable loses what fires.
    """

    def __init__(self, config: Registers, offset: int, shape: EndpointShape, choices):
        self._config = config
        self._control = offset + 2
        self._wide = shape.msi == "64"
        self._maskable = shape.maskable
        self._surplus = choices.surplus_vector
        self._address = offset + 4
        self._data = offset + (0xC if self._wide else 8)
        self._mask, self._pending = self._data + 4, self._data + 8
        self.capable = shape.msi_vectors.bit_length() - 1
        control = self.capable << 1 | self._wide * MSI_64 | self._maskable * MSI_MASKABLE
        config.define(offset, 1, MSI_ID)
        config.define(self._control, 2, control, writable=7 << 4 | MSI_ENABLE)
        config.define(self._address, 4, writable=0xFFFF_FFFC)
        if self._wide:
            config.define(self._address + 4, 4, writable=WORD)
        config.define(self._data, 2, writable=0xFFFF)
        if self._maskable:
            config.define(self._mask, 4, writable=(1 << shape.msi_vectors) - 1)

    @property
    def enabled(self) -> bool:
        return bool(self._config.get(self._control, 2) & MSI_ENABLE)

    @property
    def vectors(self) -> int:
        """How many are in use: the enabled count."""
        return 1 << (self._config.get(self._control, 2) >> 4 & 7)

    def limit(self) -> None:
        """An enabled count above the capable one becomes the capable one."""
        control = self._config.get(self._control, 2)
        chosen = min(control >> 4 & 7, self.capable)
        self._config.set(self._control, 2, control & ~0x70 | chosen << 4)

    def fire(self, vector: int) -> None:
        """The function's own event. Vectors beyond the enabled count: ``surplus_vector``."""
        if vector >= self.vectors:
            if self._surplus == "drop":
                return
            vector %= self.vectors
        self._set_pending(self._get_pending() | 1 << vector)

    def take(self) -> "list[tuple[int, int]]":
        """Messages, as (address, data), that leave now: everything pending and not masked.

        Pending bits of vectors that are no longer in use disappear.
        """
        pending = self._get_pending() & (1 << self.vectors) - 1
        if not self.enabled:
            self._set_pending(pending)
            return []
        masked = self._config.get(self._mask, 4) if self._maskable else 0
        leaving = pending & ~masked
        self._set_pending(pending & masked)
        return [self._message(n) for n in range(self.vectors) if leaving >> n & 1]

    def _message(self, vector: int) -> "tuple[int, int]":
        address = self._config.get(self._address, 8 if self._wide else 4)
        data = self._config.get(self._data, 2)
        return address, data & ~(self.vectors - 1) | vector

    # Without the register, pending lives only between fire() and take().
    _unmaskable_pending = 0

    def _get_pending(self) -> int:
        if self._maskable:
            return self._config.get(self._pending, 4)
        return self._unmaskable_pending

    def _set_pending(self, bits: int) -> None:
        if self._maskable:
            self._config.set(self._pending, 4, bits)
        else:
            self._unmaskable_pending = bits

    def state(self) -> dict:
        return {"enabled": int(self.enabled), "pending": self._get_pending()}


class MsixCapability:
    """MSI-X: a table of messages in the BAR, each with a mask bit; pending bits beside it."""

    ENTRY_BYTES = 16

    def __init__(
        self,
        config: Registers,
        offset: int,
        shape: EndpointShape,
        layout: PciLayout,
        choices: Implementation,
    ):
        self._config = config
        self._control = offset + 2
        self._surplus = choices.surplus_entry
        self.vectors = shape.msix_vectors
        self.table = Registers(self.vectors * self.ENTRY_BYTES)
        for entry in range(self.vectors):
            start = entry * self.ENTRY_BYTES
            self.table.define(start, 4, writable=0xFFFF_FFFC)
            self.table.define(start + 4, 8, writable=0xFFFF_FFFF_FFFF_FFFF)
            self.table.define(start + 12, 4, value=1, writable=1)
        self.pending = 0
        config.define(offset, 1, MSIX_ID)
        enable_bits = MSIX_ENABLE | MSIX_MASK_ALL
        config.define(self._control, 2, self.vectors - 1, writable=enable_bits)
        config.define(offset + 4, 4, layout.table_offset)
        config.define(offset + 8, 4, layout.pba_offset)

    @property
    def enabled(self) -> bool:
        return bool(self._config.get(self._control, 2) & MSIX_ENABLE)

    def fire(self, vector: int) -> None:
        if vector >= self.vectors:
            if self._surplus == "drop":
                return
            vector = 0
        if self.enabled:
            self.pending |= 1 << vector

    def take(self) -> "list[tuple[int, int]]":
        """Messages that leave now, the lowest entry first."""
        control = self._config.get(self._control, 2)
        if not control & MSIX_ENABLE or control & MSIX_MASK_ALL or not self.pending:
            return []
        messages = []
        for entry in range(self.vectors):
            start = entry * self.ENTRY_BYTES
            if self.pending >> entry & 1 and not self.table.get(start + 12, 4) & 1:
                self.pending &= ~(1 << entry)
                messages.append((self.table.get(start, 8), self.table.get(start + 8, 4)))
        return messages

    def state(self) -> dict:
        return {"enabled": int(self.enabled), "pending": self.pending}


def define_express(config: Registers, offset: int) -> None:
    """PCI Express capability: version 2, an endpoint with role-based errors, link 2.5 GT/s x1.

    Of device control the error enables, orderings and sizes can be written; nothing follows.
    """
    config.define(offset, 1, EXPRESS_ID)
    config.define(offset + 2, 2, 2)
    config.define(offset + 4, 4, 1 << 15)
    config.define(offset + 8, 2, 0x2810, writable=0x78FF)
    for link in (offset + 0x0C, offset + 0x12):
        config.define(link, 2, 0x11)


class Endpoint:
    """One function: configuration space, BAR 0 and events.

    Parameters
    ----------
    write : callable(address, data)
        Takes a memory write away; called only while bus mastering is on.
    blocked : callable()
        A memory write was due while bus mastering was off, and is gone.
    pin : callable(level)
        Drives the interrupt pin.
    """

    def __init__(
        self,
        shape: EndpointShape,
        choices: Implementation,
        layout: PciLayout,
        write: Callable[[int, int], None],
        blocked: Callable[[], None],
        pin: Callable[[bool], None],
    ):
        self._shape, self._choices, self._layout = shape, choices, layout
        self._write = write
        self._blocked = blocked
        self._pin = pin
        self._vectors = max(shape.msi_vectors, shape.msix_vectors)
        self.present = True
        self._reset()

    def _reset(self) -> None:
        shape, choices, layout = self._shape, self._choices, self._layout
        self._raised = False
        self._device = EventDevice(self.raise_event)
        self._config = config = Registers(CONFIG_BYTES)
        config.define(0x00, 4, layout.device_id << 16 | layout.vendor_id)
        pin_bits = INTX_DISABLE if shape.intx else 0
        config.define(COMMAND, 2, writable=MEMORY_ENABLE | BUS_MASTER | pin_bits)
        config.define(CACHE_LINE, 1, writable=0xFF)
        if layout.subsystem:
            config.define(SUBSYSTEM, 4, layout.device_id << 16 | layout.vendor_id)
        config.define(0x08, 4, layout.class_revision)
        config.define(BAR0, 4, layout.bar_64 * BAR_TYPE_64, writable=-layout.bar_bytes & WORD)
        if layout.bar_64:
            config.define(BAR0 + 4, 4, writable=WORD)
        config.define(INTERRUPT, 2, shape.intx * layout.pin << 8, writable=0xFF)
        self._msi = self._msix = None
        chain = []
        if shape.msi != "none":
            self._msi = MsiCapability(config, layout.msi_offset, shape, choices)
            chain.append(layout.msi_offset)
        if shape.msix_vectors:
            self._msix = MsixCapability(config, layout.msix_offset, shape, layout, choices)
            chain.append(layout.msix_offset)
        if layout.express_offset is not None:
            define_express(config, layout.express_offset)
            chain.append(layout.express_offset)
        if chain:
            config.define(STATUS, 2, CAPABILITY_LIST)
        for pointer, offset in zip([CAPABILITIES, *(c + 1 for c in chain)], chain, strict=False):
            config.define(pointer, 1, offset)

    def unplug(self, gone: bool) -> None:
        """Gone, it is silent and nowhere; it comes back as after reset."""
        self.present = not gone
        if gone:
            self._reset()
            self._update()

    # Events -----------------------------------------------------------------------------------

    def raise_event(self, vector: int) -> None:
        """The function has something to say, by MSI-X if enabled, else by MSI if enabled.

        With neither, and also with one of them, the cause stands in the device; it reaches the
        interrupt status and the pin as :meth:`_update` says.
        """
        if not self.present:
            return
        if vector >= self._vectors and self._choices.surplus_entry == "first":
            vector = 0
        data = self._device.event()
        self._raised = True
        if data is not None:
            self._master_write(*data)
        if self._msix and self._msix.enabled:
            self._msix.fire(vector)
        elif self._msi and self._msi.enabled:
            self._msi.fire(vector)
        self._update()

    def _master_write(self, address: int, data: int) -> None:
        if self._config.get(COMMAND, 2) & BUS_MASTER:
            self._write(address, data)
        else:
            self._blocked()

    def _update(self) -> None:
        """Send what can leave, and drive the pin: low while messages are enabled or the pin is
        disabled, whatever the status bit says.

        The pin is asked for from an event on, as long as the device's cause lasts. A cause that
        software brings about, by an acknowledgement of events that never were, asks for nothing.
        """
        messages = self._msi.take() if self._msi else []
        messages += self._msix.take() if self._msix else []
        for address, data in messages:
            self._master_write(address, data)
        self._raised &= self._device.cause
        by_message = any(c.enabled for c in (self._msi, self._msix) if c)
        requested = self._shape.intx and self._raised
        shown = requested and (self._choices.status_beside_messages or not by_message)
        status = self._config.get(STATUS, 2) & ~INTERRUPT_STATUS
        self._config.set(STATUS, 2, status | shown * INTERRUPT_STATUS)
        disabled = self._config.get(COMMAND, 2) & INTX_DISABLE
        self._pin(requested and not disabled and not by_message)

    # Accesses ---------------------------------------------------------------------------------

    def config_read(self, offset: int, size: int) -> int:
        return self._config.get(offset, size)

    def config_write(self, offset: int, value: int, size: int) -> None:
        self._config.write(offset, size, value)
        if self._msi:
            self._msi.limit()
        self._update()

    @property
    def bar(self) -> "tuple[int, int] | None":
        """Address and size of BAR 0 while it decodes."""
        if not (self.present and self._config.get(COMMAND, 2) & MEMORY_ENABLE):
            return None
        address = self._config.get(BAR0, 8 if self._layout.bar_64 else 4) & ~0xF
        return address, self._layout.bar_bytes

    def _table(self, offset: int) -> "tuple[Registers, int] | None":
        """The MSI-X table and where in it a BAR offset is, if it is."""
        start = offset - self._layout.table_offset
        if self._msix and 0 <= start < self._msix.vectors * MsixCapability.ENTRY_BYTES:
            return self._msix.table, start
        return None

    def bar_read(self, offset: int) -> int:
        """The word at ``offset``."""
        if (found := self._table(offset)) is not None:
            table, start = found
            return table.get(start, 4)
        if self._msix and offset & ~4 == self._layout.pba_offset:
            return self._msix.pending >> 8 * (offset & 4) & WORD
        return self._device.read(offset)

    def bar_write(self, offset: int, word: int, lanes: int) -> None:
        """The word at ``offset``, in the bytes that ``lanes`` select."""
        if (found := self._table(offset)) is not None:
            table, start = found
            table.write(start, 4, merge(table.get(start, 4), word, lanes))
        else:
            self._device.write(offset, word, lanes)
        self._update()

    def state(self) -> dict:
        return {
            "interrupt_status": self._config.get(STATUS, 2) >> 3 & 1,
            **self._device.state(),
            "msi": self._msi.state() if self._msi else None,
            "msix": self._msix.state() if self._msix else None,
        }
