"""Between protos, as files hold them, and the IR that passes work on.

Passes find inferred shapes on the values of the main graph, also where the file gives none; those are for the passes
only and are not written. Where the file gives a shape with sizes left out, inferred sizes take their place. Names
that shape inference makes up for sizes (``unk__3``) hold for that inference alone: the next one counts anew, and a
runtime that finds them beside a file's own names takes equal sizes for different ones, and fuses less.
"""

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import onnx
import onnx_ir as ir

from cnnport.graphs.operators import graphs_of
from cnnport.graphs.proto_parts import annotate_quantized, put_node, put_outline, put_type
from cnnport.graphs.values import named_in_subgraphs

if TYPE_CHECKING:
    from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

_SMALL_BYTES = 1024
_INFERRED = "cnnport.inferred"
_PASSING_NAME = re.compile(r"unk__\d+")

_Infos: TypeAlias = "RepeatedCompositeFieldContainer[onnx.ValueInfoProto]"


def read(model: onnx.ModelProto, folder: Path | None = None) -> ir.Model:
    """A model in the IR, with shapes filled in.

    Args:
        model: The IR holds its tensors: a pass that renames one renames it here too.
        folder: Where tensors lie that are in other files.

    Raises:
        Exception: Whatever the reader raises for models that it cannot carry; ``ValueError`` for parts that it
            would lose.
    """
    if model.training_info:
        raise ValueError("it has training information")
    if any(graph.sparse_initializer for graph in graphs_of(model.graph)):
        raise ValueError("it has sparse initializers")
    with _uncollected():
        found = ir.from_proto(model)
    if folder is not None:
        ir.external_data.set_base_dir(found.graph, folder)
    if named_in_subgraphs(found.graph):
        raise ValueError("a subgraph has an outer value as its output")
    annotate(found)
    return found


@contextmanager
def _uncollected() -> Iterator[None]:
    """Have Python's collector wait: reading makes tens of thousands of objects, and none of them is garbage.

    Each time their number has grown by a quarter, the collector walks everything that the process holds, most of it
    modules: that can take longer than the reading.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def write(model: ir.Model) -> onnx.ModelProto:
    """A model as a proto of its own, without the shapes that ``annotate`` filled in."""
    proto = _frame(model)
    graph, stated = proto.graph, len(proto.graph.value_info)
    for value in model.graph.initializers.values():
        annotate_quantized(graph, value)
        # Initializers state their types themselves: stated again, each takes some 60 bytes.
        if (value.doc_string or value.metadata_props) and not value.is_graph_input():
            _describe(graph.value_info, value)
        if value.const_value is not None:
            value.const_value.name = value.name
            ir.serde.serialize_tensor_into(graph.initializer.add(), value.const_value)
    for node in model.graph:
        put_node(graph.node, node, model)
    _describe_results(graph, model)
    if stated:
        # What old files say of values in functions comes after the graph's own.
        infos = list(graph.value_info)
        del graph.value_info[:]
        graph.value_info.extend(infos[stated:] + infos[:stated])
    return proto


def annotate(model: ir.Model, inferred: onnx.ModelProto | None = None) -> None:
    """Fill in the shapes that the file leaves out, and mark them as ours.

    Args:
        model: Changed in place.
        inferred: The model with all shapes, if shape inference has run on it already.
    """
    open_values = {value.name: value for value in _open_values(model)}
    if not open_values:
        return
    if inferred is None and (inferred := inferred_shapes(skeleton(model))) is None:
        return
    # What inference no longer finds is no longer known.
    _forget(model)
    for each in open_values.values():
        if _has_passing_names(each.shape):
            each.shape = None
    for info in inferred.graph.value_info:
        value = open_values.get(info.name)
        if value is not None and info.type.tensor_type.HasField("shape"):
            _fill_in(value, info.type)


def retype(value: ir.Value, dtype: ir.DataType) -> None:
    """Give a value another element type, also in the file where only its type, and no shape, stood there."""
    value.type = ir.TensorType(dtype)
    before = value.meta.get(_INFERRED)
    if before is not None and before.type is not None:
        value.meta[_INFERRED] = _Before(value.type, before.shape)


def has_open_values(model: ir.Model) -> bool:
    """Whether there are shapes that the file leaves out, filled in or not."""
    return next(_open_values(model), None) is not None


def inferred_shapes(shell: onnx.ModelProto) -> onnx.ModelProto | None:
    """The model with shapes; None for a graph that inference cannot follow, which is optimised without."""
    # Inference knows the types of what follows an operator that is a function of others only if it checks types.
    for check_type in (True, False):
        with suppress(Exception):  # it raises errors of several types
            return onnx.shape_inference.infer_shapes(shell, check_type=check_type, data_prop=True)
    return None


def skeleton(model: ir.Model) -> onnx.ModelProto:
    """The model with its large initializers as inputs: small enough to be serialised, and as well typed.

    What was inferred before a rewrite is left out, since it may be less than what follows after it; so are the texts
    of nodes.
    """
    proto = _frame(model)
    graph = proto.graph
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is None:
            continue
        if tensor.nbytes <= _SMALL_BYTES and not isinstance(tensor, ir.ExternalTensor):
            tensor.name = name
            ir.serde.serialize_tensor_into(graph.initializer.add(), tensor)
        elif not value.is_graph_input():
            info = graph.input.add(name=name)
            put_type(info.type, value.type or ir.TensorType(tensor.dtype), value.shape or tensor.shape)
    for node in model.graph:
        put_outline(graph.node, node)
    _describe_results(graph, model)
    return proto


def _frame(model: ir.Model) -> onnx.ModelProto:
    """What a file says around its nodes, weights and what lies between them; and its inputs."""
    given = model.graph
    empty = ir.Graph((), (), nodes=(), name=given.name, opset_imports=given.opset_imports)
    empty.doc_string = given.doc_string
    empty.metadata_props.update(given.metadata_props)
    frame = ir.Model(
        empty,
        ir_version=model.ir_version,
        producer_name=model.producer_name,
        producer_version=model.producer_version,
        domain=model.domain,
        model_version=model.model_version,
        doc_string=model.doc_string,
        functions=tuple(model.functions.values()),
        metadata_props=model.metadata_props,
        device_configurations=model.device_configurations,
    )
    proto = ir.to_proto(frame)
    for value in given.inputs:
        ir.serde.serialize_value_into(proto.graph.input.add(), value)
        if not value.is_initializer():
            annotate_quantized(proto.graph, value)
    return proto


def _describe_results(graph: onnx.GraphProto, model: ir.Model) -> None:
    """What the file says of the values that nodes make; of the graph's outputs in their own place."""
    for node in model.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                annotate_quantized(graph, value)
                _describe(graph.value_info, value)
    for value in model.graph.outputs:
        ir.serde.serialize_value_into(graph.output.add(), value)
        annotate_quantized(graph, value)


