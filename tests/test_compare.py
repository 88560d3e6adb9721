"""The numbers of a comparison, on arrays small enough to compute by hand."""

import numpy as np
import pytest

from cnnport.compare import compare


def test_by_hand() -> None:
    reference = np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 6.0]], np.float32)
    candidate = np.array([[1.0, 2.5, 3.0], [7.0, 0.0, 6.0]], np.float32)
    agreement = compare(reference, candidate)
    assert agreement.max_abs == 7
    assert agreement.mean_abs == pytest.approx(7.5 / 6)
    assert agreement.max_rel == pytest.approx(7 / 6)
    assert agreement.top1 == 0.5
    assert agreement.spread == pytest.approx(np.std([1, 2, 3, 0, 0, 6]))
    assert agreement.error == pytest.approx(7 / agreement.spread)
    assert agreement.cosine == pytest.approx(51 / np.sqrt(50 * 101.25), rel=0.02)


def test_equal_is_within_any_tolerance() -> None:
    values = np.full((2, 3), 4.0)
    assert compare(values, values).error == 0
    assert compare(values, values).within(0)
    assert compare(np.zeros(3), np.zeros(3)).cosine == 1


def test_a_constant_reference_has_no_scale_to_forgive() -> None:
    assert not compare(np.zeros((2, 2)), np.full((2, 2), 1e-9)).within()


def test_one_number_is_held_against_itself() -> None:
    assert compare(np.array([[-2.0]]), np.array([[-2.0001]])).error == pytest.approx(5e-5)
    assert not compare(np.zeros((1, 1)), np.full((1, 1), 1e-9)).within()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_never_pass(bad: float) -> None:
    values = np.ones(4)
    spoiled = np.array([1.0, bad, 1.0, 1.0])
    for left, right in ((values, spoiled), (spoiled, values), (spoiled, spoiled)):
        assert not compare(left, right).within(1e9)


def test_shapes_must_be_equal() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        compare(np.zeros((1, 3)), np.zeros((3,)))


def test_small_integers_do_not_wrap() -> None:
    assert compare(np.array([250], np.uint8), np.array([5], np.uint8)).max_abs == 245
