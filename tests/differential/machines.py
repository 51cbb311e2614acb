"""The machines that the differential tests compare, and what software would set up first."""

from hdl.config import APIC_WINDOW, DISTRIBUTOR, RAM_BASE, SocConfig
from hdl.pci.endpoint import EndpointConfig
from hdl.registers import gits, pci
from hdl.registers.gicd import GicdRegister as Gicd
from hdl.registers.gicr import SGI_FRAME
from hdl.registers.gicr import GicrRegister as Gicr
from hdl.registers.gits import GitsRegister as Gits
from hdl.registers.lapic import LapicRegister

from .operations import Call, Command, on_cpu, on_endpoint

SKIP = SocConfig(
    cpus=2,
    spis=32,
    lpis=64,
    ram_bytes=1 << 20,
    endpoints=(EndpointConfig(maskable=True, msi_vectors=8, msix_vectors=5),),
)
"""Faulty ITS commands are skipped."""

STALL = SocConfig(
    cpus=3,
    spis=64,
    lpis=96,
    its_on_error="stall",
    device_id_bits=9,
    event_id_bits=6,
    ram_bytes=1 << 20,
    endpoints=(
        EndpointConfig(msi="32", msi_vectors=4, msix_vectors=0),
        EndpointConfig(msi="none", msix_vectors=40, pin="B", bar_bits=64),
    ),
)
"""Faulty ITS commands stop the queue; everything else differs too where it can."""

CONFIGS = {"skip": SKIP, "stall": STALL}

QUEUE = RAM_BASE
PROPERTIES = RAM_BASE + 0x1000
COLLECTIONS = RAM_BASE + 0x2000
EVENTS = (RAM_BASE + 0x4000, RAM_BASE + 0x4800, RAM_BASE + 0x5000, RAM_BASE + 0xF_F800)
"""Translation tables of 256 events; what a larger one would hold of the last is beyond RAM."""
SECOND_QUEUE = RAM_BASE + 0x8000
FEW_DEVICES = RAM_BASE + 0xC000
SCRATCH = RAM_BASE + 0xE000
SCRATCH_BYTES = 0x1000
DEVICES = RAM_BASE + 0x8_0000
NOWHERE = 0x2_0000_0000
"""Neither RAM nor anything else."""

VALID = 1 << 63
ALL_ZERO = 1 << 62
ID_BITS = 13


def pending_table(cpu: int) -> int:
    return RAM_BASE + 0x1_0000 * (cpu + 1)


def device_ids(config: SocConfig) -> tuple[int, ...]:
    """Some that are mapped at first, some that can be, some that cannot."""
    own = pci.requester_id(0)
    if config.device_id_bits < 16:
        return (own, 0x1FF, 0x100, 0, 0x200, 0xFFFF)
    return (own, 0xDFFF, 0x1234, 0x8000, 0, 0xE000, 0xFFFF)


def store64(cpu: int, address: int, value: int) -> Call:
    return on_cpu(cpu, "write64", address, value)


def wake_gic(config: SocConfig) -> list[Call]:
    """Every interrupt enabled, in group 1, at some priority; every CPU and guest takes them."""
    gicd = DISTRIBUTOR.base
    calls = [on_cpu(0, "write", gicd + Gicd.CTLR, 2)]
    for first in range(32, 32 + config.spis, 32):
        word = first // 8
        calls.append(on_cpu(0, "write", gicd + Gicd.IGROUPR + word, 0xFFFF_FFFF))
        calls.append(on_cpu(0, "write", gicd + Gicd.ISENABLER + word, 0xFFFF_FFFF))
    for intid in range(32, 32 + config.spis, 4):
        priorities = 0x80_60_40_20 + (intid & 0x18)
        calls.append(on_cpu(0, "write", gicd + Gicd.IPRIORITYR + intid, priorities))
    for cpu, region in enumerate(config.redistributors):
        sgi = region.base + SGI_FRAME
        calls += [
            on_cpu(cpu, "write", region.base + Gicr.WAKER, 0),
            on_cpu(cpu, "write", sgi + Gicd.IGROUPR, 0xFFFF_FFFF),
            on_cpu(cpu, "write", sgi + Gicd.ISENABLER, 0xFFFF_FFFF),
            *(
                on_cpu(cpu, "write", sgi + Gicd.IPRIORITYR + intid, 0xA0_80_60_40)
                for intid in range(0, 32, 4)
            ),
            on_cpu(cpu, "write_sysreg", "ICC_PMR_EL1", 0xF8),
            on_cpu(cpu, "write_sysreg", "ICC_IGRPEN1_EL1", 1),
            on_cpu(cpu, "write_sysreg", "ICH_HCR_EL2", 1),
            on_cpu(cpu, "write_sysreg", "ICH_VMCR_EL2", 0xF800_0002),
        ]
    return calls


