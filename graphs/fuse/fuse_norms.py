"""Normalisations that are written out as several operators, as the one operator of the standard that they are.

    LRN                    x / (bias + alpha a)^beta, a the average of x^2 over neighbouring channels
    LayerNormalization     (x - m) / sqrt(v + epsilon) gamma + beta, m and v the mean and variance over the last axes
    InstanceNormalization  the same over height and width, with one gamma and beta a channel

The definitions are those of the operators' pages on onnx.ai. Exporters write LRN as seven operators, and the others
as nine where the file's opset or the network does not have them. ``local_response`` reads the first.

It fires for

1.  LRN: over an odd number of channels of a value of four dimensions; the average as an AveragePool that counts its
    padding, or behind a Pad; the channels moved to a spatial axis by Unsqueeze or Reshape; the square as Mul or Pow;
2.  LayerNormalization (from opset 17): means by ReduceMean over the last axes, the square as Mul or Pow, the root as
    Sqrt or Pow, the quotient as Div, Reciprocal or a negative power; x - m computed once or twice;
3.  InstanceNormalization: the same over all axes but the first two, also by GlobalAveragePool;
4.  gamma and beta as constants of any shape that broadcasts to the operator's own; without them where the sizes are
    known: they become ones and are left out.

It must not fire

20. for float64: runtimes have no kernels, and LayerNormalization would compute in float32;
21. if what lies between is used elsewhere, is a graph output or is captured by a subgraph;
22. for LRN over an even number of channels, where definitions differ, or with an average that divides by fewer
    numbers at the edge, or over another axis than the channels';
23. for an epsilon outside the root, for sums in place of means, for means that are not kept as axes;
24. for axes that are neither the last ones nor all but the first two (channels first needs Transposes);
25. for parameters that are computed or may be overridden by a caller, and for constants that widen x;
26. for x / |x|: LpNormalization makes 0 of 0 / 0;
27. within subgraphs and functions.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from cnnport.graphs.affine import round_to
from cnnport.graphs.fuse.forms import Nodes, Numbers, Region, affine, factors, scalar
from cnnport.graphs.fuse.local_response import local_response
from cnnport.graphs.journal import refused
from cnnport.graphs.splice import initializer
from cnnport.graphs.values import constant, drop_unused, fresh_names, rank, static

_TYPES = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16})
_LAYER_NORMALIZATION_SINCE = 17
_NONE: Nodes = frozenset()


@dataclass(frozen=True)
class _Normalized:
    """A value with mean 0 and variance 1 over some axes, counted from 0."""

    x: ir.Value
    nodes: Nodes
    axes: tuple[int, ...]
    epsilon: float


@dataclass(frozen=True)
class _Fusion:
    """One operator in place of ``nodes``, of which ``end`` is the last."""

    op_type: str
    x: ir.Value
    nodes: Nodes
    end: ir.Node
    attributes: Mapping[str, int | float]
    constants: tuple[Numbers, ...] = field(default=())


def fuse_norms(model: ir.Model) -> int:
    """Write normalisations that are spelled out as one operator each.

    Args:
        model: Changed in place; only the main graph.

    Returns:
        The number of normalisations that were put together.
    """
    region, fresh, done = Region(model), fresh_names(model), 0
    if region.opset < 7 or model.ir_version < 4:
        return 0
    for node in list(model.graph):
        if (
            node.graph is not model.graph
            or region.maker(node.outputs[0] if node.outputs else None) is not node
        ):
            continue
        fusion = _local_response(node, region) or _by_moments(node, region)
        if fusion is None:
            continue
        reason = _obstacle(fusion, region)
        if reason is None:
            _apply(fusion, region, fresh)
            done += 1
        else:
            refused(node, f"it ends a written-out {fusion.op_type}, but {reason}")
    return done


def _obstacle(fusion: _Fusion, region: Region) -> str | None:
    dtype = fusion.x.dtype or fusion.end.outputs[0].dtype
    if dtype not in _TYPES:
        return f"runtimes do not have that operator for {dtype}"
    if fusion.op_type == "LayerNormalization" and region.opset < _LAYER_NORMALIZATION_SINCE:
        return f"that needs opset {_LAYER_NORMALIZATION_SINCE}, and the file has opset {region.opset}"
    shared = region.shared(fusion.nodes, fusion.end)
    if shared is not None:
        return f"{shared.name} within it is used elsewhere too"
    return None


def _local_response(node: ir.Node, region: Region) -> _Fusion | None:
    read = local_response(node, region)
    if read is None:
        return None
    attributes = {"size": read.size, "alpha": read.alpha, "beta": read.beta, "bias": read.bias}
    return _Fusion("LRN", read.x, read.nodes, node, attributes)


def _by_moments(node: ir.Node, region: Region) -> _Fusion | None:
    """Layer or instance normalisation, with as much of gamma and beta behind it as fits."""
    read = _normalized(node, region)
    dims = rank(read.x) if read else None
    if read is None or dims is None:
        return None
    kinds = []
    if read.axes == tuple(range(dims - len(read.axes), dims)):
        kinds.append(_layer_norm)
    if dims > 2 and read.axes == tuple(range(2, dims)):
        # A single axis, without a gamma that tells, is the features of a sequence rather than a row of pixels.
        kinds.insert(len(kinds) if len(read.axes) == 1 else 0, _instance_norm)
    found = [fusion for kind in kinds if (fusion := kind(read, node, region)) is not None]
    return max(found, key=lambda fusion: len(fusion.nodes), default=None)


def _normalized(node: ir.Node, region: Region) -> _Normalized | None:
    for centred, root, more in _quotients(node, region):
        for line in affine(root, region):
            variance = _mean(line.core, region)
            if variance is None or line.scale != 1 or line.shift <= 0:
                continue
            square = region.maker(variance.value, "Mul", "Pow")
            other = square.inputs[0] if square else None
            if square is None or not _is_square(square, other):
                continue
            first, second = _centred(centred, region), _centred(other, region)
            if first is None or second is None or first.value is not second.value:
                continue
            if first.axes == second.axes == variance.axes:
                nodes = more | line.nodes | variance.nodes | {square} | first.nodes | second.nodes
                return _Normalized(first.value, nodes, first.axes, line.shift)
    return None


def _quotients(node: ir.Node, region: Region) -> Iterator[tuple[ir.Value | None, ir.Value | None, Nodes]]:
    """A node as a / sqrt(b): a, b and the nodes."""
    if node.op_type not in {"Div", "Mul"}:
        return
    one, two = node.inputs
    for above, below in ((one, two), *([(two, one)] if node.op_type == "Mul" else [])):
        divisor, nodes = (below, _NONE) if node.op_type == "Div" else _inverse(below, region)
        root = region.maker(below if divisor is None else divisor, "Sqrt", "Pow")
        radicand = root.inputs[0] if root else None
        if root is None or radicand is None:
            continue
        exponent = 0.5 if root.op_type == "Sqrt" else scalar(root.inputs[1], radicand)
        if exponent == (-0.5 if divisor is None else 0.5):
            yield above, radicand, nodes | {node, root}


def _inverse(value: ir.Value | None, region: Region) -> tuple[ir.Value | None, Nodes]:
    """The divisor of 1 / divisor, if it is one."""
    node = region.maker(value, "Reciprocal", "Div")
    divisor = node.inputs[-1] if node else None
    if node is None or divisor is None or (node.op_type == "Div" and scalar(node.inputs[0], divisor) != 1):
        return None, _NONE
    return divisor, frozenset({node})


@dataclass(frozen=True)
class _Moment:
    value: ir.Value
    axes: tuple[int, ...]
    nodes: Nodes


def _mean(value: ir.Value | None, region: Region) -> _Moment | None:
    """A mean over axes that are kept."""
    node = region.maker(value, "ReduceMean", "GlobalAveragePool")
    source = node.inputs[0] if node else None
    dims = rank(source)
    if node is None or source is None or dims is None:
        return None
    if node.op_type == "GlobalAveragePool":
        return _Moment(source, tuple(range(2, dims)), frozenset({node}))
    if region.opset >= 18:
        tensor = constant(node.inputs[1]) if len(node.inputs) > 1 else None
        axes = [] if tensor is None else [int(axis) for axis in tensor.numpy().ravel()]
    else:
        axes = list(node.attributes.get_ints("axes", ()))
    if not axes or not node.attributes.get_int("keepdims", 1):
        return None
    return _Moment(source, tuple(sorted({axis % dims for axis in axes})), frozenset({node}))


def _centred(value: ir.Value | None, region: Region) -> _Moment | None:
    """A value less its mean: the value and the axes."""
    node = region.maker(value, "Sub")
    mean = _mean(node.inputs[1], region) if node else None
    if node is None or mean is None or mean.value is not node.inputs[0]:
        return None
    return _Moment(mean.value, mean.axes, mean.nodes | {node})


def _is_square(node: ir.Node, operand: ir.Value | None) -> bool:
    if operand is None:
        return False
    if node.op_type == "Mul":
        return node.inputs[1] is operand
    return scalar(node.inputs[1], operand) == 2


def _layer_norm(read: _Normalized, node: ir.Node, region: Region) -> _Fusion | None:
    sizes = [static(read.x, axis) for axis in read.axes]
    shape = tuple(size for size in sizes if size is not None)
    if len(shape) != len(sizes):
        return None

    def fits(array: Numbers) -> Numbers | None:
        outer = max(array.ndim - len(shape), 0)
        is_inner = all(size == 1 for size in array.shape[:outer])
        return np.broadcast_to(array.reshape(array.shape[outer:]), shape) if is_inner else None

    attributes = {"axis": -len(shape), "epsilon": read.epsilon}
    return _with_parameters("LayerNormalization", read, node, attributes, fits, shape, region)


def _instance_norm(read: _Normalized, node: ir.Node, region: Region) -> _Fusion | None:
    channels, dims = static(read.x, 1), rank(read.x)
    if channels is None or dims is None:
        return None

    def fits(array: Numbers) -> Numbers | None:
        padded = array.reshape((1,) * (dims - array.ndim) + array.shape)
        return np.broadcast_to(padded.reshape(-1), (channels,)) if padded.size == padded.shape[1] else None

    attributes = {"epsilon": read.epsilon}
    return _with_parameters("InstanceNormalization", read, node, attributes, fits, (channels,), region)


def _with_parameters(
    op_type: str,
    read: _Normalized,
    node: ir.Node,
    attributes: Mapping[str, int | float],
    fits: Callable[[Numbers], Numbers | None],
    shape: tuple[int, ...],
    region: Region,
) -> _Fusion:
    """The operator with the gamma and beta that are multiplied and added behind ``node``."""
    end, nodes = node, read.nodes
    gamma, beta = np.ones(shape), None
    factor = _reader(end, "Mul", read.x, region)
    if factor is not None and (array := fits(factor[1])) is not None:
        end, gamma = factor[0], array
        nodes |= {end}
    summand = _reader(end, "Add", read.x, region)
    if summand is not None and (array := fits(summand[1])) is not None:
        end, beta = summand[0], array
        nodes |= {end}
    if beta is None and op_type == "InstanceNormalization":
        beta = np.zeros(shape)
    return _Fusion(op_type, read.x, nodes, end, attributes, (gamma,) if beta is None else (gamma, beta))


def _reader(node: ir.Node, op_type: str, x: ir.Value, region: Region) -> tuple[ir.Node, Numbers] | None:
    """The only reader of a node's output, if it combines it with a constant that does not widen x."""
    value = node.outputs[0]
    uses = list(value.uses())
    if (
        len(uses) != 1
        or value.is_graph_output()
        or region.maker(uses[0].node.outputs[0], op_type) is not uses[0].node
    ):
        return None
    array = factors(uses[0].node.inputs[1 - uses[0].idx], x)
    return None if array is None else (uses[0].node, array)


def _apply(fusion: _Fusion, region: Region, fresh: Callable[[str], str]) -> None:
    """Turn the last node into the operator; it keeps its name and its output."""
    end, graph = fusion.end, region.graph
    dtype = fusion.x.dtype or end.outputs[0].dtype
    assert dtype is not None
    read = [value for node in fusion.nodes for value in node.inputs if constant(value) is not None]
    end.resize_inputs(1 + len(fusion.constants))
    end.replace_input_with(0, fusion.x)
    for index, (array, name) in enumerate(zip(fusion.constants, ("scale", "bias"), strict=False), start=1):
        made = initializer(round_to(array, dtype), fresh(f"{end.outputs[0].name}_{name}"), graph)
        end.replace_input_with(index, made)
    end.op_type = fusion.op_type
    end.attributes.clear()
    for name, value in fusion.attributes.items():
        end.attributes.add(
            ir.AttrInt64(name, value) if isinstance(value, int) else ir.AttrFloat32(name, value)
        )
    graph.remove([node for node in fusion.nodes if node is not end], safe=True)
    drop_unused(graph, [value for value in read if value is not None])
