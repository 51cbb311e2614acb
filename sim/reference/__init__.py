"""The executable specification: what the hardware must do, in plain Python and without time.

Written from the facts about the GICv3, the x86 local APIC and PCI messages, never from the
gateware, so that the two can be held against each other. Every access takes effect at once and
completely; what real hardware may still have under way (a translation, a stale property byte)
appears only where the architecture lets software *see* a choice, and is then said to be one (see
:meth:`ReferenceMachine.permitted_acknowledges`).

Register offsets and encodings are written out again here on purpose: an oracle that shared the
gateware's constants would share their mistakes.

* :mod:`.bank`: state machine and registers of SGIs, PPIs and SPIs
* :mod:`.gicd`, :mod:`.gicr`, :mod:`.lpi`, :mod:`.its`: distributor, redistributors, LPIs, ITS
* :mod:`.cpu_interface`, :mod:`.virtual`: system registers, list registers
* :mod:`.lapic`, :mod:`.endpoint`: x86 message target, PCI function
* :mod:`.machine`: all of it at the address map
* :mod:`.implementation`: what the architecture leaves open, as one dataclass
"""

from .faults import BusFaultError, UndefinedRegisterError
from .implementation import AddressMap, Implementation, PciLayout
from .machine import ReferenceMachine
from .shape import EndpointShape, Shape

__all__ = [
    "AddressMap",
    "BusFaultError",
    "EndpointShape",
    "Implementation",
    "PciLayout",
    "ReferenceMachine",
    "Shape",
    "UndefinedRegisterError",
]
