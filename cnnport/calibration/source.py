"""What ``--calibration`` says, as samples."""

from pathlib import Path

from cnnport.artifact import Artifact
from cnnport.calibration import arrays, pictures
from cnnport.calibration.samples import COUNT, RandomSamples, Samples
from cnnport.errors import CnnportError, FeedError

_MOST = 2**24


def open_samples(text: str, artifact: Artifact, *, count: int | None = None) -> Samples:
    """Find the samples that a user asked for.

    Args:
        text: ``DIR``, a folder of pictures or of .npy and .npz files, or one such file; ``digits``; or ``random``.
            Each may end in ``:N``, so many samples.
        artifact: The network that they are for.
        count: How many samples, unless ``text`` says; 512 if neither does.

    Raises:
        CnnportError: If there are none, or they are not for this network.
        FeedError: If an input has no dimension in which samples could lie.
    """
    for spec in artifact.inputs:
        if not spec.shape:
            raise FeedError(
                f"{artifact.path} cannot be calibrated: its input {spec} is one number for a whole batch of samples\n"
                "make it a constant first"
            )
    source, wanted = _split(text)
    wanted = wanted or count or COUNT
    if source == "random":
        return RandomSamples(artifact, wanted)
    if source == "digits":
        return pictures.DigitSamples(artifact, wanted)
    path = Path(source)
    if path.suffix in arrays.SUFFIXES and not path.exists():
        raise CnnportError(f"{path}: no such file")
    if path.is_file() and path.suffix not in arrays.SUFFIXES:
        raise CnnportError(
            f"{path} is one file: calibration takes a folder of pictures, or .npy and .npz files"
        )
    if path.is_file() or _has_arrays_only(path):
        return arrays.ArrayFiles(path, artifact, wanted)
    return pictures.PictureFolder(path, artifact, wanted)


def _split(text: str) -> tuple[str, int | None]:
    """A source and how many samples of it. Raises ``CnnportError``."""
    source, _, number = text.rpartition(":")
    if not source or Path(text).exists():
        return text, None
    if not number.isdecimal() or not 1 <= int(number) <= _MOST:
        raise CnnportError(
            f"calibration is DIR, digits or random, or one of them with a number behind it as in "
            f"random:100, not {text!r}"
        )
    return source, int(number)


def _has_arrays_only(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    suffixes = {path.suffix.lower() for path in folder.iterdir()}
    return bool(suffixes & arrays.SUFFIXES) and not suffixes & pictures.SUFFIXES
