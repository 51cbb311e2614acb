"""A Soc at your fingertips: registers, lines and events, without any software model.

>>> with Bench(SocConfig(cpus=2)) as bench:
...     bench.cpu[0].write32(0x4000_0000, 0x12)
...     bench.cpu[1].read32(0x4000_0000)
18
"""

from hdl.config import RAM_BASE, SocConfig
from hdl.gic.interfaces import FIRST_SPI
from hdl.registers.pci import ecam_address, requester_id
from hdl.registers.sysreg import SystemRegister

from .arguments import check
from .backends import BACKENDS, FIRST_PPI, Backend, BusError
from .events import Event
from .hosts.verilated import VerilatedHost

__all__ = ["HOSTS", "Bench", "BenchCpu", "BenchEndpoint", "BenchRam", "BusError"]

HOSTS = tuple(BACKENDS)
SIZES = (1, 2, 4)


def check_access(address: int, size: int, data: int = 0) -> None:
    """The errors of a load or store that no bus could carry."""
    if isinstance(size, bool) or not isinstance(size, int):
        raise TypeError(f"size must be an integer, not {size!r}")
    if size not in SIZES:
        raise ValueError(f"size must be 1, 2 or 4 bytes, not {size!r}")
    check("address", address, 0, (1 << 64) - 1)
    check("data", data, 0, (1 << (8 * size)) - 1)


class Bench:
    """One machine and the means to poke it.

    Parameters
    ----------
    config : SocConfig
    host : str
        ``"verilated"``: the gateware. ``"reference"``: the model in plain Python of what it should
        do; time does nothing there, and there is no tap (see
        :class:`~sim.backends.ReferenceBackend`).

    Every access takes as long as the hardware needs; time otherwise stands still until
    :meth:`step`.
    """

    def __init__(self, config: SocConfig | None = None, *, host: str = "verilated"):
        config = SocConfig() if config is None else config
        if not isinstance(config, SocConfig):
            raise TypeError(f"config must be a SocConfig, not {config!r}")
        if host not in HOSTS:
            raise ValueError(f"host must be one of {', '.join(HOSTS)}, not {host!r}")
        self.config = config
        self._backend: Backend | None = BACKENDS[host](config)
        self.cpu = tuple(BenchCpu(self, index) for index in range(config.cpus))
        self.ram = BenchRam(self)
        self.endpoint = tuple(BenchEndpoint(self, i) for i in range(len(config.endpoints)))

    def close(self) -> None:
        """Let the machine go; every later use is refused."""
        if self._backend is not None:
            self._backend.close()
            self._backend = None

    def __enter__(self) -> "Bench":
        self._require_open()
        return self

    def __exit__(self, *_) -> None:
        self.close()

    @property
    def backend(self) -> Backend:
        """The machine underneath; refuses a closed bench."""
        return self._require_open()

    @property
    def host(self) -> VerilatedHost:
        """The simulator underneath, of a bench that has one; refuses a closed bench."""
        host = getattr(self.backend, "host", None)
        if host is None:
            raise RuntimeError("the reference model runs on no simulator, so there is no host")
        return host

    def _require_open(self) -> Backend:
        if self._backend is None:
            raise RuntimeError("this Bench is closed; make a new one")
        return self._backend

    @property
    def cycle(self) -> int:
        """Clocks since reset."""
        return self.backend.cycle

    @property
    def events(self) -> list[Event]:
        """The tap so far."""
        return self.backend.events

    def step(self, cycles: int = 1) -> None:
        """Let ``cycles`` clocks pass."""
        check("cycles", cycles, 0, 1 << 40)
        self.backend.step(cycles)

    def message(self, address: int, data: int, device_id: int = 0, size: int = 4) -> None:
        """A memory write of ``size`` bytes by the device with requester id ``device_id``."""
        check("device_id", device_id, 0, 0xFFFF)
        check_access(address, size, data)
        self.backend.message(address, data, device_id, size)

    def set_wire(self, intid: int, level: bool) -> None:
        """Drive the wire of SPI ``intid``; its own devices (INTx, PMUs) are ORed with it."""
        self._require_gic()
        check("intid", intid, FIRST_SPI, FIRST_SPI + self.config.spis - 1)
        self.backend.set_wire(intid, bool(level))

    def set_ppi(self, cpu: int, intid: int, level: bool) -> None:
        """Drive the private wire ``intid``, 16 to 31, of one CPU."""
        self._require_gic()
        check("cpu", cpu, 0, self.config.cpus - 1)
        check("intid", intid, FIRST_PPI, FIRST_SPI - 1)
        self.backend.set_ppi(cpu, intid, bool(level))

    def _require_gic(self) -> None:
        if not self.config.gic:
            raise ValueError("this machine has no GIC and so no wires: SocConfig(gic=True)")

    def poke(self, name: str, value: int) -> None:
        """Set an input of the :class:`hdl.soc.Soc` by its field name, from the next clock on."""
        self.backend.poke(name, value)


