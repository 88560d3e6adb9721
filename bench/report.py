"""Results as tables: for the terminal, as Markdown, as CSV, and as a file by its ending."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from cnnport.errors import CnnportError
from cnnport.files import write_atomically
from cnnport.measuring.cautions import cautions
from cnnport.measuring.record import Environment, Measurement, Results, Skipped, json_text
from cnnport.measuring.stability import spread

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, Group
    from rich.table import Table

Row: TypeAlias = Measurement | Skipped

# What tells rows apart. In tables, those that are the same in every row are said once.
_IDENTITY: dict[str, Callable[[Row], str]] = {
    "model": lambda row: row.model,
    "runtime": lambda row: row.runtime,
    "precision": lambda row: row.precision or "",
    "batch": lambda row: str(row.batch or ""),
    "threads": lambda row: str(row.threads or ""),
    "concurrency": lambda row: str(row.concurrency),
    "weights": lambda row: row.weights,
    "settings": lambda row: ", ".join(f"{name}={value}" for name, value in sorted(row.settings.items())),
}

LATENCIES = ("mean", "p50", "p90", "p95", "p99", "min", "max", "std")

_UNLIMITED = 10_000

CSV_COLUMNS = (
    *_IDENTITY,
    *(f"{name}_ms" for name in LATENCIES),
    "p50_low_ms",
    "p50_high_ms",
    "throughput",
    "load_s",
    "build_s",
    "peak_memory_bytes",
    "session_memory_bytes",
    "device_memory_bytes",
    "samples",
    "rounds",
    "sha256",
    "reason",
)


def check_format(target: Path) -> None:
    """Refuse a file whose ending names no format, before anything is measured. Raises ``CnnportError``."""
    if target.suffix.lower() not in _FORMATS:
        raise CnnportError(
            f"{target}: a benchmark is written as {', '.join(_FORMATS)}: end the name with one of them"
        )


def write_results(results: Results, target: Path) -> None:
    """Write results in the format that the file's ending names, whole or not at all.

    Args:
        results: What to write. Only JSON keeps the raw samples.
        target: ``.json``, ``.csv`` or ``.md``. An existing file is replaced.

    Raises:
        CnnportError: If the ending is another one.
        OutputError: If the file cannot be written.
    """
    check_format(target)
    write_atomically(target, _FORMATS[target.suffix.lower()](results).encode())


def csv_text(results: Results) -> str:
    """One row for every case, the skipped ones with their reason and without figures."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in results.results:
        writer.writerow(
            [
                *(text(row) for text in _IDENTITY.values()),
                *(f"{value * 1e3:.6f}" for value in row.latency_s.values()),
                f"{row.p50_interval_s.low * 1e3:.6f}",
                f"{row.p50_interval_s.high * 1e3:.6f}",
                f"{row.throughput:.6g}",
                f"{row.load_s:.6f}",
                f"{row.build_s:.6f}",
                row.peak_memory_bytes,
                row.session_memory_bytes,
                row.device_memory_bytes,
                len(row.samples_s),
                len(row.rounds),
                row.sha256,
                "",
            ]
        )
    for missed in results.skipped:
        figures = len(CSV_COLUMNS) - len(_IDENTITY) - 1
        writer.writerow([*(text(missed) for text in _IDENTITY.values()), *[""] * figures, missed.reason])
    return out.getvalue()


