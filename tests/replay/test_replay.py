"""Recordings of real kernels drive the gateware, and a wrong line in one is noticed.

The slices in ``data/`` are the recordings without most of what repeats itself (see
:mod:`.cut`). Whole ones are replayed by the slow tests where IRQSCOPE_TRACES names their folder.
"""

import gzip
import json
import lzma
import os
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pytest
from click.testing import CliRunner

from sim.cli import cli
from sim.replay import replay
from sim.replay.events import parse
from sim.replay.session import Reading, survey
from sim.replay.trace import Trace

from .recorder import record

DATA = Path(__file__).parent / "data"
ARM, LINUX_6_1, LINUX_5_10 = (
    DATA / f"{name}.trace.xz"
    for name in ("arm64_gicv3_its_2cpu", "x86_msi_2cpu", "x86_msi_2cpu-510")
)
SLICES = {"arm64": ARM, "x86-6.1": LINUX_6_1, "x86-5.10": LINUX_5_10}
WHOLE = os.environ.get("IRQSCOPE_TRACES")


@lru_cache(maxsize=1)
def lines(path, count):
    """The first lines of a slice."""
    with lzma.open(path, "rt") as file:
        return [text.rstrip("\n") for text, _ in zip(file, range(count), strict=False)]


@lru_cache(maxsize=1)
def arm_config():
    return survey(Reading(Trace([ARM]))).config()


def arm_sizes():
    """What makes any arm64 recording use the machine of the slice."""
    config = arm_config()
    names = ("cpus", "spis", "lpis", "device_id_bits", "event_id_bits", "ram_bytes")
    return {name: getattr(config, name) for name in names}


def replay_lines(tmp_path, text, **options):
    path = tmp_path / "made.trace"
    path.write_text("".join(f"{line}\n" for line in text))
    return replay([path], **options)


def replay_arm(tmp_path, text, **options):
    return replay_lines(tmp_path, text, wanted=arm_sizes(), **options)


def explain(answer):
    return [str(mismatch) for mismatch in answer.tally.found[:5]]


@pytest.mark.parametrize("name", SLICES)
def test_slice(name):
    answer = replay([SLICES[name]])
    assert answer.damage is None
    assert explain(answer) == []
    assert answer.tally.mismatches == 0
    kinds = answer.tally.kinds
    if name == "arm64":
        assert answer.events > 100_000
        assert kinds["acknowledge"] > 20_000
        assert kinds["translation"] > 9_000
        for kind in ("state", "sgi", "priority", "table entry", "read"):
            assert kinds[kind] > 100, kind
    else:
        assert kinds["message"] > 1_000
        assert kinds["delivery"] >= kinds["message"]
        assert kinds["read"] > 1_000


@pytest.mark.slow
@pytest.mark.skipif(not WHOLE, reason="IRQSCOPE_TRACES names no folder with recordings")
@pytest.mark.parametrize("path", sorted(Path(WHOLE or ".").glob("*.trace.xz")), ids=str)
def test_whole_recording(path):
    answer = replay([path])
    assert answer.damage is None
    assert explain(answer) == []


# Recordings that were never seen


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("eoi_mode", [0, 1])
def test_traffic_of_the_reference_model(tmp_path, eoi_mode, seed):
    answer = replay_arm(tmp_path, record(arm_config(), eoi_mode=eoi_mode, steps=2000, seed=seed))
    assert answer.damage is None
    assert explain(answer) == []
    kinds = answer.tally.kinds
    assert min(kinds[k] for k in ("acknowledge", "state", "sgi", "translation")) > 100
    assert kinds["priority"] > 10


def test_other_cpu_numbers(tmp_path):
    """The slice with the CPUs' names exchanged: CPU 1 boots, CPU 0 comes later."""
    answer = replay_arm(tmp_path, [exchange(line) for line in lines(ARM, 12_000)])
    assert explain(answer) == []
    assert answer.tally.kinds["acknowledge"] > 500


def exchange(line):
    time, cpu, event = line.split(" ", 2)
    words = event.split(" ")
    other = {"0": "1", "1": "0", "-": "-"}
    kind = words[0]
    if kind.startswith("GICR"):
        words[0] = kind[:4] + other[kind[4:]]
        if words[2] == "0x00008":  # TYPER: number, Last, affinity
            words[4] = {"0x1000001": "0x101000111", "0x101000111": "0x1000001"}[words[4]]
    elif kind == "GICD" and words[1] == "W" and int(words[2], 16) >= 0x6000:
        words[4] = hex(int(words[4], 16) ^ 1)
    elif kind == "HPPI":
        words[1] = "c" + other[words[1][1:]]
    elif kind in ("SGIPEND", "LINE") and words[1 + (kind == "LINE")].startswith("rd"):
        at = 1 + (kind == "LINE")
        words[at] = "rd" + other[words[at][2:]]
    elif kind == "SGI":
        targets = int(words[4][5:], 16)
        words[4] = f"list={targets >> 1 | (targets & 1) << 1:#x}"
    elif kind == "MSI":
        words[-1] = "rd=" + other[words[-1][3:]]
    elif kind == "CTE":
        words[-1] = "RDBase=" + hex(int(words[-1].partition("=")[2], 16) ^ 1)
    elif kind == "CMD" and words[3] in ("MAPC", "SYNC"):
        head, raw = words[-1].split("=")
        parts = raw.split(":")
        parts[2] = f"{int(parts[2], 16) ^ 1 << 16:016x}"
        words[-1] = f"{head}={':'.join(parts)}"
    return f"{time} {other[cpu]} {' '.join(words)}"


