"""Pictures whose classes are known: a folder in ImageNet's layout or with a list, or the held-out digits."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from PIL import Image

from cnnport.calibration.pictures import SUFFIXES, pictures_below
from cnnport.calibration.samples import balanced, digest
from cnnport.digits import load_digits
from cnnport.errors import CnnportError
from cnnport.evaluation.labels import LISTS, Classes, classes_of_rows, match_folders, read_rows

_DIGITS = 10


class LabelledPictures(Protocol):
    """Pictures, each found by its place; a place is a number from 0 of the whole, in a part of it too."""

    @property
    def first(self) -> int:
        """The first place; 0 but for a part."""

    @property
    def description(self) -> str:
        """For people: what they are, how many, and how classes were told; no path."""

    @property
    def key(self) -> str:
        """Changes with anything that any picture depends on."""

    def __len__(self) -> int:
        """How many, those included that turn out not to be readable."""

    def name(self, place: int) -> str:
        """What to call one in a message."""

    def label(self, place: int) -> int:
        """Its class."""

    def image(self, place: int) -> Image.Image | Path:
        """The picture, or the file that it is to be decoded from."""

    def part(self, places: range) -> Self:
        """Enough of it for some places, to be sent elsewhere."""


@dataclass(frozen=True)
class PictureFiles:
    """Files below a folder, mixed over the classes in an order that depends on their names alone.

    Attributes:
        folder: Where they lie.
        files: Their paths, relative to it.
        labels: Class of each.
        description: For people.
        key: Of the names, classes, sizes and times of all of them.
        first: The place of the first one.
    """

    folder: Path
    files: tuple[str, ...]
    labels: tuple[int, ...]
    description: str
    key: str
    first: int = 0

    def __len__(self) -> int:
        return len(self.files)

    def name(self, place: int) -> str:
        """The file's path, relative to the folder."""
        text = self.files[place - self.first]
        return text if text.isprintable() else ascii(text)

    def label(self, place: int) -> int:
        """Its class."""
        return self.labels[place - self.first]

    def image(self, place: int) -> Path:
        """The file."""
        return self.folder / self.files[place - self.first]

    def part(self, places: range) -> Self:
        """The names and classes of some."""
        chosen = slice(places.start - self.first, places.stop - self.first)
        return type(self)(
            self.folder, self.files[chosen], self.labels[chosen], self.description, self.key, places.start
        )


class HeldOutDigits:
    """The 500 scans that training never sees, or the first of them."""

    first = 0

    def __init__(self, count: int | None = None) -> None:
        """Read them. Raises ``CnnportError`` if scikit-learn, which ships them, is missing."""
        digits = load_digits()
        self._images = digits.test_images[:count]
        self._labels = digits.test_labels[:count]
        self._indices = digits.test_indices[:count]
        self.description = f"{len(self._images)} held-out scans of digits"
        self.key = digest(["digits", hashlib.sha256(self._images.tobytes()).hexdigest()])

    def __len__(self) -> int:
        return len(self._images)

    def name(self, place: int) -> str:
        """The scan's place in the data set."""
        return f"digit {self._indices[place]}"

    def label(self, place: int) -> int:
        """The digit."""
        return int(self._labels[place])

    def image(self, place: int) -> Image.Image:
        """The scan."""
        return Image.fromarray(self._images[place])

    def part(self, places: range) -> Self:  # noqa: ARG002
        """All of it: it is small."""
        return self


def open_pictures(
    text: str, classes: Classes, *, labels: Path | None = None, count: int | None = None
) -> LabelledPictures:
    """Find the pictures that a user asked for.

    Args:
        text: ``digits``, or a folder: with a folder for each class, or flat and with a list.
        classes: Of the network.
        labels: A list of folders or of pictures and their classes. A flat folder may hold it itself.
        count: At most so many, as many of each class.

    Raises:
        CnnportError: If there are none, all are of one class, or nothing says of which class one is.
    """
    if text == "digits":
        if labels is not None:
            raise CnnportError("the digits know their classes: leave out --labels")
        if classes.count != _DIGITS:
            raise CnnportError(f"the network has {classes.count} classes, and there are {_DIGITS} digits")
        return HeldOutDigits(count)
    folder = Path(text)
    found = sorted(map(str, pictures_below(folder)), key=os.fsencode)
    if not found:
        raise CnnportError(
            f"{folder} has no pictures: files that end in {', '.join(sorted(SUFFIXES))} are looked for"
        )
    label_of, how = _labelled(folder, found, classes, labels)
    if len(set(label_of.values())) == 1:
        index = next(iter(label_of.values()))
        raise CnnportError(
            f"all {len(label_of)} pictures in {folder} are of one class, {index}: "
            "a network that gives no other answer would always be right"
        )
    chosen = balanced(
        label_of,
        lambda file: label_of[file],
        lambda item: hashlib.sha256(os.fsencode(str(item))).digest(),
        len(label_of) if count is None else count,
    )
    taken = tuple(label_of[file] for file in chosen)
    of_all = "" if len(chosen) == len(found) else f" of {len(found)}"
    description = f"{len(chosen)}{of_all} pictures of {len(set(taken))} classes, matched {how}"
    return PictureFiles(folder, tuple(chosen), taken, description, _key(folder, chosen, taken))


