"""A graph that tells how large and how small its numbers get, and nothing else.

The statistics are taken in the graph itself, so that no activation leaves the runtime: what it holds at a time is
what the network holds anyway, whatever the number of values that are watched.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from cnnport.graphs.half.building import Building
from cnnport.graphs.half.conversion import key_of
from cnnport.graphs.half.plan import variable_values
from cnnport.graphs.half.sums import adds_up, inside
from cnnport.graphs.protos import write

# What is divided by, or taken the logarithm of: with a number below the smallest that is normal, the result is wild.
DIVIDED_BY = {"Reciprocal": 0, "Div": 1, "Log": 0}


@dataclass(frozen=True)
class Observed:
    """Extremes that values had, over everything that was run.

    Attributes:
        largest: Largest magnitude, by the name of the value.
        smallest: Smallest magnitude of what is divided by, likewise.
        sums: Largest sum of magnitudes inside a node, by ``key_of``.
    """

    largest: Mapping[str, float]
    smallest: Mapping[str, float]
    sums: Mapping[str, float]

    def __or__(self, other: "Observed") -> "Observed":
        """Of both runs together."""
        return Observed(
            _merged(self.largest, other.largest, max),
            _merged(self.smallest, other.smallest, min),
            _merged(self.sums, other.sums, max),
        )


@dataclass(frozen=True)
class Watch:
    """The graph, and what its outputs mean.

    Attributes:
        model: To be run on the inputs of the model that is watched.
        outputs: By the names of outputs: the attribute of ``Observed``, and the key in it.
    """

    model: onnx.ModelProto
    outputs: Mapping[str, tuple[str, str]]

    def read(self, answer: Mapping[str, np.ndarray]) -> Observed:
        """What one run gave. NaN counts as infinite."""
        found: dict[str, dict[str, float]] = {"largest": {}, "smallest": {}, "sums": {}}
        for name, (kind, key) in self.outputs.items():
            number = float(answer[name])
            found[kind][key] = float("inf") if np.isnan(number) else number
        return Observed(**found)


def watch(model: ir.Model) -> Watch:
    """Add to a float32 graph what tells the extremes of its values, and make that its only outputs.

    Args:
        model: Changed in place.
    """
    graph = model.graph
    divisors = {
        node.inputs[index].name  # type: ignore[union-attr]
        for node in graph
        if (index := DIVIDED_BY.get(node.op_type)) is not None and node.inputs[index] is not None
    }
    readers: dict[str, list[ir.Node]] = {}
    for node in graph:
        if adds_up(node) and node.inputs[0] is not None and node.inputs[0].name:
            readers.setdefault(node.inputs[0].name, []).append(node)
    build = Building(model)
    outputs: dict[str, tuple[str, str]] = {}
    told: list[ir.Value] = []

    def tell(value: ir.Value, op: str, kind: str, key: str) -> None:
        scalar = build.add(op, [value], ir.AttrInt64("keepdims", 0))
        scalar.type, scalar.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(())
        assert scalar.name is not None
        outputs[scalar.name] = (kind, key)
        told.append(scalar)

    for value in variable_values(graph):
        assert value.name is not None
        build.after(value.producer())
        magnitudes = build.add("Abs", [value])
        tell(magnitudes, "ReduceMax", "largest", value.name)
        if value.name in divisors:
            tell(magnitudes, "ReduceMin", "smallest", value.name)
        for node in readers.get(value.name, ()):
            # Its other inputs may be made later than this value.
            build.after(node)
            tell(inside(build, node, magnitudes), "ReduceMax", "sums", key_of(node))
    del graph.outputs[:]
    graph.outputs.extend(told)
    return Watch(write(model), outputs)


def _merged(left: Mapping[str, float], right: Mapping[str, float], choose: object) -> dict[str, float]:
    names = dict.fromkeys((*left, *right))
    return {
        name: choose(each[name] for each in (left, right) if name in each)  # type: ignore[operator]
        for name in names
    }
