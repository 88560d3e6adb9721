"""What the user says of a file that does not: how pictures are prepared, and what the classes are called."""

from collections.abc import Sequence
from pathlib import Path

from cnnport.artifact import Artifact
from cnnport.classify import scores_output
from cnnport.errors import ArtifactError
from cnnport.metadata import labels_of, preprocess_of, to_json
from cnnport.onnxfile import (
    CHECKSUM_KEY,
    INITIALIZERS_KEY,
    load_model,
    read_artifact,
    write_model,
)
from cnnport.optimize_file import check_own
from cnnport.preprocess import Preprocess


def with_statement(
    given: Artifact, path: Path, pictures: Preprocess | None, labels: Sequence[str] | None
) -> Artifact:
    """A copy of a file that states what it did not; the file itself if there is nothing to state.

    Args:
        given: Of a classifier.
        path: Where the copy is to be; the folder is made.
        pictures: How pictures are prepared for it.
        labels: The classes' names by index.

    Raises:
        ArtifactError: If the file states it already, or has another number of classes.
        CheckFailedError: If cnnport made the file and it was changed since.
    """
    if pictures is None and labels is None:
        return given
    if pictures is not None and preprocess_of(given) is not None:
        raise ArtifactError(
            f"{given.path} states how pictures are prepared for it: leave out what says otherwise"
        )
    if labels is not None:
        _check_labels(given, labels)
    stated = {
        **({} if pictures is None else {"cnnport.preprocess": to_json(pictures.to_json())}),
        **({} if labels is None else {"cnnport.labels": to_json(list(labels))}),
    }
    # The copy lies elsewhere; what comes of it is called as the file was.
    kept = {"cnnport.model": given.model, **given.metadata}
    metadata = {key: value for key, value in kept.items() if key not in {CHECKSUM_KEY, INITIALIZERS_KEY}}
    model = load_model(given.path)
    check_own(given, model, is_split=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_model(model, path, metadata | stated)
    return read_artifact(path)


def _check_labels(given: Artifact, labels: Sequence[str]) -> None:
    if labels_of(given) is not None:
        raise ArtifactError(f"{given.path} has labels of its own: leave out others")
    scores = scores_output(given)
    shape = next(spec.shape for spec in given.outputs if spec.name == scores)
    if len(shape) < 2 or shape[1] != len(labels):
        raise ArtifactError(f"{len(labels)} labels do not fit {given.path}: it gives {scores} of {shape[1:]}")
