"""What of a picture a network is shown, as arrays."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnport.evaluation.protocol import Protocol
from cnnport.images import centre, normalise, preprocess_image, read_image, resize_image
from cnnport.metadata import Picture
from cnnport.picture_input import pixels_of
from cnnport.preprocess import Preprocess

Floats: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Views:
    """Of one picture.

    Attributes:
        crops: Crops of all scales x channels x height x width; of no crops if the protocol has none. For a picture
            file one picture, uint8, in its layout.
        dense: For each scale 1, or 2 with the mirror image, x channels x height x width.
    """

    crops: Floats | NDArray[np.uint8]
    dense: tuple[Floats, ...]


def views_of(
    image: Image.Image | Path, protocol: Protocol, preprocess: Preprocess, picture: Picture | None = None
) -> Views:
    """Decode a picture and cut it up; it is decoded once.

    Args:
        image: A picture file, or an image.
        protocol: Settled for ``preprocess``.
        preprocess: What the network wants done to pictures; the protocol's scales take the place of its own.
        picture: Of a picture file, whose one view is the picture.

    Raises:
        ImageError: If it cannot be read.
    """
    if picture is not None:
        return Views(pixels_of(image, preprocess, picture)[None], ())
    if protocol.views == 1 and not protocol.dense:
        return Views(preprocess_image(image, protocol.at_scales(preprocess)[0])[None], ())
    decoded = image if isinstance(image, Image.Image) else read_image(image, preprocess)
    crops: list[Floats] = []
    dense: list[Floats] = []
    for scaled in protocol.at_scales(preprocess):
        resized = resize_image(decoded, scaled)
        if protocol.crops is not None:
            crops += [normalise(crop, scaled) for crop in _crops(resized, protocol.crops, scaled)]
        if protocol.dense:
            whole = normalise(resized, scaled)
            dense.append(np.stack([whole, whole[:, :, ::-1]]) if protocol.flips else whole[None])
    none = np.empty((0, preprocess.channels, *preprocess.size), np.float32)
    return Views(np.stack(crops) if crops else none, tuple(dense))


def _crops(picture: Image.Image, count: int, preprocess: Preprocess) -> Iterator[Image.Image]:
    """The crops of a resized picture: those of a square, or of the whole, and then their mirror images."""
    crop = preprocess.size[1], preprocess.size[0]
    if count == 1:
        yield _cut(picture, centre(picture.size, crop), crop)
        return
    if count == 144:
        parts = [each for square in _squares(picture) for each in _of_square(square, crop, preprocess)]
    else:
        parts = list(_corners_and_centre(picture, crop))
    yield from parts
    if count != 5:
        yield from (part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for part in parts)


def _corners_and_centre(picture: Image.Image, crop: tuple[int, int]) -> Iterator[Image.Image]:
    """Top left, top right, bottom left, bottom right, centre."""
    middle = centre(picture.size, crop)
    # Along a side that is shorter than the crop there is but one place.
    right, bottom = (
        max(side - own, min(at, 0)) for side, own, at in zip(picture.size, crop, middle, strict=True)
    )
    left, top = min(right, 0), min(bottom, 0)
    for corner in ((left, top), (right, top), (left, bottom), (right, bottom), middle):
        yield _cut(picture, corner, crop)


def _squares(picture: Image.Image) -> Iterator[Image.Image]:
    """Those as large as the shorter side: at the beginning, in the middle and at the end of the longer one."""
    side = min(picture.size)
    middle, end = centre(picture.size, (side, side)), (picture.width - side, picture.height - side)
    for corner in ((0, 0), middle, end):
        yield _cut(picture, corner, (side, side))


def _of_square(square: Image.Image, crop: tuple[int, int], preprocess: Preprocess) -> Iterator[Image.Image]:
    yield from _corners_and_centre(square, crop)
    # By the resize of the network's own preparation, of both sides to its size.
    whole = Preprocess(preprocess.size, None, preprocess.interpolation, preprocess.mean, preprocess.std)
    yield resize_image(square, whole)


def _cut(picture: Image.Image, corner: tuple[int, int], size: tuple[int, int]) -> Image.Image:
    left, top = corner
    return picture.crop((left, top, left + size[0], top + size[1]))
