"""Two linear operators in a row as one, where that is less work.

Without anything between them, two convolutions are one. With A of one tap in front of B,

    B(A(x))[o] = sum over m, i, t of B[o, m, t] A[m, i] x[i, t] + sum over m, t of B[o, m, t] a[m] + b[o],

and with B of one tap behind A, the same with t in A instead. The second sum is a bias only where every element of B's
output sees all of B's taps: a padded B sees zeros at the border and not a. Where A of one tap has strides S,
the taps of B lie S apart in x, and the padding is S times as wide; B of one tap multiplies the strides of A. Two
matrix products are (x A + a) B + b = x (A B) + (a B + b).

Networks that squeeze their channels between two layers save work by it, and stay two. So nothing is merged unless
neither the multiply-adds nor the weights in the file get more. In groups, W is block diagonal; with g and h blocks,
the product has as many as their greatest common divisor.

It fires for

1.  Conv of 1 x 1 in front of Conv of any kernel, with any strides, dilations and padding of the second; with biases
    of any kind if the second is not padded, else with none or one of zeros in the first;
2.  Conv of 1 x 1 behind Conv of any kernel, strides, dilations and padding, with any biases;
3.  groups in either, depthwise too;
4.  Gemm and MatMul behind each other, with alpha, beta, transB and biases of any shape that is the same in each row;
5.  weights that other nodes use too, where the file gets no larger: the merged node has its own;
6.  chains of more than two, pair after pair.

It must not fire

20. if the result would have more multiply-adds or more weights, or their numbers are not known;
21. if what lies between is used elsewhere, is a graph output or is captured by a subgraph;
22. for a padded second convolution with a bias in the first;
23. for two kernels of more than one tap, a padded 1 x 1, and ``auto_pad`` SAME that sizes have to decide on;
24. for weights or biases that are computed, quantised or may be overridden by a caller, and of mixed types;
25. for a transposed left side, and a bias that differs between rows;
26. if the merged numbers overflow or underflow;
27. within subgraphs and functions.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from cnnport.graphs.affine import FLOATS, Array, CannotFoldError, round_to, weights
from cnnport.graphs.journal import refused
from cnnport.graphs.merge.branches import Reading
from cnnport.graphs.merge.convolution import Geometry, geometry_of, numbers_of, rounded
from cnnport.graphs.splice import initializer
from cnnport.graphs.values import constant, drop_unused, fresh_names, rank, static

Numbers: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Scope:
    reading: Reading
    graph: ir.Graph
    fresh: Callable[[str], str]


def merge_linear_chain(model: ir.Model) -> int:
    """Merge convolutions and matrix products that follow each other, where that is less work.

    Args:
        model: Changed in place; only the main graph.

    Returns:
        The number of operators that are gone.
    """
    scope = _Scope(Reading(model), model.graph, fresh_names(model))
    if scope.reading.opset < 7 or model.ir_version < 4:
        return 0
    done = 0
    for node in list(model.graph):
        above = _above(node, scope)
        while above is not None and _merge(above, node, scope):
            done += 1
            above = _above(node, scope)
    return done


def _above(node: ir.Node, scope: _Scope) -> ir.Node | None:
    """The operator of the same kind whose only reader is ``node``."""
    kind = _kind(node)
    value = node.inputs[0] if kind else None
    if value is None or not scope.reading.is_private(value):
        return None
    above = value.producer()
    return above if above is not None and above.graph is scope.graph and _kind(above) == kind else None


def _kind(node: ir.Node) -> str | None:
    return None if node.domain else {"Conv": "Conv", "Gemm": "Gemm", "MatMul": "Gemm"}.get(node.op_type)


def _merge(above: ir.Node, below: ir.Node, scope: _Scope) -> bool:
    try:
        if below.op_type == "Conv":
            _merge_convolutions(above, below, scope)
        else:
            _merge_products(above, below, scope)
    except CannotFoldError as error:
        refused(below, f"it stays behind {above.op_type} {above.name or above.outputs[0].name}: {error}")
        return False
    return True


def _merge_convolutions(above: ir.Node, below: ir.Node, scope: _Scope) -> None:
    first, second = geometry_of(above), geometry_of(below)
    if first.dtype != second.dtype or first.outputs != second.inputs:
        raise CannotFoldError("types or channels differ")
    whole = _composed(first, second)
    _check_saves(above, below, (first, second, whole))
    (a, bias), (b, own_bias) = numbers_of(above, first), numbers_of(below, second)
    if bias.any() and any(second.begins + second.ends):
        raise CannotFoldError("it pads with zeros, where the bias in front of it would go on")
    kernel = _product(a, b, first, second, whole.group)
    shift = b.reshape(*b.shape[:2], -1).sum(axis=2)
    rows = second.outputs // second.group
    shift = np.einsum("gom,gm->go", shift.reshape(second.group, rows, -1), bias.reshape(second.group, -1))
    total = own_bias + shift.reshape(-1)
    constants: dict[int, Array] = {1: rounded(kernel, whole.dtype)}
    if any(len(node.inputs) > 2 and node.inputs[2] is not None for node in (above, below)):
        constants[2] = round_to(total, whole.dtype)
    attributes = {
        "dilations": whole.dilations,
        "kernel_shape": whole.kernel,
        "pads": (*whole.begins, *whole.ends),
        "strides": whole.strides,
    }
    _replace(above, below, constants, scope)
    below.attributes.clear()
    below.attributes.add(ir.AttrInt64("group", whole.group))
    for name, sizes in attributes.items():
        below.attributes.add(ir.AttrInt64s(name, sizes))


def _composed(first: Geometry, second: Geometry) -> Geometry:
    group = math.gcd(first.group, second.group)
    if len(first.kernel) != len(second.kernel):
        raise CannotFoldError("their numbers of dimensions differ")
    strides = tuple(one * two for one, two in zip(first.strides, second.strides, strict=True))
    if _is_point(second):
        return replace(first, outputs=second.outputs, group=group, strides=strides)
    if not _is_point(first):
        raise CannotFoldError("both have more than one tap, or pad a single one")
    dilations, begins, ends = (
        tuple(size * step for size, step in zip(sizes, first.strides, strict=True))
        for sizes in (second.dilations, second.begins, second.ends)
    )
    return replace(
        second,
        inputs=first.inputs,
        group=group,
        strides=strides,
        dilations=dilations,
        begins=begins,
        ends=ends,
    )


def _is_point(each: Geometry) -> bool:
    return math.prod(each.kernel) == 1 and not any(each.begins + each.ends)


def _check_saves(above: ir.Node, below: ir.Node, geometries: tuple[Geometry, Geometry, Geometry]) -> None:
    first, second, whole = geometries
    before, after = _places(above.outputs[0], first), _places(below.outputs[0], second)
    if before is None or after is None:
        # Without padding there is no way to get more places than there were.
        if any(second.begins + second.ends) and not _shrinks(second):
            raise CannotFoldError("the file does not say how large the values are")
        before = after = 1
    work = before * first.outputs * first.cost + after * second.outputs * second.cost
    merged = after * whole.outputs * whole.cost
    if merged > work:
        raise CannotFoldError(f"one operator would take {merged / work:.2f} times the multiply-adds")
    _check_size(above, below, math.prod(whole.shape))


def _shrinks(each: Geometry) -> bool:
    """Whether the output is not larger than the input, whatever that is."""
    axes = zip(each.begins, each.ends, each.dilations, each.kernel, strict=True)
    return all(begin + end <= dilation * (kernel - 1) for begin, end, dilation, kernel in axes)


def _places(value: ir.Value, each: Geometry) -> int | None:
    sizes = [static(value, 2 + axis) for axis in range(len(each.kernel))]
    known = [size for size in sizes if size is not None]
    return math.prod(known) if len(known) == len(sizes) else None


def _check_size(above: ir.Node, below: ir.Node, merged: int) -> None:
    """That the file does not get larger: weights that others use too stay in it."""
    own = [node.inputs[1] for node in (above, below)]
    freed = 0
    for value in dict.fromkeys(own):
        tensor = constant(value)
        if value is None or tensor is None:
            raise CannotFoldError("weights are not constant")
        if len(value.uses()) == own.count(value) and not value.is_graph_output():
            freed += tensor.size
    if merged > freed:
        raise CannotFoldError(f"one operator would have {merged} weights, and they have {freed} of their own")


def _product(a: Numbers, b: Numbers, first: Geometry, second: Geometry, group: int) -> Numbers:
    """The weights of both as one, with as many groups as told."""
    taps = first.kernel if _is_point(second) else second.kernel
    one = _in_groups(a, first, group).reshape(group, first.outputs // group, first.inputs // group, -1)
    two = _in_groups(b, second, group).reshape(group, second.outputs // group, second.inputs // group, -1)
    # One of them has a single tap, so the sum over s is no sum.
    product = np.einsum(
        "gmis,gomt->goist" if _is_point(first) else "gmit,goms->goist", one, two, optimize=True
    )
    found: Numbers = product.reshape(second.outputs, first.inputs // group, *taps)
    return found


def _in_groups(kernel: Numbers, each: Geometry, group: int) -> Numbers:
    """Weights in groups as weights in fewer, larger groups: zeros where there was none."""
    blocks, columns = each.group // group, each.inputs // each.group
    rows = each.outputs // each.group
    wide = np.zeros((group, blocks, rows, blocks, columns, *each.kernel))
    narrow = kernel.reshape(group, blocks, rows, columns, *each.kernel)
    for block in range(blocks):
        wide[:, block, :, block] = narrow[:, block]
    return wide.reshape(each.outputs, each.inputs // group, *each.kernel)


def _merge_products(above: ir.Node, below: ir.Node, scope: _Scope) -> None:
    matrix = constant(above.inputs[1])
    if matrix is None or matrix.dtype not in FLOATS:
        raise CannotFoldError("the matrix above is not a constant of a floating-point type")
    dtype = matrix.dtype
    shapes = [_shape_of(node, dtype) for node in (above, below)]
    (inputs, middle), (same, outputs) = shapes
    if middle != same:
        raise CannotFoldError("sizes differ")
    merged = inputs * outputs
    if merged > inputs * middle + middle * outputs:
        raise CannotFoldError(
            f"one operator would have {merged} weights for {inputs * middle + middle * outputs}"
        )
    _check_size(above, below, merged)
    (a, bias), (b, own_bias) = (_matrix_of(node, dtype) for node in (above, below))
    constants: dict[int, Array] = {1: rounded(a @ b, dtype)}
    if bias is not None or own_bias is not None:
        total = (0 if bias is None else bias @ b) + (0 if own_bias is None else own_bias)
        constants[2] = round_to(np.asarray(total, np.float64), dtype)
    is_product = above.op_type == below.op_type == "MatMul"
    _replace(above, below, constants, scope)
    below.op_type = "MatMul" if is_product else "Gemm"
    below.attributes.clear()


def _shape_of(node: ir.Node, dtype: ir.DataType) -> tuple[int, int]:
    """Inputs and outputs of a matrix product with a constant matrix on the right."""
    tensor = constant(node.inputs[1])
    if tensor is None or tensor.dtype != dtype or len(tensor.shape.numpy()) != 2:
        raise CannotFoldError("a matrix is not a constant of the same type")
    rows, columns = (int(size) for size in tensor.shape.numpy())
    if node.op_type == "Gemm":
        if node.attributes.get_int("transA", 0):
            raise CannotFoldError(f"{node.op_type} transposes its left side")
        if node.attributes.get_int("transB", 0):
            rows, columns = columns, rows
    elif (rank(node.inputs[0]) or 0) < 2:
        raise CannotFoldError("the file does not say how many dimensions the left side has")
    return rows, columns


def _matrix_of(node: ir.Node, dtype: ir.DataType) -> tuple[Numbers, Numbers | None]:
    """Matrix and bias of a matrix product, factors included; the bias has one number a column."""
    matrix = weights(node, 1, dtype).astype(np.float64)
    if node.op_type == "MatMul":
        return matrix, None
    if node.attributes.get_int("transB", 0):
        matrix = matrix.T
    matrix = matrix * node.attributes.get_float("alpha", 1.0)
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return matrix, None
    bias = weights(node, 2, dtype).astype(np.float64) * node.attributes.get_float("beta", 1.0)
    if bias.ndim == 2 and bias.shape[0] != 1:
        raise CannotFoldError("the bias differs between rows")
    return matrix, np.broadcast_to(bias.reshape(-1), matrix.shape[1:])


def _replace(above: ir.Node, below: ir.Node, constants: dict[int, Array], scope: _Scope) -> None:
    """Give ``below`` the input of ``above`` and new constants; ``above`` goes."""
    old = [value for node in (above, below) for value in node.inputs[1:] if value is not None]
    name = below.inputs[1].name if below.inputs[1] is not None else below.name
    below.resize_inputs(1 + len(constants))
    below.replace_input_with(0, above.inputs[0])
    for index, array in constants.items():
        made = initializer(array, scope.fresh(f"{name}_chain{'_bias' if index == 2 else ''}"), scope.graph)
        below.replace_input_with(index, made)
    scope.graph.remove(above, safe=True)
    drop_unused(scope.graph, old)
