"""What software on the root complex does, inside the simulator; the tests judge what it saw."""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cocotb.triggers import Timer
from cocotbext.axi import MemoryRegion
from cocotbext.pcie.core import Device, RootComplex
from cocotbext.pcie.core.caps import PciCapId
from cocotbext.pcie.core.tlp import Tlp, TlpType

from hdl.registers import pci
from hdl.registers.pci import Device as Register
from hdl.registers.pci import Header
from sim.design import Design
from sim.pcie.function import GatewareFunction
from sim.pcie.ports import EndpointPorts

SETTLE = 60
"""Clocks after which a message that has not left never will."""
FAR = 1 << 40
"""Memory that takes a 64-bit address to reach."""


@dataclass
class System:
    """A root complex that has enumerated its bus, with the gateware on it."""

    root: RootComplex
    pci: Any
    """The device as the root complex' own PCI core knows it."""
    ports: EndpointPorts
    left: list[Tlp]
    """Every packet that left the function."""

    @property
    def writes(self) -> list[tuple[str, int, int, int]]:
        """Memory writes that left: kind of packet, requester id, address, data."""
        return [
            (
                tlp.fmt_type.name,
                int(tlp.requester_id),
                tlp.address,
                int.from_bytes(tlp.get_data(), "little"),
            )
            for tlp in self.left
            if tlp.fmt_type in (TlpType.MEM_WRITE, TlpType.MEM_WRITE_64)
        ]

    async def quiet(self) -> None:
        """Wait until what has happened has had its consequences."""
        await self.ports.clocks(SETTLE)

    async def load(self, offset: int) -> int:
        """Read a register of the BAR."""
        return await self.pci.bar_window[0].read_dword(offset)

    async def store(self, offset: int, value: int) -> None:
        """Write a register of the BAR, and wait until that has arrived."""
        await self.pci.bar_window[0].write_dword(offset, value)
        await self.load(Register.IDENTITY)


async def until(condition: Callable[[], Any], what: str) -> None:
    """Wait for ``condition``, not for ever."""
    for _ in range(SETTLE):
        if condition():
            return
        await Timer(10, "ns")
    raise AssertionError(f"{what}: not within {SETTLE} clocks")


async def enumerated(design: Design, top) -> System:
    ports = EndpointPorts(design, top)
    await ports.start()
    function = GatewareFunction(ports)
    root = RootComplex()
    device = Device([function])
    root.make_port().connect(device)

    left: list[Tlp] = []
    send = function.upstream_tx_handler

    async def note_and_send(tlp):
        left.append(tlp)
        await send(tlp)

    function.upstream_tx_handler = note_and_send
    await root.enumerate()
    return System(root, root.find_device(function.pcie_id), ports, left)


def watch(system: System, count: int) -> list[int]:
    """Handlers for ``count`` vectors; the list of those that fired."""
    fired: list[int] = []

    def handler(number):
        async def handle():
            fired.append(number)

        return handle

    for number in range(count):
        system.pci.request_irq(number, handler(number))
    return fired


async def discover(design: Design, top) -> dict[str, Any]:
    """Enumeration, and what the root complex' PCI core knows after it."""
    system = await enumerated(design, top)
    dev = system.pci
    seen = {
        "ids": (dev.vendor_id, dev.device_id, dev.subsystem_vendor_id, dev.subsystem_id),
        "class": (dev.class_code, dev.revision_id),
        "header": (dev.header_type, dev.multifunction),
        "express": (dev.is_pcie(), dev.pcie_type(), dev.pcie_mpss),
        "pcie_id": int(dev.pcie_id),
        "neighbours": len(dev.bus.devices) - 1,
        "capabilities": [(int(number), offset) for number, offset in dev.capabilities],
        "extended": dev.ext_capabilities,
        "sizes": [size or 0 for size in dev.bar_size],
        "address": dev.bar_addr[0],
        "writes": system.writes,
    }
    seen["bar"] = (system.ports.peek("bar.enable"), system.ports.peek("bar.base"))
    await dev.enable_device()
    seen["enabled_bar"] = (system.ports.peek("bar.enable"), system.ports.peek("bar.base"))
    seen["identity"] = await system.load(Register.IDENTITY)
    return seen


