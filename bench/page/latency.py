"""How long runs take: distributions of latency, and throughput over batch."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from cnnport.measuring.page.charts import theme
from cnnport.measuring.page.charts.lines import Line, lines
from cnnport.measuring.page.charts.rows import Row
from cnnport.measuring.page.charts.spread import Spread, spreads
from cnnport.measuring.page.figure import Figure, Key, Section, Table
from cnnport.measuring.page.measured import (
    Measured,
    commands_of,
    common_of,
    name_of,
    names_of,
    rows_of,
    series_of,
)
from cnnport.measuring.page.words import megabytes, milliseconds, number, percent, plural, times
from cnnport.measuring.record import Measurement

ROWS_IN_ONE = 12
"""As many cases of several networks share a figure."""

ROWS_AT_MOST = 24

LINES_AT_MOST = 8

_READING = (
    "Each ridge shows how often a latency occurred, relative to the case's most frequent one. Below it the full "
    "dot is the median (p50), the stroke p90 and the open dot p99."
)


def latency_section(benchmarks: Sequence[Measured]) -> Section | None:
    """Distributions of all cases; None where nothing was measured."""
    rows = rows_of(benchmarks)
    if not rows:
        return None
    lead = (
        "One caller sends a batch as soon as the last one has come back. Medians are in bold, at the right."
    )
    if any(row.concurrency > 1 for row in rows):
        lead = "The time of each request. Medians are in bold, at the right."
    return Section(
        "Latency",
        lead,
        tuple(
            replace(_latencies(title, group, benchmarks), is_folded=is_folded)
            for title, group, is_folded in _groups(rows)
        ),
    )


def throughput_section(benchmarks: Sequence[Measured]) -> Section | None:
    """Images per second over batch, a figure for each network; None where no batch size is beside another."""
    figures = []
    rows = rows_of(benchmarks)
    for model in dict.fromkeys(row.model for row in rows):
        own = [row for row in rows if row.model == model]
        parts = {"": own}
        if len(_series(own)) > LINES_AT_MOST:
            parts = {}
            for row in own:
                parts.setdefault(f", {plural(row.threads, 'thread')}", []).append(row)
        figures += [
            figure
            for said, part in parts.items()
            if (figure := _throughput(f"{model}{said}", part, benchmarks)) is not None
        ]
    if not figures:
        return None
    lead = "What a larger batch gains in images per second, and where it stops to."
    return Section("Throughput over batch", lead, tuple(figures))


def _groups(rows: Sequence[Measurement]) -> Iterator[tuple[str, Sequence[Measurement], bool]]:
    """Cases that are seen best beside one another: a title, they, and whether they are folded away at first."""
    if len({row.model for row in rows}) == 1 and len(rows) <= ROWS_IN_ONE:
        yield rows[0].model, rows, False
        return
    if len(rows) <= ROWS_IN_ONE:
        yield "all cases", rows, False
        return
    for model in dict.fromkeys(row.model for row in rows):
        own = [row for row in rows if row.model == model]
        if len(own) <= ROWS_IN_ONE:
            yield model, own, False
            continue
        batches = sorted({row.batch for row in own})
        for batch in batches:
            same = [row for row in own if row.batch == batch]
            for start in range(0, len(same), ROWS_AT_MOST):
                part = f" ({start // ROWS_AT_MOST + 1})" if len(same) > ROWS_AT_MOST else ""
                yield f"{model}, batch {batch}{part}", same[start : start + ROWS_AT_MOST], batch != batches[0]


def _latencies(title: str, group: Sequence[Measurement], benchmarks: Sequence[Measured]) -> Figure:
    rows = sorted(group, key=lambda row: (row.model, row.batch, row.p50_s))
    entries = tuple(
        Spread(
            Row(name, milliseconds(row.p50_s * 1e3)),
            tuple(sorted(sample * 1e3 for sample in row.samples_s)),
            row.p50_s * 1e3,
            row.p90_s * 1e3,
            row.p99_s * 1e3,
            series_of(row.runtime),
        )
        for name, row in zip(names_of(rows), rows, strict=True)
    )
    slower = max(row.max_s for row in rows) > max(row.p99_s for row in rows) * 1.02
    reading = _READING + (" The axis ends after the last p99; maxima are in the table." if slower else "")
    return Figure(
        title=f"Latency of {title}",
        says=_fastest(rows),
        tables=(_latency_table(rows),),
        drawing=lambda narrow: spreads(entries, narrow=narrow),
        keys=_runtime_keys(rows),
        reading=reading,
        command=commands_of(benchmarks, rows),
    )


def _fastest(rows: Sequence[Measurement]) -> str:
    """Which case wins at each network and batch, in words."""
    sentences = []
    for model, batch in dict.fromkeys((row.model, row.batch) for row in rows):
        own = sorted(
            (row for row in rows if (row.model, row.batch) == (model, batch)), key=lambda row: row.p50_s
        )
        first = own[0]
        models, batches = ({getattr(row, name) for row in rows} for name in ("model", "batch"))
        told = ([model] if len(models) > 1 else []) + ([f"batch {batch}"] if len(batches) > 1 else [])
        prefix = ", ".join(told) if len(models) > 1 else ", ".join(told).capitalize()
        said = [f"{prefix}:"] if prefix else []
        traits = name_of(first, own)
        shared = common_of(own)
        leads = "is fastest with" if len(own) > 1 else "has"
        sentence = f"{traits} {leads} a median of {milliseconds(first.p50_s * 1e3)}" + (
            f" ({shared})" if shared and not said else ""
        )
        other = next(
            (row for row in own[1:] if row.runtime != first.runtime), own[1] if len(own) > 1 else None
        )
        if other is not None and first.p50_s:
            ratio = times(other.p50_s / first.p50_s)
            sentence += f"; {name_of(other, own)} takes {ratio} as long"
        sentences.append(" ".join([*said, sentence]) + ".")
        if len(sentences) == 4:
            break
    return " ".join(sentences)


def _runtime_keys(rows: Sequence[Measurement]) -> tuple[Key, ...]:
    names = dict.fromkeys(row.runtime for row in rows)
    return (
        tuple(Key(name, theme.SERIES[series_of(name)], "circle") for name in names) if len(names) > 1 else ()
    )


def _latency_table(rows: Sequence[Measurement]) -> Table:
    figures = ("mean", "p50", "p90", "p95", "p99", "min", "max", "std")
    head = ("case", *figures, "p50 interval", "images/s", "load, s", "memory", "samples", "rounds apart")
    cells = []
    for name, row in zip(names_of(rows), rows, strict=True):
        medians = row.round_medians_s
        apart = max(medians) / min(medians) - 1 if min(medians) > 0 else 0.0
        interval = row.p50_interval_s
        cells.append(
            (
                name,
                *(number(row.latency_s[figure] * 1e3) for figure in figures),
                f"{number(interval.low * 1e3)} to {number(interval.high * 1e3)}",
                number(row.throughput),
                number(row.load_s),
                megabytes(row.peak_memory_bytes) if row.peak_memory_bytes else "",
                str(len(row.samples_s)),
                percent(apart) if len(medians) > 1 else "",
            )
        )
    caption = f"Latency in milliseconds{_said(rows)}"
    return Table(caption, head, tuple(cells))


def _said(rows: Sequence[Measurement]) -> str:
    shared = common_of(rows)
    return f" ({shared})" if shared else ""


def _series(rows: Sequence[Measurement]) -> dict[str, list[Measurement]]:
    """Rows that differ in nothing but the batch, with at least two of those."""
    found: dict[str, list[Measurement]] = {}
    for row in rows:
        found.setdefault(name_of(row, rows, without=("batch", "model")), []).append(row)
    return {name: own for name, own in found.items() if len({row.batch for row in own}) > 1}


def _throughput(title: str, rows: Sequence[Measurement], benchmarks: Sequence[Measured]) -> Figure | None:
    series = _series(rows)
    if not series:
        return None
    variants: dict[str, int] = {}
    entries, keys = [], []
    for name, own in series.items():
        runtime = own[0].runtime
        variant = variants[runtime] = variants.get(runtime, -1) + 1
        # Two files of one network may share everything that is told of them: the faster stands for both.
        best = {row.batch: row.throughput for row in sorted(own, key=lambda row: row.throughput)}
        entries.append(Line(name, tuple(sorted(best.items())), series_of(runtime), variant))
        shape = theme.SHAPES[variant % len(theme.SHAPES)]
        keys.append(Key(name, theme.SERIES[series_of(runtime)], shape))
    used = [row for own in series.values() for row in own]
    best_row = max(used, key=lambda row: row.throughput)
    says = (
        f"Most images per second: {number(best_row.throughput)}, with "
        f"{name_of(best_row, used, without=('batch', 'model'))} at batch {best_row.batch}."
    )
    if gain := _gain(entries):
        says += f" {gain}"
    batches = sorted({row.batch for row in used})
    cells = tuple(
        (line.name, *(number(dict(line.points).get(batch)) for batch in batches)) for line in entries
    )
    return Figure(
        title=f"Throughput of {title}",
        says=says,
        tables=(Table("Images per second", ("case", *(f"batch {batch}" for batch in batches)), cells),),
        drawing=lambda narrow: lines(entries, narrow=narrow),
        keys=tuple(keys),
        command=commands_of(benchmarks, used),
    )


def _gain(entries: Sequence[Line]) -> str:
    """How far each series rises above its smallest batch, in words."""
    gains = [
        max(rate for _, rate in line.points) / line.points[0][1] for line in entries if line.points[0][1]
    ]
    if not gains:
        return ""
    low, high = (times(pick(gains)) for pick in (min, max))
    span = low if low == high else f"{low} to {high}"
    return f"A series' best batch gives {span} the images of its smallest."
