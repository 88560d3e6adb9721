"""Equal computations once, and equal weights once.

Two nodes compute the same if they are the same operator with the same attributes on the same values; two weights are
the same if type, shape and bytes are. The first in the graph stays, with its name.

onnx-ir's ``CommonSubexpressionEliminationPass`` was read and not used: it takes Bernoulli and training Dropouts for
deterministic, holds 0.0 and -0.0 in attributes for the same, merges an output that is read into one that is left out,
and puts an Identity where two outputs of the graph are equal. Its ``DeduplicateHashedInitializersPass`` reaches into
subgraphs and cannot hash bfloat16 or text.

It fires for

1.  nodes with the same operator, inputs and attributes; an attribute left out is its default;
2.  Add, Mul, And, Or, Xor and Equal also with their two operands exchanged;
3.  chains: what becomes equal by merging what is above is merged as well;
4.  duplicates whose result is an output of the graph: the first takes that name, unless it has one to keep;
5.  initializers of the same type, shape and bytes; large ones are compared where they lie, without a copy.

It must not fire for

10. random operators, whether they state a seed or not, nor Dropout in training mode;
11. custom operators, calls of functions and operators with subgraphs;
12. two outputs of the graph, which both keep their node;
13. attributes, weights or constants that differ in the sign of a zero or the payload of a NaN;
14. nodes that state another number of outputs, or leave out others: Split and BatchNormalization mean it;
15. initializers that are inputs or outputs of the graph, with IR versions before 4 that is every one;
16. values that a subgraph hands on by name, and all within subgraphs and functions.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator
from functools import cache
from hashlib import sha256

import numpy as np
import onnx
import onnx_ir as ir

from cnnport.graphs import journal
from cnnport.graphs.randomness import is_random
from cnnport.graphs.splice import can_bypass, stand_in
from cnnport.graphs.values import named_in_subgraphs, opset_of

_COMMUTATIVE = frozenset({"Add", "And", "Equal", "Mul", "Or", "Xor"})
_GRAPHS = frozenset({ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS})
_Key = tuple[Hashable, ...]
_FEW = 256


def merge_duplicates(model: ir.Model) -> int:
    """Merge nodes that compute the same, and initializers that hold the same.

    Args:
        model: Changed in place; only the main graph.

    Returns:
        The number of nodes and initializers that are gone.
    """
    captured = named_in_subgraphs(model.graph)
    return _merge_initializers(model.graph, captured) + _merge_nodes(model, captured)


def _merge_initializers(graph: ir.Graph, captured: frozenset[str]) -> int:
    alike: dict[_Key, list[ir.Value]] = {}
    for value in graph.initializers.values():
        tensor = value.const_value
        if tensor is None or value.is_graph_input() or value.is_graph_output() or value.name in captured:
            continue
        alike.setdefault((tensor.dtype, tuple(tensor.shape.numpy())), []).append(value)
    merged = 0
    for values in _divided(alike.values(), _beginning):
        first: dict[Hashable, ir.Value] = {}
        for value in values:
            assert value.const_value is not None
            kept = first.setdefault(_contents(value.const_value), value)
            if kept is not value:
                assert value.name is not None
                value.replace_all_uses_with(kept)
                del graph.initializers[value.name]
                merged += 1
    return merged


def _divided(
    groups: Iterable[list[ir.Value]], key: Callable[[ir.TensorProtocol], Hashable]
) -> Iterator[list[ir.Value]]:
    """Each group in parts that have the same key, those of several members alone."""
    for group in groups:
        parts: dict[Hashable, list[ir.Value]] = {}
        for value in group if len(group) > 1 else ():
            assert value.const_value is not None
            parts.setdefault(key(value.const_value), []).append(value)
        yield from (part for part in parts.values() if len(part) > 1)


def _merge_nodes(model: ir.Model, captured: frozenset[str]) -> int:
    opset, merged = opset_of(model), 0
    earlier: dict[_Key, ir.Node] = {}
    seen: dict[_Key, ir.Node] = {}
    for node in model.graph:
        # Few nodes of one operator read the same: only those are compared.
        like = earlier.setdefault((node.op_type, frozenset(map(id, node.inputs))), node)
        if like is node:
            continue
        for each in (like, node):
            key = _key(each, opset)
            first = each if key is None else seen.setdefault(key, each)
        if first is node:
            continue
        pairs = [(old, new) for old, new in zip(node.outputs, first.outputs, strict=True) if old.name]
        if not all(can_bypass(old, new, captured) for old, new in pairs):
            journal.refused(
                node, f"it computes what {journal.title(first)} does, but both names have to stay"
            )
            continue
        for old, new in pairs:
            if old.is_graph_output():
                stand_in(new, old)
            else:
                old.replace_all_uses_with(new)
        model.graph.remove(node, safe=True)
        merged += 1
    return merged


def _key(node: ir.Node, opset: int) -> _Key | None:
    """Equal for nodes that compute the same; None for those that are not compared."""
    if node.domain or is_random(node, opset):
        return None
    given = list(node.attributes.values())
    if any(attribute.is_ref() or attribute.type in _GRAPHS for attribute in given):
        return None
    inputs = [0 if value is None else id(value) for value in node.inputs]
    if node.op_type in _COMMUTATIVE:
        inputs.sort()
    attributes = _defaults(node.op_type, opset) | {each.name: _attribute(each) for each in given}
    outputs = tuple(bool(output.name) for output in node.outputs)
    return node.op_type, tuple(inputs), frozenset(attributes.items()), outputs


def _attribute(attribute: ir.Attr) -> Hashable:
    """Equal for attributes of one name that hold the same, bit for bit."""
    kind, value = attribute.type, attribute.value
    match kind:
        case ir.AttributeType.INT | ir.AttributeType.STRING:
            held: Hashable = value
        case ir.AttributeType.INTS | ir.AttributeType.STRINGS:
            held = tuple(value)
        case ir.AttributeType.FLOAT | ir.AttributeType.FLOATS:
            held = np.array(value, np.float32).tobytes()
        case ir.AttributeType.TENSOR:
            held = value.dtype, tuple(value.shape.numpy()), _contents(value)
        case _:
            held = ir.to_proto(attribute).SerializeToString(deterministic=True)
    return kind, held


@cache
def _defaults(op_type: str, opset: int) -> dict[str, Hashable]:
    try:
        schema = onnx.defs.get_schema(op_type, opset)
    except onnx.defs.SchemaError:
        return {}
    return {
        name: _attribute(ir.serde.deserialize_attribute(attribute.default_value))
        for name, attribute in schema.attributes.items()
        if attribute.default_value.name
    }


def _beginning(tensor: ir.TensorProtocol) -> Hashable:
    """Equal for tensors that hold the same: what tells most weights apart without a look at all of them."""
    if tensor.dtype == ir.DataType.STRING:
        return None
    return tensor.numpy().reshape(-1)[:_FEW].tobytes()


def _contents(tensor: ir.TensorProtocol) -> Hashable:
    """Equal for tensors of one type and shape if they hold the same bytes."""
    if tensor.dtype == ir.DataType.STRING:
        return tuple(np.asarray(tensor.numpy(), dtype=object).ravel().tolist())
    # The bytes where they lie: hashlib does not know bfloat16, and tobytes makes a copy.
    plain = np.ascontiguousarray(tensor.numpy())
    return sha256(plain.reshape(-1).view(np.uint8).data).digest()