def markdown_text(results: Results) -> str:
    """Latency, loading, skipped cases, cautions and the environment, as GitHub shows them."""
    parts = []
    everything: list[Row] = [*results.results, *results.skipped]
    usual = {"settings": {""}, "concurrency": {"1"}}
    told = {name: text for name, text in _IDENTITY.items() if set(map(text, everything)) != usual.get(name)}
    if results.results:
        names = (*told, *LATENCIES, "images/s", "load s", "memory MiB")
        rows = [
            [*(text(row) for text in told.values()), *_latencies(row), *_resources(row)[:3]]
            for row in results.results
        ]
        parts.append("Latency in milliseconds.\n\n" + markdown_table(names, rows, left=len(told)))
    if results.skipped:
        rows = [[*(text(row) for text in told.values()), row.reason] for row in results.skipped]
        names = (*told, "reason")
        parts.append("Skipped:\n\n" + markdown_table(names, rows, left=len(names)))
    if found := cautions(results):
        parts.append("\n".join(f"- Caution ({each.code}): {each}" for each in found))
    if lines := environment_lines(results.environment):
        parts.append("\n".join(f"- {line}" for line in lines))
    return "\n\n".join(parts) + "\n"


def render(results: Results) -> "Group":
    """Everything that the terminal shows: latency, loading, skipped cases, cautions."""
    from rich.console import Group
    from rich.text import Text

    tables = [latency_table(results), resources_table(results)] if results.results else []
    if results.skipped:
        tables.append(skipped_table(results))
    # Text, so that brackets in a reason are not taken for markup.
    found = (Text(f"caution ({line.code}): {line}", style="yellow") for line in cautions(results))
    return Group(*tables, *found, *(Text(str(each)) for each in results.comparisons))


def latency_table(results: Results) -> "Group":
    """Mean, percentiles, extremes, deviation and throughput of every measured case."""
    figures = [[*_latencies(row), _resources(row)[0]] for row in results.results]
    return _table("Latency (ms)", results.results, (*LATENCIES, "images/s"), figures)


def resources_table(results: Results) -> "Group":
    """Load time, memory, and how much was measured, of every measured case.

    Build time and the device's memory have columns where there is any.
    """
    names = ["load s", "memory MiB", "of it session", "samples", "rounds", "spread", "95 % of p50"]
    figures = [
        [
            *_resources(row)[1:],
            _mebibytes(row.session_memory_bytes),
            str(len(row.samples_s)),
            str(len(row.rounds)),
            f"{spread(row):.1%}",
            " to ".join(milliseconds(end) for end in (row.p50_interval_s.low, row.p50_interval_s.high)),
        ]
        for row in results.results
    ]
    if any(row.build_s for row in results.results):
        names.insert(1, "build s")
        for cells, row in zip(figures, results.results, strict=True):
            cells.insert(1, f"{row.build_s:.3f}")
    if any(row.device_memory_bytes for row in results.results):
        names.append("device MiB")
        for cells, row in zip(figures, results.results, strict=True):
            cells.append(_mebibytes(row.device_memory_bytes))
    return _table("Loading and memory", results.results, names, figures)


def skipped_table(results: Results) -> "Group":
    """Every case that was not measured, with its reason."""
    return _table(
        "Skipped", results.skipped, ("reason",), [[row.reason] for row in results.skipped], text=True
    )


def environment_lines(environment: Environment) -> tuple[str, ...]:
    """The environment in a few lines: CPU, load, system, versions."""
    allowed = len(environment.cpus_allowed)
    cores = f"{environment.cores_physical} cores, {environment.cores_logical} CPUs, {allowed} allowed"
    quota = "" if environment.cpu_quota is None else f", quota {environment.cpu_quota:g}"
    clock = ", ".join(
        text
        for text in (
            environment.governor and f"governor {environment.governor}",
            environment.frequency_mhz and f"{environment.frequency_mhz:.0f} MHz",
            environment.memory_bytes and f"{environment.memory_bytes / 2**30:.1f} GiB memory",
            environment.load_average_start is not None
            and f"load average {environment.load_average_start} to {environment.load_average_end}",
        )
        if text
    )
    versions = ", ".join(f"{name} {version}" for name, version in environment.packages.items())
    lines = (
        environment.cpu_model and f"{environment.cpu_model}: {cores}{quota}",
        environment.cpu_flags and " ".join(environment.cpu_flags),
        clock,
        ", ".join(part for part in (environment.os, environment.kernel, environment.python) if part),
        versions,
        environment.date_utc,
    )
    return tuple(line for line in lines if line)


