"""A Soc at your fingertips: registers, lines and events, without any software model.

>>> with Bench(SocConfig(cpus=2)) as bench:
...     bench.cpu[0].write32(0x4000_0000, 0x12)
...     bench.cpu[1].read32(0x4000_0000)
18
"""

from hdl.bus import RequesterKind
from hdl.config import RAM_BASE, SocConfig
from hdl.cpu_port import Operation
from hdl.gic.interfaces import FIRST_SPI
from hdl.registers.pci import ecam_address, requester_id
from hdl.registers.sysreg import SystemRegister

from .design import Design
from .events import Event, decode
from .hosts.base import EXTERNAL, Response, operation_pokes
from .hosts.verilated import VerilatedHost

HOSTS = ("verilated",)
ANSWER_LIMIT = 100_000
"""Clocks after which an access counts as never answered: far above every bound of the gateware."""

_LOG2 = {1: 0, 2: 1, 4: 2}


class BusError(Exception):
    """An access that nothing answers, or that its target refused."""

    def __init__(self, address: int):
        super().__init__(f"bus error at {address:#x}")
        self.address = address


def check(name: str, value, low: int, high: int) -> int:
    """``value`` as it is, or the error that names the argument and its range."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{name} must be between {low:#x} and {high:#x}, not {value:#x}")
    return value


class Bench:
    """One machine and the means to poke it.

    Parameters
    ----------
    config : SocConfig
    host : str
        ``"verilated"``: the gateware.

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
        self._host: VerilatedHost | None = VerilatedHost(Design(config))
        self.cpu = tuple(BenchCpu(self, index) for index in range(config.cpus))
        self.ram = BenchRam(self)
        self.endpoint = tuple(BenchEndpoint(self, i) for i in range(len(config.endpoints)))

    def close(self) -> None:
        """Let the machine go; every later use is refused."""
        if self._host is not None:
            self._host.close()
            self._host = None

    def __enter__(self) -> "Bench":
        self._require_open()
        return self

    def __exit__(self, *_) -> None:
        self.close()

    @property
    def host(self) -> VerilatedHost:
        """The host underneath; refuses a closed bench."""
        return self._require_open()

    def _require_open(self) -> VerilatedHost:
        if self._host is None:
            raise RuntimeError("this Bench is closed; make a new one")
        return self._host

    @property
    def cycle(self) -> int:
        """Clocks since reset."""
        return self.host.cycle

    @property
    def events(self) -> list[Event]:
        """The tap so far."""
        return decode(self.host.records(), self.host.design.channels)

    def step(self, cycles: int = 1) -> None:
        """Let ``cycles`` clocks pass."""
        check("cycles", cycles, 0, 1 << 40)
        end = self.host.cycle + cycles
        while self.host.cycle < end:
            self.host.advance((), end)

    def message(self, address: int, data: int, device_id: int = 0, size: int = 4) -> None:
        """A memory write of ``size`` bytes by the device with requester id ``device_id``."""
        check("device_id", device_id, 0, 0xFFFF)
        self._as_requester(RequesterKind.DEVICE, device_id)
        self._access(EXTERNAL, Operation.STORE, address, size, data)

    def set_wire(self, intid: int, level: bool) -> None:
        """Drive the wire of SPI ``intid``; its own devices (INTx, PMUs) are ORed with it."""
        if not self.config.gic:
            raise ValueError("this machine has no GIC and so no wires: SocConfig(gic=True)")
        check("intid", intid, FIRST_SPI, FIRST_SPI + self.config.spis - 1)
        self.poke(f"wires.{intid - FIRST_SPI}", bool(level))

    def poke(self, name: str, value: int) -> None:
        """Set an input of the :class:`hdl.soc.Soc` by its field name, from the next clock on."""
        self.host.poke(self.host.cycle, name, int(value))

    def _as_requester(self, kind: RequesterKind, id_: int) -> None:
        self.poke("external_requester.kind", kind.value)
        self.poke("external_requester.id", id_)

    def _access(self, asker: int, operation: Operation, address: int, size: int, data=0) -> int:
        if size not in _LOG2:
            raise ValueError(f"size must be 1, 2 or 4 bytes, not {size!r}")
        check("address", address, 0, (1 << 64) - 1)
        check("data", data, 0, (1 << (8 * size)) - 1)
        answer = self._operate(asker, operation, _LOG2[size], address, data)
        if answer.error:
            raise BusError(address)
        return answer.data

    def _operate(self, asker: int, operation: Operation, size: int, address: int, data: int):
        host = self.host
        pokes = operation_pokes(asker, host.cycle, operation.value, size, address, data)
        limit = host.cycle + ANSWER_LIMIT
        while host.cycle < limit:
            wake = host.advance(pokes, limit)
            if asker in wake.responses:
                return wake.responses[asker]
            pokes = []
        raise RuntimeError(f"no answer to an access to {address:#x} within {ANSWER_LIMIT} clocks")


