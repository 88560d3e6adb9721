"""The roofline: what the machine can do at each arithmetic intensity, and where the layers of a network lie."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cnnport.measuring.page.charts import theme
from cnnport.measuring.page.figure import Spec

BOUNDS = ("compute", "memory", "overhead", "unknown")
"""What may limit a layer; its place is that of its colour and shape."""


@dataclass(frozen=True)
class Dot:
    """One layer.

    Attributes:
        label: Its name.
        intensity: FLOP per byte, above 0.
        flops_s: FLOP per second, above 0.
        share: Of the time of all layers.
        bound: One of ``BOUNDS``.
        rank: 1 for the layer that takes longest; 0 for those without a number in the drawing.
    """

    label: str
    intensity: float
    flops_s: float
    share: float
    bound: str
    rank: int


def roofline(
    dots: Sequence[Dot], peaks_flop_s: Mapping[str, float], bandwidth_bytes_s: float, *, narrow: bool
) -> Spec:
    """Both axes in powers of ten, GFLOP/s over FLOP/byte.

    Args:
        dots: At least one.
        peaks_flop_s: By precision; empty where the machine was not measured.
        bandwidth_bytes_s: Of memory; 0 where it was not measured.
        narrow: For which screen.
    """
    ridges = [peak / bandwidth_bytes_s for peak in peaks_flop_s.values()] if bandwidth_bytes_s else []
    intensities = [*(dot.intensity for dot in dots), *ridges]
    left = 10 ** math.floor(math.log10(min(intensities) * 0.999))
    right = 10 ** math.ceil(math.log10(max(intensities) * 1.5))
    rates = [dot.flops_s / 1e9 for dot in dots]
    top = max([*rates, *(peak / 1e9 for peak in peaks_flop_s.values())]) * 1.8
    bottom = min(rates) / 1.5
    x: Spec = {
        "type": "quantitative",
        "scale": {"type": "log", "domain": [left, right], "nice": False},
        "axis": theme.axis("arithmetic intensity, FLOP/byte", values=theme.ticks(left, right), format="~g"),
    }
    y: Spec = {
        "type": "quantitative",
        "scale": {"type": "log", "domain": [bottom, top], "nice": False},
        "axis": theme.axis("GFLOP/s", values=theme.ticks(bottom, top), format="~g"),
    }
    layers = _roofs(peaks_flop_s, bandwidth_bytes_s, (left, right, bottom), x, y) if ridges else []
    return theme.chart([*layers, *_dots(dots, x, y)], narrow=narrow, height=300 if narrow else 400)


def _roofs(
    peaks: Mapping[str, float], bandwidth: float, corner: tuple[float, float, float], x: Spec, y: Spec
) -> list[Spec]:
    left, right, bottom = corner
    # Where the slope enters the drawing from below.
    start = max(left, bottom * 1e9 / bandwidth)
    lines: list[Spec] = []
    names: list[Spec] = []
    for precision, peak in sorted(peaks.items(), key=lambda item: item[1]):
        for order, intensity in enumerate((start, peak / bandwidth, right)):
            rate = min(peak, intensity * bandwidth) / 1e9
            lines.append({"roof": precision, "order": order, "x": intensity, "y": rate})
        names.append({"text": f"{precision} {peak / 1e9:.4g} GFLOP/s", "x": right, "y": peak / 1e9})
    # Beside the slope where it is nearly at its top: further left there is no room for the text on a phone.
    at = start**0.3 * (max(peaks.values()) / bandwidth) ** 0.7
    slope = {"text": f"{bandwidth / 1e9:.3g} GB/s", "x": at, "y": at * bandwidth / 1e9}
    where = {"x": {"field": "x", **x}, "y": {"field": "y", **y}}
    peak_text = theme.label("text", color=theme.MUTED, align="right", dy=-12)
    slope_text = theme.label("text", color=theme.MUTED, align="right", dx=-8, dy=-6)
    return [
        {
            "data": {"values": lines},
            "mark": {"type": "line", "color": theme.INK, "strokeWidth": 1.5, "aria": False, "clip": True},
            "encoding": {**where, "detail": {"field": "roof"}, "order": {"field": "order"}},
        },
        {
            "data": {"values": names},
            "mark": peak_text["mark"],
            "encoding": {**where, **peak_text["encoding"]},
        },
        {
            "data": {"values": [slope]},
            "mark": slope_text["mark"],
            "encoding": {**where, **slope_text["encoding"]},
        },
    ]


def _dots(dots: Sequence[Dot], x: Spec, y: Spec) -> list[Spec]:
    values = [
        {
            "x": dot.intensity,
            "y": dot.flops_s / 1e9,
            "share": dot.share,
            "bound": dot.bound,
            "rank": str(dot.rank),
            "title": f"{dot.label}: {dot.flops_s / 1e9:.4g} GFLOP/s at {dot.intensity:.3g} FLOP/byte, "
            f"{dot.share:.1%} of the time",
        }
        for dot in dots
    ]
    there = [bound for bound in BOUNDS if any(dot.bound == bound for dot in dots)]
    where = {"x": {"field": "x", **x}, "y": {"field": "y", **y}}

    def by_bound(values: Sequence[str]) -> Spec:
        chosen = [values[BOUNDS.index(bound)] for bound in there]
        return {
            "field": "bound",
            "type": "nominal",
            "scale": {"domain": there, "range": chosen},
            "legend": None,
        }

    text = theme.label("rank", dx=0, dy=-13, align="center", fontWeight="bold")
    ranked = [value for value, dot in zip(values, dots, strict=True) if dot.rank]
    return [
        {
            "name": theme.DATA,
            "data": {"values": values},
            "mark": {
                "type": "point",
                "filled": True,
                "fillOpacity": 0.55,
                "strokeWidth": 1,
                "strokeOpacity": 1,
                "opacity": 1,
            },
            "encoding": {
                **where,
                "color": by_bound(theme.SERIES),
                "shape": by_bound(theme.SHAPES),
                "size": {
                    "field": "share",
                    "type": "quantitative",
                    "scale": {"domain": [0, max(dot.share for dot in dots) or 1], "range": [24, 420]},
                    "legend": None,
                },
                "description": {"field": "title"},
            },
        },
        {"data": {"values": ranked}, "mark": text["mark"], "encoding": {**where, **text["encoding"]}},
    ]
