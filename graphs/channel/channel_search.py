"""Which channels a value has, and in what order: changed where they are made and where they are read.

A selection lists, for each channel that a value shall have, the channel that it had before, or -1 for a new one
of zeros. With rows W[c] of the convolution that makes the channels, and columns W[:, c] of the one that reads
them,

    y[s] = W[s] x + b[s]          a maker takes a selection along its output channels,
    W[:, s] x[s] = W x            a reader along its input channels, where every channel is selected once,

and what lies between, one channel at a time, follows: activations, pooling, depthwise convolutions, batch norms,
constants for each channel, sums and products of values that then all take the same selection. New channels are 0
where they are made, and are read with weights of 0, so what lies between may make of them what it likes, as long as
it is finite. Only numbers move, none is computed: the result is exact.
"""

from collections import deque
from collections.abc import Collection, Iterator, Mapping
from itertools import accumulate, pairwise

import numpy as np
import onnx_ir as ir

from cnnport.graphs.affine import Array
from cnnport.graphs.channel.movement import Numbers
from cnnport.graphs.channel.rechannel import CannotSelectError, Channels, Constant, Edit, Scope, Taking, take
from cnnport.graphs.elementwise import ELEMENTWISE
from cnnport.graphs.fold.channels import channel_repeat
from cnnport.graphs.journal import title
from cnnport.graphs.values import constant, rank, static

_BINARY = frozenset({"Add", "Div", "Mul", "Sub"})
_POOLS = frozenset({"AveragePool", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "LpPool", "MaxPool"})
_BATCHNORM_FILLS = {1: 0.0, 2: 0.0, 3: 0.0, 4: 1.0}


def selected(
    wanted: Mapping[ir.Value, Numbers], scope: Scope, outside: Collection[ir.Node] = ()
) -> list[Edit]:
    """What gives values other channels, through all that makes and reads them, and leaves every result as it is.

    Args:
        wanted: The selection of each value, in which every old channel is once. One that changes nothing keeps its
            value from being changed by the others.
        scope: The graph.
        outside: Nodes that are not looked at: the caller answers for them, and for the values in ``wanted`` only.

    Raises:
        CannotSelectError: If that is not possible; with what was found until then.
    """
    search = _Search(scope, outside)
    try:
        for value, selection in wanted.items():
            search.put(value, selection)
        search.run()
    except CannotSelectError as error:
        error.tied = search.found
        raise
    return search.edits


