"""Which inputs and outputs of an operator would hold halves, if it computed in them; or why it cannot.

The standard's own schemas decide, at the version that the file imports: a type variable that stands for float32 at
some input or output stands for the half format instead, wherever the schema allows that. Whatever the schema fixes to
float32, such as the scales of Resize, stays.

Beyond the schema stay in float32:

- operators of other domains, local functions, and operators with subgraphs (If, Loop, Scan): what happens inside is
  not looked at, so everything that they read and give stays what it was;
- numbers that are positions: halves hold whole numbers up to 2048 (bfloat16 to 256) only, so that the size or the
  place of something comes out wrong. These are what Cast makes of wide integers and what it makes into them, regions
  of interest, and grids;
- operators that name the type of their output in an attribute, other than Cast and the constants;
- running sums (CumSum), and sums of logarithms or exponentials.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import onnx
import onnx_ir as ir

from cnnport.graphs.half.formats import HalfFormat
from cnnport.graphs.operators import DEFAULT_DOMAINS
from cnnport.graphs.splice import subgraphs_of

_FLOAT = "tensor(float)"

_WIDE_INTEGERS = frozenset(
    {
        ir.DataType.INT16,
        ir.DataType.UINT16,
        ir.DataType.INT32,
        ir.DataType.UINT32,
        ir.DataType.INT64,
        ir.DataType.UINT64,
    }
)

_POSITIONS = frozenset({"AffineGrid", "GridSample", "MaxRoiPool", "NonMaxSuppression", "RoiAlign"})
_RUNNING_SUMS = frozenset({"CumSum", "ReduceLogSum", "ReduceLogSumExp"})
_TYPES_IN_ATTRIBUTES = frozenset({"dtype", "output_dtype", "output_datatype"})

# Inputs that stay float32 although the schema allows halves.
_KEPT_INPUTS = frozenset({("Resize", "T2")})
# Inputs that may stay float32 beside halves: the parameters of a normalization, where they have types of their own.
_PARAMETERS = frozenset({("BatchNormalization", "T1"), ("BatchNormalization", "T2")})


@dataclass(frozen=True)
class Signature:
    """What becomes half of a node.

    Attributes:
        inputs: For each input, whether it is to be half.
        outputs: For each output, whether it will be.
    """

    inputs: tuple[bool, ...]
    outputs: tuple[bool, ...]


def signature(node: ir.Node, opset: int, half: HalfFormat, *, mixed: bool) -> Signature | str:
    """What becomes half of a node of the main graph, or why it has to stay in float32.

    Args:
        node: Its values have their types.
        opset: Of the default domain.
        half: The format.
        mixed: Whether parameters of normalizations stay in float32 where the schema allows that beside halves.

    Returns:
        A signature without any half for nodes that touch no float32 at all; else a signature, or the reason as
        "kind: detail".
    """
    values = [value for value in (*node.inputs, *node.outputs) if value is not None]
    if not any(value.dtype == ir.DataType.FLOAT for value in values):
        return Signature((False,) * len(node.inputs), (False,) * len(node.outputs))
    if reason := _reason(node):
        return reason
    if any(value.dtype is None for value in values if value.name):
        return f"unknown types: around {node.op_type}"
    schema = _schema(node.op_type, opset)
    if schema is None:
        return f"no operator of the standard: {node.op_type} at opset {opset}"
    inputs = list(_variables(list(schema.inputs), node.inputs))
    outputs = list(_variables(list(schema.outputs), node.outputs))
    allowed = {each.type_param_str: set(each.allowed_type_strs) for each in schema.type_constraints}
    changed: set[str] = set()
    for variable in dict.fromkeys(each for each in (*outputs, *inputs) if each):
        is_kept = (node.op_type, variable) in _KEPT_INPUTS or (
            mixed and (node.op_type, variable) in _PARAMETERS
        )
        if not is_kept and half.tensor in allowed.get(variable, ()):
            changed.add(variable)
        elif variable in outputs:
            return f"no {half.name} in the standard: {node.op_type} at opset {opset}"
    if not changed:
        return f"no {half.name} in the standard: {node.op_type} at opset {opset}"
    return Signature(
        tuple(variable in changed for variable in inputs), tuple(variable in changed for variable in outputs)
    )


def lacks(op: str, opset: int, half: HalfFormat) -> bool:
    """Whether an operator of the standard takes no halves of a format at a version of the standard."""
    schema = _schema(op, opset)
    return schema is not None and not any(
        half.tensor in each.allowed_type_strs for each in schema.type_constraints
    )


def _reason(node: ir.Node) -> str | None:
    if node.domain not in DEFAULT_DOMAINS:
        return f"no operator of the standard: {node.domain}.{node.op_type}"
    if subgraphs_of(node):
        return f"subgraphs are left as they are: {node.op_type}"
    if node.op_type in _POSITIONS:
        return f"sizes or positions: {node.op_type}"
    if node.op_type in _RUNNING_SUMS:
        return f"running sums: {node.op_type}"
    if _TYPES_IN_ATTRIBUTES & node.attributes.keys():
        return f"names the type of what it gives: {node.op_type}"
    if any(attribute.is_ref() for attribute in node.attributes.values()):
        return f"part of a function: {node.op_type}"
    if node.op_type == "Cast":
        given, taken = node.outputs[0].dtype, node.inputs[0].dtype if node.inputs[0] else None
        if given in _WIDE_INTEGERS or taken in _WIDE_INTEGERS:
            return f"sizes or positions: {node.op_type} from or to wide integers"
    return None


def _variables(
    formals: "Sequence[onnx.defs.OpSchema.FormalParameter]", values: Sequence[ir.Value | None]
) -> Iterator[str]:
    """For each value, the type variable that stands for its float32; empty where there is none.

    A type that the schema fixes is written as itself, and allows nothing but itself.
    """
    for index, value in enumerate(values):
        formal = formals[min(index, len(formals) - 1)]
        if value is None or value.dtype != ir.DataType.FLOAT or formal.type_str == _FLOAT:
            yield ""
        else:
            yield formal.type_str


@cache
def _schema(op: str, opset: int) -> "onnx.defs.OpSchema | None":
    try:
        return onnx.defs.get_schema(op, max_inclusive_version=opset, domain="")
    except Exception:  # SchemaError is not exported; an operator that did not exist yet is the only cause
        return None
