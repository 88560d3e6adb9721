"""What a picture file is held to: the network on pictures as Pillow and NumPy prepare them, in PyTorch if it can be.

Three comparisons, on seeded pictures of several sizes, noise and smooth ones:

1.  What the graph makes of a picture against ``images.preprocess_image``. Normalising alone is the same to the bit.
    Resizing is not: ONNX Runtime weighs pixels by float32 numbers where Pillow has float64. Each of the two passes
    over a picture ends in a rounding to 8 bits, which such a difference can only tip to the next grey level; the
    second pass averages what the first one left, with weights whose sizes sum up to 1, or to 1.25 at most where the
    filter is bicubic, so that before its rounding it is off by less than two levels, and by two at most after it.
    (Black and white noise of 65,000 pixels a side, nearly keeping its size, was seen to be off by 3, of 32,000 not:
    float32 places pixels the less exactly the more there are.)
2.  The whole file against the network's own file on what the graph's preprocessing gave: the same numbers, up to
    float32's last bits where the scale went into the first convolution.
3.  The whole file against PyTorch, or the network's own file, on what Pillow made. Without a resize the tolerance is
    that of every export. With it, the difference is that which the tipped grey levels make, one pixel in a thousand
    by one level: ``FULL_TOLERANCE`` standard deviations of an output and ``FULL_PROBABILITY`` are allowed.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cnnport.artifact import Artifact
from cnnport.classify import probabilities
from cnnport.compare import FP32_TOLERANCE, compare
from cnnport.errors import CheckFailedError
from cnnport.graphs.picture import PROBABILITIES
from cnnport.half_precision import emulated
from cnnport.metadata import Picture
from cnnport.picture_cases import cases_of
from cnnport.picture_input import ranking_fault
from cnnport.preprocess import Preprocess
from cnnport.runtimes import Options, require_runtime
from cnnport.runtimes.protocol import Session, Tensors

if TYPE_CHECKING:
    from torch import nn

LEVELS = 2
"""The most grey levels by which a pixel may be off Pillow's after the resize."""

FULL_TOLERANCE = 0.1
"""The most by which outputs may be off, in standard deviations, where the file resizes."""

FULL_PROBABILITY = 0.02
"""The most by which a probability may be off what the network's file gives for Pillow's picture, likewise."""

# A file that is itself off PyTorch by more than the tolerance, and was found right for its reason, may be so here.
_OWN_TIMES = 2.0

# A file that is further off PyTorch than this is not that network's; of 8 bits no such bound is known.
_MOST_OWN = {"fp32": 1e-2, "fp16": 0.25, "bf16": 0.5}

# Of two executions of one network on the same input. Where halves go in, runtimes leave out a rounding to them.
_SAME = {"fp16": 2e-2, "bf16": 1e-1}

# Two executions of one network on numbers that are the same, or differ in the last bit.
_PROBABILITY_TOLERANCE = 1e-4

Arrays = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class PictureVerdict:
    """How far a picture file is from Pillow and PyTorch, over all pictures.

    Attributes:
        levels: Largest difference of a pixel after the resize, in grey levels; 0 without one.
        share: Of pixels that differ at all.
        error: Largest difference of an output of the network, in standard deviations.
        max_abs: The same as it is, by output.
        probability: Largest difference of a probability.
        reference: ``PyTorch``, or ``the network's file``.
        count: How many pictures.
    """

    levels: int
    share: float
    error: float
    max_abs: Mapping[str, float]
    probability: float
    reference: str
    count: int

    def __str__(self) -> str:
        """One line for people."""
        pixels = (
            f"pixels off Pillow's by {self.levels} grey level{'s' * (self.levels != 1)} at most "
            f"({100 * self.share:.2f} % of them), "
            if self.levels
            else "pixels as Pillow's, "
        )
        return f"{pixels}probabilities off {self.reference} by {self.probability:.1e} at most"


