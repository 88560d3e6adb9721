"""What all charts share. Colours are names: the page's style sheet says what they are, by day and by night."""

import math
from collections.abc import Sequence
from typing import Any

from cnnport.measuring.page.figure import Spec

INK, MUTED, RULE, PAPER = "var(--ink)", "var(--muted)", "var(--rule)", "var(--paper)"

SERIES = tuple(f"var(--series-{number})" for number in range(1, 8))
"""Told apart by whoever does not see all colours; their order is that of the style sheet."""

HEAT = tuple(f"var(--heat-{number})" for number in range(6))
"""From little to much."""

HEAT_INK = tuple(f"var(--heat-ink-{number})" for number in range(6))
"""What is read on each of them."""

SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 4], [10, 3], [1, 3])

SHAPE_PATHS = {
    "circle": "M6,1.5a4.5,4.5 0 1,0 .01,0Z",
    "square": "M2,2h8v8h-8Z",
    "triangle-up": "M6,1.5L11,10.5H1Z",
    "diamond": "M6,.8L11,6L6,11.2L1,6Z",
    "cross": "M4.2,1h3.6v3.2H11v3.6H7.8V11H4.2V7.8H1V4.2h3.2Z",
    "triangle-down": "M6,10.5L1,1.5H11Z",
    "triangle-right": "M10.5,6L1.5,11V1Z",
}
"""The same in a box of 12 by 12, for the key."""

# Its metrics are those of Helvetica and Arial, and vl-convert brings it along: a page does not depend on the fonts of
# the machine that makes it.
FONT = "Liberation Sans"

WIDE_PX, NARROW_PX = 720, 340

# Text of a data mark: an element of the drawing that stands for something measured, counted by whoever checks it.
DATA = "data"


def width_of(narrow: bool) -> int:
    """Of the whole drawing, axes included."""
    return NARROW_PX if narrow else WIDE_PX


def letters_in(pixels: float) -> int:
    """How many letters of ordinary text fit."""
    return max(8, int(pixels / 6.3))


def chart(layers: Sequence[Spec], *, narrow: bool, height: float | Spec) -> Spec:
    """Layers as one drawing.

    Args:
        layers: Each with its data.
        narrow: For which screen.
        height: Of the plot in pixels, or a step for each row.
    """
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "width": width_of(narrow),
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "padding": {"left": 1, "right": 8, "top": 4, "bottom": 4},
        "background": None,
        "layer": list(layers),
        "config": _CONFIG,
    }


def label(field: str, *, color: str = INK, align: str = "left", **mark: Any) -> Spec:
    """A mark of text; what else a mark takes may be given."""
    return {
        "mark": {"type": "text", "align": align, "color": color, "aria": False, **mark},
        "encoding": {"text": {"field": field}},
    }


def axis(title: str | None, **rest: Any) -> Spec:
    """An axis of numbers."""
    return {"title": title, "tickCount": 6, **rest}


def ticks(low: float, high: float) -> list[float]:
    """Round numbers between two numbers above 0, for a logarithmic axis: powers of ten where there are several."""
    powers = [10.0**e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    for steps in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)):
        inside = [power * step for power in powers for step in steps if low <= power * step <= high]
        if len(inside) > 2:
            return inside
    return inside


_CONFIG: Spec = {
    "font": FONT,
    "view": {"stroke": None},
    "axis": {
        "domainColor": RULE,
        "gridColor": RULE,
        "tickColor": RULE,
        "labelColor": MUTED,
        "labelFontSize": 12,
        "labelFontWeight": "normal",
        "titleColor": MUTED,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 8,
        "labelOverlap": True,
    },
    "axisY": {
        "domain": False,
        "ticks": False,
        "titleAnchor": "end",
        "titleAngle": 0,
        "titleAlign": "left",
        "titleY": -12,
    },
    "axisX": {"titleAnchor": "start", "grid": True},
    "text": {"fontSize": 12},
    "line": {"strokeWidth": 2},
}