async def accesses(design: Design, top) -> dict[str, Any]:
    """Memory requests of every shape: pairs of what was expected and what was read."""
    system = await enumerated(design, top)
    dev, window = system.pci, system.pci.bar_window[0]
    await dev.enable_device()
    seen: dict[str, Any] = {}
    await window.write(Register.DMA_ADDRESS_HI, bytes(range(0x10, 0x14)))
    await window.write(Register.DMA_ADDRESS_HI + 1, b"\xaa\xbb")
    seen["some bytes of a word"] = (
        b"\x10\xaa\xbb\x13",
        await window.read(Register.DMA_ADDRESS_HI, 4),
    )
    seen["one byte"] = (b"\xbb", await window.read(Register.DMA_ADDRESS_HI + 2, 1))

    entries = 8
    table = b"".join(
        struct.pack("<4I", 0x0404_0404 * n, 0x1111_1111 * n, 0xA5A5_0000 + n, n & 1)
        for n in range(entries)
    )
    await window.write(pci.BAR_MSIX_TABLE, table)
    await window.write(pci.BAR_MSIX_TABLE + 0x22, b"\x01\x02\x03\x04\x05\x06\x07\x08\x09")
    table = table[:0x22] + b"\x01\x02\x03\x04\x05\x06\x07\x08\x09" + table[0x2B:]
    seen["many words"] = (table, await window.read(pci.BAR_MSIX_TABLE, len(table)))
    seen["odd ends"] = (table[5:111], await window.read(pci.BAR_MSIX_TABLE + 5, 106))
    system.left.clear()
    seen["over a completion boundary"] = (
        table[0x42:] + bytes(88),
        await window.read(pci.BAR_MSIX_TABLE + 0x42, 150),
    )
    pieces = [(tlp.byte_count, tlp.lower_address, tlp.length) for tlp in system.left]
    seen["pieces"] = ([(150, 0x42, 16), (88, 0, 22)], pieces)
    return seen


async def refusals(design: Design, top) -> dict[str, Any]:
    """What is asked of a function that does not answer: switched off, then gone, then back."""
    system = await enumerated(design, top)
    dev, ports = system.pci, system.ports
    seen: dict[str, Any] = {}

    async def refusal(action):
        try:
            return await action
        except Exception as error:
            return str(error)

    seen["memory_off"] = await refusal(system.load(Register.IDENTITY))
    await dev.enable_device()
    ports.drive({"stimulus_unplug": 1})
    await ports.clocks(1)
    seen["gone"] = await dev.config_read_dword(Header.VENDOR)
    seen["memory_gone"] = await refusal(system.load(Register.IDENTITY))
    seen["past_the_adapter"] = await refusal(ports.access("config_access", Header.VENDOR, 0xF))
    ports.drive({"stimulus_unplug": 0})
    await ports.clocks(1)
    registers = (Header.VENDOR, Header.COMMAND, Header.BAR0)
    seen["back"] = [await dev.config_read_dword(register) for register in registers]
    try:
        ports.drive({"intx": 1})
    except KeyError as error:
        seen["output"] = error.args[0]
    return seen


async def fail(design: Design, top) -> None:
    """A job whose expectation is not met."""
    system = await enumerated(design, top)
    await until(lambda: system.writes, "a message without a reason")


