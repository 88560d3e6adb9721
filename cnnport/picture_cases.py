"""The pictures that a picture file is tried with: seeded, of several sizes, noise and smooth ones."""

from dataclasses import dataclass

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from cnnport.artifact import TensorSpec
from cnnport.golden import seeded_input
from cnnport.graphs.picture import IMAGE
from cnnport.images import normalise, preprocess_image
from cnnport.metadata import Picture
from cnnport.preprocess import Preprocess
from cnnport.runtimes.protocol import Tensors

# From version 13 on Pillow scales the height of very high pictures first; older ones make another picture of them.
_HEIGHT_FIRST = int(PIL.__version__.partition(".")[0]) >= 13


@dataclass(frozen=True, eq=False)
class Case:
    """Pictures of one size: batch x height x width x channels."""

    pixels: NDArray[np.uint8]

    def feed(self, picture: Picture) -> Tensors:
        """As the file takes them."""
        if picture.layout == "nchw":
            return {IMAGE: np.ascontiguousarray(self.pixels.transpose(0, 3, 1, 2))}
        return {IMAGE: self.pixels}

    def prepared(self, picture: Picture, preprocess: Preprocess) -> NDArray[np.float32]:
        """As Pillow and NumPy make the network's input of them."""
        images = [Image.fromarray(each[:, :, 0] if each.shape[2] == 1 else each) for each in self.pixels]
        make = preprocess_image if picture.preprocess == "full" else normalise
        return np.stack([make(image, preprocess) for image in images])


def native_size(preprocess: Preprocess) -> tuple[int, int]:
    """Height and width of the pictures that a file of any size is tried with first: odd, and half as large again."""
    side = preprocess.resize or max(preprocess.size)
    return side * 5 // 4 | 1, side * 3 // 2 | 1


def cases_of(picture: Picture, preprocess: Preprocess, batch: int | None) -> list[Case]:
    """The pictures: larger and smaller than the network's, wide, high, and as they are to be."""
    if picture.preprocess == "normalize":
        sizes = [preprocess.size, preprocess.size]
    else:
        side = preprocess.resize or max(preprocess.size)
        sizes = [
            native_size(preprocess),
            (2 * side + 3, side + 7),
            (side // 2 + 1, side // 3 + 1),
            (side, side),
        ]
        if _HEIGHT_FIRST:
            sizes.append((5 * side + 1, 2 * side))
    # A dynamic batch shows itself once.
    counts = [batch or (2 if place == 0 else 1) for place in range(len(sizes))]
    return [
        Case(_pictures(count, size, preprocess.channels, seed))
        for seed, (count, size) in enumerate(zip(counts, sizes, strict=True))
    ]


def _pictures(count: int, size: tuple[int, int], channels: int, seed: int) -> NDArray[np.uint8]:
    """Noise and smooth pictures in turn; the noise of odd seeds is black and white."""
    shape = (*size, channels)
    noise = seeded_input([TensorSpec("noise", "uint8", ("batch", *shape))], count, seed)["noise"].astype(
        np.uint8
    )
    for place in range(count):
        if (place + seed) % 2:
            noise[place] = _smooth(noise[place])
        elif seed % 2:
            noise[place] = np.where(noise[place] < 128, 0, 255)
    return noise


def _smooth(noise: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A coarse pattern of the noise's first pixels, as large as it: what a photograph is more like."""
    height, width, channels = noise.shape
    coarse = noise[: max(2, height // 24), : max(2, width // 24)]
    planes = [
        np.asarray(Image.fromarray(coarse[:, :, each]).resize((width, height), Image.Resampling.BICUBIC))
        for each in range(channels)
    ]
    return np.stack(planes, axis=-1)
