"""How far two sets of outputs are apart. Arrays in, numbers out."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Largest difference that two correct float32 executions of one CNN may show, in standard deviations of the
# reference output: sums taken in another order differ by some 1e-6 of it, and a hundred layers add up.
FP32_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Agreement:
    """A candidate's outputs held against a reference's.

    Attributes:
        max_abs: Largest absolute difference.
        mean_abs: Mean absolute difference.
        max_rel: Largest absolute difference over the largest absolute reference value.
        spread: ``spread_of`` the reference.
        cosine: Cosine of the angle between the two, flattened; 1 where both are zero.
        top1: Share of rows (all but the last axis flattened) whose largest value lies at the same index.
        finite: Whether neither holds NaN or infinity.
    """

    max_abs: float
    mean_abs: float
    max_rel: float
    spread: float
    cosine: float
    top1: float
    finite: bool

    @property
    def error(self) -> float:
        """``max_abs`` in standard deviations of the reference; infinite if anything is not finite."""
        if not self.finite:
            return float("inf")
        if self.max_abs == 0:
            return 0.0
        return self.max_abs / self.spread if self.spread > 0 else float("inf")

    def within(self, tolerance: float = FP32_TOLERANCE) -> bool:
        """Whether ``error`` is at most ``tolerance``."""
        return self.error <= tolerance


def incomparable() -> Agreement:
    """What stands for outputs that are not finite, or not there."""
    nan = float("nan")
    return Agreement(nan, nan, nan, nan, nan, nan, finite=False)


def spread_of(values: NDArray[np.generic]) -> float:
    """What differences are held against: the standard deviation, or the magnitude of a number that is alone.

    One pair of pictures has one similarity, and one number does not deviate.
    """
    exact = np.asarray(values, dtype=np.float64)
    if exact.size <= 1:
        return float(np.abs(exact).sum())
    return float(exact.std())


def compare(reference: NDArray[np.generic], candidate: NDArray[np.generic]) -> Agreement:
    """Compare one output. Work is done in float64.

    Raises:
        ValueError: If the shapes differ.
    """
    if reference.shape != candidate.shape:
        raise ValueError(f"shapes differ: {reference.shape} and {candidate.shape}")
    left = np.asarray(reference, dtype=np.float64)
    right = np.asarray(candidate, dtype=np.float64)
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        return incomparable()
    difference = np.abs(left - right)
    scale = float(np.abs(left).max(initial=0.0))
    norms = float(np.linalg.norm(left) * np.linalg.norm(right))
    cosine = float(np.vdot(left, right)) / norms if norms > 0 else float(not difference.any())
    rows = left.reshape(-1, left.shape[-1]) if left.ndim else left.reshape(1, 1)
    same = rows.argmax(axis=1) == right.reshape(rows.shape).argmax(axis=1) if rows.size else np.ones(1)
    largest = float(difference.max(initial=0.0))
    return Agreement(
        max_abs=largest,
        mean_abs=float(difference.mean()) if difference.size else 0.0,
        max_rel=largest / scale if scale > 0 else float(largest > 0),
        spread=spread_of(left),
        cosine=cosine,
        top1=float(np.mean(same)),
        finite=True,
    )
