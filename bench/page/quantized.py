"""What 8 bits cost and gain: what was tried, accuracy against latency, and the layers that lose most."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cnnport.measuring.page.charts.bars import Bar, bars
from cnnport.measuring.page.charts.rows import Row
from cnnport.measuring.page.charts.trade import Trade, trades
from cnnport.measuring.page.documents import Document, Fields
from cnnport.measuring.page.figure import Figure, Section, Table
from cnnport.measuring.page.words import command, file_word, number, plural

BARS_AT_MOST = 16


@dataclass(frozen=True)
class Point:
    """One attempt that was judged.

    Attributes:
        steps: What was done, in words.
        lost: Points of accuracy or agreement; None where it is not known.
        sqnr_db: Of the outputs; None likewise.
        latency_ms: None where it was not measured.
        is_best: Whether nothing is both faster and nearer.
    """

    steps: str
    lost: float | None
    sqnr_db: float | None
    latency_ms: float | None
    is_best: bool


@dataclass(frozen=True)
class Sensitive:
    """One layer.

    Attributes:
        node: Its name.
        operator: What it computes.
        is_int8: Whether it is in 8 bits in the file.
        why: By which rule.
        alone_db: SQNR of the outputs where it alone is in 8 bits; None where it was not measured.
    """

    node: str
    operator: str
    is_int8: bool
    why: str
    alone_db: float | None


@dataclass(frozen=True)
class Quantization:
    """One report.

    Attributes:
        document: Where it was read.
        name: Of the file that was made.
        source: Of the file that it was made of.
        target: The runtime that it is for.
        calibration: What ranges were found on, as an option.
        samples: How many.
        points: What was judged.
        layers: All of them.
        ratio: How many times as fast as float32; None where it was not measured.
        notes: Sentences.
    """

    document: Document
    name: str
    source: str
    target: str
    calibration: str
    samples: float | None
    points: tuple[Point, ...]
    layers: tuple[Sensitive, ...]
    ratio: float | None
    notes: tuple[str, ...]


def read_quantizations(documents: Iterable[Document]) -> tuple[Quantization, ...]:
    """The reports on 8 bits among documents. Raises ``DocumentError``."""
    return tuple(_read(each) for each in documents if each.kind == "quantize")


def quantized_section(reports: Sequence[Quantization]) -> Section | None:
    """Accuracy against latency and sensitive layers for each report; None without one."""
    figures = [
        figure for each in reports for figure in (_trade(each), _sensitivity(each)) if figure is not None
    ]
    if not figures:
        return None
    lead = "Each file in 8 bits was judged on samples against its float form, and repaired where it lost too much."
    return Section("Quantization to 8 bits", lead, tuple(figures))


def _read(document: Document) -> Quantization:
    fields = Fields(document.body, document.path)
    calibration = fields.one_or_none("calibration")
    speed = fields.one_or_none("speed")
    ratio = speed.one_or_none("ratio") if speed else None
    return Quantization(
        document=document,
        name=_last(fields.text("path", "")) or document.label,
        source=_last(fields.text("source", "")) or "IN.onnx",
        target=fields.text("target", ""),
        calibration=calibration.text("source", "") if calibration else "",
        samples=calibration.number_or_none("count") if calibration else None,
        points=tuple(
            Point(
                ", ".join(each.texts("steps")),
                each.number_or_none("lost"),
                each.number_or_none("sqnr_db"),
                each.number_or_none("latency_ms"),
                each.flag("is_best_trade", default=False),
            )
            for each in fields.many("pareto")
        ),
        layers=tuple(
            Sensitive(
                each.text("node"),
                each.text("operator", ""),
                each.flag("int8", default=False),
                each.text("why", ""),
                each.number_or_none("alone_sqnr_db"),
            )
            for each in fields.many("layers")
        ),
        ratio=ratio.number_or_none("median") if ratio else None,
        notes=fields.texts("notes"),
    )


def _trade(found: Quantization) -> Figure | None:
    if not found.points:
        return None
    placed = [point for point in found.points if point.latency_ms is not None and point.lost is not None]
    entries = tuple(
        Trade(
            point.steps,
            point.latency_ms or 0.0,
            point.lost or 0.0,
            point.is_best,
            0 if point.steps == "float32" else 1,
        )
        for point in placed
    )
    cells = tuple(
        (
            point.steps,
            "" if point.lost is None else f"{point.lost:.2f}",
            "" if point.sqnr_db is None else f"{point.sqnr_db:.1f}",
            number(point.latency_ms),
            "yes" if point.is_best else "",
        )
        for point in found.points
    )
    said = []
    if found.ratio is not None:
        said.append(f"{found.name} is {found.ratio:.2f} times as fast as float32.")
    tried = [point for point in found.points if point.steps != "float32"]
    last = tried[-1] if tried else None
    if last is not None and last.lost is not None:
        said.append(f"{plural(len(tried), 'attempt')} judged; the last lost {last.lost:.2f} points.")
    if found.samples is not None:
        said.append(f"Ranges come from {found.samples:.0f} samples ({found.calibration}).")
    columns = ("steps", "lost, points", "SQNR, dB", "latency, ms", "undominated")
    return Figure(
        title=f"Accuracy and latency of {found.name}",
        says=" ".join(said) or "What was judged.",
        tables=(Table("What was judged", columns, cells, frozenset({0, 4})),),
        drawing=(lambda narrow: trades(entries, narrow=narrow, title="points lost", is_loss=True))
        if entries
        else None,
        reading="Lost are points of right answers where labels are known, of agreement with float32 elsewhere."
        if entries
        else "",
        command=(_command(found),),
        is_open=not entries,
    )


def _sensitivity(found: Quantization) -> Figure | None:
    measured = sorted(
        (layer for layer in found.layers if layer.alone_db is not None),
        key=lambda layer: layer.alone_db or 0.0,
    )
    if not measured:
        return None
    shown = measured[:BARS_AT_MOST]
    entries = tuple(
        Bar(
            Row(
                layer.node,
                f"{layer.alone_db:.1f} dB",
                f"{layer.operator} — in {'8 bits' if layer.is_int8 else 'float'}",
            ),
            max(layer.alone_db or 0.0, 0.0),
            0 if layer.is_int8 else 1,
        )
        for layer in shown
    )
    first = measured[0]
    cells = tuple(
        (
            layer.node,
            layer.operator,
            "" if layer.alone_db is None else f"{layer.alone_db:.1f}",
            "8 bits" if layer.is_int8 else "float",
            layer.why,
        )
        for layer in (*measured, *(each for each in found.layers if each.alone_db is None))
    )
    return Figure(
        title=f"Layers of {found.name} that lose most",
        says=f"{first.node} is the most sensitive of {plural(len(measured), 'layer')}: "
        f"alone in 8 bits it leaves {first.alone_db:.1f} dB.",
        tables=(
            Table(
                "All layers, the most sensitive first",
                ("layer", "operator", "alone, dB", "in", "why"),
                cells,
                frozenset({0, 1, 3, 4}),
            ),
        ),
        drawing=lambda narrow: bars(
            entries, narrow=narrow, title="SQNR of the outputs with this layer alone in 8 bits, dB"
        ),
        reading="Shorter is worse."
        + (f" The {len(shown)} shortest are drawn." if len(measured) > len(shown) else ""),
        command=(_command(found),),
    )


def _command(found: Quantization) -> str:
    words = ["cnnport", "quantize", file_word(found.source), "-o", file_word(found.name)]
    if found.target:
        words += ["--target", found.target]
    # The report tells the source in words; a folder's path stays on the machine that it lies on.
    source = next((kind for kind in ("random", "digits") if kind in found.calibration), "")
    count = f":{found.samples:.0f}" if found.samples is not None else ""
    words += ["--calibration", f"{source}{count}" if source else "DIR"]
    return command([*words, "--report", file_word(found.document.label)])


def _last(path: str) -> str:
    return path.replace("\\", "/").rsplit("/", 1)[-1]
