"""Counts before and after, one row for each kind: an open dot before, a full one after."""

from collections.abc import Sequence
from dataclasses import dataclass

from cnnport.measuring.page.charts import theme
from cnnport.measuring.page.charts.rows import Row, Y, texts
from cnnport.measuring.page.figure import Spec

_BASE_PX = 11.0


@dataclass(frozen=True)
class Change:
    """One row.

    Attributes:
        label: What is counted.
        before: How many there were.
        after: How many there are.
    """

    label: str
    before: int
    after: int


def changes(entries: Sequence[Change], *, narrow: bool, title: str) -> Spec:
    """A row for each, in order.

    Args:
        entries: At least one.
        narrow: For which screen.
        title: Of the axis.
    """
    values = [
        {
            "row": place,
            "before": entry.before,
            "after": entry.after,
            "color": theme.SERIES[_series(entry)],
            "title": f"{entry.label}: {entry.before} before, {entry.after} after",
        }
        for place, entry in enumerate(entries)
    ]
    most = max(max(entry.before, entry.after) for entry in entries) or 1
    x: Spec = {
        "type": "quantitative",
        "scale": {"domain": [0, most * 1.04], "nice": False},
        "axis": theme.axis(title, format="d", tickMinStep=1),
    }
    color = {"field": "color", "type": "nominal", "scale": None}

    def layer(mark: Spec, field: str, **encoding: Spec) -> Spec:
        return {
            "data": {"values": values},
            "mark": {"yOffset": _BASE_PX, "aria": False, **mark},
            "encoding": {"x": {"field": field, **x}, "y": Y, **encoding},
        }

    layers = [
        layer(
            {"type": "rule", "strokeWidth": 3, "opacity": 0.4}, "before", x2={"field": "after"}, stroke=color
        ),
        layer(
            {"type": "point", "size": 70, "fill": theme.PAPER, "strokeWidth": 1.5, "opacity": 1},
            "before",
            stroke=color,
        ),
        {
            **layer(
                {"type": "point", "size": 70, "strokeWidth": 0, "opacity": 1, "aria": True},
                "after",
                fill=color,
                description={"field": "title"},
            ),
            "name": theme.DATA,
        },
    ]
    rows = [Row(entry.label, f"{entry.before} → {entry.after}") for entry in entries]
    return theme.chart([*layers, *texts(rows, narrow=narrow, top_px=7)], narrow=narrow, height={"step": 40})


def _series(entry: Change) -> int:
    """Less is one colour, more another, the same a third."""
    return 0 if entry.after < entry.before else 1 if entry.after > entry.before else 6
