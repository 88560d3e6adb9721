"""What every pass keeps of every graph: its numbers, its interface, its validity; and that it comes to an end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnx import ModelProto

from cnnport.compare import spread_of
from cnnport.graphs import Pass, optimize
from cnnport.graphs.fold.fold_batchnorm import fold_batchnorm
from cnnport.graphs.passes import name_of
from cnnport.graphs.protos import read, write
from cnnport.graphs.values import constant, named_in_subgraphs
from fuzz import exact

Array = np.ndarray[Any, Any]
Feeds = Mapping[str, Array]

# In standard deviations of the output; what is further apart is decided in float64. float16 has 11 bits.
_TOLERANCES = {"float16": 1e-2, "float32": 1e-4, "float64": 1e-9}


class Broken(AssertionError):
    """A property that does not hold.

    Attributes:
        kind: Which one, in a word or two.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind


@dataclass
class Subject:
    """A graph before any pass, with what it computes.

    Attributes:
        model: The graph.
        feeds: What it is run on.
        doubtful: How often float64 had to decide.
    """

    model: ModelProto
    feeds: Sequence[Feeds]
    doubtful: int = field(default=0, init=False)

    @cached_property
    def written(self) -> bytes:
        return self.model.SerializeToString(deterministic=True)

    @cached_property
    def is_valid(self) -> bool:
        return _fault_of(self.model) is None and not _has_loose_range(self.model)

    @cached_property
    def outputs(self) -> list[list[Any]] | None:
        """For each of the feeds, in the graph's own types; None where no runtime here can run it."""
        return run(self.model, self.feeds)


def idle_on(subject: Subject, passes: Sequence[Pass]) -> frozenset[Pass]:
    """The passes that find nothing in a graph.

    Raises:
        Broken: If one of them changes it all the same: the next pass gets it as it is then.
    """
    try:
        base, fresh = read(subject.model), read(subject.model)
    except Exception:  # what the reader cannot carry no pass gets
        return frozenset()
    idle, candidate = [], None
    for each in passes:
        candidate = candidate or base.clone()
        try:
            rewrites = each(candidate)
        except Exception:  # whoever holds it to the properties will see it again
            rewrites = 1
        if rewrites:
            candidate = None
        else:
            idle.append(each)
    for each in idle:
        each(fresh)
    if write(fresh) != write(base):
        for each in idle:
            alone = base.clone()
            each(alone)
            if write(alone) != write(base):
                detail = f"{name_of(each)} changed a graph in which it says that it found nothing"
                raise Broken("touched", detail)
    return frozenset(idle)


def hold(subject: Subject, passes: Sequence[Pass]) -> dict[str, int]:
    """Optimise, and look at everything that must be as it was.

    Returns:
        How often each pass rewrote something.

    Raises:
        Broken: At the first property that does not hold.
    """
    names = ", ".join(name_of(each) for each in passes) or "no pass"
    try:
        optimized, reports = optimize(subject.model, passes)
    except RuntimeError as error:
        raise Broken("endless", str(error)) from error
    if subject.model.SerializeToString(deterministic=True) != subject.written:
        raise Broken("caller's model", f"{names} changed the model that it was given")
    for report in reports:
        if report.refused and subject.is_valid:
            raise Broken("refused", f"{report.name}: {report.refused}")
    rewrites = {report.name: 0 for report in reports}
    for report in reports:
        rewrites[report.name] += report.rewrites
    if optimized is subject.model:
        if any(rewrites.values()):
            raise Broken("report", f"{names} reports rewrites of a model that stayed as it was")
        return rewrites
    if len(passes) == 1 and sum(bool(report.rewrites) for report in reports) > 1:
        raise Broken("not at once", f"{names} finds more in what it has just rewritten")
    _well_formed(subject, optimized, names)
    _settled(subject, optimized, passes, names)
    if fold_batchnorm in passes:
        _no_norm_left(optimized)
    _same_numbers(subject, optimized, names)
    return rewrites


def _well_formed(subject: Subject, optimized: ModelProto, names: str) -> None:
    if subject.is_valid and (fault := _fault_of(optimized)):
        raise Broken("invalid", f"after {names}: {fault}")
    for part, before, after in zip(
        ("inputs", "outputs", "the rest"), _interface(subject.model), _interface(optimized), strict=True
    ):
        if before != after:
            raise Broken("interface", f"{names} changed {part}")


def _fault_of(model: ModelProto) -> str | None:
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # the checker and shape inference have several types
        return f"{type(error).__name__}: {error}"
    return None


def _has_loose_range(model: ModelProto) -> bool:
    """Whether a Range reads vectors of one element: inference says so only once it knows their numbers.

    Several of the standard's own function bodies do.
    """
    if all(node.op_type != "Range" for node in model.graph.node):
        return False
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    vectors = {tensor.name for tensor in inferred.initializer if tensor.dims}
    vectors |= {
        value.name for value in (*inferred.input, *inferred.value_info) if value.type.tensor_type.shape.dim
    }
    return any(node.op_type == "Range" and vectors & set(node.input) for node in inferred.node)


