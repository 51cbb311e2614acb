"""How many of what: the configuration of a machine, and where its parts answer."""

from dataclasses import dataclass

from .bus import Region
from .pci.endpoint import EndpointConfig
from .pci.host import MAX_ENDPOINTS
from .pmu import FRAME_SIZE as PMU_FRAME
from .registers import pci

RAM_BASE = 0x4000_0000
RAM_LIMIT = 512 << 20

DISTRIBUTOR = Region("distributor", 0x0800_0000, 64 << 10)
REDISTRIBUTOR_SIZE = 128 << 10
REDISTRIBUTOR_BASE = 0x080A_0000
ITS_BASE = 0x0808_0000
ITS_SIZE = 128 << 10
HIGH_BASE = 0x40_0000_0000
"""Where the redistributors but the first go when ``high_frames`` is set."""
HIGH_ITS_BASE = 0x41_0000_0000
PMU_BASE = 0x0B00_0000
APIC_WINDOW = Region("apic", 0xFEE0_0000, 1 << 20)
ECAM = Region("ecam", pci.ECAM_BASE, pci.ECAM_SIZE)
MMIO = Region("mmio", pci.MMIO_BASE, pci.MMIO_SIZE)

INTX_SPI = 35
"""INTID of the first of the four wires INTA to INTD of the PCI host (as on QEMU's machine)."""
PMU_SPI = 39
"""INTID of the line that all PMUs share."""


def _check_integer(name, value, low, high, *, power_of_two=False, multiple=1):
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"SocConfig.{name} must be an integer, not {value!r}")
    if not low <= value <= high:
        raise ValueError(f"SocConfig.{name} must be between {low} and {high}, not {value}")
    if power_of_two and value & (value - 1):
        raise ValueError(f"SocConfig.{name} must be a power of two, not {value}")
    if value % multiple:
        raise ValueError(f"SocConfig.{name} must be a multiple of {multiple}, not {value}")


def _check_flag(name, value):
    if not isinstance(value, bool):
        raise TypeError(f"SocConfig.{name} must be True or False, not {value!r}")


@dataclass(frozen=True)
class SocConfig:
    """How many of what. What a sweep varies is an input of :class:`hdl.soc.Soc`, not here.

    Attributes
    ----------
    cpus : int
        CPU ports, CPU interfaces, redistributors, local APICs; 1 to 8.
    spis : int
        Shared interrupts from INTID 32; a multiple of 32 from 32 to 960.
    lpis : int
        LPIs from INTID 8192; 0 for none, or 32 to 57,344.
    its : bool
        An ITS, through which messages become LPIs. Without one GICR_SETLPIR works (direct LPIs).
    its_on_error : str
        "skip" a command that cannot be carried out, or "stall" until CWRITER.Retry.
    device_id_bits, event_id_bits : int
        What GITS_TYPER reports, 1 to 16 each.
    gic : bool
        A GICv3. Without one, an x86 machine: quicker to build and to run, INTx and PMU lines lead
        nowhere, and the fields about the GIC mean nothing.
    local_apics : bool
        A local APIC per CPU at 0xFEE0_0000 and the message window there.
    endpoints : int or tuple of EndpointConfig
        PCI functions; a number stands for that many default ones. 0 to 16.
    pmus : int
        PMUs on one shared line, 0 to 64, 4 KiB each from 0x0B00_0000.
    ram_bytes : int
        RAM at 0x4000_0000; a power of two from 4 KiB to 512 MiB, or 0 for none.
    high_frames : bool
        Put the redistributors of CPU 1 and later above 4 GiB, from 0x40_0000_0000, and the ITS at
        0x41_0000_0000, so that the upper address word of a message matters.

    PCI configuration space (ECAM) is at 0x3F00_0000 and the window for BARs at 0x1000_0000:
    see :mod:`hdl.registers.pci`.
    """

    cpus: int = 2
    spis: int = 64
    lpis: int = 1024
    its: bool = True
    its_on_error: str = "skip"
    device_id_bits: int = 16
    event_id_bits: int = 16
    gic: bool = True
    local_apics: bool = True
    endpoints: int | tuple[EndpointConfig, ...] = 1
    pmus: int = 0
    ram_bytes: int = 4 << 20
    high_frames: bool = False

    def __post_init__(self):
        _check_integer("cpus", self.cpus, 1, 8)
        _check_integer("spis", self.spis, 32, 960, multiple=32)
        if self.lpis != 0 or isinstance(self.lpis, bool):
            _check_integer("lpis", self.lpis, 32, 57_344)
        _check_flag("its", self.its)
        _check_flag("gic", self.gic)
        if self.gic and self.its and not self.lpis:
            raise ValueError(
                "SocConfig.its needs LPIs: set its=False, or lpis to 32 or more instead of 0"
            )
        if self.its_on_error not in ("skip", "stall"):
            raise ValueError(
                f'SocConfig.its_on_error must be "skip" or "stall", not {self.its_on_error!r}'
            )
        _check_integer("device_id_bits", self.device_id_bits, 1, 16)
        _check_integer("event_id_bits", self.event_id_bits, 1, 16)
        _check_flag("local_apics", self.local_apics)
        object.__setattr__(self, "endpoints", self._endpoint_tuple())
        _check_integer("pmus", self.pmus, 0, 64)
        if self.ram_bytes != 0 or isinstance(self.ram_bytes, bool):
            _check_integer("ram_bytes", self.ram_bytes, 4096, RAM_LIMIT, power_of_two=True)
        _check_flag("high_frames", self.high_frames)

    def _endpoint_tuple(self) -> tuple[EndpointConfig, ...]:
        if isinstance(self.endpoints, tuple | list):
            for endpoint in self.endpoints:
                if not isinstance(endpoint, EndpointConfig):
                    raise TypeError(
                        "SocConfig.endpoints must be a number or a tuple of EndpointConfig, "
                        f"not one with {endpoint!r}"
                    )
            _check_integer("endpoints", len(self.endpoints), 0, MAX_ENDPOINTS)
            return tuple(self.endpoints)
        _check_integer("endpoints", self.endpoints, 0, MAX_ENDPOINTS)
        return (EndpointConfig(),) * self.endpoints

    @property
    def ram(self) -> Region:
        return Region("ram", RAM_BASE, self.ram_bytes)

    @property
    def its_region(self) -> Region:
        """Control and translation frame of the ITS."""
        return Region("its", HIGH_ITS_BASE if self.high_frames else ITS_BASE, ITS_SIZE)

    @property
    def redistributors(self) -> tuple[Region, ...]:
        """The redistributor frames, one per CPU."""
        bases = [REDISTRIBUTOR_BASE + cpu * REDISTRIBUTOR_SIZE for cpu in range(self.cpus)]
        if self.high_frames:
            bases[1:] = [HIGH_BASE + cpu * REDISTRIBUTOR_SIZE for cpu in range(1, self.cpus)]
        return tuple(
            Region(f"redistributor{cpu}", base, REDISTRIBUTOR_SIZE)
            for cpu, base in enumerate(bases)
        )

    @property
    def pmu_region(self) -> Region:
        return Region("pmu", PMU_BASE, PMU_FRAME << max(self.pmus - 1, 0).bit_length())
