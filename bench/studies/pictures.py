"""Pictures for studies: seeded, of any number, and as much work to decode as photographs are."""

from pathlib import Path

import numpy as np
from PIL import Image

# Blots of about so many pixels, on which grain lies: smooth areas and noise, as a camera gives.
_BLOT = 28
_GRAIN = 12


def write_pictures(
    folder: Path, count: int, *, size: tuple[int, int], classes: int, quality: int = 90
) -> None:
    """Write JPEGs in one folder for each class, in turn.

    Args:
        folder: Made if it is not there.
        count: How many in all.
        size: Width and height in pixels.
        classes: How many folders; they are called by their numbers.
        quality: Of the JPEGs, as Pillow counts it.
    """
    rng = np.random.default_rng(0)
    blots = (-(-size[1] // _BLOT), -(-size[0] // _BLOT), 3)
    for place in range(count):
        own = folder / str(place % classes)
        own.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(rng.integers(0, 256, blots, dtype=np.uint8))
        large = np.asarray(small.resize(size, Image.Resampling.BICUBIC)).astype(np.int16)
        grained = large + rng.integers(-_GRAIN, _GRAIN + 1, large.shape, dtype=np.int16)
        Image.fromarray(grained.clip(0, 255).astype(np.uint8)).save(own / f"{place:05d}.jpg", quality=quality)
