"""New weights into an engine that was built for it: the file of another checkpoint of the same network."""

import hashlib
import json
from typing import TYPE_CHECKING

from cnnport.errors import ArtifactError
from cnnport.onnxfile import load_model
from cnnport.runtimes.trt.engine import Engine
from cnnport.runtimes.trt.messages import parse_errors

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

_NAMED = 5


def structure_sha256(model: "onnx.ModelProto") -> str:
    """A hash of all that two files share that differ in their weights alone.

    Operators, their names, order, attributes and wiring, and names, types and sizes of all tensors; of tensors of
    integers the values too, since those decide on shapes.
    """
    from onnx import AttributeProto, TensorProto

    floating = {
        TensorProto.FLOAT,
        TensorProto.FLOAT16,
        TensorProto.BFLOAT16,
        TensorProto.DOUBLE,
        TensorProto.INT8,
    }

    def tensor_facts(tensor: "onnx.TensorProto") -> list[object]:
        facts: list[object] = [tensor.name, tensor.data_type, list(tensor.dims)]
        if tensor.data_type not in floating:
            facts.append(hashlib.sha256(tensor.SerializeToString(deterministic=True)).hexdigest())
        return facts

    def attribute_facts(attribute: "onnx.AttributeProto") -> list[object]:
        if attribute.type == AttributeProto.TENSOR:
            return [attribute.name, tensor_facts(attribute.t)]
        return [attribute.name, attribute.SerializeToString(deterministic=True).hex()]

    nodes = [
        [
            [node.domain, node.op_type, node.name, list(node.input), list(node.output)],
            sorted(attribute_facts(attribute) for attribute in node.attribute),
        ]
        for node in model.graph.node
    ]
    ends = [
        value.SerializeToString(deterministic=True).hex()
        for value in (*model.graph.input, *model.graph.output)
    ]
    facts = [nodes, ends, sorted(tensor_facts(tensor) for tensor in model.graph.initializer)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def refit(engine: Engine, path: "Path", structure: str) -> bytes:
    """Replace the weights of an engine on a device.

    Args:
        engine: Built with ``refit=1``.
        path: An ONNX file of the same network.
        structure: ``structure_sha256`` of the file that the engine was built from.

    Returns:
        The engine with the new weights, serialized.

    Raises:
        ArtifactError: If the engine cannot be refitted, or the file is not of the same network.
    """
    if not engine.handle.refittable:
        raise ArtifactError("the engine was not built to be refitted: build it with --set refit=1")
    model = load_model(path, external_data=False)
    if structure_sha256(model) != structure:
        raise ArtifactError(
            f"{path} differs from the file of the engine in more than its weights: build an engine of its own"
        )
    refitter = engine.trt.Refitter(engine.handle, engine.logger)
    parser = engine.trt.OnnxParserRefitter(refitter, engine.logger)
    if not parser.refit_from_file(str(path)):
        errors = parse_errors(parser, list(model.graph.node))
        reason = str(errors[0]) if errors else engine.log.reason("no reason given")
        raise ArtifactError(f"the weights of {path} cannot be taken: {reason}")
    if missing := refitter.get_missing_weights():
        names = ", ".join(missing[:_NAMED])
        raise ArtifactError(f"{path} gives no new values for {len(missing)} weights of the engine: {names}")
    if not refitter.refit_cuda_engine():
        raise ArtifactError(f"the engine does not take new weights: {engine.log.reason('no reason given')}")
    data = engine.handle.serialize()
    if data is None:
        raise ArtifactError(f"the engine cannot be written: {engine.log.reason('no reason given')}")
    return bytes(data)
