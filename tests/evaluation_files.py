"""What the tests of evaluating share: the held-out digits as a folder of pictures, and results without times."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cnnport.digits import load_digits
from cnnport.evaluation import Evaluated

# Of each class; the folder has as many of every digit.
EACH = 12


def write_digits(folder: Path, each: int = EACH, shift: int = 0) -> Path:
    """Scans as PNG in a folder for each digit; with a shift in that of another digit."""
    digits = load_digits()
    for digit in range(10):
        own = folder / str((digit + shift) % 10)
        own.mkdir(parents=True)
        for index in np.flatnonzero(digits.test_labels == digit)[:each]:
            Image.fromarray(digits.test_images[index]).save(own / f"{digits.test_indices[index]:04d}.png")
    return folder


def result_of(evaluated: Evaluated) -> dict[str, Any]:
    """Everything but how long it took and what an earlier run had done."""
    assert evaluated.problem is None, evaluated.problem
    assert evaluated.tally is not None
    assert evaluated.metrics is not None
    return {
        "tally": evaluated.tally.to_json(),
        "metrics": evaluated.metrics.to_json(),
        "data": evaluated.data,
    }
