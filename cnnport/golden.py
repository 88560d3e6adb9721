"""Seeded tensors that are the same to the last bit on every machine: golden inputs, checks, benchmarks."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cnnport.artifact import TensorSpec
from cnnport.errors import FeedError


def seeded_input(specs: Sequence[TensorSpec], batch: int, seed: int) -> dict[str, NDArray[np.generic]]:
    """One array for every input, with mean 0 and variance 1 for floating point, any value for integers.

    NumPy promises the raw stream of PCG64 for ever but not those of its distributions, so the mapping to numbers
    is ours: 24 random bits scaled exactly to [-sqrt(3), sqrt(3)).

    Args:
        specs: Names, element types and shapes; a dynamic first dimension becomes ``batch``.
        batch: Size of the dynamic first dimension.
        seed: Not negative. Different inputs of one model get different streams.

    Raises:
        FeedError: If a shape has another dynamic dimension, or the element type is not numeric.
    """
    feeds: dict[str, NDArray[np.generic]] = {}
    for position, spec in enumerate(specs):
        try:
            shape = spec.fixed(batch)
            dtype = np.dtype(spec.dtype)
        except (ValueError, TypeError) as error:
            raise FeedError(f"cannot make an input for {spec}: {error}") from error
        bits = np.random.PCG64([seed, position]).random_raw(int(np.prod(shape)))
        if dtype.kind == "f":
            unit = (bits >> np.uint64(40)).astype(np.float64) * 2.0**-24
            values = (2 * unit - 1) * np.sqrt(3.0)
        elif dtype.kind in "iu":
            values = (bits >> np.uint64(64 - 8 * dtype.itemsize + (dtype.kind == "i"))).astype(dtype)
        elif dtype.kind == "b":
            values = bits >> np.uint64(63)
        else:
            raise FeedError(f"cannot make an input for {spec}: not a numeric type")
        feeds[spec.name] = values.astype(dtype).reshape(shape)
    return feeds
