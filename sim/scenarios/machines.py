"""The machines that scenarios share: one compiled model serves them all."""

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
