"""The reference host: the design in a Verilog simulator under cocotb, with waves when asked.

Two sides. Outside the simulator, :func:`simulate` builds the model (once) and starts it with a
job: an async function, by name, and its arguments. Inside, cocotb calls :func:`run_job`, which
hands that function the top of the design, whatever design it is. :func:`run_in_simulator` does
the same for a whole machine, with a :class:`CocotbHost` around the top.

A host's clock ``t`` lasts from ``(t + RESET_CLOCKS) * CLOCK_NS`` for ``CLOCK_NS``. Inputs change
at its start, the rising edge is in its middle; the state of a clock is what is settled before
that edge.
"""

import contextlib
import heapq
import os
import pickle
import sys
import tempfile
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import cocotb_tools.config
import numpy
from cocotb_tools.runner import get_runner

from ..cache import ROOT, digest, made_once
from ..design import Design
from ..ports import Field
from ..toolchain import (
    VERILATOR,
    VERILATOR_QUIET,
    VERILATOR_VERSION,
    SimulationError,
    ToolError,
    environment,
    require,
    run_step,
    verilator_environment,
)
from .base import EXTERNAL, Poke, Response, Wake, asker_prefix, line_masks, watched_fields
from .verilated import RECORD

CLOCK_NS = 10
RESET_CLOCKS = 2

_JOB = "IRQSCOPE_JOB"


@dataclass(frozen=True)
class _Job:
    """What the simulator's process is to do."""

    design: Design
    function: str
    arguments: dict[str, Any]
    result: Path


class Pins:
    """The ports of the top inside a running simulation, by field."""

    def __init__(self, design: Design, top):
        self.design = design
        self._top = top
        self._handles = {port: getattr(top, port) for port in design.ports.widths}
        self._driven = dict.fromkeys(design.ports.inputs, 0)

    def clear(self) -> None:
        """Drive every input with zero."""
        for port in self._driven:
            self._driven[port] = 0
            self._handles[port].value = 0

    def peek(self, name: str) -> int:
        """The value of a field now."""
        field = self.design.ports[name]
        value = int(self._handles[field.port].value)
        return (value >> field.lsb) & ((1 << field.width) - 1)

    def drive(self, values: Mapping[str, int]) -> None:
        """Give input fields their values now; each keeps its value until it gets another."""
        changed = set()
        for name, value in values.items():
            field = self._input(name)
            mask = ((1 << field.width) - 1) << field.lsb
            old = self._driven[field.port]
            self._driven[field.port] = (old & ~mask) | ((value << field.lsb) & mask)
            changed.add(field.port)
        for port in changed:
            self._handles[port].value = self._driven[port]

    def _input(self, name: str) -> Field:
        field = self.design.ports[name]
        if field.port not in self._driven:
            raise KeyError(f"{name!r} is not an input field of this design")
        return field


