"""Waveform regressions: what fires, with which words, and what it leaves behind."""

import random
import re
import subprocess
import sys

import pytest

from sim.cache import ROOT
from sim.waves import Golden, GoldenMismatchError, Goldens, Waveform, WaveformError

from .waves_files import FakeDesign, write

NETS = {
    "top/irq": (1, {0: 0, 7: 1, 12: 0}),
    "top/word": (32, {0: 0, 3: 0x40, 9: 0x44}),
    "top/late": (4, {5: 3}),
}
NAMES = ["irq", "word", "late"]
TEXT = """\
irqscope golden waveform
clocks 0 to 19
net irq 1
net word 32
net late 4
0 irq=0x0 word=0x0 late=x
3 word=0x40
5 late=0x3
7 irq=0x1
9 word=0x44
12 irq=0x0
"""


def run(tmp_path, name="run", clocks=20, **changed):
    nets = NETS | {f"top/{net}": (NETS[f"top/{net}"][0], values) for net, values in changed.items()}
    return write(tmp_path / f"{name}.vcd", nets, clocks)


@pytest.fixture
def goldens(tmp_path):
    """A golden of the unchanged run."""
    folder = tmp_path / "golden"
    Goldens(folder, update=True).check("story", run(tmp_path), None, NAMES)
    return Goldens(folder, out=tmp_path / "out")


def test_the_stored_text_reads_as_a_story(goldens):
    assert (goldens.folder / "story.txt").read_text() == TEXT


def test_the_same_run_passes(goldens, tmp_path):
    goldens.check("story", run(tmp_path, "again"), None, NAMES)
    assert not goldens.out.exists()


@pytest.mark.parametrize(
    ("changed", "net", "cycle", "expected", "seen"),
    [
        ({"irq": {0: 0, 8: 1, 12: 0}}, "irq", 7, 1, 0),
        ({"irq": {0: 0, 6: 1, 12: 0}}, "irq", 6, 0, 1),
        ({"irq": {0: 0}}, "irq", 7, 1, 0),
        ({"irq": {0: 0, 7: 1, 12: 0, 19: 1}}, "irq", 19, 0, 1),
        ({"word": {0: 0, 3: 0x41, 9: 0x44}}, "word", 3, 0x40, 0x41),
        ({"word": {0: 1, 3: 0x40, 9: 0x44}}, "word", 0, 0, 1),
        ({"late": {}}, "late", 5, 3, None),
        ({"irq": {0: 0, 8: 1}, "word": {0: 0, 4: 0x40}}, "word", 3, 0x40, 0),
    ],
)
def test_the_first_difference_is_named(goldens, tmp_path, changed, net, cycle, expected, seen):
    with pytest.raises(GoldenMismatchError) as caught:
        goldens.check("story", run(tmp_path, "altered", **changed), None, NAMES)
    found = caught.value.difference
    assert (found.net, found.cycle, found.expected, found.seen) == (net, cycle, expected, seen)
    assert str(caught.value).startswith(f"{net} differs first in clock {cycle}: expected ")


def test_any_single_change_is_found_where_it_is(tmp_path):
    chance = random.Random(1)
    original = Waveform(run(tmp_path))
    golden = Golden.record(original, NAMES, range(20))
    for i in range(30):
        net = chance.choice(NAMES)
        values = original.values(net, range(20))
        cycle = chance.randrange(20)
        values[cycle] = ((values[cycle] or 0) + 1) % (1 << NETS[f"top/{net}"][0])
        history = {t: "x" if value is None else value for t, value in enumerate(values)}
        altered = Waveform(run(tmp_path, f"altered{i}", **{net: history}))
        found = golden.difference(Golden.record(altered, NAMES, range(20)))
        assert (found.net, found.cycle, found.seen) == (net, cycle, values[cycle])


