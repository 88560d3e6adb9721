"""Whether two files hold the same graph: a hash of what is computed and of nothing else."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def graph_digest(model: "onnx.ModelProto", *, ordered: bool = True) -> str:
    """A hash of a model's operators, with their attributes, weights and what flows between them.

    Names, documentation, metadata, versions of tools, shapes stated for inner values, and initializers that nothing
    reads do not count: a runtime runs two files of the same digest alike. An attribute that is stated at its default
    counts as another graph than one left out, so that of two graphs that compute the same the digests may differ,
    but not the other way round.

    Args:
        model: With its weights loaded.
        ordered: Whether the order in which the file lists operators counts. A runtime may keep to it where the
            graph leaves a choice.
    """
    opsets = sorted((entry.domain.replace("ai.onnx", ""), entry.version) for entry in model.opset_import)
    functions = [_hash(each.SerializeToString(deterministic=True)) for each in model.functions]
    return _hash(opsets, functions, _graph(model.graph, {"": ""}, 0, ordered))


def _graph(graph: "onnx.GraphProto", outer: Mapping[str, str], depth: int, ordered: bool) -> str:
    """The hash of a graph; a value is called by the hash of how it is computed, whatever its name.

    Args:
        graph: The main graph or one within an operator.
        outer: What the values around it are called.
        depth: How many graphs are around it.
        ordered: As of ``graph_digest``.
    """
    weights = {tensor.name: _tensor(tensor) for tensor in graph.initializer}
    called = {**outer, **weights}
    inputs = []
    for place, value in enumerate(graph.input):
        # An initializer that is an input as well is a default, which a caller may replace.
        called[value.name] = _hash("input", depth, place, _type(value), weights.get(value.name))
        inputs.append(called[value.name])
    nodes = []
    seen: Counter[str] = Counter()
    for node in graph.node:
        read = [called[name] for name in node.input]
        while read and not read[-1]:
            read.pop()
        attributes = sorted(
            (each.name, each.type, _attribute(each, called, depth, ordered)) for each in node.attribute
        )
        made = [bool(name) for name in node.output]
        domain = node.domain.replace("ai.onnx", "")
        plain = _hash(domain, node.op_type, node.overload, read, attributes, made)
        # Two operators alike stay two: what reads the one does not read the other.
        token = _hash(plain, seen[plain])
        seen[plain] += 1
        nodes.append(token)
        called |= {name: _hash(token, place) for place, name in enumerate(node.output) if name}
    outputs = [called[value.name] for value in graph.output]
    return _hash(inputs, nodes if ordered else sorted(nodes), outputs)


def _attribute(attribute: "onnx.AttributeProto", called: Mapping[str, str], depth: int, ordered: bool) -> str:
    import onnx

    inner = (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else []))
    if inner:
        return _hash([_graph(graph, called, depth + 1, ordered) for graph in inner])
    if attribute.HasField("t"):
        return _tensor(attribute.t)
    plain = onnx.AttributeProto()
    plain.CopyFrom(attribute)
    plain.doc_string = ""
    return _hash(plain.SerializeToString(deterministic=True))


def _tensor(tensor: "onnx.TensorProto") -> str:
    """Type, shape and content; how the file stores them does not matter."""
    from onnx import numpy_helper

    content = hashlib.sha256(numpy_helper.to_array(tensor).tobytes()).hexdigest()
    return _hash(tensor.data_type, list(tensor.dims), content)


def _type(value: "onnx.ValueInfoProto") -> str:
    """Element type and sizes; what an open size is called does not matter."""
    tensor = value.type.tensor_type
    sizes = [dim.dim_value if dim.HasField("dim_value") else "?" for dim in tensor.shape.dim]
    return _hash(tensor.elem_type, sizes)


def _hash(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()
