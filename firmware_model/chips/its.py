"""An ITS: the commands that say which LPI a device's event is and which CPU gets it.

Source: drivers/irqchip/irq-gic-v3-its.c. Every command is waited for, with the descriptor's lock
held by whoever asked for it, but not the lock of the ITS.

Simplifications: one-level tables of 4 KiB pages without the probing for other sizes, no GICv4.
"""

from errno import EINVAL

from hdl.registers import gits
from hdl.registers.gits import GitsBaser, GitsCbaser, GitsCtlr, GitsRegister, GitsTyper

from ..core.chip import AffinityResult, IrqChip, below
from ..core.core import IrqCore
from ..core.cpumask import cpus_in
from ..core.desc import Irqd, IrqData, IrqDesc
from ..core.records import Kind
from ..machine.cpu import Cpu
from ..machine.locks import SpinLock
from .gicv3 import GicV3
from .lpi_tables import LpiTables

QUEUE_BYTES = 0x1_0000
PAGE = 0x1000
PATIENCE = 1000
"""Looks at a queue that does not move before it is given up (in Linux, a million: a second)."""
POLL = 10
"""Clocks between two looks (in Linux, a microsecond)."""

Command = tuple[int, ...]


class ItsQueue:
    """The command queue, and the tables that the commands fill.

    Parameters
    ----------
    core : IrqCore
    frame : int
        Address of the control frame.
    tables : LpiTables
        Whose pages are used.

    Attributes
    ----------
    base : int
        Where the queue is.
    lock : SpinLock
        Guards its write pointer.
    """

    def __init__(self, core: IrqCore, frame: int, tables: LpiTables):
        self.frame = frame
        self._pages = tables.pages
        self.base = self._pages.allocate(QUEUE_BYTES, PAGE)
        self._write = 0
        self.lock = SpinLock("its")
        core.machine.register(self.lock)

    @property
    def translater(self) -> int:
        """Where devices write their events."""
        return self.frame + GitsRegister.TRANSLATER

    async def init(self, cpu: Cpu) -> None:
        """Once: off, tables for devices and collections, the queue, on."""
        frame = self.frame
        await cpu.store(frame + GitsRegister.CTLR, 0)
        typer = GitsTyper.from_bits(await cpu.load64(frame + GitsRegister.TYPER))
        collections = len(cpu.machine.cpus)
        await self._set_table(cpu, GitsRegister.BASER0, 1 << typer.dev_bits + 1)
        await self._set_table(cpu, GitsRegister.BASER1, collections)
        queue = GitsCbaser.const({"valid": 1, "size": QUEUE_BYTES // PAGE - 1}).as_bits()
        await cpu.store64(frame + GitsRegister.CBASER, queue | self.base)
        await cpu.load64(frame + GitsRegister.CBASER)
        await cpu.store64(frame + GitsRegister.CWRITER, 0)
        await cpu.store(frame + GitsRegister.CTLR, GitsCtlr.const({"enabled": 1}).as_bits())

    async def _set_table(self, cpu: Cpu, register: GitsRegister, entries: int) -> None:
        pages = -(-entries * gits.ENTRY_BYTES // PAGE)
        table = self._pages.allocate(pages * PAGE, PAGE)
        base = GitsBaser.const({"valid": 1, "size": pages - 1}).as_bits()
        await cpu.load64(self.frame + register)
        await cpu.store64(self.frame + register, base | table)
        await cpu.load64(self.frame + register)

    def make_table(self, entries: int) -> int:
        """A device's translation table."""
        return self._pages.allocate(entries * gits.ENTRY_BYTES, gits.ITT_ALIGNMENT)

    async def send(self, cpu: Cpu, command: Command, *, sync: int | None = None) -> None:
        """One command, with a SYNC for CPU ``sync`` behind it; until both were carried out."""
        async with self.lock.guard_irqsave(cpu):
            await self._put(cpu, command)
            if sync is not None:
                await self._put(cpu, gits.encode_sync(sync))
            start = await self._read_pointer(cpu)
            end = self._write
            await cpu.store(self.frame + GitsRegister.CWRITER, end)
        await self._wait(cpu, start, end)

    async def _put(self, cpu: Cpu, command: Command) -> None:
        after = (self._write + gits.COMMAND_BYTES) % QUEUE_BYTES
        for _ in range(PATIENCE):
            if await self._read_pointer(cpu) != after:
                break
            await cpu.delay(POLL)
        else:
            cpu.log(Kind.WARNING, text="the ITS queue stays full")
            return
        for i, word in enumerate(command):
            await cpu.store64(self.base + self._write + 8 * i, word)
        self._write = after

    async def _wait(self, cpu: Cpu, start: int, end: int) -> None:
        """Until the read pointer has come from ``start`` to ``end``, or past it."""
        left = (end - start) % QUEUE_BYTES
        at = start
        for _ in range(PATIENCE):
            before, at = at, await self._read_pointer(cpu)
            left -= (at - before) % QUEUE_BYTES
            if left <= 0:
                return
            await cpu.delay(POLL)
        cpu.log(Kind.WARNING, text="the ITS does not get on with its commands", at=at, end=end)

    async def _read_pointer(self, cpu: Cpu) -> int:
        return await cpu.load(self.frame + GitsRegister.CREADR)


class ItsDevice:
    """A device as the ITS knows it: consecutive LPIs for consecutive events.

    Attributes
    ----------
    device_id, lpi, table, bits : int
        ``lpi`` is the first one's INTID; there are ``1 << bits`` events in ``table``.
    collection : dict of EventID to CPU
        Where each event goes: the software's own record.
    """

    def __init__(self, device_id: int, lpi: int, table: int, bits: int):
        self.device_id = device_id
        self.lpi = lpi
        self.table = table
        self.bits = bits
        self.collection: dict[int, int] = {}


class Its(IrqChip):
    """The level between a device's messages and the GIC; ``hwirq`` is the LPI.

    Collection ``n`` belongs to CPU ``n``.

    Attributes
    ----------
    queue : ItsQueue
    tables : LpiTables
    load : list of int
        LPIs that go to each CPU.
    """

    name = "ITS"

    def __init__(self, gic: GicV3, tables: LpiTables):
        if gic.frames.its is None:
            raise ValueError("frames.its must be the address of an ITS, not None")
        self._gic = gic
        self.tables = tables
        self.queue = ItsQueue(gic.core, gic.frames.its, tables)
        self.load = [0] * len(gic.running)

    async def init(self, cpu: Cpu) -> None:
        """Once, before any CPU's :meth:`init_cpu`."""
        await self.tables.init(cpu)
        await self.queue.init(cpu)

    async def init_cpu(self, cpu: Cpu) -> None:
        """LPIs on, and this CPU's collection mapped; also when it comes back."""
        await self.tables.init_cpu(cpu)
        await self.queue.send(cpu, gits.encode_mapc(cpu.index, cpu.index), sync=cpu.index)
        await self.queue.send(cpu, gits.encode_invall(cpu.index), sync=cpu.index)

    # Devices

    async def create_device(self, cpu: Cpu, device_id: int, count: int) -> ItsDevice:
        """MAPD, for ``count`` events."""
        bits = max(1, (count - 1).bit_length())
        table = self.queue.make_table(1 << bits)
        device = ItsDevice(device_id, self.tables.allocate(1 << bits), table, bits)
        await self.queue.send(cpu, gits.encode_mapd(device_id, bits, table))
        return device

    async def free_device(self, cpu: Cpu, device: ItsDevice) -> None:
        """MAPD that unmaps it."""
        self.tables.free(device.lpi, 1 << device.bits)
        await self.queue.send(
            cpu, gits.encode_mapd(device.device_id, device.bits, device.table, valid=False)
        )

    def add_to(self, desc: IrqDesc, device: ItsDevice, event: int) -> IrqData:
        """Give ``desc`` its levels in the GIC and here: it is ``event`` of ``device``."""
        intid = device.lpi + event
        self._gic.add_to(desc, intid)
        data = desc.add_level(self, intid)
        data.chip_data = device
        desc.flags |= Irqd.RESEND_WHEN_IN_PROGRESS
        return data

    def release(self, data: IrqData) -> None:
        """The INTID means nothing any more."""
        self._gic.irqs.pop(data.hwirq, None)

    # What the core calls

    async def irq_mask(self, cpu: Cpu, data: IrqData) -> None:
        await self._set_enable(cpu, data, False)

    async def irq_unmask(self, cpu: Cpu, data: IrqData) -> None:
        await self._set_enable(cpu, data, True)

    async def irq_eoi(self, cpu: Cpu, data: IrqData) -> None:
        await self._gic.irq_eoi(cpu, below(data))

    async def irq_retrigger(self, cpu: Cpu, data: IrqData) -> bool:
        device, event = self._event(data)
        target = device.collection[event]
        cpu.log(Kind.RETRIGGER, irq=data.desc.irq, target=target, intid=data.hwirq)
        await self.queue.send(cpu, gits.encode_int(device.device_id, event), sync=target)
        return True

    async def irq_set_affinity(self, cpu: Cpu, data: IrqData, mask: int, force: bool) -> int:
        """MOVI, behind it a SYNC for the CPU that the LPI leaves. No message changes."""
        device, event = self._event(data)
        old = device.collection.get(event, -1)
        if data.desc.flags & Irqd.FORWARDED_TO_VCPU:
            return -EINVAL
        target = self._select(mask if force else mask & self._gic.core.online, old)
        if target < 0:
            return -EINVAL
        if target != old:
            await self.move(cpu, data, old, target)
            self._route(cpu, data, target)
        return AffinityResult.OK_DONE

    async def move(self, cpu: Cpu, data: IrqData, old: int, new: int) -> None:
        """The command of a move."""
        device, event = self._event(data)
        await self.queue.send(cpu, gits.encode_movi(device.device_id, event, new), sync=old)

    async def activate(self, cpu: Cpu, data: IrqData, *, early: bool) -> int:
        """MAPTI, to a CPU of the affinity."""
        error = await super().activate(cpu, data, early=early)
        target = self._select(data.desc.affinity & self._gic.core.online, -1)
        if error or target < 0:
            return error or -EINVAL
        device, event = self._event(data)
        self._route(cpu, data, target)
        mapti = gits.encode_mapti(device.device_id, event, data.hwirq, target)
        await self.queue.send(cpu, mapti, sync=target)
        return 0

    async def deactivate(self, cpu: Cpu, data: IrqData) -> None:
        """DISCARD."""
        device, event = self._event(data)
        target = device.collection.pop(event)
        self.load[target] -= 1
        await self.queue.send(cpu, gits.encode_discard(device.device_id, event), sync=target)
        await super().deactivate(cpu, data)

    async def _set_enable(self, cpu: Cpu, data: IrqData, enable: bool) -> None:
        device, event = self._event(data)
        await self.tables.configure(cpu, data.hwirq, enable=enable)
        inv = gits.encode_inv(device.device_id, event)
        await self.queue.send(cpu, inv, sync=device.collection[event])

    def _event(self, data: IrqData) -> tuple[ItsDevice, int]:
        device: ItsDevice = data.chip_data
        return device, data.hwirq - device.lpi

    def _select(self, usable: int, old: int) -> int:
        """The CPU among ``usable`` with the fewest LPIs, the one that moves not counted."""
        candidates = cpus_in(usable)
        return min(candidates, key=lambda c: self.load[c] - (c == old), default=-1)

    def _route(self, cpu: Cpu, data: IrqData, target: int) -> None:
        device, event = self._event(data)
        if event in device.collection:
            self.load[device.collection[event]] -= 1
        device.collection[event] = target
        self.load[target] += 1
        data.desc.effective_affinity = 1 << target
        cpu.log(Kind.ROUTED, irq=data.desc.irq, target=target)
