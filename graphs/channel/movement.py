"""Operators that only move whole channels about: where each channel of their outputs comes from.

A channel shuffle (Zhang et al., arXiv:1707.01083, figure 1) is written as Reshape, Transpose, Reshape, in five
dimensions or three, or as a Gather; halves are taken by Split or Slice and joined by Concat. None of them
computes anything. What a chain of Reshape and Transpose does to channels is not guessed from its shapes: it is
run on numbered elements, and is a movement if and only if whole channels come out.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from cnnport.graphs.values import constant, rank, static

Numbers = npt.NDArray[np.int64]
_Labels = npt.NDArray[np.int32]

_LARGEST_LABELLING = 1 << 26
_BATCHES = (2, 3)
_MOVERS = frozenset({"Concat", "Gather", "Identity", "Reshape", "Slice", "Split", "Transpose"})

_Step = tuple[str, tuple[int, ...] | None]
"""A Transpose with its axes, or a Reshape with the sizes of its result; None for those that are not stated."""


@dataclass(frozen=True)
class Movement:
    """A value as channels of others.

    Attributes:
        sources: The values that the channels come from.
        source: For each channel, which of the sources.
        channel: For each channel, which channel of that source.
        nodes: What does it: one node, or a chain from the output up.
    """

    sources: tuple[ir.Value, ...]
    source: Numbers
    channel: Numbers
    nodes: tuple[ir.Node, ...]

    @property
    def is_straight(self) -> bool:
        """Whether it comes from one source whole and in order."""
        return len(self.sources) == 1 and bool((self.channel == np.arange(len(self.channel))).all())


def movement_of(value: ir.Value, opset: int) -> Movement | None:
    """How a value is put together from channels of other values; None if its node does more, or is not understood.

    Args:
        value: A value of four dimensions, of which all but the batch are known.
        opset: Version of the default operator set.
    """
    node = value.producer()
    if node is None or node.op_type not in _MOVERS or node.domain or rank(value) != 4:
        return None
    found: Movement | None = None
    if node.op_type == "Identity":
        found = _picked(node, None)
    elif node.op_type == "Concat":
        found = _concat(node)
    elif node.op_type == "Split":
        found = _split(node, value)
    elif node.op_type == "Slice":
        found = _slice(node, opset)
    elif node.op_type == "Gather":
        found = _gather(node)
    elif node.op_type in {"Reshape", "Transpose"}:
        found = _rearranged(value)
    return found if found is not None and len(found.channel) == static(value, 1) else None


def _picked(node: ir.Node, channels: Numbers | None) -> Movement | None:
    """The given channels of the first input; None for all of them."""
    source = node.inputs[0]
    count = static(source, 1)
    if source is None or count is None or rank(source) != 4:
        return None
    taken = np.arange(count) if channels is None else channels
    return Movement((source,), np.zeros(len(taken), np.int64), taken, (node,))


def _concat(node: ir.Node) -> Movement | None:
    sources = [source for source in node.inputs if source is not None]
    counts = [static(source, 1) for source in sources]
    widths = [count for count in counts if count is not None]
    if node.attributes.get_int("axis", 0) not in {1, -3} or len(widths) != len(node.inputs):
        return None
    source = np.repeat(np.arange(len(widths)), widths)
    channel = np.concatenate([np.arange(width) for width in widths])
    return Movement(tuple(sources), source, channel, (node,))


def _split(node: ir.Node, value: ir.Value) -> Movement | None:
    if node.attributes.get_int("axis", 0) not in {1, -3}:
        return None
    widths = [static(output, 1) for output in node.outputs]
    known = [width for width in widths if width is not None]
    if len(known) != len(widths) or sum(known) != static(node.inputs[0], 1):
        return None
    place = value.index()
    assert place is not None
    start = sum(known[:place])
    return _picked(node, np.arange(start, start + known[place]))


def _slice(node: ir.Node, opset: int) -> Movement | None:
    if opset < 10:
        starts, ends = (list(node.attributes.get_ints(name, ())) for name in ("starts", "ends"))
        axes, steps = list(node.attributes.get_ints("axes", range(len(starts)))), [1] * len(starts)
    else:
        given = [
            None if tensor is None else tensor.numpy().ravel().tolist()
            for tensor in map(constant, node.inputs[1:])
        ]
        if any(each is None for each in given[:2]) or len(given) < 2:
            return None
        starts, ends = given[0] or [], given[1] or []
        # A missing input is a default; one that is there but not constant is unknown.
        unknown = any(
            value is not None and tensor is None
            for value, tensor in zip(node.inputs[3:], given[2:], strict=True)
        )
        if unknown:
            return None
        axes = (given[2] if len(given) > 2 else None) or list(range(len(starts)))
        steps = (given[3] if len(given) > 3 else None) or [1] * len(starts)
    count = static(node.inputs[0], 1)
    if count is None or [axis % 4 for axis in axes] != [1]:
        return None
    return _picked(node, np.arange(count)[slice(_start(starts[0]), _end(ends[0], steps[0]), steps[0])])


def _start(start: int) -> int:
    return start


def _end(end: int, step: int) -> int | None:
    # Beyond the first element, going backwards, Python has no number: -1 is the last.
    return None if step < 0 and end < -(2**31) else end


def _gather(node: ir.Node) -> Movement | None:
    indices = constant(node.inputs[1])
    count = static(node.inputs[0], 1)
    if indices is None or count is None or node.attributes.get_int("axis", 0) not in {1, -3}:
        return None
    chosen = indices.numpy().astype(np.int64)
    if chosen.ndim != 1 or not len(chosen) or chosen.min() < -count or chosen.max() >= count:
        return None
    return _picked(node, chosen % count)


def _rearranged(value: ir.Value) -> Movement | None:
    """The shortest chain of Reshape and Transpose that ends here and moves whole channels."""
    nodes: list[ir.Node] = []
    for node, start in _chain(value):
        nodes.append(node)
        if rank(start) == 4 and _sizes(start)[1:] == _sizes(value)[1:]:
            order = _run_on_labels(start, nodes)
            if order is not None:
                return Movement((start,), np.zeros(len(order), np.int64), order, tuple(nodes))
    return None


def _chain(value: ir.Value) -> Iterator[tuple[ir.Node, ir.Value]]:
    """Nodes from the one that makes ``value`` upwards, each with its input; what others read ends the chain."""
    current = value
    while (node := current.producer()) is not None and not node.domain:
        if node.op_type not in {"Reshape", "Transpose"} or node.inputs[0] is None:
            return
        if current is not value and (len(current.uses()) != 1 or current.is_graph_output()):
            return
        current = node.inputs[0]
        yield node, current


def _sizes(value: ir.Value) -> list[int]:
    """The dimensions, -1 for those that the file leaves open."""
    assert value.shape is not None
    return [size if isinstance(size, int) else -1 for size in value.shape]


def _run_on_labels(start: ir.Value, nodes: list[ir.Node]) -> Numbers | None:
    """The order of channels that the nodes, last first, make; None where they do anything else."""
    # The blocks of a network shuffle alike: what is known of one holds for its like.
    return _order(tuple(_sizes(start)), tuple(map(_step, reversed(nodes))))


def _step(node: ir.Node) -> _Step:
    if node.op_type == "Transpose":
        axes = node.attributes.get_ints("perm", None)
        return node.op_type, None if axes is None else tuple(axes)
    output = node.outputs[0]
    return node.op_type, None if output.shape is None else tuple(_sizes(output))


@lru_cache(maxsize=256)
def _order(sizes: tuple[int, ...], steps: tuple[_Step, ...]) -> Numbers | None:
    _, channels, *space = sizes
    if -1 in (channels, *space) or channels * int(np.prod(space)) > _LARGEST_LABELLING:
        return None
    order: Numbers | None = None
    for batch in _BATCHES:
        count = batch * channels * int(np.prod(space))
        # The narrower type halves what is moved; the largest number of labels is far below its limit.
        labels = np.arange(count, dtype=np.int32).reshape(batch, channels, *space)
        moved: _Labels | None = labels
        for step in steps:
            moved = None if moved is None else _moved(moved, step, sizes[0])
        if moved is None or moved.shape != labels.shape:
            return None
        found = moved[0, :, 0, 0] // int(np.prod(space))
        if (
            found.max() >= channels
            or not np.array_equal(moved, labels[:, found])
            or (order is not None and (found != order).any())
        ):
            return None
        order = found.astype(np.int64)
    if order is not None:
        # It is handed out again.
        order.flags.writeable = False
    return order


def _moved(labels: _Labels, step: _Step, fixed_batch: int) -> _Labels | None:
    kind, given = step
    if kind == "Transpose":
        axes = tuple(reversed(range(labels.ndim))) if given is None else given
        return labels.transpose(axes) if len(axes) == labels.ndim else None
    if given is None:
        return None
    sizes = list(given)
    if sizes.count(-1) == 0 and fixed_batch > 0:
        # The batch is fixed in the file: the dimension that holds it holds ours instead.
        if sizes[0] % fixed_batch:
            return None
        sizes[0] = sizes[0] // fixed_batch * len(labels) if len(labels) in _BATCHES else -1
    if sizes.count(-1) > 1:
        return None
    try:
        return labels.reshape(sizes)
    except ValueError:
        return None
