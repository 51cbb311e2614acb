"""The machines that scenarios share: one compiled model serves them all."""

from firmware_model.chips.gicv3 import GicFrames
from hdl.config import SocConfig
from hdl.pci.endpoint import EndpointConfig

PLAIN, MASKABLE, MSIX = range(3)
"""Endpoints of :data:`X86`."""

X86 = SocConfig(
    gic=False,
    endpoints=(
        EndpointConfig(),
        EndpointConfig(maskable=True),
        EndpointConfig(msi="none", msix_vectors=4),
    ),
)
"""Two CPUs with local APICs; functions with MSI, with maskable MSI, with MSI-X."""

ARM = SocConfig(
    cpus=3,
    spis=32,
    lpis=32,
    device_id_bits=8,
    event_id_bits=5,
    local_apics=False,
    endpoints=tuple(EndpointConfig(pin=pin) for pin in "ADCB"),
    pmus=8,
    ram_bytes=512 << 10,
)
"""Three CPUs with a GICv3 and an ITS; four functions with MSI or INTx, whose pins all share
one wire (INTID 36), and eight PMUs on one line."""

DIRECT_HIGH = SocConfig(
    cpus=3, spis=32, lpis=32, its=False, local_apics=False, ram_bytes=512 << 10, high_frames=True
)
"""As ARM, with direct LPIs instead of an ITS, and all redistributors but CPU 0's above 4 GiB."""


def gic_frames(config: SocConfig) -> GicFrames:
    """Where ``config`` has the frames of its GIC, for the software that runs on it."""
    return GicFrames(
        redistributors=tuple(region.base for region in config.redistributors),
        its=config.its_region.base if config.its else None,
    )
