"""Pictures as samples: a folder of them, or the handwritten digits."""

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnport.artifact import Artifact
from cnnport.calibration.samples import COUNT, SEED, Feeds, balanced, digest
from cnnport.classify import assumed_preprocess
from cnnport.digits import load_digits
from cnnport.errors import ArtifactError, CnnportError
from cnnport.files import sha256_of
from cnnport.images import preprocess_image
from cnnport.metadata import at_native_size, preprocess_of, to_json
from cnnport.picture_input import check_no_pictures
from cnnport.preprocess import Preprocess

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""Of the files that count as pictures; others in a folder are passed over."""


class PictureFolder:
    """Pictures below a folder, as many of each class: a file's class is the folder that it lies in.

    Flat folders have one class, ImageNet's layout one for each of its folders. Which are chosen depends on their
    names and the seed alone, neither on the file system's order nor, within a class, on the other files. Links are
    followed, and no folder is entered twice.
    """

    is_random = False

    def __init__(
        self, folder: Path, artifact: Artifact, count: int = COUNT, *, seed: int = SEED, skip: int = 0
    ) -> None:
        """Choose; nothing is decoded.

        Args:
            folder: Where the pictures lie.
            artifact: The network.
            count: How many.
            seed: Decides which.
            skip: How many of those that would be chosen first are left to somebody else.

        Raises:
            CnnportError: If there is no such folder, or no picture in it.
            ArtifactError: If the network does not take pictures.
        """
        found = list(pictures_below(folder))
        if not found:
            raise CnnportError(
                f"{folder} has no pictures: files that end in {', '.join(sorted(SUFFIXES))} are looked for"
            )
        self._input, self._preprocess = picture_input(artifact)
        self._folder, self._artifact, self._seed, self._skip = folder, artifact, seed, skip
        self._chosen = balanced(
            found,
            lambda path: path.parent,
            lambda item: hashlib.sha256(f"{seed}\0".encode() + os.fsencode(str(item))).digest(),
            skip + count,
        )[skip:]
        classes = len({path.parent for path in self._chosen})
        self.description = f"{len(self._chosen)} of {len(found)} pictures, {classes} " + (
            "class" if classes == 1 else "classes"
        )

    @property
    def key(self) -> str:
        """Of the bytes of all chosen files and of what is done to them; reads them all."""
        hashes = [part for path in self._chosen for part in (path, _hash_of(self._folder / path))]
        return digest(["pictures", to_json(self._preprocess.to_json()), self._input, *hashes])

    def __len__(self) -> int:
        return len(self._chosen)

    def name(self, place: int) -> str:
        """The file's path, relative to the folder."""
        text = str(self._chosen[place])
        return text if text.isprintable() else ascii(text)

    def load(self, place: int) -> Feeds:
        """Decoded and preprocessed as the network's file says. Raises ``ImageError``."""
        return _feed(self._input, preprocess_image(self._folder / self._chosen[place], self._preprocess))

    def label(self, _place: int) -> None:
        """Unknown: how a folder's name stands to the network's classes, nothing says."""

    def others(self, count: int) -> Self | None:
        """The next in order, if the folder has more."""
        skip = self._skip + len(self)
        found = type(self)(self._folder, self._artifact, count, seed=self._seed, skip=skip)
        return found if len(found) else None


