"""What is fed to every candidate: samples as they come, and inputs that are chosen to be awkward.

Each set lies on disk, so that all candidates get the same bits however many there are, and each can be made again
from its name and a seed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnnport.agreement.rows import Array, RowsWriter, read_rows
from cnnport.artifact import Artifact
from cnnport.calibration import Samples
from cnnport.calibration.samples import RandomSamples
from cnnport.errors import CnnportError, ImageError
from cnnport.trial_inputs import Arrays

COUNT = 32
"""How many samples are taken unless told otherwise."""

# What a picture holds that was never scaled to 0..1.
_LARGE = 255.0
_CONSTANTS = (1.0, -1.0)
_SPIKE = 8.0
_SPIKES = 4

# Samples of noise by which the large ones are made.
_LARGE_COUNT = 2


@dataclass(frozen=True)
class InputSet:
    """Some inputs of one kind.

    Attributes:
        name: ``samples``, ``zeros``, ``constant``, ``large``, ``spikes`` or ``near-ties``.
        description: For people, with the seed.
        is_usual: Whether they are what the network is for, rather than chosen to be awkward.
        titles: What to call each sample in a message.
        files: Where the rows of each input lie, by its name.
    """

    name: str
    description: str
    is_usual: bool
    titles: tuple[str, ...]
    files: Mapping[str, Path]

    def __len__(self) -> int:
        return len(self.titles)

    def load(self, start: int, stop: int) -> dict[str, Array]:
        """The inputs of some samples. Raises ``CnnportError``."""
        return {name: read_rows(path)[start:stop] for name, path in self.files.items()}

    def chunks(self, size: int) -> Iterator[tuple[int, int]]:
        """Where pieces of so many samples begin and end."""
        return ((start, min(start + size, len(self))) for start in range(0, len(self), size))


def write_samples(
    samples: Samples, folder: Path, on_unreadable: Callable[[str], None] = lambda _: None
) -> InputSet:
    """Write samples down; those that cannot be read are left out and told of.

    Raises:
        CnnportError: If none can be read, or they are of different shapes.
        OutputError: If the disk is full.
    """
    titles: list[str] = []
    reason = ""

    def feeds() -> Iterator[Arrays]:
        nonlocal reason
        for place in range(len(samples)):
            try:
                loaded = samples.load(place)
            except ImageError as error:
                reason = str(error)
                on_unreadable(reason)
                continue
            titles.append(samples.name(place))
            yield loaded

    files = _write("samples", folder, feeds(), len(samples))
    if not titles:
        raise CnnportError(f"none of the {len(samples)} samples can be read: {reason}")
    return InputSet("samples", samples.description, True, tuple(titles), files)


def write_extremes(artifact: Artifact, folder: Path, *, seed: int) -> tuple[InputSet, ...]:
    """Write inputs of zeros, of constants, of a large range and of single spikes; integers stay as they are drawn.

    Args:
        artifact: The network; one without inputs of floating-point numbers has none of these.
        folder: Where they are written.
        seed: Of what is drawn.

    Raises:
        FeedError: If an input takes nothing that can be drawn.
        OutputError: If the disk is full.
    """
    if not any("float" in spec.dtype for spec in artifact.inputs):
        return ()
    noise = RandomSamples(artifact, _LARGE_COUNT, first=seed)
    drawn = noise.load(0)

    def filled(change: Callable[[Array], Array]) -> Arrays:
        return {name: change(array) if array.dtype.kind == "f" else array for name, array in drawn.items()}

    def constant(value: float) -> Arrays:
        return filled(lambda array: np.full_like(array, value))

    def spike(number: int) -> Arrays:
        def single(array: Array) -> Array:
            made = np.zeros_like(array)
            # Spread over channels, rows and columns; the first one is a corner, where padding shows.
            place = 0 if number == 0 else (made.size * (2 * number - 1)) // (2 * _SPIKES) + number
            made.flat[place % made.size] = _SPIKE
            return made

        return filled(single)

    def large(number: int) -> Arrays:
        return {
            name: np.multiply(array, _LARGE, dtype=array.dtype) if array.dtype.kind == "f" else array
            for name, array in noise.load(number).items()
        }

    kinds: tuple[tuple[str, str, list[str], list[Arrays]], ...] = (
        ("zeros", "every number 0", ["zeros"], [constant(0.0)]),
        (
            "constant",
            "every number 1, and every number -1",
            [f"all {value:g}" for value in _CONSTANTS],
            [constant(value) for value in _CONSTANTS],
        ),
        (
            "large",
            f"noise times {_LARGE:g}, as of pictures that were not scaled, seed {seed}",
            [f"seed {seed + place} times {_LARGE:g}" for place in range(_LARGE_COUNT)],
            [large(place) for place in range(_LARGE_COUNT)],
        ),
        (
            "spikes",
            f"zeros but for a single {_SPIKE:g}",
            [f"spike {place}" for place in range(_SPIKES)],
            [spike(place) for place in range(_SPIKES)],
        ),
    )
    return tuple(
        InputSet(name, description, False, tuple(titles), _write(name, folder, feeds, len(feeds)))
        for name, description, titles, feeds in kinds
    )


def write_set(
    name: str, description: str, titles: Sequence[str], feeds: Sequence[Arrays], folder: Path
) -> InputSet:
    """Write inputs that somebody else made. Raises ``OutputError`` if the disk is full."""
    return InputSet(name, description, False, tuple(titles), _write(name, folder, feeds, len(feeds)))


def _write(
    name: str, folder: Path, feeds: "Iterator[Arrays] | Sequence[Arrays]", count: int
) -> dict[str, Path]:
    """One file for each input, called by its place: names of inputs may hold anything."""
    writers: dict[str, RowsWriter] = {}
    files: dict[str, Path] = {}
    for each in feeds:
        for place, (input_name, array) in enumerate(each.items()):
            if input_name not in writers:
                files[input_name] = folder / f"{name}.{place}.npy"
                writers[input_name] = RowsWriter(files[input_name], count)
            writers[input_name].add(array)
    for writer in writers.values():
        with writer:
            pass
    return files
