"""The handwritten digits of scikit-learn, with a split that does not depend on any library's random numbers.

1,797 scans of 13 writers, 8 x 8 pixels with 17 grey levels, white ink on black: the test part of the UCI data
set "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak, 1998), which scikit-learn ships, so no
network is needed. The split here is by scan, not by writer: the same 13 are in both parts.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cnnport.errors import CnnportError

HELD_OUT_PER_CLASS = 50


@dataclass(frozen=True, eq=False)
class Digits:
    """The scans in two parts; within each the classes are mixed, in the order of the split's rule.

    Attributes:
        train_images: 1297 x 8 x 8, uint8, 0 is paper and 255 full ink.
        train_labels: 1297, int64, the digits.
        test_images: 500 x 8 x 8, as above: held out, 50 of each class.
        test_labels: 500, as above.
        train_indices: 1297, int64, each scan's place in scikit-learn's data set.
        test_indices: 500, as above.
    """

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    train_indices: NDArray[np.int64]
    test_indices: NDArray[np.int64]


def load_digits() -> Digits:
    """Read the data set from the scikit-learn that is installed and split it.

    The scans are ordered by the SHA-256 of their index, written in decimal. The first 50 of each class in
    that order are held out; the other 1,297 are for training. Grey levels 0..16 become 0..255, rounded.

    Raises:
        CnnportError: If scikit-learn is missing, or its data set is another one.
    """
    try:
        from sklearn import datasets
    except ImportError as error:
        raise CnnportError(
            "the handwritten digits come with scikit-learn, which is missing: pip install 'cnnport[digits]'"
        ) from error
    bunch = datasets.load_digits()
    levels = np.asarray(bunch.images).astype(np.int64)
    labels = np.asarray(bunch.target).astype(np.int64)
    if levels.shape != (1797, 8, 8) or levels.min() != 0 or levels.max() != 16:
        raise CnnportError("this scikit-learn has other handwritten digits than the 1,797 that cnnport knows")

    order = np.array(sorted(range(len(labels)), key=_rank), dtype=np.int64)
    # How many of a scan's class come before it in the order.
    position = np.empty_like(order)
    for digit in range(10):
        position[labels[order] == digit] = np.arange(np.sum(labels == digit))
    test, train = order[position < HELD_OUT_PER_CLASS], order[position >= HELD_OUT_PER_CLASS]
    images = ((levels * 255 + 8) // 16).astype(np.uint8)
    return Digits(images[train], labels[train], images[test], labels[test], train, test)


def _rank(index: int) -> bytes:
    return hashlib.sha256(str(index).encode()).digest()
