"""The fast host: the design as a shared library, its cycle loop in C."""

import ctypes
import re
import struct
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy

from ..cache import digest, made_once
from ..design import Design
from ..toolchain import (
    VERILATOR,
    VERILATOR_QUIET,
    VERILATOR_VERSION,
    require,
    run_step,
    verilator_environment,
)
from .base import (
    EXTERNAL,
    LINES,
    Done,
    Poke,
    Response,
    Step,
    Wake,
    asker_prefix,
    line_masks,
    watched_fields,
)

SHIM = Path(__file__).parent / "shim.cpp"
FLAGS = ["-O3", "--x-assign", "fast", "--x-initial", "fast", "-flatten", "--no-assert"]
CFLAGS = "-fPIC -std=c++17"
OPTIMISE = ["OPT_FAST=-O2", "OPT_SLOW=-O0"]
"""Only what runs every clock is worth the compiler's time."""

RECORD = numpy.dtype(
    [
        ("cycle", "<u8"),
        ("channel", "<u4"),
        ("unused", "<u4"),
        ("address", "<u8"),
        ("data", "<u4"),
        ("id", "<u2"),
        ("unit", "u1"),
        ("kind", "u1"),
    ]
)
"""A tap record as the C side keeps it; see :class:`hdl.tap.TapRecord`."""

_STEP = numpy.dtype(
    [
        ("address", "<u8"),
        ("data", "<u8"),
        ("target", "<u4"),
        ("settle", "<u2"),
        ("kind", "u1"),
        ("size", "u1"),
    ]
)
_DONE = numpy.dtype([("cycle", "<u8"), ("data", "<u8"), ("error", "<u4"), ("levels", "<u4")])

_WATCHED, _DUE, _FULL = 1, 2, 4


class RecordsFullError(RuntimeError):
    """More tap records than the host keeps; shorten the run or forget records now and then."""


class _Closed:
    """Stands where the library was in a host that is closed."""

    def _refuse(self, _):
        raise RuntimeError("this host is closed; make a new one")

    __getattr__ = __contains__ = __getitem__ = _refuse


_pack_poke = struct.Struct("<QQII").pack
"""Clock, value, number of the field, and the order, which the C side fills in."""


def _table(kind: str, name: str, rows: Iterable[str]) -> str:
    return f"static const {kind} {name}[] = {{{', '.join(rows)}}};\n"


def askers(design: Design) -> list[int]:
    """Who can ask for operations: the CPUs, and last the external initiator."""
    return [*range(design.config.cpus), EXTERNAL]


def _asker(numbers: dict[str, int], asker: int) -> str:
    port = asker_prefix(asker)
    request, response = f"{port}_request_payload", f"{port}_response_payload"
    fields = [f"{request}.{name}" for name in ("operation", "size", "address", "data")]
    fields += [f"{port}_request_valid", f"{port}_response_valid"]
    fields += [f"{response}.data", f"{response}.error"]
    return f"{{{', '.join(str(numbers[field]) for field in fields)}}}"


def _tables(design: Design, ram_symbol: str) -> str:
    """The C tables that tell ``shim.cpp`` about one design."""
    ports = design.ports
    port_numbers = {port: i for i, port in enumerate(ports.widths)}
    numbers = {name: i for i, name in enumerate(ports.fields)}
    high, change, view = watched_fields(design)
    channels = range(len(design.channels))
    text = _table(
        "Field",
        "FIELDS",
        (f"{{{port_numbers[f.port]}, {f.lsb}, {f.width}}}" for f in ports.fields.values()),
    )
    text += "struct TapChannel { uint32_t valid, record_port; };\n"
    text += _table(
        "TapChannel",
        "TAP_CHANNELS",
        (f"{{{numbers[f'tap_{c}_valid']}, {port_numbers[f'tap_{c}_record']}}}" for c in channels),
    )
    for name, fields in (("WAKE_HIGH", high), ("WAKE_CHANGE", change), ("VIEW", view)):
        text += _table("uint32_t", name, (str(numbers[field]) for field in fields))
    text += _table("Asker", "ASKERS", (_asker(numbers, asker) for asker in askers(design)))
    text += "static void list_ports(Vtop& top, std::vector<Port>& ports) {\n"
    text += "".join(f"    ports.push_back({{&top.{p}, sizeof top.{p}}});\n" for p in port_numbers)
    text += "}\n"
    words = (ports.widths["tap_active"] + 31) // 32
    active = (
        "top.tap_active"
        if words <= 2
        else " | ".join(f"top.tap_active[{word}]" for word in range(words))
    )
    text += f"static bool any_event(const Vtop& top) {{ return ({active}) != 0; }}\n"
    text += f"constexpr uint64_t RAM_WORDS = {design.config.ram_bytes // 4};\n"
    text += f"#define RAM {ram_symbol}\n"
    return text