class _Search:
    """From value to value, until everything that is tied to the first ones is found."""

    def __init__(self, scope: Scope, outside: Collection[ir.Node]) -> None:
        self.edits: list[Edit] = []
        self.found: dict[ir.Value, Numbers] = {}
        self._scope = scope
        self._outside = outside
        self._waiting: deque[ir.Value] = deque()
        self._tied: set[ir.Node] = set()

    def put(self, value: ir.Value | None, selection: Numbers) -> None:
        """Take up a value, or find it again."""
        count = static(value, 1)
        if value is None or count is None:
            raise CannotSelectError("the file does not say how many channels there are")
        known = self.found.get(value)
        if known is not None:
            if known is not selection and not np.array_equal(known, selection):
                raise CannotSelectError(f"{value.name} would need two orders of its channels")
            return
        self.found[value] = selection
        if len(selection) == count and bool((selection == np.arange(count)).all()):
            return
        if not value.uses() or not self._scope.is_private(value):
            raise CannotSelectError(f"{value.name} is given out")
        self._waiting.append(value)

    def run(self) -> None:
        """Follow every value to its maker and its readers."""
        wanted = set(self.found)
        while self._waiting:
            value = self._waiting.popleft()
            node = value.producer()
            beside = {node, *(reader for reader, _ in value.uses())}
            if value not in wanted and not beside.isdisjoint(self._outside):
                raise CannotSelectError(
                    f"{value.name} is tied to what changes, and would have to change with it"
                )
            if node is None or node.graph is not self._scope.graph:
                raise CannotSelectError(f"{value.name} is not made in this graph")
            is_depthwise = node.op_type == "Conv" and _is_depthwise(node)
            self.edits.append(Channels(value, len(self.found[value]), is_depthwise))
            if node not in self._outside:
                self._made(node, value)
            for reader, index in value.uses():
                if reader not in self._outside:
                    self._read(reader, index, value)

    def _made(self, node: ir.Node, value: ir.Value) -> None:
        selection = self.found[value]
        if node.domain or value.index() != 0:
            raise CannotSelectError(f"{value.name} is not made by an operator with one output")
        if node.op_type == "Conv" and not _is_depthwise(node):
            _check_groups(node, selection)
            self.edits += _rows(node, selection)
        elif node.op_type == "Concat":
            self._take_apart(node, selection)
        else:
            self._tie(node, selection, is_input=False)

    def _read(self, node: ir.Node, index: int, value: ir.Value) -> None:
        selection = self.found[value]
        if node.domain or len([each for each in node.inputs if each is value]) != 1:
            raise CannotSelectError(f"{title(node)} reads {value.name} in another way")
        if node.op_type == "Concat":
            self._join(node, index, selection)
        elif index != 0 and node.op_type not in _BINARY:
            raise CannotSelectError(f"{title(node)} reads {value.name} in another way")
        elif node.op_type == "Conv" and not _is_depthwise(node):
            self.edits.append(_columns(node, selection))
        elif node.op_type in {"Gemm", "MatMul"}:
            self.edits.append(_matrix_rows(node, selection))
        else:
            self._tie(node, selection, is_input=True)

    def _join(self, concat: ir.Node, index: int, selection: Numbers) -> None:
        if concat in self._tied:
            return
        self._tied.add(concat)
        edges = _edges(concat)
        for other, (start, stop) in enumerate(pairwise(edges)):
            if other != index:
                self.put(concat.inputs[other], np.arange(stop - start))
        own = np.where(selection < 0, -1, selection + edges[index])
        before, after = np.arange(edges[index]), np.arange(edges[index + 1], edges[-1])
        self.put(concat.outputs[0], np.concatenate([before, own, after]))

    def _take_apart(self, concat: ir.Node, selection: Numbers) -> None:
        if concat in self._tied:
            return
        self._tied.add(concat)
        for part, own in zip(concat.inputs, _parts(concat, selection), strict=True):
            self.put(part, own)

    def _tie(self, node: ir.Node, selection: Numbers, *, is_input: bool) -> None:
        """An operator that works on each channel alone: what it reads and makes has the same selection."""
        if node in self._tied:
            return
        self._tied.add(node)
        repeat = 1
        if node.op_type == "Conv":
            self.edits += _rows(node, selection)
            self.put(node.inputs[0], selection)
        elif node.op_type in _BINARY:
            for index, operand in enumerate(node.inputs):
                if constant(operand) is not None:
                    self.edits += _operand(node, index, selection)
                elif not _is_spread(node, operand):
                    self.put(operand, selection)
        else:
            repeat, edits = _through(node, selection, self._scope)
            self.edits += edits
            if repeat != 1 and not is_input:
                raise CannotSelectError(f"{title(node)} makes several features of a channel")
            self.put(node.inputs[0], selection)
        self.put(node.outputs[0], _repeated(selection, repeat))


def _through(node: ir.Node, selection: Numbers, scope: Scope) -> tuple[int, list[Edit]]:
    """How many features each channel becomes, and the constants that change."""
    kind = node.op_type
    if any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
        raise CannotSelectError(f"{title(node)} has several outputs")
    if kind in ELEMENTWISE or kind in _POOLS:
        return 1, []
    if kind == "BatchNormalization":
        for index in _BATCHNORM_FILLS:
            _require_constant(node, index)
        fills = _BATCHNORM_FILLS.items()
        return 1, [Constant(node, index, Taking(0, selection, fill)) for index, fill in fills]
    if kind == "PRelu":
        return 1, list(_operand(node, 1, selection))
    repeat = channel_repeat(node, scope.opset)
    if repeat is None:
        raise CannotSelectError(f"{title(node)} does not work on each channel alone")
    is_resized = len(selection) != static(node.inputs[0], 1)
    if is_resized and kind == "Reshape":
        raise CannotSelectError(f"{title(node)} fixes the number of channels")
    return repeat, []


def _operand(node: ir.Node, index: int, selection: Numbers) -> Iterator[Edit]:
    """A constant operand of an elementwise operator: one number, or one for each channel."""
    tensor = constant(node.inputs[index])
    dims = rank(node.outputs[0])
    others = [rank(each) for place, each in enumerate(node.inputs) if place != index]
    if tensor is None or dims is None or dims not in others:
        raise CannotSelectError(f"the file does not say how {title(node)} meets its constant")
    shape = tuple(int(size) for size in tensor.shape.numpy())
    axis = len(shape) - dims + 1
    if axis < 0 or shape[axis] == 1:
        return
    # A division by the 0 of a new channel would make it infinite, and infinity times 0 is no number.
    yield Constant(node, index, Taking(axis, selection, 1.0 if node.op_type == "Div" else 0.0))


