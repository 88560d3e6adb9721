"""Gemm between Reshapes as the MatMul that it was.

Gemm takes matrices. Where rows are numbered by several axes, as in channels-last blocks, simplifiers that turn
MatMul and Add into Gemm have to flatten these axes before and to restore them behind it:

    restore(alpha flatten(x) B' + beta C) = x (alpha B') + beta C,    B' = B or its transpose,

which is a MatMul, and an Add where there is a C. alpha and beta go into the constants, computed in float64 and
rounded once. An operator less, two without C; and the axes can be seen again by passes that move Transposes.

It fires for

1.  Reshape (or Flatten before the last axis) to rows, Gemm with constant B and C, and Reshape back, as [-1, H, W, M]
    with the batch open, or with all sizes given;
2.  transB, alpha and beta of any value; C missing, one number or one for each column;
3.  C that beta = 0 leaves out.

It must not fire

10. where the sizes do not prove that the second Reshape restores what the first one flattened: an axis that the file
    leaves open other than the one that is -1, or axes that are put together in another way;
11. for transA = 1, a C with a number for each row, constants that a caller may override;
12. where something else reads what lies between;
13. for element types other than floating point, whose sums wrap.
"""

import numpy as np
import onnx_ir as ir

from cnnport.graphs import journal
from cnnport.graphs.affine import FLOATS, Array, CannotFoldError, round_to
from cnnport.graphs.channel.rechannel import Scope
from cnnport.graphs.extents import integers
from cnnport.graphs.splice import initializer
from cnnport.graphs.values import constant, drop_unused, fresh_names, opset_of, rank, static


def unwrap_gemm(model: ir.Model) -> int:
    """Turn Reshape, Gemm, Reshape into MatMul and Add.

    Args:
        model: Changed in place; only the main graph.

    Returns:
        The number of Gemm nodes that are gone.
    """
    # Before opset 9, the operands of MatMul and Gemm have other types; before IR version 4, nothing is constant.
    if opset_of(model) < 9 or model.ir_version < 4:
        return 0
    scope = Scope(model, fresh_names(model))
    return sum(
        _unwrap(node, scope) for node in list(model.graph) if not node.domain and node.op_type == "Gemm"
    )


def _unwrap(gemm: ir.Node, scope: Scope) -> bool:
    rows, product = gemm.inputs[0], gemm.outputs[0]
    flatten = None if rows is None else rows.producer()
    restore = _only_reader(product, scope)
    if rows is None or flatten is None or restore is None or restore.inputs[0] is not product:
        return False
    source = flatten.inputs[0]
    if flatten.graph is not scope.graph or _only_reader(rows, scope) is not gemm or source is None:
        return False
    try:
        matrix, offset = _constants(gemm)
    except CannotFoldError as error:
        journal.refused(gemm, str(error))
        return False
    if matrix is None or not _flattens(flatten) or not _fits(offset, matrix.shape[1]):
        return False
    if matrix.shape[0] != static(source, (rank(source) or 0) - 1):
        return False
    if not _restores(restore, source, matrix.shape[1]):
        if rank(restore.outputs[0]) == rank(source):
            journal.refused(gemm, "the sizes do not prove that what follows restores what was flattened")
        return False
    _replace((flatten, gemm, restore), source, matrix, offset, scope)
    return True


def _only_reader(value: ir.Value, scope: Scope) -> ir.Node | None:
    readers = [node for node, _ in value.uses()]
    return readers[0] if len(readers) == 1 and scope.is_private(value) else None


