"""The interrupt core: descriptors, flow handlers, request and free, affinity, re-send.

It follows the order of steps, locks and accesses of the Linux kernel, so that what races there
races here. :mod:`.records` lists what it writes into the log; :mod:`.kernel` what changed from
one release to another. Errors are returned as the kernel returns them, as negative numbers from
:mod:`errno`; what a kernel would only warn about is a record, and the software goes on.
"""

from .chip import AffinityResult, ChipFlag, IrqChip
from .core import IrqCore
from .desc import Action, ActionFlag, Irqd, IrqData, IrqDesc, IrqReturn, IState
from .kernel import LINUX_5_10, LINUX_6_1, LINUX_6_12, LINUX_7_1, Kernel
from .records import Kind

__all__ = [
    "LINUX_5_10",
    "LINUX_6_1",
    "LINUX_6_12",
    "LINUX_7_1",
    "Action",
    "ActionFlag",
    "AffinityResult",
    "ChipFlag",
    "IState",
    "IrqChip",
    "IrqCore",
    "IrqData",
    "IrqDesc",
    "IrqReturn",
    "Irqd",
    "Kernel",
    "Kind",
]
