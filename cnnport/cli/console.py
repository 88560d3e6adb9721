"""Where output goes: results to standard output, notes and progress to standard error."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


@dataclass
class Settings:
    """What the options before the command say."""

    verbose: bool = False
    quiet: bool = False
    debug: bool = False


settings = Settings()


def print_json(value: Any) -> None:
    """The one JSON document of a command with --json."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))  # noqa: T201


def note(text: str) -> None:
    """A line for people on standard error, unless --quiet."""
    if not settings.quiet:
        print(text, file=sys.stderr)  # noqa: T201


def error(text: str) -> None:
    """A line on standard error that is never silenced."""
    print(f"error: {text}", file=sys.stderr)  # noqa: T201


def detail(text: str) -> None:
    """A line on standard error with --verbose."""
    if settings.verbose and not settings.quiet:
        print(text, file=sys.stderr)  # noqa: T201


def results() -> "Console":
    """Standard output; where it is not a terminal, lines are not cut to a width that nobody sees."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=200)


def say(text: str) -> None:
    """A line of results as it is: not wrapped, and square brackets are no markup."""
    results().print(text, markup=False, soft_wrap=True)


def table(title: str, *columns: str, numbers: tuple[str, ...] = ()) -> "Table":
    """An empty table; the columns in ``numbers`` are set flush right."""
    from rich import box
    from rich.table import Table

    made = Table(title=title or None, box=box.SIMPLE, title_justify="left", pad_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    return made


@dataclass(frozen=True)
class Progress:
    """What a long command tells while it works: the step now in hand, how far it is, and the bytes of a download."""

    step: Callable[[str], None]
    download: Callable[[int, int | None], None]
    count: Callable[[int, int], None]


@contextmanager
def progress(*, refresh_hz: float = 12.5) -> Iterator[Progress]:
    """Show progress on standard error: a spinner and a bar on a terminal, with --verbose the steps elsewhere.

    Args:
        refresh_hz: How often the spinner turns; a benchmark keeps it from waking the CPUs that are measured.
    """
    if settings.quiet or not sys.stderr.isatty():
        yield Progress(detail, lambda _done, _total: None, lambda _done, _total: None)
        return
    from rich import progress as bars
    from rich.console import Console, Group
    from rich.live import Live

    steps = bars.Progress(bars.SpinnerColumn(), bars.TextColumn("{task.description} ..."))
    columns = (
        bars.BarColumn(),
        bars.DownloadColumn(),
        bars.TransferSpeedColumn(),
        bars.TimeRemainingColumn(),
    )
    fetched = bars.Progress(*columns)
    counted = bars.Progress(bars.BarColumn(), bars.MofNCompleteColumn(), bars.TimeRemainingColumn())
    step = steps.add_task("starting", total=None)
    download = fetched.add_task("", total=None, visible=False)
    count = counted.add_task("", total=None, visible=False)

    def show_step(name: str) -> None:
        # Descriptions are markup; names of networks and counts in brackets are not.
        steps.update(step, description=name.replace("[", r"\["))
        fetched.update(download, visible=False)
        counted.update(count, visible=False)

    def show_bytes(done: int, total: int | None) -> None:
        fetched.update(download, completed=done, total=total, visible=True)

    def show_count(done: int, total: int) -> None:
        counted.update(count, completed=done, total=total, visible=done < total)

    console = Console(stderr=True)
    shown = Group(steps, fetched, counted)
    with Live(shown, console=console, refresh_per_second=refresh_hz, transient=True):
        yield Progress(show_step, show_bytes, show_count)


def megabytes(count: float) -> str:
    """A number of bytes for people."""
    return f"{count / 1e6:.2f} MB"


def engineering(count: float) -> str:
    """A large count for people: 2.28 M, 144.9 M, 4.09 G."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.4g} {unit}"
    return str(count)