def _interface(model: ModelProto) -> tuple[object, object, object]:
    graph = model.graph
    rest = (
        {each.domain: each.version for each in model.opset_import},
        {each.key: each.value for each in model.metadata_props},
        model.ir_version,
        (model.producer_name, model.producer_version, model.domain, model.model_version, model.doc_string),
        (graph.name, graph.doc_string),
        [each.SerializeToString(deterministic=True) for each in model.functions],
    )
    return list(graph.input), list(graph.output), rest


def _settled(subject: Subject, optimized: ModelProto, passes: Sequence[Pass], names: str) -> None:
    again, reports = optimize(optimized, passes)
    if again is not optimized:
        busy = ", ".join(report.name for report in reports if report.rewrites)
        raise Broken("not settled", f"{busy} finds more in what {names} left")
    # With a check after each pass: another way through the engine, to the same.
    twin, _ = optimize(subject.model, passes, verify=lambda candidate: None)
    if twin.SerializeToString(deterministic=True) != optimized.SerializeToString(deterministic=True):
        raise Broken("not the same twice", f"{names} gives other bytes the second time")


def _no_norm_left(optimized: ModelProto) -> None:
    # Before IR version 4, new weights would have to be inputs; before opset 7, a batch norm has other modes.
    if optimized.ir_version < 4 or any(
        each.version < 7 for each in optimized.opset_import if not each.domain
    ):
        return
    graph = ir.from_proto(optimized).graph
    captured = named_in_subgraphs(graph)
    for node in graph:
        maker = node.inputs[0].producer() if node.inputs and node.inputs[0] else None
        if node.op_type != "BatchNormalization" or maker is None or maker.op_type != "Conv":
            continue
        value = maker.outputs[0]
        private = len(value.uses()) == 1 and not value.is_graph_output() and value.name not in captured
        operands = [each for each in (*node.inputs[1:], *maker.inputs[1:]) if each is not None]
        training = node.attributes.get_int("training_mode", 0) or len(node.outputs) > 1
        if private and not training and all(constant(each) is not None for each in operands):
            raise Broken("left over", f"{node.op_type} {node.outputs[0].name} could go into its convolution")


def _same_numbers(subject: Subject, optimized: ModelProto, names: str) -> None:
    expected = subject.outputs
    if expected is None:
        return
    found = run(optimized, subject.feeds)
    if found is None:
        raise Broken("cannot be run", f"after {names}")
    for feeds, befores, afters in zip(subject.feeds, expected, found, strict=True):
        apart = [difference(*pair) for pair in zip(befores, afters, strict=True)]
        if not any(apart):
            continue
        subject.doubtful += 1
        try:
            decided = exact.differ(subject.model, optimized, feeds)
        except exact.InExact:
            decided = next(each for each in apart if each)
        if decided:
            raise Broken("numbers", f"after {names}: {decided}")


def difference(before: Any, after: Any) -> str | None:
    """In a sentence, or None within the tolerance of the type. Sequences and maps are compared item by item."""
    if isinstance(before, list | dict) or before is None:
        return _difference_of_items(before, after)
    before, after = np.asarray(before), np.asarray(after)
    if before.shape != after.shape or before.dtype != after.dtype:
        return f"{after.dtype} of {after.shape} where it was {before.dtype} of {before.shape}"
    if str(before.dtype) not in _TOLERANCES:
        same = (
            np.array_equal(before, after) if before.dtype == object else before.tobytes() == after.tobytes()
        )
        return None if same else "other values"
    finite = np.isfinite(before)
    if not np.array_equal(before[~finite], after[~finite], equal_nan=True):
        return "other values where it was not finite"
    one, other = before[finite].astype(np.float64), after[finite].astype(np.float64)
    scale = max(spread_of(one), 1e-3 * float(np.abs(one).max(initial=0.0))) if one.size else 0.0
    off = float(np.abs(one - other).max(initial=0.0))
    if off <= _TOLERANCES[str(before.dtype)] * scale:
        return None
    return f"off by {off:.3g} where the standard deviation is {scale:.3g}"


def _difference_of_items(before: Any, after: Any) -> str | None:
    if type(before) is not type(after) or (before is not None and len(before) != len(after)):
        return "another kind of value, or another length"
    if isinstance(before, dict):
        before, after = [sorted(each.items()) for each in (before, after)]
        return None if before == after else "other values"
    pairs = zip(before or (), after or (), strict=True)
    return next((found for pair in pairs if (found := difference(*pair))), None)


def run(model: ModelProto, feeds: Sequence[Feeds]) -> list[list[Any]] | None:
    """The outputs by ONNX Runtime without its own rewriting, or else by the reference; None if neither can."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return [session.run(None, dict(each)) for each in feeds]
    except Exception:  # ONNX Runtime's errors are of many types
        pass
    try:
        return [exact.run_as_is(model, each) for each in feeds]
    except exact.InExact:
        return None
