"""Software recorded, and compiled for the sequencer."""

from dataclasses import replace

import pytest

from firmware_model.machine.machine import Machine
from firmware_model.machine.ops import Submission
from hdl.boards.lab import Lab
from hdl.boards.platforms import find_board
from hdl.boards.protocol import Deadline
from hdl.config import SocConfig
from sim import trial
from sim.design import Design
from sim.hosts.verilated import VerilatedHost
from sim.race.program import Program
from sim.race.record import CompileError, Deed, Marks, Recorder, Recording, Seen
from sim.scenarios import find_scenario
from sim.trial import Plan
from sim.verdict import Owner

LAB = find_board("icebreaker").lab
SCENARIO = find_scenario("torn-msi")
START = Seen((None, None), (0, 0), False)
REST = Deed((), (Deadline.KEEP, 0), False, (0, 0), True)


def load(cpu=0, address=0x10, data=0):
    return Submission(cpu, 0, 2, address, data)


def answer(data, cpu=0, lines=(0, 0), error=0):
    answers = [None, None]
    answers[cpu] = (data, error)
    return Seen(tuple(answers), lines, False)


def working(*submissions, **others):
    return REST._replace(submissions=submissions, resting=False, **others)


def words(program, lab=LAB):
    return [lab.edge.from_bits(word) for word in program.image(lab).edges]


def test_a_straight_program():
    program = Program([Recording([(START, working(load())), (answer(7), REST)])])
    first, *others = words(program)
    assert first.submit == 0b01
    assert first.last == 1
    second = others[first.target - 1]
    assert (second.seen.answered, second.seen.data[0], second.resting) == (1, 7, 1)
    end = others[second.target - 1]
    assert (end.seen.error, end.seen.answered, end.last) == (3, 0, 1), "nothing can take it"


def test_what_was_seen_decides():
    one = Recording([(START, working(load())), (answer(7), REST)])
    two = Recording([(START, working(load())), (answer(8), working(load(address=0x20)))])
    program = Program([one, two])
    found = words(program)
    choice = found[found[0].target : found[0].target + 2]
    assert [(w.seen.data[0], w.submit, w.last) for w in choice] == [(7, 0, 0), (8, 1, 1)]
    assert [o["address"] for o in program.image(LAB).operations[0]] == [0x10, 0x20]


@pytest.mark.parametrize(
    ("field", "value", "error", "words"),
    [
        ("soc", None, TypeError, "LabConfig.soc must be a SocConfig"),
        ("soc", SocConfig(), ValueError, "LabConfig.soc.ram_bytes must be at most 65536"),
        ("edges", 1, ValueError, "LabConfig.edges must be between 2 and 4096, not 1"),
        ("operations", 257, ValueError, "LabConfig.operations must be between 2 and 256"),
        ("stimuli", True, TypeError, "LabConfig.stimuli must be an integer, not True"),
        ("cycle_bits", 11, ValueError, "LabConfig.cycle_bits must be between 12 and 32, not 11"),
        (
            "soc",
            SocConfig(endpoints=0, ram_bytes=4096),
            ValueError,
            "LabConfig.soc must have an endpoint",
        ),
        ("divisor", 3, ValueError, "divisor must be between 4"),
    ],
)
def test_a_laboratory_that_cannot_be(field, value, error, words):
    with pytest.raises(error, match=words):
        replace(LAB, **{field: value})


def test_records_of_a_channel_that_there_is_not():
    with pytest.raises(ValueError, match=r"no channel \['gic_cpu0'\]; there are: config, posted"):
        Lab(replace(LAB, recorded=("posted", "gic_cpu0")))


@pytest.mark.parametrize("name", ["icebreaker", "ulx3s-85f"])
def test_lines_are_packed_and_unpacked(name):
    lab = find_board(name).lab
    masks = (0b100, 0) if name == "icebreaker" else (0b101, 0b010)
    assert lab.unpack_lines(lab.pack_lines(masks)) == masks
    assert lab.pack_lines(masks) >> len(lab.lines) * lab.soc.cpus == 0


def test_equal_ends_are_one():
    tail = [(answer(1, cpu=1), working(load(cpu=1))), (answer(2, cpu=1), REST)]
    one = Recording([(START, working(load())), (answer(7), working(load(cpu=1))), *tail])
    two = Recording([(START, working(load())), (answer(8), working(load(cpu=1))), *tail])
    assert len(words(Program([one, two]))) == 6


def test_software_that_does_not_do_the_same_after_the_same():
    one = Recording([(START, working(load()))])
    with pytest.raises(CompileError, match="having seen the same, software did"):
        Program([one, Recording([(START, working(load(address=0x20)))])])