def _is_spread(node: ir.Node, operand: ir.Value | None) -> bool:
    """Whether a computed operand has one channel that meets all of the others."""
    dims = rank(node.outputs[0])
    if dims is None or rank(operand) != dims:
        raise CannotSelectError(f"{title(node)} joins values of different numbers of dimensions")
    if node.op_type == "Div":
        raise CannotSelectError(f"{title(node)} could divide by a new channel")
    return static(operand, 1) == 1 and static(node.outputs[0], 1) != 1


def _rows(conv: ir.Node, selection: Numbers) -> Iterator[Edit]:
    for index in (1, 2):
        if len(conv.inputs) > index and conv.inputs[index] is not None:
            _require_constant(conv, index)
            yield Constant(conv, index, Taking(0, selection))


def _parts(concat: ir.Node, selection: Numbers) -> list[Numbers]:
    """The selection of each input of a Concat; new channels belong to the input whose channels they follow."""
    edges = np.array(_edges(concat))
    owner = np.searchsorted(edges, selection, side="right") - 1
    owner = np.maximum.accumulate(np.where(selection < 0, 0, owner))
    if (edges[owner] > np.where(selection < 0, edges[-1], selection)).any():
        raise CannotSelectError(f"channels would move between the inputs of {title(concat)}")
    parts = [selection[owner == index] for index in range(len(concat.inputs))]
    return [np.where(part < 0, -1, part - edges[index]) for index, part in enumerate(parts)]


def _edges(concat: ir.Node) -> list[int]:
    """Where each input of a Concat begins among the channels, and where the last one ends."""
    widths = [static(each, 1) for each in concat.inputs]
    known = [width for width in widths if width is not None]
    is_channels = concat.attributes.get_int("axis", 0) in {1, -3} and rank(concat.outputs[0]) == 4
    if not is_channels or len(known) != len(widths):
        raise CannotSelectError(f"{title(concat)} does not join known numbers of channels")
    return list(accumulate(known, initial=0))


def _columns(conv: ir.Node, selection: Numbers) -> Constant:
    _require_constant(conv, 1)
    groups = conv.attributes.get_int("group", 1)
    if groups == 1:
        return Constant(conv, 1, Taking(1, selection))
    channels = static(conv.inputs[0], 1)
    if channels is None or len(selection) % groups:
        raise CannotSelectError(f"{title(conv)} has groups that the selection does not keep")
    each = channels // groups
    parts = selection.reshape(groups, -1)
    own = (parts // each == np.arange(groups)[:, None]) | (parts < 0)
    if not own.all():
        raise CannotSelectError(f"{title(conv)} would read channels of another group")
    local = np.where(parts < 0, -1, parts % each)

    def change(weights: Array) -> Array:
        grouped = weights.reshape(groups, -1, *weights.shape[1:])
        taken = [take(block, order, 1) for block, order in zip(grouped, local, strict=True)]
        return np.concatenate(taken, axis=0)

    return Constant(conv, 1, change)


def _matrix_rows(node: ir.Node, selection: Numbers) -> Constant:
    _require_constant(node, 1)
    is_plain = node.op_type == "MatMul" or not node.attributes.get_int("transA", 0)
    if not is_plain or rank(node.inputs[0]) != 2 or rank(node.inputs[1]) != 2:
        raise CannotSelectError(f"{title(node)} is no product of a batch of rows and a matrix")
    transposed = node.op_type == "Gemm" and bool(node.attributes.get_int("transB", 0))
    return Constant(node, 1, Taking(1 if transposed else 0, selection))


def _repeated(selection: Numbers, times: int) -> Numbers:
    if times == 1:
        return selection
    inner = np.arange(times)
    wide = np.where(selection[:, None] < 0, -1, selection[:, None] * times + inner)
    return wide.reshape(-1)


def _check_groups(conv: ir.Node, selection: Numbers) -> None:
    groups = conv.attributes.get_int("group", 1)
    if groups == 1:
        return
    outputs = static(conv.outputs[0], 1)
    if outputs is None or len(selection) % groups:
        raise CannotSelectError(f"{title(conv)} has groups that the selection does not keep")
    parts = selection.reshape(groups, -1)
    if not ((parts // (outputs // groups) == np.arange(groups)[:, None]) | (parts < 0)).all():
        raise CannotSelectError(f"{title(conv)} would make channels of another group")


def _is_depthwise(conv: ir.Node) -> bool:
    """One group for each channel, and one channel out of each."""
    groups = conv.attributes.get_int("group", 1)
    if groups <= 1 or len(conv.inputs) < 2:
        return False
    weights = constant(conv.inputs[1])
    return weights is not None and tuple(weights.shape.numpy()[:2]) == (groups, 1)


def _require_constant(node: ir.Node, index: int) -> None:
    if len(node.inputs) <= index or constant(node.inputs[index]) is None:
        raise CannotSelectError(f"input {index} of {title(node)} is not constant")
