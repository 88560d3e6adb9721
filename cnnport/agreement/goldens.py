"""Inputs and reference answers that a project keeps, so that any file can be held to them later and without PyTorch.

A folder with ``manifest.json``, ``inputs/`` and ``outputs/``, the latter plain .npy files with a row for each sample.
The manifest has the SHA-256 of each of them and of itself, so that a flipped bit anywhere is found before anything is
compared. Nothing in the folder names a path outside of it.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnport._version import __version__
from cnnport.agreement.answers import Answered, scales_of
from cnnport.agreement.candidates import Candidate, labels
from cnnport.agreement.inputs import InputSet
from cnnport.agreement.matrix import Matrix, Plan, row_of
from cnnport.agreement.metrics import plain
from cnnport.agreement.rows import read_rows
from cnnport.agreement.tolerances import Tolerance, coarser
from cnnport.errors import CheckFailedError, CnnportError, OutputError
from cnnport.files import sha256_of
from cnnport.metadata import to_json

MANIFEST = "manifest.json"

_FORMAT = 1
_PIECE = 64


@dataclass(frozen=True)
class Goldens:
    """What a folder of goldens holds.

    Attributes:
        folder: Where it lies.
        model: Name of the network.
        reference: Whose answers they are.
        artifact_sha256: Of the reference's file.
        is_random: Whether the usual inputs are noise.
        tolerance: Of the reference by itself.
        answered: Inputs and answers.
    """

    folder: Path
    model: str
    reference: str
    artifact_sha256: str
    is_random: bool
    tolerance: Tolerance
    answered: tuple[Answered, ...]


def save_goldens(
    matrix: Matrix,
    reference: Candidate,
    tolerance: Tolerance,
    folder: Path,
    *,
    is_random: bool,
    overwrite: bool,
) -> int:
    """Write inputs and answers of a comparison, whole or not at all, and give the bytes.

    Args:
        matrix: The comparison, whose files are still there.
        reference: Whose answers they are.
        tolerance: Of the reference by itself.
        folder: To be made; an existing one is replaced with ``overwrite`` if it holds goldens.
        is_random: Whether the usual inputs are noise.
        overwrite: Whether it may be replaced.

    Raises:
        OutputError: If the folder exists, or the file system refuses.
    """
    check_target(folder, overwrite=overwrite)
    try:
        with tempfile.TemporaryDirectory(
            dir=folder.absolute().parent, prefix=f".{folder.name}.", suffix=".part"
        ) as name:
            made = Path(name) / "goldens"
            sets = [_written(each, made) for each in matrix.answered]
            document = {
                "cnnport_goldens": _FORMAT,
                "cnnport": __version__,
                "model": matrix.model,
                "reference": matrix.reference,
                "precision": reference.precision,
                "weights": reference.artifact.metadata.get("cnnport.weights", "unknown"),
                "artifact": {"file": reference.artifact.path.name, "sha256": reference.artifact.sha256},
                "is_random": is_random,
                "tolerance": tolerance.to_json(),
                "sets": sets,
            }
            document["sha256"] = _digest(document)
            (made / MANIFEST).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
            size = sum(path.stat().st_size for path in made.rglob("*") if path.is_file())
            if folder.exists():
                # Between the two moves there is none; what is interrupted there leaves both beside it.
                folder.rename(Path(name) / "old")
            made.rename(folder)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}") from error
    return size


def check_target(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder early, before the work that would be lost. Raises ``OutputError``."""
    if folder.is_file():
        raise OutputError(f"{folder} is a file: goldens are a folder")
    if folder.exists() and not overwrite:
        raise OutputError(f"{folder} exists: pass --overwrite to replace it, or name another")
    if folder.exists() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise OutputError(f"{folder} holds something else than goldens, which is not replaced: name another")
    if not folder.absolute().parent.is_dir():
        raise OutputError(f"cannot write {folder}: there is no folder {folder.absolute().parent}")


