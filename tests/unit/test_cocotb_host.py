"""The reference host: the same as the fast one clock by clock, and how its failures surface."""

import os
import shutil
import sys

import pytest

from sim.design import Design
from sim.hosts.base import Poke
from sim.hosts.cocotb import SIMULATORS, SimulationError, model_folder, run_in_simulator
from sim.hosts.verilated import VerilatedHost
from sim.toolchain import ToolError

from ..random_traffic import RandomTraffic, quiesce, run
from ..small_machine import SCENE_FLOOD

SEEDS = list(range(4))
CLOCKS = 250
HERE = __name__


@pytest.fixture(params=SIMULATORS)
def simulator(request):
    if request.param == "icarus" and not shutil.which("iverilog"):
        pytest.skip("Icarus Verilog is not installed; it is optional")
    return request.param


# Jobs, carried out inside the simulator


async def fail(host):
    raise LookupError("a job that fails on purpose")


async def leave(host):
    os._exit(3)


async def leave_politely(host):
    sys.exit(4)


async def return_what_cannot_travel(host):
    return lambda: None


async def tour(host, word):
    """A little of everything, in one run: starting a simulator takes seconds."""
    return {
        "word": word,
        "mistakes": [await mistake(host, job) for job in MISTAKES],
        "inputs": await peek_at_inputs(host),
        "outputs": await peek_at_outputs(host),
        "ram": await use_ram(host),
        "records": await flood(host),
        "left": len(host.records()),
    }


async def mistake(host, job):
    try:
        await job(host)
    except Exception as error:
        return f"{type(error).__name__}: {error.args[0]}"
    return "no error"


async def poke_an_output(host):
    await host.advance([Poke(0, "cpu_0_irq", 1)], 5)


async def poke_nothing(host):
    host.poke(0, "nothing", 1)


async def peek_at_nothing(host):
    host.peek("nothing")


async def write_half_a_word(host):
    host.write_ram(2, b"12")


MISTAKES = {
    poke_an_output: "KeyError: 'cpu_0_irq' is not an input field of this design",
    poke_nothing: "KeyError: 'nothing' is not a field of this design (no such port)",
    peek_at_nothing: "KeyError: 'nothing' is not a field of this design (no such port)",
    write_half_a_word: "ValueError: under cocotb RAM is written in whole words",
}


async def peek_at_inputs(host):
    host.poke(0, "cpu_0_port_request_payload.address", 0x0123_4567_89AB_CDEF)
    host.poke(0, "cpu_0_port_request_payload.size", 0b10111)
    host.poke(0, "external_requester.id", 1)
    host.poke(0, "external_requester.id", 0xFFFF)
    await host.advance((), host.cycle + 1)
    names = ("address", "size", "operation", "data")
    seen = [host.peek(f"cpu_0_port_request_payload.{name}") for name in names]
    return [*seen, host.peek("external_requester.id")]


async def peek_at_outputs(host):
    seen = []
    start = host.cycle
    await host.advance([Poke(start + 5, "probe_scene", 0x0101)], start + 5)
    seen.append((host.peek("cpu_0_irq"), host.peek("cpu_0_virq"), host.lines))
    await host.advance((), start + 6)
    seen.append((host.peek("cpu_0_irq"), host.peek("cpu_0_virq"), host.lines))
    return seen


async def use_ram(host):
    host.write_ram(0x1000, bytes(range(8)))
    await host.advance((), host.cycle + 1)
    return host.read_ram(0x1000, 8), host.read_ram(0x1003, 4), host.read_ram(0x1008, 4)


def flood_pokes(start):
    return [Poke(start, "probe_scene", SCENE_FLOOD), Poke(start + 33, "probe_scene", 0)]


async def flood(host):
    start = host.cycle
    await host.advance(flood_pokes(start + 2), start + 3)
    while host.cycle < start + 50:
        await host.advance((), start + 50)
    records = host.records()
    host.forget_records()
    return start, records


# What comes back


def test_random_traffic_wakes_and_logs_as_on_the_fast_host(small, simulator):
    """Every wake-up, every answer and every tap record, at the same clock."""
    job = {"seeds": SEEDS, "clocks": CLOCKS}
    wakes, records, ram = run_in_simulator(
        small, "tests.random_traffic:run_job", job, simulator=simulator
    )
    with VerilatedHost(small) as host:
        for seed, simulated in zip(SEEDS, wakes, strict=True):
            assert run(host, RandomTraffic(seed), CLOCKS) == simulated, f"seed {seed}"
            quiesce(host)
        assert host.records().tolist() == records.tolist()
        assert host.read_ram(0, 64) == ram
    answers = [response for seen in wakes for wake in seen for response in wake.responses.values()]
    assert {response.error for response in answers} == {False, True}
    assert len(records) > 20
    assert len({wake.lines for seen in wakes for wake in seen}) > 5