def _find_ram(root_header: str) -> str:
    """The member of Verilator's state that holds the RAM: the one array called ``words``."""
    found = re.findall(r"VlUnpacked<IData/\*31:0\*/, \d+> (\w*storage\w*words)\b", root_header)
    if len(found) != 1:
        raise RuntimeError(f"expected one RAM in the Verilated model, found {found}")
    return found[0]


def _build(design: Design, folder: Path) -> None:
    env = verilator_environment()
    require("g++", "g++")
    require("make", "make")
    require("perl", "perl")
    flags = [*FLAGS, *VERILATOR_QUIET]
    sources = [str(file) for file in design.verilog_files]
    run_step(
        ["perl", str(VERILATOR), "--cc", *flags, "--Mdir", "model", "--prefix", "Vtop"]
        + ["--top-module", "top", "--lib-create", "irqscope", "-CFLAGS", CFLAGS]
        + [*sources, str(SHIM)],
        folder,
        env,
    )
    header = (folder / "model" / "Vtop___024root.h").read_text()
    (folder / "model" / "tables.inc").write_text(_tables(design, _find_ram(header)))
    run_step(["make", "-C", "model", "-f", "Vtop.mk", "-j", "2", *OPTIMISE], folder, env)
    (folder / "model" / "libirqscope.so").rename(folder / "libirqscope.so")


def library(design: Design) -> ctypes.CDLL:
    """The compiled model of ``design``, built when it is missing."""
    key = digest(
        design.name,
        repr(design.ports),
        VERILATOR_VERSION,
        SHIM.read_text(),
        Path(__file__).read_text(),
        *FLAGS,
        CFLAGS,
    )
    folder = made_once("verilated", key, lambda path: _build(design, path))
    lib = ctypes.CDLL(str(folder / "libirqscope.so"))
    handle, u32, u64 = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64
    for name, result, arguments in (
        ("new", handle, []),
        ("free", None, [handle]),
        ("run", u32, [handle, ctypes.c_char_p, u32, u64]),
        ("perform", u32, [handle, ctypes.c_void_p, ctypes.c_void_p, u32, u64]),
        ("cycle", u64, [handle]),
        ("get", u64, [handle, u32]),
        ("view", ctypes.POINTER(u64), [handle]),
        ("records", u64, [handle]),
        ("record_data", handle, [handle]),
        ("forget_records", None, [handle]),
        ("snapshot", u32, [handle, u32]),
        ("restore", None, [handle, u32]),
        ("write_ram", None, [handle, u64, ctypes.c_char_p, u64]),
        ("ram", handle, [handle]),
        ("spin", None, [handle, u64]),
    ):
        function = getattr(lib, f"irqscope_{name}")
        function.restype, function.argtypes = result, arguments
    return lib


def _not_an_input(name: str) -> KeyError:
    return KeyError(f"{name!r} is not an input field of this design")


