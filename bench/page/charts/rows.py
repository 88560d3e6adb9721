"""Charts of one row for each thing, its name above its marks: names may be long, and a phone has room for them."""

from collections.abc import Sequence
from dataclasses import dataclass

from cnnport.measuring.page.charts import theme
from cnnport.measuring.page.figure import Spec
from cnnport.measuring.page.words import cut

Y: Spec = {"field": "row", "type": "ordinal", "axis": None, "sort": None, "scale": {"paddingInner": 0}}
"""Rows by their place, since two of them may have the same name."""

LINE_PX = 16


@dataclass(frozen=True)
class Row:
    """One row's text.

    Attributes:
        label: Its name.
        value: The figure that matters most, with its unit, at the right.
        below: A second line, in small type; empty where no row has one.
    """

    label: str
    value: str
    below: str = ""


def texts(rows: Sequence[Row], *, narrow: bool, top_px: float) -> list[Spec]:
    """The names and figures of rows.

    Args:
        rows: In order.
        narrow: For which screen.
        top_px: From the middle of a row up to the middle of its first line.
    """
    width = theme.width_of(narrow)
    values = [
        {
            "row": place,
            "label": cut(row.label, theme.letters_in(width - 8 * len(row.value) - 16)),
            "value": row.value,
            "below": cut(row.below, theme.letters_in(width)),
        }
        for place, row in enumerate(rows)
    ]
    layers = [
        {**theme.label("label", dy=-top_px), "x": 0.0},
        {**theme.label("value", align="right", dy=-top_px, fontWeight="bold"), "x": "width"},
    ]
    if any(row.below for row in rows):
        below = theme.label("below", color=theme.MUTED, dy=LINE_PX - top_px, fontSize=11)
        layers.append({**below, "x": 0.0})
    return [
        {
            "data": {"values": values},
            "mark": layer["mark"],
            "encoding": {**layer["encoding"], "y": Y, "x": {"value": layer["x"]}},
        }
        for layer in layers
    ]
