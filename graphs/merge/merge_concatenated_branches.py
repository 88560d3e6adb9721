"""Parallel convolutions that a Concat joins, into one.

Convolutions of the same kernel size, stride, dilation and padding on one x differ in their rows only, and a Concat on
the channel axis puts the rows of the result one below the other:

    concat(W_1 * x + b_1, W_2 * x + b_2) = [W_1; W_2] * x + [b_1; b_2].

An activation f that works on every number by itself may lie between, concat(f(u), f(v)) = f(concat(u, v)), if it is
the same in all branches. No number is computed: weights are only put together, a missing bias is one of zeros. There
are as many multiply-adds as before, one reading of x in place of several, and less or nothing to copy.

It fires for

1.  neighbours in a Concat on axis 1, counted from either end, two or more, all of them or some;
2.  with a bias or none, also mixed;
3.  with the same activations behind each, one or several;
4.  weights that other nodes use too: the merged convolution has its own.

It must not fire

10. for branches that are no neighbours in the Concat, or occur in it twice;
11. if inputs, kernel sizes, strides, dilations, paddings, types or activations differ;
12. for groups: the groups of one convolution lie next to each other, so those of two cannot be one's;
13. if what lies between x and Concat is used elsewhere, is a graph output or is captured by a subgraph;
14. for weights that are computed, quantised or may be overridden by a caller;
15. for a Concat on another axis, and within subgraphs and functions.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import onnx_ir as ir

from cnnport.graphs.affine import Array, CannotFoldError, weights
from cnnport.graphs.elementwise import ELEMENTWISE
from cnnport.graphs.merge.branches import Reading
from cnnport.graphs.merge.convolution import Geometry, geometry_of
from cnnport.graphs.splice import initializer, stand_in
from cnnport.graphs.values import constant, drop_unused, fresh_names, opset_of, rank


@dataclass(frozen=True)
class _Branch:
    """One input of a Concat.

    Attributes:
        conv: The convolution.
        geometry: What it is.
        after: The activations behind it, in order.
        kind: Equal for branches that can be one.
    """

    conv: ir.Node
    geometry: Geometry
    after: tuple[ir.Node, ...]
    kind: Hashable


def merge_concatenated_branches(model: ir.Model) -> int:
    """Merge parallel convolutions of one geometry that are concatenated into one convolution.

    Args:
        model: Changed in place; only the main graph.

    Returns:
        The number of convolutions that are gone.
    """
    if opset_of(model) < 7:
        return 0
    reading, fresh = Reading(model), fresh_names(model)
    concats = [node for node in model.graph if not node.domain and node.op_type == "Concat"]
    return sum(_merge_inputs(concat, reading, fresh) for concat in concats)


def _merge_inputs(concat: ir.Node, reading: Reading, fresh: Callable[[str], str]) -> int:
    axis, dims = concat.attributes.get_int("axis", 1), rank(concat.outputs[0])
    if axis != 1 and (dims is None or axis + dims != 1):
        return 0
    left: list[ir.Value | None] = []
    gone: list[_Branch] = []
    for kind, run in groupby(((value, _branch(value, reading)) for value in concat.inputs), key=_kind):
        values, branches = zip(*run, strict=True)
        if kind is not None and len(branches) > 1:
            _stack(branches, reading.graph, fresh)
            left.append(values[0])
            gone += branches[1:]
        else:
            left += values
    if not gone:
        return 0
    concat.resize_inputs(len(left))
    for index, value in enumerate(left):
        concat.replace_input_with(index, value)
    if len(left) == 1 and left[0] is not None:
        stand_in(left[0], concat.outputs[0])
        reading.graph.remove(concat, safe=True)
    for branch in gone:
        reading.remove_dead([*reversed(branch.after), branch.conv])
    return len(gone)


def _kind(pair: tuple[ir.Value | None, _Branch | None]) -> Hashable:
    return None if pair[1] is None else pair[1].kind


def _branch(value: ir.Value | None, reading: Reading) -> _Branch | None:
    after: list[ir.Node] = []
    while value is not None and reading.is_private(value):
        node = value.producer()
        if node is None or node.graph is not reading.graph or node.domain:
            return None
        if node.op_type == "Conv":
            return _read(node, tuple(reversed(after)))
        if node.op_type not in ELEMENTWISE:
            return None
        after.append(node)
        value = node.inputs[0]
    return None


def _read(conv: ir.Node, after: tuple[ir.Node, ...]) -> _Branch | None:
    kinds = [_signature(node) for node in after]
    try:
        geometry = geometry_of(conv)
    except CannotFoldError:
        return None
    if geometry.group != 1 or None in kinds:
        return None
    return _Branch(conv, geometry, after, (conv.inputs[0], replace(geometry, outputs=0), *kinds))


def _signature(node: ir.Node) -> Hashable:
    """What tells an activation from another one; None if that is not known."""
    if any(attribute.is_ref() for attribute in node.attributes.values()):
        return None
    attributes = sorted((name, str(attribute.value)) for name, attribute in node.attributes.items())
    constants: list[Hashable] = []
    for value in node.inputs[1:]:
        tensor = constant(value)
        if value is not None and (tensor is None or tensor.size != 1):
            return None
        constants.append(None if tensor is None else (str(tensor.dtype), tensor.tobytes()))
    return node.op_type, tuple(attributes), tuple(constants)


def _stack(branches: Sequence[_Branch], graph: ir.Graph, fresh: Callable[[str], str]) -> None:
    """Give the first branch the rows of all."""
    first = branches[0]
    conv, dtype = first.conv, first.geometry.dtype
    kernels = [weights(branch.conv, 1, dtype) for branch in branches]
    biases = list(_biases(branches))
    weight = conv.inputs[1]
    assert weight is not None
    name = f"{weight.name}_joined"
    old = [value for value in conv.inputs[1:] if value is not None]
    conv.replace_input_with(1, initializer(np.concatenate(kernels), fresh(name), graph))
    if any(bias is not None for bias in biases):
        rows = [
            np.zeros(len(kernel), kernel.dtype) if bias is None else bias
            for kernel, bias in zip(kernels, biases, strict=True)
        ]
        conv.resize_inputs(3)
        conv.replace_input_with(2, initializer(np.concatenate(rows), fresh(f"{name}_bias"), graph))
    drop_unused(graph, old)
    channels = sum(branch.geometry.outputs for branch in branches)
    for node in (conv, *first.after):
        value = node.outputs[0]
        value.name = fresh(f"{value.name}_joined")
        if value.shape is not None:
            value.shape = ir.Shape([value.shape[0], channels, *value.shape.dims[2:]])


def _biases(branches: Sequence[_Branch]) -> Iterator[Array | None]:
    for branch in branches:
        inputs = branch.conv.inputs
        given = len(inputs) > 2 and inputs[2] is not None
        yield weights(branch.conv, 2, branch.geometry.dtype) if given else None
