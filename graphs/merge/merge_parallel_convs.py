"""Parallel convolutions of one value as one convolution, cut into their results behind it.

Convolutions of the same kernel size, stride, dilation and padding on one x differ in their rows only:

    [W_1; W_2] * x + [b_1; b_2] = concat(W_1 * x + b_1, W_2 * x + b_2),

so that one convolution and a Split on the channel axis compute all of them (Inception's 1 x 1 reductions; the
projection of a shortcut next to the first 1 x 1 convolution of a bottleneck with the same stride). An activation that
works on every number by itself and stands behind all of them goes in front of the Split. No number is computed: rows
are put together, a missing bias is one of zeros. x is read once; but the Split copies its parts, and where a runtime
keeps blocks of channels together, it converts them as well. ``align_channels`` does the opposite where a Split costs
more than it saves: the two must not run on one target.

It fires for

1.  two or more Conv on one value, in no groups, with constant weights, with a bias or none, also mixed;
2.  with activations behind them, as many as are the same behind all, by operator, attributes and constants;
3.  results that meet again in a Concat on axis 1: neighbours there stay together, and need no Split of their own. If
    they are all, there is no Split;
4.  results that are outputs of the graph, are read several times or are captured by a subgraph: they keep names;
5.  weights that other nodes use too: the merged convolution has its own.

It must not fire

10. if kernel sizes, strides, dilations, paddings or types differ;
11. for groups: the groups of one convolution lie next to each other, so those of two cannot be one's;
12. for weights or biases that are computed, quantised or may be overridden by a caller;
13. within subgraphs and functions.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from cnnport.graphs.affine import CannotFoldError, weights
from cnnport.graphs.merge.branches import Reading
from cnnport.graphs.merge.convolution import Geometry, geometry_of
from cnnport.graphs.splice import initializer, stand_in
from cnnport.graphs.values import constant, drop_unused, fresh_names, rank

_ACTIVATIONS = frozenset(
    {
        *("Celu", "Clip", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "Relu", "Selu"),
        *("Sigmoid", "Softplus", "Softsign", "Swish", "Tanh", "ThresholdedRelu"),
    }
)


@dataclass(frozen=True)
class _Scope:
    reading: Reading
    graph: ir.Graph
    fresh: Callable[[str], str]


@dataclass(frozen=True)
class _Part:
    """Results that stay together.

    Attributes:
        members: Their places among the convolutions, in the order of their rows.
        concat: The Concat in which several of them are neighbours; None for one on its own.
    """

    members: tuple[int, ...]
    concat: ir.Node | None = None


def merge_parallel_convs(model: ir.Model) -> int:
    """Merge convolutions of one value and one geometry into one, with a Split behind it.

    Args:
        model: Changed in place; only the main graph.

    Returns:
        The number of convolutions that are gone.
    """
    scope = _Scope(Reading(model), model.graph, fresh_names(model))
    if scope.reading.opset < 7 or model.ir_version < 4:
        return 0
    groups: dict[Hashable, list[ir.Node]] = {}
    for node in model.graph:
        kind = None if node.domain or node.op_type != "Conv" else _kind(node)
        if kind is not None:
            groups.setdefault((node.inputs[0], kind), []).append(node)
    merged = [group for group in groups.values() if len(group) > 1]
    for group in merged:
        _merge(group, scope)
    return sum(len(group) - 1 for group in merged)


def _kind(conv: ir.Node) -> Geometry | None:
    """What has to be equal; None for a convolution that cannot be merged."""
    try:
        geometry = geometry_of(conv)
    except CannotFoldError:
        return None
    return replace(geometry, outputs=0) if geometry.group == 1 else None


def _merge(convs: Sequence[ir.Node], scope: _Scope) -> None:
    places = {node: place for place, node in enumerate(scope.graph)}
    layers = list(_common_activations(convs, scope.reading))
    results = [node.outputs[0] for node in (layers[-1] if layers else convs)]
    parts = list(_parts(results, scope.reading))
    order = [member for part in parts for member in part.members]
    widths = [geometry_of(conv).outputs for conv in convs]
    value = _stacked([convs[member] for member in order], convs[0], sum(widths), scope)
    last = convs[0]
    for layer in layers:
        # The first in the graph has its constants above it, and whatever reads the results below.
        last = min(layer, key=places.__getitem__)
        value = _copy(last, [value, *last.inputs[1:]], last, sum(widths), scope)
    if len(parts) == 1:
        pieces = [value]
    else:
        counts = [sum(widths[member] for member in part.members) for part in parts]
        pieces = _split(value, counts, last, scope)
    _hand_over(parts, pieces, results, scope.graph)
    gone = [*convs, *(node for layer in layers for node in layer)]
    constants = [each for node in gone for each in node.inputs[1:] if each is not None]
    scope.graph.remove(gone, safe=True)
    drop_unused(scope.graph, constants)


def _common_activations(convs: Sequence[ir.Node], reading: Reading) -> Iterator[list[ir.Node]]:
    """The activations behind all convolutions, layer after layer, as far as they are the same."""
    values = [conv.outputs[0] for conv in convs]
    while all(reading.is_private(value) for value in values):
        uses = [next(iter(value.uses())) for value in values]
        kinds = {_signature(use.node) if use.idx == 0 else None for use in uses}
        if len(kinds) > 1 or None in kinds:
            return
        layer = [use.node for use in uses]
        yield layer
        values = [node.outputs[0] for node in layer]


def _signature(node: ir.Node) -> Hashable:
    """What tells an activation from another one; None for what is none, or is not the same for every channel."""
    is_plain = not any(attribute.is_ref() for attribute in node.attributes.values())
    if node.domain or node.op_type not in _ACTIVATIONS or not is_plain:
        return None
    tensors = [(value, constant(value)) for value in node.inputs[1:]]
    if any(value is not None and (tensor is None or tensor.size != 1) for value, tensor in tensors):
        return None
    numbers = tuple(None if tensor is None else (tensor.dtype, tensor.tobytes()) for _, tensor in tensors)
    attributes = sorted((name, str(attribute.value)) for name, attribute in node.attributes.items())
    return node.op_type, tuple(attributes), numbers


def _parts(results: Sequence[ir.Value], reading: Reading) -> Iterator[_Part]:
    places: dict[tuple[ir.Node, int], int] = {}
    spots: dict[int, tuple[ir.Node, int]] = {}
    for member, value in enumerate(results):
        use = next(iter(value.uses())) if reading.is_private(value) else None
        if (
            use is not None
            and not use.node.domain
            and use.node.op_type == "Concat"
            and _joins_channels(use.node)
        ):
            places[use.node, use.idx] = member
            spots[member] = use.node, use.idx
    seen: set[int] = set()
    for member in range(len(results)):
        if member in seen:
            continue
        members, concat = [member], None
        if member in spots:
            concat, index = spots[member]
            while (concat, index - 1) in places:
                index -= 1
            members = []
            while (concat, index) in places:
                members.append(places[concat, index])
                index += 1
        seen.update(members)
        yield _Part(tuple(members), concat if len(members) > 1 else None)


def _joins_channels(concat: ir.Node) -> bool:
    axis, dims = concat.attributes.get_int("axis", 0), rank(concat.outputs[0])
    return axis == 1 or (dims is not None and axis + dims == 1)


def _stacked(convs: Sequence[ir.Node], before: ir.Node, channels: int, scope: _Scope) -> ir.Value:
    """One convolution with the rows of all, in this order; its output."""
    geometry = geometry_of(convs[0])
    kernels = [weights(conv, 1, geometry.dtype) for conv in convs]
    biases = [
        weights(conv, 2, geometry.dtype) if len(conv.inputs) > 2 and conv.inputs[2] is not None else None
        for conv in convs
    ]
    value = convs[0].inputs[1]
    assert value is not None
    name = f"{value.name}_merged"
    inputs = [convs[0].inputs[0], initializer(np.concatenate(kernels), scope.fresh(name), scope.graph)]
    if any(bias is not None for bias in biases):
        rows = [
            np.zeros(len(kernel), kernel.dtype) if bias is None else bias
            for kernel, bias in zip(kernels, biases, strict=True)
        ]
        inputs.append(initializer(np.concatenate(rows), scope.fresh(f"{name}_bias"), scope.graph))
    return _copy(convs[0], inputs, before, channels, scope)


def _copy(
    node: ir.Node, inputs: Sequence[ir.Value | None], before: ir.Node, channels: int, scope: _Scope
) -> ir.Value:
    """The same operator on more channels; its output."""
    made = ir.node(node.op_type, inputs, dict(node.attributes.items()))
    output, old = made.outputs[0], node.outputs[0]
    made.name = scope.fresh(f"{node.name or node.op_type}_merged")
    output.name, output.type = scope.fresh(f"{old.name}_merged"), old.type
    if old.shape is not None:
        output.shape = ir.Shape([channels if axis == 1 else size for axis, size in enumerate(old.shape)])
    scope.graph.insert_before(before, made)
    return output


def _split(value: ir.Value, counts: Sequence[int], before: ir.Node, scope: _Scope) -> list[ir.Value]:
    inputs, attributes = [value], [ir.AttrInt64("axis", 1)]
    if scope.reading.opset >= 13:
        sizes = np.array(counts, np.int64)
        inputs.append(initializer(sizes, scope.fresh(f"{value.name}_sizes"), scope.graph))
    else:
        attributes.append(ir.AttrInt64s("split", counts))
    split = ir.Node("", "Split", inputs, attributes, num_outputs=len(counts))
    split.name = scope.fresh(f"{value.name}_split")
    for piece, count in zip(split.outputs, counts, strict=True):
        piece.name, piece.type = scope.fresh(f"{value.name}_part"), value.type
        if value.shape is not None:
            piece.shape = ir.Shape([count if axis == 1 else size for axis, size in enumerate(value.shape)])
    scope.graph.insert_before(before, split)
    return list(split.outputs)


def _hand_over(
    parts: Sequence[_Part], pieces: Sequence[ir.Value], results: Sequence[ir.Value], graph: ir.Graph
) -> None:
    """Make the readers of the results read the pieces."""
    replaced: dict[ir.Node, dict[ir.Value, ir.Value | None]] = {}
    for part, piece in zip(parts, pieces, strict=True):
        first, *others = (results[member] for member in part.members)
        if part.concat is None:
            stand_in(piece, first)
        else:
            replaced.setdefault(part.concat, {}).update({first: piece, **dict.fromkeys(others)})
    for concat, known in replaced.items():
        inputs = [known.get(value, value) if value is not None else None for value in concat.inputs]
        kept = [value for value in inputs if value is not None]
        concat.resize_inputs(len(kept))
        for index, value in enumerate(kept):
            concat.replace_input_with(index, value)
        if len(kept) == 1:
            stand_in(kept[0], concat.outputs[0])
            graph.remove(concat, safe=True)
