"""Changes with their intervals and limits, one row for each."""

from collections.abc import Sequence
from dataclasses import dataclass

from cnnport.measuring.page.charts import theme
from cnnport.measuring.page.charts.rows import Row, Y, texts
from cnnport.measuring.page.figure import Spec

_BASE_PX = 11.0


@dataclass(frozen=True)
class Interval:
    """One row; all numbers are shares of 1.

    Attributes:
        row: Its text.
        change: What was found.
        low: Lower end of the interval.
        high: Upper end.
        limit: Where too much begins.
        series: Index into the colours and shapes.
    """

    row: Row
    change: float
    low: float
    high: float
    limit: float
    series: int


def intervals(entries: Sequence[Interval], *, narrow: bool, title: str) -> Spec:
    """A row for each, in order, about zero.

    Args:
        entries: At least one.
        narrow: For which screen.
        title: Of the axis.
    """
    values = [
        {
            "row": place,
            "zero": 0,
            "change": entry.change,
            "low": entry.low,
            "high": entry.high,
            "limit": entry.limit,
            "color": theme.SERIES[entry.series],
            "shape": theme.SHAPES[entry.series],
            "title": f"{entry.row.label}: {entry.change:+.1%} ({entry.low:+.1%} to {entry.high:+.1%}), "
            f"limit {entry.limit:+.1%}",
        }
        for place, entry in enumerate(entries)
    ]
    reach = [number for entry in entries for number in (entry.low, entry.high, entry.limit, 0.0)]
    room = (max(reach) - min(reach)) * 0.08 or 0.01
    x: Spec = {
        "type": "quantitative",
        "scale": {"domain": [min(reach) - room, max(reach) + room], "nice": False, "zero": False},
        "axis": theme.axis(title, format="+.0%" if max(reach) - min(reach) > 0.06 else "+.1%"),
    }
    color = {"field": "color", "type": "nominal", "scale": None}

    def layer(mark: Spec, field: str, **encoding: Spec) -> Spec:
        return {
            "data": {"values": values},
            "mark": {"yOffset": _BASE_PX, "aria": False, **mark},
            "encoding": {"x": {"field": field, **x}, "y": Y, **encoding},
        }

    layers = [
        {
            "data": {"values": values[:1]},
            "mark": {"type": "rule", "color": theme.MUTED, "strokeWidth": 1, "aria": False},
            "encoding": {"x": {"field": "zero", **x}},
        },
        layer({"type": "tick", "thickness": 1.5, "height": 14, "color": theme.INK}, "limit"),
        layer({"type": "rule", "strokeWidth": 3, "opacity": 0.5}, "low", x2={"field": "high"}, stroke=color),
        {
            **layer(
                {"type": "point", "size": 70, "strokeWidth": 0, "opacity": 1, "aria": True},
                "change",
                fill=color,
                shape={"field": "shape", "type": "nominal", "scale": None},
                description={"field": "title"},
            ),
            "name": theme.DATA,
        },
    ]
    rows = texts([entry.row for entry in entries], narrow=narrow, top_px=7)
    return theme.chart([*layers, *rows], narrow=narrow, height={"step": 40})
