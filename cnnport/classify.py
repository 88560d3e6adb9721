"""Pictures in, classes out: decode, preprocess as the file says, run, softmax, sort."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnnport.artifact import Artifact
from cnnport.errors import ArtifactError, ImageError
from cnnport.images import preprocess_image
from cnnport.metadata import Picture, at_native_size, labels_of, picture_of, preprocess_of
from cnnport.picture_input import pixels_of
from cnnport.preprocess import Preprocess, imagenet
from cnnport.runtimes import Options, Session, require_runtime
from cnnport.runtimes.engine_file import misfit

# How far float16 probabilities of a thousand classes may miss 1.
_ROUNDED_SUM = 5e-3

# Enough to keep a runtime busy, little enough for any memory.
_BATCH = 8


@dataclass(frozen=True)
class Guess:
    """One class: its index, its name where the file states one, and its probability from 0 to 1."""

    index: int
    label: str | None
    probability: float


@dataclass(frozen=True)
class Classified:
    """What a network says of one picture, best first; or why the picture could not be read."""

    image: Path
    top: tuple[Guess, ...]
    error: str | None = None


def states_preprocess(artifact: Artifact) -> bool:
    """Whether a file says how pictures are to be prepared for it."""
    return preprocess_of(artifact) is not None


def classify(
    artifact: Artifact,
    images: Sequence[Path],
    *,
    runtime: str = "ort-cpu",
    options: Options | None = None,
    top: int = 5,
) -> Iterator[Classified]:
    """Classify pictures, in order; one that cannot be read does not stop the others.

    A file that does not state its preprocessing is taken to want ImageNet's, at its own input size.

    Args:
        artifact: With one image input and one output of logits.
        images: Picture files.
        runtime: Name of a runtime.
        options: How its session is opened.
        top: How many classes to give for each.

    Raises:
        ArtifactError: If the file is not an image classifier.
        RuntimeMissingError: If the runtime is not available here.
    """
    if reason := misfit(artifact, runtime):
        raise ArtifactError(reason)
    preprocess, picture = preprocess_of(artifact) or assumed_preprocess(artifact), picture_of(artifact)
    labels = labels_of(artifact)
    spec = artifact.inputs[0]
    size = _BATCH if spec.dynamic_batch else int(spec.shape[0])
    # Pictures of one batch have one size.
    step = 1 if picture is not None and picture.preprocess == "full" else size
    with require_runtime(runtime).open(artifact, options or Options()) as session:
        scores = scores_output(artifact)
        for start in range(0, len(images), step):
            paths = images[start : start + step]
            yield from _batch(session, paths, size, scores, preprocess, picture, labels, top)


def _batch(
    session: Session,
    paths: Sequence[Path],
    size: int,
    scores: str,
    preprocess: Preprocess,
    picture: Picture | None,
    labels: tuple[str, ...] | None,
    top: int,
) -> Iterator[Classified]:
    spec = session.inputs[0]
    arrays: list[NDArray[np.generic]] = []
    errors: list[str | None] = []
    for path in paths:
        try:
            arrays.append(
                preprocess_image(path, preprocess)
                if picture is None
                else pixels_of(path, preprocess, picture)
            )
            errors.append(None)
        except ImageError as error:
            errors.append(str(error))
    rows: Iterator[NDArray[np.float64]] = iter(())
    if arrays:
        # A file of a fixed batch is fed full batches; the surplus answers are dropped.
        padding = 0 if spec.dynamic_batch else size - len(arrays)
        feed = np.stack([*arrays, *[arrays[-1]] * padding]).astype(spec.dtype)
        answers = np.asarray(session.run({spec.name: feed})[scores], dtype=np.float64)
        rows = (probabilities(row, scores) for row in answers.reshape(len(feed), -1))
    for path, problem in zip(paths, errors, strict=True):
        yield Classified(path, (), problem) if problem else Classified(path, _best(next(rows), labels, top))


def probabilities(scores: NDArray[np.float64], output: str) -> NDArray[np.float64]:
    """The softmax of logits; a capsule network's lengths, and what a file's own Softmax made, as they are."""
    is_softmax = scores.min() >= 0 and len(scores) > 1 and abs(scores.sum() - 1) < _ROUNDED_SUM
    if output == "lengths" or is_softmax:
        return scores
    shifted = np.exp(scores - scores.max())
    softmax: NDArray[np.float64] = shifted / shifted.sum()
    return softmax


def _best(probabilities: NDArray[np.float64], labels: tuple[str, ...] | None, top: int) -> tuple[Guess, ...]:
    order = np.argsort(-probabilities, kind="stable")[:top]
    return tuple(
        Guess(int(index), labels[index] if labels else None, float(probabilities[index])) for index in order
    )


def scores_output(artifact: Artifact) -> str:
    """The output with a score for each class: ``logits`` beside others, otherwise the first.

    Raises:
        ArtifactError: If it gives a map of scores.
    """
    chosen = next((spec for spec in artifact.outputs if spec.name == "logits"), artifact.outputs[0])
    if any(size != 1 for size in chosen.shape[2:]):
        raise ArtifactError(
            f"{artifact.path} gives a map of scores, not one score for each class: {chosen}\n"
            "a network that has a fully convolutional form gives both: cnnport export NETWORK --dense"
        )
    return chosen.name


def assumed_preprocess(artifact: Artifact) -> Preprocess:
    """ImageNet's at the file's own size, for a file that does not say what it wants.

    Raises:
        ArtifactError: If it takes anything but one batch of RGB images.
    """
    specs = at_native_size(artifact).inputs
    if (
        len(specs) != 1
        or len(specs[0].shape) != 4
        or specs[0].shape[1] != 3
        or not specs[0].dtype.startswith("float")
    ):
        inputs = ", ".join(map(str, specs)) or "none"
        raise ArtifactError(f"{artifact.path} does not take a batch of RGB images: its inputs are {inputs}")
    height, width = (size if isinstance(size, int) else 224 for size in specs[0].shape[2:])
    return imagenet().resized((height, width))
