"""How far runtimes and files are apart: a heat map of every comparison."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cnnport.measuring.page.charts import theme
from cnnport.measuring.page.charts.heat import Cell, heat
from cnnport.measuring.page.charts.rows import Row
from cnnport.measuring.page.documents import Document, Fields
from cnnport.measuring.page.figure import Figure, Key, Section, Table
from cnnport.measuring.page.words import command, file_word, number, percent, plural

ROWS_AT_MOST = 24

# Where a metric's next colour begins. Each is 0 where two agree entirely.
_STEPS = {
    "max |Δ|": (1e-6, 1e-5, 1e-4, 1e-3, 1e-2),
    "max rel": (1e-6, 1e-5, 1e-4, 1e-3, 1e-2),
    "1 \N{MINUS SIGN} cos": (1e-12, 1e-9, 1e-6, 1e-4, 1e-2),
    "top-1 ≠": (1e-9, 1e-3, 5e-3, 2e-2, 1e-1),
}


@dataclass(frozen=True)
class Parity:
    """One comparison.

    Attributes:
        reference: What is right.
        candidate: What is held against it.
        max_abs: Largest absolute difference; None where it is not told, as all that follow.
        max_rel: Largest relative one.
        cosine: Of the angle between the two.
        top1_agreement: Share of samples with the same first class.
        passed: The verdict.
        source: Name of the file that tells it.
        model: That the candidate is of; empty where the record does not tell, as all that follow.
        runtime: That it ran on.
        precision: That it computed in.
        failures: Why it does not pass, in sentences.
    """

    reference: str
    candidate: str
    max_abs: float | None
    max_rel: float | None
    cosine: float | None
    top1_agreement: float | None
    passed: bool
    source: str
    model: str = ""
    runtime: str = ""
    precision: str = ""
    failures: tuple[str, ...] = ()


def read_parities(documents: Iterable[Document]) -> tuple[Parity, ...]:
    """The rows of all parity checks among documents. Raises ``DocumentError``."""
    return tuple(
        _read(row, document.label)
        for document in documents
        if document.kind == "parity"
        for row in Fields(document.body, document.path).many("rows")
    )


def parity_section(rows: Sequence[Parity]) -> Section | None:
    """Heat maps, one for each reference; None without a row."""
    if not rows:
        return None
    figures = []
    for reference in dict.fromkeys(row.reference for row in rows):
        own = [row for row in rows if row.reference == reference]
        for start in range(0, len(own), ROWS_AT_MOST):
            part = f" ({start // ROWS_AT_MOST + 1})" if len(own) > ROWS_AT_MOST else ""
            figures.append(_figure(f"Parity with {reference}{part}", own[start : start + ROWS_AT_MOST]))
    return Section("Parity", "Whether every file and runtime says what the reference says.", tuple(figures))


def _read(row: Fields, source: str) -> Parity:
    return Parity(
        reference=row.text("reference"),
        candidate=row.text("candidate"),
        max_abs=row.number_or_none("max_abs"),
        max_rel=row.number_or_none("max_rel"),
        cosine=row.number_or_none("cosine"),
        top1_agreement=row.number_or_none("top1_agreement"),
        passed=row.flag("pass"),
        source=source,
        model=row.text("model", ""),
        runtime=row.text("runtime", ""),
        precision=row.text("precision", ""),
        failures=row.texts("failures"),
    )


def _figure(title: str, rows: Sequence[Parity]) -> Figure:
    columns = tuple(_STEPS)
    lines = [[_cell(row, name) for name in columns] for row in rows]
    labels = [Row(row.candidate, "pass" if row.passed else "FAILS") for row in rows]
    failed = [row for row in rows if not row.passed]
    worst = max(rows, key=lambda row: -1.0 if row.max_abs is None else row.max_abs)
    says = f"{len(rows) - len(failed)} of {plural(len(rows), 'comparison')} pass."
    if failed:
        says += (
            f" {', '.join(row.candidate for row in failed[:4])} {'does' if len(failed) == 1 else 'do'} not."
        )
    if worst.max_abs is not None:
        says += f" The largest difference is {number(worst.max_abs)}, of {worst.candidate}."
    cells = tuple(
        (
            row.candidate,
            number(row.max_abs),
            number(row.max_rel),
            "" if row.cosine is None else f"{row.cosine:.9f}",
            percent(row.top1_agreement, 2),
            "pass" if row.passed else "fails",
        )
        for row in rows
    )
    return Figure(
        title=title,
        says=says,
        tables=(
            Table(
                "Distances from the reference",
                ("candidate", "max abs", "max rel", "cosine", "top-1 agreement", "verdict"),
                cells,
                frozenset({0, 5}),
            ),
        ),
        drawing=lambda narrow: heat(columns, labels, lines, narrow=narrow),
        keys=(Key("as good as equal", theme.HEAT[0]), Key("far apart", theme.HEAT[5])),
        reading="Columns: largest absolute and relative difference, one minus the cosine, share of samples whose "
        "first class is another. Colours step by decades; the verdict follows the tolerances of the check.",
        command=(_command(rows),),
        command_note="" if rows[0].model else "Name the models, files and runtimes that the rows name.",
    )


def _cell(row: Parity, column: str) -> Cell:
    value = {
        "max |Δ|": row.max_abs,
        "max rel": row.max_rel,
        "1 \N{MINUS SIGN} cos": None if row.cosine is None else max(0.0, 1 - row.cosine),
        "top-1 ≠": None if row.top1_agreement is None else max(0.0, 1 - row.top1_agreement),
    }[column]
    if value is None:
        return Cell("", 0, f"{row.candidate}, {column}: not known")
    level = sum(value >= step for step in _STEPS[column])
    shown = percent(value, 1) if column == "top-1 ≠" else "0" if value == 0 else _decimal(value)
    return Cell(shown, level, f"{row.candidate}, {column}: {shown}")


def _decimal(value: float) -> str:
    """Two digits and a power of ten, without leading zeros in it."""
    exponent = math.floor(math.log10(value))
    return f"{value / 10.0**exponent:.1f}e{exponent}" if not -3 <= exponent <= 2 else f"{value:.2g}"


def _command(rows: Sequence[Parity]) -> str:
    words = [
        "cnnport",
        "parity",
        *(dict.fromkeys(file_word(row.model) for row in rows if row.model) or ("MODEL",)),
    ]
    for option, values in (
        ("--runtime", [row.runtime for row in rows]),
        ("--precision", [row.precision for row in rows]),
    ):
        if all(values):
            words += [option, ",".join(dict.fromkeys(values))]
    return command([*words, "--json"]) + f" > {command([file_word(rows[0].source)])}"
