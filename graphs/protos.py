"""Between protos, as files hold them, and the IR that passes work on.

Passes find inferred shapes on the values of the main graph, also where the file gives none; those are for the passes
only and are not written. Where the file gives a shape with sizes left out, inferred sizes take their place.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir

from cnnport.graphs.operators import graphs_of
from cnnport.graphs.values import named_in_subgraphs

_SMALL_BYTES = 1024
_INFERRED = "cnnport.inferred"


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
    found = ir.from_proto(model)
    if folder is not None:
        ir.external_data.set_base_dir(found.graph, folder)
    if named_in_subgraphs(found.graph):
        raise ValueError("a subgraph has an outer value as its output")
    annotate(found)
    return found


def write(model: ir.Model) -> onnx.ModelProto:
    """A model as a proto of its own, without the shapes that ``annotate`` filled in."""
    written = model.clone()
    _forget(written)
    proto = ir.to_proto(written)
    _drop_restated(proto.graph)
    return proto


def annotate(model: ir.Model, inferred: onnx.ModelProto | None = None) -> None:
    """Fill in the shapes that the file leaves out, and mark them as ours.

    Args:
        model: Changed in place.
        inferred: The model with all shapes, if shape inference has run on it already.
    """
    open_values = {
        value.name: value
        for node in model.graph
        for value in node.outputs
        if value.name and not value.is_graph_output() and not _is_settled(value)
    }
    if not open_values:
        return
    if inferred is None and (inferred := inferred_shapes(skeleton(model))) is None:
        return
    # What inference no longer finds is no longer known.
    _forget(model)
    for info in inferred.graph.value_info:
        value = open_values.get(info.name)
        if value is not None and info.type.tensor_type.HasField("shape"):
            _fill_in(value, info.type)


def inferred_shapes(shell: onnx.ModelProto) -> onnx.ModelProto | None:
    """The model with shapes; None for a graph that inference cannot follow, which is optimised without."""
    # Inference knows the types of what follows an operator that is a function of others only if it checks types.
    for check_type in (True, False):
        with suppress(Exception):  # it raises errors of several types
            return onnx.shape_inference.infer_shapes(shell, check_type=check_type, data_prop=True)
    return None


def skeleton(model: ir.Model) -> onnx.ModelProto:
    """The model with its large initializers as inputs: small enough to be serialised, and as well typed."""
    shell = model.clone()
    # What was inferred before a rewrite may be less than what follows after it.
    _forget(shell)
    for name, value in list(shell.graph.initializers.items()):
        tensor = value.const_value
        if tensor is None or (tensor.nbytes <= _SMALL_BYTES and not isinstance(tensor, ir.ExternalTensor)):
            continue
        value.type = value.type or ir.TensorType(tensor.dtype)
        value.shape = value.shape or ir.Shape(tensor.shape.numpy())
        del shell.graph.initializers[name]
        if not value.is_graph_input():
            shell.graph.inputs.append(value)
    return ir.to_proto(shell)


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


def _drop_restated(graph: onnx.GraphProto) -> None:
    """Leave out types of initializers, which state them themselves: onnx-ir writes them all, some 60 bytes each."""
    held = {tensor.name for tensor in graph.initializer}
    kept = [
        value
        for value in graph.value_info
        if value.name not in held or value.doc_string or value.metadata_props
    ]
    if len(kept) < len(graph.value_info):
        del graph.value_info[:]
        graph.value_info.extend(kept)


def _is_settled(value: ir.Value) -> bool:
    if value.shape is None or _is_inferred(value):
        return False
    return not any(_is_unknown(size) for size in value.shape)


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
