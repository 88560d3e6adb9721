"""The graph from uint8 pictures to a network's input: what ``cnnport.images`` does with a decoded picture."""

from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import onnx
from onnx import TensorProto

from cnnport.errors import CnnportError
from cnnport.graphs.picture.geometry import OLDEST_OPSET, crop, pictures, planes, resize
from cnnport.graphs.picture.nodes import Nodes, value
from cnnport.preprocess import Preprocess

if TYPE_CHECKING:
    from cnnport.artifact import Dim

IMAGE = "image"
"""The input of such a graph."""

INPUT = "input"
"""The output of ``preprocess_model``: what the network takes."""

Mode: TypeAlias = Literal["normalize", "full"]
Layout: TypeAlias = Literal["nhwc", "nchw"]


def check_opset(mode: Mode, opset: int) -> None:
    """Refuse what an opset cannot say.

    Raises:
        CnnportError: With the oldest that can.
    """
    if mode == "full" and opset < OLDEST_OPSET:
        raise CnnportError(
            f"--preprocess full needs opset {OLDEST_OPSET} or above, where Resize has an antialias; this is {opset}: "
            "normalize works with any"
        )


def preprocess_model(
    preprocess: Preprocess, *, mode: Mode, layout: Layout, opset: int, batch: int | None = None
) -> onnx.ModelProto:
    """The graph of a preprocessing, in operators of the standard alone.

    Args:
        preprocess: What it does.
        mode: ``normalize`` takes pictures of ``preprocess.size``, scales them to 0..1 and normalises; ``full`` takes
            pictures of any size, and resizes and crops them before that.
        layout: Of the pictures: ``nhwc`` or ``nchw``.
        opset: Version of the default operator set.
        batch: A fixed batch size; None leaves it dynamic.

    Returns:
        Input ``image``: uint8, RGB or grey. Output ``input``: float32, batch x channels x height x width.

    Raises:
        CnnportError: If the opset cannot say it.
    """
    check_opset(mode, opset)
    nodes = Nodes()
    sides: tuple[Dim, Dim] = ("height", "width") if mode == "full" else preprocess.size
    first: Dim = "batch" if batch is None else batch
    channels = preprocess.channels
    picture = IMAGE
    if mode == "full":
        picture, original = planes(nodes, picture, layout)
        picture, scaled = resize(nodes, picture, original, preprocess)
        if preprocess.resize is not None:
            picture = crop(nodes, picture, scaled, preprocess)
        picture = pictures(nodes, picture, preprocess, batch)
    # TensorRT takes bytes into nothing but a Cast.
    picture = nodes.add("Cast", [picture], "levels", to=TensorProto.FLOAT)
    if mode == "normalize" and layout == "nhwc":
        picture = nodes.add("Transpose", [picture], "channels_first", perm=[0, 3, 1, 2])
    _normalise(nodes, picture, preprocess)
    shape = (first, *sides, channels) if layout == "nhwc" else (first, channels, *sides)
    return nodes.model(
        [value(IMAGE, TensorProto.UINT8, shape)],
        [value(INPUT, TensorProto.FLOAT, (first, channels, *preprocess.size))],
        opset,
        f"preprocess_{mode}",
    )


def _normalise(nodes: Nodes, levels: str, preprocess: Preprocess) -> None:
    """(x / 255 - mean) / std, in the order and with the roundings of ``cnnport.images``: the same to the bit."""
    mean, std = (
        nodes.constant(np.array(each, np.float32).reshape(1, -1, 1, 1), name)
        for each, name in ((preprocess.mean, "mean"), (preprocess.std, "std"))
    )
    share = nodes.add("Div", [levels, nodes.constant(np.array(255, np.float32), "white")], "share_of_white")
    nodes.add_several("Div", [nodes.add("Sub", [share, mean], "centred"), std], [INPUT])
