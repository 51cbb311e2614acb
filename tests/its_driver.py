"""An ITS and its LPIs as software runs them, through a :class:`sim.bench.Bench`.

>>> its = ItsDriver(bench)
>>> its.wake()
>>> its.map_device(0x1234, bits=5)
>>> its.run(encode_mapti(0x1234, 3, 8195, collection=0))

Collection ``n`` belongs to CPU ``n``. Tables and queue have fixed places in 4 MiB of RAM.
"""

from hdl.config import DISTRIBUTOR, RAM_BASE
from hdl.gic.interfaces import FIRST_LPI
from hdl.registers.gicd import GicdRegister
from hdl.registers.gicr import GicrRegister
from hdl.registers.gits import (
    COMMAND_BYTES,
    ENTRY_BYTES,
    GitsRegister,
    command_bytes,
    encode_mapc,
    encode_mapd,
)
from sim.bench import Bench

QUEUE = RAM_BASE
QUEUE_BYTES = 0x1_0000
PROPERTIES = RAM_BASE + 0x1_0000
COLLECTIONS = RAM_BASE + 0x1_4000
PENDING = RAM_BASE + 0x2_0000
ITTS = RAM_BASE + 0x10_0000
MAX_EVENT_BITS = 12
ITT_BYTES = ENTRY_BYTES << MAX_EVENT_BITS
DEVICES = RAM_BASE + 0x20_0000

VALID = 1 << 63
ALL_ZERO = 1 << 62
ID_BITS = 14
PRIORITY = 0xA0

POLL_BOUND = 3000


def pending_table(cpu: int) -> int:
    return PENDING + 0x1_0000 * cpu


class ItsDriver:
    """Remembers the queue's ``tail`` and how many translation ``tables`` it has handed out."""

    def __init__(self, bench: Bench):
        self.bench = bench
        self.frame = bench.config.its_region.base
        self.tail = 0
        self.tables = 0

    @property
    def translater(self) -> int:
        return self.frame + GitsRegister.TRANSLATER

    # Switching on

    def wake(self) -> None:
        """Group 1, every CPU, every LPI at :data:`PRIORITY`, the ITS with its collections."""
        self.wake_cpus()
        self.wake_lpis()
        cpu = self.bench.cpu[0]
        cpu.write64(self.frame + GitsRegister.BASER0, VALID | DEVICES | 2 << 8 | 7)
        cpu.write64(self.frame + GitsRegister.BASER1, VALID | COLLECTIONS)
        pages = QUEUE_BYTES // 0x1000
        cpu.write64(self.frame + GitsRegister.CBASER, VALID | QUEUE | pages - 1)
        cpu.write(self.frame + GitsRegister.CTLR, 1)
        self.run(*(encode_mapc(cpu, cpu) for cpu in range(self.bench.config.cpus)))

    def wake_cpus(self) -> None:
        """Interrupts of group 1 reach every CPU."""
        cpus = self.bench.cpu
        cpus[0].write(DISTRIBUTOR.base + GicdRegister.CTLR, 0b10)
        for cpu, region in zip(cpus, self.bench.config.redistributors, strict=True):
            cpu.write(region.base + GicrRegister.WAKER, 0)
            self.poll(cpu.index, region.base + GicrRegister.WAKER, 0b100, "ChildrenAsleep")
            cpu.write_sysreg("ICC_PMR_EL1", 0xF8)
            cpu.write_sysreg("ICC_IGRPEN1_EL1", 1)

    def wake_lpis(self) -> None:
        """Every LPI enabled at :data:`PRIORITY`, and the redistributors take them."""
        for lpi in range(self.bench.config.lpis):
            self.configure(FIRST_LPI + lpi)
        for cpu in range(self.bench.config.cpus):
            self.switch_lpis(cpu, True)

    def switch_lpis(self, cpu: int, on: bool) -> None:
        """GICR_CTLR.EnableLPIs, and wait for RWP."""
        base = self.bench.config.redistributors[cpu].base
        port = self.bench.cpu[cpu]
        if on:
            port.write64(base + GicrRegister.PROPBASER, PROPERTIES | ID_BITS - 1)
            port.write64(base + GicrRegister.PENDBASER, pending_table(cpu) | ALL_ZERO)
        port.write(base + GicrRegister.CTLR, int(on))
        self.poll(cpu, base + GicrRegister.CTLR, 0b1000, "GICR_CTLR.RWP")

    def poll(self, cpu: int, address: int, mask: int, what: str) -> None:
        """CPU ``cpu`` reads until the bits of ``mask`` are zero."""
        for _ in range(POLL_BOUND):
            if not self.bench.cpu[cpu].read(address) & mask:
                return
        raise AssertionError(f"Read {what} {POLL_BOUND} times; it was never zero")

    # Tables

    def configure(self, intid: int, *, enable: bool = True, priority: int = PRIORITY) -> None:
        """Write the property byte of an LPI; who has read it before does not hear of that."""
        place = PROPERTIES + intid - FIRST_LPI
        self.bench.ram.write(place, bytes([priority & 0xFC | 0b10 | enable]))

    def map_device(self, device: int, bits: int) -> None:
        """MAPD with a translation table of its own."""
        if not 1 <= bits <= MAX_EVENT_BITS:
            raise ValueError(f"bits must be between 1 and {MAX_EVENT_BITS}, not {bits}")
        table = ITTS + ITT_BYTES * self.tables
        self.tables += 1
        self.run(encode_mapd(device, bits, table))

    # Commands

    def queue(self, *commands: tuple[int, ...]) -> None:
        """Hand commands over; CPU 0 writes CWRITER once."""
        for command in commands:
            self.bench.ram.write(QUEUE + self.tail, command_bytes(command))
            self.tail = (self.tail + COMMAND_BYTES) % QUEUE_BYTES
        self.bench.cpu[0].write(self.frame + GitsRegister.CWRITER, self.tail)

    def run(self, *commands: tuple[int, ...]) -> None:
        """Hand commands over and wait until they are consumed; SYNC among them or not."""
        self.queue(*commands)
        self.wait()

    def wait(self) -> None:
        """Until CREADR says that every command has been consumed."""
        at, reads = self.read_pointer, 0
        while at != self.tail:
            before, at = at, self.read_pointer
            reads = reads + 1 if at == before else 0
            if reads == POLL_BOUND:
                raise AssertionError(
                    f"Read GITS_CREADR {POLL_BOUND} times; it stays at {at:#x} "
                    f"and does not get to {self.tail:#x}"
                )

    @property
    def read_pointer(self) -> int:
        """GITS_CREADR as CPU 0 reads it: the offset, and bit 0 when the queue is stalled."""
        return self.bench.cpu[0].read(self.frame + GitsRegister.CREADR)

    def retry(self) -> None:
        """GITS_CWRITER.Retry."""
        self.bench.cpu[0].write(self.frame + GitsRegister.CWRITER, self.tail | 1)
