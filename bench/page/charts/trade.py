"""Accuracy against latency, and the front on which nothing is both better and faster."""

from collections.abc import Sequence
from dataclasses import dataclass

from cnnport.measuring.page.charts import theme
from cnnport.measuring.page.figure import Spec
from cnnport.measuring.page.words import cut

NAMED_AT_MOST = 6


@dataclass(frozen=True)
class Trade:
    """One point.

    Attributes:
        label: Of what.
        latency_ms: Less is better.
        score: Accuracy, or what is lost of it.
        is_front: Whether nothing is at least as good in both and better in one.
        series: Index into the colours and shapes.
    """

    label: str
    latency_ms: float
    score: float
    is_front: bool
    series: int


def front(points: Sequence[tuple[float, float]]) -> tuple[bool, ...]:
    """Of points of cost and gain, whether each is beaten by none."""
    return tuple(
        not any(
            cost <= own_cost and gain >= own_gain and (cost, gain) != (own_cost, own_gain)
            for cost, gain in points
        )
        for own_cost, own_gain in points
    )


def trades(entries: Sequence[Trade], *, narrow: bool, title: str, is_loss: bool = False) -> Spec:
    """The points, and a line through those of the front.

    Args:
        entries: At least one.
        narrow: For which screen.
        title: What the score is, with its unit.
        is_loss: Whether less of it is better, which then is on top.
    """
    width = theme.width_of(narrow)
    fastest, slowest = (pick(entry.latency_ms for entry in entries) for pick in (min, max))
    room = (slowest - fastest) * 0.15 or fastest * 0.5
    domain = [max(0.0, fastest - room), slowest + room]
    scores = [entry.score for entry in entries]
    margin = (max(scores) - min(scores)) * 0.12 or 0.5
    values = [
        {
            "label": cut(entry.label, theme.letters_in(width * 0.42)),
            "ms": entry.latency_ms,
            "score": entry.score,
            "front": entry.is_front,
            "left": entry.latency_ms > sum(domain) / 2,
            "color": theme.SERIES[entry.series % len(theme.SERIES)],
            "shape": theme.SHAPES[entry.series % len(theme.SHAPES)],
            "title": f"{entry.label}: {entry.latency_ms:.4g} ms, {entry.score:.4g}",
        }
        for entry in entries
    ]
    position: Spec = {
        "x": {
            "field": "ms",
            "type": "quantitative",
            "scale": {"zero": False, "nice": False, "domain": domain},
            "axis": theme.axis("p50 latency, ms"),
        },
        "y": {
            "field": "score",
            "type": "quantitative",
            "scale": {
                "zero": False,
                "nice": False,
                "domain": [min(scores) - margin, max(scores) + margin],
                "reverse": is_loss,
            },
            "axis": theme.axis(title),
        },
    }
    chosen = {"values": [value for value in values if value["front"]]}
    layers: list[Spec] = [
        {
            "data": chosen,
            "mark": {
                "type": "line",
                "interpolate": "step-after",
                "color": theme.MUTED,
                "strokeDash": [3, 3],
                "strokeWidth": 1.5,
                "aria": False,
            },
            "encoding": {**position, "order": {"field": "ms"}},
        },
        {
            "name": theme.DATA,
            "data": {"values": values},
            "mark": {"type": "point", "size": 90, "filled": True, "opacity": 1},
            "encoding": {
                **position,
                "color": {"field": "color", "type": "nominal", "scale": None},
                "shape": {"field": "shape", "type": "nominal", "scale": None},
                "description": {"field": "title"},
            },
        },
    ]
    # All of a few points have their names, of many only those that matter; of those too near each other, the first.
    named: list[Spec] = []
    for value in sorted(
        values if len(values) <= NAMED_AT_MOST else chosen["values"], key=lambda each: not each["front"]
    ):
        if not any(
            abs(value["ms"] - other["ms"]) < (domain[1] - domain[0]) * 0.2
            and abs(value["score"] - other["score"]) < margin * 0.5
            for other in named
        ):
            named.append(value)
    for left in (False, True):
        text = theme.label("label", align="right" if left else "left", dx=-9 if left else 9, dy=-9)
        there = [value for value in named if value["left"] is left]
        layers.append(
            {"data": {"values": there}, "mark": text["mark"], "encoding": {**position, **text["encoding"]}}
        )
    return theme.chart(layers, narrow=narrow, height=260 if narrow else 320)
