"""Counts up how far two streams of outputs are apart, a few samples at a time in float64 and constant memory.

Classes lie along axis 1, of logits as of maps of logits; every position of a map decides by itself.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnport.agreement.metrics import Metrics, Place, decibels, ratio
from cnnport.agreement.scales import Scale

Array = NDArray[Any]

_TOP = 5


class Meter:
    """Compares one output over a set of inputs."""

    def __init__(self, output: str, scale: Scale, allowed: tuple[float, float] | None) -> None:
        """Begin.

        Args:
            output: Its name.
            scale: Of the reference's output over the whole set.
            allowed: Absolute difference, and beside it a share of each of the reference's magnitudes; None where no
                single value is held to anything.
        """
        self._output, self._scale, self._allowed = output, scale, allowed
        self._samples = self._values = self._beyond = self._misplaced = 0
        self._odd = [0, 0, 0, 0]
        self._max = self._sum = self._squares = 0.0
        self._dot = self._power = self._power_found = self._magnitude = 0.0
        self._cosine_min = 1.0
        self._positions = self._top1 = self._top5 = 0
        self._classes = 0
        self._widest = self._kl_sum = self._kl_max = 0.0
        self._worst: tuple[float, Place] | None = None

    def add(self, expected: Array, found: Array) -> None:
        """Take the outputs for some more samples, which lie along the first axis.

        Raises:
            ValueError: If the shapes differ.
        """
        if expected.shape != found.shape:
            raise ValueError(f"shapes differ: {expected.shape} and {found.shape}")
        left, right = np.asarray(expected, np.float64), np.asarray(found, np.float64)
        self._count_odd(left, right)
        finite = np.isfinite(left) & np.isfinite(right)
        same = (left == right) | (np.isnan(left) & np.isnan(right))
        misplaced = ~finite & ~same
        with np.errstate(invalid="ignore"):
            apart = np.where(finite, np.abs(left - right), 0.0)
        if not self._scale.is_float:
            apart = (apart > 0).astype(np.float64)
        excess = apart
        if self._allowed is not None:
            atol, rtol = self._allowed
            excess = apart - (atol + rtol * np.where(finite, np.abs(left), 0.0))
            self._beyond += int((excess > 0).sum())
        self._note_worst(left, right, np.where(misplaced, np.inf, excess))
        self._misplaced += int(misplaced.sum())
        self._max = max(self._max, float(apart.max(initial=0.0)))
        self._sum += float(apart.sum())
        self._squares += float(np.square(apart).sum())
        exact, other = np.where(finite, left, 0.0), np.where(finite, right, 0.0)
        self._magnitude += float(np.abs(exact).sum())
        self._add_angles(exact, other)
        self._samples += len(expected)
        self._values += int(finite.sum())
        if self._scale.is_float and left.ndim >= 2 and left.shape[1] >= 2:
            self._add_classes(left, right)

    def metrics(self) -> Metrics:
        """Of all that was added."""
        scale, values = self._scale, max(1, self._values)
        mean_square = self._squares / values
        norms = math.sqrt(self._power * self._power_found)
        has_scores = self._positions > 0
        return Metrics(
            count=self._samples,
            values=self._values,
            max_abs=self._max,
            mean_abs=self._sum / values,
            max_rel=ratio(self._max, scale.largest),
            mean_rel=ratio(self._sum, self._magnitude),
            error_in_std=ratio(self._max, scale.spread),
            cosine=self._dot / norms if norms > 0 else float(self._squares == 0),
            cosine_min=self._cosine_min,
            psnr_db=decibels((scale.high - scale.low) ** 2, mean_square),
            sqnr_db=decibels(self._power, self._squares),
            top1=self._top1 if has_scores else None,
            top5=self._top5 if has_scores and self._classes > _TOP else None,
            positions=self._positions,
            widest_flip=self._widest,
            kl_mean=self._kl_sum / self._positions if has_scores else None,
            kl_max=self._kl_max if has_scores else None,
            nan=self._odd[0],
            inf=self._odd[1],
            reference_nan=self._odd[2],
            reference_inf=self._odd[3],
            misplaced=self._misplaced,
            beyond=self._beyond,
            worst=None if self._worst is None else self._worst[1],
        )

    def _count_odd(self, left: Array, right: Array) -> None:
        counts = (np.isnan(right), np.isinf(right), np.isnan(left), np.isinf(left))
        self._odd = [old + int(new.sum()) for old, new in zip(self._odd, counts, strict=True)]

    def _note_worst(self, left: Array, right: Array, excess: Array) -> None:
        if not excess.size:
            return
        place = int(excess.argmax())
        value = float(excess.flat[place])
        if self._worst is None or value > self._worst[0]:
            sample, *index = (int(each) for each in np.unravel_index(place, excess.shape))
            found = Place(
                self._samples + sample,
                self._output,
                tuple(index),
                float(left.flat[place]),
                float(right.flat[place]),
            )
            self._worst = value, found

    def _add_angles(self, exact: Array, other: Array) -> None:
        rows, others = exact.reshape(len(exact), -1), other.reshape(len(other), -1)
        dots = (rows * others).sum(axis=1)
        powers, powers_found = np.square(rows).sum(axis=1), np.square(others).sum(axis=1)
        self._dot += float(dots.sum())
        self._power += float(powers.sum())
        self._power_found += float(powers_found.sum())
        norms = np.sqrt(powers * powers_found)
        cosines = np.divide(dots, norms, out=(rows == others).all(axis=1).astype(np.float64), where=norms > 0)
        self._cosine_min = min(self._cosine_min, float(cosines.min(initial=1.0)))

    def _add_classes(self, left: Array, right: Array) -> None:
        """Decisions and divergences of the positions where both are finite in every class."""
        rows, others = (np.moveaxis(each, 1, -1).reshape(-1, left.shape[1]) for each in (left, right))
        usable = np.isfinite(rows).all(axis=1) & np.isfinite(others).all(axis=1)
        self._classes = rows.shape[1]
        self._positions += len(rows)
        rows, others = rows[usable], others[usable]
        if not len(rows):
            return
        best = rows.argmax(axis=1)
        taken = others.argmax(axis=1)
        flipped = best != taken
        self._top1 += int((~flipped).sum())
        if self._classes > _TOP:
            own = np.take_along_axis(others, best[:, None], 1)
            # With ties, the lower index goes first, as argmax has it.
            earlier = np.arange(self._classes)[None, :] < best[:, None]
            ahead = (others > own).sum(axis=1) + ((others == own) & earlier).sum(axis=1)
            self._top5 += int((ahead < _TOP).sum())
        if flipped.any():
            two = np.partition(rows[flipped], -2, axis=1)[:, -2:]
            self._widest = max(self._widest, ratio(float((two[:, 1] - two[:, 0]).max()), self._scale.spread))
        logs, other_logs = _log_softmax(rows), _log_softmax(others)
        divergences = np.maximum((np.exp(logs) * (logs - other_logs)).sum(axis=1), 0.0)
        self._kl_sum += float(divergences.sum())
        self._kl_max = max(self._kl_max, float(divergences.max()))


def _log_softmax(rows: Array) -> Array:
    moved = rows - rows.max(axis=1, keepdims=True)
    logs: Array = moved - np.log(np.exp(moved).sum(axis=1, keepdims=True))
    return logs
