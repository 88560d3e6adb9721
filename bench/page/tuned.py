"""What tuning tried, and what won: points of accuracy lost against latency."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cnnport.measuring.page.charts import theme
from cnnport.measuring.page.charts.trade import Trade, front, trades
from cnnport.measuring.page.documents import Document, Fields
from cnnport.measuring.page.figure import Figure, Key, Section, Table
from cnnport.measuring.page.measured import series_of
from cnnport.measuring.page.words import command, file_word, milliseconds, number, plural


@dataclass(frozen=True)
class Candidate:
    """One way to run the network.

    Attributes:
        name: In words.
        runtime: On what.
        latency_ms: None where it was not measured.
        lost: Points of accuracy; None where they were not judged.
        speedup: How many times as fast as the plain file; None likewise.
        outcome: Why it won or did not.
    """

    name: str
    runtime: str
    latency_ms: float | None
    lost: float | None
    speedup: float | None
    outcome: str


@dataclass(frozen=True)
class Tuning:
    """One search.

    Attributes:
        document: Where it was read.
        model: Name of the network.
        winner: Name of the candidate.
        why: It won.
        max_drop: Points that might be lost.
        candidates: All.
        notes: What else to know.
    """

    document: Document
    model: str
    winner: str
    why: str
    max_drop: float | None
    candidates: tuple[Candidate, ...]
    notes: tuple[str, ...]


def read_tunings(documents: Iterable[Document]) -> tuple[Tuning, ...]:
    """The searches among documents. Raises ``DocumentError``."""
    return tuple(_read(each) for each in documents if each.kind == "tune")


def tuned_section(searches: Sequence[Tuning]) -> Section | None:
    """A figure for each; None without one."""
    if not searches:
        return None
    lead = "Graphs, precisions, runtimes and numbers of threads, tried on this machine within a budget of accuracy."
    return Section("Tuning", lead, tuple(map(_figure, searches)))


def _read(document: Document) -> Tuning:
    fields = Fields(document.body, document.path)
    return Tuning(
        document=document,
        model=fields.text("model"),
        winner=fields.text("winner"),
        why=fields.text("why", ""),
        max_drop=fields.number_or_none("max_drop"),
        candidates=tuple(
            Candidate(
                each.text("name"),
                each.text("runtime", ""),
                each.number_or_none("latency_ms"),
                each.number_or_none("lost"),
                each.number_or_none("speedup"),
                each.text("outcome", ""),
            )
            for each in fields.many("candidates")
        ),
        notes=fields.texts("notes"),
    )


def _figure(found: Tuning) -> Figure:
    # The plain file loses nothing by definition, and nobody judges it.
    placed = [each for each in found.candidates if each.latency_ms is not None]
    best = front([(each.latency_ms or 0.0, -(each.lost or 0.0)) for each in placed])
    entries = tuple(
        Trade(each.name, each.latency_ms or 0.0, each.lost or 0.0, is_front, series_of(each.runtime))
        for each, is_front in zip(placed, best, strict=True)
    )
    winner = next((each for each in placed if each.name == found.winner), None)
    says = f"{found.winner} won: {found.why}."
    if winner is not None:
        says += f" It takes {milliseconds(winner.latency_ms)}."
    says += f" {plural(len(found.candidates), 'candidate')}, {len(placed)} of them measured."
    cells = tuple(
        (
            each.name,
            number(each.latency_ms),
            "" if each.speedup is None else f"{each.speedup:.2f}",
            "" if each.lost is None else f"{each.lost:.2f}",
            each.outcome,
        )
        for each in found.candidates
    )
    runtimes = dict.fromkeys(each.runtime for each in placed)
    columns = ("candidate", "latency, ms", "times as fast", "lost, points", "outcome")
    words = ["cnnport", "tune", file_word(found.model)]
    if found.max_drop is not None:
        words += ["--max-drop", f"{found.max_drop:g}%"]
    words += ["--report", file_word(found.document.label), "-o", "TUNED.onnx"]
    return Figure(
        title=f"Tuning of {found.model}",
        says=says,
        tables=(Table("All candidates", columns, cells, frozenset({0, 4})),),
        drawing=(lambda narrow: trades(entries, narrow=narrow, title="points lost", is_loss=True))
        if entries
        else None,
        keys=tuple(
            Key(name, theme.SERIES[series_of(name)], theme.SHAPES[series_of(name)])
            for name in runtimes
            if name
        ),
        reading="Where accuracy was not judged, nothing is taken to be lost.",
        command=(command(words),),
    )
