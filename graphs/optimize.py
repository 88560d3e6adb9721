"""The loop around the passes: each is checked when it changed something, undone and named if it did wrong.

A pass works on a clone that shares its tensors with the model before, so that going back costs nothing, and
the checks of the graph itself run without the weights: at no time are there more than the caller's model, the
tensors that passes wrote, and one serialised candidate.

Passes find inferred shapes on the values of the main graph, also where the file gives none; these are for the
passes only and are not written.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import CheckerPass

from cnnport.errors import CnnportError, first_line
from cnnport.graphs.passes import DEFAULT_PASSES, Pass, name_of
from cnnport.graphs.values import named_in_subgraphs

Verify: TypeAlias = Callable[[onnx.ModelProto], str | None]
"""Compares a candidate with what it must compute: None if it agrees, or a sentence about the mismatch."""

_MAX_ROUNDS = 50
_SMALL_BYTES = 1024
_INFERRED = "cnnport.inferred"


@dataclass(frozen=True)
class PassReport:
    """One run of one pass.

    Attributes:
        name: The pass.
        rewrites: How many rewrites it made; 0 if it found nothing or was refused.
        ops_before: Nodes by operator before it ran, as ``count_ops`` counts them.
        ops_after: The same afterwards; what it was before if the pass was refused.
        refused: Why the model before it was kept, in a sentence; None if nothing was wrong.
    """

    name: str
    rewrites: int
    ops_before: Mapping[str, int]
    ops_after: Mapping[str, int]
    refused: str | None = None


def optimize(
    model: onnx.ModelProto, passes: Sequence[Pass] = DEFAULT_PASSES, *, verify: Verify | None = None
) -> tuple[onnx.ModelProto, tuple[PassReport, ...]]:
    """Run the passes in order, round after round, until a round in which none finds anything.

    A pass that raises, leaves an inconsistent graph, touches the graph's interface or does not pass
    ``verify`` is undone, reported and not run again. Inputs, outputs, opsets, metadata, functions, subgraphs
    and custom operators stay.

    Args:
        model: Not changed. Weights in external files have to be loaded.
        passes: See ``select_passes``.
        verify: Called with each candidate after a pass that changed something. An error that it raises counts
            against the candidate, except cnnport's own, which are about usage.

    Returns:
        The optimised model, which is ``model`` itself where nothing was rewritten, and the reports in the
        order of the runs: every pass of the first round, then those that did something or were refused.

    Raises:
        RuntimeError: If the passes do not come to an end, which is a bug in one of them.
    """
    names = [tensor.name for tensor in model.graph.initializer]
    try:
        return _optimize(model, passes, verify)
    finally:
        # The IR holds the caller's tensors and renames them together with its values.
        for tensor, name in zip(model.graph.initializer, names, strict=True):
            if tensor.name != name:
                tensor.name = name


def count_ops(model: onnx.ModelProto | ir.Model) -> dict[str, int]:
    """Nodes by operator, sorted by name; subgraphs count, function bodies do not.

    Operators of other domains than the default one are written ``domain.Operator``.
    """
    nodes = model.graph.all_nodes() if isinstance(model, ir.Model) else _nodes(model.graph)
    counts = Counter(
        node.op_type if node.domain in {"", "ai.onnx"} else f"{node.domain}.{node.op_type}" for node in nodes
    )
    return dict(sorted(counts.items()))


@dataclass(frozen=True)
class _Attempt:
    model: ir.Model
    rewrites: int = 0
    refused: str | None = None


def _optimize(
    model: onnx.ModelProto, passes: Sequence[Pass], verify: Verify | None
) -> tuple[onnx.ModelProto, tuple[PassReport, ...]]:
    ops = count_ops(model)
    try:
        current = _read(model)
    except Exception as error:  # whatever the reader cannot carry would be lost
        reason = f"onnx-ir cannot carry this model: {first_line(error)}"
        return model, tuple(PassReport(name_of(each), 0, ops, ops, reason) for each in passes)
    reports: list[PassReport] = []
    refused: set[int] = set()
    for turn in range(_MAX_ROUNDS):
        changed = False
        for place, each in enumerate(passes):
            if place in refused:
                continue
            attempt = _attempt(current, each, verify)
            after = count_ops(attempt.model) if attempt.rewrites else ops
            if turn == 0 or attempt.rewrites or attempt.refused:
                reports.append(PassReport(name_of(each), attempt.rewrites, ops, after, attempt.refused))
            if attempt.refused:
                refused.add(place)
            changed |= bool(attempt.rewrites)
            current, ops = attempt.model, after
        if not changed:
            rewritten = any(report.rewrites for report in reports)
            return _write(current) if rewritten else model, tuple(reports)
    busy = ", ".join(dict.fromkeys(report.name for report in reports[-len(passes) :]))
    raise RuntimeError(f"the passes still rewrite after {_MAX_ROUNDS} rounds: {busy}")


def _read(model: onnx.ModelProto) -> ir.Model:
    if model.training_info:
        raise ValueError("it has training information")
    if any(graph.sparse_initializer for graph in _graphs(model.graph)):
        raise ValueError("it has sparse initializers")
    read = ir.from_proto(model)
    if named_in_subgraphs(read.graph):
        raise ValueError("a subgraph has an outer value as its output")
    _annotate(read)
    return read


def _annotate(model: ir.Model) -> None:
    """Fill in the shapes that the file leaves out, and mark them as ours."""
    missing = {
        value.name: value
        for node in model.graph
        for value in node.outputs
        if value.name and value.shape is None and not value.is_graph_output()
    }
    if not missing:
        return
    try:
        inferred = onnx.shape_inference.infer_shapes(_skeleton(model), data_prop=True)
    except Exception:  # a graph that inference cannot follow is optimised without shapes
        return
    for info in inferred.graph.value_info:
        value = missing.get(info.name)
        if value is not None and info.type.tensor_type.HasField("shape"):
            value.meta[_INFERRED] = value.type
            value.shape = ir.serde.deserialize_type_proto_for_shape(info.type)
            value.type = value.type or ir.serde.deserialize_type_proto_for_type(info.type)


def _write(model: ir.Model) -> onnx.ModelProto:
    written = model.clone()
    for node in written.graph:
        for value in node.outputs:
            if _INFERRED in value.meta and not value.is_graph_output():
                value.shape, value.type = None, value.meta[_INFERRED]
    return ir.to_proto(written)


def _attempt(model: ir.Model, each: Pass, verify: Verify | None) -> _Attempt:
    try:
        candidate = model.clone()
        rewrites = each(candidate)
    except Exception as error:  # a bug in a pass must not cost the user the model
        return _Attempt(model, refused=f"{name_of(each)} raised {type(error).__name__}: {first_line(error)}")
    if not rewrites:
        return _Attempt(model)
    refused = _inconsistency(model, candidate) or _mismatch(candidate, verify)
    if refused:
        return _Attempt(model, refused=refused)
    _annotate(candidate)
    return _Attempt(candidate, rewrites)


def _mismatch(candidate: ir.Model, verify: Verify | None) -> str | None:
    if verify is None:
        return None
    try:
        return verify(_write(candidate))
    except CnnportError:
        raise
    except Exception as error:  # runtimes raise errors of their own for graphs that they cannot run
        return f"the result could not be run: {type(error).__name__}: {first_line(error)}"


def _inconsistency(before: ir.Model, after: ir.Model) -> str | None:
    """What is wrong with the graph after a pass that was right before it, in a sentence, or None."""
    try:
        if _interface(before) != _interface(after):
            return "the graph's interface is not what it was: inputs, outputs, opsets, metadata or functions"
    except Exception as error:  # whatever a pass may have left behind
        return f"the graph is broken: {first_line(error)}"
    for check in (_check, _infer_shapes):
        fault = check(after)
        # A file may have come with the fault; then the check says nothing about the pass.
        if fault and check(before) is None:
            return f"the graph is inconsistent: {fault}"
    return None


def _interface(model: ir.Model) -> tuple[object, ...]:
    graph = model.graph
    values = [
        ir.serde.serialize_value(value).SerializeToString() for value in (*graph.inputs, *graph.outputs)
    ]
    texts = (model.doc_string, graph.doc_string, dict(model.metadata_props), dict(graph.metadata_props))
    return values, len(graph.inputs), dict(model.opset_imports), list(model.functions), texts


def _skeleton(model: ir.Model) -> onnx.ModelProto:
    """The model with its large initializers as inputs: small enough to be serialised, and as well typed."""
    shell = model.clone()
    for name, value in list(shell.graph.initializers.items()):
        tensor = value.const_value
        if tensor is None or tensor.nbytes <= _SMALL_BYTES:
            continue
        value.type = value.type or ir.TensorType(tensor.dtype)
        value.shape = value.shape or ir.Shape(tensor.shape.numpy())
        del shell.graph.initializers[name]
        if not value.is_graph_input():
            shell.graph.inputs.append(value)
    return ir.to_proto(shell)


def _check(model: ir.Model) -> str | None:
    try:
        CheckerPass()(model)
    except Exception as error:  # the checker raises errors of several types
        return first_line(error)
    return None


def _infer_shapes(model: ir.Model) -> str | None:
    try:
        onnx.shape_inference.infer_shapes(_skeleton(model), check_type=True, strict_mode=True, data_prop=True)
    except Exception as error:  # as above
        return first_line(error)
    return None


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _graphs(inner)


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for each in _graphs(graph):
        yield from each.node