def _describe(infos: _Infos, value: ir.Value) -> None:
    """Write what the file says of a value, if it says anything."""
    kind, shape = value.type, value.shape
    if _is_inferred(value):
        kind, shape = value.meta[_INFERRED].type, None
    elif _has_passing_names(shape):
        shape = None
    says_nothing = kind is None and shape is None and not value.doc_string and not value.metadata_props
    if says_nothing or not value.name:
        return
    info = infos.add(name=value.name)
    for key in sorted(value.metadata_props):
        info.metadata_props.add(key=key, value=value.metadata_props[key])
    if kind is not None:
        put_type(info.type, kind, shape)
    if value.doc_string:
        info.doc_string = value.doc_string


def _open_values(model: ir.Model) -> Iterator[ir.Value]:
    for node in model.graph:
        for value in node.outputs:
            if value.name and not value.is_graph_output() and not _is_settled(value):
                yield value


def _forget(model: ir.Model) -> None:
    for node in model.graph:
        for value in node.outputs:
            if _is_inferred(value) and not value.is_graph_output():
                value.shape, value.type = None, value.meta[_INFERRED].type


@dataclass(frozen=True)
class _Before:
    """What there was of a value's type before a shape was filled in, and the shape."""

    type: ir.TypeProtocol | None
    shape: ir.Shape | None


def _is_inferred(value: ir.Value) -> bool:
    """Whether a shape was filled in and is still there: one that a pass has set since is the pass's word."""
    before = value.meta.get(_INFERRED)
    return before is not None and value.shape == before.shape


def _is_settled(value: ir.Value) -> bool:
    if value.shape is None or _is_inferred(value):
        return False
    names = [size for size in value.shape if not isinstance(size, int)]
    return not names or not (any(map(_is_unknown, names)) or any(map(_is_passing, names)))


def _has_passing_names(shape: ir.Shape | None) -> bool:
    """Whether a pass has taken over, or a file states, names that an earlier shape inference made up."""
    return shape is not None and any(_is_passing(size) for size in shape if not isinstance(size, int))


def _is_passing(size: ir.SymbolicDim) -> bool:
    return size.value is not None and _PASSING_NAME.fullmatch(str(size.value)) is not None


def _is_unknown(size: int | ir.SymbolicDim) -> bool:
    return not isinstance(size, int) and size.value is None


def _fill_in(value: ir.Value, found: onnx.TypeProto) -> None:
    shape = ir.serde.deserialize_type_proto_for_shape(found)
    if value.shape is None:
        value.meta[_INFERRED] = _Before(value.type, shape)
        value.shape = shape
        value.type = value.type or ir.serde.deserialize_type_proto_for_type(found)
    elif shape is not None and shape.rank() == value.shape.rank():
        # A size may be filled in for good: it is what the file's own graph says. Names made up by inference are not.
        sizes = [
            new if _is_unknown(old) and isinstance(new, int) else old
            for old, new in zip(value.shape, shape, strict=True)
        ]
        value.shape = ir.Shape(sizes)
