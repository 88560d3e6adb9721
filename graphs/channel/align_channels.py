"""Channels in multiples of 16, by channels of zeros, where runtimes keep blocks of channels together.

ONNX Runtime's CPU kernels and oneDNN hold 8 or 16 channels of a pixel side by side (``nChw16c``), TensorRT 8 to 32.
A convolution whose channels do not fill the blocks, and a Concat or Split at another place than a block's edge, makes
them convert to plain rows and back. A new channel of zeros changes nothing,

    sum over c of W[c] x[c] + 0 * anything,

and costs nothing where the last block was not full: its kernels compute the whole block anyhow.

A Split behind a convolution cuts blocks as well. It becomes one convolution for each part, with its rows of the
weights: the same products, and no cut.

It fires for

1.  Conv with constant weights, and activations behind it, followed by Split: one Conv for each part;
2.  Conv with other than a multiple of 16 output channels whose readers, through activations, pooling, depthwise
    convolutions, Concat and residual sums, are all convolutions or matrix products with constant weights; what a
    residual sum ties together gets its zeros together, as do a squeeze-and-excitation gate and what it scales.

It must not fire

10. where ``channel_search`` cannot change makers and readers: outputs of the graph, operators across channels;
11. for fewer than 16 channels, or where it would add more than a third to them; a Split with such a part stays
    whole, since one part in plain rows brings the Concat that joins it with others out of the blocks;
12. in groups, other than depthwise.
"""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from cnnport.graphs.channel.channel_search import selected
from cnnport.graphs.channel.movement import Numbers
from cnnport.graphs.channel.rechannel import (
    CannotSelectError,
    Constant,
    Scope,
    Taking,
    apply,
    postponed,
)
from cnnport.graphs.journal import refused
from cnnport.graphs.values import constant, drop_unused, fresh_names, opset_of, static

_BLOCK = 16
_LARGEST_SHARE = 0.34
_ACTIVATIONS = frozenset({"Clip", "HardSigmoid", "HardSwish", "LeakyRelu", "Relu", "Sigmoid", "Tanh"})


_Tied = dict[ir.Value, tuple[Numbers, str]]
"""Of values that would have to change together and cannot: the selection of each, and why not."""


def align_channels(model: ir.Model) -> int:
    """Fill blocks of 16 channels with zeros, and split convolutions rather than their results.

    Args:
        model: Changed in place; only the main graph.

    Returns:
        The number of values that got other channels or are no longer cut.
    """
    if opset_of(model) < 7:
        return 0
    if not any(_is_split(node) or _missing(node) for node in model.graph):
        return 0
    scope = Scope(model, fresh_names(model))
    done = 0
    with postponed(scope):
        for node in list(model.graph):
            if _is_split(node):
                done += _split_maker(node, scope)
        # Where convolutions are tied together and cannot change, it takes one search to find out.
        tied: _Tied = {}
        for node in list(model.graph):
            done += _pad(node, scope, tied)
    return done


def _is_split(node: ir.Node) -> bool:
    return not node.domain and node.op_type == "Split"


def _missing(node: ir.Node) -> int:
    """How many channels a convolution's last block wants, where it pays to fill it; 0 where not."""
    if node.domain or node.op_type != "Conv":
        return 0
    count = static(node.outputs[0], 1)
    if count is None or count % _BLOCK == 0 or node.attributes.get_int("group", 1) != 1:
        return 0
    missing = -count % _BLOCK
    return 0 if missing > _LARGEST_SHARE * count else missing


def _pad(node: ir.Node, scope: Scope, tied: _Tied) -> int:
    """Fill the last block of a convolution; ``tied`` remembers what cannot be filled, as long as nothing changes."""
    missing = _missing(node)
    if not missing:
        return 0
    value = node.outputs[0]
    selection = np.concatenate([np.arange(static(value, 1) or 0), np.full(missing, -1)])
    known, reason = tied.get(value, (None, ""))
    if known is not None and np.array_equal(known, selection):
        refused(node, reason)
        return 0
    try:
        edits = selected({value: selection}, scope)
    except CannotSelectError as error:
        refused(node, str(error))
        tied.update({each: (found, str(error)) for each, found in error.tied.items()})
        return 0
    apply(edits, scope)
    tied.clear()
    return 1