async def msi(design: Design, top) -> dict[str, Any]:
    """MSI by the root complex' own hand; a message when it may leave, none when not."""
    system = await enumerated(design, top)
    dev, ports = system.pci, system.ports
    seen: dict[str, Any] = {}
    await dev.enable_device()

    async def interrupt_pin():
        return ports.peek("intx"), bool(
            await dev.config_read_word(Header.STATUS) & pci.STATUS_INTERRUPT
        )

    await ports.raise_event(0)
    await system.quiet()
    seen["intx"] = await interrupt_pin()
    await system.store(Register.ACKNOWLEDGE, await system.load(Register.COUNT))
    await system.quiet()
    seen["acknowledged"] = await interrupt_pin()

    system.root.msi_alloc_vectors(32)  # another device's, so that ours do not start at 0
    seen["vectors"] = await dev.enable_msi_range(1, 32)
    fired = watch(system, 32)
    seen["flags"] = await dev.capability_read_word(PciCapId.MSI, pci.MSI_FLAGS)
    seen["message"] = (dev.msi_vectors[0].addr, dev.msi_vectors[0].data)

    await ports.raise_event(1)
    await system.quiet()
    seen["no_master"] = (list(system.writes), list(fired), await system.load(Register.COUNT))

    await dev.set_master()
    await ports.raise_event(2)
    await until(lambda: fired, "the handler of vector 2")
    await system.quiet()
    seen["sent"] = (list(system.writes), list(fired))

    address, memory = system.root.alloc_region(4096)
    await system.store(Register.DMA_ADDRESS_LO, address + 0x40)
    await system.store(Register.DMA_CONTROL, pci.DMA_CONTROL_ENABLE)
    system.left.clear()
    await system.store(Register.TRIGGER, 3)
    for _ in range(SETTLE):
        if not await system.load(Register.STATUS) & pci.DEVICE_STATUS_WAITING:
            break
    # that answer has pushed the data and the message before it
    arrived = dev.msi_vectors[3].event.is_set()
    seen["data"] = (address + 0x40, system.writes, bytes(memory[0x40:0x44]), arrived)

    await dev.set_master(False)
    system.left.clear()
    await ports.raise_event(0)
    await system.quiet()
    seen["master_again_off"] = (system.writes, list(fired))
    return seen


async def msix(design: Design, top) -> dict[str, Any]:
    """MSI-X: the table is filled through the BAR, by the root complex and then by us."""
    system = await enumerated(design, top)
    dev, ports = system.pci, system.ports
    seen: dict[str, Any] = {}
    far = MemoryRegion(4096)
    system.root.mem_address_space.register_region(far, FAR)
    await dev.enable_device()
    await dev.set_master()

    seen["vectors"] = await dev.alloc_irq_vectors(1, 64)
    fired = watch(system, seen["vectors"])
    seen["flags"] = await dev.capability_read_word(PciCapId.MSIX, pci.MSIX_FLAGS)
    seen["messages"] = [(vector.addr, vector.data) for vector in dev.msi_vectors]
    for vector in (5, 0, seen["vectors"] - 1):
        await ports.raise_event(vector)
        await until(lambda vector=vector: vector in fired, f"the handler of vector {vector}")
    seen["sent"] = (list(system.writes), list(fired))

    entry = pci.BAR_MSIX_TABLE + 4 * pci.MSIX_ENTRY_SIZE
    await system.store(entry + pci.MSIX_ENTRY_CONTROL, pci.MSIX_ENTRY_MASKED)
    await system.store(entry + pci.MSIX_ENTRY_ADDRESS_LO, 0x80)
    await system.store(entry + pci.MSIX_ENTRY_ADDRESS_HI, FAR >> 32)
    await system.store(entry + pci.MSIX_ENTRY_DATA, 0xFEED_5EED)
    system.left.clear()
    await ports.raise_event(4)
    await system.quiet()
    seen["masked"] = (list(system.writes), await system.load(pci.BAR_MSIX_PENDING))
    await system.store(entry + pci.MSIX_ENTRY_CONTROL, 0)
    await until(lambda: system.writes, "the message that was pending")
    await system.quiet()
    pending = await system.load(pci.BAR_MSIX_PENDING)
    seen["unmasked"] = (system.writes, pending, bytes(far.mem[0x80:0x84]))

    await dev.set_master(False)
    system.left.clear()
    await ports.raise_event(0)
    await system.quiet()
    seen["no_master"] = (system.writes, fired.count(0))
    return seen