class CocotbHost(Pins):
    """A machine inside a running simulation; the async twin of the Verilated host."""

    def __init__(self, design: Design, top):
        super().__init__(design, top)
        self.cycle = 0
        self._schedule: list[tuple[int, int, Poke]] = []
        self._sequence = 0
        self._records: list[tuple] = []
        high, change, _ = watched_fields(design)
        self._valids = [self._handles[name] for name in high]
        self._line_handles = [self._handles[name] for name in change]
        self._levels = [0] * len(change)

    async def start(self) -> None:
        """Reset the machine; clock 0 comes next."""
        self._top.clk.value = 0
        self._top.rst.value = 1
        self.clear()
        for _ in range(RESET_CLOCKS):
            await self._clock()
        self._top.rst.value = 0

    async def _clock(self, sample=None):
        from cocotb.triggers import Timer

        await Timer(CLOCK_NS // 2, "ns")
        seen = sample() if sample else None
        self._top.clk.value = 1
        await Timer(CLOCK_NS // 2, "ns")
        self._top.clk.value = 0
        return seen

    def poke(self, cycle: int, name: str, value: int) -> None:
        """Let input field ``name`` have ``value`` from clock ``cycle`` on."""
        self._input(name)
        self._sequence += 1
        heapq.heappush(self._schedule, (cycle, self._sequence, Poke(cycle, name, value)))

    def _apply_due(self) -> None:
        due = {}
        while self._schedule and self._schedule[0][0] <= self.cycle:
            poke = heapq.heappop(self._schedule)[2]
            due[poke.name] = poke.value
        self.drive(due)

    def _sample(self) -> Wake | None:
        active = int(self._handles["tap_active"].value)
        channel = 0
        while active:
            if active & 1:
                self._log(channel)
            active >>= 1
            channel += 1
        levels = [int(handle.value) for handle in self._line_handles]
        valids = [int(handle.value) for handle in self._valids]
        if levels == self._levels and not any(valids):
            return None
        self._levels = levels
        askers = [*range(self.design.config.cpus), EXTERNAL]
        responses = {}
        for asker, valid in zip(askers, valids, strict=True):
            if valid:
                payload = f"{asker_prefix(asker)}_response_payload"
                data, error = self.peek(f"{payload}.data"), self.peek(f"{payload}.error")
                responses[asker] = Response(data, bool(error))
        return Wake(self.cycle + 1, responses, self.lines)

    def _log(self, channel: int) -> None:
        value = int(self._handles[f"tap_{channel}_record"].value)
        fields = [self.cycle, channel, 0]
        for width in (64, 32, 16, 8, 8):
            fields.append(value & ((1 << width) - 1))
            value >>= width
        self._records.append(tuple(fields))

    @property
    def lines(self) -> tuple[int, ...]:
        """The lines of each CPU as last seen, a mask as in :class:`sim.hosts.base.Wake`."""
        return line_masks(tuple(self._levels))

    async def advance(self, pokes: Iterable[Poke], until: int) -> Wake:
        """Clock on until software has something to decide, or to the start of clock ``until``."""
        for poke in pokes:
            self.poke(*poke)
        while self.cycle < until:
            self._apply_due()
            wake = await self._clock(self._sample)
            self.cycle += 1
            if wake:
                return wake
        return Wake(self.cycle, {}, self.lines)

    @property
    def record_count(self) -> int:
        """How many tap records there are so far."""
        return len(self._records)

    def records(self, first: int = 0) -> numpy.ndarray:
        """The tap so far from record ``first`` on, as an array of
        :data:`sim.hosts.verilated.RECORD`."""
        return numpy.array(self._records[first:], RECORD)

    def forget_records(self) -> None:
        """Drop the tap records so far."""
        self._records.clear()

    @property
    def _ram_words(self):
        storage = self._top.ram.storage
        return storage.chip.words if hasattr(storage, "chip") else storage.words

    def read_ram(self, offset: int, count: int) -> bytes:
        """RAM contents, past the bus; ``offset`` from the start of RAM."""
        words = self._ram_words
        first, last = offset // 4, (offset + count + 3) // 4
        content = b"".join(int(words[i].value).to_bytes(4, "little") for i in range(first, last))
        return content[offset % 4 :][:count]

    def write_ram(self, offset: int, content: bytes) -> None:
        """Change RAM contents, past the bus; the start and end must be multiples of four."""
        if offset % 4 or len(content) % 4:
            raise ValueError("under cocotb RAM is written in whole words")
        from cocotb.handle import Immediate

        words = self._ram_words
        for i in range(0, len(content), 4):
            word = int.from_bytes(content[i : i + 4], "little")
            words[(offset + i) // 4].set(Immediate(word))


def _build_verilator(design: Design, folder: Path) -> None:
    """What cocotb's own runner does, but with only the ports and the RAM open to cocotb: with
    every net open, building takes minutes and simulation a third of its speed."""
    env = verilator_environment()
    require("g++", "g++")
    require("make", "make")
    require("perl", "perl")
    opened = [("top", port) for port in (*design.ports.widths, "clk", "rst")]
    opened += [("*", "words")]
    control = ["`verilator_config"]
    control += [f'public_flat_rw -module "{module}" -var "{var}"' for module, var in opened]
    (folder / "open.vlt").write_text("\n".join(control) + "\n")
    libraries = cocotb_tools.config.libs_dir
    main = cocotb_tools.config.share_dir / "lib" / "verilator" / "verilator.cpp"
    run_step(
        ["perl", str(VERILATOR), "--cc", "--exe", "--vpi", "--trace", *VERILATOR_QUIET]
        + ["--x-assign", "fast", "--x-initial", "fast", "--no-assert"]
        + ["--timescale", "1ns/1ps", "--Mdir", ".", "--prefix", "Vtop", "--top-module", "top"]
        + ["-o", "top", "-LDFLAGS", f"-Wl,-rpath,{libraries} -L{libraries} -lcocotbvpi_verilator"]
        + ["open.vlt", str(main), *map(str, design.verilog_files)],
        folder,
        env,
    )
    run_step(["make", "-f", "Vtop.mk", "-j", "2", "OPT_FAST=-O1", "OPT_SLOW=-O0"], folder, env)


def _build_icarus(design: Design, folder: Path) -> None:
    try:
        get_runner("icarus").build(
            sources=design.verilog_files,
            hdl_toplevel="top",
            build_dir=folder,
            build_args=["-g2005"],
            timescale=("1ns", "1ps"),
            log_file=folder / "build.log",
        )
    except (SystemExit, RuntimeError) as error:
        log = (folder / "build.log").read_text().splitlines()
        raise ToolError("\n".join(["building for icarus failed:", *log[-25:]])) from error


_BUILDERS = {"verilator": _build_verilator, "icarus": _build_icarus}
SIMULATORS = tuple(_BUILDERS)


def model_folder(design: Design, simulator: str) -> Path:
    """The folder of the compiled simulation, built when it is missing."""
    if simulator not in SIMULATORS:
        raise ValueError(f"simulator must be one of {', '.join(SIMULATORS)}, not {simulator!r}")
    if simulator == "icarus":
        require("iverilog", "iverilog")
    key = digest(
        design.name,
        repr(design.ports),
        simulator,
        VERILATOR_VERSION,
        version("cocotb"),
        Path(__file__).read_text(),
        sys.prefix,
    )
    return made_once("cocotb", key, lambda folder: _BUILDERS[simulator](design, folder))


def simulate(
    design: Design,
    function: str,
    arguments: dict[str, Any] | None = None,
    *,
    simulator: str = "verilator",
    vcd: Path | None = None,
) -> Any:
    """Run async ``function`` (``module:name``) in a simulation of ``design``; returns its result.

    It is called with ``design``, its top as cocotb sees it (``clk`` and ``rst`` are its to drive)
    and ``arguments``. An exception in it is raised here as :class:`SimulationError`, with its
    traceback as text. ``vcd`` keeps the waveform.
    """
    if vcd is not None and simulator != "verilator":
        raise ValueError("waves are written by the verilator simulator only")
    folder = model_folder(design, simulator)
    with tempfile.TemporaryDirectory(prefix="irqscope-") as scratch:
        result = Path(scratch) / "result.pickle"
        job = Path(scratch) / "job.pickle"
        job.write_bytes(pickle.dumps(_Job(design, function, arguments or {}, result)))
        runner = get_runner(simulator)
        runner.build_dir = folder
        if vcd is not None:
            vcd.parent.mkdir(parents=True, exist_ok=True)
            vcd.write_bytes(b"")  # refuse now what the simulator would pass over in silence
        log = Path(scratch) / "simulation.log"
        path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH")) if p)
        variables = {_JOB: str(job), "PYTHONPATH": path, "COCOTB_LOG_LEVEL": "WARNING"}
        # However the simulator ends, the result or the log says more than its status.
        with environment(variables), contextlib.suppress(SystemExit, RuntimeError):
            runner.test(
                test_module="sim.hosts.cocotb_job",
                hdl_toplevel="top",
                hdl_toplevel_lang="verilog",
                build_dir=folder,
                test_dir=scratch,
                test_args=["--trace-file", str(vcd.resolve())] if vcd else [],
                waves=vcd is not None,
                log_file=log,
            )
        if not result.exists():
            tail = "\n".join(log.read_text().splitlines()[-25:]) if log.exists() else "no log"
            raise SimulationError(f"the simulator stopped without a result:\n{tail}")
        outcome, value = pickle.loads(result.read_bytes())
    if outcome == "raised":
        raise SimulationError(value)
    return value


def run_in_simulator(
    design: Design, function: str, arguments: dict[str, Any] | None = None, **options
) -> Any:
    """As :func:`simulate`, but ``function`` is called with a :class:`CocotbHost` (and
    ``arguments``): ``design`` is a whole machine, and it has been reset."""
    job = {"function": function, "arguments": arguments or {}}
    return simulate(design, "sim.hosts.cocotb:run_on_host", job, **options)


async def run_on_host(design: Design, top, function: str, arguments: dict[str, Any]) -> Any:
    """Inside the simulator: the job of :func:`run_in_simulator`."""
    host = CocotbHost(design, top)
    await host.start()
    return await resolve_name(function)(host, **arguments)


async def run_job(top) -> None:
    """Inside the simulator: do what ``$IRQSCOPE_JOB`` says and leave the result behind."""
    job: _Job = pickle.loads(Path(os.environ[_JOB]).read_bytes())
    try:
        result = await resolve_name(job.function)(job.design, top, **job.arguments)
        outcome = pickle.dumps(("returned", result))
    except Exception:
        outcome = pickle.dumps(("raised", traceback.format_exc()))
    job.result.write_bytes(outcome)
