"""Which class a folder's name, or a line of a list, stands for."""

import csv
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cnnport.errors import CnnportError

LISTS = (".csv", ".txt", ".json")
"""Endings of the files that can say of which class things are."""

# A list of a million pictures has some 60 MB.
_MOST_BYTES = 2**29


@dataclass(frozen=True)
class Classes:
    """The classes of a network.

    Attributes:
        count: How many.
        labels: Their names, if the file states them.
    """

    count: int
    labels: tuple[str, ...] | None

    def index(self, text: str) -> int | None:
        """The class that a number or a name stands for; None if it is none, or two are called so."""
        if text.isdecimal():
            number = int(text[:12])
            return number if number < self.count else None
        same = [place for place, label in enumerate(self.labels or ()) if _plain(label) == _plain(text)]
        return same[0] if len(same) == 1 else None


def match_folders(folders: Sequence[str], classes: Classes) -> tuple[dict[str, int], str]:
    """The class that each folder holds.

    Args:
        folders: Their names.
        classes: Of the network.

    Returns:
        By name the class, and in words how they were matched.

    Raises:
        CnnportError: If nothing says which is which.
    """
    ordered = sorted(folders)
    count = f"{len(ordered)} class folder{'s' * (len(ordered) != 1)}"
    found = {name: classes.index(name) for name in ordered}
    named = {name: place for name, place in found.items() if place is not None}
    if len(named) == len(ordered):
        _check_once(named)
        return named, "by number" if all(name.isdecimal() for name in ordered) else "by name"
    strange = next(name for name in ordered if name not in named)
    if not named and len(ordered) == classes.count and not any(name.isdecimal() for name in ordered):
        # What ImageNet's layout means: classes are numbered in the order of their synsets.
        return {name: place for place, name in enumerate(ordered)}, "in sorted order"
    what = (
        "none is called like one" if not named else f"{strange!r} is called like none, or like two, of them"
    )
    raise CnnportError(
        f"the data have {count} and the network {classes.count} classes, and {what}\n"
        "say which is which with --labels FILE: lines of a folder's name and its class"
    )


def read_rows(path: Path) -> list[tuple[str, ...]]:
    """The lines of a list of one or two columns; header and empty lines are left in and out.

    ``.csv`` is separated by commas, ``.txt`` by a tab, else at the first run of blanks (or the last one, where what
    follows is a number). ``.json`` is an object of names and classes, or ImageNet's of classes with a synset and a
    name each.

    Raises:
        CnnportError: If it cannot be read, or is none.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise CnnportError(f"{path} is too large for a list of labels")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise CnnportError(f"cannot read {path}: {reason}") from error
    suffix = path.suffix.lower()
    if suffix == ".json":
        rows = _json_rows(path, text)
    elif suffix == ".csv":
        try:
            cells = (
                tuple(cell.strip() for cell in row[:2]) for row in csv.reader(text.splitlines(), strict=True)
            )
            rows = [row for row in cells if any(row)]
        except csv.Error as error:
            raise CnnportError(f"{path} is not a CSV: {error}") from error
    else:
        rows = [_parts(line) for line in text.splitlines() if line.strip()]
    if not rows:
        raise CnnportError(f"{path} is empty")
    if len({len(row) for row in rows}) > 1:
        odd = next(place for place, row in enumerate(rows, 1) if len(row) != len(rows[0]))
        raise CnnportError(f"{path} has {len(rows[0])} column(s) in its first line and not in entry {odd}")
    return rows


def classes_of_rows(path: Path, rows: Sequence[tuple[str, ...]], classes: Classes) -> dict[str, int]:
    """The class that each name of a list stands for.

    The second column is a number from 0 or a label; where it is neither and there is a line for each class, lines
    are in the order of the classes, as in the lists of synsets.

    Args:
        path: Of the list, for messages.
        rows: Of two columns.
        classes: Of the network.

    Raises:
        CnnportError: If a line names no class, or a name comes twice.
    """
    found = [classes.index(value) for _, value in rows]
    if None in found:
        numeric = all(value.isdecimal() for _, value in rows)
        if len(rows) == classes.count and not numeric:
            found = list(range(classes.count))
        elif found[0] is None and None not in found[1:] and len(rows) > 1:
            # A header.
            rows, found = rows[1:], found[1:]
        else:
            place = found.index(None)
            name, value = rows[place]
            hint = (
                f"classes are numbered from 0 to {classes.count - 1}"
                if value.isdecimal()
                else f"it is no label of the network, nor a number from 0 to {classes.count - 1}"
            )
            raise CnnportError(f"{path}: {name!r} is said to be of class {value!r}, but {hint}")
    names = Counter(name for name, _ in rows)
    name, times = names.most_common(1)[0]
    if times > 1:
        raise CnnportError(f"{path} has {name!r} {times} times")
    return {name: place for (name, _), place in zip(rows, found, strict=True) if place is not None}


def _check_once(named: Mapping[str, int]) -> None:
    place, times = Counter(named.values()).most_common(1)[0]
    if times > 1:
        both = " and ".join(repr(name) for name, each in named.items() if each == place)
        raise CnnportError(f"the folders {both} are both called like class {place}")


def _json_rows(path: Path, text: str) -> list[tuple[str, ...]]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CnnportError(f"{path} is not JSON") from error
    if isinstance(data, dict) and all(isinstance(value, int | str) for value in data.values()):
        return [(name, str(value)) for name, value in data.items()]
    is_imagenet = isinstance(data, dict) and all(
        isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) for value in data.values()
    )
    if is_imagenet:
        return [(value[0], index) for index, value in data.items()]
    raise CnnportError(f"{path} is no object of names and their classes")


def _parts(line: str) -> tuple[str, ...]:
    text = line.strip()
    if "\t" in text:
        return tuple(part.strip() for part in text.split("\t", 1))
    if found := re.fullmatch(r"(.*\S)\s+(\d+)", text):
        return found[1], found[2]
    return tuple(text.split(None, 1))


def _plain(label: str) -> str:
    """A label without what a folder's name cannot have or does not keep: case, blanks and marks."""
    return re.sub(r"[\W_]+", " ", label).strip().casefold()
