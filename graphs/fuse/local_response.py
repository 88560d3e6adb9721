"""Local response normalisation that is written out, read back.

    y = x / (bias + alpha a)^beta,    a[c] = (1 / size) sum of x[i]^2 over size channels i around c, 0 outside,

is what LRN computes (its page on onnx.ai; Krizhevsky et al., 2012, section 3.3, with alpha n for alpha). The average
over channels is written as an AveragePool with the channels on a spatial axis, where Unsqueeze or Reshape puts them,
and which counts its padding or finds it in a Pad.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from cnnport.graphs.fuse.forms import Nodes, Region, affine, scalar
from cnnport.graphs.values import constant, rank, static

_RESHAPING = ("Reshape", "Squeeze", "Unsqueeze")


@dataclass(frozen=True)
class LocalResponse:
    """A node that is the end of a local response normalisation, and the parameters of LRN."""

    x: ir.Value
    nodes: Nodes
    size: int
    alpha: float
    beta: float
    bias: float


@dataclass(frozen=True)
class _Window:
    """An average along one axis of ``value``, with ``begin`` and ``end`` zeros around it."""

    value: ir.Value
    axis: int
    size: int
    begin: int
    end: int


def local_response(node: ir.Node, region: Region) -> LocalResponse | None:
    """Read a Div or Mul of x by a power as the end of a local response normalisation."""
    if node.op_type not in {"Div", "Mul"} or rank(node.outputs[0]) != 4:
        return None
    for x, below in (node.inputs, *([node.inputs[::-1]] if node.op_type == "Mul" else [])):
        power = region.maker(below, "Pow", "Sqrt")
        base = power.inputs[0] if power is not None else None
        if x is None or power is None or base is None:
            continue
        exponent = 0.5 if power.op_type == "Sqrt" else scalar(power.inputs[1], base)
        for line in affine(base, region) if exponent else ():
            read = _average_of_squares(line.core, x, region)
            if read is not None and exponent is not None:
                beta = exponent if node.op_type == "Div" else -exponent
                nodes = read[1] | line.nodes | {node, power}
                return LocalResponse(x, nodes, read[0], line.scale, beta, line.shift)
    return None


def _average_of_squares(value: ir.Value, x: ir.Value, region: Region) -> tuple[int, Nodes] | None:
    """The size of the window, and the nodes."""
    pooled, after = _through_reshapes(value, region)
    pool = region.maker(pooled, "AveragePool")
    window = None if pool is None else _window(pool)
    if pool is None or window is None:
        return None
    nodes = frozenset({pool}) | after
    pad = region.maker(window.value, "Pad")
    if pad is not None:
        before = _zeros_before_and_after(pad, window.axis, region.opset)
        inner = pad.inputs[0]
        if before is None or inner is None:
            return None
        window = _Window(inner, window.axis, window.size, window.begin + before[0], window.end + before[1])
        nodes |= {pad}
    # With an even size, LRN looks further to one side, other definitions to the other, and runtimes refuse.
    if window.size % 2 == 0 or not window.begin == window.end == window.size // 2:
        return None
    square, between = _through_reshapes(window.value, region)
    is_inserted = _is_at_one(between, "Unsqueeze", region) and _is_at_one(after, "Squeeze", region)
    if not (is_inserted and window.axis == 2) and not (_same_shape(value, x) and _is_channel_axis(window, x)):
        return None
    product = region.maker(square, "Mul", "Pow")
    if product is None or product.inputs[0] is not x:
        return None
    if product.op_type == "Mul" and product.inputs[1] is not x:
        return None
    if product.op_type == "Pow" and scalar(product.inputs[1], x) != 2:
        return None
    return window.size, nodes | between | {product}


def _through_reshapes(value: ir.Value, region: Region) -> tuple[ir.Value, Nodes]:
    """Up through what keeps the order of the elements."""
    nodes: Nodes = frozenset()
    while (node := region.maker(value, *_RESHAPING)) is not None and node.inputs[0] is not None:
        value, nodes = node.inputs[0], nodes | {node}
    return value, nodes


def _is_at_one(nodes: Nodes, op_type: str, region: Region) -> bool:
    """Whether the nodes are one that inserts or removes axis 1 of five, which says all without any shapes."""
    if len(nodes) != 1:
        return False
    (node,) = nodes
    if node.op_type != op_type:
        return False
    if region.opset < 13:
        return list(node.attributes.get_ints("axes", ())) == [1]
    tensor = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    return tensor is not None and tensor.numpy().ravel().tolist() == [1]


def _window(pool: ir.Node) -> _Window | None:
    value = pool.inputs[0]
    kernel = pool.attributes.get_ints("kernel_shape", ())
    pads = list(pool.attributes.get_ints("pads", ())) or [0] * (2 * len(kernel))
    steps = (*pool.attributes.get_ints("strides", ()), *pool.attributes.get_ints("dilations", ()))
    wide = [axis for axis, size in enumerate(kernel) if size != 1]
    counts_padding = pool.attributes.get_int("count_include_pad", 0)
    if (
        value is None
        or len(wide) != 1
        or any(step != 1 for step in steps)
        or pool.attributes.get_int("ceil_mode", 0) != 0
        or pool.attributes.get_string("auto_pad", "NOTSET") != "NOTSET"
        or (any(pads) and not counts_padding)
    ):
        return None
    axis = wide[0]
    begin, end = pads[axis], pads[axis + len(kernel)]
    return _Window(value, 2 + axis, kernel[axis], begin, end) if sum(pads) == begin + end else None


def _zeros_before_and_after(pad: ir.Node, axis: int, opset: int) -> tuple[int, int] | None:
    """How many zeros a Pad adds along one axis, if it adds nothing else."""
    dims = rank(pad.outputs[0])
    if dims is None or pad.attributes.get_string("mode", "constant") != "constant":
        return None
    if opset < 11:
        amounts, fill = list(pad.attributes.get_ints("pads", ())), pad.attributes.get_float("value", 0.0)
    else:
        given = [constant(value) if value is not None else None for value in pad.inputs[1:]]
        computed = any(
            value is not None and tensor is None for value, tensor in zip(pad.inputs[1:], given, strict=True)
        )
        if computed or len(given) > 2 or not given or given[0] is None:
            return None
        amounts = [int(amount) for amount in given[0].numpy()]
        fill = float(given[1].numpy().reshape(())) if len(given) > 1 and given[1] is not None else 0.0
    if len(amounts) != 2 * dims or min(amounts) < 0 or fill != 0:
        return None
    begin, end = amounts[axis], amounts[axis + dims]
    return (begin, end) if sum(amounts) == begin + end else None


def _is_channel_axis(window: _Window, x: ir.Value) -> bool:
    """Whether that axis of a reshaped x is the axis of its channels: as many elements lie behind it."""
    channels = static(x, 1)
    if channels is None or channels != static(window.value, window.axis):
        return False
    assert x.shape is not None
    assert window.value.shape is not None
    own, other = list(x.shape)[2:], list(window.value.shape)[window.axis + 1 :]
    sizes = [[size for size in dims if isinstance(size, int)] for dims in (own, other)]
    if len(sizes[0]) == len(own) and len(sizes[1]) == len(other):
        return math.prod(sizes[0]) == math.prod(sizes[1]) > 0
    return _same_dims([size for size in own if size != 1], [size for size in other if size != 1])


def _same_shape(value: ir.Value, x: ir.Value) -> bool:
    """Whether a value of as many elements as x has its shape: one dimension may be unknown."""
    if value.shape is None or x.shape is None or value.shape.rank() != x.shape.rank():
        return False
    own, other = list(value.shape), list(x.shape)
    unlike = [
        axis for axis in range(len(own)) if not _same_dims(own[axis : axis + 1], other[axis : axis + 1])
    ]
    if not unlike:
        return True
    known = [size for axis, size in enumerate(own) if axis not in unlike]
    return len(unlike) == 1 and all(isinstance(size, int) and size > 0 for size in known)


def _same_dims(one: Sequence[int | ir.SymbolicDim], other: Sequence[int | ir.SymbolicDim]) -> bool:
    names = [[size if isinstance(size, int) else size.value for size in dims] for dims in (one, other)]
    return names[0] == names[1] and None not in names[0]
