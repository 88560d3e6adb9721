"""A table whose cells are coloured by how much is in them."""

from collections.abc import Sequence
from dataclasses import dataclass

from cnnport.measuring.page.charts import theme
from cnnport.measuring.page.charts.rows import Row, Y, texts
from cnnport.measuring.page.figure import Spec

_CELL_PX, _TOP_PX, _BASE_PX = 26.0, 20.0, 8.0


@dataclass(frozen=True)
class Cell:
    """One number.

    Attributes:
        text: As it is shown.
        level: 0 for the best to 5 for the worst.
        title: What the pointer is told.
    """

    text: str
    level: int
    title: str


def heat(
    columns: Sequence[str], rows: Sequence[Row], cells: Sequence[Sequence[Cell]], *, narrow: bool
) -> Spec:
    """A row of cells under each name.

    Args:
        columns: Heads.
        rows: Text of each row.
        cells: For each row as many as columns.
        narrow: For which screen.
    """
    values = [
        {
            "row": place,
            "column": column,
            "text": cell.text,
            "title": cell.title,
            "color": theme.HEAT[cell.level],
            "ink": theme.HEAT_INK[cell.level],
        }
        for place, line in enumerate(cells)
        for column, cell in zip(columns, line, strict=True)
    ]
    x: Spec = {
        "field": "column",
        "type": "nominal",
        "sort": None,
        "scale": {"domain": list(columns), "paddingInner": 0.03, "paddingOuter": 0},
        "axis": {
            "orient": "top",
            "labelAngle": 0,
            "title": None,
            "domain": False,
            "ticks": False,
            "grid": False,
            "labelOverlap": False,
            "labelLimit": 0,
            "labelPadding": 6,
        },
    }
    text = theme.label("text", align="center", dy=_BASE_PX)
    layers: list[Spec] = [
        {
            "name": theme.DATA,
            "data": {"values": values},
            "mark": {"type": "rect", "height": _CELL_PX, "yOffset": _BASE_PX, "cornerRadius": 3},
            "encoding": {
                "x": x,
                "y": Y,
                "color": {"field": "color", "type": "nominal", "scale": None},
                "description": {"field": "title"},
            },
        },
        {
            "data": {"values": values},
            "mark": {key: value for key, value in text["mark"].items() if key != "color"},
            "encoding": {
                "x": x,
                "y": Y,
                **text["encoding"],
                "color": {"field": "ink", "type": "nominal", "scale": None},
            },
        },
        *texts(rows, narrow=narrow, top_px=_TOP_PX - 5),
    ]
    return theme.chart(layers, narrow=narrow, height={"step": 58})
