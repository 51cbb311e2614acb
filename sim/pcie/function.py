"""The endpoint as the root complex sees it: packets in, packets out."""

from collections.abc import Awaitable, Callable, Iterator

import cocotb
from cocotb.queue import Queue
from cocotbext.pcie.core.tlp import Tlp, TlpType
from cocotbext.pcie.core.utils import PcieId

from hdl.registers import pci

from .ports import EndpointPorts, Posted

COMPLETION_BYTES = 128
"""A read is answered in pieces that end at multiples of this: the smallest payload limit, which
every host must take, and the read completion boundary of a function."""

_MEMORY_READS = (TlpType.MEM_READ, TlpType.MEM_READ_64)
_MEMORY_WRITES = (TlpType.MEM_WRITE, TlpType.MEM_WRITE_64)


class GatewareFunction:
    """A function for ``cocotbext.pcie.core.Device``, with the gateware behind it.

    It has what the device asks of a function (routing, identity, receiving) and no register:
    every configuration and memory request becomes accesses on the gateware's ports, word by word
    with the request's byte enables, and what they answer becomes the completion. Every write that
    the gateware posts becomes a memory write with the function's requester id.

    Packets leave in one order, that of the clocks in which the gateware handed them over; of a
    posted write and an answer in the same clock, the write goes first. So a completion pushes the
    posted writes before it, as PCI demands. Requests are dealt with one after the other.

    Simplifications: INTx stays a level on the gateware's pin, for this root complex has no
    message packets (no message code in its packets, no routing for them). A function that is
    unplugged answers as unsupported whatever is asked, where a real link would go down; unplug it
    between requests, not in the middle of one.

    Parameters
    ----------
    ports : EndpointPorts
        Started.
    """

    upstream_tx_handler: Callable[[Tlp], Awaitable[None]]
    """Where packets go; set by the device."""

    def __init__(self, ports: EndpointPorts):
        self.ports = ports
        self.pcie_id = PcieId()
        self.multifunction_device = False
        self._outgoing: Queue[Tlp] = Queue()
        self._handlers = {
            TlpType.CFG_READ_0: self._config_read,
            TlpType.CFG_WRITE_0: self._config_write,
            **dict.fromkeys(_MEMORY_READS, self._memory_read),
            **dict.fromkeys(_MEMORY_WRITES, self._memory_write),
        }
        cocotb.start_soon(self._send())
        cocotb.start_soon(self._forward_posted())

    @property
    def function_num(self) -> int:
        return self.pcie_id.function

    def match_tlp(self, tlp: Tlp) -> bool:
        """Whether ``tlp`` is for this function, by the gateware's BAR if it has an address."""
        if tlp.fmt_type not in self._handlers or self.ports.peek("stimulus_unplug"):
            return False
        if tlp.fmt_type in _MEMORY_READS + _MEMORY_WRITES:
            offset = tlp.address - self.ports.peek("bar.base")
            return bool(self.ports.peek("bar.enable")) and 0 <= offset < pci.BAR_SIZE
        return tlp.completer_id == self.pcie_id

    async def upstream_recv(self, tlp: Tlp) -> None:
        """Deal with a request that :meth:`match_tlp` accepted."""
        tlp.release_fc()
        await self._handlers[tlp.fmt_type](tlp)

    async def _config_read(self, tlp: Tlp) -> None:
        value = await self.ports.access("config_access", tlp.address, tlp.first_be)
        completion = Tlp.create_completion_data_for_tlp(tlp, self.pcie_id)
        completion.set_data(value.to_bytes(4, "little"))
        completion.byte_count = 4
        self._outgoing.put_nowait(completion)

    async def _config_write(self, tlp: Tlp) -> None:
        data = int.from_bytes(tlp.get_data(), "little")
        await self.ports.access("config_access", tlp.address, tlp.first_be, data)
        self._outgoing.put_nowait(Tlp.create_completion_for_tlp(tlp, self.pcie_id))

    async def _memory_read(self, tlp: Tlp) -> None:
        content = b""
        for offset, select in self._words(tlp):
            word = await self.ports.access("memory", offset, select)
            content += word.to_bytes(4, "little")
        for completion in self._completions(tlp, content):
            self._outgoing.put_nowait(completion)

    async def _memory_write(self, tlp: Tlp) -> None:
        content = tlp.get_data()
        for number, (offset, select) in enumerate(self._words(tlp)):
            data = int.from_bytes(content[4 * number :][:4], "little")
            await self.ports.access("memory", offset, select, data)

    def _words(self, tlp: Tlp) -> Iterator[tuple[int, int]]:
        """Offset in the BAR and byte enables of each word of a memory request."""
        first = tlp.address - self.ports.peek("bar.base")
        for number in range(tlp.length):
            if number == 0:
                select = tlp.first_be
            elif number == tlp.length - 1:
                select = tlp.last_be
            else:
                select = 0xF
            yield first + 4 * number, select

    def _completions(self, tlp: Tlp, content: bytes) -> Iterator[Tlp]:
        address = tlp.address + tlp.get_first_be_offset()
        left = tlp.get_be_byte_count()
        while content:
            padding = address % 4
            size = COMPLETION_BYTES - (address - padding) % COMPLETION_BYTES
            piece, content = content[:size], content[size:]
            completion = Tlp.create_completion_data_for_tlp(tlp, self.pcie_id)
            completion.set_data(piece)
            completion.byte_count = left
            completion.lower_address = address & 0x7F
            yield completion
            left -= len(piece) - padding
            address += len(piece) - padding

    async def _forward_posted(self) -> None:
        async for write in self.ports.posted():
            self._outgoing.put_nowait(self._memory_write_for(write))

    def _memory_write_for(self, write: Posted) -> Tlp:
        tlp = Tlp()
        wide = write.address >> 32
        tlp.fmt_type = TlpType.MEM_WRITE_64 if wide else TlpType.MEM_WRITE
        tlp.requester_id = self.pcie_id
        tlp.set_addr_be_data(write.address, write.data.to_bytes(4, "little"))
        return tlp

    async def _send(self) -> None:
        while True:
            tlp = await self._outgoing.get()
            await self.upstream_tx_handler(tlp)