def test_parts_and_compression(tmp_path):
    text = lines(ARM, 9_000)
    paths = [tmp_path / f"made.part{i}.trace{end}" for i, end in ((1, ".gz"), (2, ".xz"), (3, ""))]
    openers = (gzip.open, lzma.open, open)
    for path, opener, first in zip(paths, openers, (0, 3000, 6000), strict=True):
        with opener(path, "wt") as file:
            file.writelines(f"{line}\n" for line in text[first : first + 3000])
    answer = replay(paths, wanted=arm_sizes())
    whole = replay_arm(tmp_path, text)
    assert answer.events == whole.events == 9_000
    assert answer.tally.kinds == whole.tally.kinds
    assert answer.tally.mismatches == 0


@pytest.mark.slow  # a machine of its own
@pytest.mark.parametrize("eoi_mode", [0, 1])
def test_four_cpus(eoi_mode, tmp_path):
    """The size comes from the recording: more CPUs than any real one at hand has."""
    text = record(replace(arm_config(), cpus=4), eoi_mode=eoi_mode, steps=1500, seed=4)
    path = tmp_path / "made.trace"
    path.write_text("".join(f"{line}\n" for line in text))
    answer = replay([path])
    assert answer.damage is None
    assert answer.config.cpus == 4
    assert explain(answer) == []
    assert answer.tally.kinds["acknowledge"] > 50


def local_apics(cpus, rounds):
    """Interrupts to one, some and all of ``cpus`` local APICs, each taken at its EOI."""
    everyone = (1 << cpus) - 1
    for cpu in range(cpus):
        yield f"{cpu} LAPIC W 0x0e0 0xffffffff"
        yield f"{cpu} LAPIC W 0x0d0 {1 << cpu + 24:#x}"
        yield f"{cpu} LAPIC W 0x0f0 0x1ff"
    for i in range(rounds):
        sender, mask = i % cpus, i % everyone + 1
        yield f"- MSI addr={0xFEE00004 | mask << 12:#x} data=0x41 src=ioapic2"
        yield f"- DELIVER dest={mask} dm=1 mode=0 vec=65 trig=0"
        yield f"{sender} LAPIC W 0x300 0x840f0"  # fixed, all including self
        yield from (f"{cpu} LAPIC W 0x0b0 0x0" for cpu in range(cpus))
        taken = [cpu for cpu in range(cpus) if mask >> cpu & 1]
        yield from (f"{cpu} LAPIC W 0x0b0 0x0" for cpu in taken)


def test_eight_local_apics(tmp_path):
    cpus = 8
    text = [f"{10 * i} {line}" for i, line in enumerate(local_apics(cpus, 60))]
    answer = replay_lines(tmp_path, text)
    assert answer.damage is None
    assert answer.config.cpus == cpus
    assert explain(answer) == []
    assert answer.tally.kinds["delivery"] == 60
    assert answer.tally.kinds["acknowledge"] > 60 * cpus


# A difference is seen


def first(text, event, *, after=0):
    """Number of the first line with ``event`` in it."""
    return next(i for i, line in enumerate(text) if i >= after and event in line)


@pytest.mark.parametrize(
    ("find", "old", "new", "kind"),
    [
        ("ICC R IAR1 0x1b", "0x1b", "0x1c", "acknowledge"),
        ("GITS R 0x0090", "0x0 ", "0x20 ", "read"),
        ("GICD R 0x0000 4 0x53", "0x53", "0x51", "read"),
        ("ICC R PMR 0x8", "0x8", "0x10", "read"),
        ("HPPI c0 27 g2 p0xa0 fiq=0 irq=1", " 27 ", " 28 ", "state"),
        ("HPPI c0 27 g2 p0xa0 fiq=0 irq=1", "irq=1", "irq=0", "state"),
        ("HPPI c0 27 g2 p0xa0 fiq=0 irq=1", "p0xa0", "p0x90", "priority"),
        ("SGIPEND rd1", "rd1", "rd0", "sgi"),
        ("MSI devid=", "intid=8194", "intid=8195", "translation"),
        ("MSI devid=", "rd=0", "rd=1", "translation"),
        ("ITE W ", "ICID=0x0", "ICID=0x1", "table entry"),
        ("CTE W ", "RDBase=0x0", "RDBase=0x1", "table entry"),
    ],
)
def test_an_altered_line_is_found(tmp_path, find, old, new, kind):
    text = [f"{line} " for line in lines(ARM, 6_000)]
    at = first(text, find)
    assert old in text[at]
    text[at] = text[at].replace(old, new, 1)
    answer = replay_arm(tmp_path, [line.rstrip() for line in text])
    assert answer.tally.mismatches >= 1
    found = answer.first_mismatch
    assert found.what.startswith(kind)


