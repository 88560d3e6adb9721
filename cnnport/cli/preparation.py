"""Options that say how pictures are prepared for a file, where it does not."""

from pathlib import Path
from typing import TYPE_CHECKING

from cnnport.cli.options import parse_size
from cnnport.errors import CnnportError

if TYPE_CHECKING:
    from cnnport.artifact import Artifact
    from cnnport.preprocess import Preprocess


def stated_preprocess(
    artifact: "Artifact", size: str | None, resize: int | None, mean: str | None, std: str | None
) -> "Preprocess | None":
    """What the options say of a picture's preparation, the rest as the file says; None if they say nothing.

    Raises:
        CnnportError: If they make no preparation.
    """
    from cnnport.metadata import at_native_size, preprocess_of
    from cnnport.preprocess import Preprocess, imagenet

    if size is None and resize is None and mean is None and std is None:
        return None
    if (mean is None) != (std is None):
        raise CnnportError("--mean and --std come together, with one number a channel each")
    base = preprocess_of(artifact) or imagenet()
    means = _numbers("--mean", mean) if mean else base.mean
    stds = _numbers("--std", std) if std else base.std
    if len(means) != len(stds) or len(means) not in {1, 3} or any(value <= 0 for value in stds):
        raise CnnportError("--mean and --std are 1 or 3 numbers each, and those of --std are above 0")
    shape = at_native_size(artifact).inputs[0].shape if artifact.inputs else ()
    sides = tuple(shape[2:])
    height, width = (int(side) for side in sides) if _are_fixed(sides) else base.size
    wanted = parse_size(size) or (height, width)
    scaled = base.resized(wanted)
    return Preprocess(
        wanted,
        resize if resize is not None else scaled.resize,
        base.interpolation,
        means,
        stds,
        base.background,
    )


def read_labels(path: Path | None) -> list[str] | None:
    """The classes' names from a text file, a line each; None of no file.

    Raises:
        CnnportError: If it cannot be read.
    """
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise CnnportError(f"cannot read {path}: {reason}") from error


def _are_fixed(sides: tuple[int | str, ...]) -> bool:
    return len(sides) == 2 and all(isinstance(side, int) for side in sides)


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise CnnportError(f"{option} takes numbers, such as 0.485,0.456,0.406, not {text!r}") from error
    if not all(abs(value) < 1e6 for value in found):
        raise CnnportError(f"{option} takes numbers, such as 0.485,0.456,0.406, not {text!r}")
    return found
