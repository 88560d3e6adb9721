"""What a pass may not touch, and whether the graph that it leaves is one: checks that need no weights and no run."""

from dataclasses import dataclass
from functools import cached_property

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import CheckerPass

from cnnport.errors import first_line
from cnnport.graphs.protos import skeleton


class Examined:
    """What is wrong with a graph; each in a sentence, None where nothing is. Found out when somebody asks.

    Attributes:
        fault: It is none, or its interface is not what it was.
    """

    def __init__(self, fault: str | None, shell: onnx.ModelProto | None = None) -> None:
        """``shell``: the graph without its large weights; None where there is a fault."""
        self.fault = fault
        self._shell = shell

    @cached_property
    def invalid(self) -> str | None:
        """What the checker says."""
        return None if self._shell is None else _check(self._shell)

    @property
    def contradiction(self) -> str | None:
        """What shape inference says."""
        return self._inference[0]

    @property
    def inferred(self) -> onnx.ModelProto | None:
        """The graph with inferred shapes and without its large weights, where they do not contradict."""
        return self._inference[1]

    @cached_property
    def _inference(self) -> tuple[str | None, onnx.ModelProto | None]:
        return (None, None) if self._shell is None else _infer_shapes(self._shell)


def examined(model: ir.Model, interface: tuple[object, ...] | None = None) -> Examined:
    """Look at a graph, which may change afterwards.

    Args:
        model: Not changed.
        interface: What ``interface_of`` it has to be; None where nothing is known of it.
    """
    try:
        if interface is not None and interface_of(model) != interface:
            return Examined(
                "the graph's interface is not what it was: inputs, outputs, opsets, metadata or functions"
            )
    except Exception as error:  # whatever a pass may have left behind
        return Examined(f"the graph is broken: {first_line(error)}")
    fault, shell = _skeleton(model)
    return Examined(None if shell is not None else f"the graph is broken: {fault}", shell)


def interface_of(model: ir.Model) -> tuple[object, ...]:
    """Everything that has to stay, to compare: inputs, outputs, defaults, opsets, functions and texts."""
    graph = model.graph
    values = [
        ir.serde.serialize_value(value).SerializeToString() for value in (*graph.inputs, *graph.outputs)
    ]
    texts = (model.doc_string, graph.doc_string, dict(model.metadata_props), dict(graph.metadata_props))
    defaults = [(value.name, _Itself(value.const_value)) for value in graph.inputs if value.is_initializer()]
    return values, len(graph.inputs), defaults, dict(model.opset_imports), list(model.functions), texts


@dataclass(frozen=True, eq=False)
class _Itself:
    """A default, which is the same object until something replaces it."""

    held: ir.TensorProtocol | None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and other.held is self.held

    def __hash__(self) -> int:
        return id(self.held)


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
    reason = None
    # Where inference follows the values of integers too, it takes matrices of them for vectors, and finds a sum of
    # 4 and of 6 in what are 4 x 1 and 1 x 6.
    for data_prop in (True, False):
        try:
            inferred = onnx.shape_inference.infer_shapes(
                shell, check_type=True, strict_mode=True, data_prop=data_prop
            )
        except Exception as error:  # as above
            reason = reason or first_line(error)
        else:
            return None, inferred
    return reason, None