class VerilatedHost:
    """One Verilated machine.

    Time is counted in clocks since reset. Use as a context manager, or :meth:`close` it.
    """

    def __init__(self, design: Design):
        self.design = design
        self._lib: Any = library(design)
        self._sim = self._lib.irqscope_new()
        self._numbers = {name: i for i, name in enumerate(design.ports.fields)}
        self._inputs: Any = {
            name: self._numbers[name]
            for name, field in design.ports.fields.items()
            if field.port in design.ports.inputs
        }
        self._view = self._lib.irqscope_view(self._sim)
        self._askers = askers(design)
        self._lines = (0,) * design.config.cpus
        self._queue: list[bytes] = []
        self._lines_at: dict[int, tuple[int, ...]] = {}
        """The lines as last seen, of every snapshot."""

    def close(self) -> None:
        """Free the machine; nothing may be asked of it afterwards."""
        if self._sim:
            self._lib.irqscope_free(self._sim)
            self._sim = None
            self._lib = self._inputs = _Closed()

    def __enter__(self) -> "VerilatedHost":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    @property
    def lines(self) -> tuple[int, ...]:
        """The lines of each CPU as last seen, a mask as in :class:`sim.hosts.base.Wake`."""
        return self._lines

    @property
    def cycle(self) -> int:
        """The clock whose inputs are chosen next."""
        return self._lib.irqscope_cycle(self._sim)

    def is_input(self, name: str) -> bool:
        """Whether ``name`` is a field that can be poked."""
        return name in self._inputs

    def poke(self, cycle: int, name: str, value: int) -> None:
        """Let input field ``name`` have ``value`` from clock ``cycle`` on."""
        if name not in self._inputs:
            raise _not_an_input(name)
        self._queue.append(_pack_poke(cycle, value, self._inputs[name], 0))

    def _run(self, until: int) -> int:
        pokes, self._queue = self._queue, []
        return self._lib.irqscope_run(self._sim, b"".join(pokes), len(pokes), until)

    def peek(self, name: str) -> int:
        """The value of a field now.

        An input has the value it had in the clock before, an output the one that it has in the
        clock to come unless a poke of that clock changes it at once.
        """
        return self._lib.irqscope_get(self._sim, self._numbers[self.design.ports[name].name])

    def advance(self, pokes: Iterable[Poke], until: int) -> Wake:
        """Clock on until software has something to decide, or to the start of clock ``until``."""
        numbers = self._inputs
        try:
            self._queue += [_pack_poke(at, value, numbers[name], 0) for at, name, value in pokes]
        except KeyError as error:
            raise _not_an_input(error.args[0]) from None
        reason = self._run(until)
        if reason & _FULL:
            raise RecordsFullError(f"more tap records than fit by clock {self.cycle}")
        cycle = self._lib.irqscope_cycle(self._sim)
        if reason & _WATCHED:
            return self._wake(cycle)
        return Wake(cycle, {}, self._lines)

    def field_number(self, name: str) -> int:
        """The number of input field ``name``, as a :class:`~sim.hosts.base.Step` has it."""
        if name not in self._inputs:
            raise KeyError(f"{name!r} is not an input field of this design")
        return self._numbers[name]

    def perform(self, steps: Sequence[Step], patience: int) -> list[Done]:
        """Carry out ``steps`` one after the other, all in one go.

        The result is shorter than ``steps`` if one was not answered within ``patience`` clocks.
        """
        rows = numpy.array(steps, _STEP)
        done = numpy.zeros(len(rows), _DONE)
        count = self._lib.irqscope_perform(
            self._sim, rows.ctypes.data, done.ctypes.data, len(rows), patience
        )
        return [Done(*row) for row in done[:count].tolist()]

    def _wake(self, cycle: int) -> Wake:
        view = self._view
        askers = len(self._askers)
        width = len(LINES)
        cpus = askers - 1
        self._lines = line_masks(tuple(view[askers : askers + width * cpus]))
        payloads = askers + width * cpus
        responses = {
            asker: Response(view[payloads + 2 * i], bool(view[payloads + 2 * i + 1]))
            for i, asker in enumerate(self._askers)
            if view[i]
        }
        return Wake(cycle, responses, self._lines)

    @property
    def record_count(self) -> int:
        """How many tap records there are so far."""
        return self._lib.irqscope_records(self._sim)

    def records(self, first: int = 0) -> numpy.ndarray:
        """The tap so far from record ``first`` on, a copy, as an array of :data:`RECORD`."""
        count = self.record_count - first
        if count <= 0:
            return numpy.empty(0, RECORD)
        address = self._lib.irqscope_record_data(self._sim) + first * RECORD.itemsize
        raw = ctypes.string_at(address, count * RECORD.itemsize)
        return numpy.frombuffer(raw, RECORD)

    def forget_records(self) -> None:
        """Drop the tap records so far."""
        self._lib.irqscope_forget_records(self._sim)

    def snapshot(self, slot: int | None = None) -> int:
        """Keep the whole state (with pending pokes and records); returns the slot's number.

        ``slot`` names an earlier snapshot to overwrite.
        """
        if slot is not None:
            self._check_slot(slot)
        self._run(0)  # no clock: only the pokes
        slot = self._lib.irqscope_snapshot(self._sim, 0xFFFF_FFFF if slot is None else slot)
        self._lines_at[slot] = self._lines
        return slot

    def restore(self, slot: int) -> None:
        """Go back to a snapshot. Pokes given since then are forgotten."""
        self._check_slot(slot)
        self._lib.irqscope_restore(self._sim, slot)
        self._queue = []
        self._lines = self._lines_at[slot]

    def _check_slot(self, slot: int) -> None:
        if slot not in self._lines_at:
            count = len(self._lines_at)
            there = f"there are {count}, from 0" if count else "there are none"
            raise ValueError(f"no snapshot {slot!r}; {there}")

    def read_ram(self, offset: int, count: int) -> bytes:
        """RAM contents, past the bus; ``offset`` from the start of RAM."""
        self._check_range(offset, count)
        return ctypes.string_at(self._lib.irqscope_ram(self._sim) + offset, count)

    def write_ram(self, offset: int, content: bytes) -> None:
        """Change RAM contents, past the bus."""
        self._check_range(offset, len(content))
        if content:
            self._lib.irqscope_write_ram(self._sim, offset, content, len(content))

    def _check_range(self, offset: int, count: int) -> None:
        if not (count >= 0 and 0 <= offset <= self.ram_bytes - count):
            raise ValueError(
                f"{count} bytes at {offset:#x} are not within the RAM's {self.ram_bytes:#x}"
            )

    @cached_property
    def ram_bytes(self) -> int:
        return self.design.config.ram_bytes

    def spin(self, cycles: int) -> None:
        """Clocks alone, with nothing watched or logged (for measuring)."""
        self._lib.irqscope_spin(self._sim, cycles)
