"""Inputs for which the network can hardly decide: two samples of different classes, mixed until it hesitates.

There a candidate shows down to which lead of one class over the next it decides as the reference does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cnnport.agreement.inputs import InputSet
from cnnport.agreement.rows import Array
from cnnport.trial_inputs import Arrays

# Pairs of samples, and halvings of the way between them: the lead shrinks by about two with each.
_PAIRS = 4
_HALVINGS = 16

# In standard deviations of the scores: ten times what two executions in float32 may differ by. Below, a decision
# says nothing of either.
_LEAD = 1e-3


@dataclass(frozen=True)
class NearTie:
    """A mixture of two samples.

    Attributes:
        feeds: The input.
        title: What it is made of.
        lead: Of the best score over the next, in standard deviations of the scores.
    """

    feeds: Arrays
    title: str
    lead: float


def find_near_ties(
    samples: InputSet, scores: Array, run: Callable[[Sequence[Arrays]], Array], spread: float
) -> tuple[NearTie, ...]:
    """Mix pairs of samples of different classes; none where all are of one class.

    Args:
        samples: What is mixed.
        scores: The reference's for each of them, classes along axis 1.
        run: Gives its scores for some inputs.
        spread: Standard deviation of the scores.
    """
    best = scores.reshape(*scores.shape[:2], -1)[:, :, 0].argmax(axis=1)
    pairs = _pairs(best)
    if not pairs or spread <= 0:
        return ()
    ends = [(samples.load(left, left + 1), samples.load(right, right + 1)) for left, right in pairs]
    low, high = [0.0] * len(pairs), [1.0] * len(pairs)
    found: list[NearTie | None] = [None] * len(pairs)
    for _ in range(_HALVINGS):
        open_ones = [place for place in range(len(pairs)) if _is_open(found[place])]
        if not open_ones:
            break
        shares = {place: (low[place] + high[place]) / 2 for place in open_ones}
        mixed = {place: _mix(*ends[place], share) for place, share in shares.items()}
        answers = run(list(mixed.values()))
        for place, answer in zip(mixed, answers, strict=True):
            flat = answer.reshape(answer.shape[0], -1)[:, 0].astype(np.float64)
            second, first = np.partition(flat, -2)[-2:]
            left, right = pairs[place]
            title = f"{samples.titles[left]} and {shares[place]:.4f} of {samples.titles[right]}"
            tie = NearTie(mixed[place], title, float(first - second) / spread)
            nearest = found[place]
            if nearest is None or tie.lead < nearest.lead:
                found[place] = tie
            if int(flat.argmax()) == best[left]:
                low[place] = shares[place]
            else:
                high[place] = shares[place]
    return tuple(tie for tie in found if tie is not None)


def _is_open(tie: NearTie | None) -> bool:
    return tie is None or tie.lead > _LEAD


def _pairs(best: Array) -> list[tuple[int, int]]:
    """Places of samples of different classes, each in one pair at most."""
    pairs: list[tuple[int, int]] = []
    free = list(range(len(best)))
    while free and len(pairs) < _PAIRS:
        left = free.pop(0)
        partner = next((place for place in free if best[place] != best[left]), None)
        if partner is not None:
            free.remove(partner)
            pairs.append((left, partner))
    return pairs


def _mix(left: dict[str, Array], right: dict[str, Array], share: float) -> Arrays:
    """Floating-point inputs between the two; of others the first one's."""
    return {
        name: (
            ((1 - share) * array.astype(np.float64) + share * right[name].astype(np.float64)).astype(
                array.dtype
            )
            if array.dtype.kind == "f"
            else np.array(array)
        )
        for name, array in left.items()
    }
