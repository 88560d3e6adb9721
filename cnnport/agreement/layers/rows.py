"""From the rows of ``cnnport parity`` to layers: which pairs are looked into, and on which inputs."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cnnport.agreement.layers.localisation import Localisation
from cnnport.agreement.layers.localise import localise
from cnnport.agreement.layers.side import PYTORCH, Side
from cnnport.runtimes.engine_file import is_engine

if TYPE_CHECKING:
    from cnnport.agreement.candidates import Candidate
    from cnnport.agreement.inputs import InputSet
    from cnnport.agreement.matrix import Matrix, Row

# What departs departs on few samples; a batch that is mixed up needs more than one.
_SAMPLES = 4


def look_into(
    matrix: "Matrix",
    reference: "Candidate",
    *,
    write: Path | None = None,
    on_step: Callable[[str], None] = lambda _: None,
) -> tuple[Localisation, ...]:
    """Localise in every row that failed, or in all of them where none did.

    Args:
        matrix: Whose inputs still lie on the disk.
        reference: What it was held against.
        write: A folder; each row gets one of its own in it, by its number.
        on_step: Told what is being done.

    Raises:
        CnnportError: As ``localise``.
    """
    failed = [row for row in matrix.rows if not row.ok]
    found = []
    for number, row in enumerate(failed or matrix.rows, 1):
        for left, right, inputs in _pairs(matrix, reference, row):
            on_step(f"layers of {row.label}")
            feeds = inputs.load(0, min(_SAMPLES, len(inputs)))
            folder = write / f"{number}" if write is not None else None
            found.append(localise(left, right, feeds, write=folder))
    return tuple(found)


def _pairs(matrix: "Matrix", reference: "Candidate", row: "Row") -> Iterator[tuple[Side, Side, "InputSet"]]:
    candidate = row.candidate
    path = candidate.artifact.path
    if candidate.runtime in PYTORCH or is_engine(str(path)) or is_engine(str(reference.artifact.path)):
        # Neither has a graph that could be changed.
        return
    usual = matrix.answered[0].inputs
    failing = next((each.inputs for each in row.sets if each.failures), usual)
    side = _side(candidate)
    alone = {check.name for check in row.checks if check.ok is False} == {"batch"}
    if alone and not any(each.failures for each in row.sets):
        yield _side(candidate, alone=True), side, usual
        return
    yield _side(reference), side, failing
    if row.ok and candidate.artifact.precision == "fp16" and candidate.runtime == "ort-cpu":
        # ONNX Runtime's CPU rounds nothing: what a runtime does that holds halves shows in emulation alone.
        yield _side(reference), _side(candidate, emulated=True), failing


def _side(candidate: "Candidate", *, alone: bool = False, emulated: bool = False) -> Side:
    return Side(candidate.artifact, candidate.runtime, candidate.options, alone, emulated)
