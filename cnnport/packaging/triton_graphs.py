"""The ONNX models that stand beside the network in a Triton model repository: what comes before it, and after it."""

from typing import TYPE_CHECKING

import numpy as np

from cnnport.artifact import Artifact, TensorSpec
from cnnport.errors import ArtifactError
from cnnport.graphs.picture import preprocess_model, scores_model
from cnnport.onnxfile import load_model, tensor_spec
from cnnport.packaging.triton_check import Interface

if TYPE_CHECKING:
    import onnx

    from cnnport.metadata import Picture
    from cnnport.preprocess import Preprocess

# The first opset whose Resize has an antialias; the network beside it may be of an older one.
_RESIZE_OPSET = 18

_FLOATS = {"float16", "float32"}


def preprocess_graph(preprocess: "Preprocess", picture: "Picture", network: Artifact) -> "onnx.ModelProto":
    """From uint8 images to what a network takes: ``image`` in, ``input`` out.

    Args:
        preprocess: What is done.
        picture: Whether images come in any size, and in which layout.
        network: Its element type and batch are kept to.

    Raises:
        ArtifactError: If the network takes no images.
    """
    spec = network.inputs[0]
    if len(network.inputs) != 1 or len(spec.shape) != 4 or spec.dtype not in _FLOATS:
        raise ArtifactError(f"{network.path} does not take one batch of images: {spec}")
    model = preprocess_model(
        preprocess,
        mode=picture.preprocess,
        layout=picture.layout,
        opset=max(network.opset, _RESIZE_OPSET) if picture.preprocess == "full" else network.opset,
        batch=_fixed(spec),
    )
    if spec.dtype != "float32":
        _cast_output(model, spec.dtype)
    return model


def scores_graph(output: TensorSpec, top: int, network: Artifact) -> "onnx.ModelProto":
    """From a network's scores to probabilities, the best of them and their classes.

    Args:
        output: Of the network: one score for each class.
        top: How many of the best; fewer if there are fewer classes.
        network: Its opset and batch are kept to.

    Raises:
        ArtifactError: If the output is not one score for each class.
    """
    from onnx import helper

    classes = output.shape[1] if len(output.shape) > 1 else None
    if not isinstance(classes, int) or output.dtype not in _FLOATS:
        raise ArtifactError(f"{network.path} does not give one score for each class: {output}")
    return scores_model(
        classes,
        top,
        network.opset,
        batch=_fixed(output),
        kind=helper.np_dtype_to_tensor_dtype(np.dtype(output.dtype)),
        trailing=len(output.shape) - 2,
        is_probability=_is_probability(network, output),
    )


def interface(model: "onnx.ModelProto") -> Interface:
    """What a model takes and gives, initializers left out."""
    held = {each.name for each in model.graph.initializer}
    return Interface(
        tuple(tensor_spec(value) for value in model.graph.input if value.name not in held),
        tuple(tensor_spec(value) for value in model.graph.output),
    )


def _fixed(spec: TensorSpec) -> int | None:
    return None if spec.dynamic_batch else int(spec.shape[0])


def _is_probability(network: Artifact, output: TensorSpec) -> bool:
    """Whether a network's output is what is to be given as probabilities, without a softmax."""
    if output.name == "lengths":
        return True
    graph = load_model(network.path).graph
    return any(output.name in node.output and node.op_type == "Softmax" for node in graph.node)


def _cast_output(model: "onnx.ModelProto", dtype: str) -> None:
    """Let the only output be of another type; its name stays."""
    from onnx import helper

    output = model.graph.output[0]
    inner = f"{output.name}_float32"
    for node in model.graph.node:
        node.output[:] = [inner if name == output.name else name for name in node.output]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    model.graph.node.append(helper.make_node("Cast", [inner], [output.name], "cast_output", to=kind))
    output.type.tensor_type.elem_type = kind