def _split_maker(split: ir.Node, scope: Scope) -> int:
    """Convolution, activations, Split: a convolution and activations for each part, or for a few small ones."""
    source = split.inputs[0]
    axis = split.attributes.get_int("axis", 0)
    widths = [static(output, 1) for output in split.outputs]
    known = [width for width in widths if width is not None]
    if source is None or axis not in {1, -3} or len(known) != len(widths) or min(known) < 1:
        return 0
    try:
        chain = list(_chain(source, scope))
        groups = _blocks(known)
        _check_filling([sum(known[index] for index in group) for group in groups])
        # Decided before anything is done, for all together: whoever reads a part can read its whole block.
        edits = selected(_selections(split, known, groups), scope, {split})
    except CannotSelectError as error:
        refused(split, str(error))
        return 0
    if not all(scope.is_private(part) for part in split.outputs):
        refused(split, "a part is given out")
        return 0
    apply(edits, scope)
    starts = np.cumsum([0, *known])
    for group in groups:
        rows = np.arange(starts[group[0]], starts[group[-1] + 1])
        made = _part(chain, split.outputs[group[0]], rows, scope)
        for index in group:
            split.outputs[index].replace_all_uses_with(made)
    conv = chain[-1]
    constants = [value for node in (split, conv) for value in node.inputs[1:] if value is not None]
    for node in (split, *chain):
        scope.graph.remove(node, safe=True)
    drop_unused(scope.graph, constants)
    return 1


def _selections(split: ir.Node, widths: list[int], groups: list[list[int]]) -> dict[ir.Value, Numbers]:
    """Of every part that somebody reads, its channels among those of its block."""
    return {
        split.outputs[index]: _within(widths, group, index)
        for group in groups
        for index in group
        if split.outputs[index].uses()
    }


def _blocks(widths: list[int]) -> list[list[int]]:
    """Neighbouring parts, those put together that are too small for a block of their own."""
    groups: list[list[int]] = []
    for index in range(len(widths)):
        if groups and sum(widths[each] for each in groups[-1]) < _BLOCK * 3 // 4:
            groups[-1].append(index)
        else:
            groups.append([index])
    if len(groups) > 1 and sum(widths[each] for each in groups[-1]) < _BLOCK * 3 // 4:
        groups[-2:] = [groups[-2] + groups[-1]]
    return groups


def _check_filling(counts: list[int]) -> None:
    for count in counts:
        if -count % _BLOCK > _LARGEST_SHARE * count:
            raise CannotSelectError(f"{count} channels would be too few for the blocks that they get")


def _within(widths: list[int], group: list[int], index: int) -> Numbers:
    """One part among those that it was put together with."""
    parts = [np.arange(widths[each]) if each == index else np.full(widths[each], -1) for each in group]
    return np.concatenate(parts)


def _chain(source: ir.Value, scope: Scope) -> Iterator[ir.Node]:
    """From a Split's input up to the convolution, that one last."""
    value = source
    while True:
        node = value.producer()
        if node is None or node.domain or not scope.is_private(value) or len(value.uses()) != 1:
            raise CannotSelectError(f"{value.name} is used elsewhere too")
        yield node
        if node.op_type == "Conv":
            is_constant = all(constant(each) is not None for each in node.inputs[1:] if each is not None)
            if not is_constant or node.attributes.get_int("group", 1) != 1:
                raise CannotSelectError("the convolution has groups, or computed weights")
            return
        if node.op_type not in _ACTIVATIONS or node.inputs[0] is None:
            raise CannotSelectError(f"{node.op_type} is no activation")
        value = node.inputs[0]


def _part(chain: list[ir.Node], output: ir.Value, rows: Numbers, scope: Scope) -> ir.Value:
    """The chain once more, for some rows of its convolution; its result."""
    conv = chain[-1]
    value: ir.Value | None = conv.inputs[0]
    for node in reversed(chain):
        inputs = [value, *node.inputs[1:]]
        made = ir.node(
            node.op_type,
            inputs,
            dict(node.attributes.items()),
            name=scope.fresh(f"{node.name or node.op_type}_part"),
        )
        value = made.outputs[0]
        value.name, value.type = scope.fresh(f"{output.name}_part"), output.type
        if output.shape is not None:
            value.shape = ir.Shape(
                [len(rows) if axis == 1 else size for axis, size in enumerate(output.shape)]
            )
        scope.graph.insert_before(chain[0], made)
        if node is conv:
            edits = [
                Constant(made, index, Taking(0, rows))
                for index, each in enumerate(made.inputs)
                if index > 0 and each is not None
            ]
            apply(edits, scope)
    assert value is not None
    return value
