"""What can stand behind a :class:`~sim.bench.Bench`: the gateware, or the reference model.

Both take checked arguments and say :class:`BusError` where an access is refused.
"""

import re
from collections.abc import Callable
from typing import Protocol

from hdl.bus import RequesterKind
from hdl.config import (
    APIC_WINDOW,
    DISTRIBUTOR,
    ECAM,
    INTX_SPI,
    MMIO,
    RAM_BASE,
    SocConfig,
)
from hdl.cpu_port import Operation
from hdl.gic.interfaces import FIRST_SPI
from hdl.pci.endpoint import EndpointConfig
from hdl.pci.intx import WIRES
from hdl.registers import pci
from hdl.registers.gits import TRANSLATION_FRAME
from hdl.registers.sysreg import SystemRegister

from .arguments import check
from .design import Design
from .events import Event, decode
from .hosts.base import EXTERNAL, Response, operation_pokes
from .hosts.verilated import VerilatedHost
from .reference import (
    AddressMap,
    BusFaultError,
    Implementation,
    PciLayout,
    ReferenceMachine,
    UndefinedRegisterError,
)

ANSWER_LIMIT = 100_000
"""Clocks after which an access counts as never answered: far above every bound of the gateware."""
FIRST_PPI = 16

_LOG2 = {1: 0, 2: 1, 4: 2}


class BusError(Exception):
    """An access that nothing answers, or that its target refused."""

    def __init__(self, address: int):
        super().__init__(f"bus error at {address:#x}")
        self.address = address


class RefusedError(ValueError):
    """A system register that does not exist, or cannot be accessed in this direction."""

    def __init__(self, name: str):
        super().__init__(f"this machine has no register {name}, or refuses the access")


class Backend(Protocol):
    """A machine without arguments' checks. ``cpu`` and ``endpoint`` are numbers."""

    @property
    def cycle(self) -> int: ...
    @property
    def events(self) -> list[Event]: ...
    def close(self) -> None: ...
    def step(self, cycles: int) -> None: ...
    def poke(self, name: str, value: int) -> None: ...
    def load(self, cpu: int, address: int, size: int) -> int: ...
    def store(self, cpu: int, address: int, data: int, size: int) -> None: ...
    def read_sysreg(self, cpu: int, name: str) -> int: ...
    def write_sysreg(self, cpu: int, name: str, data: int) -> None: ...
    def line(self, cpu: int, name: str) -> bool: ...
    def message(self, address: int, data: int, device_id: int, size: int) -> None: ...
    def config_read(self, address: int, size: int) -> int: ...
    def config_write(self, address: int, data: int, size: int) -> None: ...
    def set_wire(self, intid: int, level: bool) -> None: ...
    def set_ppi(self, cpu: int, intid: int, level: bool) -> None: ...
    def raise_event(self, endpoint: int, vector: int) -> None: ...
    def unplug(self, endpoint: int, gone: bool) -> None: ...
    def read_ram(self, offset: int, count: int) -> bytes: ...
    def write_ram(self, offset: int, content: bytes) -> None: ...


