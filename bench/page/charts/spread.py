"""Distributions of latency, one row for each case: a ridge of the samples over the marks of three percentiles."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from cnnport.measuring.page.charts import theme
from cnnport.measuring.page.charts.rows import Row, Y, texts
from cnnport.measuring.page.figure import Spec

BINS = 72

LOG_FROM = 6.0
"""How many times as slow as the fastest case the slowest is from which on the axis counts in powers of ten."""

_TOP_PX, _BASE_PX, _RIDGE_PX = 24.0, 21.0, 34.0


@dataclass(frozen=True)
class Spread:
    """One case.

    Attributes:
        row: Its text.
        samples_ms: In ascending order, at least one.
        p50_ms: Median.
        p90_ms: 90th percentile.
        p99_ms: 99th percentile.
        series: Index into the colours.
    """

    row: Row
    samples_ms: tuple[float, ...]
    p50_ms: float
    p90_ms: float
    p99_ms: float
    series: int


def spreads(entries: Sequence[Spread], *, narrow: bool) -> Spec:
    """A row for each case, in order; what is slower than every p99 lies beyond the axis."""
    # A little air, so that no ridge is cut off at its side.
    low = min(entry.samples_ms[0] for entry in entries) * 0.96
    high = max(entry.p99_ms for entry in entries) * 1.02
    fastest, slowest = (pick(entry.p50_ms for entry in entries) for pick in (min, max))
    logarithmic = low > 0 and slowest / fastest > LOG_FROM
    if high <= low:
        low, high = low * 0.9, low * 1.1 or 1.0
    scale: Spec = {"domain": [low, high], "nice": False, "zero": False}
    x = {
        "type": "quantitative",
        "scale": {**scale, "type": "log"} if logarithmic else scale,
        "axis": theme.axis("latency, ms (logarithmic)", values=theme.ticks(low, high), format="~g")
        if logarithmic
        else theme.axis("latency, ms"),
    }
    layers = [_ridges(entries, low, high, logarithmic=logarithmic, x=x), *_percentiles(entries, x)]
    layers += texts([entry.row for entry in entries], narrow=narrow, top_px=_TOP_PX)
    return theme.chart(layers, narrow=narrow, height={"step": 66})


def density(samples: Sequence[float], edges: Sequence[float]) -> list[float]:
    """Share of the samples in each bin, smoothed by its neighbours, the largest made 1.

    Args:
        samples: In ascending order; those outside the edges are left out.
        edges: One more than bins.
    """
    counts, place = [0.0] * (len(edges) - 1), 0
    for sample in samples:
        if sample < edges[0] or sample > edges[-1]:
            continue
        while place < len(counts) - 1 and sample >= edges[place + 1]:
            place += 1
        counts[place] += 1
    padded = [0.0, 0.0, *counts, 0.0, 0.0]
    weights = (1, 4, 6, 4, 1)
    smooth = [sum(w * padded[i + k] for k, w in enumerate(weights)) / 16 for i in range(len(counts))]
    largest = max(smooth, default=0.0)
    return [value / largest for value in smooth] if largest else smooth


def _ridges(entries: Sequence[Spread], low: float, high: float, *, logarithmic: bool, x: Spec) -> Spec:
    if logarithmic:
        edges = [low * math.exp(math.log(high / low) * k / BINS) for k in range(BINS + 1)]
        middles = [math.sqrt(a * b) for a, b in itertools.pairwise(edges)]
    else:
        edges = [low + (high - low) * k / BINS for k in range(BINS + 1)]
        middles = [(a + b) / 2 for a, b in itertools.pairwise(edges)]
    points: list[Spec] = []
    for row, entry in enumerate(entries):
        heights = density(entry.samples_ms, edges)
        outline = [(middles[k], heights[k]) for k in range(BINS) if heights[k] > 0]
        if not outline:
            continue
        closed = [(outline[0][0], 0.0), *outline, (outline[-1][0], 0.0)]
        points += [
            {"row": row, "ms": ms, "height": height, "order": order, "color": _color(entry)}
            for order, (ms, height) in enumerate(closed)
        ]
    return {
        "data": {"values": points},
        "mark": {"type": "line", "filled": True, "strokeWidth": 0, "fillOpacity": 0.32, "aria": False},
        "encoding": {
            "x": {"field": "ms", **x},
            "y": Y,
            "yOffset": {
                "field": "height",
                "type": "quantitative",
                "scale": {"domain": [0, 1], "range": [_BASE_PX + 33, _BASE_PX + 33 - _RIDGE_PX]},
            },
            "fill": {"field": "color", "type": "nominal", "scale": None},
            "detail": {"field": "row"},
            "order": {"field": "order"},
        },
    }


def _percentiles(entries: Sequence[Spread], x: Spec) -> list[Spec]:
    values = [
        {
            "row": row,
            "p50": entry.p50_ms,
            "p90": entry.p90_ms,
            "p99": entry.p99_ms,
            "color": _color(entry),
            "title": f"{entry.row.label}: p50 {entry.p50_ms:.4g}, p90 {entry.p90_ms:.4g}, p99 {entry.p99_ms:.4g} ms",
        }
        for row, entry in enumerate(entries)
    ]
    color = {"field": "color", "type": "nominal", "scale": None}

    def layer(mark: Spec, field: str, **encoding: Spec) -> Spec:
        return {
            "data": {"values": values},
            "mark": {"yOffset": _BASE_PX, "aria": False, **mark},
            "encoding": {"x": {"field": field, **x}, "y": Y, **encoding},
        }

    return [
        layer({"type": "rule", "strokeWidth": 1.5}, "p50", x2={"field": "p99"}, stroke=color),
        layer({"type": "tick", "thickness": 1.5, "height": 10}, "p90", color=color),
        layer(
            {"type": "point", "size": 40, "fill": theme.PAPER, "strokeWidth": 1.5, "opacity": 1},
            "p99",
            stroke=color,
        ),
        {
            **layer(
                {"type": "point", "size": 60, "opacity": 1, "strokeWidth": 0, "aria": True},
                "p50",
                fill=color,
                description={"field": "title"},
            ),
            "name": theme.DATA,
        },
    ]


def _color(entry: Spread) -> str:
    return theme.SERIES[entry.series % len(theme.SERIES)]
