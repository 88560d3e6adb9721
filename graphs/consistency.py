"""What a pass may not touch, and whether the graph that it leaves is one: checks that need no weights and no run."""

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import CheckerPass

from cnnport.errors import first_line
from cnnport.graphs.protos import skeleton


def inconsistency(before: ir.Model, after: ir.Model) -> tuple[str | None, onnx.ModelProto | None]:
    """What is wrong with a graph after a pass that was right before it.

    Returns:
        The fault in a sentence, or None; and the graph after the pass with inferred shapes, where there is no fault
        and the shapes are consistent.
    """
    try:
        if _interface(before) != _interface(after):
            return (
                "the graph's interface is not what it was: inputs, outputs, opsets, metadata or functions",
                None,
            )
    except Exception as error:  # whatever a pass may have left behind
        return f"the graph is broken: {first_line(error)}", None
    fault, shell = _skeleton(after)
    if shell is None:
        return f"the graph is broken: {fault}", None
    # A file may have come with a fault; then the check says nothing about the pass.
    if (fault := _check(shell)) and _check(skeleton(before)) is None:
        return f"the graph is inconsistent: {fault}", None
    fault, inferred = _infer_shapes(shell)
    if fault and _infer_shapes(skeleton(before))[0] is None:
        return f"the graph is inconsistent: {fault}", None
    return None, inferred


def _interface(model: ir.Model) -> tuple[object, ...]:
    graph = model.graph
    values = [
        ir.serde.serialize_value(value).SerializeToString() for value in (*graph.inputs, *graph.outputs)
    ]
    texts = (model.doc_string, graph.doc_string, dict(model.metadata_props), dict(graph.metadata_props))
    # Clones share their tensors: a default is the same object until something replaces it.
    defaults = [(value.name, id(value.const_value)) for value in graph.inputs if value.is_initializer()]
    return values, len(graph.inputs), defaults, dict(model.opset_imports), list(model.functions), texts


def _skeleton(model: ir.Model) -> tuple[str | None, onnx.ModelProto | None]:
    try:
        return None, skeleton(model)
    except Exception as error:  # what cannot be copied is no graph
        reason = first_line(error)
    try:
        # Slower, but it says more.
        CheckerPass()(model)
    except Exception as error:
        reason = first_line(error)
    return reason, None


def _check(shell: onnx.ModelProto) -> str | None:
    try:
        onnx.checker.check_model(shell)
    except Exception as error:  # the checker raises errors of several types
        return first_line(error)
    return None


def _infer_shapes(shell: onnx.ModelProto) -> tuple[str | None, onnx.ModelProto | None]:
    try:
        inferred = onnx.shape_inference.infer_shapes(shell, check_type=True, strict_mode=True, data_prop=True)
    except Exception as error:  # as above
        return first_line(error), None
    return None, inferred