class BenchCpu:
    """CPU ``index``'s port. 64-bit accesses are two 32-bit ones, low word first."""

    def __init__(self, bench: Bench, index: int):
        self._bench = bench
        self.index = index

    def read(self, address: int, size: int = 4) -> int:
        """Load ``size`` (1, 2, 4) bytes."""
        check_access(address, size)
        return self._bench.backend.load(self.index, address, size)

    def write(self, address: int, data: int, size: int = 4) -> None:
        """Store ``size`` (1, 2, 4) bytes."""
        check_access(address, size, data)
        self._bench.backend.store(self.index, address, data, size)

    def read32(self, address: int) -> int:
        return self.read(address)

    def write32(self, address: int, data: int) -> None:
        self.write(address, data)

    def read64(self, address: int) -> int:
        low = self.read(address)
        return low | self.read(address + 4) << 32

    def write64(self, address: int, data: int) -> None:
        check("data", data, 0, (1 << 64) - 1)
        self.write(address, data & 0xFFFF_FFFF)
        self.write(address + 4, data >> 32)

    def read_sysreg(self, name: str) -> int:
        """Read a system register by its architectural name."""
        self._check_register(name)
        return self._bench.backend.read_sysreg(self.index, name)

    def write_sysreg(self, name: str, data: int) -> None:
        """Write a system register by its architectural name."""
        check("data", data, 0, (1 << 64) - 1)
        self._check_register(name)
        self._bench.backend.write_sysreg(self.index, name, data)

    @staticmethod
    def _check_register(name: str) -> None:
        if not isinstance(name, str) or name not in SystemRegister.__members__:
            names = ", ".join(register.name for register in SystemRegister)
            raise ValueError(f"name must be a system register ({names}), not {name!r}")

    @property
    def irq(self) -> bool:
        """The IRQ line from the GIC now."""
        return self._line("irq")

    @property
    def virq(self) -> bool:
        """The virtual IRQ line now."""
        return self._line("virq")

    @property
    def intr(self) -> bool:
        """The interrupt line from the local APIC now."""
        return self._line("intr")

    def _line(self, name: str) -> bool:
        return self._bench.backend.line(self.index, name)


class BenchRam:
    """RAM past the bus: no time passes, no tap record. Addresses as on the bus."""

    def __init__(self, bench: Bench):
        self._bench = bench

    def _offset(self, address: int, count: int) -> int:
        size = self._bench.config.ram_bytes
        check("address", address, RAM_BASE, RAM_BASE + size - 1)
        if address + count > RAM_BASE + size:
            raise ValueError(
                f"{count} bytes at {address:#x} reach past the end of RAM at {RAM_BASE + size:#x}"
            )
        return address - RAM_BASE

    def read(self, address: int, count: int) -> bytes:
        """``count`` bytes from ``address`` on."""
        check("count", count, 0, self._bench.config.ram_bytes)
        return self._bench.backend.read_ram(self._offset(address, count), count)

    def write(self, address: int, content: bytes) -> None:
        """Put ``content`` at ``address``."""
        if not isinstance(content, bytes | bytearray | memoryview):
            raise TypeError(f"content must be bytes, not {content!r}")
        content = bytes(content)
        self._bench.backend.write_ram(self._offset(address, len(content)), content)


class BenchEndpoint:
    """PCI endpoint ``index``: device ``index + 1`` on bus 0."""

    def __init__(self, bench: Bench, index: int):
        self._bench = bench
        self.index = index
        self.requester_id = requester_id(index)

    def config_read(self, offset: int, size: int = 4) -> int:
        """Read ``size`` (1, 2, 4) bytes of configuration space through the host bridge."""
        return self._bench.backend.config_read(self._address(offset, size), size)

    def config_write(self, offset: int, value: int, size: int = 4) -> None:
        """Write ``size`` (1, 2, 4) bytes of configuration space through the host bridge."""
        address = self._address(offset, size, value)
        self._bench.backend.config_write(address, value, size)

    def _address(self, offset: int, size: int, value: int = 0) -> int:
        check("offset", offset, 0, 0xFFF)
        address = ecam_address(0, self.index + 1, 0, offset)
        check_access(address, size, value)
        return address

    def raise_event(self, vector: int = 0) -> None:
        """The device has something to say on ``vector``; takes one clock."""
        check("vector", vector, 0, self._bench.config.endpoints[self.index].vectors - 1)
        self._bench.backend.raise_event(self.index, vector)

    def unplug(self, gone: bool = True) -> None:
        """Pull the function out, or put it back in its reset state."""
        self._bench.backend.unplug(self.index, bool(gone))
