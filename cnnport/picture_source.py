"""What a picture file can be made of: wishes and files that are refused, with the reason."""

import numpy as np

from cnnport.artifact import Artifact, TensorSpec
from cnnport.classify import probabilities, scores_output
from cnnport.errors import ArtifactError, CnnportError
from cnnport.golden import seeded_input
from cnnport.graphs.picture import Layout, Mode
from cnnport.metadata import Picture, picture_of, preprocess_of
from cnnport.onnxfile import CHECKSUM_KEY
from cnnport.picture_cases import Case
from cnnport.picture_check import opened
from cnnport.preprocess import Preprocess

# The input, the same layout in every network: batch, channels, height, width.
_DIMENSIONS = 4

_MODES: dict[str, Mode] = {"normalize": "normalize", "full": "full"}
_LAYOUTS: dict[str, Layout] = {"nhwc": "nhwc", "nchw": "nchw"}


def check_wish(mode: str, layout: str, top: int = 1) -> tuple[Mode, Layout]:
    """Refuse what no picture file can be. Raises ``CnnportError``."""
    wanted, order = _MODES.get(mode), _LAYOUTS.get(layout)
    if wanted is None:
        raise CnnportError(f"--preprocess {mode}: it is none, normalize or full")
    if order is None:
        raise CnnportError(f"--layout {layout}: it is nhwc or nchw")
    if top < 1:
        raise CnnportError(f"the best {top} classes make no sense: it is at least 1")
    return wanted, order


def check_network(network: Artifact) -> tuple[Preprocess, str]:
    """What a file wants done to pictures, and the output with its scores.

    Raises:
        ArtifactError: If no picture file can be made of it, with the reason.
    """
    if picture_of(network) is not None:
        raise ArtifactError(
            f"{network.path} takes pictures already: --preprocess is for the network's own file"
        )
    if CHECKSUM_KEY not in network.metadata:
        raise ArtifactError(f"{network.path} was not exported by cnnport: how it takes pictures is not known")
    specs = network.inputs
    if len(specs) != 1 or len(specs[0].shape) != _DIMENSIONS or not specs[0].dtype.startswith("float"):
        inputs = ", ".join(map(str, specs)) or "none"
        raise ArtifactError(
            f"{network.path} does not take one batch of images, which --preprocess needs: its inputs are {inputs}"
        )
    if any(isinstance(size, str) for size in specs[0].shape[2:]):
        raise ArtifactError(
            f"{network.path} takes images of any size, and --preprocess needs one: export it with --image-size"
        )
    preprocess = preprocess_of(network)
    if preprocess is None:
        raise ArtifactError(
            f"{network.path} does not state how pictures are prepared for it, which --preprocess needs to know"
        )
    if specs[0].shape[1:] != (preprocess.channels, *preprocess.size):
        raise ArtifactError(f"{network.path}: its metadata is damaged at cnnport.preprocess")
    scores = scores_output(network)
    spec = next(each for each in network.outputs if each.name == scores)
    if len(spec.shape) < 2 or not isinstance(spec.shape[1], int) or not spec.dtype.startswith("float"):
        raise ArtifactError(f"{network.path} does not give one score for each class, but {spec}")
    return preprocess, scores


def gives_probabilities(network: Artifact, preprocess: Preprocess, scores: str) -> bool:
    """Whether scores are lengths, or probabilities as they are: what ``classify`` takes as they are."""
    spec = network.inputs[0]
    feeds = seeded_input([TensorSpec("noise", "uint8", (2, *preprocess.size, preprocess.channels))], 2, 0)
    pixels = Case(feeds["noise"].astype(np.uint8)).prepared(Picture("normalize", "nhwc", 1), preprocess)
    rows = []
    with opened(network) as session:
        size = 1 if spec.dynamic_batch else int(spec.shape[0])
        for each in pixels:
            feed = np.stack([each] * size).astype(spec.dtype)
            answer = np.asarray(session.run({spec.name: feed})[scores], np.float64)
            rows += list(answer.reshape(size, -1))
    return all(probabilities(row, scores) is row for row in rows)
