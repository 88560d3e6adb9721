"""How far a candidate may be from the reference, by what both compute in, and why."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cnnport.agreement.scales import Scale
from cnnport.artifact import Artifact
from cnnport.compare import FP32_TOLERANCE
from cnnport.errors import CnnportError

# A result is itself rounded, whatever the deviation of the output; as of ``difference``.
_ROUNDINGS = 8.0
_STEPS = {"fp32": 2.0**-23, "tf32": 2.0**-10, "fp16": 2.0**-10, "bf16": 2.0**-7, "int8": 2.0**-7}

# What a file in halves is held to at least, as of ``half_precision``; TensorFloat-32 keeps as many digits as float16.
_HALF = {"tf32": 2e-2, "fp16": 2e-2, "bf16": 1e-1}

# Of other samples than those that a file was judged on, the error may have twice the amplitude.
_JUDGED_SLACK_DB = 6.0
_INT8_DB = 10.0

FLIPPED_SHARE = 1e-3
"""How many indices and decisions, which come out of float numbers, may lie on the edge and differ."""


@dataclass(frozen=True)
class Tolerance:
    """What a comparison is held to.

    Attributes:
        precision: The coarser one of the two sides.
        reason: Why so much, in a sentence.
        in_std: Largest difference in standard deviations of the reference's output; None where none is meant.
        atol: Largest absolute difference; None where none was given.
        rtol: As a share of each of the reference's magnitudes, beside ``atol``; None where none was given.
        sqnr_db: Least power of the reference over that of the difference, over a set; None where none is meant.
    """

    precision: str
    reason: str
    in_std: float | None = None
    atol: float | None = None
    rtol: float | None = None
    sqnr_db: float | None = None

    @property
    def is_given(self) -> bool:
        """Whether the user gave it."""
        return self.atol is not None or self.rtol is not None

    def allowed(self, scale: Scale, rounding_in_std: float = 0.0) -> tuple[float, float] | None:
        """Absolute difference, and share of each magnitude beside it; None where no single value is held to any.

        Args:
            scale: Of the reference's output.
            rounding_in_std: How far float32 may be off where that is more than the tolerance; see ``exact``.
        """
        if not scale.is_float:
            return 0.0, 0.0
        if self.is_given:
            return self.atol or 0.0, self.rtol or 0.0
        if self.in_std is None:
            return None
        roundings = _ROUNDINGS * _STEPS[self.precision] * scale.largest
        return max(self.in_std, rounding_in_std) * scale.spread + roundings, 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "precision": self.precision,
            "reason": self.reason,
            "in_std": self.in_std,
            "atol": self.atol,
            "rtol": self.rtol,
            "sqnr_db": self.sqnr_db,
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "Tolerance":
        """The other end of ``to_json``. Raises ``KeyError``, ``TypeError`` and ``ValueError`` if it is none."""
        numbers = {
            name: None if row[name] is None else float(row[name])
            for name in ("in_std", "atol", "rtol", "sqnr_db")
        }
        return cls(str(row["precision"]), str(row["reason"]), **numbers)

    def __str__(self) -> str:
        """As it stands in a table."""
        if self.is_given:
            parts = [f"atol {self.atol:g}" if self.atol else "", f"rtol {self.rtol:g}" if self.rtol else ""]
            return " ".join(part for part in parts if part) or "equal"
        if self.in_std is not None:
            return f"{self.in_std:.1e} std"
        return "finite" if self.sqnr_db is None else f"{self.sqnr_db:.0f} dB"


def tolerance_of(
    artifact: Artifact,
    precision: str,
    *,
    is_random: bool,
    atol: float | None = None,
    rtol: float | None = None,
) -> Tolerance:
    """What a file is held to that computes in a precision.

    Args:
        artifact: What it says of itself is taken into account.
        precision: ``fp32``, ``tf32``, ``fp16``, ``bf16`` or ``int8``.
        is_random: Whether the inputs are noise.
        atol: The user's own, instead of the rest.
        rtol: Likewise.

    Raises:
        CnnportError: If one of these is negative or no number.
    """
    for name, value in (("--atol", atol), ("--rtol", rtol)):
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise CnnportError(f"{name} is a number from 0, not {value:g}")
    if atol is not None or rtol is not None:
        return Tolerance(precision, "given by the user", atol=atol, rtol=rtol)
    if precision == "fp32":
        reason = (
            "sums taken in another order differ by some 1e-6 of the deviation, and a hundred layers add up"
        )
        return Tolerance(precision, reason, in_std=FP32_TOLERANCE)
    if precision in _HALF:
        return _of_halves(artifact, precision)
    return _of_int8(artifact, is_random=is_random)


def coarser(left: Tolerance, right: Tolerance) -> Tolerance:
    """The one that allows more: two sides that round are both off."""
    order = list(_STEPS)
    return max(left, right, key=lambda each: (order.index(each.precision), each.in_std or 0.0))


def loosened(tolerance: Tolerance) -> Tolerance:
    """For inputs unlike any that 8 bits were calibrated with: saturated values are no fault, and only NaN is one."""
    if tolerance.precision != "int8" or tolerance.is_given:
        return tolerance
    reason = "inputs outside of what 8 bits were calibrated with saturate: only NaN and infinity are faults"
    return replace(tolerance, sqnr_db=None, reason=reason)


def _of_halves(artifact: Artifact, precision: str) -> Tolerance:
    least = _HALF[precision]
    stated = _stated(artifact, "cnnport.half").get("tolerance_in_std")
    if isinstance(stated, int | float) and math.isfinite(stated) and stated > least:
        reason = "twice what rounding the weights alone does, as the file states"
        return Tolerance(precision, reason, in_std=float(stated))
    reason = (
        f"numbers of {precision} have three digits or fewer, and roundings of weights and of layers add up"
    )
    return Tolerance(precision, reason, in_std=least)


def _of_int8(artifact: Artifact, *, is_random: bool) -> Tolerance:
    facts = _stated(artifact, "cnnport.quantization")
    judged = facts.get("judged")
    stated = judged.get("sqnr_db") if isinstance(judged, dict) else None
    was_random = "accuracy_claim" in facts
    if isinstance(stated, int | float) and math.isfinite(stated) and was_random == is_random:
        reason = f"the file was judged at {stated:.1f} dB when it was quantized, of which 6 dB may be lost"
        return Tolerance("int8", reason, sqnr_db=float(stated) - _JUDGED_SLACK_DB)
    reason = "a level of 8 bits is 0.8 % of a range: what is less than 10 dB has lost more than last bits"
    return Tolerance("int8", reason, sqnr_db=_INT8_DB)


def _stated(artifact: Artifact, key: str) -> dict[str, Any]:
    try:
        found = json.loads(artifact.metadata.get(key, "{}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
