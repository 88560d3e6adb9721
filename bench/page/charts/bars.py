"""Bars with their names above them."""

from collections.abc import Sequence
from dataclasses import dataclass

from cnnport.measuring.page.charts import theme
from cnnport.measuring.page.charts.rows import LINE_PX, Row, Y, texts
from cnnport.measuring.page.figure import Spec


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        row: Its text.
        value: Its length.
        series: Of which kind; an index into the colours.
        title: What the pointer is told.
    """

    row: Row
    value: float
    series: int = 0
    title: str = ""


def bars(entries: Sequence[Bar], *, narrow: bool, title: str) -> Spec:
    """A bar for each entry, in order, from zero.

    Args:
        entries: At least one.
        narrow: For which screen.
        title: Of the axis, with its unit.
    """
    has_below = any(entry.row.below for entry in entries)
    lines = 2 if has_below else 1
    values = [
        {
            "row": place,
            "value": entry.value,
            "color": theme.SERIES[entry.series % len(theme.SERIES)],
            "title": entry.title or f"{entry.row.label}: {entry.row.value}",
        }
        for place, entry in enumerate(entries)
    ]
    marks = {
        "name": theme.DATA,
        "data": {"values": values},
        "mark": {"type": "bar", "height": 7, "yOffset": LINE_PX * lines / 2 + 1, "cornerRadiusEnd": 2},
        "encoding": {
            "y": Y,
            "x": {
                "field": "value",
                "type": "quantitative",
                "axis": theme.axis(title),
                "scale": {"zero": True, "nice": False},
            },
            "color": {"field": "color", "type": "nominal", "scale": None},
            "description": {"field": "title"},
        },
    }
    text = texts([entry.row for entry in entries], narrow=narrow, top_px=LINE_PX * lines / 2 + 1)
    return theme.chart([marks, *text], narrow=narrow, height={"step": 20 + LINE_PX * lines})
