"""What is counted and what the counts say: against plain arithmetic, scikit-learn, and any order of the parts."""

import itertools
import json
import math

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from cnnport.evaluation import tally as tally_module
from cnnport.evaluation.metrics import metrics_of, wilson
from cnnport.evaluation.tally import BINS, NAMED, Tally

CLASSES = 12
RNG = np.random.default_rng(0)


def answers(count: int = 400) -> list[tuple[int, np.ndarray]]:
    """Labels and probabilities of a network that is right now and then, too sure of itself here, too little there."""
    found = []
    for _ in range(count):
        label = int(RNG.integers(0, CLASSES - 2))
        logits = RNG.normal(size=CLASSES) * 1.5
        logits[label] += 2.5
        logits *= RNG.uniform(0.2, 3.0)
        softmax = np.exp(logits)
        found.append((label, softmax / softmax.sum()))
    return found


ANSWERS = answers()


def counted(pairs: list[tuple[int, np.ndarray]]) -> Tally:
    tally = Tally()
    for label, probabilities in pairs:
        tally.add(label, probabilities)
    return tally


def plain(pairs: list[tuple[int, np.ndarray]]) -> dict[str, float]:
    """The same figures, written out."""
    top1 = sum(int(np.argsort(-row, kind="stable")[0] == label) for label, row in pairs)
    top5 = sum(int(label in np.argsort(-row, kind="stable")[:5]) for label, row in pairs)
    error = 0.0
    for place in range(15):
        inside = [
            (row.max(), np.argmax(row) == label)
            for label, row in pairs
            if place / 15 < row.max() <= (place + 1) / 15
        ]
        if inside:
            confidence = math.fsum(each for each, _ in inside) / len(inside)
            right = sum(each for _, each in inside) / len(inside)
            error += len(inside) / len(pairs) * abs(right - confidence)
    return {"top1": top1 / len(pairs), "top5": top5 / len(pairs), "calibration_error": error}


def is_as_plain(pairs: list[tuple[int, np.ndarray]]) -> bool:
    found = metrics_of(counted(pairs), None)
    return all(
        getattr(found, name) == pytest.approx(value, abs=1e-12) for name, value in plain(pairs).items()
    )


def test_figures_are_those_of_plain_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_as_plain(ANSWERS)
    assert BINS == 15
    monkeypatch.setattr(tally_module, "TOP", 4)
    assert not is_as_plain(ANSWERS)
    monkeypatch.setattr(tally_module, "TOP", 5)
    monkeypatch.setattr(tally_module, "BINS", 14)
    assert not is_as_plain(ANSWERS)


@pytest.mark.parametrize("average", ["macro", "weighted"])
def test_precision_recall_and_f1_are_scikit_learns(average: str) -> None:
    labels = [label for label, _ in ANSWERS]
    best = [int(np.argmax(row)) for _, row in ANSWERS]
    expected = sklearn_metrics.precision_recall_fscore_support(
        labels, best, labels=sorted(set(labels)), average=average, zero_division=0
    )
    found = getattr(metrics_of(counted(ANSWERS), None), average)
    assert [found[name] for name in ("precision", "recall", "f1")] == pytest.approx(expected[:3], abs=1e-12)
    # Classes that have no pictures are taken for some, and would count if they were averaged over.
    assert set(best) - set(labels)


def test_each_class_and_the_confusion() -> None:
    pairs = [(0, [0.6, 0.3, 0.1]), (0, [0.2, 0.7, 0.1]), (1, [0.1, 0.8, 0.1]), (1, [0.1, 0.8, 0.1])]
    found = metrics_of(counted([(label, np.array(row)) for label, row in pairs]), ("cat", "dog", "eel"))
    cat, dog = found.classes
    assert (cat.label, cat.count, cat.answered, cat.right, cat.precision, cat.recall) == (
        "cat",
        2,
        1,
        1,
        1.0,
        0.5,
    )
    assert (dog.label, dog.count, dog.answered, dog.precision, dog.recall) == ("dog", 2, 3, 2 / 3, 1.0)
    assert cat.f1 == pytest.approx(2 * 1 * 0.5 / 1.5)
    assert found.confusion == [(0, 1, 1)]
    assert found.top5 == 1.0


def test_of_equal_probabilities_the_lower_class_comes_first() -> None:
    tally = counted([(label, np.full(7, 1 / 7)) for label in range(7)])
    assert tally.right == 1
    assert sorted(label for label, count in tally.in_top.items() if count) == [0, 1, 2, 3, 4]


def test_parts_add_up_to_the_same_bits_in_any_order() -> None:
    whole = json.dumps(counted(ANSWERS).to_json())
    parts = [ANSWERS[:7], ANSWERS[7:190], ANSWERS[190:]]
    for order in itertools.permutations(parts):
        total = Tally()
        for part in order:
            # Each through text, as a task's answer or a saved state is.
            total.merge(Tally.from_json(json.loads(json.dumps(counted(part).to_json()))))
        assert json.dumps(total.to_json()) == whole
        assert metrics_of(total, None) == metrics_of(counted(ANSWERS), None)
    # Sums of floating-point numbers would not.
    confidences = [float(row.max()) for _, row in ANSWERS]
    assert len({sum(confidences), sum(reversed(confidences)), sum(sorted(confidences))}) > 1


def test_unreadable_pictures_are_all_counted_and_the_first_named() -> None:
    halves = [Tally(), Tally()]
    for place in reversed(range(3 * NAMED)):
        halves[place % 2].skip(place, f"{place}.jpg", "damaged")
    halves[0].merge(halves[1])
    assert halves[0].unreadable == 3 * NAMED
    assert list(halves[0].reasons) == list(range(NAMED))


def test_what_is_kept_does_not_grow_with_the_pictures() -> None:
    small, large = counted(ANSWERS[:200] * 2), counted(ANSWERS[:200] * 20)
    assert len(json.dumps(large.to_json())) < 1.2 * len(json.dumps(small.to_json()))


@pytest.mark.parametrize(("right", "count"), [(0, 10), (1, 10), (8, 10), (10, 10), (497, 500)])
def test_wilsons_interval_ends_where_the_score_test_does(right: int, count: int) -> None:
    """A share at its end is just as far from what was observed as 95 % allow."""
    for end in wilson(right, count):
        if 0 < end < 1:
            distance = abs(right / count - end) / math.sqrt(end * (1 - end) / count)
            assert distance == pytest.approx(1.959963984540054)
    low, high = wilson(right, count)
    assert low <= right / count <= high
    assert (low == 0) == (right == 0)
    assert (high == 1) == (right == count)


@pytest.mark.parametrize("damage", ["bins", "confusion", "reasons"])
def test_a_damaged_state_is_none(damage: str) -> None:
    state = counted(ANSWERS[:3]).to_json()
    state[damage] = [[1]]
    with pytest.raises((ValueError, TypeError)):
        Tally.from_json(state)
