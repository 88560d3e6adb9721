"""Shares of a whole, one bar for each whole."""

from collections.abc import Sequence
from dataclasses import dataclass

from cnnport.measuring.page.charts import theme
from cnnport.measuring.page.charts.rows import Row, Y, texts
from cnnport.measuring.page.figure import Spec


@dataclass(frozen=True)
class Stack:
    """One bar.

    Attributes:
        row: Its text.
        parts: Amounts, as many as there are kinds.
    """

    row: Row
    parts: tuple[float, ...]


def stacks(kinds: Sequence[str], entries: Sequence[Stack], *, narrow: bool, title: str) -> Spec:
    """A bar of parts for each entry.

    Args:
        kinds: What the parts are; at most as many as there are colours.
        entries: At least one.
        narrow: For which screen.
        title: Of the axis, with its unit.
    """
    values = [
        {
            "row": place,
            "kind": kind,
            "order": order,
            "value": part,
            "title": f"{entry.row.label}, {kind}: {part:.4g} ms, {part / (sum(entry.parts) or 1):.1%}",
        }
        for place, entry in enumerate(entries)
        for order, (kind, part) in enumerate(zip(kinds, entry.parts, strict=True))
        if part > 0
    ]
    marks = {
        "name": theme.DATA,
        "data": {"values": values},
        "mark": {"type": "bar", "height": 16, "yOffset": 11, "stroke": theme.PAPER, "strokeWidth": 1},
        "encoding": {
            "y": Y,
            "x": {
                "field": "value",
                "type": "quantitative",
                "stack": "zero",
                "axis": theme.axis(title),
                "scale": {"nice": False},
            },
            "color": {
                "field": "kind",
                "type": "nominal",
                "sort": None,
                "scale": {"domain": list(kinds), "range": list(theme.SERIES[: len(kinds)])},
                "legend": None,
            },
            "order": {"field": "order"},
            "description": {"field": "title"},
        },
    }
    return theme.chart(
        [marks, *texts([entry.row for entry in entries], narrow=narrow, top_px=12)],
        narrow=narrow,
        height={"step": 50},
    )
