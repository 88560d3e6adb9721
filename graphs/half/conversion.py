"""A float32 graph rewritten so that most of it computes in halves.

Names stay: of values, nodes, inputs and outputs. A value keeps its name where it is made, and its form in the other
type is called after it, except for outputs of the graph, whose names belong to what is given out. A constant that
everybody reads as halves is rounded in place; one that somebody needs in float32 gets a rounded copy beside it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from cnnport.errors import CnnportError
from cnnport.graphs.half.formats import HALVES, HalfFormat
from cnnport.graphs.half.numbers import Loss, damage, is_bound, loss_of, rounded
from cnnport.graphs.half.plan import ARITHMETIC, Plan, plan, variable_values
from cnnport.graphs.half.signatures import Signature, lacks, signature
from cnnport.graphs.protos import retype
from cnnport.graphs.splice import initializer
from cnnport.graphs.values import constant, drop_unused, fresh_names, opset_of

_QUANTIZED = frozenset({"DequantizeLinear", "QuantizeLinear", "QLinearConv", "ConvInteger"})


@dataclass(frozen=True)
class Conversion:
    """What became of a graph.

    Attributes:
        casts: How many Casts were put in.
        half: How many nodes compute in halves.
        kept: Nodes that stay in float32 because they have to, by ``key_of``, each with the reason.
        spared: Nodes that stay in float32 because that spares Casts, by ``key_of``.
        weakened: Constants that lost numbers to the format's range, by name: how many became zero, and how many
            others are below its smallest normal number.
    """

    casts: int
    half: int
    kept: Mapping[str, str]
    spared: tuple[str, ...]
    weakened: Mapping[str, tuple[int, int]]


def key_of(node: ir.Node) -> str:
    """A name for a node that nodes without a name have too: that of the first value that it makes."""
    return next((value.name for value in node.outputs if value.name), node.name or node.op_type)


def convert(
    model: ir.Model,
    half: HalfFormat,
    *,
    keep: Mapping[str, str] | None = None,
    half_io: bool = False,
    mixed: bool = False,
) -> Conversion:
    """Rewrite the main graph.

    Args:
        model: Changed in place; from ``protos.read``, so that types and shapes are known.
        half: The format.
        keep: Nodes that are to stay in float32 by ``key_of``, each with the reason. Beside them stay those that
            cannot be in halves.
        half_io: Whether float32 inputs and outputs of the graph become halves.
        mixed: Whether parameters of normalizations stay in float32 beside halves, where the operator allows that.
            TensorRT does not.

    Raises:
        CnnportError: If the file holds halves or quantized numbers already, or nothing of it can be in halves.
    """
    check_convertible(model)
    losses: dict[ir.Value, Loss] = {}
    able, kept = _sort(model, half, dict(keep or {}), mixed, losses)
    if not any(node.op_type in ARITHMETIC for node in able):
        raise CnnportError(_nothing(model, half, kept))
    chosen = plan(model.graph, able, half_io=half_io)
    work = _Rewrite(model, half, chosen)
    for value in variable_values(model.graph):
        work.settle(value)
    for node in chosen.half:
        work.round_constants(node)
        _retell(node, half)
    work.finish()
    weakened = {
        value.name or "": (loss.vanishes, loss.weakened)
        for value, loss in losses.items()
        if value in work.rounded and (loss.vanishes or loss.weakened)
    }
    return Conversion(
        casts=work.casts,
        half=len(chosen.half),
        kept=kept,
        spared=tuple(map(key_of, chosen.spared)),
        weakened=weakened,
    )


def check_convertible(model: ir.Model) -> None:
    """Refuse what is no float32 file.

    Raises:
        CnnportError: With what it is instead.
    """
    nodes = list(model.graph.all_nodes())
    values = [value for graph in model.graphs() for value in (*graph.inputs, *graph.initializers.values())]
    made = [value for node in nodes for value in node.outputs]
    if found := next((value for value in (*values, *made) if value.dtype in HALVES), None):
        raise CnnportError(
            f"the model is in {str(found.dtype).lower()} already, or in part: {found.name} is\n"
            "start from the float32 file"
        )
    if found_node := next((node for node in nodes if node.op_type in _QUANTIZED), None):
        raise CnnportError(
            f"the model is quantized already: it has {found_node.op_type}\nstart from the float32 file"
        )
    if not any(value.dtype == ir.DataType.FLOAT for value in (*values, *made)):
        raise CnnportError("the model has no float32 numbers that could become halves")


def check_opset(half: HalfFormat, opset: int) -> None:
    """Refuse a version of the standard in which convolutions do not take a format, before any work.

    Raises:
        CnnportError: With the first version in which they do.
    """
    if lacks("Conv", opset, half):
        raise CnnportError(_too_old("Conv", opset, half))


def able_nodes(
    model: ir.Model, half: HalfFormat, *, mixed: bool = False
) -> tuple[dict[ir.Node, Signature], dict[str, str]]:
    """The nodes that can compute in halves, and why others cannot, by ``key_of``."""
    return _sort(model, half, {}, mixed, {})


def _sort(
    model: ir.Model, half: HalfFormat, keep: dict[str, str], mixed: bool, losses: dict[ir.Value, Loss]
) -> tuple[dict[ir.Node, Signature], dict[str, str]]:
    able: dict[ir.Node, Signature] = {}
    kept: dict[str, str] = {}
    opset = opset_of(model)
    for node in model.graph:
        if node.op_type == "Constant" and not node.domain:
            continue
        found = signature(node, opset, half, mixed=mixed)
        if isinstance(found, Signature) and not any((*found.inputs, *found.outputs)):
            continue
        if reason := keep.get(key_of(node)) or (found if isinstance(found, str) else None):
            kept[key_of(node)] = reason
        elif isinstance(found, Signature):
            if reason := _damaged(node, found, half, losses):
                kept[key_of(node)] = reason
            else:
                able[node] = found
    return able, kept


def _damaged(node: ir.Node, found: Signature, half: HalfFormat, losses: dict[ir.Value, Loss]) -> str | None:
    for index, value in enumerate(node.inputs):
        tensor = constant(value) if found.inputs[index] else None
        if tensor is None or value is None:
            continue
        if value not in losses:
            losses[value] = loss_of(tensor.numpy(), half)
        if reason := damage(node, index, losses[value]):
            return reason
    return None


def _nothing(model: ir.Model, half: HalfFormat, kept: Mapping[str, str]) -> str:
    opset = opset_of(model)
    needed = [node.op_type for node in model.graph if node.op_type in ARITHMETIC and not node.domain]
    if needed and all(lacks(op, opset, half) for op in needed):
        return _too_old(needed[0], opset, half)
    reason = next(iter(kept.values()), "it has no convolution and no matrix product")
    return f"nothing of the model can be in {half.name}: {reason}"


def _too_old(op: str, opset: int, half: HalfFormat) -> str:
    newest = onnx.defs.onnx_opset_version()
    newer = next((each for each in range(opset + 1, newest + 1) if not lacks(op, each, half)), None)
    hint = f"\nfrom opset {newer} on it does" if newer else ""
    return f"{op} takes no {half.dtype.name.lower()} at opset {opset}{hint}"


def _retell(node: ir.Node, half: HalfFormat) -> None:
    """Say the new type where an attribute names the old one."""
    if node.op_type == "Cast" and node.outputs[0].dtype == half.dtype:
        node.attributes["to"] = ir.AttrInt64("to", int(half.dtype))
    elif node.op_type == "ConstantOfShape":
        attribute = node.attributes.get("value")
        old = np.zeros(1, np.float32) if attribute is None else attribute.as_tensor().numpy()
        node.attributes["value"] = ir.AttrTensor("value", ir.tensor(half.round(old), dtype=half.dtype))


class _Rewrite:
    """A plan carried out, value by value.

    Attributes:
        casts: How many were put in.
        rounded: Constants that are read as halves.
    """

    def __init__(self, model: ir.Model, half: HalfFormat, chosen: Plan) -> None:
        self.casts = 0
        self.rounded: set[ir.Value] = set()
        self._graph = model.graph
        self._half = half
        self._plan = chosen
        self._fresh: Callable[[str], str] = fresh_names(model)
        self._copies: dict[tuple[ir.Value, bool], ir.Value] = {}
        self._renamed: list[tuple[ir.Value, ir.Value]] = []
        # Casts of inputs come before everything that was there.
        self._first = next(iter(model.graph), None)

    def settle(self, value: ir.Value) -> None:
        """Give a value its type, and a Cast for those who need the other one."""
        is_half = self._plan.makes_half(value)
        readers = [
            (node, index)
            for node, index in list(value.uses())
            if self._plan.wants_half(node, index) != is_half
        ]
        is_given_out = value.is_graph_output()
        differs = is_given_out and self._plan.half_io != is_half and not value.is_graph_input()
        if is_half:
            retype(value, self._half.dtype)
        if not readers and not differs:
            return
        other = self._cast(value, to_half=not is_half)
        for node, index in readers:
            node.replace_input_with(index, other)
        if differs:
            self._renamed.append((value, other))

    def finish(self) -> None:
        """Hand the names of outputs to what is given out, and drop constants that nobody reads any more."""
        drop_unused(self._graph, (value for value, _ in self._copies))
        for value, other in self._renamed:
            name, made = value.name, other.name
            for index, output in enumerate(self._graph.outputs):
                if output is value:
                    self._graph.outputs[index] = other
            value.name = None
            other.name, value.name = name, made
            other.doc_string, value.doc_string = value.doc_string, None
            other.metadata_props.update(value.metadata_props)
            value.metadata_props.clear()

    def round_constants(self, node: ir.Node) -> None:
        """Give a node in halves its constants as halves."""
        for index, value in enumerate(node.inputs):
            if value is None or not self._plan.wants_half(node, index) or constant(value) is None:
                continue
            self.rounded.add(value)
            node.replace_input_with(index, self._rounded(value, saturate=is_bound(node, index)))

    def _rounded(self, value: ir.Value, *, saturate: bool) -> ir.Value:
        key = (value, saturate)
        if key in self._copies:
            return self._copies[key]
        tensor = constant(value)
        assert tensor is not None
        array = rounded(tensor.numpy(), self._half, saturate=saturate)
        if self._is_all_half(value, saturate):
            self._replace(value, array)
            self._copies[key] = value
        else:
            name = self._fresh(f"{value.name}_{self._half.name}")
            self._copies[key] = initializer(array, name, self._graph)
        return self._copies[key]

    def _is_all_half(self, value: ir.Value, saturate: bool) -> bool:
        return not value.is_graph_output() and all(
            self._plan.wants_half(node, index) and is_bound(node, index) == saturate
            for node, index in value.uses()
        )

    def _replace(self, value: ir.Value, array: np.ndarray) -> None:
        tensor = ir.Tensor(array, dtype=self._half.dtype, name=value.name)
        retype(value, self._half.dtype)
        node = value.producer()
        if node is None:
            value.const_value = tensor
        else:
            for name in list(node.attributes):
                del node.attributes[name]
            node.attributes["value"] = ir.AttrTensor("value", tensor)

    def _cast(self, value: ir.Value, *, to_half: bool) -> ir.Value:
        dtype = self._half.dtype if to_half else ir.DataType.FLOAT
        name = self._fresh(f"{value.name}_{self._half.name if to_half else 'fp32'}")
        made = ir.Value(name=name, type=ir.TensorType(dtype), shape=value.shape)
        made.meta.update(value.meta)
        retype(made, dtype)
        cast = ir.Node(
            "",
            "Cast",
            [value],
            [ir.AttrInt64("to", int(dtype))],
            outputs=[made],
            name=self._fresh(f"{name}_cast"),
        )
        above = value.producer()
        if above is not None:
            self._graph.insert_after(above, cast)
        elif self._first is not None:
            self._graph.insert_before(self._first, cast)
        self.casts += 1
        return made
