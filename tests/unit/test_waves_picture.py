"""Timing diagrams: what is where, and that it can be read."""

import random
from itertools import combinations

import pytest
from matplotlib.image import imread

from hdl.probe import CpuContext
from sim.waves import Lane, Waveform, draw, draw_trial, figure
from sim.waves.picture import WIDTH, chosen, elide
from sim.waves.timescale import QUIET, Timescale

from .waves_files import write

SOFTWARE = Lane("Software", "context", "context", "enum", CpuContext)
VALUE = Lane("Bus", "address", "address", "hex", when="valid")
LEVEL = Lane("CPU", "irq", "irq")


@pytest.fixture
def waveform(tmp_path):
    nets = {
        "top/irq": (1, {0: 0, 5: 1, 9: 0, 90: 1}),
        "top/valid": (1, {0: 0, 4: 1, 5: 0, 12: 1, 14: 0}),
        "top/address": (40, {0: 0, 4: 0x4000_0000, 12: 0xFEE0_0000}),
        "top/context": (4, {0: 0, 6: 2, 8: 4, 30: 1}),
    }
    return Waveform(write(tmp_path / "run.vcd", nets, 100))


def texts(diagram):
    return [text.get_text() for text in diagram.axes[0].texts]


def test_the_file_is_a_picture_of_that_width(waveform, tmp_path):
    png = draw_trial(waveform.path, tmp_path / "new" / "run.png", lanes=[LEVEL, SOFTWARE])
    assert imread(png).shape[1] == WIDTH
    assert draw(waveform, tmp_path / "again.png", lanes=[LEVEL, SOFTWARE]).read_bytes()


def test_it_says_what_is_to_be_said(waveform):
    said = texts(
        figure(
            waveform,
            lanes=[VALUE, LEVEL, SOFTWARE],
            first=0,
            last=40,
            title="A title",
            marks=[(6, "entry"), (60, "too late")],
        )
    )
    for text in ("A title", "Bus", "CPU", "Software", "address", "irq", "context", "entry"):
        assert text in said
    for text in ("IDLE", "HANDLER", "TASK", "0x40000000", "0xfee00000"):
        assert text in said
    assert "too late" not in said
    assert said.index("Bus") < said.index("CPU") < said.index("Software")


def test_long_quiet_stretches_are_folded(waveform):
    assert "52 clocks" in texts(figure(waveform, lanes=[LEVEL, SOFTWARE], first=0, last=99))


def test_a_strobe_is_left_out_beside_what_it_qualifies(tmp_path):
    nets = {
        "top.ram/bus__request__valid": (1, {0: 0, 4: 1, 5: 0}),
        "top.ram/bus__request__payload.data": (32, {0: 7}),
    }
    lanes = chosen(Waveform(write(tmp_path / "run.vcd", nets, 9)), range(9))
    assert [lane.label for lane in lanes] == ["RAM data"]


def test_unknown_values_can_be_drawn(tmp_path):
    nets = {"top/irq": (1, {5: 1}), "top/word": (8, {6: 3})}
    waveform = Waveform(write(tmp_path / "run.vcd", nets, 10))
    lanes = [LEVEL, Lane("Bus", "word", "word", "hex")]
    assert "0x3" in texts(figure(waveform, lanes=lanes, first=0, last=9))


def test_lanes_must_be_given(waveform):
    with pytest.raises(ValueError, match=r"^lanes must not be empty$"):
        figure(waveform, lanes=[])


@pytest.mark.parametrize("clocks", [20, 60, 200])
@pytest.mark.parametrize("seed", range(3))
def test_no_text_lies_on_another(tmp_path, clocks, seed):
    chance = random.Random(seed)
    nets, lanes = {}, []
    for i in range(6):
        moments = sorted(chance.sample(range(1, clocks), clocks // 4))
        nets[f"top/valid{i}"] = (1, {0: 0} | {t: chance.getrandbits(1) for t in moments})
        nets[f"top/word{i}"] = (40, {0: 0} | {t: chance.getrandbits(40) for t in moments})
        nets[f"top/context{i}"] = (4, {0: 0} | {t: chance.randrange(9) for t in moments})
        lanes += [
            Lane("Bus", f"word {i}", f"word{i}", "hex", when=f"valid{i}", detail=f"word{i}"),
            Lane("Software", f"context {i}", f"context{i}", "enum", CpuContext),
        ]
    marks = [(chance.randrange(clocks), f"something happened {i}") for i in range(8)]
    waveform = Waveform(write(tmp_path / "run.vcd", nets, clocks))
    diagram = figure(waveform, lanes=lanes, first=0, last=clocks - 1, title="Any", marks=marks)
    renderer = diagram.canvas.get_renderer()
    boxes = [
        (text.get_text(), text.get_window_extent(renderer).padded(-1))
        for text in diagram.axes[0].texts
    ]
    assert len(boxes) > 40
    touching = [(a, b) for (a, box), (b, other) in combinations(boxes, 2) if box.overlaps(other)]
    assert touching == []
    assert min(box.x0 for _, box in boxes) >= 0
    assert max(box.x1 for _, box in boxes) <= WIDTH


@pytest.mark.parametrize(
    ("text", "room", "shown"),
    [("0x40000000", 200, "0x40000000"), ("0x40000000", 52, "0x4000…"), ("0x40000000", 20, "")],
)
def test_elision(text, room, shown):
    assert elide(text, room) == shown


def test_timescale_folds_and_stays_in_order():
    scale = Timescale(range(200), [10, 12, 100], 0.0, 1000.0)
    xs = [scale(cycle) for cycle in range(201)]
    assert xs == sorted(xs)
    assert (xs[0], round(xs[-1], 6)) == (0.0, 1000.0)
    folds = [segment for segment in scale.segments if segment.folded]
    assert [(fold.start, fold.stop) for fold in folds] == [(16, 96), (104, 196)]
    assert not any(fold.start < tick < fold.stop for fold in folds for tick in scale.ticks(40))
    assert scale.clear(scale(10), 5)
    assert not scale.clear(scale(15), 50)
    assert scale.visible(12, 100) == [(scale(12), scale(16)), (scale(96), scale(100))]


def test_a_stretch_that_is_short_enough_is_to_scale():
    scale = Timescale(range(QUIET), [0], 0.0, 160.0)
    assert not any(segment.folded for segment in scale.segments)
    assert scale(4) - scale(3) == pytest.approx(160.0 / QUIET)
