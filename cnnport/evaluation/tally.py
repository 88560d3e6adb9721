"""What was found so far, as whole numbers, so that the order in which it was found leaves no trace.

Counts add up to the same in any order, and so do probabilities that are held as multiples of 2**-53. Two halves of
an evaluation, on two machines or before and after a break, therefore give to the last digit what one run gives.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

BINS = 15
"""Of confidence, equally wide, for the calibration error."""

TOP = 5

NAMED = 100
"""So many pictures that could not be read are named; all are counted."""

_UNIT = 2**53


@dataclass
class Bin:
    """Answers of like confidence: how many, how many right, and the sum of their confidence."""

    count: int = 0
    right: int = 0
    confidence: int = 0

    @property
    def mean_confidence(self) -> float:
        """From 0 to 1; of at least one answer."""
        return self.confidence / (self.count * _UNIT)


@dataclass
class Tally:
    """Counts of one network's answers.

    Attributes:
        confusion: How many pictures of a class (first) were taken for a class (second).
        in_top: By class, pictures whose class was among the best five.
        bins: By confidence.
        unreadable: How many pictures could not be read.
        reasons: Name and reason of the first of them, by place.
    """

    confusion: Counter[tuple[int, int]] = field(default_factory=Counter)
    in_top: Counter[int] = field(default_factory=Counter)
    bins: list[Bin] = field(default_factory=lambda: [Bin() for _ in range(BINS)])
    unreadable: int = 0
    reasons: dict[int, tuple[str, str]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Pictures that were answered."""
        return sum(each.count for each in self.bins)

    @property
    def right(self) -> int:
        """Pictures whose best class was the right one."""
        return sum(each.right for each in self.bins)

    def add(self, label: int, probabilities: NDArray[np.float64]) -> None:
        """Count one answer; of equal probabilities the lower class comes first."""
        best = int(np.argmax(probabilities))
        own = probabilities[label]
        before = int(np.sum(probabilities > own)) + int(np.sum(probabilities[:label] == own))
        self.confusion[label, best] += 1
        self.in_top[label] += before < TOP
        confidence = min(1.0, max(0.0, float(probabilities[best])))
        held = self.bins[max(0, int(np.ceil(confidence * BINS)) - 1)]
        held.count += 1
        held.right += best == label
        held.confidence += int(confidence * _UNIT)

    def skip(self, place: int, name: str, reason: str) -> None:
        """Count a picture that cannot be read."""
        self.unreadable += 1
        self.reasons[place] = (name, reason)
        self._forget()

    def merge(self, other: "Tally") -> None:
        """Add what another has found on other pictures."""
        self.confusion.update(other.confusion)
        self.in_top.update(other.in_top)
        for own, theirs in zip(self.bins, other.bins, strict=True):
            own.count += theirs.count
            own.right += theirs.right
            own.confidence += theirs.confidence
        self.unreadable += other.unreadable
        self.reasons |= other.reasons
        self._forget()

    def _forget(self) -> None:
        self.reasons = dict(sorted(self.reasons.items())[:NAMED])

    def to_json(self) -> dict[str, Any]:
        """Plain values, in an order that depends on what was found alone."""
        return {
            "confusion": [[*pair, count] for pair, count in sorted(self.confusion.items())],
            "in_top": [list(item) for item in sorted(self.in_top.items())],
            # Decimal, for JSON's readers need not take whole numbers of more than 53 bits.
            "bins": [[each.count, each.right, str(each.confidence)] for each in self.bins],
            "unreadable": self.unreadable,
            "reasons": [[place, *said] for place, said in sorted(self.reasons.items())],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The inverse of ``to_json``.

        Raises:
            KeyError, TypeError, ValueError: If the data is of another form.
        """
        bins = [Bin(int(count), int(right), int(sum_)) for count, right, sum_ in data["bins"]]
        if len(bins) != BINS:
            raise ValueError("another number of bins")
        return cls(
            Counter({(int(label), int(best)): int(count) for label, best, count in data["confusion"]}),
            Counter({int(label): int(count) for label, count in data["in_top"]}),
            bins,
            int(data["unreadable"]),
            {int(place): (str(name), str(reason)) for place, name, reason in data["reasons"]},
        )
