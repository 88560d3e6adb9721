"""Digests of a network of the zoo: of its seeded weights, and of what it computes with them.

Counts hold a definition to its parameters and multiply-adds, but an activation, the eps of a batch norm or the order
of a concatenation can change behind them. Digests that were written down once notice that: see ``make golden``.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cnnport.artifact import TensorSpec
from cnnport.capture import named_outputs
from cnnport.errors import ModelError
from cnnport.golden import seeded_input
from cnnport.random_weights import one_thread
from cnnport.registry import ModelSpec
from cnnport.weights import load_weights

_BITS = 28
_NUMBERS = 1000


@dataclass(frozen=True)
class Digests:
    """What a network is held to.

    Attributes:
        weights: ``state_sha256`` with the seeded weights.
        outputs: ``outputs_sha256`` of what it then gives.
    """

    weights: str
    outputs: str


def digests_of(spec: ModelSpec, seed: int = 0) -> Digests:
    """Build a network, give it the weights of a seed, run it in float64 on one seeded input of its native size.

    The digests are the same on every machine, since the weights are so to the last bit and the outputs are rounded:
    in float64 the kernels of two machines differ by a million times less than is rounded, in float32 they would
    differ by more.

    Raises:
        ModelError: If the network cannot run, or gives NaN or infinity.
    """
    module = spec.build()
    weights = load_weights(module, spec, "random", seed=seed, input_shape=spec.input_shape)
    inputs = [TensorSpec(name, "float32", ("batch", *spec.input_shape)) for name in spec.input_names]
    images = [torch.from_numpy(values).double() for values in seeded_input(inputs, 1, seed).values()]
    with torch.inference_mode(), one_thread():
        result = module.double()(*images)
    outputs = {name: value.numpy() for name, value in named_outputs(result, spec.output_name).items()}
    return Digests(weights.sha256, outputs_sha256(outputs))


def outputs_sha256(outputs: Mapping[str, NDArray[np.float64]]) -> str:
    """SHA-256 over the name, the shape and the rounded values of every output, in order.

    N values are rounded to multiples of N * 2^-28 of the largest magnitude (both as powers of two, rounded up): five
    digits of a thousand, seven of ten. Rounding does not make a digest safe by itself, since two machines' values may
    lie on the two sides of a boundary. With differences of 1e-14 of the largest value (other kernels and numbers of
    threads made 2e-16 to 4e-13) that happens to one of these digests in 200,000, however many values it has, where a
    change of 1e-8 is likely to show. An output of more than a thousand values, such as a map of classes, is told by a
    thousand numbers, the sums of its parts, in which every value has a weight of its own, so that none can change, or
    two change places, unnoticed.

    Raises:
        ModelError: If a value is NaN or infinite.
    """
    digest = hashlib.sha256()
    for name, values in outputs.items():
        if not np.isfinite(values).all():
            raise ModelError(f"the network's {name!r} holds NaN or infinity: that has no digest")
        numbers = values.reshape(-1) if values.size <= _NUMBERS else _weighted_sums(values.reshape(-1))
        _, exponent = np.frexp(np.abs(numbers).max(initial=0.0))
        bits = _BITS - math.ceil(math.log2(max(numbers.size, 1)))
        steps = np.rint(np.ldexp(numbers, bits - exponent)).astype("<i8")
        digest.update(json.dumps([name, list(values.shape)]).encode() + b"\n")
        digest.update(steps.tobytes())
    return digest.hexdigest()


def _weighted_sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of a thousand parts, each value times its own weight between 0.5 and 1.5."""
    starts = np.arange(_NUMBERS) * values.size // _NUMBERS
    # Multiples of the golden ratio leave remainders that are all different, and differ most between neighbours.
    weights = 0.5 + np.arange(values.size) * ((5**0.5 - 1) / 2) % 1
    sums: NDArray[np.float64] = np.add.reduceat(values * weights, starts)
    return sums
