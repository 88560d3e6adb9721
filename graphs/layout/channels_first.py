"""Matrix products between channels-last and channels-first as 1 x 1 convolutions.

Over values of N x H x W x K, a MatMul with a K x M matrix is a convolution of 1 x 1 places with the same numbers, but
for the order of axes. With T from N x H x W x C to N x C x H x W,

    T (x B) = conv(T x, B'),    B' = B as M x K x 1 x 1, transposed,

so where T is behind a chain of such products, elementwise operators and constants for each channel, it may as well be
in front of it. The convolution takes the bias in: each Add behind a product is an operator less. What was channels
last, as between the Transposes of a ConvNeXt block (Liu et al., arXiv:2201.03545), is then the normalisation alone,
and constants that scale the channels stand next to a convolution that can take them in.

It fires for

1.  Transpose of N x ... x C to N x C x ... behind a chain with at least one MatMul with a constant matrix, and
    elementwise operators of one operand, Add, Sub, Mul and Div with a constant for each channel or one number;
2.  if that saves an operator: an Add behind a MatMul, or the inverse Transpose in front.

It must not fire

10. if more elements would be transposed in front of the chain than behind it;
11. where something else reads what lies between; with computed matrices, matrices that a caller may override, and
    constants that vary along other axes;
12. for element types that convolutions do not have.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import onnx_ir as ir

from cnnport.graphs.affine import Array
from cnnport.graphs.channel.rechannel import Scope
from cnnport.graphs.layout.operators import UNARY
from cnnport.graphs.layout.permutations import Permutation, permutation_of, permuted_shape, then
from cnnport.graphs.splice import bypass, initializer
from cnnport.graphs.values import (
    constant,
    drop_unused,
    fresh_names,
    named_in_subgraphs,
    opset_of,
    rank,
    static,
)

_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE})
_BINARY = frozenset({"Add", "Div", "Mul", "Sub"})


@dataclass(frozen=True)
class _Link:
    """One operator of a chain.

    Attributes:
        node: The operator.
        index: Which of its inputs is the chain's.
        array: Its constant: a matrix, or one number for each channel or for all; None if it has none.
    """

    node: ir.Node
    index: int
    array: Array | None = None


def channels_first(model: ir.Model) -> int:
    """Turn matrix products of channels-last values into 1 x 1 convolutions.

    Args:
        model: Changed in place; only the main graph.

    Returns:
        The number of MatMul nodes that became convolutions.
    """
    if opset_of(model) < 9 or model.ir_version < 4 or named_in_subgraphs(model.graph):
        return 0
    scope = Scope(model, fresh_names(model))
    return sum(
        _turn(node, scope)
        for node in list(model.graph)
        if not node.domain and node.op_type == "Transpose" and node.graph is model.graph
    )


def _turn(transpose: ir.Node, scope: Scope) -> int:
    end = transpose.inputs[0]
    dims = rank(end)
    if end is None or dims is None or dims < 3:
        return 0
    order = permutation_of(transpose, dims)
    if order != (0, dims - 1, *range(1, dims - 1)):
        return 0
    chain = _chain(end, dims, scope)
    products = [link for link in chain if link.node.op_type == "MatMul"]
    if not products:
        return 0
    start = products[0].node.inputs[0]
    assert start is not None
    first, last = products[0].array, products[-1].array
    assert first is not None
    assert last is not None
    if first.shape[0] > last.shape[1]:
        return 0
    biases = sum(_is_bias(*pair) for pair in pairwise(chain))
    if not biases and not _is_undone(start, order):
        return 0
    _rewrite(transpose, start, chain, order, scope)
    return len(products)


def _is_undone(start: ir.Value, order: Permutation) -> bool:
    maker = start.producer()
    if maker is None or maker.domain or maker.op_type != "Transpose":
        return False
    before = permutation_of(maker, len(order))
    return before is not None and then(before, order) == tuple(range(len(order)))


def _chain(end: ir.Value, dims: int, scope: Scope) -> list[_Link]:
    """The operators above, from the topmost product down."""
    links: list[_Link] = []
    value: ir.Value | None = end
    while value is not None and len(value.uses()) == 1 and scope.is_private(value):
        node = value.producer()
        link = None if node is None or node.domain or node.graph is not scope.graph else _link(node, dims)
        if link is None:
            break
        links.append(link)
        value = link.node.inputs[link.index]
    links.reverse()
    tops = [place for place, link in enumerate(links) if link.node.op_type == "MatMul"]
    return links[tops[0] :] if tops else []


def _link(node: ir.Node, dims: int) -> _Link | None:
    if node.op_type in UNARY and len(node.outputs) == 1 and rank(node.inputs[0]) == dims:
        return _Link(node, 0)
    if node.op_type == "MatMul":
        tensor = constant(node.inputs[1])
        if (
            tensor is None
            or tensor.dtype not in _FLOATS
            or len(tensor.shape) != 2
            or rank(node.inputs[0]) != dims
        ):
            return None
        known = static(node.inputs[0], -1) in {None, tensor.shape[0]}
        return _Link(node, 0, tensor.numpy()) if known else None
    if node.op_type not in _BINARY or len(node.inputs) != 2:
        return None
    for index in (0, 1):
        tensor = constant(node.inputs[1 - index])
        if tensor is None or rank(node.inputs[index]) != dims or len(tensor.shape) > dims:
            continue
        array = tensor.numpy()
        channels = static(node.inputs[index], -1)
        if array.size == 1 or (array.shape[-1] == array.size == channels):
            return _Link(node, index, array.reshape(-1))
    return None


def _is_bias(product: _Link, link: _Link) -> bool:
    return product.node.op_type == "MatMul" and link.node.op_type == "Add"


def _rewrite(
    transpose: ir.Node, start: ir.Value, chain: Sequence[_Link], order: Permutation, scope: Scope
) -> None:
    graph, dims = scope.graph, len(order)
    moved = ir.node("Transpose", [start], {"perm": list(order)}, name=scope.fresh(f"{start.name}_transposed"))
    value = moved.outputs[0]
    value.name, value.type, value.shape = moved.name, start.type, permuted_shape(start.shape, order)
    value.meta.update(start.meta)
    graph.insert_before(chain[0].node, moved)
    unused: list[ir.Value] = []
    gone: list[ir.Node] = []
    place = 0
    while place < len(chain):
        link = chain[place]
        node = link.node
        output = node.outputs[0]
        if node.op_type == "MatMul":
            bias = chain[place + 1] if place + 1 < len(chain) and _is_bias(link, chain[place + 1]) else None
            made = _convolution(link, bias, value, dims, scope)
            gone.append(node)
            if bias is not None:
                gone.append(bias.node)
                output = bias.node.outputs[0]
                place += 1
            graph.insert_before(gone[-1], made)
            result = made.outputs[0]
            result.type = output.type
        else:
            if link.array is not None and link.array.size > 1:
                old = node.inputs[1 - link.index]
                assert old is not None
                column = link.array.reshape(-1, *[1] * (dims - 2))
                node.replace_input_with(
                    1 - link.index, initializer(column, scope.fresh(f"{old.name}_column"), graph)
                )
                unused.append(old)
            node.replace_input_with(link.index, value)
            result = output
        result.name = scope.fresh(f"{output.name}_first")
        result.shape = permuted_shape(output.shape, order)
        result.meta.update(output.meta)
        value = result
        place += 1
    transpose.replace_input_with(0, value)
    unused += [each for node in gone for each in node.inputs if each is not None]
    bypass(transpose, value)
    graph.remove(gone, safe=True)
    drop_unused(graph, [each for each in unused if constant(each) is not None])


def _convolution(link: _Link, bias: _Link | None, value: ir.Value, dims: int, scope: Scope) -> ir.Node:
    given, matrix = link.node.inputs[1], link.array
    assert given is not None
    assert matrix is not None
    kernel = matrix.T.reshape(*matrix.T.shape, *[1] * (dims - 2))
    inputs = [
        value,
        initializer(np.array(kernel, order="C"), scope.fresh(f"{given.name}_kernel"), scope.graph),
    ]
    if bias is not None:
        added = bias.node.inputs[1 - bias.index]
        assert added is not None
        assert bias.array is not None
        row = np.broadcast_to(bias.array, (matrix.shape[1],))
        inputs.append(initializer(np.array(row, order="C"), scope.fresh(f"{added.name}_bias"), scope.graph))
    name = scope.fresh(f"{link.node.name or link.node.outputs[0].name}_conv")
    return ir.node("Conv", inputs, {"kernel_shape": [1] * (dims - 2)}, name=name)
