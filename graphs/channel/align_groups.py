"""Groups in multiples of 16 channels, where a channel shuffle stands between two grouped convolutions.

ShuffleNet v1's unit (Zhang et al., arXiv:1707.01083, figure 2) has a grouped 1x1 convolution, a shuffle, a depthwise
and another grouped 1x1 convolution. ONNX Runtime's CPU kernels keep a grouped convolution in blocks of 16 channels
only if the channels of each group, coming in and going out, fill whole blocks; otherwise it falls to plain rows, one
matrix product a group, and the residual sum and the activation behind it can no longer be fused into it. Let a group
between the two have n channels. It gets n' > n, the next multiple of 16, by channels of zeros,

    group j: [x(1) ... x(n)]  ->  [x(1) ... x(n), 0 ... 0],

and the shuffle, a Gather, the same at its other end: its real channels in their order within each group, then those
of zeros. Every convolution reads what it read before, and zeros times zeros.

It fires for a grouped Conv, activations, a Gather of every channel once, and what ``channel_search`` finds behind
it, if

1.  other than a multiple of 16 channels are in a group, and filling them adds at most a quarter;
2.  the first convolution reads, and the last one makes, whole blocks in each group, so that both are freed by it.

It must not fire

10. where makers and readers cannot change, or the readers' groups are others;
11. where filling adds more: at a third more arithmetic it was measured to lose;
12. for groups that are wrong on their other side: they would stay in plain rows with more to do.
"""

import numpy as np
import onnx_ir as ir

from cnnport.graphs.channel.channel_search import selected
from cnnport.graphs.channel.movement import Numbers
from cnnport.graphs.channel.rechannel import CannotSelectError, Constant, Edit, Scope, apply
from cnnport.graphs.journal import refused, title
from cnnport.graphs.values import constant, drop_unused, fresh_names, opset_of, static

_BLOCK = 16
_LARGEST_SHARE = 0.25


def align_groups(model: ir.Model) -> int:
    """Fill the groups around a channel shuffle to whole blocks of 16 with zeros.

    Args:
        model: Changed in place; only the main graph.

    Returns:
        The number of shuffles whose groups were filled.
    """
    if opset_of(model) < 7:
        return 0
    if not any(map(_is_shuffle, model.graph)):
        return 0
    scope = Scope(model, fresh_names(model))
    return sum(_fill(node, scope) for node in list(model.graph) if _is_shuffle(node))


def _is_shuffle(node: ir.Node) -> bool:
    if node.domain or node.op_type != "Gather" or node.attributes.get_int("axis", 0) not in {1, -3}:
        return False
    order, channels = constant(node.inputs[1]), static(node.inputs[0], 1)
    if order is None or channels is None or len(order.shape) != 1:
        return False
    return sorted(order.numpy().tolist()) == list(range(channels))


def _fill(gather: ir.Node, scope: Scope) -> bool:
    source, given = gather.inputs[0], gather.inputs[1]
    order = constant(given)
    assert source is not None
    assert given is not None
    assert order is not None
    try:
        selection, groups = _filling(source, len(order.numpy()))
        if (selection >= 0).all():
            return False
        edits = selected({source: selection, gather.outputs[0]: selection}, scope, {gather})
        _check_blocks(edits, groups)
    except CannotSelectError as error:
        refused(gather, str(error))
        return False
    filled = _filled_order(order.numpy(), selection, groups)
    apply(edits, scope)
    _reorder(gather, filled, scope)
    drop_unused(scope.graph, [given])
    return True


def _filling(source: ir.Value, channels: int) -> tuple[Numbers, int]:
    """The channels of a grouped convolution in whole blocks a group, and the number of groups."""
    if len(source.uses()) != 1:
        raise CannotSelectError(f"{source.name} is used elsewhere too")
    maker = _grouped_maker(source)
    if static(maker.outputs[0], 1) != channels:
        raise CannotSelectError(f"{title(maker)} has other channels than are shuffled")
    groups = maker.attributes.get_int("group", 1)
    size = channels // groups
    missing = -size % _BLOCK
    if missing > _LARGEST_SHARE * size:
        raise CannotSelectError(f"{size} channels a group would become {size + missing}")
    rows = np.arange(channels).reshape(groups, size)
    return np.pad(rows, ((0, 0), (0, missing)), constant_values=-1).reshape(-1), groups


def _grouped_maker(value: ir.Value) -> ir.Node:
    """The grouped convolution at the head of a chain of operators with one input that is computed."""
    node = value.producer()
    while node is not None and node.op_type != "Conv":
        first = node.inputs[0] if node.inputs else None
        node = None if first is None else first.producer()
    if node is None or node.attributes.get_int("group", 1) == 1:
        raise CannotSelectError("no grouped convolution stands before it")
    return node


def _check_blocks(edits: list[Edit], groups: int) -> None:
    """Whether the convolutions on both sides fill whole blocks of each group at their other end too."""
    convs = (edit.node for edit in edits if isinstance(edit, Constant) and edit.node.op_type == "Conv")
    for node in dict.fromkeys(convs):
        kernel = constant(node.inputs[1])
        own = node.attributes.get_int("group", 1)
        if kernel is None or own == kernel.shape.numpy()[0]:
            continue
        makes, reads = (int(size) for size in kernel.shape.numpy()[:2])
        # One end is filled by this very rewrite; the other has to be whole already.
        if own != groups or (reads % _BLOCK and makes // own % _BLOCK):
            raise CannotSelectError(f"{title(node)} has other than whole blocks in its groups")


def _filled_order(order: Numbers, selection: Numbers, groups: int) -> Numbers:
    """Where each channel behind the shuffle comes from, when zeros were added on both sides."""
    place = np.empty(len(order), np.int64)
    place[selection[selection >= 0]] = np.flatnonzero(selection >= 0)
    zeros = np.flatnonzero(selection < 0).reshape(groups, -1)
    return np.concatenate([place[order].reshape(groups, -1), zeros], axis=1).reshape(-1)


def _reorder(gather: ir.Node, order: Numbers, scope: Scope) -> None:
    name = scope.fresh(f"{gather.inputs[1].name}_ch" if gather.inputs[1] is not None else "order")
    value = ir.Value(
        name=name,
        type=ir.TensorType(ir.DataType.INT64),
        shape=ir.Shape(order.shape),
        const_value=ir.Tensor(order, name=name),
    )
    scope.graph.register_initializer(value)
    gather.replace_input_with(1, value)
