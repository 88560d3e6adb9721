"""Where a graph can be looked into without taking apart what a runtime makes one kernel of.

A site is a value behind the last operator of such a kernel. In a file with quantizers the float value in front of one
does not exist in an integer kernel: what is tapped there is the quantized tensor, which stands for it with its scale
and zero point. (What DequantizeLinear gives is no better: tapping that takes it from the kernel that it belongs to.)
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cnnport.agreement.layers.graph import Array, Graph

_FLOATS = frozenset({1, 10, 11, 16})  # float32, float16, float64, bfloat16

PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_TAKES_IN = PRODUCTS | {"Add", "BatchNormalization"}
_TAKEN_IN = frozenset(
    {
        *("BatchNormalization", "Clip", "Elu", "HardSigmoid", "HardSwish", "LeakyRelu", "PRelu", "Relu"),
        *("Sigmoid", "Softplus", "Tanh"),
    }
)
CONVERSIONS = frozenset({"Cast", "DequantizeLinear", "QuantizeLinear"})
_NOTHING_NEW = CONVERSIONS | {"Constant", "Identity", "Dropout"}


@dataclass(frozen=True, eq=False)
class Site:
    """A place to look.

    Attributes:
        value: Name of the floating-point value.
        tap: Name of the tensor that is read; another than ``value`` where that one is quantized.
        place: Of the node that makes the value.
        scale: Of the quantized tensor; None where ``tap`` is the value itself.
        zero_point: Likewise.
        axis: To which a scale with several numbers belongs.
    """

    value: str
    tap: str
    place: int
    scale: Array | None = None
    zero_point: Array | None = None
    axis: int = 1

    @property
    def level(self) -> float:
        """The step between two quantized values; 0 where they are not quantized."""
        return 0.0 if self.scale is None else float(self.scale.max())

    def held(self, expected: Array) -> Array:
        """What the quantized tensor can hold of a value: numbers beyond its range are cut off, as they should be.

        Whether the range is right is another question, see ``scales``.
        """
        if self.scale is None or self.scale.size != 1:
            return expected
        kind = np.iinfo(self.zero_point.dtype if self.zero_point is not None else np.uint8)
        zero = 0 if self.zero_point is None else int(self.zero_point.reshape(()))
        scale = float(self.scale.reshape(()))
        held: Array = np.clip(expected, (kind.min - zero) * scale, (kind.max - zero) * scale)
        return held

    def read(self, tapped: Array) -> Array:
        """The value, from what was tapped, in float32 unless it is wider."""
        if self.scale is None:
            return tapped if tapped.dtype == np.float64 else tapped.astype(np.float32, copy=False)
        zero = np.zeros_like(self.scale) if self.zero_point is None else self.zero_point.astype(np.float32)
        scale = self.scale.astype(np.float32)
        if scale.size > 1:
            shape = [1] * tapped.ndim
            shape[self.axis] = scale.size
            scale, zero = scale.reshape(shape), zero.reshape(shape)
        else:
            scale, zero = scale.reshape(()), zero.reshape(())
        return (tapped.astype(np.float32) - zero) * scale


def sites_of(graph: Graph) -> list[Site]:
    """All places, in topological order; values inside of what runtimes usually fuse are left out."""
    outputs = set(graph.outputs)
    found = []
    for node in graph.nodes:
        if node.op_type in _NOTHING_NEW:
            continue
        for value in node.output:
            is_float = graph.element(value) in _FLOATS
            if value in graph.moving and is_float and (value in outputs or not _is_inside(graph, value)):
                found.append(site_at(graph, value))
    # What a conversion gives is looked at where it is all that the caller sees.
    covered = {site.value for site in found} | {site.tap for site in found}
    found += [
        Site(value, value, graph.maker[value])
        for value in graph.outputs
        if value in graph.maker and value not in covered and graph.element(value) in _FLOATS
    ]
    return sorted(found, key=lambda site: site.place)


def site_at(graph: Graph, value: str) -> Site:
    """How a value of the graph can be read."""
    place = graph.maker[value]
    if value not in graph.outputs:
        for reader in _quantizers(graph, value):
            node = graph.nodes[reader]
            scale = graph.constant(node.input[1])
            zero = graph.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
            if scale is not None:
                axis = next((int(each.i) for each in node.attribute if each.name == "axis"), 1)
                return Site(value, node.output[0], place, scale, zero, axis)
    return Site(value, value, place)


def _quantizers(graph: Graph, value: str) -> Iterator[int]:
    return (place for place in graph.readers.get(value, ()) if graph.nodes[place].op_type == "QuantizeLinear")


def _is_inside(graph: Graph, value: str) -> bool:
    """Whether the only reader of a value is one that goes into the kernel of the node that makes it."""
    readers = graph.readers.get(value, [])
    if len(readers) != 1:
        return False
    maker, reader = graph.nodes[graph.maker[value]], graph.nodes[readers[0]]
    if reader.op_type in _TAKEN_IN:
        return maker.op_type in _TAKES_IN
    # A sum goes into the one of its two products that comes last; the other is there before.
    others = [graph.maker.get(other, -1) for other in reader.input if other != value]
    is_last = all(other < graph.maker[value] for other in others)
    return reader.op_type == "Add" and maker.op_type in PRODUCTS | {"BatchNormalization"} and is_last
