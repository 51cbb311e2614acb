"""Every property holds; and what people see of one that does not."""

import json
import random
from pathlib import Path

import pytest
from amaranth.hdl import Fragment, Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator
from click.testing import CliRunner

from hdl.bus import FairArbiter
from sim.cli import cli
from sim.formal import properties
from sim.formal.harness import Harness
from sim.formal.proof import Proof
from sim.formal.solver import solve
from sim.formal.state import Registers

from .mutants import MUTANTS


def _marked(proof):
    return pytest.param(proof, id=proof.name, marks=[pytest.mark.slow] if proof.slow else [])


@pytest.mark.parametrize("proof", [_marked(proof) for proof in properties.ALL])
def test_a_property_holds(proof):
    assert solve(proof).status == ("found" if proof.expected else "proved")


def test_each_property_has_a_name_of_its_own_and_a_sentence():
    names = [proof.name for proof in properties.ALL]
    assert len(set(names)) == len(names)
    for proof in properties.ALL:
        assert proof.meaning.endswith(".")
        assert proof.meaning[0].isupper()


def test_the_document_names_each():
    text = (Path(__file__).parents[2] / "docs" / "proofs.md").read_text()
    assert not [proof.name for proof in properties.ALL if f"{proof.title}`" not in text]


def _prove(*arguments):
    return CliRunner().invoke(cli, ["prove", *arguments])


def test_a_broken_block_is_shown_clock_by_clock_and_as_a_waveform(tmp_path):
    name, answer = "bus.answer-to-the-asker", tmp_path / "answer.json"
    mutant = next(mutant for mutant in MUTANTS if mutant.kills == name)
    with mutant.applied():
        result = _prove(name, "--out", str(tmp_path), "--json", str(answer))
    assert result.exit_code == 1
    assert "clock 0: " in result.output
    assert "initiators_1_request_payload.address=" in result.output
    assert "breaks the claim: " in result.output
    assert (tmp_path / f"{name}.vcd").read_text().startswith("$version")
    saved = (tmp_path / f"{name}.gtkw").read_text()
    assert "the claim is broken" in saved
    assert "initiators_0_response_valid" in saved
    (told,) = json.loads(answer.read_text())["properties"]
    assert (told["status"], told["block"]) == ("failed", "bus")


def test_a_sound_block_is_answered_with_success_and_json_alone():
    result = _prove("bus.overtaken-at-most-once", "--json", "-")
    assert result.exit_code == 0
    (told,) = json.loads(result.output)["properties"]
    assert set(told) == {"name", "block", "meaning", "status", "method", "seconds"}
    assert (told["status"], told["method"]) == ("proved", "k-induction 3")


def test_the_torn_message_is_found_and_told(tmp_path):
    result = _prove("endpoint.naive-update-tears", "--out", str(tmp_path))
    assert result.exit_code == 0
    assert "breaks the claim: not-torn" in result.output
    assert (tmp_path / "endpoint.naive-update-tears.gtkw").exists()


def test_list_says_what_each_means():
    result = _prove("--list", "--json", "-")
    told = json.loads(result.output)["properties"]
    assert [entry["name"] for entry in told] == [proof.name for proof in properties.ALL]
    assert all(entry["meaning"] for entry in told)
    quick = json.loads(_prove("--list", "--quick", "--json", "-").output)["properties"]
    assert len(quick) < len(told)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("bsu", "; near: bus;"),
        ("two-step-update", "; near: endpoint.two-step-update-never-tears;"),
        ("?", ";"),
    ],
)
def test_an_unknown_name_is_answered_in_a_line_with_its_neighbours(name, near):
    with pytest.raises(ValueError, match="no property or block") as caught:
        properties.find(["bus", name])
    known = "`irqscope prove --list` shows all"
    assert str(caught.value) == f"no property or block {name!r}{near} {known}"


def _arbiter() -> Harness:
    return Harness(FairArbiter(2))


def test_a_lemma_that_does_not_hold_is_no_proof_and_no_counterexample():
    def harness():
        h = _arbiter()
        h.claim("true", h.dut.grant != 3)
        h.lemma("false", h.dut.grant == 0)
        return h

    answer = solve(Proof("test", "lemma", "", harness, steps=2))
    assert answer.status == "unknown"
    assert not answer.has_trace


def test_contradicting_assumptions_prove_nothing():
    def harness():
        h = _arbiter()
        h.assume(h.dut.requests == 1)
        h.assume(h.dut.requests == 2)
        h.claim("false", h.dut.grant == 3)
        return h

    with pytest.raises(ValueError, match="the assumptions contradict each other"):
        solve(Proof("test", "vacuous", "", harness, steps=2))


def test_names_of_claims_and_signals_are_checked():
    h = _arbiter()
    h.claim("one", h.dut.grant != 3)
    with pytest.raises(ValueError, match="two claims are called 'one'"):
        h.lemma("one", h.dut.grant != 3)
    with pytest.raises(KeyError, match="no signal 'before_0_2'; near: before_0_1"):
        h.state["before_0_2"]


class _Memory(wiring.Component):
    """A memory with a read port of each kind, elaborated for ``memory_platform``."""

    def __init__(self, memory_platform):
        self._platform = memory_platform
        port = {"address": 2, "data": 8}
        super().__init__(
            {
                "write": In(2),
                "write_address": In(port["address"]),
                "write_data": In(port["data"]),
                "read": In(1),
                "read_address": In(port["address"]),
                "plain": Out(port["data"]),
                "transparent": Out(port["data"]),
                "at_once": Out(port["data"]),
            }
        )

    def elaborate(self, platform):
        m = Module()
        memory = Memory(shape=8, depth=4, init=[3, 1, 4, 1])
        writer = memory.write_port(granularity=4)
        plain = memory.read_port()
        transparent = memory.read_port(transparent_for=(writer,))
        at_once = memory.read_port(domain="comb")
        m.submodules.memory = Fragment.get(memory, self._platform)
        m.d.comb += [
            writer.en.eq(self.write),
            writer.addr.eq(self.write_address),
            writer.data.eq(self.write_data),
            *(port.en.eq(self.read) for port in (plain, transparent)),
            *(port.addr.eq(self.read_address) for port in (plain, transparent, at_once)),
            self.plain.eq(plain.data),
            self.transparent.eq(transparent.data),
            self.at_once.eq(at_once.data),
        ]
        return m


def test_a_memory_of_registers_behaves_as_a_memory():
    def outputs(platform):
        dut, draw, seen = _Memory(platform), random.Random(1), []

        async def bench(ctx):
            for _ in range(300):
                for signal in (dut.write, dut.write_address, dut.write_data):
                    ctx.set(signal, draw.getrandbits(len(signal)))
                for signal in (dut.read, dut.read_address):
                    ctx.set(signal, draw.getrandbits(len(signal)))
                seen.append([ctx.get(x) for x in (dut.plain, dut.transparent, dut.at_once)])
                await ctx.tick()

        simulator = Simulator(dut)
        simulator.add_clock(1e-6)
        simulator.add_testbench(bench)
        simulator.run()
        return seen

    assert outputs(Registers()) == outputs(None)
