"""What the counts of an evaluation say: accuracy with its intervals, each class, and how far to believe confidence.

Intervals are Wilson's, at 95 % (Journal of the American Statistical Association 22, 1927). Precision, recall and F1
of a class that is never answered are 0. Averages over classes are over those that have pictures: macro counts each
once, weighted by its pictures. The expected calibration error (Guo et al., arXiv:1706.04599) is the difference
between accuracy and mean confidence in each of 15 equally wide bins of confidence, weighted by their pictures.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cnnport.evaluation.tally import Tally

# Of the normal distribution, for 95 %.
_Z = 1.959963984540054

Interval = tuple[float, float]


@dataclass(frozen=True)
class ClassMetrics:
    """Of one class; shares are from 0 to 1.

    Attributes:
        index: Of the class.
        label: Its name, where the file states one.
        count: Pictures of it.
        answered: Pictures that were taken for it.
        right: Pictures of it that were.
        top5: Share of its pictures for which it was among the best five.
        precision: Share of the answers that were right.
        recall: Share of its pictures that were found: the top-1 of the class.
        recall_interval: At 95 %.
        f1: Harmonic mean of precision and recall.
    """

    index: int
    label: str | None
    count: int
    answered: int
    right: int
    top5: float
    precision: float
    recall: float
    recall_interval: Interval
    f1: float


@dataclass(frozen=True)
class Metrics:
    """Of all pictures; shares are from 0 to 1.

    Attributes:
        count: Pictures that were answered.
        top1: Share whose best class is right, and its interval at 95 %.
        top5: Share whose class is among the best five, likewise.
        macro: ``precision``, ``recall`` and ``f1``, each class counted once.
        weighted: The same, each class by its pictures.
        calibration_error: Expected.
        confidence: Mean of the best class's probability.
        bins: Of confidence, those with answers: ``from``, ``to``, ``count``, ``accuracy``, ``confidence``.
        classes: Those with pictures or answers, by index.
        confusion: Class, answer and how often, where it was not right; the most frequent first.
    """

    count: int
    top1: float
    top1_interval: Interval
    top5: float
    top5_interval: Interval
    macro: dict[str, float]
    weighted: dict[str, float]
    calibration_error: float
    confidence: float
    bins: list[dict[str, float]]
    classes: list[ClassMetrics]
    confusion: list[tuple[int, int, int]]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def wilson(right: int, count: int) -> Interval:
    """Wilson's interval of a share at 95 %; of no observations, everything."""
    if count == 0:
        return 0.0, 1.0
    share, square = right / count, _Z * _Z / count
    middle = share + square / 2
    reach = _Z * math.sqrt(share * (1 - share) / count + square / (4 * count))
    low, high = ((middle + sign * reach) / (1 + square) for sign in (-1, 1))
    # At the ends the formula gives them but for rounding.
    return (0.0 if right == 0 else low), (1.0 if right == count else high)


def metrics_of(tally: Tally, labels: Sequence[str] | None) -> Metrics:
    """What a tally says.

    Args:
        tally: Of at least one answer.
        labels: Names of the classes, if they have any.
    """
    count, right = tally.count, tally.right
    in_top = sum(tally.in_top.values())
    classes = _classes(tally, labels)
    wrong = [(label, best, times) for (label, best), times in tally.confusion.items() if label != best]
    return Metrics(
        count=count,
        top1=_share(right, count),
        top1_interval=wilson(right, count),
        top5=_share(in_top, count),
        top5_interval=wilson(in_top, count),
        macro=_average(classes, [1 for each in classes if each.count]),
        weighted=_average(classes, [each.count for each in classes if each.count]),
        calibration_error=_calibration_error(tally),
        confidence=sum(each.confidence for each in tally.bins) / (count * 2**53),
        bins=_bins(tally),
        classes=classes,
        confusion=sorted(wrong, key=lambda entry: (-entry[2], entry[0], entry[1])),
    )


def _classes(tally: Tally, labels: Sequence[str] | None) -> list[ClassMetrics]:
    counts: Counter[int] = Counter()
    answers: Counter[int] = Counter()
    for (label, best), times in tally.confusion.items():
        counts[label] += times
        answers[best] += times
    found = []
    for index in sorted(counts.keys() | answers.keys()):
        count, answered, right = counts[index], answers[index], tally.confusion[index, index]
        found.append(
            ClassMetrics(
                index=index,
                label=labels[index] if labels else None,
                count=count,
                answered=answered,
                right=right,
                top5=_share(tally.in_top[index], count),
                precision=_share(right, answered),
                recall=_share(right, count),
                recall_interval=wilson(right, count),
                # 2 p r / (p + r), of whole numbers.
                f1=_share(2 * right, count + answered),
            )
        )
    return found


def _average(classes: Sequence[ClassMetrics], weights: Sequence[int]) -> dict[str, float]:
    """Over the classes that have pictures, for each of which there is a weight."""
    rows = [each for each in classes if each.count]
    return {
        name: math.fsum(weight * getattr(row, name) for weight, row in zip(weights, rows, strict=True))
        / sum(weights)
        for name in ("precision", "recall", "f1")
    }


def _calibration_error(tally: Tally) -> float:
    # In units of 2**-53 throughout, so that nothing is rounded before the end.
    apart = sum(abs((each.right << 53) - each.confidence) for each in tally.bins)
    return apart / (tally.count * 2**53)


def _bins(tally: Tally) -> list[dict[str, float]]:
    width = 1 / len(tally.bins)
    return [
        {
            "from": round(place * width, 6),
            "to": round((place + 1) * width, 6),
            "count": each.count,
            "accuracy": _share(each.right, each.count),
            "confidence": each.mean_confidence,
        }
        for place, each in enumerate(tally.bins)
        if each.count
    ]


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
