"""How far two streams of outputs are apart: the numbers of a comparison, which ``meter`` counts up."""

import math
from dataclasses import dataclass, replace
from typing import Any

from cnnport.agreement.proportions import wilson_interval


@dataclass(frozen=True)
class Place:
    """One value that is not as it should be.

    Attributes:
        sample: Place of the input in its set.
        output: Name of the output.
        index: Of the value within that sample's output.
        expected: The reference's value.
        found: The candidate's.
    """

    sample: int
    output: str
    index: tuple[int, ...]
    expected: float
    found: float

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is not finite as text."""
        return {
            "sample": self.sample,
            "output": self.output,
            "index": list(self.index),
            "expected": plain(self.expected),
            "found": plain(self.found),
        }

    def __str__(self) -> str:
        index = ", ".join(map(str, self.index))
        return f"{self.output}[{index}] is {self.found:.6g} where {self.expected:.6g} was expected"


@dataclass(frozen=True)
class Metrics:
    """One output over one set of inputs; distances are over the values that are finite on both sides.

    Attributes:
        count: Samples.
        values: Numbers compared.
        max_abs: Largest absolute difference; for integers 1 where any differs.
        mean_abs: Mean absolute difference; for integers the share that differs.
        max_rel: ``max_abs`` over the reference's largest magnitude.
        mean_rel: Sum of absolute differences over the sum of the reference's magnitudes.
        error_in_std: ``max_abs`` in standard deviations of the reference.
        cosine: Of the angle between the two over all samples.
        cosine_min: The same of the sample for which it is least.
        psnr_db: Of the reference's range against the mean square; infinite where there is no difference.
        sqnr_db: Power of the reference over that of the difference.
        top1: Positions whose largest score is the same class's; None without scores.
        top5: Positions of which the reference's class is among the candidate's five best; None without so many.
        positions: Of how many.
        widest_flip: The reference's lead of its class over the next, in standard deviations, at the clearest of the
            decisions that the candidate takes otherwise; 0 where none.
        kl_mean: Mean Kullback-Leibler divergence of the softmax from the reference's, in nats; None without scores.
        kl_max: The largest.
        nan: NaN in the candidate.
        inf: Infinities in the candidate.
        reference_nan: NaN in the reference.
        reference_inf: Infinities in the reference.
        misplaced: Values that are finite on one side alone, or infinite with another sign.
        beyond: Values further apart than allowed.
        worst: The one that is furthest beyond what is allowed, or furthest apart where none is; one that is not
            finite comes first.
    """

    count: int
    values: int
    max_abs: float
    mean_abs: float
    max_rel: float
    mean_rel: float
    error_in_std: float
    cosine: float
    cosine_min: float
    psnr_db: float
    sqnr_db: float
    top1: int | None
    top5: int | None
    positions: int
    widest_flip: float
    kl_mean: float | None
    kl_max: float | None
    nan: int
    inf: int
    reference_nan: int
    reference_inf: int
    misplaced: int
    beyond: int
    worst: Place | None

    @property
    def top1_agreement(self) -> float | None:
        """Share of positions of the same class."""
        return None if self.top1 is None else self.top1 / self.positions

    @property
    def top1_interval(self) -> tuple[float, float] | None:
        """Its 95 % interval."""
        return None if self.top1 is None else wilson_interval(self.top1, self.positions)

    @property
    def top5_agreement(self) -> float | None:
        """Share of positions whose class is among the five best."""
        return None if self.top5 is None else self.top5 / self.positions

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is not finite as text."""
        interval = self.top1_interval
        return {
            "count": self.count,
            "max_abs": plain(self.max_abs),
            "mean_abs": plain(self.mean_abs),
            "max_rel": plain(self.max_rel),
            "mean_rel": plain(self.mean_rel),
            "error_in_std": plain(self.error_in_std),
            "cosine": plain(self.cosine),
            "cosine_min": plain(self.cosine_min),
            "psnr_db": plain(self.psnr_db),
            "sqnr_db": plain(self.sqnr_db),
            "top1_agreement": self.top1_agreement,
            "top1_interval": None if interval is None else list(interval),
            "top5_agreement": self.top5_agreement,
            "positions": self.positions,
            "widest_flip_in_std": plain(self.widest_flip),
            "kl_mean": plain(self.kl_mean),
            "kl_max": plain(self.kl_max),
            "nan": self.nan,
            "inf": self.inf,
            "reference_nan": self.reference_nan,
            "reference_inf": self.reference_inf,
            "misplaced": self.misplaced,
            "beyond": self.beyond,
            "worst": None if self.worst is None else self.worst.to_json(),
        }


def worst_of(left: Metrics, right: Metrics) -> Metrics:
    """One for two outputs, or two sets: the worse value of every kind, and decisions of the first that has any."""
    scores = left if left.top1 is not None else right
    furthest = max(left, right, key=lambda each: (each.misplaced > 0, each.beyond > 0, each.error_in_std))
    return replace(
        furthest,
        max_abs=max(left.max_abs, right.max_abs),
        mean_abs=max(left.mean_abs, right.mean_abs),
        max_rel=max(left.max_rel, right.max_rel),
        mean_rel=max(left.mean_rel, right.mean_rel),
        error_in_std=max(left.error_in_std, right.error_in_std),
        cosine=min(left.cosine, right.cosine),
        cosine_min=min(left.cosine_min, right.cosine_min),
        psnr_db=min(left.psnr_db, right.psnr_db),
        sqnr_db=min(left.sqnr_db, right.sqnr_db),
        top1=scores.top1,
        top5=scores.top5,
        positions=scores.positions,
        widest_flip=scores.widest_flip,
        kl_mean=scores.kl_mean,
        kl_max=scores.kl_max,
        nan=left.nan + right.nan,
        inf=left.inf + right.inf,
        reference_nan=left.reference_nan + right.reference_nan,
        reference_inf=left.reference_inf + right.reference_inf,
        misplaced=left.misplaced + right.misplaced,
        beyond=left.beyond + right.beyond,
    )


def ratio(part: float, whole: float) -> float:
    """A share; nothing of nothing is 0, something of nothing infinite."""
    if part == 0:
        return 0.0
    return part / whole if whole > 0 else math.inf


def decibels(signal: float, noise: float) -> float:
    """A ratio of powers in dB; infinite without noise."""
    if noise == 0:
        return math.inf
    return 10.0 * math.log10(signal / noise) if signal > 0 else -math.inf


def plain(value: float | None) -> float | str | None:
    """A number as JSON has it: what is not finite becomes ``nan``, ``inf`` or ``-inf``."""
    return value if value is None or math.isfinite(value) else str(value)
