"""What is allowed: ``p50+5%`` means that the median may be at most 5 % longer than the baseline's."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from cnnport.errors import CnnportError
from cnnport.measuring.measurement import Measurement, Round

_FORM = re.compile(r"([a-z0-9]+)\s*([+-])\s*(\d{1,4}(?:\.\d{1,6})?)\s*%")


@dataclass(frozen=True)
class Metric:
    """A figure that can be held against a baseline.

    Attributes:
        name: As ``--fail-if`` takes it.
        unit: Of ``value``.
        value: Of a whole measurement, as tables show it.
        statistic: Of samples, as ``statistics.statistic_of`` takes it; empty where a round has one figure of its own.
        of_round: That figure.
        more_is_worse: Whether it is.
    """

    name: str
    unit: str
    value: Callable[[Measurement], float]
    statistic: str = ""
    of_round: Callable[[Round], float] = lambda _: 0.0
    more_is_worse: bool = True


def _latency(name: str) -> Metric:
    return Metric(name, "ms", lambda row: row.latency_s[name] * 1e3, statistic=name)


METRICS = {
    metric.name: metric
    for metric in (
        *map(_latency, ("p50", "p90", "p95", "p99", "mean")),
        Metric(
            "throughput",
            "images/s",
            lambda row: row.throughput,
            of_round=lambda each: len(each.samples_s) / (each.elapsed_s or sum(each.samples_s) or 1e-9),
            more_is_worse=False,
        ),
        Metric(
            "memory",
            "bytes",
            lambda row: float(row.peak_memory_bytes),
            of_round=lambda each: float(each.peak_memory_bytes),
        ),
        Metric("load", "s", lambda row: row.load_s, of_round=lambda each: each.load_s),
    )
}


@dataclass(frozen=True)
class Limit:
    """How much worse a figure may be.

    Attributes:
        metric: Which figure.
        bound: The ratio of new to baseline from which it is too much.
        text: As it was written, without spaces.
    """

    metric: Metric
    bound: float
    text: str


def parse_limit(text: str) -> Limit:
    """Read ``p50+5%``, ``throughput-5%``, ``memory+10%`` and their like.

    Raises:
        CnnportError: If it is of another form, of no figure, or asks for what is better.
    """
    found = _FORM.fullmatch(text.strip().lower())
    if found is None:
        raise CnnportError(
            f"--fail-if takes METRIC+N% or METRIC-N%, such as p50+5% or throughput-5%, not {text!r}"
        )
    name, sign, number = found.groups()
    if name not in METRICS:
        raise CnnportError(f"--fail-if knows no metric {name!r}: it is one of {', '.join(METRICS)}")
    metric, share = METRICS[name], float(number) / 100
    if metric.more_is_worse != (sign == "+"):
        other = "+" if sign == "-" else "-"
        word = "more" if metric.more_is_worse else "less"
        raise CnnportError(f"--fail-if {text}: {word} {name} is worse, so write {name}{other}{number}%")
    if sign == "-" and share >= 1:
        raise CnnportError(f"--fail-if {text}: {name} cannot fall by {number}%")
    return Limit(metric, 1 + share if sign == "+" else 1 - share, f"{name}{sign}{number}%")
