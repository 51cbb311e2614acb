"""A reference machine with its tables in place, and short names for what tests do to it."""

from types import SimpleNamespace

from sim.reference import ReferenceMachine

GICD, GITS, TRANSLATER = 0x0800_0000, 0x0808_0000, 0x0809_0040
GICR, GICR_STRIDE, SGI_FRAME = 0x080A_0000, 0x2_0000, 0x1_0000
RAM = 0x4000_0000
QUEUE, DEVICES, COLLECTIONS, PROPERTIES = (RAM + 0x1_0000 * n for n in range(4))
PENDING = RAM + 0x4_0000  # 64 KiB a CPU
ITT = RAM + 0x10_0000  # 4 KiB a device

VALID = 1 << 63
PRIORITY = 0xA0
FIRST_LPI = 8192

MOVI, INT, CLEAR, SYNC = 0x01, 0x03, 0x04, 0x05
MAPD, MAPC, MAPTI, MAPI = 0x08, 0x09, 0x0A, 0x0B
INV, INVALL, MOVALL, DISCARD = 0x0C, 0x0D, 0x0E, 0x0F


class Rig(ReferenceMachine):
    """``Rig(cpus=4, its_on_error="stall")``: fields of the configuration by name."""

    def __init__(self, implementation=None, **config):
        super().__init__(SimpleNamespace(**config), implementation)
        self._written = 0

    # Registers --------------------------------------------------------------------------------

    def gicd(self, offset, value=None, size=4):
        return self._access(0, GICD + offset, value, size)

    def gicr(self, cpu, offset, value=None, size=4):
        return self._access(cpu, GICR + cpu * GICR_STRIDE + offset, value, size)

    def sgi_frame(self, cpu, offset, value=None, size=4):
        return self.gicr(cpu, SGI_FRAME + offset, value, size)

    def gits(self, offset, value=None, size=4):
        return self._access(0, GITS + offset, value, size)

    def _access(self, cpu, address, value, size):
        if value is None:
            return self.load(cpu, address, size)
        return self.store(cpu, address, value, size)

    def icc(self, cpu, name, value=None):
        """``icc(0, "PMR")`` reads ICC_PMR_EL1; with a value it is written."""
        return self._sysreg(cpu, f"ICC_{name}_EL1", value)

    def ich(self, name, value=None, cpu=0):
        return self._sysreg(cpu, f"ICH_{name}_EL2", value)

    def icv(self, name, value=None, cpu=0):
        return self._sysreg(cpu, f"ICV_{name}_EL1", value)

    def _sysreg(self, cpu, name, value):
        if value is None:
            return self.read_sysreg(cpu, name)
        return self.write_sysreg(cpu, name, value)

    def iar(self, cpu=0):
        return self.icc(cpu, "IAR1")

    # Set-up as an operating system does it --------------------------------------------------------

    def open(self, pmr=0xF8, eoi_mode=0):
        """Wake every redistributor, enable group 1 everywhere, let priorities below ``pmr`` in."""
        self.gicd(0x0000, 0b10)
        for cpu in range(self.shape.cpus):
            self.gicr(cpu, 0x0014, 0)
            self.icc(cpu, "PMR", pmr)
            self.icc(cpu, "CTLR", eoi_mode << 1)
            self.icc(cpu, "IGRPEN1", 1)
        return self

    def spi(self, intid, cpu=0, priority=PRIORITY, edge=False, enable=True):
        """Group 1, priority, trigger, route and enable of one SPI."""
        bit, word = 1 << intid % 32, intid // 32 * 4
        self.gicd(0x0080 + word, self.gicd(0x0080 + word) | bit)
        self.gicd(0x0400 + intid, priority, size=1)
        trigger = 0x0C00 + intid // 16 * 4
        self.gicd(trigger, self.gicd(trigger) & ~(2 << intid % 16 * 2) | edge << intid % 16 * 2 + 1)
        self.gicd(0x6000 + 8 * intid, cpu, size=8)
        if enable:
            self.gicd(0x0100 + word, bit)

    def private(self, cpu, intid, priority=PRIORITY, edge=False):
        """The same for an SGI or PPI."""
        self.sgi_frame(cpu, 0x0080, self.sgi_frame(cpu, 0x0080) | 1 << intid)
        self.sgi_frame(cpu, 0x0400 + intid, priority, size=1)
        if intid >= 16:
            trigger = self.sgi_frame(cpu, 0x0C04) | edge << (intid - 16) * 2 + 1
            self.sgi_frame(cpu, 0x0C04, trigger)
        self.sgi_frame(cpu, 0x0100, 1 << intid)

    def lpi_tables(self, cpus=None, id_bits=14, ptz=True):
        """PROPBASER, PENDBASER and EnableLPIs of each CPU."""
        for cpu in range(self.shape.cpus) if cpus is None else cpus:
            self.gicr(cpu, 0x0070, PROPERTIES | id_bits - 1, size=8)
            self.gicr(cpu, 0x0078, PENDING + 0x1_0000 * cpu | ptz << 62, size=8)
            self.gicr(cpu, 0x0000, 1)
        return self

    def its_tables(self):
        """Queue and tables of 64 KiB each, ITS enabled."""
        self.gits(0x0100, VALID | DEVICES | 0xF, size=8)
        self.gits(0x0108, VALID | COLLECTIONS | 0xF, size=8)
        self.gits(0x0080, VALID | QUEUE | 0xF, size=8)
        self.gits(0x0088, 0, size=8)
        self.gits(0x0000, 1)
        self._written = 0
        return self

    def property(self, lpi, byte):
        """The property byte of an LPI, counted from the first."""
        self.ram_write(PROPERTIES + lpi, bytes((byte,)))

    # ITS commands ---------------------------------------------------------------------------------

    def place(self, *words, at):
        """Put a command into the queue without telling the ITS."""
        command = b"".join(word.to_bytes(8, "little") for word in words)
        self.ram_write(QUEUE + at, command.ljust(32, b"\0"))

    def command(self, *words):
        """One command; ``words`` left out are zero."""
        self.place(*words, at=self._written)
        self._written = (self._written + 32) % 0x1_0000
        self.gits(0x0088, self._written)

    def mapd(self, device, bits=5, valid=True, itt=None):
        itt = ITT + 0x1000 * device if itt is None else itt
        self.command(MAPD | device << 32, bits - 1, valid << 63 | itt)

    def mapc(self, icid, cpu, valid=True):
        self.command(MAPC, 0, valid << 63 | cpu << 16 | icid)

    def mapti(self, device, event, lpi, icid):
        """``lpi`` counts from the first LPI."""
        self.command(MAPTI | device << 32, event | FIRST_LPI + lpi << 32, icid)

    def event_command(self, opcode, device, event, icid=0):
        """MOVI, INT, CLEAR, INV, DISCARD, MAPI."""
        self.command(opcode | device << 32, event, icid)

    def event(self, device, event, size=4):
        """A device's write to TRANSLATER."""
        self.message(TRANSLATER, event, device, size)

    def pending_lpis(self, cpu):
        """Counted from the first LPI."""
        lpis = self.state()["cpus"][cpu]["redistributor"]["lpis"]
        return [intid - FIRST_LPI for intid in lpis["pending"]]


def ready_rig(implementation=None, **config):
    """LPIs 0-31 enabled at PRIORITY; collection n on CPU n; device 8's events 0-3 are LPIs 0-3
    of collection 0."""
    rig = Rig(implementation, **config).open()
    for lpi in range(32):
        rig.property(lpi, PRIORITY | 1)
    rig.lpi_tables().its_tables()
    for cpu in range(rig.shape.cpus):
        rig.mapc(cpu, cpu)
    rig.mapd(8)
    for event in range(4):
        rig.mapti(8, event, event, 0)
    return rig
