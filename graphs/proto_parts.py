"""Nodes, attributes and types of the IR as protos: as onnx-ir writes them, the common kinds at less cost."""

from typing import TYPE_CHECKING, TypeAlias

import onnx
import onnx_ir as ir

if TYPE_CHECKING:
    from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

# Where onnx-ir keeps a graph's quantization annotations.
_QUANTIZED = "quant_parameter_tensor_names"

Nodes: TypeAlias = "RepeatedCompositeFieldContainer[onnx.NodeProto]"


def put_node(nodes: Nodes, node: ir.Node, model: ir.Model) -> None:
    """Add a node with everything that the file says of it."""
    if node.device_configurations:
        ir.serde.serialize_node_into(nodes.add(), node, model_ir_version=model.ir_version)
        return
    proto = put_outline(nodes, node)
    if node.doc_string:
        proto.doc_string = node.doc_string
    for key in sorted(node.metadata_props):
        proto.metadata_props.add(key=key, value=node.metadata_props[key])


def put_outline(nodes: Nodes, node: ir.Node) -> onnx.NodeProto:
    """Add a node without its texts, and return it."""
    # A value that is read and has no name is a fault, which protobuf finds.
    inputs = ["" if value is None else value.name for value in node.inputs]
    outputs = [value.name for value in node.outputs]
    while outputs and not outputs[-1]:
        outputs.pop()
    proto: onnx.NodeProto = nodes.add(op_type=node.op_type, input=inputs, output=outputs)
    # A field that is set to nothing is written all the same.
    if node.domain:
        proto.domain = node.domain
    if node.name:
        proto.name = node.name
    if node.overload:
        proto.overload = node.overload
    for attribute in node.attributes.data.values():
        _put_attribute(proto, attribute)
    return proto


def _put_attribute(proto: onnx.NodeProto, attribute: ir.Attr) -> None:
    if attribute.is_ref():
        ir.serde.serialize_reference_attribute_into(proto.attribute.add(), attribute)
    elif attribute.type == ir.AttributeType.INTS and not attribute.doc_string:
        proto.attribute.add(name=attribute.name, ints=attribute.value, type=onnx.AttributeProto.INTS)
    elif attribute.type == ir.AttributeType.INT and not attribute.doc_string:
        proto.attribute.add(name=attribute.name, i=attribute.value, type=onnx.AttributeProto.INT)
    else:
        ir.serde.serialize_attribute_into(proto.attribute.add(), attribute)


def put_type(proto: onnx.TypeProto, kind: ir.TypeProtocol, shape: ir.ShapeProtocol | None) -> None:
    """Write a type, with the shape where there is one."""
    if type(kind) is not ir.TensorType or kind.denotation:
        ir.serde.serialize_type_into(proto, kind)
        if shape is not None:
            ir.serde.serialize_shape_into(proto, shape)
        return
    tensor = proto.tensor_type
    tensor.elem_type = kind.dtype.value
    if shape is None:
        return
    tensor.shape.SetInParent()
    dims = tensor.shape.dim
    for axis, size in enumerate(shape):
        dim = dims.add()
        if isinstance(size, int):
            dim.dim_value = size
        elif size.value is not None:
            dim.dim_param = str(size.value)
        if denotation := shape.get_denotation(axis):
            dim.denotation = denotation


def annotate_quantized(graph: onnx.GraphProto, value: ir.Value) -> None:
    """Write which values quantize this one, if the file said so."""
    if names := value.meta.get(_QUANTIZED):
        annotation = graph.quantization_annotation.add(tensor_name=value.name)
        for key in sorted(names):
            annotation.quant_parameter_tensor_names.add(key=key, value=names[key])
