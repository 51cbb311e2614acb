"""Somebody who has a function to himself, a guest for one, and makes it write what he likes.

A message is a memory write: whoever may program the function's capability, or its firmware, may
name any address and any data. Only what is on the way can stop it.
"""

from hdl.registers.pci import Device

from ..chips.pci_msi import MsiCapability
from ..core.records import Kind
from ..machine.cpu import Cpu


class Rogue:
    """Has the event device whose BAR is at ``bar`` send messages that it was not given.

    Parameters
    ----------
    capability : MsiCapability
        The function's, found already.
    bar : int
    """

    def __init__(self, capability: MsiCapability, bar: int):
        self._capability = capability
        self._bar = bar

    async def send(self, cpu: Cpu, address: int, data: int) -> None:
        """One message; ``data`` has 16 bits, as the capability has them."""
        await self._capability.write_message(cpu, address, data)
        await self._capability.set_enable(cpu, True)
        cpu.log(Kind.FORGED, address=address, data=data)
        await cpu.store(self._bar + Device.TRIGGER, 0)
