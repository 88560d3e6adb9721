"""The types in which an engine has to compute, by the file, held against those in which it does.

What decides is the file: a convolution whose input and weights come out of DequantizeLinear was asked for in int8,
any other in the type of its weights. An engine that computes it in another type is not what was asked for, however
fast it is and whatever the file is called.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from cnnport.runtimes.build import BuildError, Layer

if TYPE_CHECKING:
    import onnx

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})

_SHOWN = 3

# Of TensorProto.DataType, as TensorRT calls them.
_TYPES = {1: "Float", 10: "Half", 16: "BFloat16"}
_QUANTIZED = "Int8"
# These hand on what they were given.
_CARRIERS = frozenset(
    {"Reshape", "Transpose", "Identity", "Squeeze", "Unsqueeze", "Flatten", "MaxPool", "Pad"}
)
# Layers that move or convert, in the names of TensorRT's two kinds of engine.
_AROUND = frozenset(
    {"kgen", "Reformat", "NoOp", "Shuffle", "Cast", "PointWiseV2", "Constant", "Quantize", "Dequantize"}
)


def wanted_types(model: "onnx.ModelProto") -> dict[str, str]:
    """The type in which each convolution and matrix product is to be computed, by the name that TensorRT calls it.

    Nodes whose operands are of several types, and products of two activations, are left out: the file does not say.
    """
    producers = {output: node for node in model.graph.node for output in node.output}
    stated = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    stated |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}

    def type_of(name: str) -> str | None:
        while (node := producers.get(name)) is not None and node.op_type in _CARRIERS:
            name = node.input[0]
        if node is None:
            return _TYPES.get(stated.get(name, 0))
        return _QUANTIZED if node.op_type == "DequantizeLinear" else None

    wanted = {}
    for node in model.graph.node:
        if node.op_type in WEIGHTED:
            # The type of one operand is that of both: a network's types are strict. Only quantization is not.
            kinds = [kind for kind in map(type_of, node.input[:2]) if kind]
            if len(set(kinds)) == 1 and (len(kinds) == 2 or kinds[0] != _QUANTIZED):
                # TensorRT's own name for a node without one.
                wanted[node.name or f"node_of_{node.output[0]}"] = kinds[0]
    return wanted


def departures(wanted: dict[str, str], layers: Sequence[Layer], *, tf32: bool) -> Iterator[BuildError]:
    """Every node that an engine computes in another type than the file asks for.

    Args:
        wanted: By node, as ``wanted_types`` gives it.
        layers: Of the engine.
        tf32: Whether TF32 may stand for float32.
    """
    if wanted and layers and len(_unseen(wanted, layers)) == len(wanted):
        yield BuildError("", "the engine does not say in which types it computes, so nothing can be checked")
        return
    for node, kind in wanted.items():
        for computing in _computing(node, layers):
            said = [layer for layer in computing if layer.reads]
            if said and not any(kind in layer.reads for layer in said):
                got = ", ".join(dict.fromkeys(each for layer in said for each in layer.reads))
                yield BuildError(node, f"asked for in {kind}, but layer {said[0].name} computes it in {got}")
                break
            if kind == "Float" and not tf32 and (layer := next(filter(_in_tf32, computing), None)):
                yield BuildError(node, f"asked for in Float, but kernel {layer.kernel} computes it in TF32")
                break


def unchecked(wanted: dict[str, str], layers: Sequence[Layer]) -> str | None:
    """Of which nodes the engine does not say in which type it computes them, in one line; None if there are none."""
    unseen = _unseen(wanted, layers) if layers else []
    if not unseen:
        return None
    shown = ", ".join(unseen[:_SHOWN]) + (f" and {len(unseen) - _SHOWN} more" if len(unseen) > _SHOWN else "")
    return (
        f"the types of {len(unseen)} of {len(wanted)} nodes could not be read back from the engine: {shown}"
    )


def _unseen(wanted: dict[str, str], layers: Sequence[Layer]) -> list[str]:
    return [
        node
        for node in wanted
        if not any(layer.reads for computing in _computing(node, layers) for layer in computing)
    ]


def _computing(node: str, layers: Sequence[Layer]) -> list[list[Layer]]:
    """The layers that compute a node, for each optimisation profile: an engine has layers of its own for each."""
    profiles: dict[str, list[Layer]] = {}
    for layer in layers:
        plain, _, profile = layer.name.partition(" [profile ")
        if node in layer.nodes or node in plain.split(" + "):
            profiles.setdefault(profile.partition("]")[0], []).append(layer)
    return [[layer for layer in own if layer.kind not in _AROUND] or own for own in profiles.values()]


def _in_tf32(layer: Layer) -> bool:
    return "tf32" in layer.kernel.lower()
