"""What is fed to a network that is calibrated: one sample after the other, each found by its place.

A sample is made when it is asked for and is the same each time, so that no more than a batch of them is ever in
memory and a run that was cut off goes on where it was.
"""

import hashlib
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from typing import Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from cnnport.artifact import Artifact
from cnnport.errors import FeedError
from cnnport.metadata import at_native_size
from cnnport.original import likely_trials
from cnnport.trial_inputs import make_inputs

COUNT = 512
"""How many samples are taken unless told otherwise."""

SEED = 0

Feeds = dict[str, NDArray[np.generic]]

_T = TypeVar("_T")


class Samples(Protocol):
    """Inputs for a network."""

    @property
    def description(self) -> str:
        """For people: what they are and how many. It stands in files, so it names no path."""

    @property
    def key(self) -> str:
        """Changes with anything that any sample depends on."""

    @property
    def is_random(self) -> bool:
        """Whether they are noise, from which no claim of accuracy follows."""

    def __len__(self) -> int:
        """How many there are, those included that turn out not to be readable."""

    def name(self, place: int) -> str:
        """What to call a sample in a message."""

    def load(self, place: int) -> Feeds:
        """An array for every input of the network, with a first dimension of 1.

        Raises:
            ImageError: If this sample cannot be read; others may.
            CnnportError: If it can, but is not fit to calibrate with.
        """

    def label(self, place: int) -> int | None:
        """The index of a sample's class, if that is known."""

    def others(self, count: int) -> Self | None:
        """So many of the same kind of which none is among these, or fewer; None if there are none."""


class RandomSamples:
    """Seeded noise, as the checks of exports use it: sample i has seed i."""

    is_random = True

    def __init__(self, artifact: Artifact, count: int = COUNT, *, first: int = 0) -> None:
        """Settle what the inputs leave open.

        Args:
            artifact: The network.
            count: How many.
            first: The first one's seed.

        Raises:
            FeedError: If an input takes nothing that can be drawn.
        """
        self._given = artifact
        self._artifact = at_native_size(artifact)
        self._trial = next(iter(likely_trials(artifact)))
        self._count, self._first = count, first
        self._make(first)
        self.description = f"{count} random inputs"
        self.key = digest(["random", first, count, repr(self._trial), *map(str, artifact.inputs)])

    def __len__(self) -> int:
        return self._count

    def name(self, place: int) -> str:
        """Its seed."""
        return f"seed {self._first + place}"

    def load(self, place: int) -> Feeds:
        """Floating point with mean 0 and variance 1; see ``trial_inputs.make_inputs``."""
        return self._make(self._first + place)

    def label(self, _place: int) -> None:
        """Noise has none."""

    def others(self, count: int) -> Self:
        """Those of the seeds that follow."""
        return type(self)(self._given, count, first=self._first + self._count)

    def _make(self, seed: int) -> Feeds:
        made = make_inputs(self._artifact.inputs, replace(self._trial, batch=1, seed=seed))
        # Where the batch is fixed, as many are drawn.
        return {name: array[:1] for name, array in made.items()}


def balanced(
    members: Iterable[_T], class_of: Callable[[_T], Hashable], rank: Callable[[object], bytes], count: int
) -> list[_T]:
    """Choose so that no class has two more than another that could have had one more.

    Args:
        members: In any order.
        class_of: The class of one.
        rank: Of members and classes; decides which come first. What it gives for one must not depend on the others.
        count: How many to choose; fewer are chosen only where there are fewer.

    Returns:
        The first of every class, then the second, and so on.
    """
    classes: dict[Hashable, list[_T]] = {}
    for member in members:
        classes.setdefault(class_of(member), []).append(member)
    rows = [sorted(classes[name], key=rank) for name in sorted(classes, key=rank)]
    longest = max(map(len, rows), default=0)
    chosen = (row[place] for place in range(longest) for row in rows if place < len(row))
    return [member for member, _ in zip(chosen, range(count), strict=False)]


def digest(parts: Sequence[object]) -> str:
    """A hash of the texts of some parts."""
    return hashlib.sha256("\0".join(map(str, parts)).encode(errors="surrogateescape")).hexdigest()


def check_finite(name: str, feeds: Feeds) -> None:
    """Raises ``FeedError`` that names the sample and the input which holds NaN or infinity."""
    for key, array in feeds.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise FeedError(f"{name} has NaN or infinity in input {key!r}: nothing can be calibrated with it")
