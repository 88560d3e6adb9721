"""A comparison for people: cells of a table, and the lines below it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from cnnport.agreement.matrix import Matrix, Row

COLUMNS = (
    "candidate",
    "max abs",
    "in std",
    "allowed",
    "SQNR dB",
    "cosine",
    "top-1",
    "KL",
    "batch",
    "repeat",
    "threads",
    "rebuild",
    "result",
)
NUMBERS = ("max abs", "in std", "allowed", "SQNR dB", "cosine", "top-1", "KL")

_CHECKS = ("batch", "repeat", "threads", "rebuild")

# More of one row would hide what is wrong with the others.
_MOST_FAILURES = 4


def cells(row: Row) -> tuple[str, ...]:
    """A row's cells, in the order of ``COLUMNS``."""
    metrics = row.metrics
    by_name = {check.name: str(check) for check in row.checks}
    checks = tuple(by_name.get(name, "-") for name in _CHECKS)
    result = "same" if row.ok else "FAILED"
    if metrics is None:
        return (row.label, *("-" for _ in NUMBERS), *checks, result)
    top1 = "-"
    if metrics.top1_agreement is not None and metrics.top1_interval is not None:
        low = metrics.top1_interval[0]
        top1 = f"{100 * metrics.top1_agreement:.1f} % (≥ {100 * low:.1f})"
    return (
        row.label,
        f"{metrics.max_abs:.1e}",
        f"{metrics.error_in_std:.1e}",
        str(row.tolerance),
        decibels(metrics.sqnr_db),
        f"{metrics.cosine:.6f}",
        top1,
        "-" if metrics.kl_mean is None else f"{metrics.kl_mean:.0e}",
        *checks,
        result,
    )


def lines_below(matrix: Matrix) -> list[str]:
    """What a table has no room for: failures first, then what was left out, and notes."""
    lines = [f"{matrix.reference}: {text}" for text in matrix.reference_failures]
    for row in matrix.rows:
        lines += [f"{row.label}: {text}" for text in row.failures[:_MOST_FAILURES]]
        if more := len(row.failures) - _MOST_FAILURES:
            lines += [f"{row.label}: and {more} more"] if more > 0 else []
    for row in matrix.rows:
        lines += [f"note: {row.label}: {text}" for text in row.notes]
    lines += [f"left out: {each.label}: {each.reason}" for each in matrix.left]
    lines += [f"note: {text}" for text in matrix.notes]
    return lines


def title(matrix: Matrix) -> str:
    """What is compared, over what."""
    sets = ", ".join(f"{len(each.inputs)} {each.inputs.name}" for each in matrix.answered)
    return f"{matrix.model} against {matrix.reference}: {sets}"


def cells_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The short cells of a row as JSON has it, for pages of many networks: see ``SHORT_COLUMNS``."""
    failed = [check["name"] for check in row["checks"] if check["pass"] is False]
    bits = [check["name"] for check in row["checks"] if check["same_bits"]]
    itself = f"not: {', '.join(failed)}" if failed else f"yes; same bits: {', '.join(bits) or 'none'}"
    if row["max_abs"] is None:
        return (row["runtime"], row["precision"], "-", "-", "-", "-", itself, "failed")
    agreement = row["top1_agreement"]
    interval = row.get("top1_interval")
    top1 = "-" if agreement is None else f"{100 * agreement:.1f} %"
    if interval:
        top1 += f" ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})"
    return (
        row["runtime"],
        row["precision"],
        f"{number(row['error_in_std']):.1e}",
        decibels(number(row["sqnr_db"])),
        f"{number(row['cosine']):.6f}",
        top1,
        itself,
        "same" if row["pass"] else "failed",
    )


SHORT_COLUMNS = (
    "runtime",
    "precision",
    "in std",
    "SQNR dB",
    "cosine",
    "top-1",
    "agrees with itself",
    "result",
)


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[str]) -> list[str]:
    """A table; the columns in ``left`` are set flush left, the others flush right."""
    lines = [
        "| " + " | ".join(columns) + " |",
        "|" + "|".join("---" if column in left else "--:" for column in columns) + "|",
    ]
    return lines + ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]


def number(value: float | str) -> float:
    """The other end of ``metrics.plain``."""
    return float(value)


def decibels(value: float) -> str:
    """A ratio for a table."""
    return "∞" if value == math.inf else f"{value:.1f}"
