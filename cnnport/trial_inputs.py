"""Inputs for a model of which only the signature is known: sizes for what it leaves open, numbers it can take."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cnnport.artifact import Dim, TensorSpec
from cnnport.golden import seeded_input

Arrays = dict[str, NDArray[np.generic]]

# Sizes of images come first, then those that networks with steps of 32, windows or short sequences take.
_SIZES_PX = (224, 256, 320, 299, 512, 64, 128, 96, 32, 48, 16, 8, 4, 2, 1)
# In three and more open dimensions those would be too much.
_SMALL_SIZES = (32, 64, 16, 8, 4, 2, 1)
_MOST_LARGE = 2
_STEP_PX = 32

# Numbers in wider integers are mostly indices, lengths or flags: too large a one is out of range.
_INDICES = 4


@dataclass(frozen=True)
class Trial:
    """What an input is made with.

    Attributes:
        batch: Of open first dimensions.
        seed: Not negative.
        sizes: Of the other open dimensions, by their names.
        ones: Whether wider integers are all 1, rather than from 0 to 3.
        overrides: Whether initializers that are also inputs get other values than their own.
    """

    batch: int
    seed: int
    sizes: Mapping[str, int]
    ones: bool = False
    overrides: bool = False

    def __str__(self) -> str:
        """As it stands behind a mismatch."""
        sizes = ", ".join(f"{name} {size}" for name, size in self.sizes.items())
        parts = [
            f"batch {self.batch}",
            f"seed {self.seed}",
            sizes,
            "initializers overridden" * self.overrides,
        ]
        return ", ".join(part for part in parts if part)


def guesses(specs: Sequence[TensorSpec], *, batch: int = 1, seed: int = 0) -> Iterator[Trial]:
    """Ways to settle what the inputs leave open, the likeliest first; some may not suit the model.

    Args:
        specs: Of all inputs.
        batch: Of open first dimensions.
        seed: Not negative.
    """
    names = open_names(specs)
    bases = _SIZES_PX if len(names) <= _MOST_LARGE else _SMALL_SIZES
    has_indices = any(_holds_indices(spec) for spec in specs)
    for ones in (False, True) if has_indices else (False,):
        if not names:
            yield Trial(batch, seed, {}, ones)
            continue
        # Different sizes show what mixes up the dimensions; some models take only equal ones.
        for step in (_STEP_PX, 0) if len(names) > 1 else (0,):
            for base in bases:
                sizes = {name: base + step * place for place, name in enumerate(names)}
                yield Trial(batch, seed, sizes, ones)


def open_names(specs: Sequence[TensorSpec]) -> list[str]:
    """The names of open dimensions, other than those that stand first, each once."""
    first = {spec.shape[0] for spec in specs if spec.dynamic_batch}
    rest = (size for spec in specs for size in spec.shape[1:])
    return list(dict.fromkeys(size for size in rest if isinstance(size, str) and size not in first))


def shapes_in(specs: Sequence[TensorSpec], trial: Trial) -> dict[str, tuple[int, ...]]:
    """The shapes that inputs have in a trial, by name."""
    batches = {spec.shape[0] for spec in specs if spec.dynamic_batch}

    def settled(size: Dim) -> int:
        if isinstance(size, int):
            return size
        return trial.batch if size in batches else trial.sizes[size]

    return {spec.name: tuple(map(settled, spec.shape)) for spec in specs}


def make_inputs(specs: Sequence[TensorSpec], trial: Trial) -> Arrays:
    """Seeded inputs: floating point with mean 0 and variance 1, bytes of any value, wider integers that are small.

    Raises:
        FeedError: If an input is of a type that is not numeric.
    """
    shapes = shapes_in(specs, trial)
    fixed = [replace(spec, shape=shapes[spec.name]) for spec in specs]
    arrays = seeded_input(fixed, trial.batch, trial.seed)
    for spec in specs:
        if _holds_indices(spec):
            values = arrays[spec.name]
            small = np.ones(values.shape) if trial.ones else values.astype(np.uint64) % _INDICES
            arrays[spec.name] = small.astype(values.dtype)
    return arrays


def _holds_indices(spec: TensorSpec) -> bool:
    return spec.dtype in {"int16", "uint16", "int32", "uint32", "int64", "uint64"}
