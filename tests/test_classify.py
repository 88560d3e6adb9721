"""From an output to probabilities."""

import numpy as np
import pytest

from cnnport.classify import probabilities


def test_logits_become_probabilities() -> None:
    found = probabilities(np.array([1000.0, 1001.0, -1000.0]), "logits")
    np.testing.assert_allclose(found, [1 / (1 + np.e), np.e / (1 + np.e), 0], atol=1e-12)


@pytest.mark.parametrize(
    ("scores", "output"),
    [([0.7, 0.2, 0.1], "softmax"), ([0.9, 0.8, 0.05], "lengths")],
    ids=["softmax", "lengths"],
)
def test_probabilities_stay(scores: list[float], output: str) -> None:
    assert probabilities(np.array(scores), output).tolist() == scores


@pytest.mark.parametrize("scores", [[0.7, 0.4, -0.1], [0.7, 0.2, 0.2], [1.0]])
def test_what_only_looks_like_probabilities(scores: list[float]) -> None:
    found = probabilities(np.array(scores), "logits")
    assert found.sum() == pytest.approx(1)
    if len(scores) > 1:
        assert found.tolist() != scores
