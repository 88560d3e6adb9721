"""One row a network, kept as JSON and shown as a page, so that a run of hours goes on where it stopped."""

import json
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path

from cnnport.errors import ArtifactError
from cnnport.files import write_atomically
from cnnport.measuring.environment import read_environment
from cnnport.measuring.record import Json


def kept_rows(
    path: Path, versions: Mapping[str, str], key: Callable[[Json], str] = itemgetter("name")
) -> dict[str, Json]:
    """The rows of an earlier run by name, or by another ``key``: those of the same versions that have no problem.

    Raises:
        ArtifactError: If the file is no such record.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["networks"]
        return {key(row): row for row in rows if row["versions"] == versions and not row["problem"]}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} is not a record of this command: move it away") from error


def write_rows(folder: Path, stem: str, rows: Sequence[Json], page: str, **facts: str) -> None:
    """Write ``STEM.json`` and ``STEM.md`` into one folder. Arguments and errors as of ``write_record``."""
    write_record(folder / f"{stem}.json", folder / f"{stem}.md", rows, page, **facts)


def write_record(record: Path, place: Path, rows: Sequence[Json], page: str, **facts: str) -> None:
    """Write the record, with the environment and ``facts`` before the rows, and the page at its place.

    Raises:
        OutputError: If the file system refuses.
    """
    write_document(record, {"environment": read_environment().to_json(), **facts, "networks": list(rows)})
    place.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(place, page.encode())


def write_document(path: Path, document: Json) -> None:
    """Write a record of any form, and the folder that it lies in. Raises ``OutputError``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(document, indent=1) + "\n").encode())
