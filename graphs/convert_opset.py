"""Move a graph to another version of the default operator set, really, or say which operator stands in the way.

Upwards, the converter of the onnx package serves. Downwards it lacks most adapters that a CNN needs (onnx issue
7235), so the few there are lie here: what changed in an operator between two versions is undone where the node
does not depend on the change. An operator whose change is not listed is refused by name.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from cnnport.errors import CnnportError, first_line
from cnnport.onnxfile import INLINE_LIMIT_BYTES, default_opset

if TYPE_CHECKING:
    import onnx

OLDEST = 11

# The newest that released runtimes load; onnx itself is ahead of them.
NEWEST = 26

# Between the oldest and the newest version these gained element types and nothing that a float graph notices;
# the operators that have rules, the same between the versions at which their rules apply.
_ONLY_TYPES = frozenset(
    {
        *("Abs", "Add", "AveragePool", "Cast", "Clip", "Concat", "Constant", "ConstantOfShape", "Conv"),
        *("ConvTranspose", "DepthToSpace", "Div", "Dropout", "Elu", "Equal", "Erf", "Exp", "Expand"),
        *("Flatten", "Floor", "Gather", "Gemm", "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid"),
        *("Identity", "InstanceNormalization", "LRN", "LeakyRelu", "Log", "MatMul", "Max", "MaxPool"),
        *("Mean", "Min", "Mul", "Neg", "PRelu", "Pow", "Reciprocal", "Relu", "Selu", "Shape", "Sigmoid"),
        *("Slice", "Softplus", "SpaceToDepth", "Sqrt", "Sub", "Sum", "Tanh", "Transpose", "Where"),
    }
)

_Initializers: TypeAlias = dict[str, list[int]]


class _Rule(NamedTuple):
    """How to undo what ``since`` changed; ``undo`` gives the reason where it cannot."""

    op: str
    since: int
    undo: "Callable[[onnx.NodeProto, _Initializers], str | None]"


def check_supported(opset: int) -> None:
    """Refuse versions that are out of range, before any work.

    Raises:
        CnnportError: With the range.
    """
    if not OLDEST <= opset <= NEWEST:
        raise CnnportError(f"opset {opset} is not supported: it goes from {OLDEST} to {NEWEST}")


def convert_opset(model: "onnx.ModelProto", opset: int) -> "onnx.ModelProto":
    """Give the model at another opset, with the oldest file format (IR version) that goes with it.

    Args:
        model: Changed in place where the version goes down.
        opset: From ``OLDEST`` to ``NEWEST``.

    Raises:
        CnnportError: Naming the operator that has no equivalent.
    """
    from onnx import helper, version_converter

    present = default_opset(model)
    if opset > present:
        model = version_converter.convert_version(model, opset)
        # The converter writes the shapes that it inferred.
        del model.graph.value_info[:]
    elif opset < present:
        _go_down(model, present, opset)
    model.ir_version = helper.find_min_ir_version_for(list(model.opset_import), ignore_unknown=True)
    return model


def problem(model: "onnx.ModelProto") -> str | None:
    """What the checker and strict shape inference find wrong with a model; None if nothing.

    Models above 2 GB cannot be handed over in memory and are checked without shape inference.
    """
    import onnx

    small = model.ByteSize() <= INLINE_LIMIT_BYTES
    try:
        onnx.checker.check_model(model, full_check=small)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        return first_line(error)
    return None


def _go_down(model: "onnx.ModelProto", present: int, opset: int) -> None:
    from onnx import TensorProto, defs, numpy_helper

    integers: _Initializers = {
        tensor.name: numpy_helper.to_array(tensor).reshape(-1).tolist()
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.INT64
    }
    for node in model.graph.node:
        if node.domain not in {"", "ai.onnx"}:
            continue
        now, then = (_since(defs, node.op_type, version) for version in (present, opset))
        if now == then:
            continue
        if now is None or then is None or node.op_type not in _KNOWN:
            raise CnnportError(
                f"the network cannot be written at opset {opset}: {node.op_type} ({node.name}) needs {now}"
            )
        rules = [rule for rule in _RULES if rule.op == node.op_type and opset < rule.since <= now]
        for rule in sorted(rules, key=lambda rule: -rule.since):
            if reason := rule.undo(node, integers):
                raise CnnportError(
                    f"the network cannot be written at opset {opset}: {node.op_type} ({node.name}) {reason}"
                )
    used = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    for entry in model.opset_import:
        if entry.domain in {"", "ai.onnx"}:
            entry.version = opset


def _since(defs: "onnx.defs", op: str, version: int) -> int | None:  # type: ignore[valid-type]
    try:
        return int(defs.get_schema(op, max_inclusive_version=version).since_version)  # type: ignore[attr-defined]
    except Exception:  # SchemaError is not exported; an operator that did not exist yet is the only cause
        return None


def _attribute(node: "onnx.NodeProto", name: str) -> "onnx.AttributeProto | None":
    return next((attribute for attribute in node.attribute if attribute.name == name), None)


def _drop(node: "onnx.NodeProto", name: str, default: int) -> str | None:
    """Remove an integer attribute that states its default; otherwise give the reason."""
    attribute = _attribute(node, name)
    if attribute is None:
        return None
    if attribute.i != default:
        return f"uses {name}={attribute.i}"
    node.attribute.remove(attribute)
    return None


def _input_to_attribute(node: "onnx.NodeProto", index: int, name: str, values: _Initializers) -> str | None:
    from onnx import helper

    if len(node.input) <= index or not node.input[index]:
        return None
    if node.input[index] not in values:
        return f"has {name} that are not constant"
    node.attribute.append(helper.make_attribute(name, values[node.input[index]]))
    del node.input[index:]
    return None


def _split_18(node: "onnx.NodeProto", _: _Initializers) -> str | None:
    # Without sizes both versions split evenly; 18 allows a smaller last part, which only its count tells.
    attribute = _attribute(node, "num_outputs")
    if attribute is not None:
        node.attribute.remove(attribute)
    return None


def _reduce_18(node: "onnx.NodeProto", values: _Initializers) -> str | None:
    return _drop(node, "noop_with_empty_axes", 0) or _input_to_attribute(node, 1, "axes", values)


def _reshape_14(node: "onnx.NodeProto", values: _Initializers) -> str | None:
    # What a zero means is asked only where there is one.
    attribute = _attribute(node, "allowzero")
    if attribute is not None and 0 not in values.get(node.input[1], [0]):
        attribute.i = 0
    return _drop(node, "allowzero", 0)


def _softmax_13(node: "onnx.NodeProto", _: _Initializers) -> str | None:
    # Before 13 all axes from this one on were taken as one; for the last axis that is the same.
    axis = _attribute(node, "axis")
    return None if axis is None or axis.i == -1 else f"goes over axis {axis.i}, not the last"


def _pad_18(node: "onnx.NodeProto", _: _Initializers) -> str | None:
    return "names its axes" if len(node.input) > 3 and node.input[3] else None


_REDUCTIONS = (
    "ReduceL1",
    "ReduceL2",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSumSquare",
)

_RULES = (
    _Rule("Split", 18, _split_18),
    _Rule("Split", 13, lambda node, values: _input_to_attribute(node, 1, "split", values)),
    *(_Rule(op, 18, _reduce_18) for op in _REDUCTIONS),
    _Rule("ReduceSum", 13, _reduce_18),
    _Rule("Reshape", 14, _reshape_14),
    _Rule("BatchNormalization", 14, lambda node, _: _drop(node, "training_mode", 0)),
    _Rule("Squeeze", 13, lambda node, values: _input_to_attribute(node, 1, "axes", values)),
    _Rule("Unsqueeze", 13, lambda node, values: _input_to_attribute(node, 1, "axes", values)),
    _Rule("Softmax", 13, _softmax_13),
    _Rule("LogSoftmax", 13, _softmax_13),
    _Rule("Pad", 18, _pad_18),
)

_KNOWN = _ONLY_TYPES | {rule.op for rule in _RULES}