@pytest.fixture(scope="module")
def toured(small, tmp_path_factory):
    """Results of the tour by simulator, one run of each, and the waveform of Verilator's."""
    results = {}

    def result(simulator):
        if simulator not in results:
            vcd = tmp_path_factory.mktemp("waves") / "new folder" / "waves.vcd"
            results[simulator] = run_in_simulator(
                small,
                f"{HERE}:tour",
                {"word": "there and back"},
                simulator=simulator,
                vcd=vcd if simulator == "verilator" else None,
            )
            results[simulator]["vcd"] = vcd
        return results[simulator]

    return result


def test_arguments_and_result_travel(toured, simulator):
    before = dict(os.environ)
    assert toured(simulator)["word"] == "there and back"
    assert dict(os.environ) == before, "variables of a run do not stay"


def test_mistakes_name_the_field(toured, simulator):
    assert toured(simulator)["mistakes"] == list(MISTAKES.values())


def test_peeking(toured, simulator):
    assert toured(simulator)["inputs"] == [0x0123_4567_89AB_CDEF, 0b11, 0, 0, 0xFFFF]
    assert toured(simulator)["outputs"] == [(0, 0, (0, 0)), (1, 1, (1, 0))]


def test_ram_past_the_bus(toured, simulator):
    assert toured(simulator)["ram"] == (bytes(range(8)), bytes(range(3, 7)), bytes(4))


def test_every_bit_of_a_record(toured, small, simulator):
    start, records = toured(simulator)["records"]
    with VerilatedHost(small) as host:
        host.advance(flood_pokes(start + 2), start + 50)
        assert host.records().tolist() == records.tolist()
    assert len(records) == 33
    assert toured(simulator)["left"] == 0


def test_a_waveform_is_kept(toured):
    text = toured("verilator")["vcd"].read_text()
    assert "$timescale" in text
    assert "probe_scene" in text
    assert "$enddefinitions" in text


# What goes wrong


def test_an_exception_surfaces_with_its_traceback(small, simulator):
    with pytest.raises(SimulationError) as error:
        run_in_simulator(small, f"{HERE}:fail", simulator=simulator)
    text = str(error.value)
    assert text.startswith("Traceback")
    assert 'raise LookupError("a job that fails on purpose")' in text
    assert text.rstrip().endswith("LookupError: a job that fails on purpose")


@pytest.mark.parametrize(
    ("job", "arguments", "reason"),
    [
        ("no_such_job", {}, r"AttributeError: .* has no attribute 'no_such_job'"),
        ("fail", {"c": 3}, r"TypeError: fail\(\) got an unexpected keyword argument 'c'"),
        ("return_what_cannot_travel", {}, r"(?i)can't pickle"),
    ],
)
def test_other_mistakes_surface_too(small, job, arguments, reason):
    with pytest.raises(SimulationError, match=reason):
        run_in_simulator(small, f"{HERE}:{job}", arguments)


@pytest.mark.parametrize("job", ["leave", "leave_politely"])
def test_a_simulator_that_stops_is_reported(small, job):
    with pytest.raises(SimulationError, match=r"^the simulator stopped without a result:\n"):
        run_in_simulator(small, f"{HERE}:{job}")


def test_a_simulator_nobody_knows(small):
    message = r"^simulator must be one of verilator, icarus, not 'modelsim'$"
    with pytest.raises(ValueError, match=message):
        run_in_simulator(small, f"{HERE}:fail", simulator="modelsim")


def test_waves_come_from_verilator(small, tmp_path):
    message = r"^waves are written by the verilator simulator only$"
    with pytest.raises(ValueError, match=message):
        run_in_simulator(small, f"{HERE}:flood", simulator="icarus", vcd=tmp_path / "x.vcd")


def test_a_missing_icarus_is_named(small, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    message = r"^iverilog is not installed; on Debian: apt install iverilog$"
    with pytest.raises(ToolError, match=message):
        model_folder(small, "icarus")


def test_a_build_that_fails_shows_why(empty_cache, monkeypatch, simulator):
    """A design whose Verilog no simulator takes."""
    broken = Design(factory="tests.small_machine:SmallMachine")

    def write(folder):
        (folder / "top.v").write_text("module top(input clk, rst); nonsense endmodule\n")
        (folder / "external_ram.v").write_text("")
        (folder / "ports.json").write_text(
            '{"inputs": {}, "outputs": {}, "fields": {}, "channels": []}'
        )

    monkeypatch.setattr(Design, "_write", staticmethod(write))
    with pytest.raises(ToolError, match=r"(?s)failed.*top\.v"):
        model_folder(broken, simulator)
    assert not [path for path in (empty_cache / "cocotb").iterdir() if path.is_dir()]