def check(
    made: Artifact,
    prepared: Artifact,
    network: Artifact,
    scores: str,
    preprocess: Preprocess,
    picture: Picture,
    *,
    is_probability: bool,
    module: "nn.Module | None" = None,
) -> PictureVerdict:
    """Run all of it on all pictures.

    Args:
        made: The picture file.
        prepared: A file with its preprocessing alone.
        network: The file that it was made from.
        scores: The output that probabilities are made of.
        preprocess: What is done to pictures.
        picture: How.
        is_probability: Whether scores are what is given as probabilities.
        module: The network in PyTorch, where it is at hand.

    Raises:
        CheckFailedError: If it is further off than is allowed.
    """
    spec = network.inputs[0]
    batch = spec.shape[0] if isinstance(spec.shape[0], int) else None
    cases = cases_of(picture, preprocess, batch)
    total = _Total(made, preprocess, picture, scores, is_probability)
    runtime = require_runtime("ort-cpu")
    with runtime.open(prepared, Options()) as session:
        inputs = [next(iter(session.run(case.feed(picture)).values())) for case in cases]
    wanted = [case.prepared(picture, preprocess) for case in cases]
    for given, pixels in zip(inputs, wanted, strict=True):
        total.pixels(given, pixels)
    exact = [_in_torch(module, each, network) for each in wanted] if module is not None else None
    # At last one as the file says, without what a runtime rewrites.
    for optimize, count in ((True, len(cases)), (False, 1)):
        with opened(network, optimize=optimize) as session:
            same = [session.run({spec.name: given.astype(spec.dtype)}) for given in inputs[:count]]
            right = [session.run({spec.name: each.astype(spec.dtype)}) for each in wanted[:count]]
        with opened(made, optimize=optimize) as session:
            for case, twin, own, truth in zip(cases, same, right, exact or right, strict=False):
                total.outputs(session.run(case.feed(picture)), twin, own, truth)
    reference = "PyTorch" if module is not None else "the network's file"
    return total.verdict(reference, sum(len(case.pixels) for case in cases))


@contextmanager
def opened(artifact: Artifact, *, optimize: bool = True) -> Iterator[Session]:
    """A session on ONNX Runtime's CPU, which does not know bfloat16: that is emulated."""
    if artifact.precision == "bf16":
        with emulated(artifact) as session:
            yield session
    else:
        with require_runtime("ort-cpu").open(artifact, Options(optimize=optimize)) as session:
            yield session


