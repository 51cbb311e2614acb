"""PCI configuration space, MSI and MSI-X layouts, and the event device behind the endpoint's BAR.

Offsets are in bytes. Configuration registers as in PCI Local Bus 3.0 chapter 6 and PCI Express;
MSI and MSI-X as in section 6.8 there; the names of Linux' ``pci_regs.h`` stand in the comments
where they help.
"""

from enum import IntEnum

# --- Where things are -----------------------------------------------------------------------

ECAM_BASE = 0x3F00_0000
ECAM_SIZE = 16 << 20
"""Buses 0 to 15: 1 MiB a bus, 32 KiB a device, 4 KiB a function."""

MMIO_BASE = 0x1000_0000
MMIO_SIZE = 256 << 20
"""The window that the host bridge routes by base address registers."""


def ecam_address(bus: int, device: int, function: int, offset: int = 0) -> int:
    """Bus address of a byte of one function's configuration space."""
    for name, value, limit in (
        ("bus", bus, 16),
        ("device", device, 32),
        ("function", function, 8),
        ("offset", offset, 4096),
    ):
        if not 0 <= value < limit:
            raise ValueError(f"{name} must be between 0 and {limit - 1}, not {value}")
    return ECAM_BASE | bus << 20 | device << 15 | function << 12 | offset


def requester_id(endpoint: int) -> int:
    """Requester id (and so DeviceID) of endpoint number ``endpoint``: bus 0, device 1 onwards."""
    if not 0 <= endpoint < 31:
        raise ValueError(f"endpoint must be between 0 and 30, not {endpoint}")
    return (endpoint + 1) << 3


# --- Header ---------------------------------------------------------------------------------

VENDOR_ID = 0x1209  # the vendor id that pid.codes lends to open hardware
DEVICE_ID = 0x0001  # reserved there for tests
CLASS_CODE = 0xFF_00_00  # does not fit a defined class
REVISION = 0x01


class Header(IntEnum):
    """Type-0 header."""

    VENDOR = 0x00  # 16 bits
    DEVICE = 0x02  # 16 bits
    COMMAND = 0x04  # 16 bits
    STATUS = 0x06  # 16 bits
    REVISION = 0x08  # 8 bits, class code above it
    CACHE_LINE = 0x0C  # 8 bits
    HEADER_TYPE = 0x0E  # 8 bits
    BAR0 = 0x10
    BAR1 = 0x14  # upper half of a 64-bit BAR0
    SUBSYSTEM = 0x2C
    ROM = 0x30
    CAPABILITIES = 0x34  # 8 bits
    INTERRUPT_LINE = 0x3C  # 8 bits
    INTERRUPT_PIN = 0x3D  # 8 bits: 0 none, 1 INTA ... 4 INTD


COMMAND_MEMORY = 1 << 1
COMMAND_MASTER = 1 << 2
COMMAND_INTX_DISABLE = 1 << 10

STATUS_INTERRUPT = 1 << 3
STATUS_CAPABILITIES = 1 << 4

BAR_TYPE_64 = 0b100
"""In a base address register's low bits: memory, 64 bits, not prefetchable."""


class CapabilityId(IntEnum):
    MSI = 0x05
    EXPRESS = 0x10
    MSIX = 0x11


# --- MSI: offsets from the capability -------------------------------------------------------

MSI_FLAGS = 0x02  # 16 bits
MSI_FLAGS_ENABLE = 1 << 0
MSI_FLAGS_CAPABLE = 0x7 << 1  # log2 of the vectors the function has
MSI_FLAGS_ENABLED = 0x7 << 4  # log2 of the vectors it may use
MSI_FLAGS_64BIT = 1 << 7
MSI_FLAGS_MASKABLE = 1 << 8
MSI_ADDRESS_LO = 0x04
MSI_ADDRESS_HI = 0x08  # with 64-bit addresses only


def msi_data(wide: bool) -> int:
    """Offset of the 16-bit data register; ``wide``: 64-bit addresses."""
    return 0x0C if wide else 0x08


