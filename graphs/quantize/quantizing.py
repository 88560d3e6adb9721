"""A graph of floats with explicit quantizers, for one target.

``plan`` decides which operators are computed in 8 bits and which values are quantized for it, ``sharing`` which of
them have one scale, ``scales`` what scale that is, ``weights`` and ``biases`` are what the names say, ``rounding``
finds better levels where ``moments`` of the inputs are known, and ``writing`` writes.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import onnx_ir as ir

from cnnport.errors import CnnportError, UnknownNameError
from cnnport.graphs.operators import DEFAULT_DOMAINS
from cnnport.graphs.protos import annotate
from cnnport.graphs.quantize.moments import InputMoments
from cnnport.graphs.quantize.plan import Choice, Plan, name_of, plan
from cnnport.graphs.quantize.ranges import ValueRange
from cnnport.graphs.quantize.rule import Role
from cnnport.graphs.quantize.rules import require_target
from cnnport.graphs.quantize.scales import Quantizer, asymmetric, symmetric, unsigned_or_symmetric
from cnnport.graphs.quantize.sharing import shared_ranges, wanted_names
from cnnport.graphs.quantize.writing import Writer
from cnnport.graphs.values import fresh_names, opset_of

# The first with a scale for each channel, and the first with scales in float16.
_LEAST_OPSET = 13
_LEAST_OPSET_FLOAT16 = 19

_MAKERS: Mapping[str, Callable[[ValueRange, ir.DataType], Quantizer]] = {
    "ort": asymmetric,
    "trt": symmetric,
    "openvino": unsigned_or_symmetric,
}

_INTEGER_OPERATORS = frozenset(
    {
        "ConvInteger",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "MatMulInteger",
        "QLinearConv",
        "QLinearMatMul",
        "QuantizeLinear",
    }
)

_PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


@dataclass(frozen=True)
class Report:
    """What was done to a graph.

    Attributes:
        target: Whose rules hold.
        choices: What was decided about every operator, in the graph's order.
        quantizers: Scale and zero point of every quantized value, by its name.
    """

    target: str
    choices: tuple[Choice, ...]
    quantizers: Mapping[str, Quantizer]

    @property
    def quantized(self) -> dict[str, int]:
        """How many operators of each type are computed in 8 bits."""
        return dict(sorted(Counter(each.operator for each in self.choices if each.quantized).items()))

    @property
    def left(self) -> tuple[Choice, ...]:
        """What stays in float."""
        return tuple(each for each in self.choices if not each.quantized)


def wanted(model: ir.Model, target: str, keep: Collection[str] = ()) -> frozenset[str]:
    """The names of the values whose ranges ``quantize`` needs.

    Args:
        model: A graph of floats; gets inferred shapes, as by ``protos.annotate``, and is not changed otherwise.
        target: A key of ``RULES``.
        keep: Names of nodes that stay in float.

    Raises:
        UnknownNameError: If there is no such target or node.
        CnnportError: If the graph is quantized already or cannot be.
    """
    return wanted_names(_plan(model, target, keep))


def quantize(
    model: ir.Model,
    ranges: Mapping[str, ValueRange],
    target: str,
    *,
    keep: Collection[str] = (),
    reduce_range: bool = False,
    moments: Mapping[str, InputMoments] = MappingProxyType({}),
) -> Report:
    """Write Q/DQ for a target.

    Args:
        model: A graph of floats with batch norms folded and shuffles eliminated; changed in place. Its interface,
            names, documentation and metadata stay.
        ranges: By the names of values; at least those that ``wanted`` names.
        target: A key of ``RULES``.
        keep: Names of nodes that stay in float.
        reduce_range: Whether weights get one bit less, for CPUs that saturate; see ``weights``.
        moments: By the names of products, what is known of their inputs: their biases take up what rounding the
            weights does to the means of the sums, and with a gram the weights are rounded so that the sums change
            least; see ``rounding``. Of what stays in float they are not looked at.

    Raises:
        UnknownNameError: If there is no such target or node.
        CnnportError: If the graph is quantized already or cannot be, a range is missing or not one, or moments are
            those of another product.
    """
    if unknown := set(moments).difference(name_of(node) for node in model.graph):
        raise UnknownNameError(f"there are moments of {min(unknown)!r}, and no node is called that")
    found = _plan(model, target, keep)
    scales = _quantizers(found, shared_ranges(found, ranges), opset_of(model))
    writer = Writer(model.graph, fresh_names(model), target == "ort", reduce_range)
    for node, rule in found.nodes.items():
        if rule.role is Role.PRODUCT:
            first = node.inputs[0]
            activation = None if first is None else scales.get(first)
            writer.quantize_weights(node, activation, moments.get(name_of(node)))
    quantizers = {}
    for value, quantizer in scales.items():
        assert value.name
        writer.quantize_value(value, quantizer)
        quantizers[value.name] = quantizer
    annotate(model)
    return Report(target, found.choices, quantizers)


def _plan(model: ir.Model, target: str, keep: Collection[str]) -> Plan:
    require_target(target)
    opset = opset_of(model)
    if opset < _LEAST_OPSET:
        raise CnnportError(
            f"int8 needs opset {_LEAST_OPSET} or newer, for scales of channels, and this file has opset {opset}: "
            "export it with a newer --opset"
        )
    for node in model.graph.all_nodes():
        if node.domain not in DEFAULT_DOMAINS or node.op_type not in _INTEGER_OPERATORS:
            continue
        raise CnnportError(
            f"the model is quantized already: it has a {node.op_type}, {node.name or node.outputs[0].name}. "
            "Start from its float32 file"
        )
    annotate(model)
    found = plan(model, target, keep)
    if not any(rule.role is Role.PRODUCT for rule in found.nodes.values()):
        left = next((each for each in found.choices if each.operator in _PRODUCTS), None)
        why = f"of {left.operator} {left.node}, {left.reason}" if left else "it has no product with weights"
        raise CnnportError(f"nothing in this graph can be quantized for {target}: {why}")
    return found


def _quantizers(found: Plan, ranges: Mapping[ir.Value, ValueRange], opset: int) -> dict[ir.Value, Quantizer]:
    make = _MAKERS[found.target]
    made = {}
    for value, each in ranges.items():
        dtype = value.dtype or ir.DataType.FLOAT
        if dtype == ir.DataType.FLOAT16 and opset < _LEAST_OPSET_FLOAT16:
            raise CnnportError(
                f"int8 in a float16 graph needs opset {_LEAST_OPSET_FLOAT16}, and this file has opset {opset}"
            )
        made[value] = make(each, dtype)
    return made
