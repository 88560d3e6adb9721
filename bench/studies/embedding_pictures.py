"""Pictures for the study of packages: of several sizes and shapes, the same on every machine."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnport import registry
from cnnport.digits import load_digits
from cnnport.packaging.example import cropped
from cnnport.preprocess import Preprocess

# Height and width: larger and smaller than networks take them, high, wide, odd, and as they take them.
_SIZES = (
    (480, 640),
    (640, 480),
    (224, 224),
    (256, 256),
    (257, 301),
    (600, 333),
    (180, 240),
    (96, 128),
    (61, 47),
    (1080, 1920),
    (150, 900),
    (800, 210),
    (375, 500),
    (500, 375),
    (299, 299),
    (255, 511),
    (1024, 768),
    (333, 334),
    (720, 1280),
    (40, 40),
)

_BLOT = 28
_GRAIN = 12

# Of a scan of 8 x 8 pixels: from the size that it has to twenty times that.
_ENLARGED = (
    (8, 8),
    (16, 16),
    (28, 28),
    (32, 32),
    (50, 40),
    (40, 50),
    (99, 101),
    (160, 160),
    (64, 48),
    (31, 77),
)


@dataclass(frozen=True, eq=False)
class Shown:
    """One picture.

    Attributes:
        image: As Pillow has it, in the colours of the network.
        path: A PNG file of it.
    """

    image: Image.Image
    path: Path

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """Height x width x channels."""
        return np.asarray(self.image).reshape(self.image.height, self.image.width, -1)


def pictures_for(preprocess: Preprocess, network: str, folder: Path, count: int) -> list[Shown]:
    """Pictures that a network has something to say about, in PNG files.

    Args:
        preprocess: Of the network: colours or grey.
        network: Those of digits get scans that they were not trained on, enlarged to several sizes.
        folder: For the files; it is made.
        count: How many, at most 20.

    Raises:
        CnnportError: If it is a network of digits and scikit-learn is missing.
    """
    digits = registry.get(network).labels == "digits"
    images = _digits(count) if digits else [_blots(place) for place in range(count)]
    return _written([image.convert("L" if preprocess.channels == 1 else "RGB") for image in images], folder)


def prepared_by_pillow(shown: Sequence[Shown], preprocess: Preprocess) -> list[Shown]:
    """The same resized and cropped by Pillow, for packages that leave this to whoever calls them."""
    folder = shown[0].path.parent / "prepared"
    return _written([cropped(each.image, preprocess) for each in shown], folder)


def _written(images: Sequence[Image.Image], folder: Path) -> list[Shown]:
    folder.mkdir(parents=True, exist_ok=True)
    made = [Shown(image, folder / f"{place:02}.png") for place, image in enumerate(images)]
    for each in made:
        each.image.save(each.path)
    return made


def _blots(place: int) -> Image.Image:
    """Coloured blots with grain on them: smooth areas, edges and noise, as a camera gives."""
    random = np.random.default_rng(place)
    height, width = _SIZES[place % len(_SIZES)]
    few = (-(-height // _BLOT), -(-width // _BLOT), 3)
    small = Image.fromarray(random.integers(0, 256, few, dtype=np.uint8))
    large = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    grained = large + random.integers(-_GRAIN, _GRAIN + 1, large.shape, dtype=np.int16)
    return Image.fromarray(grained.clip(0, 255).astype(np.uint8))


def _digits(count: int) -> list[Image.Image]:
    """Held-out scans, each class in turn, enlarged."""
    held = load_digits()
    by_class = [np.flatnonzero(held.test_labels == digit) for digit in range(10)]
    images = []
    for place in range(count):
        scan = Image.fromarray(held.test_images[by_class[place % 10][place // 10]])
        height, width = _ENLARGED[place // 2 % len(_ENLARGED)]
        images.append(scan.resize((width, height), Image.Resampling.BICUBIC))
    return images