class GatewareBackend:
    """The machine of :class:`hdl.soc.Soc`, clock by clock."""

    def __init__(self, config: SocConfig):
        self.host = VerilatedHost(Design(config))
        self.read_ram = self.host.read_ram
        self.write_ram = self.host.write_ram
        self.close = self.host.close

    @property
    def cycle(self) -> int:
        return self.host.cycle

    @property
    def events(self) -> list[Event]:
        return decode(self.host.records(), self.host.design.channels)

    def step(self, cycles: int) -> None:
        end = self.host.cycle + cycles
        while self.host.cycle < end:
            self.host.advance((), end)

    def poke(self, name: str, value: int) -> None:
        if not self.host.is_input(name):
            raise ValueError(f"name must be an input field of the Soc, not {name!r}")
        width = self.host.design.ports[name].width
        check("value", int(value) if isinstance(value, bool) else value, 0, (1 << width) - 1)
        self.host.poke(self.host.cycle, name, int(value))

    def load(self, cpu: int, address: int, size: int) -> int:
        return self._access(cpu, Operation.LOAD, address, size)

    def store(self, cpu: int, address: int, data: int, size: int) -> None:
        self._access(cpu, Operation.STORE, address, size, data)

    def read_sysreg(self, cpu: int, name: str) -> int:
        return self._sysreg(cpu, Operation.READ_SYSREG, name, 0)

    def write_sysreg(self, cpu: int, name: str, data: int) -> None:
        self._sysreg(cpu, Operation.WRITE_SYSREG, name, data)

    def line(self, cpu: int, name: str) -> bool:
        return bool(self.host.peek(f"cpu_{cpu}_{name}"))

    def message(self, address: int, data: int, device_id: int, size: int) -> None:
        self._as_requester(RequesterKind.DEVICE, device_id)
        self._access(EXTERNAL, Operation.STORE, address, size, data)

    def config_read(self, address: int, size: int) -> int:
        self._as_requester(RequesterKind.CPU, 0)
        return self._access(EXTERNAL, Operation.LOAD, address, size)

    def config_write(self, address: int, data: int, size: int) -> None:
        self._as_requester(RequesterKind.CPU, 0)
        self._access(EXTERNAL, Operation.STORE, address, size, data)

    def set_wire(self, intid: int, level: bool) -> None:
        self.poke(f"wires.{intid - FIRST_SPI}", level)

    def set_ppi(self, cpu: int, intid: int, level: bool) -> None:
        self.poke(f"ppis_{cpu}.{intid - FIRST_PPI}", level)

    def raise_event(self, endpoint: int, vector: int) -> None:
        self.poke(f"endpoint_{endpoint}_vector", vector)
        self.poke(f"endpoint_{endpoint}_event", 1)
        self.step(1)
        self.poke(f"endpoint_{endpoint}_event", 0)

    def unplug(self, endpoint: int, gone: bool) -> None:
        self.poke(f"endpoint_{endpoint}_unplug", gone)

    def _as_requester(self, kind: RequesterKind, id_: int) -> None:
        self.poke("external_requester.kind", kind.value)
        self.poke("external_requester.id", id_)

    def _sysreg(self, cpu: int, operation: Operation, name: str, data: int) -> int:
        answer = self._operate(cpu, operation, 0, SystemRegister[name], data)
        if answer.error:
            raise RefusedError(name)
        return answer.data

    def _access(self, asker: int, operation: Operation, address: int, size: int, data=0) -> int:
        answer = self._operate(asker, operation, _LOG2[size], address, data)
        if answer.error:
            raise BusError(address)
        return answer.data

    def _operate(
        self, asker: int, operation: Operation, size: int, address: int, data: int
    ) -> Response:
        host = self.host
        pokes = operation_pokes(asker, host.cycle, operation.value, size, address, data)
        limit = host.cycle + ANSWER_LIMIT
        while host.cycle < limit:
            wake = host.advance(pokes, limit)
            if asker in wake.responses:
                return wake.responses[asker]
            pokes = []
        raise RuntimeError(f"no answer to an access to {address:#x} within {ANSWER_LIMIT} clocks")


class ReferenceBackend:
    """:class:`sim.reference.ReferenceMachine`, told what the gateware has chosen.

    It has no time: every access is complete when it returns, :meth:`step` only counts, there are
    no events on a tap, and an input that sets a distance or a latency changes nothing. PMUs,
    device quirks and injected bugs are not modelled.
    """

    def __init__(self, config: SocConfig):
        if config.pmus:
            raise ValueError(
                f"the reference model has no PMUs: SocConfig.pmus must be 0, not {config.pmus}"
            )
        self.machine = reference_machine(config)
        self.cycle = 0
        self.events: list[Event] = []

    def close(self) -> None:
        """There is nothing to free."""

    def step(self, cycles: int) -> None:
        self.cycle += cycles

    def poke(self, name: str, value: int) -> None:
        for pattern, act in _POKES:
            if found := re.fullmatch(pattern, name):
                act(self.machine, value, *map(int, found.groups()))
                return
        raise ValueError(f"the reference model has no input {name!r}")

    def load(self, cpu: int, address: int, size: int) -> int:
        return self._bus(self.machine.load, cpu, address, size)

    def store(self, cpu: int, address: int, data: int, size: int) -> None:
        self._bus(self.machine.store, cpu, address, data, size)

    def read_sysreg(self, cpu: int, name: str) -> int:
        return self._sysreg(self.machine.read_sysreg, cpu, name)

    def write_sysreg(self, cpu: int, name: str, data: int) -> None:
        self._sysreg(self.machine.write_sysreg, cpu, name, data)

    def line(self, cpu: int, name: str) -> bool:
        return getattr(self.machine, name)(cpu)

    def message(self, address: int, data: int, device_id: int, size: int) -> None:
        self._bus(self.machine.message, address, data, device_id, size)

    def config_read(self, address: int, size: int) -> int:
        return self._bus(self.machine.load, 0, address, size)

    def config_write(self, address: int, data: int, size: int) -> None:
        self._bus(self.machine.store, 0, address, data, size)

    def set_wire(self, intid: int, level: bool) -> None:
        self.machine.set_wire(intid, level)

    def set_ppi(self, cpu: int, intid: int, level: bool) -> None:
        self.machine.set_ppi(cpu, intid, level)

    def raise_event(self, endpoint: int, vector: int) -> None:
        self.machine.raise_event(endpoint, vector)

    def unplug(self, endpoint: int, gone: bool) -> None:
        self.machine.unplug(endpoint, gone)

    def read_ram(self, offset: int, count: int) -> bytes:
        return self.machine.ram_read(RAM_BASE + offset, count)

    def write_ram(self, offset: int, content: bytes) -> None:
        self.machine.ram_write(RAM_BASE + offset, content)

    @staticmethod
    def _bus(operation: Callable, *arguments):
        try:
            return operation(*arguments)
        except BusFaultError as fault:
            raise BusError(fault.address) from None

    @staticmethod
    def _sysreg(operation: Callable, cpu: int, name: str, *data: int):
        try:
            return operation(cpu, name, *data)
        except UndefinedRegisterError:
            raise RefusedError(name) from None


