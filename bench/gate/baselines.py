"""What a case is held against: an artifact that can be measured again, or else the record of one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cnnport.artifact import Artifact
from cnnport.errors import ArtifactError, CnnportError
from cnnport.files import sha256_of
from cnnport.measuring.case import Case
from cnnport.measuring.measurement import Measurement
from cnnport.measuring.record import read_results
from cnnport.onnxfile import read_artifact
from cnnport.runtimes.engine_file import is_engine, read_engine

Prepare = Callable[[Artifact], Artifact]
"""What is done to a baseline's artifact, as it was to those of the cases: sizes that are left open are settled."""


@dataclass(frozen=True)
class Baseline:
    """What one case is held against.

    Attributes:
        case: To be measured in turn with it; None where the file is not at hand.
        record: What was measured of it; None where only a file was given.
        note: What has to be said of it; empty for nothing.
    """

    case: Case | None
    record: Measurement | None
    note: str = ""


def find_baselines(
    cases: Sequence[Case], path: Path, *, prepare: Prepare = lambda artifact: artifact
) -> tuple[Baseline | None, ...]:
    """What each case is held against, None where there is nothing.

    Args:
        cases: To be measured.
        path: An earlier record of ``cnnport bench`` as JSON, or an ONNX file or an engine to be measured now.
        prepare: Done to every artifact that is read.

    Raises:
        CnnportError: If there is nothing for any of the cases, or a file is to stand for several networks.
        RecordError: If the record cannot be read.
        ArtifactError: If the file cannot.
    """
    if path.suffix == ".onnx" or is_engine(str(path)):
        if len(models := {case.artifact.model for case in cases}) > 1:
            raise CnnportError(
                f"--baseline {path} is one network, and {len(models)} are measured: give a record"
            )
        artifact = prepare(read_engine(path) if is_engine(str(path)) else read_artifact(path))
        return tuple(Baseline(replace(case, artifact=artifact), None) for case in cases)
    rows = read_results(path).results
    found = tuple(_of_record(case, cases, rows, path, prepare) for case in cases)
    if cases and not any(found):
        told = ", ".join(sorted({f"{row.model} on {row.runtime}" for row in rows})) or "nothing"
        raise CnnportError(f"{path} has no row for {cases[0].title}: it has {told}")
    return found


def _of_record(
    case: Case, cases: Sequence[Case], rows: Sequence[Measurement], path: Path, prepare: Prepare
) -> Baseline | None:
    fitting = [row for row in rows if _fits(case, row)]
    named = [row for row in fitting if row.model == case.artifact.model]
    # A file that was renamed is still the one that is meant, where there is no other.
    alone = len({row.model for row in rows}) == 1 == len({each.artifact.model for each in cases})
    chosen = named or (fitting if alone else [])
    if not chosen:
        return None
    row = chosen[-1]
    file = _file_of(row, path)
    if file is None:
        return Baseline(None, row, f"the file of the record, {row.file or row.model}, is not here as it was")
    try:
        artifact = prepare(read_engine(file) if is_engine(str(file)) else read_artifact(file))
    except ArtifactError as error:
        return Baseline(None, row, f"the file of the record cannot be read: {error}")
    return Baseline(replace(case, artifact=artifact), row)


def _fits(case: Case, row: Measurement) -> bool:
    """Whether a row is of the same circumstances."""
    mine = (
        case.runtime,
        case.artifact.precision,
        case.batch,
        case.threads,
        case.concurrency,
        dict(case.stated_settings),
    )
    return mine == (row.runtime, row.precision, row.batch, row.threads, row.concurrency, dict(row.settings))


def _file_of(row: Measurement, record: Path) -> Path | None:
    """The file that a row was measured on: where it was, or beside the record, if it is still the same."""
    if not row.file or not row.sha256:
        return None
    for place in (Path(row.file), record.parent / Path(row.file).name):
        try:
            if sha256_of(place) == row.sha256:
                return place
        except OSError:
            continue
    return None
