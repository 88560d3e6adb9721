"""Percentiles, and how far they can be trusted: intervals by a bootstrap on two levels.

The samples of one process are not independent of each other: they share its place in memory, and whatever the machine
did meanwhile. So a resample first draws rounds with replacement, and then samples with replacement inside each round
that was drawn; what lies between two percentiles of the resampled figures is the interval. With three rounds it can
say no more than three rounds can: more rounds make it narrower, more samples in a round only a little.

Everything is seeded: the same samples give the same interval.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples: TypeAlias = NDArray[np.float64]
    Generator: TypeAlias = np.random.Generator

CONFIDENCE = 0.95
"""Of the intervals in tables and records."""

_RESAMPLES = 1000
_LEAST_RESAMPLES = 200
# Samples of a round that are resampled: more make no interval narrower, since rounds are what counts.
_MOST = 4000
# Draws in all, which keeps an interval well under a second.
_DRAWS = 10_000_000
_SEED = 0

_T_CONFIDENCE = 0.99
# Student's t of that confidence, both sides, from one degree of freedom on; beyond, the last one is on the safe side.
# fmt: off
_T = (
    63.657, 9.925, 5.841, 4.604, 4.032, 3.707, 3.499, 3.355, 3.250, 3.169, 3.106, 3.055, 3.012, 2.977, 2.947,
    2.921, 2.898, 2.878, 2.861, 2.845, 2.831, 2.819, 2.807, 2.797, 2.787, 2.779, 2.771, 2.763, 2.756, 2.750,
)
# fmt: on

Statistic: TypeAlias = "Callable[[Samples], Any]"
"""One figure of some samples, which lie along the last axis."""

# Draws at a time, so that memory stays small.
_AT_ONCE = 1_000_000


def percentile(ordered: tuple[float, ...], q: float) -> float:
    """The ``q``-th percentile of samples in ascending order, interpolated linearly.

    Args:
        ordered: At least one sample.
        q: Between 0 and 100.
    """
    position = (len(ordered) - 1) * (q / 100)
    below = math.floor(position)
    low, high = ordered[below], ordered[min(below + 1, len(ordered) - 1)]
    part = position - below
    # From the nearer end, as NumPy does, so that the result is exact at both.
    return low + (high - low) * part if part < 0.5 else high - (high - low) * (1 - part)


@dataclass(frozen=True)
class Interval:
    """Where a figure lies, as far as the samples tell.

    Attributes:
        low: Lower end.
        high: Upper end.
        confidence: Share of such intervals that hold the true figure, as far as the bootstrap keeps its word.
    """

    low: float
    high: float
    confidence: float = CONFIDENCE


def statistic_of(name: str) -> Statistic:
    """The figure of a name: ``mean``, or ``p50`` and other percentiles."""
    import numpy as np

    if name == "mean":
        return lambda samples: samples.mean(axis=-1)
    q = float(name.removeprefix("p"))
    return lambda samples: np.percentile(samples, q, axis=-1)


def figure_of(samples: Sequence[float], name: str) -> float:
    """The figure of a name of some samples."""
    import numpy as np

    return float(statistic_of(name)(np.asarray(samples, np.float64)))


def interval_of(
    rounds: Sequence[Sequence[float]], name: str, *, confidence: float = CONFIDENCE, seed: int = _SEED
) -> Interval:
    """The interval of a figure of all samples together.

    Args:
        rounds: Samples of each round, at least one in each.
        name: As of ``statistic_of``.
        confidence: Between 0 and 1.
        seed: Of the resampling.
    """
    import numpy as np

    figure, generator = statistic_of(name), np.random.default_rng(seed)
    arrays = _arrays(rounds)
    return _between([figure(each) for each in _resampled(arrays, _resamples(arrays), generator)], confidence)


def ratio_interval(
    base: Sequence[Sequence[float]],
    other: Sequence[Sequence[float]],
    name: str,
    *,
    confidence: float = CONFIDENCE,
    seed: int = _SEED,
) -> Interval:
    """The interval of other over base, measured apart from each other: the rounds of each are drawn by themselves.

    Args:
        base: As ``rounds`` of ``interval_of``.
        other: Likewise.
        name: As of ``statistic_of``.
        confidence: Between 0 and 1.
        seed: Of the resampling.
    """
    import numpy as np

    figure, generator = statistic_of(name), np.random.default_rng(seed)
    sides = [_arrays(side) for side in (base, other)]
    resamples = _resamples([*sides[0], *sides[1]])
    below, above = ([figure(each) for each in _resampled(side, resamples, generator)] for side in sides)
    return _between([divided(*both) for both in zip(above, below, strict=True)], confidence)


def paired_ratio_interval(
    pairs: Sequence[tuple[Sequence[float], Sequence[float]]],
    name: str,
    *,
    confidence: float = CONFIDENCE,
    seed: int = _SEED,
) -> Interval:
    """The interval of the median over rounds of other over base, both measured in each of the rounds, in turn.

    A round is drawn with both of its sides, so what the machine did in it cancels out.

    Args:
        pairs: For each round the samples of base and other, at least one each.
        name: As of ``statistic_of``.
        confidence: Between 0 and 1.
        seed: Of the resampling.
    """
    import numpy as np

    figure = statistic_of(name)
    sides = [_arrays(pair) for pair in pairs]
    generator = np.random.default_rng(seed)
    resamples = _resamples([array for pair in sides for array in pair])
    # Inside a round samples are drawn anew for every resample, whether or not the round is among those drawn.
    figures = [[_figures(side, figure, resamples, generator) for side in pair] for pair in sides]
    ratios = np.array(
        [[divided(*both) for both in zip(other, base, strict=True)] for base, other in figures]
    ).T
    drawn = generator.integers(0, len(sides), ratios.shape)
    return _between(list(np.median(np.take_along_axis(ratios, drawn, axis=1), axis=1)), confidence)


def _figures(samples: "Samples", figure: Statistic, resamples: int, generator: "Generator") -> list[float]:
    """The figure of so many resamples of one round."""
    found: list[float] = []
    step = max(1, _AT_ONCE // len(samples))
    while len(found) < resamples:
        shape = (min(step, resamples - len(found)), len(samples))
        found += figure(samples[generator.integers(0, len(samples), shape)]).tolist()
    return found


def student_interval(values: Sequence[float]) -> Interval:
    """The interval of the mean of a few values that are about normally distributed, at 99 %, by Student's t.

    From eight values on, the lowest and the highest eighth are cut off, and what that costs is allowed for (Tukey and
    McLaughlin, 1963): one process in a bad place does not blur all others.

    Args:
        values: At least two; of a single one nothing is known, and the interval is unbounded.
    """
    count = len(values)
    if count < 2:
        return Interval(-math.inf, math.inf, _T_CONFIDENCE)
    cut = count // 8
    ordered = sorted(values)
    kept = ordered[cut : count - cut]
    center = sum(kept) / len(kept)
    clipped = [min(max(each, kept[0]), kept[-1]) for each in ordered]
    mean = sum(clipped) / count
    squares = sum((each - mean) ** 2 for each in clipped)
    error = math.sqrt(squares / (len(kept) * (len(kept) - 1)))
    reach = _T[min(len(kept) - 1, len(_T)) - 1] * error
    return Interval(center - reach, center + reach, _T_CONFIDENCE)


def divided(above: float, below: float) -> float:
    """The ratio; of two figures too small for the clock 1."""
    if below:
        return above / below
    return math.inf if above else 1.0


def _arrays(rounds: Sequence[Sequence[float]]) -> "list[Samples]":
    """The samples of each round; of very many, some thousand percentiles, which stand for them well enough."""
    import numpy as np

    found = []
    for each in rounds:
        samples = np.asarray(each, np.float64)
        if len(samples) > _MOST:
            samples = np.percentile(samples, np.linspace(0, 100, _MOST))
        found.append(samples)
    return found


def _resamples(rounds: "Sequence[Samples]") -> int:
    return max(_LEAST_RESAMPLES, min(_RESAMPLES, _DRAWS // sum(map(len, rounds))))


def _resampled(rounds: "Sequence[Samples]", count: int, generator: "Generator") -> "Iterator[Samples]":
    """So many resamples: rounds drawn with replacement, and in each of them samples with replacement."""
    import numpy as np

    samples = np.concatenate(rounds)
    sizes = np.array([len(each) for each in rounds])
    starts = np.cumsum(sizes) - sizes
    for _ in range(count):
        drawn = generator.integers(0, len(rounds), len(rounds))
        lengths = sizes[drawn]
        inside = (generator.random(lengths.sum()) * np.repeat(lengths, lengths)).astype(np.int64)
        yield samples[np.repeat(starts[drawn], lengths) + inside]


def _between(figures: list[float], confidence: float) -> Interval:
    import numpy as np

    rest = 50 * (1 - confidence)
    low, high = np.percentile(figures, [rest, 100 - rest])
    return Interval(float(low), float(high), confidence)