class _Total:
    """The worst of everything, held to what is allowed."""

    def __init__(
        self, made: Artifact, preprocess: Preprocess, picture: Picture, scores: str, is_probability: bool
    ) -> None:
        self._made, self._picture, self._scores = made, picture, scores
        self._preprocess = preprocess
        self._is_probability = is_probability
        self._levels, self._differing, self._pixels = 0, 0, 0
        self._error, self._probability = 0.0, 0.0
        self._max_abs: dict[str, float] = {}

    def pixels(self, given: NDArray[np.generic], right: NDArray[np.float32]) -> None:
        """Hold the graph's preprocessing to Pillow's."""
        if given.shape != right.shape:
            raise CheckFailedError(f"the preprocessing gives {given.shape} where Pillow gives {right.shape}")
        std = np.array(self._preprocess.std).reshape(1, -1, 1, 1)
        off = np.rint(np.abs(given - right.astype(np.float64)) * std * 255).astype(np.int64)
        allowed = LEVELS if self._picture.preprocess == "full" else 0
        if off.max() > allowed or not (off.any() or np.array_equal(given, right)):
            raise CheckFailedError(
                f"the preprocessing is off Pillow's by {off.max()} grey levels, allowed are {allowed}: "
                "is this another version of ONNX Runtime or Pillow than the graph was written for?"
            )
        self._levels = max(self._levels, int(off.max()))
        self._differing += int(np.count_nonzero(off))
        self._pixels += off.size

    def outputs(self, answer: Tensors, same: Tensors, right: Tensors, exact: Tensors) -> None:
        """Hold one answer of the file to the network's.

        Args:
            answer: Of the file.
            same: Of the network's file on the file's own preprocessing.
            right: Of the network's file on Pillow's.
            exact: Of PyTorch on Pillow's, or ``right``.
        """
        base = _SAME.get(self._made.precision, FP32_TOLERANCE)
        for name, values in exact.items():
            twin = _error(name, same[name], answer.get(name))
            self._hold(name, twin, base, "itself on the same input")
            found, own = _error(name, values, answer.get(name)), _error(name, values, right[name])
            if own > _MOST_OWN.get(self._made.precision, float("inf")):
                raise CheckFailedError(
                    f"the network's file does not compute what PyTorch computes: {name} is off by {own:.1e} of the "
                    "std\nnothing was written"
                )
            allowed = max(base, _OWN_TIMES * own)
            if self._picture.preprocess == "full":
                allowed += FULL_TOLERANCE
            self._hold(name, found, allowed, "the network on what Pillow made of the pictures")
            self._error = max(self._error, found)
            apart = float(np.abs(np.subtract(answer[name], values, dtype=np.float64)).max(initial=0.0))
            self._max_abs[name] = max(self._max_abs.get(name, 0.0), apart)
        self._best(answer, right, exact)

    def _best(self, answer: Tensors, right: Tensors, exact: Tensors) -> None:
        given = np.asarray(answer[PROBABILITIES], np.float64)
        own = softmax(answer[self._scores], self._scores, is_probability=self._is_probability)
        if not np.abs(given - own).max() <= _PROBABILITY_TOLERANCE:
            raise CheckFailedError("the probabilities are not those of the file's own scores")
        if problem := ranking_fault(answer):
            raise CheckFailedError(problem)
        if self._picture.preprocess == "full" and not self._is_probability:
            mine = softmax(right[self._scores], self._scores, is_probability=False)
            if not np.abs(given - mine).max() <= FULL_PROBABILITY:
                raise CheckFailedError(
                    f"the resize moves probabilities by {np.abs(given - mine).max():.1e}, allowed are "
                    f"{FULL_PROBABILITY}\nnothing was written: take --preprocess normalize"
                )
        wanted = softmax(exact[self._scores], self._scores, is_probability=self._is_probability)
        self._probability = max(self._probability, float(np.abs(given - wanted).max()))

    def _hold(self, name: str, error: float, allowed: float, whom: str) -> None:
        if not error <= allowed:
            raise CheckFailedError(
                f"the picture file's {name} is off {whom} by {error:.1e} of the std, allowed are {allowed:.1e}\n"
                "nothing was written"
            )

    def verdict(self, reference: str, count: int) -> PictureVerdict:
        """What was found."""
        share = self._differing / max(1, self._pixels)
        return PictureVerdict(
            self._levels, share, self._error, dict(self._max_abs), self._probability, reference, count
        )


def softmax(scores: NDArray[np.generic], name: str, *, is_probability: bool) -> NDArray[np.float64]:
    """A row of probabilities for each picture, in float64."""
    rows = np.asarray(scores, np.float64).reshape(len(scores), -1)
    return rows if is_probability else np.stack([probabilities(row, name) for row in rows])


def _error(name: str, right: NDArray[np.generic], found: NDArray[np.generic] | None) -> float:
    if found is None or found.shape != right.shape:
        raise CheckFailedError(f"the picture file gives no {name} of shape {right.shape}")
    return compare(right, found).error


def _in_torch(module: "nn.Module", prepared: NDArray[np.float32], network: Artifact) -> Arrays:
    """The module's outputs, of those that the file has."""
    import torch

    from cnnport.capture import named_outputs

    with torch.inference_mode():
        result = named_outputs(module(torch.from_numpy(prepared)), network.outputs[0].name)
    return {name: tensor.numpy().copy() for name, tensor in result.items()}
