"""Software state on wires, so that one waveform shows hardware and software.

The gateware ignores these inputs. A host drives them while the software model runs; synthesis
removes them.
"""

from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import Out


class CpuContext(enum.Enum, shape=4):
    """What a CPU's software is doing."""

    IDLE = 0
    TASK = 1
    IRQ_ENTRY = 2
    FLOW = 3
    HANDLER = 4
    SPIN = 5
    STOP_MACHINE = 6
    GUEST = 7
    OFFLINE = 8


class SoftwareState(data.Struct):
    """One CPU's lane.

    ``irq`` is the Linux irq number under way (0: none), ``state`` its descriptor's state bits as
    the software model packs them, ``lock`` one more than the number of the lock that the CPU
    holds or spins for (0: none), ``mark`` counts handler starts. While ``context`` is GUEST,
    ``irq`` is an INTID of the guest's, and ``state`` that of its interrupts.
    """

    context: CpuContext
    irqs_off: 1
    irq: 16
    state: 16
    lock: 8
    mark: 16


class ProbeSignature(wiring.Signature):
    """Seen from the software. ``cpu``: one :class:`SoftwareState` per CPU; ``scene``: a number
    the scenario sets."""

    def __init__(self, cpus: int):
        super().__init__({"cpu": Out(SoftwareState).array(cpus), "scene": Out(16)})
