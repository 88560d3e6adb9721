"""Seeded tensors: the same everywhere, and sane."""

import hashlib

import numpy as np
import pytest

from cnnport.artifact import TensorSpec
from cnnport.errors import FeedError
from cnnport.golden import seeded_input

IMAGES = TensorSpec("input", "float32", ("batch", 3, 32, 32))


def test_bits_are_those_of_every_other_machine() -> None:
    values = seeded_input([IMAGES], 2, 0)["input"]
    digest = hashlib.sha256(values.tobytes()).hexdigest()
    assert digest == "e754560767ba541a71e8cf2f94842628af599cf695441c6b793797c5ca23575a"


def test_mean_variance_and_range() -> None:
    values = seeded_input([IMAGES], 16, 3)["input"]
    assert values.shape == (16, 3, 32, 32)
    assert abs(values.mean()) < 0.02
    assert abs(values.var() - 1) < 0.02
    assert -np.sqrt(3) <= values.min() < values.max() < np.sqrt(3)


def test_seeds_and_inputs_differ() -> None:
    two = [IMAGES, TensorSpec("other", "float32", ("batch", 3, 32, 32))]
    feeds = seeded_input(two, 1, 0)
    assert not np.array_equal(feeds["input"], feeds["other"])
    assert not np.array_equal(feeds["input"], seeded_input(two, 1, 1)["input"])


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int64", "bool", "float16", "float64"])
def test_other_types(dtype: str) -> None:
    values = seeded_input([TensorSpec("x", dtype, (1000,))], 1, 0)["x"]
    assert values.dtype == dtype
    assert len(np.unique(values)) == 2 if dtype == "bool" else len(np.unique(values)) > 100


def test_what_cannot_be_made() -> None:
    with pytest.raises(FeedError, match="dimension 2"):
        seeded_input([TensorSpec("x", "float32", ("batch", 3, "height", 5))], 1, 0)
    with pytest.raises(FeedError, match="cannot make"):
        seeded_input([TensorSpec("x", "object", (2,))], 1, 0)
    with pytest.raises(FeedError, match="cannot make"):
        seeded_input([TensorSpec("x", "unknown", (2,))], 1, 0)