def _latencies(row: Measurement) -> list[str]:
    return [milliseconds(value) for value in row.latency_s.values()]


def _resources(row: Measurement) -> list[str]:
    """Throughput, load time, memory."""
    memory = _mebibytes(row.peak_memory_bytes)
    return [f"{row.throughput:.{_places(row.throughput)}f}", f"{row.load_s:.3f}", memory]


def _mebibytes(size: int | None) -> str:
    return f"{size / 2**20:.0f}" if size else ""


def milliseconds(seconds: float) -> str:
    """A latency as tables show it: in milliseconds, with about four digits."""
    value = seconds * 1e3
    return f"{value:.{_places(value)}f}"


def _places(value: float) -> int:
    """Decimal places that leave about four digits."""
    return 4 if value < 0.1 else 3 if value < 10 else 2 if value < 100 else 1 if value < 1000 else 0


def _varying(rows: Sequence[Row]) -> tuple[str, ...]:
    """What differs between rows; the runtime is always a column, so that no row is nameless."""
    return tuple(
        name for name, text in _IDENTITY.items() if name == "runtime" or len({text(row) for row in rows}) > 1
    )


def _table(
    title: str,
    rows: Sequence[Row],
    names: Sequence[str],
    cells: Sequence[Sequence[str]],
    *,
    text: bool = False,
) -> "Group":
    """A table under a line that says what all rows share.

    Args:
        title: What it shows.
        rows: At least one.
        names: Of the columns after those that tell the rows apart.
        cells: Of these columns.
        text: Whether they hold text, which may be broken, or figures, which may not.
    """
    from rich.console import Group
    from rich.text import Text

    varying = _varying(rows)
    shared = {name: value(rows[0]) for name, value in _IDENTITY.items() if name not in varying}
    said = " · ".join(
        f"{name}: {value}"
        for name, value in shared.items()
        if value and (name, value) != ("concurrency", "1")
    )
    wide = _columns(
        varying, [[_IDENTITY[name](row) for name in varying] for row in rows], names, cells, text=text
    )
    stacked = [["\n".join(_IDENTITY[name](row) for name in varying)] for row in rows]
    narrow = _columns([", ".join(varying)], stacked, names, cells, text=text)
    return Group(Text.assemble((title, "bold"), "  ", said), _Fitting(wide, narrow), "")


def _columns(
    identity: Sequence[str],
    identities: Sequence[Sequence[str]],
    names: Sequence[str],
    cells: Sequence[Sequence[str]],
    *,
    text: bool,
) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    # The air between columns is kept small: nine figures have to fit into a terminal of 80 columns.
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for name in identity:
        table.add_column(name, overflow="fold")
    for name in names:
        table.add_column(name, justify="left" if text else "right", no_wrap=not text, overflow="fold")
    for left, right in zip(identities, cells, strict=True):
        table.add_row(*(Text(cell) for cell in (*left, *right)))
    return table


@dataclass(frozen=True)
class _Fitting:
    """One column for everything that tells the rows apart, one thing a line, where the terminal is narrow."""

    wide: "Table"
    narrow: "Table"

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> Iterator["Table"]:
        from rich.measure import Measurement as Width

        needed = Width.get(console, options.update_width(_UNLIMITED), self.wide).maximum
        yield self.wide if needed <= options.max_width else self.narrow


def markdown_table(names: Sequence[str], rows: Sequence[Sequence[str]], *, left: int) -> str:
    """A table whose first ``left`` columns are text and the others figures."""
    lines = [list(names), ["---" if place < left else "---:" for place in range(len(names))], *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    """Text that cannot end its cell or its row."""
    return " ".join(text.replace("|", "\\|").split())


_FORMATS: dict[str, Callable[[Results], str]] = {".json": json_text, ".csv": csv_text, ".md": markdown_text}