def _labelled(
    folder: Path, found: Sequence[str], classes: Classes, labels: Path | None
) -> tuple[dict[str, int], str]:
    """The class of each picture, and how it is known. Raises ``CnnportError``."""
    flat = [file for file in found if os.sep not in file]
    rows = None
    if labels is None and len(flat) == len(found):
        labels = _list_in(folder)
    if labels is not None:
        rows = read_rows(labels)
        how = f"by {labels.name}"
        if listed := _listed(labels, rows, found, classes):
            return listed, how
    if flat:
        raise CnnportError(
            f"{flat[0]} lies in no class folder"
            + (f", and {labels.name} does not name it" if labels else "")
            + f": {folder} wants a folder for each class, or --labels FILE with a picture and its class in each line"
        )
    folders = sorted({file.split(os.sep, 1)[0] for file in found})
    if rows is None:
        by_folder, how = match_folders(folders, classes)
    elif len(rows[0]) == 1:
        assert labels is not None
        # Names of the classes, in their order.
        by_folder, _ = match_folders(folders, _renamed(labels, rows, classes))
    else:
        assert labels is not None
        by_folder = classes_of_rows(labels, rows, classes)
        if missing := [name for name in folders if name not in by_folder]:
            raise CnnportError(f"{labels} does not say which class the folder {missing[0]!r} holds")
    return {file: by_folder[file.split(os.sep, 1)[0]] for file in found}, how


def _listed(
    path: Path, rows: Sequence[tuple[str, ...]], found: Sequence[str], classes: Classes
) -> dict[str, int] | None:
    """The class of each picture that a list names, by path, name or stem; None if it names no picture."""
    if len(rows[0]) == 1:
        if len(rows) != len(found) or not all(row[0].isdecimal() for row in rows):
            return None
        # A number for each, in the order of their names.
        pairs = [(file, row[0]) for file, row in zip(found, rows, strict=True)]
        return classes_of_rows(path, pairs, classes)
    known: dict[str, str] = {}
    for file in found:
        for name in (file, Path(file).name, Path(file).stem):
            known.setdefault(name, file)
    named = [(known[row[0]], row[1]) for row in rows if row[0] in known]
    if not named:
        return None
    gone = [row[0] for row in rows[1:] if row[0] not in known]
    if gone:
        raise CnnportError(f"{path} names {len(gone)} pictures that are not there, such as {gone[0]!r}")
    label_of = classes_of_rows(path, named, classes)
    if missing := [file for file in found if file not in label_of]:
        raise CnnportError(f"{path} does not say of which class {missing[0]!r} is")
    return label_of


def _list_in(folder: Path) -> Path | None:
    lists = sorted(path for path in folder.iterdir() if path.suffix.lower() in LISTS and path.is_file())
    if len(lists) > 1:
        names = " and ".join(path.name for path in lists[:3])
        raise CnnportError(f"{folder} has several lists: say with --labels which of {names} has the classes")
    return lists[0] if lists else None


def _renamed(path: Path, rows: Sequence[tuple[str, ...]], classes: Classes) -> Classes:
    if len(rows) != classes.count:
        raise CnnportError(f"{path} names {len(rows)} classes, and the network has {classes.count}")
    return Classes(classes.count, tuple(row[0] for row in rows))


def _key(folder: Path, files: Sequence[str], labels: Sequence[int]) -> str:
    parts: list[object] = ["pictures"]
    for file, label in zip(files, labels, strict=True):
        try:
            status = (folder / file).stat()
            seen: tuple[int, ...] = (status.st_size, status.st_mtime_ns)
        except OSError:
            seen = ()
        parts += [file, label, seen]
    return digest(parts)