class DigitSamples:
    """Scans of handwritten digits, as many of each, none of those that are held out for evaluation."""

    is_random = False

    def __init__(self, artifact: Artifact, count: int = COUNT, *, skip: int = 0) -> None:
        """Read the data set and choose.

        Args:
            artifact: The network.
            count: How many.
            skip: How many of those that would be chosen first are left to somebody else.

        Raises:
            CnnportError: If scikit-learn, which ships them, is missing.
            ArtifactError: If the network does not take pictures.
        """
        self._input, self._preprocess = picture_input(artifact)
        digits = load_digits()
        self._artifact, self._skip = artifact, skip
        self._images, self._labels = digits.train_images, digits.train_labels
        self._indices = digits.train_indices
        places = {int(index): place for place, index in enumerate(self._indices)}
        self._chosen = [
            places[index]
            for index in balanced(
                places,
                lambda index: int(digits.train_labels[places[index]]),
                lambda item: hashlib.sha256(str(item).encode()).digest(),
                skip + count,
            )[skip:]
        ]
        self.description = f"{len(self._chosen)} of {len(self._images)} scans of digits for training"
        pixels = hashlib.sha256(self._images[self._chosen].tobytes()).hexdigest()
        self.key = digest(["digits", to_json(self._preprocess.to_json()), self._input, pixels])

    def __len__(self) -> int:
        return len(self._chosen)

    def name(self, place: int) -> str:
        """The scan's place in the data set."""
        return f"digit {self._indices[self._chosen[place]]}"

    def load(self, place: int) -> Feeds:
        """Preprocessed as the network's file says."""
        image = Image.fromarray(self._images[self._chosen[place]])
        return _feed(self._input, preprocess_image(image, self._preprocess))

    def label(self, place: int) -> int:
        """The digit."""
        return int(self._labels[self._chosen[place]])

    def others(self, count: int) -> Self | None:
        """Further scans for training; those that are held out for evaluation are never among them."""
        found = type(self)(self._artifact, count, skip=self._skip + len(self))
        return found if len(found) else None


def _feed(spec: tuple[str, str], pixels: NDArray[np.float32]) -> Feeds:
    name, dtype = spec
    return {name: pixels[None].astype(dtype, copy=False)}


def picture_input(
    artifact: Artifact,
    given: Preprocess | None = None,
    *,
    otherwise: str = "calibrate it with .npy or .npz files of what it takes, or with random:N",
) -> tuple[tuple[str, str], Preprocess]:
    """Name and type of the one input, and what it wants done to pictures.

    Args:
        artifact: The network.
        given: What is to be done to pictures, whatever the file says.
        otherwise: What its user may do where it takes no pictures.

    Raises:
        ArtifactError: If it takes none, or others than they are prepared as.
    """
    check_no_pictures(artifact, "takes prepared samples")
    specs = at_native_size(artifact).inputs
    if len(specs) != 1 or len(specs[0].shape) != 4 or not specs[0].dtype.startswith("float"):
        inputs = ", ".join(map(str, specs)) or "none"
        raise ArtifactError(
            f"{artifact.path} does not take a batch of images: its inputs are {inputs}\n{otherwise}"
        )
    spec = specs[0]
    preprocess = given or preprocess_of(artifact)
    channels = spec.shape[1]
    if isinstance(channels, int) and channels != (preprocess.channels if preprocess else 3):
        wants = f"{artifact.path} takes {channels} channel{'s' * (channels != 1)}"
        text = (
            f"{wants}, but its pictures are prepared with {preprocess.channels}"
            if preprocess
            else f"{wants} and does not say how to prepare pictures for it"
        )
        raise ArtifactError(f"{text}: {otherwise}")
    preprocess = preprocess or assumed_preprocess(artifact)
    for size, made in zip(spec.shape[2:], preprocess.size, strict=True):
        if isinstance(size, int) and size != made:
            height, width = preprocess.size
            raise ArtifactError(
                f"{artifact.path} takes {'x'.join(map(str, spec.shape[2:]))} pixels, "
                f"but its pictures are prepared as {height}x{width}"
            )
    return (spec.name, spec.dtype), preprocess


def pictures_below(folder: Path) -> Iterator[Path]:
    """All pictures below a folder, relative to it. Raises ``CnnportError``."""
    if not folder.is_dir():
        raise CnnportError(f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}")
    entered: set[tuple[int, int]] = set()

    def refuse(error: OSError) -> None:
        raise CnnportError(f"cannot read {error.filename}: {error.strerror or error}") from error

    for name, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        # Sorted, so that of two ways into one folder it is always the same that counts.
        folders.sort(key=os.fsencode)
        status = Path(name).stat()
        if (status.st_dev, status.st_ino) in entered:
            folders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        for file in files:
            if os.path.splitext(file)[1].lower() in SUFFIXES and not file.startswith("."):  # noqa: PTH122
                yield Path(name, file).relative_to(folder)


def _hash_of(path: Path) -> str:
    """Of a file's bytes; of something else, why it has none: decoding says so too."""
    try:
        # A pipe would block, or never end.
        return sha256_of(path) if stat.S_ISREG(path.stat().st_mode) else "not a file"
    except OSError as error:
        return error.strerror or "unreadable"
