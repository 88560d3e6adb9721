"""Fields of JSON records that others may have written: each is there and of its type, or an error says which."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from cnnport.errors import CnnportError

Json: TypeAlias = dict[str, Any]
"""A JSON object."""


class RecordError(CnnportError):
    """A file is not a benchmark record that can be read."""


Record = TypeVar("Record")

REQUIRED = object()


def read_saved(path: Path, from_json: Callable[[Any], Record], what: str) -> Record:
    """Read a record that was saved as JSON.

    Args:
        path: A file.
        from_json: Makes the record of the document; raises ``RecordError``.
        what: The record in a word, for errors.

    Raises:
        RecordError: If there is no such file, or it is damaged, or something else.
    """
    try:
        return from_json(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path} is not JSON, or is damaged: {error}") from error
    except RecordError as error:
        raise RecordError(f"{path} is not a cnnport {what}: {error}") from error


def take(row: Json, name: str, kind: type, default: Any = REQUIRED) -> Any:
    """A field of a stated type. A field that may be absent may also be null. Raises ``RecordError``."""
    value = row.get(name)
    if value is None and default is not REQUIRED:
        return default
    # JSON's true is an int to Python.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise RecordError(f"{name!r} is missing or not of type {kind.__name__}")
    return value


def number(value: object, name: str) -> float:
    """A finite number of at least 0. Raises ``RecordError``."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise RecordError(f"{name!r} holds {value!r}, which is not a number of at least 0")
    return float(value)


def count(value: object, name: str) -> int:
    """A whole number of at least 0. Raises ``RecordError``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise RecordError(f"{name!r} holds {value!r}, which is not a whole number of at least 0")
    return value


def optional_number(row: Json, name: str) -> float | None:
    """A field as ``number``; None where it is absent or null. Raises ``RecordError``."""
    return None if row.get(name) is None else number(row[name], name)


def optional_count(row: Json, name: str) -> int | None:
    """A field as ``count``; None where it is absent or null. Raises ``RecordError``."""
    return None if row.get(name) is None else count(row[name], name)


def rows(document: Json, name: str) -> list[Json]:
    """A list of objects; empty where it is absent. Raises ``RecordError``."""
    found: list[Json] = take(document, name, list, [])
    if not all(isinstance(row, dict) for row in found):
        raise RecordError(f"{name!r} holds something that is not a row")
    return found


def texts(row: Json, name: str) -> dict[str, str]:
    """An object as names and texts; empty where it is absent. Raises ``RecordError``."""
    return {key: str(value) for key, value in take(row, name, dict, {}).items()}
