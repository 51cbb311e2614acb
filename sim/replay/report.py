"""A replay's answer for people."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from .session import Answer

SHOWN = 10


@contextmanager
def replay_progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, none when piped."""
    console = Console(stderr=True)
    columns = (TextColumn("replay"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task("replay")
        yield lambda done, total: progress.update(task, completed=done, total=total)


def print_answer(answer: Answer, console: Console) -> None:
    """What was compared, what was waived and why, the first mismatches."""
    tally = answer.tally
    for title, heading, counts in (
        ("compared", "comparisons", tally.kinds),
        ("not compared, or waived", "reason", tally.waived),
    ):
        table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column("count", justify="right")
        table.add_column(heading, overflow="fold")
        for name, count in counts.most_common():
            table.add_row(f"{count:,}", name)
        console.print(table)
    for mismatch in tally.found[:SHOWN]:
        console.print(f"mismatch: {mismatch}", highlight=False, soft_wrap=True, markup=False)
    if tally.mismatches > SHOWN:
        console.print(f"… and {tally.mismatches - SHOWN:,} more")
    console.print(
        f"{answer.events:,} events on the {answer.host} host in {answer.seconds:.1f} s, "
        f"{answer.rate:,.0f} a second: {tally.compared:,} comparisons, "
        f"{tally.mismatches:,} mismatches."
    )
