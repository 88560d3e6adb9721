"""Throughput over batch: a line for each series."""

from collections.abc import Sequence
from dataclasses import dataclass

from cnnport.measuring.page.charts import theme
from cnnport.measuring.page.figure import Spec


@dataclass(frozen=True)
class Line:
    """One series.

    Attributes:
        name: As the key has it.
        points: Batch and images per second, in ascending order of batch.
        series: Index into the colours.
        variant: Index into shapes and dashes, which tell series of one colour apart.
    """

    name: str
    points: tuple[tuple[int, float], ...]
    series: int
    variant: int


def lines(entries: Sequence[Line], *, narrow: bool) -> Spec:
    """Images per second over the batch, which doubles from step to step."""
    values = [
        {
            "name": entry.name,
            "batch": batch,
            "throughput": throughput,
            "title": f"{entry.name}, batch {batch}: {throughput:.4g} images/s",
        }
        for entry in entries
        for batch, throughput in entry.points
    ]
    batches = sorted({batch for entry in entries for batch, _ in entry.points})
    names = [entry.name for entry in entries]

    def by_name(values: Sequence[object]) -> Spec:
        return {
            "field": "name",
            "type": "nominal",
            "sort": None,
            "scale": {"domain": names, "range": list(values)},
            "legend": None,
        }

    colors = by_name([theme.SERIES[entry.series % len(theme.SERIES)] for entry in entries])
    dashes = by_name([theme.DASHES[entry.variant % len(theme.DASHES)] for entry in entries])
    shapes = by_name([theme.SHAPES[entry.variant % len(theme.SHAPES)] for entry in entries])
    position: Spec = {
        "x": {
            "field": "batch",
            "type": "quantitative",
            "scale": {"type": "log", "base": 2, "nice": False},
            "axis": theme.axis("batch", values=batches, grid=False, format="d"),
        },
        "y": {
            "field": "throughput",
            "type": "quantitative",
            "scale": {"zero": True},
            "axis": theme.axis("images/s"),
        },
    }
    layers: list[Spec] = [
        {
            "data": {"values": values},
            "mark": {"type": "line", "aria": False},
            "encoding": {
                **position,
                "color": colors,
                "strokeDash": dashes,
                "detail": {"field": "name"},
            },
        },
        {
            "name": theme.DATA,
            "data": {"values": values},
            "mark": {"type": "point", "size": 70, "filled": True, "opacity": 1},
            "encoding": {
                **position,
                "color": colors,
                "shape": shapes,
                "description": {"field": "title"},
            },
        },
    ]
    return theme.chart(layers, narrow=narrow, height=240 if narrow else 300)
