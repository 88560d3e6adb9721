"""Intervals: seeded, on two levels, and as wide as they have to be."""

import numpy as np
import pytest

from cnnport.measuring.statistics import figure_of, interval_of, paired_ratio_interval, ratio_interval


def drawn(seed: int, rounds: int, samples: int, process: float, noise: float) -> list[list[float]]:
    """Rounds whose processes differ, and whose samples differ inside each."""
    generator = np.random.default_rng(seed)
    return [
        list(1 + process * generator.standard_normal() + noise * generator.standard_normal(samples))
        for _ in range(rounds)
    ]


def test_the_same_samples_give_the_same_interval() -> None:
    rounds = drawn(1, 3, 50, 0.05, 0.01)
    assert interval_of(rounds, "p50") == interval_of(rounds, "p50")
    assert interval_of(rounds, "p50") != interval_of(rounds, "p50", seed=1)


def test_samples_without_spread_leave_no_doubt() -> None:
    found = interval_of([[2.0] * 5] * 3, "p99", confidence=0.9)
    assert (found.low, found.high, found.confidence) == (2.0, 2.0, 0.9)
    found = paired_ratio_interval([([2.0] * 3, [3.0] * 4)] * 2, "mean")
    assert (found.low, found.high) == (1.5, 1.5)
    assert ratio_interval([[0.0]], [[0.0]], "p50").high == 1.0


def test_figures_are_numpys() -> None:
    samples = [3.0, 1.0, 2.0, 9.0]
    assert figure_of(samples, "p90") == np.percentile(samples, 90)
    assert figure_of(samples, "mean") == 3.75


@pytest.mark.parametrize("samples", [20, 1000])
def test_rounds_are_what_counts(samples: int) -> None:
    """Processes differ by 5 %: more samples of the same few tell no more; one level alone would say they did."""

    def width(rounds: int, *, flat: bool = False) -> float:
        widths = []
        for seed in range(5):
            taken = drawn(seed, rounds, samples, 0.05, 0.02)
            found = interval_of([[each for one in taken for each in one]] if flat else taken, "p50")
            widths.append(found.high - found.low)
        return float(np.mean(widths))

    assert 0.04 < width(4) < 0.16
    assert width(20) < width(4) / 1.3
    assert width(4, flat=True) < width(4) / (1.3 if samples == 20 else 5)


def test_coverage_is_about_what_is_promised() -> None:
    """Of the median of 20 rounds, at 95 %."""
    hits = 0
    for seed in range(40):
        found = interval_of(drawn(seed, 20, 20, 0.05, 0.05), "p50")
        hits += found.low <= 1 <= found.high
    assert hits >= 34


def test_what_a_round_has_in_common_cancels_in_pairs() -> None:
    generator = np.random.default_rng(3)
    pairs = []
    for _ in range(6):
        machine = 1 + generator.random()
        pairs.append(tuple(list(machine * side * (1 + 0.001 * generator.random(30))) for side in (1.0, 1.1)))
    paired = paired_ratio_interval(pairs, "p50")
    assert 1.099 < paired.low < paired.high < 1.101
    apart = ratio_interval([pair[0] for pair in pairs], [pair[1] for pair in pairs], "p50")
    assert apart.low < 1 < apart.high