def read_goldens(folder: Path) -> Goldens:
    """Read what a folder holds, every checksum first.

    Raises:
        CnnportError: If it holds no goldens.
        CheckFailedError: If anything in it is not as it was written.
    """
    manifest = folder / MANIFEST
    try:
        held = json.loads(manifest.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CnnportError(
            f"{folder} holds no goldens: cnnport parity MODEL --save {folder} makes them"
        ) from error
    except OSError as error:
        raise CnnportError(f"cannot read {manifest}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise CheckFailedError(f"{manifest} is damaged: restore it, or save the goldens again") from error
    try:
        if held["cnnport_goldens"] != _FORMAT:
            raise CnnportError(f"{manifest} is of format {held['cnnport_goldens']}, known is {_FORMAT}")
        claimed = held.pop("sha256")
        if claimed != _digest(held):
            raise CheckFailedError(f"{manifest} is not as it was written: its checksum is another")
        return Goldens(
            folder=folder,
            model=str(held["model"]),
            reference=str(held["reference"]),
            artifact_sha256=str(held["artifact"]["sha256"]),
            is_random=bool(held["is_random"]),
            tolerance=Tolerance.from_json(held["tolerance"]),
            answered=tuple(_read(row, folder) for row in held["sets"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckFailedError(f"{manifest} is damaged: restore it, or save the goldens again") from error


def compare_with_goldens(
    goldens: Goldens,
    candidates: Sequence[Candidate],
    folder: Path,
    plan: Plan,
    *,
    on_step: Callable[[str], None] = lambda _: None,
) -> Matrix:
    """Hold candidates against stored answers; arguments and result as of ``matrix.compare``."""
    rows = []
    for label, candidate in zip(labels(candidates), candidates, strict=True):
        on_step(label)
        own = plan.tolerance(candidate, is_random=goldens.is_random)
        tolerance = own if own.is_given else coarser(goldens.tolerance, own)
        rows.append(row_of(label, candidate, goldens.answered, tolerance, folder, checks=plan.checks))
    reference = f"goldens of {goldens.reference}"
    return Matrix(reference, goldens.model, (), goldens.answered, tuple(rows))


def _written(answered: Answered, folder: Path) -> dict[str, Any]:
    """Copy a set; gives what the manifest says of it."""
    inputs = answered.inputs

    def copied(files: Mapping[str, Path], kind: str) -> list[dict[str, str]]:
        rows = []
        for name, path in files.items():
            target = folder / kind / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            rows.append({"name": name, "file": f"{kind}/{path.name}", "sha256": sha256_of(target)})
        return rows

    return {
        "name": inputs.name,
        "description": inputs.description,
        "usual": inputs.is_usual,
        "samples": list(inputs.titles),
        "rounding_in_std": plain(answered.rounding_in_std),
        "inputs": copied(inputs.files, "inputs"),
        "outputs": copied(answered.files, "outputs"),
    }


def _read(row: dict[str, Any], folder: Path) -> Answered:
    """Raises ``KeyError`` and its like if a row is damaged, ``CheckFailedError`` if a file is."""
    titles = tuple(str(title) for title in row["samples"])
    inputs, outputs = (
        {str(each["name"]): _checked(each, folder, len(titles)) for each in row[kind]}
        for kind in ("inputs", "outputs")
    )
    held = InputSet(str(row["name"]), str(row["description"]), bool(row["usual"]), titles, inputs)
    scales = scales_of(outputs, held.chunks(_PIECE))
    return Answered(held, outputs, scales, float(row["rounding_in_std"]))


def _checked(row: dict[str, Any], folder: Path, count: int) -> Path:
    path = folder / str(row["file"])
    if not path.resolve().is_relative_to(folder.resolve()):
        raise CheckFailedError(f"{folder / MANIFEST} names a file outside of its folder: {row['file']}")
    try:
        found = sha256_of(path)
    except OSError as error:
        raise CheckFailedError(f"{path} cannot be read: {error.strerror or error}") from error
    if found != row["sha256"]:
        raise CheckFailedError(f"{path} is not as it was written: its checksum is another")
    if len(read_rows(path)) != count:
        raise CheckFailedError(f"{path} has not a row for each of {count} samples")
    return path


def _digest(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(to_json(dict(document)).encode()).hexdigest()