class BenchCpu:
    """CPU ``index``'s port. 64-bit accesses are two 32-bit ones, low word first."""

    def __init__(self, bench: Bench, index: int):
        self._bench = bench
        self.index = index

    def read(self, address: int, size: int = 4) -> int:
        """Load ``size`` (1, 2, 4) bytes."""
        return self._bench._access(self.index, Operation.LOAD, address, size)

    def write(self, address: int, data: int, size: int = 4) -> None:
        """Store ``size`` (1, 2, 4) bytes."""
        self._bench._access(self.index, Operation.STORE, address, size, data)

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
        return self._sysreg(Operation.READ_SYSREG, name, 0).data

    def write_sysreg(self, name: str, data: int) -> None:
        """Write a system register by its architectural name."""
        check("data", data, 0, (1 << 64) - 1)
        self._sysreg(Operation.WRITE_SYSREG, name, data)

    def _sysreg(self, operation: Operation, name: str, data: int) -> Response:
        try:
            number = SystemRegister[name]
        except KeyError:
            names = ", ".join(register.name for register in SystemRegister)
            raise ValueError(f"name must be a system register ({names}), not {name!r}") from None
        answer = self._bench._operate(self.index, operation, 0, number, data)
        if answer.error:
            raise ValueError(f"this machine has no register {name}, or refuses the access")
        return answer

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
        return bool(self._bench.host.peek(f"cpu_{self.index}_{name}"))


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
        return self._bench.host.read_ram(self._offset(address, count), count)

    def write(self, address: int, content: bytes) -> None:
        """Put ``content`` at ``address``."""
        self._bench.host.write_ram(self._offset(address, len(content)), bytes(content))


class BenchEndpoint:
    """PCI endpoint ``index``: device ``index + 1`` on bus 0."""

    def __init__(self, bench: Bench, index: int):
        self._bench = bench
        self.index = index
        self.requester_id = requester_id(index)

    def config_read(self, offset: int, size: int = 4) -> int:
        """Read ``size`` (1, 2, 4) bytes of configuration space through the host bridge."""
        return self._config(Operation.LOAD, offset, size)

    def config_write(self, offset: int, value: int, size: int = 4) -> None:
        """Write ``size`` (1, 2, 4) bytes of configuration space through the host bridge."""
        self._config(Operation.STORE, offset, size, value)

    def _config(self, operation: Operation, offset: int, size: int, value: int = 0) -> int:
        check("offset", offset, 0, 0xFFF)
        self._bench._as_requester(RequesterKind.CPU, 0)
        address = ecam_address(0, self.index + 1, 0, offset)
        return self._bench._access(EXTERNAL, operation, address, size, value)

    def raise_event(self, vector: int = 0) -> None:
        """The device has something to say on ``vector``; takes one clock."""
        check("vector", vector, 0, self._bench.config.endpoints[self.index].vectors - 1)
        self._bench.poke(f"endpoint_{self.index}_vector", vector)
        self._bench.poke(f"endpoint_{self.index}_event", 1)
        self._bench.step()
        self._bench.poke(f"endpoint_{self.index}_event", 0)

    def unplug(self, gone: bool = True) -> None:
        """Pull the function out, or put it back in its reset state."""
        self._bench.poke(f"endpoint_{self.index}_unplug", gone)