def test_a_program_that_does_not_fit():
    steps = [(START, working(load())), *((answer(i), working(load())) for i in range(300))]
    with pytest.raises(CompileError, match="the program needs 302 words; this board has 256"):
        Program([Recording(steps)]).image(LAB)


def test_too_many_operations():
    steps = [(START, working(load()))]
    steps += [(answer(i), working(load(address=4 * i))) for i in range(130)]
    with pytest.raises(CompileError, match="CPU 0 has more than the 64 different operations"):
        Program([Recording(steps)]).image(LAB)


@pytest.mark.parametrize("wide", [load(address=1 << 40), load(data=1 << 32)])
def test_an_operation_that_is_too_wide(wide):
    with pytest.raises(CompileError, match="too wide"):
        Program([Recording([(START, working(wide))])]).image(LAB)


def test_an_answer_that_is_too_wide():
    steps = [(START, working(load())), (answer(1 << 32), REST)]
    with pytest.raises(CompileError, match="wider than the sequencer compares"):
        Program([Recording(steps)]).image(LAB)


def test_more_pairs_than_there_are():
    held = frozenset((cpu, vector) for cpu in (0, 1) for vector in (0x30, 0x31, 0x32))
    with pytest.raises(CompileError, match="more than 4 pairs"):
        Program([Recording([(START, REST._replace(marks=Marks(held=held)))])]).image(LAB)


def test_more_handler_runs_than_can_be_counted():
    started = REST._replace(marks=Marks(start=True))
    with pytest.raises(CompileError, match="256 handler runs"):
        Program([Recording([(answer(i), started) for i in range(256)])])


def record(program, cpus=1, clocks=100):
    """A recording of ``program``, run without hardware: only time passes."""
    machine = Machine(cpus)
    machine.cpus[0].spawn(program)
    recorder = Recorder(Owner(0, 0, 33, "none"))
    watched = recorder.watching(Plan(machine)).machine
    demands = watched.start(0, (0,) * cpus)
    while demands.deadline is not None and demands.deadline < clocks:
        demands = watched.wake(demands.deadline, {}, (0,) * cpus)
    return recorder.recording


def test_a_delay_counts_from_where_it_began_and_an_appointment_does_not():
    async def program(cpu):
        await cpu.delay(10)
        await cpu.delay_until(40)

    timers = [deed.timer for _, deed in record(program).steps]
    assert timers == [(Deadline.AFTER, 10), (Deadline.AT, 40), (Deadline.KEEP, 0)]


def test_an_older_deadline_cannot_come_back():
    async def nothing(cpu):
        pass

    async def program(cpu):
        cpu.start_timer(50, nothing)
        await cpu.delay(10)
        await cpu.delay(20)
        await cpu.wait_for_interrupt()

    with pytest.raises(CompileError, match="goes back to an older deadline"):
        record(program)


@pytest.fixture(scope="module")
def host():
    with VerilatedHost(Design(SCENARIO.config)) as found:
        found.fresh = found.snapshot()
        yield found


def recording(host, strategy, **at):
    host.restore(host.fresh)
    at = SCENARIO.complete(strategy, at)
    recorder = Recorder(SCENARIO.owner(strategy, at))
    outcome = trial.run(recorder.watching(SCENARIO.plan(strategy, at)), host)
    return recorder.recording, outcome


def test_looking_on_changes_nothing(host):
    _, watched = recording(host, "two-step", inject=60)
    host.restore(host.fresh)
    plain = trial.run(SCENARIO.plan("two-step", {"inject": 60}), host)
    assert watched.log == plain.log
    assert (watched.records == plain.records).all()


def test_two_trials_share_what_comes_before_their_events(host):
    early, _ = recording(host, "naive", inject=30)
    late, _ = recording(host, "naive", inject=31)
    other, _ = recording(host, "naive", inject=80)
    same = next(i for i, (a, b) in enumerate(zip(early.steps, other.steps, strict=False)) if a != b)
    assert same > 30
    assert len(words(Program([early, late, other]), replace(LAB, edges=1024))) < 200


def test_marks_tell_whether_an_event_was_lost(host):
    lost = []
    for inject in range(10, 111, 10):
        found, outcome = recording(host, "naive", inject=inject)
        at = SCENARIO.complete("naive", {"inject": inject})
        lost.append("lost" in SCENARIO.judge("naive", at, outcome))
        assert lost[-1] != any(deed.marks.start for _, deed in found.steps)
    assert any(lost)
    assert not all(lost)
