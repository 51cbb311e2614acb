"""What is behind the BAR of an endpoint: a device that counts events.

Software reads COUNT, does the work and writes what it read to ACKNOWLEDGE; while the two differ
the device wants service. It can write COUNT to memory before each interrupt, so that the order of
data and message can be seen. The event generator is not modelled: it needs clocks.
"""

from collections.abc import Callable

from .bits import WORD, merge


class Register:
    """Offsets from the start of the BAR."""

    IDENTITY = 0x00
    COUNT = 0x04
    ACKNOWLEDGE = 0x08
    STATUS = 0x0C
    DMA_ADDRESS = 0x10
    DMA_ADDRESS_HIGH = 0x14
    DMA_CONTROL = 0x18
    TRIGGER = 0x1C


IDENTITY_VALUE = 0x5149_5249
VECTOR_MASK = 0x3F


class EventDevice:
    """Registers in the first bytes of the BAR.

    Parameters
    ----------
    trigger : callable(vector)
        What a write to TRIGGER does: raise an event.
    """

    def __init__(self, trigger: Callable[[int], None]):
        self._trigger = trigger
        self._acknowledged = 0
        self._dma_address = 0
        self._dma_control = 0
        self.count = 0

    @property
    def cause(self) -> bool:
        """There are events that software has not acknowledged."""
        return self.count != self._acknowledged

    def event(self) -> "tuple[int, int] | None":
        """Count one event; the (address, value) to write to memory before its interrupt, if any."""
        self.count = self.count + 1 & WORD
        return (self._dma_address, self.count) if self._dma_control & 1 else None

    def read(self, offset: int) -> int:
        return {
            Register.IDENTITY: IDENTITY_VALUE,
            Register.COUNT: self.count,
            Register.ACKNOWLEDGE: self._acknowledged,
            Register.STATUS: int(self.cause),
            Register.DMA_ADDRESS: self._dma_address & WORD,
            Register.DMA_ADDRESS_HIGH: self._dma_address >> 32,
            Register.DMA_CONTROL: self._dma_control,
        }.get(offset, 0)

    def write(self, offset: int, value: int, lanes: int) -> None:
        match offset:
            case Register.ACKNOWLEDGE:
                self._acknowledged = merge(self._acknowledged, value, lanes)
            case Register.DMA_ADDRESS:
                self._dma_address = merge(self._dma_address, value, lanes) & ~3
            case Register.DMA_ADDRESS_HIGH:
                self._dma_address = merge(self._dma_address, value << 32, lanes << 32)
            case Register.DMA_CONTROL:
                self._dma_control = merge(self._dma_control, value, lanes) & 1
            case Register.TRIGGER:
                self._trigger(value & lanes & VECTOR_MASK)

    def state(self) -> dict:
        return {"count": self.count, "acknowledged": self._acknowledged}
