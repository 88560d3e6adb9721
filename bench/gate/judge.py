"""From measurements to a verdict.

The ratio of a figure, new over baseline, has an interval of 99 % confidence. If all of it lies beyond the limit, that
is a regression; if all of it lies before the limit, a pass; if the limit is inside, the samples do not tell, and no
verdict is better than a wrong one.

Where both sides were measured in this run, a round gives one ratio, of two processes that ran in turn, so that what
the machine does cancels out; what stays is that every process has its own place in memory, some per cent faster or
slower than the next, and that is why rounds, not samples, are what the interval counts. The ratio is the median over
rounds. Its interval is the hull of two: the bootstrap's, which with five rounds is about as wide as these lie apart,
and Student's of the ratios' logarithms, which knows how little five of them say where they are far apart. Simulated
with up to forty rounds, a look after each from the fifth on, a hundred times each: where ratios of rounds scatter by
2 to 4 %, every A/A test passed and every slowdown of a tenth was caught, after five to nine rounds; by 7 %, one in
ten of either was inconclusive and none wrong; by 20 %, four in five were inconclusive and one of either wrong.
"""

import math
from collections.abc import Sequence
from statistics import median

from cnnport.measuring.comparison import Comparison, Verdict
from cnnport.measuring.gate.limits import Limit, Metric
from cnnport.measuring.measurement import Measurement, Round
from cnnport.measuring.statistics import (
    Interval,
    divided,
    figure_of,
    paired_ratio_interval,
    ratio_interval,
    student_interval,
)

CONFIDENCE = 0.99
"""Of the intervals by which a gate decides."""

# The logarithm of a ratio beyond which it does not matter how far it is.
_FARTHEST = 20.0


def compare_pair(
    case: str, limit: Limit, base: Measurement, other: Measurement, note: str = ""
) -> Comparison:
    """Hold two measurements against each other whose rounds were taken in turn.

    Args:
        case: In words.
        limit: What is allowed.
        base: The baseline.
        other: What is new, of as many rounds.
        note: To be said of it.
    """
    pairs = [
        (_samples(limit.metric, first), _samples(limit.metric, second))
        for first, second in zip(base.rounds, other.rounds, strict=True)
    ]
    name = limit.metric.statistic or "mean"
    ratios = [divided(figure_of(second, name), figure_of(first, name)) for first, second in pairs]
    drawn = paired_ratio_interval(pairs, name, confidence=CONFIDENCE)
    interval = _hull(drawn, _by_student(ratios))
    return _comparison(case, limit, base, other, median(ratios), interval, paired=True, note=note)


def compare_records(
    case: str, limit: Limit, base: Measurement, other: Measurement, note: str = ""
) -> Comparison:
    """Hold a measurement against one that was taken some other time; arguments as of ``compare_pair``.

    How the machine has changed since is not in the interval: nothing tells it.
    """
    metric = limit.metric
    ratio = divided(metric.value(other), metric.value(base))
    first, second = ([_samples(metric, each) for each in row.rounds] for row in (base, other))
    interval = ratio_interval(first, second, metric.statistic or "p50", confidence=CONFIDENCE)
    return _comparison(case, limit, base, other, ratio, interval, paired=False, note=note)


def verdict_of(limit: Limit, interval: Interval) -> Verdict:
    """What an interval of the ratio says of a limit."""
    beyond, before = interval.low > limit.bound, interval.high < limit.bound
    if not limit.metric.more_is_worse:
        beyond, before = before, beyond
    if beyond:
        return Verdict.REGRESSION
    return Verdict.PASS if before else Verdict.INCONCLUSIVE


def worst(comparisons: Sequence[Comparison]) -> Verdict:
    """One verdict of all: a regression beats what is inconclusive, and that a pass."""
    found = {each.verdict for each in comparisons}
    return next((each for each in (Verdict.REGRESSION, Verdict.INCONCLUSIVE) if each in found), Verdict.PASS)


def _comparison(
    case: str,
    limit: Limit,
    base: Measurement,
    other: Measurement,
    ratio: float,
    interval: Interval,
    *,
    paired: bool,
    note: str,
) -> Comparison:
    return Comparison(
        case=case,
        metric=limit.metric.name,
        limit=limit.text,
        bound=limit.bound,
        ratio=ratio,
        low=interval.low,
        high=interval.high,
        confidence=interval.confidence,
        verdict=verdict_of(limit, interval),
        paired=paired,
        rounds=len(other.rounds),
        baseline=limit.metric.value(base),
        value=limit.metric.value(other),
        baseline_sha256=base.sha256,
        note=note,
    )


def _by_student(ratios: Sequence[float]) -> Interval:
    """The interval by Student's t of the ratios' logarithms; unbounded where a ratio has none."""
    if not all(0 < ratio < math.inf for ratio in ratios):
        return Interval(0.0, math.inf, CONFIDENCE)
    found = student_interval([math.log(ratio) for ratio in ratios])
    low, high = (math.exp(min(end, _FARTHEST)) for end in (found.low, found.high))
    return Interval(low, high, CONFIDENCE)


def _hull(first: Interval, second: Interval) -> Interval:
    return Interval(min(first.low, second.low), max(first.high, second.high), first.confidence)


def _samples(metric: Metric, each: Round) -> Sequence[float]:
    return each.samples_s if metric.statistic else (metric.of_round(each),)
