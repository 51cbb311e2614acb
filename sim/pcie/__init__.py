"""A PCI Express host that was written elsewhere, for our endpoint.

The host is the RootComplex of ``cocotbext-pcie``, in the same simulation as the gateware. It
enumerates a bus and configures what it finds by the rules it knows, not by ours, so it tells
whether software in the field would find our function where it looks for one. Races are not its
business: it never masks a vector and takes a torn message for an error.

:class:`~sim.pcie.top.EndpointTop` is the design to simulate, :class:`~sim.pcie.ports.EndpointPorts`
its ports under cocotb, :class:`~sim.pcie.function.GatewareFunction` what the root complex sees.
The package is needed by this folder alone; nothing else in ``sim`` imports it.
"""