def wake_its(config: SocConfig) -> list[Call | Command]:
    """LPIs on everywhere, some devices' events mapped to them."""
    its = config.its_region.base
    bytes_ = b"".join(((0x20 * (i % 7)) | 0x03).to_bytes(1, "little") for i in range(config.lpis))
    calls: list[Call | Command] = [Call("ram", None, "write", (PROPERTIES, bytes_))]
    for cpu, region in enumerate(config.redistributors):
        calls += [
            store64(cpu, region.base + Gicr.PROPBASER, PROPERTIES | ID_BITS),
            store64(cpu, region.base + Gicr.PENDBASER, pending_table(cpu) | ALL_ZERO),
            on_cpu(cpu, "write", region.base + Gicr.CTLR, 1),
        ]
    few = config.device_id_bits < 16
    pages = 0 if few else 2 << 8 | 6  # one page of 4 KiB, or seven of 64 KiB
    calls += [
        store64(0, its + Gits.BASER0, VALID | DEVICES | pages),
        store64(0, its + Gits.BASER1, VALID | COLLECTIONS),
        store64(0, its + Gits.CBASER, VALID | QUEUE),
        on_cpu(0, "write", its + Gits.CWRITER, 0),
        on_cpu(0, "write", its + Gits.CTLR, 1),
    ]
    own, other, third, *_ = device_ids(config)
    size = min(8, config.event_id_bits)
    commands = [
        *(gits.encode_mapc(cpu, cpu) for cpu in range(config.cpus)),
        gits.encode_mapd(own, size, EVENTS[0]),
        gits.encode_mapd(other, 5, EVENTS[1]),
        gits.encode_mapd(third, size, EVENTS[3]),
        *(gits.encode_mapti(own, n, 8192 + n, n % config.cpus) for n in range(8)),
        *(gits.encode_mapti(other, n, 8200 + n, 1) for n in (0, 1, 31)),
        gits.encode_mapti(third, 2, 8191 + config.lpis, 0),
    ]
    return calls + [Command(tuple(words)) for words in commands]


def wake_apics(config: SocConfig) -> list[Call]:
    enable = 0x1FF
    return [
        call
        for cpu in range(config.cpus)
        for call in (
            on_cpu(cpu, "write", APIC_WINDOW.base + LapicRegister.SVR, enable),
            on_cpu(cpu, "write", APIC_WINDOW.base + LapicRegister.LDR, 1 << 24 + cpu),
        )
    ]


def bar(endpoint: int) -> int:
    """Where :func:`wake_endpoints` puts a function's BAR."""
    return pci.MMIO_BASE + 0x2000 * endpoint


def wake_endpoints(config: SocConfig) -> list[Call]:
    """Memory and bus mastering on, BARs placed, MSI to the ITS or MSI-X to local APICs."""
    translater = config.its_region.base + Gits.TRANSLATER
    calls = []
    for k, endpoint in enumerate(config.endpoints):
        calls.append(on_endpoint(k, "config_write", pci.Header.BAR0, bar(k), 4))
        calls.append(on_endpoint(k, "config_write", pci.Header.COMMAND, 6, 2))
        for n in range(endpoint.msix_vectors):
            entry = bar(k) + pci.BAR_MSIX_TABLE + pci.MSIX_ENTRY_SIZE * n
            calls += [
                store64(0, entry, APIC_WINDOW.base | (n % config.cpus) << 12),
                store64(0, entry + 8, 0x30 + n),
            ]
        if endpoint.msi != "none":
            base, wide = endpoint.capability("msi"), endpoint.msi == "64"
            low, high = translater & 0xFFFF_FFFF, translater >> 32
            calls.append(on_endpoint(k, "config_write", base + pci.MSI_ADDRESS_LO, low, 4))
            if wide:
                calls.append(on_endpoint(k, "config_write", base + pci.MSI_ADDRESS_HI, high, 4))
            calls.append(on_endpoint(k, "config_write", base + pci.msi_data(wide), 0, 2))
            flags = pci.MSI_FLAGS_ENABLE | 0x70
            calls.append(on_endpoint(k, "config_write", base + pci.MSI_FLAGS, flags, 2))
        else:
            base = endpoint.capability("msix")
            flags = pci.MSIX_FLAGS_ENABLE
            calls.append(on_endpoint(k, "config_write", base + pci.MSIX_FLAGS, flags, 2))
    return calls


def prepare(config: SocConfig) -> list[Call | Command]:
    """Everything on."""
    return [*wake_gic(config), *wake_its(config), *wake_apics(config), *wake_endpoints(config)]
