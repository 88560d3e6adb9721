"""Who makes and who reads the values of a graph, what is constant, and where 8 bits flow between two kernels.

A runtime that computes in 8 bits has no DequantizeLinear in front of an integer kernel and no QuantizeLinear behind
it: the kernel reads and writes the 8 bits themselves. Here, nodes that run as one kernel read 8 bits if everything
they read (constants aside) comes from DequantizeLinear, and either everything they write goes to one QuantizeLinear
each, or a convolution or matrix product with quantized weights is among them. They write 8 bits where they read such
and a result goes to one QuantizeLinear and nowhere else, be it by way of activations, which such a kernel takes into
itself too.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping

import onnx

from cnnport.graphs.operators import DEFAULT_DOMAINS, graphs_of, subgraphs_of
from cnnport.graphs.settle import Extent

_PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_ACTIVATIONS = ("Clip", "Elu", "HardSigmoid", "HardSwish", "LeakyRelu", "Relu", "Sigmoid", "Tanh")


class Flow:
    """The edges of a main graph.

    Attributes:
        nodes: In the graph's order.
        constants: Names of values that depend on nothing but weights.
    """

    def __init__(
        self, graph: onnx.GraphProto, weights: Collection[str], extents: Mapping[str, Extent]
    ) -> None:
        """Look at every node once.

        Args:
            graph: With all nodes; large weights may be inputs.
            weights: Names of the initializers.
            extents: Of its values, as far as they are known.
        """
        self.nodes: tuple[onnx.NodeProto, ...] = tuple(graph.node)
        self.constants = set(weights)
        self._extents = extents
        self._maker: dict[str, int] = {}
        self._readers: defaultdict[str, list[int]] = defaultdict(list)
        self._given_out = {value.name for value in graph.output}
        for place, node in enumerate(self.nodes):
            self._maker.update((name, place) for name in node.output if name)
            for name in {*node.input, *_captured(node)}:
                self._readers[name].append(place)
            if _is_constant(node, self.constants):
                self.constants.update(name for name in node.output if name)

    def inputs(self, group: Collection[int]) -> Iterator[str]:
        """What nodes read that others made, or nobody; each value once, weights included."""
        names = dict.fromkeys(name for place in sorted(group) for name in self.nodes[place].input if name)
        return (name for name in names if self._maker.get(name) not in group)

    def outputs(self, group: Collection[int]) -> Iterator[str]:
        """What nodes write that others read, or that the graph gives out."""
        names = [name for place in sorted(group) for name in self.nodes[place].output if name]
        return (
            name
            for name in names
            if name in self._given_out or any(place not in group for place in self._readers[name])
        )

    def readers(self, group: Collection[int], name: str) -> Iterator[onnx.NodeProto]:
        """Those of some nodes that read a value."""
        return (self.nodes[place] for place in self._readers[name] if place in group)

    def reads_8_bits(self, group: Collection[int]) -> bool:
        """Whether what nodes read comes to them in 8 bits, if they run as one kernel."""
        if not self._is_fed_8_bits(group):
            return False
        return all(self._goes_to_8_bits(name) for name in self.outputs(group)) or any(
            self._has_quantized_weights(self.nodes[place]) for place in group
        )

    def stored(self, name: str) -> str:
        """The value in 8 bits that a value is made of; itself where it is no result of DequantizeLinear."""
        node = self._made_by(name)
        return node.input[0] if node is not None and is_operator(node, "DequantizeLinear") else name

    def written(self, group: Collection[int], name: str) -> str:
        """What a kernel of these nodes writes where they write a value: that, or its 8 bits."""
        quantizer = self._only_quantizer(name)
        return quantizer.output[0] if quantizer is not None and self._is_fed_8_bits(group) else name

    def is_absorbed(self, place: int) -> bool:
        """Whether integer kernels beside a quantizer, or behind an activation, take it into themselves."""
        node = self.nodes[place]
        if is_operator(node, "DequantizeLinear"):
            readers = self._readers[node.output[0]]
            is_read = readers and node.output[0] not in self._given_out
            return bool(is_read) and all(self.reads_8_bits({reader}) for reader in readers)
        if not is_operator(node, "QuantizeLinear", *_ACTIVATIONS):
            return False
        head = self._head(place)
        return head != place and any(self.written({head}, made) != made for made in self.nodes[head].output)

    def _head(self, place: int) -> int:
        """Where the kernel begins that a quantizer or an activation would be part of."""
        while (maker := self._maker.get(self.nodes[place].input[0])) is not None:
            if is_operator(self.nodes[maker], "DequantizeLinear"):
                break
            place = maker
            if not is_operator(self.nodes[maker], *_ACTIVATIONS):
                break
        return place

    def _is_fed_8_bits(self, group: Collection[int]) -> bool:
        fed = [name for name in self.inputs(group) if name not in self.constants]
        return bool(fed) and all(self._is_small(self.stored(name)) for name in fed)

    def _goes_to_8_bits(self, name: str) -> bool:
        return self._is_small(name) or self._only_quantizer(name) is not None

    def _only_quantizer(self, name: str) -> onnx.NodeProto | None:
        """The QuantizeLinear that a value goes to, as it is or through activations, if it goes nowhere else."""
        while name not in self._given_out and len(self._readers[name]) == 1:
            node = self.nodes[self._readers[name][0]]
            if not node.input or node.input[0] != name:
                return None
            if is_operator(node, "QuantizeLinear"):
                return node
            if not is_operator(node, *_ACTIVATIONS):
                return None
            name = node.output[0]
        return None

    def _has_quantized_weights(self, node: onnx.NodeProto) -> bool:
        if node.op_type not in _PRODUCTS or node.domain not in DEFAULT_DOMAINS or len(node.input) < 2:
            return False
        return all(self.stored(name) != name for name in node.input[:2])

    def _made_by(self, name: str) -> onnx.NodeProto | None:
        place = self._maker.get(name)
        return None if place is None else self.nodes[place]

    def _is_small(self, name: str) -> bool:
        extent = self._extents.get(name)
        return extent is not None and 0 < extent.bits <= 8


def is_operator(node: onnx.NodeProto, *kinds: str) -> bool:
    """Whether a node is one of these operators of the default domain."""
    return node.op_type in kinds and node.domain in DEFAULT_DOMAINS


def _is_constant(node: onnx.NodeProto, constants: Collection[str]) -> bool:
    if node.op_type.startswith("Random") or next(subgraphs_of(node), None) is not None:
        return False
    return node.op_type == "Constant" or (
        any(node.input) and all(name in constants for name in node.input if name)
    )


def _captured(node: onnx.NodeProto) -> Iterator[str]:
    """Names that graphs inside a node read; some are their own."""
    for graph in subgraphs_of(node):
        for each in graphs_of(graph):
            for inner in each.node:
                yield from inner.input
            yield from (value.name for value in each.output)
