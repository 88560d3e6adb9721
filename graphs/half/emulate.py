"""Graphs in halves as float32 graphs that round: what a runtime computes that really holds halves.

ONNX Runtime has no float16 kernels on x86: it computes such files in float32 from end to end and does not even round
what is handed on, so that an overflow never shows. Here every value that is half in the file is rounded to the format
and back where it is made. Operators that add up (``sums``) give NaN where a sum inside them passes the largest
number, as they do on a runtime that holds that sum in halves too. Otherwise sums inside an operator have the digits
of float32, which is what the matrix units that halves are made for add up in.
"""

from collections.abc import Mapping

import onnx
import onnx_ir as ir

from cnnport.graphs.half.building import Building, hand_over
from cnnport.graphs.half.conversion import key_of
from cnnport.graphs.half.formats import HALVES, HalfFormat
from cnnport.graphs.half.signatures import Signature
from cnnport.graphs.half.sums import adds_up, inside
from cnnport.graphs.protos import retype, write
from cnnport.graphs.values import constant

_FLOAT = ir.DataType.FLOAT

# What these give is among what they read, or follows from it without rounding.
_EXACT = frozenset(
    {
        *(
            "Abs",
            "Ceil",
            "Clip",
            "Compress",
            "Concat",
            "ConstantOfShape",
            "DepthToSpace",
            "Dropout",
            "Expand",
        ),
        *("Flatten", "Floor", "Gather", "GatherElements", "GatherND", "GlobalMaxPool", "Identity", "Max"),
        *("MaxPool", "Min", "Neg", "Pad", "ReduceMax", "ReduceMin", "Relu", "Reshape", "Round", "Sign"),
        *("Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "TopK", "Transpose", "Unsqueeze", "Where"),
    }
)


def emulate(model: ir.Model, *, weights_only: bool = False) -> onnx.ModelProto:
    """A file that holds halves, as a float32 graph that computes what the file says.

    Args:
        model: Changed in place; from ``protos.read``. Its inputs and outputs become float32.
        weights_only: Whether nothing is rounded but what the file holds: what no runtime can be better than.
    """
    build = Building(model)
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        if value.dtype in HALVES:
            if constant(value) is None:
                retype(value, _FLOAT)
            else:
                _widen(build, value)
    for node in list(model.graph):
        if node.op_type == "Constant" and not node.domain and node.outputs[0].dtype in HALVES:
            _widen(build, node.outputs[0])
            continue
        halves = {index: value.dtype for index, value in enumerate(node.outputs) if value.dtype in HALVES}
        _retell(node)
        for index, dtype in halves.items():
            assert dtype is not None
            value = node.outputs[index]
            retype(value, _FLOAT)
            if not weights_only and node.op_type not in _EXACT:
                _round(build, node, value, dtype)
    for output in model.graph.outputs:
        if output.dtype in HALVES:
            retype(output, _FLOAT)
    return write(model)


def gated(
    model: ir.Model, half: HalfFormat, nodes: Mapping[ir.Node, Signature]
) -> tuple[onnx.ModelProto, dict[str, str]]:
    """A float32 graph in which each of the given nodes computes in halves or not, as an input of its own says.

    A node in halves reads halves, so that what is lost in a value is laid to the node that makes it and to those that
    read it: all of them have to stay in float32 to keep it.

    Args:
        model: Changed in place; from ``protos.read``.
        half: The format.
        nodes: Of the main graph, with what is half of them.

    Returns:
        The graph, and the names of its further inputs, which are booleans without dimensions, by ``key_of``.
    """
    build = Building(model)
    gates: dict[str, str] = {}
    rounded: dict[ir.Value, ir.Value] = {}
    for node, found in nodes.items():
        gate = build.input("gate", ir.DataType.BOOL)
        assert gate.name is not None
        gates[key_of(node)] = gate.name
        for index, value in enumerate(node.inputs):
            if value is not None and found.inputs[index]:
                if value not in rounded:
                    build.after(value.producer())
                    rounded[value] = build.rounded(value, half.dtype)
                build.before(node)
                chosen = build.add("Where", [gate, rounded[value], value])
                chosen.type, chosen.shape = value.type, value.shape
                node.replace_input_with(index, chosen)
        for index, value in enumerate(node.outputs):
            if found.outputs[index] and node.op_type not in _EXACT:
                _round(build, node, value, half.dtype, gate)
    return write(model), gates


def _widen(build: Building, value: ir.Value) -> None:
    readers = list(value.uses())
    build.after(value.producer())
    wide = build.cast(value, _FLOAT)
    hand_over(value, wide, readers)


def _retell(node: ir.Node) -> None:
    if node.op_type == "Cast" and node.outputs[0].dtype in HALVES:
        node.attributes["to"] = ir.AttrInt64("to", int(_FLOAT))
    elif node.op_type == "ConstantOfShape" and node.outputs[0].dtype in HALVES:
        exact = node.attributes["value"].as_tensor().numpy().astype("float32")
        node.attributes["value"] = ir.AttrTensor("value", ir.tensor(exact))


def _round(
    build: Building, node: ir.Node, value: ir.Value, dtype: ir.DataType, gate: ir.Value | None = None
) -> None:
    """Put what a half format keeps of a value in its place, where the gate is open."""
    readers = list(value.uses())
    build.after(node)
    kept = build.rounded(value, dtype)
    source = node.inputs[0] if node.inputs else None
    if source is not None and adds_up(node):
        sums = inside(build, node, build.add("Abs", [source]))
        # Nothing, as long as nothing overflows; infinity times nothing is NaN.
        most = build.add("ReduceMax", [sums], ir.AttrInt64("keepdims", 0))
        nothing = build.add("Mul", [build.rounded(most, dtype), build.number(0.0)])
        kept = build.add("Add", [kept, nothing])
    if gate is not None:
        kept = build.add("Where", [gate, kept, value])
    hand_over(value, kept, readers)