_POKES: tuple[tuple[str, Callable], ...] = (
    (r"wires\.(\d+)", lambda machine, level, i: machine.set_wire(FIRST_SPI + i, bool(level))),
    (
        r"ppis_(\d+)\.(\d+)",
        lambda machine, level, cpu, i: machine.set_ppi(cpu, FIRST_PPI + i, bool(level)),
    ),
    (r"endpoint_(\d+)_unplug", lambda machine, gone, k: machine.unplug(k, bool(gone))),
    (r"gic_knobs\.\w+_distance|fabric_\w+", lambda machine, value: None),
)
"""Inputs of the Soc that the model understands, and those that only have to do with time."""


def implementation(config: SocConfig) -> Implementation:
    """What the gateware has chosen where the architecture leaves it open.

    Each choice is documented with the block that makes it.
    """
    return Implementation(
        common_lpi_affinity=1,
        pending_on_disable="write_back",
        lr_mask=0xF0FF_1FFF_0000_FFFF,
        lapic_narrow="error",
        lapic_local_storage=True,
        surplus_vector="fold",
        surplus_entry="first",
        status_beside_messages=False,
    )


def addresses(config: SocConfig) -> AddressMap:
    """Where the gateware has put things."""
    its = config.its_region.base
    return AddressMap(
        gicd=DISTRIBUTOR.base,
        gits=its,
        gits_translation=its + TRANSLATION_FRAME,
        gicr=config.redistributors[0].base,
        gicr_bases=tuple(region.base for region in config.redistributors),
        mmio=MMIO.base,
        mmio_bytes=MMIO.size,
        ecam=ECAM.base,
        ecam_bytes=ECAM.size,
        ram=RAM_BASE,
        lapic=APIC_WINDOW.base,
    )


def layout(endpoint: EndpointConfig) -> PciLayout:
    """How a function of the gateware looks."""

    def place(name: str) -> int | None:
        return endpoint.capability(name) if name in endpoint.capabilities else None

    return PciLayout(
        first_device=pci.requester_id(0) >> 3,
        vendor_id=pci.VENDOR_ID,
        device_id=endpoint.device_id,
        class_revision=pci.CLASS_CODE << 8 | pci.REVISION,
        subsystem=True,
        msi_offset=place("msi") or 0,
        msix_offset=place("msix") or 0,
        express_offset=place("express"),
        pin=endpoint.pin_number or 1,
        bar_bytes=pci.BAR_SIZE,
        bar_64=endpoint.bar_bits == 64,
        table_offset=pci.BAR_MSIX_TABLE,
        pba_offset=pci.BAR_MSIX_PENDING,
        intx_intids=tuple(INTX_SPI + wire for wire in range(WIRES)),
    )


def reference_machine(config: SocConfig, choices: Implementation | None = None) -> ReferenceMachine:
    """The reference model of the machine that ``config`` describes."""
    return ReferenceMachine(
        config,
        implementation(config) if choices is None else choices,
        addresses(config),
        tuple(layout(endpoint) for endpoint in config.endpoints) or PciLayout(),
    )


BACKENDS: dict[str, type] = {"verilated": GatewareBackend, "reference": ReferenceBackend}
