"""The endpoint as a design of its own."""

from hdl.pci.endpoint import Endpoint


class EndpointTop(Endpoint):
    """What a :class:`sim.design.Design` makes from an :class:`hdl.pci.endpoint.EndpointConfig`,
    with ``"sim.pcie.top:EndpointTop"`` as its factory: a bare function, no bus, no CPU."""

    channels = ()
    """A machine numbers its tap's channels; a function alone has two tap ports, by name."""