def _constants(gemm: ir.Node) -> tuple[Array | None, Array | None]:
    """The matrix alpha B' and the row beta C: None where nothing is added, no matrix where they are not constant.

    Raises:
        CannotFoldError: If a number overflows.
    """
    given = gemm.inputs[2] if len(gemm.inputs) > 2 else None
    alpha, beta = gemm.attributes.get_float("alpha", 1.0), gemm.attributes.get_float("beta", 1.0)
    b, c = constant(gemm.inputs[1]), constant(given)
    if b is None or b.dtype not in FLOATS or gemm.attributes.get_int("transA", 0) != 0 or len(b.shape) != 2:
        return None, None
    if given is not None and (c is None or c.dtype != b.dtype):
        return None, None
    matrix = b.numpy().T if gemm.attributes.get_int("transB", 0) else b.numpy()
    offset = None if c is None or beta == 0.0 else c.numpy()
    scaled = matrix if alpha == 1.0 else round_to(matrix.astype(np.float64) * alpha, b.dtype)
    if offset is not None and beta != 1.0:
        offset = round_to(offset.astype(np.float64) * beta, b.dtype)
    return scaled, offset


def _fits(offset: Array | None, columns: int) -> bool:
    """Whether C has no number for each row, and does not widen the product."""
    if offset is None:
        return True
    return offset.size == 1 or (offset.size == columns and offset.shape[-1] == columns)


def _flattens(node: ir.Node) -> bool:
    """Whether it puts all axes but the last together."""
    source = node.inputs[0]
    dims = rank(source)
    if node.domain or dims is None or dims < 3:
        return False
    columns = static(source, dims - 1)
    if node.op_type == "Flatten":
        return node.attributes.get_int("axis", 1) in {-1, dims - 1}
    if node.op_type != "Reshape" or columns is None or columns == 0:
        return False
    target = integers(node, 1)
    # With the last size as it is, the rows are what is left.
    return target is not None and len(target) == 2 and target[1] == columns and target[0] != 0


def _restores(node: ir.Node, source: ir.Value, columns: int) -> bool:
    """Whether it gives rows of ``columns`` numbers the axes that ``source`` has before its last one."""
    target = integers(node, 1) if not node.domain and node.op_type == "Reshape" else None
    dims = rank(source)
    if target is None or dims is None or len(target) != dims:
        return False
    pairs = [(target[axis], static(source, axis)) for axis in range(dims - 1)]
    pairs.append((target[-1], columns))
    # The number of elements decides one size, if the others are not 0.
    free = [size for size, _ in pairs if size == -1]
    return len(free) <= 1 and all(size == -1 or (size == own and size > 0) for size, own in pairs)


def _replace(
    nodes: tuple[ir.Node, ir.Node, ir.Node],
    source: ir.Value,
    matrix: Array,
    offset: Array | None,
    scope: Scope,
) -> None:
    graph, restore, gemm = scope.graph, nodes[2], nodes[1]
    output = restore.outputs[0]
    unchanged = gemm.inputs[1]
    assert unchanged is not None
    same = gemm.attributes.get_float("alpha", 1.0) == 1.0 and not gemm.attributes.get_int("transB", 0)
    weight = unchanged if same else initializer(matrix, scope.fresh(f"{unchanged.name}_rows"), graph)
    product = ir.node("MatMul", [source, weight], name=scope.fresh(f"{gemm.name or output.name}_product"))
    new = [product]
    if offset is not None:
        given = gemm.inputs[2]
        assert given is not None
        row = offset.reshape(-1) if offset.ndim else offset
        value = given
        if offset.ndim > 1 or gemm.attributes.get_float("beta", 1.0) != 1.0:
            value = initializer(row, scope.fresh(f"{given.name}_row"), graph)
        product.outputs[0].name = scope.fresh(f"{output.name}_product")
        product.outputs[0].type, product.outputs[0].shape = output.type, output.shape
        product.outputs[0].meta.update(output.meta)
        name = scope.fresh(f"{gemm.name or output.name}_sum")
        new.append(ir.node("Add", [product.outputs[0], value], name=name))
    graph.insert_before(restore, new)
    result = new[-1].outputs[0]
    given_name = output.name
    output.replace_all_uses_with(result, replace_graph_outputs=True)
    output.name = None
    result.name, result.type, result.shape = given_name, output.type, output.shape
    result.doc_string = output.doc_string
    result.metadata_props.update(output.metadata_props)
    result.meta.update(output.meta)
    unused = [value for node in nodes for value in node.inputs[1:] if value is not None]
    graph.remove(list(nodes), safe=True)
    drop_unused(graph, unused)
