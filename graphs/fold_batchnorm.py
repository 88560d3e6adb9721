"""BatchNormalization into its linear neighbours.

In inference a BatchNormalization is one affine map a channel (Ioffe and Szegedy, arXiv:1502.03167, section
3.1, and the operator's page on onnx.ai):

    y = gamma (x - mean) / sqrt(var + epsilon) + beta = s x + t,
    s = gamma / sqrt(var + epsilon),  t = beta - mean s.

``affine`` has the algebra by which a linear operator takes such a map in, ``channels`` the operators that a
map moves through. The pass looks above the BN first, then below it. Torch's exporter folds a BN that follows
its convolution; what it leaves is the rest of this list.

It fires for a BN

1.  after Conv, grouped and depthwise too, with or without bias;
2.  after ConvTranspose, grouped too, with or without bias;
3.  after Gemm: transA, transB, alpha, beta, C missing or of any shape that broadcasts;
4.  after MatMul with a constant matrix on the right; with a shift it becomes a Gemm;
5.  after Add of a constant to any of these: the constant takes the shift;
6.  after another BN: the upper one becomes both;
7.  after Concat on the channel axis, if every branch takes its slice in, by any of these rules;
8.  across Identity, inference Dropout, GlobalAveragePool, ReduceMean over space, AveragePool that does not
    count padding, and Flatten, Reshape, Squeeze and Unsqueeze that keep the channel axis, up or down, to
    reach one of these;
9.  before Conv without padding, grouped and depthwise too, if everything that reads the BN takes it in;
10. before Gemm (transA = 0) and MatMul with a constant matrix on the right, under the same condition; also
    across a Flatten of N x C x H x W, where each channel's map is repeated H * W times;
11. with weights, bias or BN parameters that other nodes use too: the rewritten node gets its own, under a
    name that occurs nowhere in the model; the shared ones stay as they are.

It must not fire

20. in training mode: ``training_mode`` = 1, outputs beyond the first, opsets before 7, ``spatial`` = 0;
21. if a BN parameter, weight or bias is not constant: computed, a graph input, or an initializer that is also
    a graph input and so may be overridden; with IR versions before 4 that is every initializer;
22. if what lies between BN and neighbour is used elsewhere, is a graph output or is captured by a subgraph;
23. if s or t is not finite, var + epsilon is not positive, or the folded numbers overflow or underflow;
24. if types are mixed, or other than float32, float16, float64 and bfloat16;
25. before a padded convolution: padding is 0, where the BN would have made t of it;
26. across what does not commute: activations, MaxPool, AveragePool that counts padding or has ceil_mode;
27. across a Reshape or Flatten that mixes channels, or whose shapes the file does not give;
28. after a Concat on another axis, or with a branch that cannot take its slice in: what would be left is as
    many BNs as before;
29. after MatMul or Add of other than two dimensions, where axis 1 is not the axis of the matrix's columns;
30. with quantised weights: a DequantizeLinear between weight and convolution is not a constant;
31. for BNs within subgraphs and functions, which stay as they are; custom operators are no neighbours.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from cnnport.graphs.affine import (
    FLOATS,
    Affine,
    CannotFoldError,
    Rewrite,
    round_to,
    take_in_at_inputs,
    take_in_at_outputs,
    weights,
)
from cnnport.graphs.channels import channel_repeat
from cnnport.graphs.values import (
    constant,
    drop_unused,
    fresh_names,
    named_in_subgraphs,
    opset_of,
    rank,
    static,
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Scope:
    graph: ir.Graph
    opset: int
    captured: frozenset[str]
    fresh: Callable[[str], str]


def fold_batchnorm(model: ir.Model) -> int:
    """Fold BatchNormalization into neighbouring convolutions and matrix products.

    Args:
        model: Changed in place; only the main graph.

    Returns:
        The number of BatchNormalization nodes that are gone.
    """
    opset = opset_of(model)
    found = [node for node in model.graph if _is_batchnorm(node)]
    if opset < 7 or model.ir_version < 4 or not found:
        return 0
    scope = _Scope(model.graph, opset, named_in_subgraphs(model.graph), fresh_names(model))
    return sum(_fold(node, scope) for node in found)


def _fold(batchnorm: ir.Node, scope: _Scope) -> bool:
    x, y = batchnorm.inputs[0], batchnorm.outputs[0]
    assert x is not None
    try:
        affine = _affine_of(batchnorm, scope.opset)
    except CannotFoldError as error:
        _log.debug("%s stays: %s", batchnorm.name or y.name, error)
        return False
    try:
        rewrites = list(_upward(x, affine, scope))
    except CannotFoldError as above:
        try:
            rewrites = list(_downward(y, affine, scope))
        except CannotFoldError as below:
            _log.debug("%s stays: above, %s; below, %s", batchnorm.name or y.name, above, below)
            return False
        _apply(rewrites, scope)
        y.replace_all_uses_with(x)
    else:
        _apply(rewrites, scope)
        _stand_in(x, y)
    parameters = [value for value in batchnorm.inputs[1:] if value]
    scope.graph.remove(batchnorm, safe=True)
    drop_unused(scope.graph, parameters)
    return True


def _is_batchnorm(node: ir.Node) -> bool:
    return not node.domain and node.op_type == "BatchNormalization"


def _affine_of(node: ir.Node, opset: int) -> Affine:
    training = node.attributes.get_int("training_mode", 0) or any(output.name for output in node.outputs[1:])
    if training or not node.attributes.get_int("spatial", 1):
        raise CannotFoldError("it does not run in inference mode on channels")
    if opset < 9 and "is_test" in node.attributes:
        raise CannotFoldError("its attributes are of another opset")
    scale = constant(node.inputs[1])
    if scale is None or scale.dtype not in FLOATS:
        raise CannotFoldError("its scale is not a constant of a floating-point type")
    gamma, beta, mean, var = (weights(node, index, scale.dtype).astype(np.float64) for index in (1, 2, 3, 4))
    if gamma.ndim != 1 or not gamma.shape == beta.shape == mean.shape == var.shape:
        raise CannotFoldError("its parameters are not one number a channel")
    # The attribute is a float32 in the file; so is its default.
    spread = var + float(np.float32(node.attributes.get_float("epsilon", 1e-5)))
    with np.errstate(all="ignore"):
        factor = gamma / np.sqrt(spread)
        shift = beta - mean * factor
    if not (
        np.isfinite(factor).all()
        and np.isfinite(shift).all()
        and np.isfinite(spread).all()
        and (spread > 0).all()
    ):
        raise CannotFoldError("its parameters give no finite scale and shift")
    return Affine(factor, shift, scale.dtype)


def _upward(value: ir.Value, affine: Affine, scope: _Scope) -> Iterator[Rewrite]:
    """What makes ``value`` come out with the map already applied."""
    node = value.producer()
    if node is None or node.graph is not scope.graph:
        raise CannotFoldError(f"{value.name} is not computed in this graph")
    if (
        value.is_graph_output()
        or len(value.uses()) != 1
        or value.name in scope.captured
        or value.index() != 0
    ):
        raise CannotFoldError(f"{value.name} is used elsewhere too")
    if _is_batchnorm(node):
        yield _merged(node, affine, scope)
    elif not node.domain and node.op_type == "Concat":
        yield Rewrite(node)
        yield from _into_branches(node, affine, scope)
    elif not node.domain and node.op_type == "Add":
        yield from _through_add(node, affine, scope)
    elif channel_repeat(node, scope.opset) == 1:
        yield Rewrite(node)
        yield from _upward(_first(node), affine, scope)
    else:
        yield take_in_at_outputs(node, affine)


def _merged(upper: ir.Node, affine: Affine, scope: _Scope) -> Rewrite:
    own = _affine_of(upper, scope.opset)
    if own.dtype != affine.dtype or own.channels != affine.channels:
        raise CannotFoldError(f"{upper.name} is of another type or width")
    gamma, beta = (weights(upper, index, own.dtype).astype(np.float64) for index in (1, 2))
    with np.errstate(all="ignore"):
        scale, shift = gamma * affine.scale, beta * affine.scale + affine.shift
    return Rewrite(upper, {1: round_to(scale, own.dtype), 2: round_to(shift, own.dtype)})


def _into_branches(concat: ir.Node, affine: Affine, scope: _Scope) -> Iterator[Rewrite]:
    axis, dims = concat.attributes.get_int("axis", 0), rank(concat.outputs[0])
    if axis != 1 and (dims is None or axis + dims != 1):
        raise CannotFoldError(f"{concat.name} does not join channels")
    widths = [static(branch, 1) for branch in concat.inputs]
    sizes = [width for width in widths if width is not None]
    if len(sizes) != len(widths) or sum(sizes) != affine.channels:
        raise CannotFoldError(f"the file does not say how many channels each branch of {concat.name} has")
    start = 0
    for branch, size in zip(concat.inputs, sizes, strict=True):
        assert branch is not None
        yield from _upward(branch, affine.part(start, start + size), scope)
        start += size


def _through_add(add: ir.Node, affine: Affine, scope: _Scope) -> Iterator[Rewrite]:
    fixed = [index for index, operand in enumerate(add.inputs) if constant(operand) is not None]
    if len(fixed) != 1:
        raise CannotFoldError(f"{add.name} does not add a constant")
    operand = add.inputs[1 - fixed[0]]
    dims = rank(operand)
    if operand is None or dims is None or dims < 2 or dims != rank(add.outputs[0]):
        raise CannotFoldError(f"the file does not say on which axis {add.name} has its channels")
    bias = weights(add, fixed[0], affine.dtype).astype(np.float64)
    column = (-1, *[1] * (dims - 2))
    if bias.ndim >= dims - 1 and bias.shape[bias.ndim - dims + 1] not in {1, affine.channels}:
        raise CannotFoldError(f"{add.name} adds something of another width")
    shifted = bias * affine.scale.reshape(column) + affine.shift.reshape(column)
    yield Rewrite(add, {fixed[0]: round_to(shifted, affine.dtype)})
    yield from _upward(operand, affine.without_shift(), scope)


def _downward(value: ir.Value, affine: Affine, scope: _Scope) -> Iterator[Rewrite]:
    """What makes every reader of ``value`` apply the map itself."""
    uses = value.uses()
    if not uses or value.is_graph_output() or value.name in scope.captured:
        raise CannotFoldError(f"{value.name} is given out")
    for node, index in uses:
        if node.graph is not scope.graph or index != 0 or sum(each is value for each in node.inputs) != 1:
            raise CannotFoldError(f"{value.name} is not what {node.op_type} {node.name} works on")
        repeat = channel_repeat(node, scope.opset)
        if repeat is None:
            yield take_in_at_inputs(node, affine)
        else:
            yield Rewrite(node)
            yield from _downward(node.outputs[0], affine.repeated(repeat), scope)


def _first(node: ir.Node) -> ir.Value:
    value = node.inputs[0]
    assert value is not None
    return value


def _apply(rewrites: Sequence[Rewrite], scope: _Scope) -> None:
    for rewrite in rewrites:
        node, output = rewrite.node, rewrite.node.outputs[0]
        replaced = []
        for index, array in rewrite.constants.items():
            if index >= len(node.inputs):
                node.resize_inputs(index + 1)
            old = node.inputs[index]
            base = f"{old.name}_bn" if old else f"{node.name or output.name}_bias"
            node.replace_input_with(index, _initializer(array, scope.fresh(base), scope.graph))
            replaced += [old] if old else []
        for name in rewrite.dropped:
            node.attributes.pop(name, None)
        if rewrite.op_type:
            node.op_type = rewrite.op_type
        if rewrite.changes_output:
            # Two files that are compared by value names must not find other numbers under the same name.
            output.name = scope.fresh(f"{output.name}_bn")
        drop_unused(scope.graph, replaced)


def _initializer(array: np.ndarray, name: str, graph: ir.Graph) -> ir.Value:
    tensor = ir.tensor(np.ascontiguousarray(array), name=name)
    value = ir.Value(
        name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor
    )
    graph.register_initializer(value)
    return value


def _stand_in(x: ir.Value, y: ir.Value) -> None:
    """Make ``x`` be ``y`` to the rest of the graph: name, shape, notes, and place among the outputs."""
    given_out, name = y.is_graph_output(), y.name
    y.replace_all_uses_with(x, replace_graph_outputs=True)
    y.name = None
    x.name = name
    x.doc_string = y.doc_string
    x.metadata_props.clear()
    x.metadata_props.update(y.metadata_props)
    if given_out or y.shape is not None:
        x.shape, x.type = y.shape, y.type or x.type
        x.meta.clear()
        x.meta.update(y.meta)
