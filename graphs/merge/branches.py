"""Sums, and the linear branches that they add up.

A sum is a tree of Add, Sub and Sum whose inner results nothing else reads; its terms are what the tree adds up, each
with its sign. A branch is a term as a linear map of some value further up: what lies on the way are operators that
treat every channel by itself (BatchNormalization, a constant factor or summand a channel, Identity, Dropout), and at
its far end may be one convolution or average pooling. As the way can be cut anywhere, a term is a branch of several
values: of itself as an identity, of what its BatchNormalization reads, of what its convolution reads.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from cnnport.graphs.affine import FLOATS, CannotFoldError
from cnnport.graphs.fold.channels import channel_repeat
from cnnport.graphs.fold.linear import affine_of
from cnnport.graphs.journal import title
from cnnport.graphs.merge.convolution import Geometry, average_of, geometry_of, identity
from cnnport.graphs.values import constant, drop_unused, named_in_subgraphs, opset_of

_SUMS = frozenset({"Add", "Sub", "Sum"})
_CONVOLUTIONS = frozenset({"Conv", "AveragePool"})
_FREE = frozenset({"Identity", "Dropout"})


@dataclass(frozen=True)
class Term:
    """What a sum adds or subtracts."""

    value: ir.Value
    sign: int


@dataclass(frozen=True)
class Path:
    """A term as a linear map of ``source``.

    Attributes:
        term: The term.
        source: What it is a map of.
        nodes: The operators between, the term's own first.
        gone: How many of the first ones nothing but the sum uses.
    """

    term: Term
    source: ir.Value
    nodes: tuple[ir.Node, ...]
    gone: int

    @property
    def conv(self) -> ir.Node | None:
        """The convolution at the far end."""
        return self.nodes[-1] if self.nodes and self.nodes[-1].op_type == "Conv" else None


@dataclass(frozen=True)
class Branch:
    """A path as a convolution: taps times ``scale`` a channel, the bias times ``scale`` plus ``shift``.

    Attributes:
        path: Where it comes from.
        geometry: Of the convolution, of the average or of the identity.
        scale: One factor an output channel, float64, the term's sign included.
        shift: One summand an output channel, float64.
        cost: Operations for each number of the output that are gone if the branch is.
    """

    path: Path
    geometry: Geometry
    scale: npt.NDArray[np.float64]
    shift: npt.NDArray[np.float64]
    cost: int


class Reading:
    """How a graph is read while a pass changes it."""

    def __init__(self, model: ir.Model) -> None:
        self.graph = model.graph
        self.opset = opset_of(model)
        self._captured = named_in_subgraphs(model.graph)

    def is_sum(self, node: ir.Node | None) -> bool:
        """Whether a node of the main graph adds or subtracts."""
        return node is not None and node.graph is self.graph and not node.domain and node.op_type in _SUMS

    def is_private(self, value: ir.Value) -> bool:
        """Whether exactly one node of the main graph reads the value, once, and nobody else."""
        uses = value.uses()
        return (
            len(uses) == 1
            and next(iter(uses)).node.graph is self.graph
            and not value.is_graph_output()
            and value.name not in self._captured
        )

    def is_inner(self, node: ir.Node) -> bool:
        """Whether a sum is part of another one."""
        value = node.outputs[0]
        return self.is_private(value) and self.is_sum(next(iter(value.uses())).node)

    def terms(self, root: ir.Node) -> Iterator[Term]:
        """What the tree below ``root`` adds up, from left to right."""
        for index, operand in enumerate(root.inputs):
            sign = -1 if root.op_type == "Sub" and index == 1 else 1
            if operand is None:
                continue
            inner = operand.producer()
            if inner is not None and self.is_sum(inner) and self.is_private(operand):
                yield from (Term(each.value, sign * each.sign) for each in self.terms(inner))
            else:
                yield Term(operand, sign)

    def tree(self, root: ir.Node) -> Iterator[ir.Node]:
        """The operators of a sum, ``root`` first."""
        yield root
        for operand in root.inputs:
            inner = operand.producer() if operand is not None else None
            if inner is not None and operand is not None and self.is_sum(inner) and self.is_private(operand):
                yield from self.tree(inner)

    def paths(self, term: Term) -> Iterator[Path]:
        """The term as a map of every value that it is a linear map of, itself first."""
        value, gone = term.value, 0
        nodes: tuple[ir.Node, ...] = ()
        while True:
            yield Path(term, value, nodes, gone)
            node = value.producer()
            if node is None or node.graph is not self.graph or node.domain or value is not node.outputs[0]:
                return
            following = self._operand(node)
            if following is None:
                return
            gone += self.is_private(value) and gone == len(nodes)
            value, nodes = following, (*nodes, node)
            if node.op_type in _CONVOLUTIONS:
                yield Path(term, value, nodes, gone)
                return

    def remove_dead(self, nodes: Sequence[ir.Node]) -> None:
        """Remove those of the nodes that nothing uses, and the constants that only they used."""
        read = [value for node in nodes for value in node.inputs if constant(value) is not None and value]
        left = list(dict.fromkeys(nodes))
        while dead := [node for node in left if not any(map(self._is_used, node.outputs))]:
            self.graph.remove(dead, safe=True)
            left = [node for node in left if node not in dead]
        drop_unused(self.graph, read)

    def _is_used(self, value: ir.Value) -> bool:
        return bool(value.uses()) or value.is_graph_output() or value.name in self._captured

    def branch(self, path: Path, beside: Geometry) -> Branch:
        """Read the numbers on a path, all but the weights of its convolution.

        Args:
            path: The path.
            beside: A convolution on the same source, which tells the number of channels and dimensions.

        Raises:
            CannotFoldError: If they are not constant, or not one a channel.
        """
        end = path.nodes[-1] if path.nodes else None
        if end is not None and end.op_type == "Conv":
            geometry = geometry_of(end)
        elif end is not None and end.op_type == "AveragePool":
            geometry = average_of(end, beside.inputs, beside.dtype)
        else:
            geometry = identity(beside.inputs, len(beside.kernel), beside.dtype)
        between = path.nodes[: len(path.nodes) - (end is not None and end.op_type in _CONVOLUTIONS)]
        scale, shift = np.ones(geometry.outputs), np.zeros(geometry.outputs)
        with np.errstate(all="ignore"):
            for node in reversed(between):
                factor, summand = self._step(node, geometry)
                scale, shift = scale * factor, shift * factor + summand
        if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
            raise CannotFoldError("the factors on the way are not finite")
        own = sum(node.op_type not in _FREE for node in between[: path.gone])
        own += geometry.cost if path.gone == len(path.nodes) and len(between) < len(path.nodes) else 0
        return Branch(path, geometry, scale * path.term.sign, shift * path.term.sign, own)

    def _operand(self, node: ir.Node) -> ir.Value | None:
        """What a node is a linear map of, one channel at a time or at a convolution's end."""
        if node.op_type in _CONVOLUTIONS or node.op_type == "BatchNormalization":
            return node.inputs[0]
        if node.op_type in _FREE:
            return node.inputs[0] if channel_repeat(node, self.opset) == 1 else None
        if node.op_type in {"Add", "Mul"}:
            computed = [value for value in node.inputs if value is not None and constant(value) is None]
            return computed[0] if len(computed) == 1 else None
        return None

    def _step(self, node: ir.Node, geometry: Geometry) -> tuple[npt.NDArray[np.float64] | float, ...]:
        if node.op_type in _FREE:
            return 1.0, 0.0
        if node.op_type == "BatchNormalization":
            affine = affine_of(node, self.opset)
            if affine.channels != geometry.outputs or affine.dtype != geometry.dtype:
                raise CannotFoldError(f"{title(node)} is of another type or width")
            return affine.scale, affine.shift
        fixed = next(value for value in node.inputs if constant(value) is not None)
        numbers = a_channel(fixed, geometry)
        if numbers is None:
            raise CannotFoldError(f"the constant of {title(node)} is not one number a channel")
        return (numbers, 0.0) if node.op_type == "Mul" else (1.0, numbers)


def a_channel(value: ir.Value | None, geometry: Geometry) -> npt.NDArray[np.float64] | None:
    """A constant as one number for each output channel of a convolution; None if it is none.

    It has to broadcast to the convolution's output without changing its shape.
    """
    tensor = constant(value)
    if tensor is None or tensor.dtype != geometry.dtype or tensor.dtype not in FLOATS:
        return None
    dims, shape = len(geometry.kernel) + 2, tuple(int(size) for size in tensor.shape.numpy())
    if len(shape) > dims:
        return None
    padded = (1,) * (dims - len(shape)) + shape
    if padded[1] not in {1, geometry.outputs} or any(size != 1 for size in (padded[0], *padded[2:])):
        return None
    return np.broadcast_to(tensor.numpy().astype(np.float64).reshape(-1), (geometry.outputs,))