def test_both_waveforms_and_a_picture_are_left_behind(goldens, tmp_path):
    altered = run(tmp_path, "altered", irq={0: 0, 8: 1, 12: 0})
    with pytest.raises(GoldenMismatchError) as caught:
        goldens.check("story", altered, None, NAMES)
    folder = tmp_path / "out" / "story"
    for name in ("comparison.gtkw", "comparison.png"):
        assert str(folder / name) in str(caught.value)
    assert "pytest sim/ --update-golden" in str(caught.value)
    assert (folder / "comparison.png").stat().st_size > 1000
    assert (folder / "seen.vcd").read_bytes() == altered.read_bytes()
    original = Waveform(run(tmp_path))
    expected, both = Waveform(folder / "expected.vcd"), Waveform(folder / "comparison.vcd")
    clocks = range(20)
    for name in NAMES:
        assert expected.values(f"expected.{name}") == original.values(name, clocks)
        assert both.values(f"expected.{name}") == original.values(name, clocks)
        assert both.values(f"seen.{name}") == Waveform(altered).values(name, clocks)
    gtkw = (folder / "comparison.gtkw").read_text()
    assert "[markername_long] A irq: 0x1 became 0x0\n" in gtkw
    assert re.search(r"\+\{expected\} expected\.irq\n.*\n?\+\{seen\} seen\.irq\n", gtkw)


def test_channels_and_fields_can_be_compared(tmp_path):
    nets = {"top/tap_0_valid": (1, {0: 0, 4: 1, 5: 0}), "top/tap_0_record": (8, {0: 0, 4: 0x9A})}
    design = FakeDesign(
        {"tap_0_valid": 1, "tap_0_record": 8},
        [("tap_0_record.kind", "tap_0_record", 4, 4)],
        ["gic"],
    )
    vcd = write(tmp_path / "run.vcd", nets, 10)
    names = ["tap.gic.valid", "tap.gic.kind"]
    Goldens(tmp_path, update=True).check("tap", vcd, design, names)
    assert "4 tap.gic.valid=0x1 tap.gic.kind=0x9\n" in (tmp_path / "tap.txt").read_text()
    nets["top/tap_0_record"] = (8, {0: 0, 4: 0x8A})
    altered = write(tmp_path / "altered.vcd", nets, 10)
    with pytest.raises(GoldenMismatchError, match=r"^tap\.gic\.kind differs first in clock 4"):
        Goldens(tmp_path, out=tmp_path / "out").check("tap", altered, design, names)
    both = Waveform(tmp_path / "out" / "tap" / "comparison.vcd")
    assert both.at("seen.tap.gic.kind", 4) == 8


def test_a_shorter_run(goldens, tmp_path):
    with pytest.raises(GoldenMismatchError) as caught:
        goldens.check("story", run(tmp_path, "short", clocks=15), None, NAMES)
    assert "the run ends after clock 14, as expected up to there" in str(caught.value)
    assert "clocks 0 to 19" in str(caught.value)
    assert caught.value.difference is None
    both = Waveform(tmp_path / "out" / "story" / "comparison.vcd")
    assert both.values("seen.word", range(13, 17)) == [0x44, 0x44, None, None]


def test_a_shorter_run_that_differs_before(goldens, tmp_path):
    with pytest.raises(GoldenMismatchError, match=r"^irq differs first in clock 7"):
        goldens.check("story", run(tmp_path, "short", clocks=15, irq={0: 0}), None, NAMES)


def test_a_longer_run(goldens, tmp_path):
    longer = run(tmp_path, "long", clocks=25)
    with pytest.raises(GoldenMismatchError, match="clocks 0 to 24 were compared"):
        goldens.check("story", longer, None, NAMES)
    goldens.check("story", longer, None, NAMES, last=19)