def msi_mask(wide: bool) -> int:
    """Offset of the mask register of a maskable capability."""
    return 0x10 if wide else 0x0C


def msi_pending(wide: bool) -> int:
    """Offset of the pending register of a maskable capability."""
    return 0x14 if wide else 0x10


def msi_length(wide: bool, maskable: bool) -> int:
    """Bytes of the capability."""
    if maskable:
        return 0x18 if wide else 0x14
    return 0x0E if wide else 0x0A


# --- MSI-X: offsets from the capability, and inside a table entry ---------------------------

MSIX_FLAGS = 0x02  # 16 bits
MSIX_FLAGS_SIZE = 0x7FF  # entries - 1
MSIX_FLAGS_MASK_ALL = 1 << 14
MSIX_FLAGS_ENABLE = 1 << 15
MSIX_TABLE = 0x04  # offset | BAR number
MSIX_PENDING = 0x08  # offset | BAR number

MSIX_ENTRY_SIZE = 16
MSIX_ENTRY_ADDRESS_LO = 0x0
MSIX_ENTRY_ADDRESS_HI = 0x4
MSIX_ENTRY_DATA = 0x8
MSIX_ENTRY_CONTROL = 0xC
MSIX_ENTRY_MASKED = 1 << 0

# --- PCI Express: offsets from the capability -----------------------------------------------

EXPRESS_FLAGS = 0x02  # 16 bits: version, device type
EXPRESS_DEVICE_CAPABILITIES = 0x04
EXPRESS_DEVICE_CONTROL = 0x08  # 16 bits, status above it
EXPRESS_LINK_CAPABILITIES = 0x0C
EXPRESS_LINK_CONTROL = 0x10  # 16 bits, status above it

# --- The BAR of the event device ------------------------------------------------------------

BAR_SIZE = 8192
BAR_MSIX_TABLE = 0x1000
BAR_MSIX_PENDING = 0x1800

IDENTITY = 0x5149_5249
"""What :attr:`Device.IDENTITY` reads as: ``IRIQ`` in memory order."""


class Device(IntEnum):
    """Registers of the event device, 32 bits each, from the start of the BAR.

    The interrupt cause is level-like: there is something to do while COUNT differs from
    ACKNOWLEDGE. A driver reads COUNT, does the work and writes what it read to ACKNOWLEDGE; an
    event in between keeps the cause.
    """

    IDENTITY = 0x00  # RO
    COUNT = 0x04  # RO: events since reset, modulo 2**32
    ACKNOWLEDGE = 0x08  # RW: the count up to which events are dealt with
    STATUS = 0x0C  # RO: see STATUS_*
    DMA_ADDRESS_LO = 0x10  # RW: where the count is written before an interrupt; bits 1:0 are zero
    DMA_ADDRESS_HI = 0x14  # RW
    DMA_CONTROL = 0x18  # RW: bit 0 enables that write
    TRIGGER = 0x1C  # WO: raises an event for the vector written
    GENERATOR_PERIOD = 0x20  # RW, 16 bits: clocks from burst to burst, 0 counts as 1
    GENERATOR_BURST = 0x24  # RW, 8 bits: events in a burst, one a clock, 0 counts as 1
    GENERATOR_COUNT = 0x28  # RW, 16 bits: bursts left, 0 at the start means without end
    GENERATOR_CONTROL = 0x2C  # RW: see GENERATOR_*


DEVICE_STATUS_CAUSE = 1 << 0  # COUNT differs from ACKNOWLEDGE
DEVICE_STATUS_WAITING = 1 << 1  # an event's interrupt has not been sent or dropped yet
DEVICE_STATUS_RUNNING = 1 << 2  # the generator

DMA_CONTROL_ENABLE = 1 << 0

GENERATOR_RUN = 1 << 0  # cleared by the generator after its last burst
GENERATOR_ROTATE = 1 << 1  # each event uses the vector after the one before
GENERATOR_VECTOR_SHIFT = 8  # 6 bits: vector of the (first) event
