"""Local response normalisation as a 1 x 1 convolution and square roots.

LRN divides by a power of a sum over neighbouring channels, r = (size - 1) / 2 of them on either side:

    y[c] = x[c] / d[c]^beta,    d[c] = bias + sum over |i - c| <= r of (alpha / size) x[i]^2.

That sum is a 1 x 1 convolution of x^2 with ``bias`` for a bias, whose weights are a band of alpha / size along the
diagonal; and the powers that networks use are square roots: d^(1/2) = sqrt(d), d^(3/4) = sqrt(d) sqrt(sqrt(d)).

ONNX Runtime's CPU kernel for LRN leaves the blocks of channels, works in one thread and calls pow for every element.
The convolution has more products, as many as channels for each element, and takes less than a tenth of the time for
the 64 to 256 channels of AlexNet, ZFNet and GoogLeNet.

It fires for LRN of a float32 value of four dimensions with 16 to 512 channels, ``beta`` of 1/2, 3/4 or 1, a positive
``bias`` and no negative ``alpha``.

It must not fire for an even ``size`` (runtimes do not agree on the side that gets the channel more), for other powers
(pow is what the kernel does), where d might not be positive, for fewer channels (they fill no block) or more (the
products grow with their square), for other types, in files before IR version 4 (a weight would be an input), or
within subgraphs.
"""

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from cnnport.graphs.journal import refused
from cnnport.graphs.splice import initializer
from cnnport.graphs.values import fresh_names, opset_of, rank, static

_FEWEST_CHANNELS, _MOST_CHANNELS = 16, 512
_POWERS = (0.5, 0.75, 1.0)


def local_response_by_convolution(model: ir.Model) -> int:
    """Write local response normalisations as 1 x 1 convolutions and square roots.

    Args:
        model: Changed in place; only the main graph.

    Returns:
        The number of LRN nodes that were written out.
    """
    if opset_of(model) < 7 or model.ir_version < 4:
        return 0
    found = [node for node in model.graph if not node.domain and node.op_type == "LRN"]
    if not found:
        return 0
    fresh = fresh_names(model)
    done = 0
    for node in found:
        reason = _obstacle(node)
        if reason is None:
            _write_out(node, model.graph, fresh)
            done += 1
        else:
            refused(node, reason)
    return done


def _parameters(node: ir.Node) -> tuple[int, float, float, float]:
    """Size, alpha, beta and bias."""
    attributes = node.attributes
    return (
        attributes.get_int("size", 0),
        attributes.get_float("alpha", 1e-4),
        attributes.get_float("beta", 0.75),
        attributes.get_float("bias", 1.0),
    )


def _obstacle(node: ir.Node) -> str | None:
    x = node.inputs[0]
    channels = static(x, 1)
    size, alpha, beta, bias = _parameters(node)
    if x is None or x.dtype != ir.DataType.FLOAT or rank(x) != 4 or channels is None:
        return "it is not known to be of float32, of four dimensions and of so many channels"
    if not _FEWEST_CHANNELS <= channels <= _MOST_CHANNELS:
        return f"a convolution does not pay for {channels} channels"
    if size % 2 == 0:
        return f"runtimes do not agree on which {size} channels are meant"
    if beta not in _POWERS:
        return f"a power of {beta:g} is no square root"
    if bias <= 0 or alpha < 0:
        return "what is below the root might not be positive"
    return None


def _write_out(node: ir.Node, graph: ir.Graph, fresh: Callable[[str], str]) -> None:
    """Put the convolution and the roots before the node, which becomes the quotient and keeps its output."""
    x = node.inputs[0]
    channels = static(x, 1)
    assert x is not None
    assert channels is not None
    size, alpha, beta, bias = _parameters(node)
    base = node.name or node.outputs[0].name or "lrn"

    def weight(array: np.ndarray, part: str) -> ir.Value:
        return initializer(array.astype(np.float32), fresh(f"{base}_{part}"), graph)

    def made(op_type: str, inputs: Sequence[ir.Value], part: str) -> ir.Value:
        name = fresh(f"{base}_{part}")
        step = ir.node(op_type, inputs, name=name)
        step.outputs[0].name = name
        graph.insert_before(node, step)
        return step.outputs[0]

    distance = np.abs(np.subtract.outer(np.arange(channels), np.arange(channels)))
    band = np.where(distance <= size // 2, alpha / size, 0.0)[:, :, None, None]
    square = made("Mul", (x, x), "square")
    divisor = made(
        "Conv", (square, weight(band, "band"), weight(np.full(channels, bias), "bias")), "neighbours"
    )
    if beta != 1:
        divisor = root = made("Sqrt", (divisor,), "root")
        if beta == 0.75:
            divisor = made("Mul", (root, made("Sqrt", (root,), "fourth_root")), "power")
    node.op_type = "Div"
    node.attributes.clear()
    node.resize_inputs(2)
    node.replace_input_with(1, divisor)