def test_a_lost_interrupt_is_found(tmp_path):
    """A message that the gateware never gets: the interrupt that Linux took is missing."""
    text = list(lines(ARM, 6_000))
    del text[first(text, "MSI devid=")]
    answer = replay_arm(tmp_path, text)
    assert answer.tally.mismatches >= 1


def x86_head():
    text = lines(LINUX_6_1, 4_000)
    return text[: first(text, "src=00:1f.2/msi0") + 40]


@pytest.mark.parametrize(
    ("find", "old", "new", "kind"),
    [
        ("DELIVER dest=1 dm=1", "dest=1", "dest=2", "delivery"),
        ("src=00:1f.2/msi0", "addr=0xfee0", "addr=0xfee1", "message"),
        ("LAPIC R 0x030", "0x50014", "0x50015", "read"),
    ],
)
def test_an_altered_x86_line_is_found(tmp_path, find, old, new, kind):
    text = list(x86_head())
    at = first(text, find)
    assert old in text[at]
    text[at] = text[at].replace(old, new, 1)
    answer = replay_lines(tmp_path, text)
    assert answer.tally.mismatches >= 1
    assert answer.first_mismatch.what.startswith(kind)


# Damage


def invoke(*arguments):
    return CliRunner().invoke(cli, ["replay", *map(str, arguments)])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("100 0 GICD R 0x0004 4", "too few fields|5 fields instead of 6"),
        ("100 0 GICQ R 0x0004 4 0x1", "unknown event 'GICQ'"),
        ("100 0 GICD X 0x0004 4 0x1", "R or W expected, not 'X'"),
        ("100 0 GICD R 0x0004 3 0x1", "an access of 3 bytes"),
        ("100 x GICD R 0x0004 4 0x1", "invalid literal"),
        ("abc 0 GICD R 0x0004 4 0x1", "a line starts with its time, not 'abc'"),
        ("100 0 SGI irm=0 aff=0x0 list=0x1", "no sgi= in"),
        ("100 0 MSIX W 00:03.0 e0 other 4 0x0", "no word 'other' in an MSI-X entry"),
        ("100 0 LINE ppi rd0 27 2", "0 or 1 expected, not '2'"),
        ("", "a line starts with its time"),
    ],
)
def test_wrong_lines(line, message):
    with pytest.raises(ValueError, match=message):
        parse(line)


def test_damage_is_reported_with_what_came_before(tmp_path):
    text = list(lines(ARM, 3_000))
    text[2_000] = "1234 0 GICD R nonsense"
    answer = replay_arm(tmp_path, text)
    assert "made.trace:2001: " in answer.damage
    assert answer.events == 2_000
    assert answer.tally.compared > 200
    assert answer.tally.mismatches == 0


def test_truncated_files(tmp_path):
    whole = ARM.read_bytes()
    for name, content, message in (
        ("cut.trace.xz", whole[:60_000], "damaged file"),
        ("cut.trace", "\n".join(lines(ARM, 2_500)).encode(), "ends in the middle of a line"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        answer = replay([path], limit=2_600, wanted=arm_sizes())
        reading = Reading(Trace([path]))
        count = sum(1 for _ in reading)
        assert message in reading.damage
        assert f"{name}:{count + 1}" in reading.damage
        assert answer.events == min(count, 2_600)
        assert answer.tally.mismatches == 0


def test_command_line(tmp_path):
    made = tmp_path / "made.trace"
    text = list(lines(ARM, 2_000))
    made.write_text("".join(f"{line}\n" for line in text))
    target = tmp_path / "answer.json"
    result = invoke(ARM, "--limit", 2_000, "--json", target)
    assert result.exit_code == 0, result.output
    assert "0 mismatches" in " ".join(result.output.split())
    answer = json.loads(target.read_text())
    assert answer["trace"] == [str(ARM)]
    assert answer["events"] == 2_000
    assert answer["mismatches"] == 0
    assert answer["first_mismatch"] is None
    assert answer["compared"] == sum(answer["comparisons"].values()) > 200
    assert answer["waived"]
    assert answer["seconds"] > 0


def test_command_line_refuses(tmp_path):
    assert invoke(tmp_path / "missing.trace").exit_code == 2
    empty = tmp_path / "empty.trace"
    empty.write_text("12 - MARK 1 0 nothing\n")
    result = invoke(empty)
    assert "nothing that could be replayed" in str(result.exception)
    assert invoke(ARM, "--limit", 0).exit_code == 2


# The other host


def test_under_cocotb():
    """The same answer, comparison for comparison."""
    slow = replay([LINUX_6_1], host="cocotb", limit=2_000)
    fast = replay([LINUX_6_1], limit=2_000)
    assert slow.host == "cocotb"
    assert (slow.events, slow.tally) == (fast.events, fast.tally)
    assert slow.tally.compared > 100


@pytest.mark.slow
def test_ten_thousand_events_under_cocotb():
    answer = replay([ARM], host="cocotb", limit=10_000)
    assert explain(answer) == []
    assert answer.tally == replay([ARM], limit=10_000).tally
