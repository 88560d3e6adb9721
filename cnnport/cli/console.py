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


def table(title: str, *columns: str, numbers: tuple[str, ...] = ()) -> "Table":
    """An empty table; the columns in ``numbers`` are set flush right."""
    from rich import box
    from rich.table import Table

    made = Table(title=title or None, box=box.SIMPLE, title_justify="left", pad_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    return made


@contextmanager
def status(*, refresh_hz: float = 12.5) -> Iterator[Callable[[str], None]]:
    """Give a function that shows the step now in hand: a spinner on a terminal, nothing elsewhere.

    Args:
        refresh_hz: How often the spinner turns; a benchmark keeps it from waking the CPUs that are measured.
    """
    if settings.quiet or not sys.stderr.isatty():
        yield detail
        return
    from rich.console import Console

    with Console(stderr=True).status("", refresh_per_second=refresh_hz) as spinner:
        yield lambda step: spinner.update(f"{step} ...")


@contextmanager
def download_progress() -> Iterator[Callable[[int, int | None], None]]:
    """Give a function that shows a download's bytes: a bar on a terminal, nothing elsewhere."""
    if settings.quiet or not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("weights"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task("weights", total=None)

    def show(done: int, total: int | None) -> None:
        if not bar.live.is_started:
            bar.start()
        bar.update(task, completed=done, total=total)

    try:
        yield show
    finally:
        bar.stop()


def megabytes(count: float) -> str:
    """A number of bytes for people."""
    return f"{count / 1e6:.2f} MB"


def engineering(count: float) -> str:
    """A large count for people: 2.28 M, 144.9 M, 4.09 G."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.4g} {unit}"
    return str(count)
