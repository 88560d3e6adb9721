"""Whether float32's own rounding explains why two executions are further apart than the tolerance.

Some networks magnify roundings. Both sides are then computed in float64, of which the roundings are a billion times
smaller: the two graphs have to agree there, and the candidate's float32 may be as far from its float64 as a few times
what the reference's is. A runtime that is worse than that is at fault, however right its graph is.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnnport.agreement.answers import Answered, matched
from cnnport.agreement.candidates import PYTORCH, Candidate
from cnnport.agreement.metrics import ratio
from cnnport.agreement.opened import CandidateError, Opened
from cnnport.agreement.rows import Array
from cnnport.compare import FP32_TOLERANCE

_OWN_TIMES = 4.0

# Beyond this share of the deviation float32 says nothing of a network any more.
_LIMIT = 1e-2

# In float64, with copies, the weights take ten times their size.
_LIMIT_BYTES = 150 * 10**6


@dataclass(frozen=True)
class Exactly:
    """Distances on one sample, in standard deviations of the output.

    Attributes:
        graphs: Between the two sides in float64.
        reference: Of the reference in float32 from itself in float64.
        candidate: Of the candidate likewise.
    """

    graphs: float
    reference: float
    candidate: float

    @property
    def allowed(self) -> float:
        """How far the candidate's float32 may be off."""
        return min(_LIMIT, max(FP32_TOLERANCE, _OWN_TIMES * self.reference))

    @property
    def is_rounding(self) -> bool:
        """Whether rounding explains the distance."""
        return self.graphs <= FP32_TOLERANCE and self.candidate <= self.allowed

    def __str__(self) -> str:
        return (
            f"in float64 the two are {self.graphs:.1e} std apart; float32 is off by {self.reference:.1e} in the "
            f"reference and {self.candidate:.1e} here"
        )


class Arbiter:
    """Computes in float64, each side of a sample once.

    What float32 is off by is taken from samples that are run alone: in a batch, a fault that mixes images would look
    like rounding, and excuse itself.
    """

    def __init__(self, reference: Candidate, folder: Path) -> None:
        """Nothing is computed yet; files are handed over in ``folder``."""
        self._reference, self._folder = reference, folder
        self._kept: dict[tuple[str, bool, str, int], dict[str, Array] | None] = {}
        self._own: dict[tuple[str, int], float | None] = {}

    def settle(self, opened: Opened, answered: Answered, place: int) -> Exactly | None:
        """The distances on one sample of a set; None where float64 cannot be had.

        Raises:
            CandidateError: If the candidate no longer runs.
        """
        exact = self._exact(self._reference, answered, place)
        other = self._exact(opened.candidate, answered, place)
        own = self._rounding(answered, place)
        if exact is None or other is None or own is None:
            return None
        found = opened.run(answered.inputs, place, place + 1)
        return Exactly(_furthest(answered, exact, other), own, _furthest(answered, other, found))

    def allowed(self, candidate: Candidate, answered: Answered, place: int, *, again: bool) -> float | None:
        """How far a candidate may be off from itself on a sample, in standard deviations; None where nobody can tell.

        Args:
            candidate: Which.
            answered: A set of inputs.
            place: Of a sample in it.
            again: Whether it is the very same that is run again, in which the reference cannot vouch for itself.
        """
        if again and candidate == self._reference:
            return None
        own = self._rounding(answered, place)
        return None if own is None else Exactly(0.0, own, 0.0).allowed

    def _rounding(self, answered: Answered, place: int) -> float | None:
        """How far the reference in float32 is from itself in float64."""
        key = (answered.inputs.name, place)
        if key not in self._own:
            self._own[key] = None
            exact = self._exact(self._reference, answered, place)
            if exact is not None:
                with suppress(CandidateError), Opened(self._reference, self._folder / "alone") as opened:
                    alone = opened.run(answered.inputs, place, place + 1)
                    self._own[key] = _furthest(answered, exact, alone)
        return self._own[key]

    def _exact(self, candidate: Candidate, answered: Answered, place: int) -> dict[str, Array] | None:
        artifact = candidate.artifact
        is_torch = candidate.runtime in PYTORCH
        key = (artifact.sha256, is_torch, answered.inputs.name, place)
        if key not in self._kept:
            self._kept[key] = None
            if artifact.path.suffix == ".onnx" and artifact.path.stat().st_size <= _LIMIT_BYTES:
                with suppress(CandidateError), Opened(candidate, self._folder / "exact", exact=True) as wide:
                    self._kept[key] = wide.run(answered.inputs, place, place + 1)
        return self._kept[key]


def _furthest(answered: Answered, left: dict[str, Array], right: dict[str, Array]) -> float:
    """Over the outputs of one sample, in standard deviations."""
    names = list(answered.files)
    left, right = matched(left, names), matched(right, names)
    return max(
        (
            ratio(_apart(left[name], right[name]), answered.scales[name].spread)
            for name in names
            if answered.scales[name].is_float
        ),
        default=0.0,
    )


def _apart(left: Array, right: Array) -> float:
    return float(np.abs(np.asarray(left, np.float64) - np.asarray(right, np.float64)).max(initial=0.0))