def test_a_window_of_its_own(tmp_path):
    folder = tmp_path / "golden"
    window = {"first": 5, "last": 10}
    Goldens(folder, update=True).check("story", run(tmp_path), None, NAMES, **window)
    goldens = Goldens(folder, out=tmp_path / "out")
    goldens.check("story", run(tmp_path, "later", irq={0: 0, 7: 1, 14: 0}), None, NAMES, **window)
    altered = run(tmp_path, "altered", irq={0: 0, 7: 1, 10: 0})
    with pytest.raises(GoldenMismatchError, match=r"^irq differs first in clock 10"):
        goldens.check("story", altered, None, NAMES, **window)
    with pytest.raises(GoldenMismatchError, match="has clocks 5 to 10, not 0 to 10"):
        goldens.check("story", run(tmp_path), None, NAMES, last=10)


def test_a_net_that_is_gone(goldens, tmp_path):
    nets = {name: net for name, net in NETS.items() if name != "top/irq"}
    gone = write(tmp_path / "gone.vcd", nets, 20)
    with pytest.raises(WaveformError, match=r"gone\.vcd: no net 'irq'"):
        goldens.check("story", gone, None, NAMES)


def test_other_nets_are_asked_for(goldens, tmp_path):
    with pytest.raises(GoldenMismatchError, match=r"has also late \(4 bits\); if"):
        goldens.check("story", run(tmp_path), None, ["irq", "word"])
    with pytest.raises(GoldenMismatchError, match=r"txt lacks clk \(1 bits\); if"):
        goldens.check("story", run(tmp_path), None, [*NAMES, "clk"])
    wider = write(tmp_path / "wider.vcd", NETS | {"top/late": (5, {5: 3})}, 20)
    with pytest.raises(GoldenMismatchError, match=r"late \(4 bits\) and lacks late \(5"):
        goldens.check("story", wider, None, NAMES)


def test_bad_requests(goldens, tmp_path):
    with pytest.raises(ValueError, match=r"^nets must name at least one net$"):
        goldens.check("story", run(tmp_path), None, [])
    with pytest.raises(ValueError, match=r"^first must not be negative, not -1$"):
        goldens.check("story", run(tmp_path), None, NAMES, first=-1)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", 1),
        ("something else\n", 1),
        ("irqscope golden waveform\n", 2),
        ("irqscope golden waveform\nclocks 0 until 9\n", 2),
        (TEXT.replace("net late 4", "net late"), 5),
        (TEXT.replace("word=0x40", "word=forty"), 7),
        (TEXT.replace("3 word", "3 unheard"), 7),
    ],
)
def test_a_damaged_golden(text, line):
    with pytest.raises(WaveformError, match=rf"^g\.txt: line {line} is not as in a golden"):
        Golden.parse(text, "g.txt")


def test_text_and_back():
    assert Golden.parse(TEXT).text() == TEXT


SUITE = """
from pathlib import Path
from sim.waves import Goldens

def test_it(golden):
    assert isinstance(golden, Goldens)
    golden.folder = Path("golden")
    golden.check("story", Path("run.vcd"), None, ["irq"])
"""


def pytest_in(folder, *flags):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "sim.conftest", "-p", "no:cacheprovider"]
    command += ["--rootdir", str(folder), "test_it.py", *flags]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "IRQSCOPE_CACHE": str(folder)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_the_fixture_and_its_flag(tmp_path):
    (tmp_path / "test_it.py").write_text(SUITE)
    run(tmp_path)
    assert pytest_in(tmp_path, "--update-golden").returncode == 0
    run(tmp_path, irq={0: 0, 8: 1})
    failing = pytest_in(tmp_path)
    assert failing.returncode == 1
    assert "irq differs first in clock 7: expected 0x1, seen 0x0" in failing.stdout
    assert (tmp_path / "differences" / "story" / "comparison.gtkw").exists()


def test_a_missing_golden_says_the_flag(tmp_path):
    with pytest.raises(GoldenMismatchError, match=r"no golden .*story\.txt; .* --update-golden$"):
        Goldens(tmp_path).check("story", run(tmp_path), None, NAMES)
