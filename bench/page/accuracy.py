"""Accuracy beside latency: what an evaluation found, joined with what a benchmark measured of the same file."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cnnport.measuring.page.charts import theme
from cnnport.measuring.page.charts.trade import Trade, front, trades
from cnnport.measuring.page.documents import Document, DocumentError, Fields
from cnnport.measuring.page.figure import Figure, Key, Section, Table
from cnnport.measuring.page.measured import Measured, commands_of, rows_of, series_of
from cnnport.measuring.page.words import command, file_word, listed, milliseconds, number, percent, plural
from cnnport.measuring.record import Measurement


@dataclass(frozen=True)
class Evaluation:
    """Accuracy of one file on one runtime.

    Attributes:
        model: Name of the network.
        runtime: Name of the runtime.
        precision: Empty where the record does not tell.
        sha256: Of the file, likewise.
        top1: Share of pictures classified right.
        top5: Share of those whose class is among the first five; None where it is not told.
        count: Pictures; None where it is not told.
        skipped: Pictures that could not be read.
        data: What was evaluated on; empty where the record does not tell.
    """

    model: str
    runtime: str
    precision: str
    sha256: str
    top1: float
    top5: float | None
    count: int | None
    skipped: int
    data: str

    @property
    def name(self) -> str:
        """In words."""
        return " · ".join(part for part in (self.model, self.runtime, self.precision) if part)


def read_evaluations(documents: Iterable[Document]) -> tuple[Evaluation, ...]:
    """The evaluations among documents. Raises ``DocumentError``."""
    found: list[Evaluation] = []
    for each in documents:
        if each.kind == "evaluate":
            fields = Fields(each.body, each.path)
            # One document may hold several; then what is at its top is the first of them again.
            found += [_read(row, each.path) for row in fields.many("evaluations") or (fields,)]
    return tuple(found)


def accuracy_section(evaluations: Sequence[Evaluation], benchmarks: Sequence[Measured]) -> Section | None:
    """Accuracy against latency for each network; where no latency is known, accuracy alone."""
    if not evaluations:
        return None
    rows = rows_of(benchmarks)
    figures = []
    for model in dict.fromkeys(each.model for each in evaluations):
        own = [each for each in evaluations if each.model == model]
        pairs = [(each, row) for each in own for row in _rows_for(each, rows)]
        figures.append(_trade(model, own, pairs, benchmarks) if pairs else _alone(model, own))
    lead = "What a faster file or runtime costs in right answers. On the dotted line none is both faster and better."
    if not any(figure.drawing for figure in figures):
        lead = "Share of right answers. With a benchmark of the same files, latency stands beside it."
    return Section("Accuracy and latency", lead, tuple(figures))


def _read(fields: Fields, path: Path) -> Evaluation:
    shares = {name: fields.number_or_none(name) for name in ("top1", "top5")}
    for name, share in shares.items():
        if share is not None and not 0 <= share <= 1:
            raise DocumentError(f"{path} is damaged: {name!r} is a share from 0 to 1, not {share:g}")
    return Evaluation(
        model=fields.text("model"),
        runtime=fields.text("runtime"),
        precision=fields.text("precision", ""),
        sha256=fields.text("sha256", ""),
        top1=fields.number("top1"),
        top5=shares["top5"],
        count=None if fields.number_or_none("count") is None else fields.count("count"),
        skipped=0 if fields.number_or_none("skipped") is None else fields.count("skipped"),
        data=fields.text("data", ""),
    )


def _rows_for(found: Evaluation, rows: Sequence[Measurement]) -> list[Measurement]:
    """Of the measurements that fit, at the smallest batch, one for each precision and number of threads."""
    fit = [row for row in rows if row.runtime == found.runtime and _is_same(found, row)]
    smallest = min((row.batch for row in fit), default=0)
    best: dict[tuple[str, int], Measurement] = {}
    for row in sorted((row for row in fit if row.batch == smallest), key=lambda row: row.p50_s):
        best.setdefault((row.precision, row.threads), row)
    return list(best.values())


def _is_same(found: Evaluation, row: Measurement) -> bool:
    if found.sha256 and row.sha256:
        return found.sha256 == row.sha256
    return row.model == found.model and found.precision in {"", row.precision}


def _trade(
    model: str,
    own: Sequence[Evaluation],
    pairs: Sequence[tuple[Evaluation, Measurement]],
    benchmarks: Sequence[Measured],
) -> Figure:
    threads = {row.threads for _, row in pairs}

    def name(row: Measurement) -> str:
        said = f" · {plural(row.threads, 'thread')}" if len(threads) > 1 else ""
        return f"{row.runtime} · {row.precision}{said}"

    best = front([(row.p50_s, found.top1) for found, row in pairs])
    entries = tuple(
        Trade(name(row), row.p50_s * 1e3, found.top1 * 100, is_front, series_of(row.runtime))
        for (found, row), is_front in zip(pairs, best, strict=True)
    )
    chosen = sorted((entry for entry in entries if entry.is_front), key=lambda entry: entry.latency_ms)
    fastest, most = chosen[0], max(entries, key=lambda entry: entry.score)
    says = f"Fastest is {fastest.label}: {milliseconds(fastest.latency_ms)} at {fastest.score:.2f} % top-1"
    if most.score > fastest.score:
        says += f"; most accurate {most.label} with {most.score:.2f} %, {milliseconds(most.latency_ms)}"
    missing = [each.name for each in own if not any(found is each for found, _ in pairs)]
    says += f". No latency is known of {listed(missing)}." if missing else "."
    batch = pairs[0][1].batch
    cells = tuple(
        (
            entry.label,
            number(entry.latency_ms),
            f"{entry.score:.2f}",
            percent(found.top5, 2),
            _count(found),
            "yes" if entry.is_front else "",
        )
        for entry, (found, _) in zip(entries, pairs, strict=True)
    )
    columns = ("case", "p50, ms", "top-1, %", "top-5", "pictures", "undominated")
    shapes = dict.fromkeys(row.runtime for _, row in pairs)
    return Figure(
        title=f"Accuracy and latency of {model}",
        says=says,
        tables=(Table(f"Latency at batch {batch}, accuracy", columns, cells, frozenset({0, 5})),),
        drawing=lambda narrow: trades(entries, narrow=narrow, title="top-1, %"),
        keys=tuple(
            Key(runtime, theme.SERIES[series_of(runtime)], theme.SHAPES[series_of(runtime)])
            for runtime in shapes
        ),
        command=(*_commands(own), *commands_of(benchmarks, [row for _, row in pairs])),
    )


def _alone(model: str, own: Sequence[Evaluation]) -> Figure:
    best = max(own, key=lambda each: each.top1)
    cells = tuple(
        (each.name, f"{each.top1 * 100:.2f}", percent(each.top5, 2), _count(each), str(each.skipped or ""))
        for each in own
    )
    return Figure(
        title=f"Accuracy of {model}",
        says=f"Best is {best.name} with {best.top1 * 100:.2f} % top-1.",
        tables=(Table("Accuracy", ("case", "top-1, %", "top-5", "pictures", "left out"), cells),),
        command=_commands(own),
        is_open=True,
    )


def _commands(own: Sequence[Evaluation]) -> tuple[str, ...]:
    return tuple(
        command(
            [
                "cnnport",
                "evaluate",
                file_word(each.model),
                "--data",
                each.data or "DIR",
                "--runtime",
                each.runtime,
                "--json",
            ]
        )
        for each in own
    )


def _count(found: Evaluation) -> str:
    return "" if found.count is None else str(found.count)
