"""What goes into a picture file and comes out of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnport.artifact import Artifact, TensorSpec
from cnnport.errors import ArtifactError
from cnnport.graphs.picture import PROBABILITIES, TOP_INDICES, TOP_PROBABILITIES
from cnnport.images import crop_image, opaque_image
from cnnport.metadata import Picture, picture_of
from cnnport.preprocess import Preprocess


def pixels_of(image: Image.Image | str | Path, preprocess: Preprocess, picture: Picture) -> NDArray[np.uint8]:
    """One picture as a picture file takes it: upright and opaque, and of the network's size unless it takes any.

    Args:
        image: A picture file, or an image of any mode.
        preprocess: As the file states it.
        picture: What the file takes.

    Returns:
        uint8, in the file's layout, without the batch.

    Raises:
        ImageError: If it cannot be read.
    """
    make = opaque_image if picture.preprocess == "full" else crop_image
    found = make(image, preprocess)
    pixels = np.asarray(found).reshape(found.height, found.width, preprocess.channels)
    return pixels if picture.layout == "nhwc" else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def check_no_pictures(artifact: Artifact, what: str) -> None:
    """Refuse picture files where the network's own file is meant.

    Args:
        artifact: A file.
        what: Is done to the network's own file, such as ``is quantized``.

    Raises:
        ArtifactError: In one line, with what to do.
    """
    if picture_of(artifact) is not None:
        raise ArtifactError(
            f"{artifact.path} prepares pictures itself: the network's own file {what}, and the picture file is made "
            "of that (cnnport export --preprocess)"
        )


def takes_pictures(inputs: Sequence[TensorSpec], picture: Picture, preprocess: Preprocess | None) -> bool:
    """Whether inputs are those of such a picture file."""
    if preprocess is None or len(inputs) != 1 or inputs[0].dtype != "uint8" or len(inputs[0].shape) != 4:
        return False
    _, *rest = inputs[0].shape
    channels, sides = (rest[0], rest[1:]) if picture.layout == "nchw" else (rest[-1], rest[:-1])
    return channels == preprocess.channels and (
        picture.preprocess == "full" or tuple(sides) == preprocess.size
    )


def ranking_fault(answer: Mapping[str, NDArray[np.generic]]) -> str | None:
    """Why the best classes of an answer are not the best of its probabilities; None if they are."""
    names = (PROBABILITIES, TOP_PROBABILITIES, TOP_INDICES)
    if missing := [name for name in names if name not in answer]:
        return f"there is no output {missing[0]}"
    given, top, indices = (np.asarray(answer[name]) for name in names)
    best = -np.sort(-given, axis=1)[:, : top.shape[1]]
    if not np.array_equal(best, top):
        return "the top probabilities are not the largest probabilities"
    if not np.array_equal(np.take_along_axis(given, indices, axis=1), top):
        return "the top classes are not those of the top probabilities"
    return None
