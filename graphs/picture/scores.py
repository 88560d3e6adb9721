"""The graph from a network's scores to probabilities and the best few."""

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto

from cnnport.graphs.picture.nodes import Nodes, value

if TYPE_CHECKING:
    from cnnport.artifact import Dim

LOGITS = "logits"
"""The input of such a graph."""

PROBABILITIES = "probabilities"
TOP_PROBABILITIES = "top_probabilities"
TOP_INDICES = "top_indices"


def scores_model(
    classes: int,
    top: int,
    opset: int,
    *,
    batch: int | None = None,
    kind: int = TensorProto.FLOAT,
    trailing: int = 0,
    is_probability: bool = False,
) -> onnx.ModelProto:
    """The graph of softmax and the best few classes.

    Args:
        classes: How many there are.
        top: How many of the best are given, at most ``classes``.
        opset: Version of the default operator set.
        batch: A fixed batch size; None leaves it dynamic.
        kind: Element type of the scores, as ``onnx.TensorProto`` numbers it.
        trailing: So many dimensions of size 1 follow the classes.
        is_probability: Whether the scores are what is to be given as probabilities, without a softmax.

    Returns:
        Input ``logits``: batch x classes. Outputs: ``probabilities``, float32, batch x classes;
        ``top_probabilities``, float32, and ``top_indices``, int64, batch x min(top, classes), best first, and the
        lower index first among equals.
    """
    nodes = Nodes()
    first: Dim = "batch" if batch is None else batch
    count = min(top, classes)
    scores = LOGITS
    if trailing:
        scores = nodes.add("Flatten", [scores], "scores", axis=1)
    if kind != TensorProto.FLOAT:
        scores = nodes.add("Cast", [scores], "scores_float32", to=TensorProto.FLOAT)
    if is_probability:
        nodes.add_several("Identity", [scores], [PROBABILITIES])
    else:
        nodes.add_several("Softmax", [scores], [PROBABILITIES], axis=-1)
    size = nodes.constant(np.array([count], np.int64), "top")
    nodes.add_several(
        "TopK", [PROBABILITIES, size], [TOP_PROBABILITIES, TOP_INDICES], axis=-1, largest=1, sorted=1
    )
    return nodes.model(
        [value(LOGITS, kind, (first, classes, *[1] * trailing))],
        [
            value(PROBABILITIES, TensorProto.FLOAT, (first, classes)),
            value(TOP_PROBABILITIES, TensorProto.FLOAT, (first, count)),
            value(TOP_INDICES, TensorProto.INT64, (first, count)),
        ],
        opset,
        "scores",
    )
