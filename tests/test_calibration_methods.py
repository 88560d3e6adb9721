"""Histograms and the ranges that follow from them, against plain implementations on the numbers themselves."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from cnnport.calibration.calibration import Calibration, Skipped
from cnnport.calibration.histogram import Histogram
from cnnport.calibration.methods import METHODS, Statistics, find_range
from cnnport.calibration.squared_error import squared_error
from cnnport.errors import ArtifactError, CnnportError, UnknownNameError
from cnnport.graphs.quantize.ranges import ValueRange

RNG = np.random.default_rng(0)
NORMAL = RNG.standard_normal(200_000).astype(np.float32)
DATA = {
    "relu": np.maximum(NORMAL, 0),
    "shifted": NORMAL + np.float32(1.5),
    "swish": NORMAL * 2 / (1 + np.exp(-NORMAL * 2)),
    "heavy": RNG.laplace(size=200_000).astype(np.float32),
    "small": NORMAL * np.float32(1e-6),
}
LIMIT = np.finfo(np.float32).max


def histogram(numbers: NDArray[np.float32]) -> Histogram:
    made = Histogram()
    made.add(numbers)
    return made


def statistics(numbers: NDArray[np.float32]) -> Statistics:
    return Statistics(float(numbers.min()), float(numbers.max()), histogram(numbers))


def quantized(
    numbers: NDArray[np.float32], low: float, high: float, levels: int = 256
) -> NDArray[np.float64]:
    """As a quantizer does it: a whole zero point, nearest levels."""
    step = (high - low) / (levels - 1)
    zero = round(-low / step)
    codes = np.clip(np.rint(numbers.astype(np.float64) / step) + zero, 0, levels - 1)
    return (codes - zero) * step


def true_error(numbers: NDArray[np.float32], found: ValueRange, levels: int = 256) -> float:
    return float(np.mean((quantized(numbers, found.low, found.high, levels) - numbers) ** 2))


# ---- Histograms


def test_every_number_lies_in_its_interval() -> None:
    numbers = np.array([0, -0.0, 1, -1, 1.5, 1e-30, -3e38, LIMIT, 1e-42, 0.1], np.float32)
    found = histogram(numbers).densities()
    assert found.counts.sum() == len(numbers)
    assert np.all(found.lows[1:] >= found.highs[:-1])
    for number in numbers:
        inside = (found.lows <= number) & (number <= found.highs)
        # What is below float32's normal numbers counts as zero.
        assert inside.any() or abs(number) < 1e-37
    widths = (found.highs - found.lows)[found.highs > found.lows]
    assert np.all(
        widths <= np.maximum(abs(found.lows), abs(found.highs))[found.highs > found.lows] / 256 * 1.001
    )
    zeros = (found.lows == 0) & (found.highs == 0)
    assert found.counts[zeros] == 3


def test_parts_add_up_to_the_whole_in_any_order() -> None:
    whole = histogram(NORMAL).as_arrays()
    parts = [histogram(part) for part in np.split(NORMAL, [7, 7, 50_000, 199_999])]
    for order in (parts, parts[::-1]):
        merged = Histogram()
        for part in order:
            merged.merge(part)
        assert all(np.array_equal(*pair) for pair in zip(whole, merged.as_arrays(), strict=True))
    again = Histogram.from_arrays(*whole)
    assert all(np.array_equal(*pair) for pair in zip(whole, again.as_arrays(), strict=True))
    assert again.total == NORMAL.size
    with pytest.raises(ValueError, match="not the bins"):
        Histogram.from_arrays(whole[0][::-1], whole[1])
    with pytest.raises(ValueError, match="not the bins"):
        Histogram.from_arrays(whole[0], -whole[1])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_shows(bad: float) -> None:
    found = histogram(NORMAL)
    assert not found.not_finite
    found.add(np.array([1, bad], np.float32))
    assert found.not_finite


# ---- Methods


@pytest.mark.parametrize("name", DATA)
def test_minmax_and_percentile(name: str) -> None:
    numbers = DATA[name]
    known = statistics(numbers)
    assert find_range(known, "minmax") == ValueRange(min(known.low, 0.0), max(known.high, 0.0))
    for percentile in (99.0, 99.5, 99.9):
        found = find_range(known, "percentile", percentile=percentile)
        low, high = np.percentile(numbers, [(100 - percentile) / 2, 100 - (100 - percentile) / 2])
        assert found.high == pytest.approx(max(high, 0), rel=0.02)
        assert found.low == pytest.approx(min(low, 0), rel=0.02)
        end = np.percentile(abs(numbers), percentile)
        both = find_range(known, "percentile", percentile=percentile, symmetric=True)
        assert max(-both.low, both.high) == pytest.approx(end, rel=0.02)
        assert both.high != pytest.approx(np.percentile(numbers, 97), rel=0.02)
    assert find_range(known, "percentile", percentile=100) == known.full


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("symmetric", [False, True])
def test_mse_is_as_good_as_any_range_that_can_be_tried(name: str, symmetric: bool) -> None:
    numbers = DATA[name][:50_000]
    known = statistics(numbers)
    found = find_range(known, "mse", symmetric=symmetric)
    levels = 255 if symmetric else 256
    if symmetric:
        end = max(-found.low, found.high)
        found = ValueRange(-end, end)
        largest = max(-known.low, known.high)
        tried = [ValueRange(-end, end) for end in largest * np.linspace(0.3, 1, 40)]
    else:
        ends = np.linspace(0.3, 1, 12)
        full = known.full
        tried = [ValueRange(full.low * left, full.high * right) for left in ends for right in ends]
    best = min(true_error(numbers, other, levels) for other in tried)
    assert true_error(numbers, found, levels) <= 1.03 * best
    # A range of twice or half the width is seen to be worse.
    for factor in (0.5, 2):
        worse = ValueRange(found.low * factor, found.high * factor)
        assert true_error(numbers, worse, levels) > 1.03 * best


@pytest.mark.parametrize("name", DATA)
def test_the_squared_error_is_that_of_quantizing(name: str) -> None:
    numbers = DATA[name]
    full = statistics(numbers).full
    densities = histogram(numbers).densities().without_zeros()
    for share in (1.0, 0.6, 0.2):
        # Ends at whole steps, as a whole zero point makes them.
        step = (full.high - full.low) * share / 255
        low = round(full.low * share / step) * step
        other = ValueRange(low, low + 255 * step)
        found = squared_error(densities, other.low, other.high, 256) / len(numbers)
        assert found == pytest.approx(true_error(numbers, other), rel=0.03, abs=0)
        if share == 1:
            assert found != pytest.approx(true_error(numbers, other, 230), rel=0.03, abs=0)


def plain_divergence(magnitudes: NDArray[np.float32], threshold: float, levels: int) -> float:
    """Bin by bin, on the numbers themselves."""
    bins = [2.0**octave * (1 + part / 64) for octave in range(-40, 20) for part in range(64)]
    bins = [*(edge for edge in bins if edge < threshold), threshold]
    counts, _ = np.histogram(magnitudes, bins)
    reference = counts.astype(float)
    reference[-1] += np.sum(magnitudes > threshold)
    step = threshold / levels
    per_level, _ = np.histogram(magnitudes, np.arange(levels + 1) * step)
    found = 0.0
    for low, high, share in zip(bins[:-1], bins[1:], reference / reference.sum(), strict=True):
        mass = 0.0
        for level in range(int(low / step), min(int(high / step) + 1, levels)):
            common = min(high, (level + 1) * step) - max(low, level * step)
            mass += per_level[level] * max(common, 0) / step
        if share > 0:
            found += share * math.log(share / max(mass / per_level.sum(), 0.5 / len(magnitudes)))
    return found


@pytest.mark.parametrize("name", ["relu", "heavy"])
def test_entropy_finds_the_least_divergence(name: str) -> None:
    # Many numbers and a few far away, so that the threshold lies in between.
    numbers = np.concatenate([DATA[name], DATA[name].max() * np.array([3, 4, 5], np.float32)])
    known = statistics(numbers)
    found = find_range(known, "entropy")
    end = max(-found.low, found.high)
    levels = 256 if known.full.low == 0 else 128
    magnitudes = abs(numbers[numbers != 0])
    largest = max(-known.low, known.high)
    tried = [largest * 2 ** (-place / 4) for place in range(16)]
    best = min(plain_divergence(magnitudes, other, levels) for other in tried)
    assert plain_divergence(magnitudes, end, levels) < 1.05 * best
    assert plain_divergence(magnitudes, 2 * end, levels) > 1.05 * best
    assert plain_divergence(magnitudes, end / 2, levels) > 1.05 * best
    assert end < largest / 2


@pytest.mark.parametrize("method", ["percentile", "entropy"])
@pytest.mark.parametrize("sign", [1, -1])
def test_one_outlier_does_not_decide(method: str, sign: int) -> None:
    numbers = np.append(NORMAL, np.float32(sign * 1e4))
    known = statistics(numbers)
    for symmetric in (False, True):
        found = find_range(known, method, symmetric=symmetric)
        assert 2 < max(-found.low, found.high) < 12
        widest = find_range(known, "minmax", symmetric=symmetric)
        assert max(-widest.low, widest.high) == 1e4


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([0, 0, 0], ValueRange(0, 0)),
        ([3, 3, 3], ValueRange(0, 3)),
        ([-2.5], ValueRange(-2.5, 0)),
        ([0, -0.0, 1e-42], ValueRange(0, float(np.float32(1e-42)))),
        ([], ValueRange(0, 0)),
    ],
)
def test_degenerate_tensors(method: str, numbers: list[float], expected: ValueRange) -> None:
    array = np.array(numbers, np.float32)
    known = statistics(array) if numbers else Statistics(math.inf, -math.inf, Histogram())
    found = find_range(known, method)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=0.05)
    assert found.low <= 0 <= found.high


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", DATA)
def test_ranges_hold_zero_and_nothing_that_did_not_occur(method: str, name: str) -> None:
    known = statistics(DATA[name])
    for symmetric in (False, True):
        found = find_range(known, method, symmetric=symmetric)
        assert known.full.low <= found.low <= 0 <= found.high <= known.full.high


def test_wrong_usage() -> None:
    known = statistics(NORMAL)
    with pytest.raises(UnknownNameError, match="there are minmax, percentile, entropy, mse"):
        find_range(known, "kl")
    for percentile in (50.0, 100.1, math.nan):
        with pytest.raises(CnnportError, match="above 50 and at most 100"):
            find_range(known, "percentile", percentile=percentile)


# ---- What is kept


def calibration() -> Calibration:
    found = {"a": statistics(NORMAL), "b": statistics(DATA["relu"]), "ä/b:0": statistics(DATA["small"])}
    return Calibration(found, "4 pictures", 3, (Skipped("x\udcff.jpg", "is empty"),))


def test_saved_and_loaded(tmp_path) -> None:
    found = calibration()
    found.save(tmp_path / "found.npz")
    again = Calibration.load(tmp_path / "found.npz")
    assert again.to_bytes() == found.to_bytes()
    assert again.skipped == found.skipped
    assert again.ranges("mse") == found.ranges("mse")
    assert again.to_metadata() == {"source": "4 pictures", "count": 3, "skipped": 1, "random": False}
    empty = Calibration({}, "nothing", 0)
    assert not Calibration.from_bytes(empty.to_bytes()).statistics
    with pytest.raises(UnknownNameError, match="'c' was not calibrated"):
        again.range_of("c", "minmax")
    with pytest.raises(ArtifactError, match="cannot read"):
        Calibration.load(tmp_path / "other.npz")


def test_what_is_damaged_or_pickled_is_refused(tmp_path) -> None:
    data = calibration().to_bytes()
    for damaged in (b"", data[:1000], data[: len(data) // 2], data[:-30], b"PK" + bytes(50)):
        with pytest.raises(ArtifactError, match="no calibration, or is damaged"):
            Calibration.from_bytes(damaged)
    path = tmp_path / "pickled.npz"
    np.savez(path, header=np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ArtifactError, match="no calibration"):
        Calibration.load(path)


def test_calibrations_of_parts_merge() -> None:
    whole = Calibration({"a": statistics(NORMAL)}, "pictures", 4)
    left, right = (
        Calibration({"a": statistics(part)}, "pictures", 2) for part in np.split(NORMAL, [100_000])
    )
    assert left.merged(right).to_bytes() == whole.to_bytes()
    assert left.to_bytes() != whole.to_bytes()
    with pytest.raises(ArtifactError, match="different values"):
        left.merged(Calibration({}, "pictures", 2))
