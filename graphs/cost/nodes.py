"""What each node of a graph costs at a batch size, as a runtime that does it well would have to pay.

Bytes: what a node reads, weights included, and what it writes, each value once. Operators that give the same bytes
another shape move nothing, those that select read what they give, and what depends on weights alone is computed when
the file is loaded. Between integer kernels flow 8 bits, see ``flow``; quantizers between them cost nothing, and what
they take into themselves moves nothing.
"""

import json
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from cnnport.errors import ArtifactError
from cnnport.graphs.cost.arithmetic import flops_of, macs_of
from cnnport.graphs.cost.flow import Flow, is_operator
from cnnport.graphs.operators import DEFAULT_DOMAINS, subgraphs_of
from cnnport.graphs.settle import Extent, extents

# What gives the same bytes another shape, or none.
_VIEWS = ("Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")
_SELECTIONS = ("Gather", "GatherElements", "GatherND", "Slice")
_QUANTIZERS = ("DequantizeLinear", "QuantizeLinear")
_SIZE_READERS = ("Shape", "Size")

_NATIVE_SIZES = "cnnport.native_sizes"


@dataclass(frozen=True)
class Cost:
    """Of a node, or of several that run as one kernel.

    Attributes:
        flops: Floating-point or integer operations; a multiply-add counts two.
        reads_bytes: Bytes read, weights included.
        writes_bytes: Bytes written.
        weights_bytes: Of what is read, constants.
        macs: Multiply-adds of convolutions and matrix products alone.
    """

    flops: int
    reads_bytes: int
    writes_bytes: int
    weights_bytes: int
    macs: int = 0

    @property
    def moved_bytes(self) -> int:
        """Bytes read and written."""
        return self.reads_bytes + self.writes_bytes


class NodeCosts(Mapping[str, Cost]):
    """Costs by node name, in the graph's order.

    A node without a name, or with one that another had before it, goes by its first output. Nodes are missing that
    are no operators of the standard's default domain, that hold graphs, or whose sizes follow from such.
    """

    def __init__(self, flow: Flow, found: Mapping[str, Extent], known: Collection[int]) -> None:
        """Count.

        Args:
            flow: The graph.
            found: Sizes of its values.
            known: The nodes that can be counted.
        """
        self._flow, self._found = flow, found
        self._places: dict[str, int] = {}
        taken: set[str] = set()
        for place, node in enumerate(flow.nodes):
            name = node.name if node.name and node.name not in taken else _first_output(node)
            taken.add(name)
            if place in known:
                self._places[name] = place
        self._costs = {name: self._one(place) for name, place in self._places.items()}

    def __getitem__(self, name: str) -> Cost:
        """The cost of a node."""
        return self._costs[name]

    def __iter__(self) -> Iterator[str]:
        """Names of nodes."""
        return iter(self._costs)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._costs)

    def together(self, names: Collection[str]) -> Cost:
        """The cost of nodes that run as one kernel: what one makes for another is neither written nor read.

        Args:
            names: Of nodes; quantizers between them and other kernels need not be named. None, no cost.

        Raises:
            KeyError: If a node has no cost.
        """
        group = {self._places[name] for name in names}
        flops = sum(self._costs[name].flops for name in set(names))
        return self._traffic(group, flops, sum(self._costs[name].macs for name in set(names)))

    def _one(self, place: int) -> Cost:
        node = self._flow.nodes[place]
        outputs = [self._found[name] for name in node.output if name]
        if all(name in self._flow.constants for name in node.output if name):
            return Cost(0, 0, 0, 0)
        inputs = [self._found[name] if name else None for name in node.input]
        flops = flops_of(node, inputs, outputs)
        if self._flow.is_absorbed(place):
            return Cost(0 if is_operator(node, *_QUANTIZERS) else flops, 0, 0, 0)
        return self._traffic({place}, flops, macs_of(node, inputs, outputs) or 0)

    def _traffic(self, group: Collection[int], flops: int, macs: int) -> Cost:
        flow = self._flow
        if all(is_operator(flow.nodes[place], *_VIEWS) for place in group):
            return Cost(flops, 0, 0, 0, macs)
        is_small = flow.reads_8_bits(group)
        read = weights = written = 0
        for name in flow.inputs(group):
            extent = self._found[flow.stored(name) if is_small else name]
            size = _bytes(max(self._elements_read(node, name) for node in flow.readers(group, name)), extent)
            read += size
            if name in flow.constants:
                weights += size
        for name in flow.outputs(group):
            if name not in flow.constants:
                written += self._found[flow.written(group, name)].bytes
        return Cost(flops, read, written, weights, macs)

    def _elements_read(self, node: onnx.NodeProto, name: str) -> int:
        if is_operator(node, *_SIZE_READERS):
            return 0
        elements = self._found[name].elements
        if is_operator(node, *_SELECTIONS) and name == node.input[0]:
            return min(elements, self._found[node.output[0]].elements)
        return elements


def costs(model: ir.Model, batch: int, *, shapes: Mapping[str, tuple[int, ...]] | None = None) -> NodeCosts:
    """Count every node of the main graph.

    Args:
        model: Is not changed.
        batch: Size of a first dimension that inputs leave open.
        shapes: By name, batch included, of inputs whose other sizes the file leaves open without a native one.

    Raises:
        ArtifactError: If the file's batch is fixed at another size, an input's size stays open, or a size follows
            from what only running tells.
    """
    sizes = _input_shapes(model, batch, shapes or {})
    graph, found = extents(model, sizes)
    flow = Flow(graph, model.graph.initializers.keys(), found)
    known: set[int] = set()
    unknown: set[str] = set()
    for place, node in enumerate(flow.nodes):
        missing = [name for name in (*node.input, *node.output) if name and name not in found]
        is_foreign = node.domain not in DEFAULT_DOMAINS or next(subgraphs_of(node), None) is not None
        if not is_foreign and not missing:
            known.add(place)
            continue
        if not is_foreign and not any(name in unknown for name in node.input):
            raise ArtifactError(
                f"the size of {missing[0]!r}, at {node.op_type} {node.name or _first_output(node)}, cannot be known "
                "without running the file"
            )
        # What a foreign operator gives may have a size all the same, by what the file says of it.
        unknown.update(name for name in node.output if name not in found)
    return NodeCosts(flow, found, known)


def _input_shapes(
    model: ir.Model, batch: int, given: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    native = json.loads(model.metadata_props.get(_NATIVE_SIZES, "{}"))
    found = {}
    for value in model.graph.inputs:
        if value.is_initializer() or not value.name or value.shape is None:
            continue
        shape: list[int] = []
        for axis, dim in enumerate(value.shape):
            asked = given.get(value.name, ())[axis : axis + 1] or ((batch,) if axis == 0 else ())
            if isinstance(dim, int):
                size = dim
                if asked and asked[0] != dim:
                    what = "batch" if axis == 0 else f"input {value.name!r} on axis {axis}"
                    raise ArtifactError(f"the file's {what} is fixed at {dim}, not {asked[0]}")
            else:
                size = asked[0] if asked else native.get(dim.value, 0)
            if size < 1:
                raise ArtifactError(
                    f"input {value.name!r} leaves its size open on axis {axis} ({dim}): say its shape"
                )
            shape.append(size)
        found[value.name] = tuple(shape)
    return found


def _first_output(node: onnx.NodeProto) -> str:
    return next((name for name in node.output if name), "")


def _bytes(elements: int, extent: Extent) -> int:
    return math.ceil(elements * extent.bits / 8)
