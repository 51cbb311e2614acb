"""Waveform regressions: a run against its golden."""

from collections.abc import Iterable
from pathlib import Path

from ..cache import cache_folder
from ..design import Design
from .comparison import leave_behind
from .golden import FLAG, Difference, Golden
from .reader import Waveform

FOLDER = Path(__file__).parent.parent / "golden"


class GoldenMismatchError(AssertionError):
    """A run is not as its golden; ``difference`` has the first net and clock if values differ."""

    def __init__(self, message: str, difference: Difference | None = None):
        super().__init__(message)
        self.difference = difference


def compare(
    vcd: Path,
    golden: Path,
    nets: Iterable[str],
    *,
    design: Design | None = None,
    first: int = 0,
    last: int | None = None,
    out: Path,
) -> None:
    """Compare ``nets`` in clocks ``first`` to ``last`` of ``vcd`` with the file ``golden``.

    Without ``last`` the run's length counts too. A :class:`GoldenMismatchError` says what differs
    first. Then the folder ``out`` has ``expected.vcd``, ``seen.vcd`` (the whole run), both side by
    side in ``comparison.vcd`` and a ``comparison.gtkw`` and ``comparison.png`` for it.
    """
    expected = Golden.parse(golden.read_text(), str(golden))
    waveform = Waveform(vcd, design)
    widths = {name: waveform.net(name).width for name in nets}
    if widths != expected.widths:
        ours = {f"{name} ({width} bits)" for name, width in expected.widths.items()}
        theirs = {f"{name} ({width} bits)" for name, width in widths.items()}
        parts = [
            f"{verb} {', '.join(sorted(nets))}"
            for verb, nets in (("has also", ours - theirs), ("lacks", theirs - ours))
            if nets
        ]
        raise GoldenMismatchError(f"{golden} {' and '.join(parts)}; if that is meant, {FLAG}")
    stop = waveform.clocks.stop if last is None else last + 1
    common = range(first, min(stop, expected.clocks.stop, waveform.clocks.stop))
    if first != expected.clocks.start or not common:
        raise GoldenMismatchError(
            f"{golden} has clocks {_said(expected.clocks)}, not {_said(range(first, stop))}; "
            f"if that is meant, {FLAG}"
        )
    seen = Golden.record(waveform, widths, common)
    difference = expected.until(common.stop).difference(seen)
    if difference is None and common.stop == stop == expected.clocks.stop:
        return
    if difference is not None:
        message = str(difference)
    elif common.stop < expected.clocks.stop and waveform.clocks.stop == common.stop:
        message = f"the run ends after clock {common.stop - 1}, as expected up to there"
    else:
        message = f"clocks {_said(range(first, stop))} were compared, as expected where golden"
    leave_behind(out, vcd, design, expected, seen, difference)
    raise GoldenMismatchError(
        f"{message}\n  golden: {golden}, clocks {_said(expected.clocks)}\n"
        f"  both waveforms: gtkwave {out / 'comparison.gtkw'}\n"
        f"  a picture: {out / 'comparison.png'}\n"
        f"  if the new one is right: pytest sim/ {FLAG}",
        difference,
    )


def _said(clocks: range) -> str:
    return f"{clocks.start} to {clocks.stop - 1}"


class Goldens:
    """The goldens of a test suite: text files in ``folder``, compared, or written anew.

    Parameters
    ----------
    folder : Path
    update : bool
        Take every run that is checked for the new golden.
    out : Path, optional
        Where differences are left, one folder each; default: ``differences`` in the cache folder.
    """

    def __init__(self, folder: Path = FOLDER, *, update: bool = False, out: Path | None = None):
        self.folder = folder
        self.update = update
        self.out = cache_folder() / "differences" if out is None else out

    def check(
        self,
        name: str,
        vcd: Path,
        design: Design | None,
        nets: Iterable[str],
        *,
        first: int = 0,
        last: int | None = None,
    ) -> None:
        """Pass if ``nets`` in clocks ``first`` to ``last`` (default: the end) of ``vcd`` are as in
        golden ``name``; otherwise raise :class:`GoldenMismatchError`."""
        nets = list(nets)
        if not nets:
            raise ValueError("nets must name at least one net")
        if first < 0:
            raise ValueError(f"first must not be negative, not {first}")
        path = self.folder / f"{name}.txt"
        if self.update:
            waveform = Waveform(vcd, design)
            stop = waveform.clocks.stop if last is None else last + 1
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(Golden.record(waveform, nets, range(first, stop)).text())
        elif not path.exists():
            raise GoldenMismatchError(
                f"there is no golden {path}; write it with pytest sim/ {FLAG}"
            )
        else:
            out = self.out / name
            compare(vcd, path, nets, design=design, first=first, last=last, out=out)
