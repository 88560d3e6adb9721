"""Faults to plant in an exported network, each in one node, and where ``parity --layers`` has to find it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from cnnport.graphs.half import FP16, convert
from cnnport.graphs.protos import read, write

# What the pool's largest input becomes: float16 holds it, and not the sum of many such.
_LARGEST = 4.8e4

# A batch norm's, of variance 1, that was folded with 1e-3 in the place of 1e-5.
_EPSILON_FACTOR = np.sqrt((1 + 1e-5) / (1 + 1e-3))


@dataclass(frozen=True)
class Planted:
    """A fault in a model.

    Attributes:
        model: With the fault.
        right: What it is to be held against, where that is not the file as it was; None where it is.
        node: The name of the node at fault, or the beginning of it.
        emulated: Whether the candidate holds halves that have to be emulated.
        alone: Whether the reference is the model itself, run one sample at a time.
    """

    model: onnx.ModelProto
    node: str
    right: onnx.ModelProto | None = None
    emulated: bool = False
    alone: bool = False


Plant = Callable[[onnx.ModelProto], Planted]


def permuted_channel(model: onnx.ModelProto) -> Planted:
    """Two channels of one convolution in the third stage exchanged."""
    node = _conv(model, 0.55, lambda weights: weights.shape[1] > 1)
    weights = _numbers(model, node.input[1])
    weights[[1, 2]] = weights[[2, 1]]
    _change(model, node.input[1], weights)
    return Planted(model, node.name)


def epsilon(model: onnx.ModelProto) -> Planted:
    """An epsilon of 1e-3 for 1e-5, in a batch norm that stands, or in a convolution that has taken it in."""
    norms = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    if norms:
        node = norms[len(norms) // 2]
        kept = [each for each in node.attribute if each.name != "epsilon"]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute("epsilon", 1e-3)])
        return Planted(model, node.name)
    node = _conv(model, 0.5, lambda weights: weights.shape[1] > 1)
    weights = _numbers(model, node.input[1]) * np.float32(_EPSILON_FACTOR)
    _change(model, node.input[1], weights.astype(np.float32))
    return Planted(model, node.name)


def wrong_pad(model: onnx.ModelProto) -> Planted:
    """Padding moved by one from the end to the beginning."""
    node = _conv(model, 0.4, lambda weights: weights.shape[-1] == 3)
    (pads,) = (each for each in node.attribute if each.name == "pads")
    before = list(pads.ints)
    pads.ints[:] = [before[0] + 1, before[1] + 1, before[2] - 1, before[3] - 1]
    return Planted(model, node.name)


def transposed_weight(model: onnx.ModelProto) -> Planted:
    """The first two axes of a convolution's square weight exchanged; the kernel's own where none is square."""
    try:
        node = _conv(model, 0.6, lambda weights: weights.shape[0] == weights.shape[1] > 1)
        axes = (0, 1)
    except StopIteration:
        node = _conv(model, 0.6, lambda weights: weights.shape[-1] == 3)
        axes = (2, 3)
    _change(model, node.input[1], _numbers(model, node.input[1]).swapaxes(*axes))
    return Planted(model, node.name)


def weight_scale(model: onnx.ModelProto) -> Planted:
    """One scale of one convolution's weights in 8 bits doubled."""
    makers = {output: node for node in model.graph.node for output in node.output}
    products = [node for node in model.graph.node if node.op_type == "Conv" and node.input[1] in makers]
    node = products[int(0.6 * len(products))]
    name = makers[node.input[1]].input[1]
    scales = _numbers(model, name)
    # The one that weighs most: a channel of nothing would show nothing.
    scales.reshape(-1)[int(np.argmax(scales))] *= 2
    _change(model, name, scales)
    return Planted(model, node.name)


def value_scale(model: onnx.ModelProto) -> Planted:
    """The scale of one activation in 8 bits halved: its larger half is cut off."""
    quantizers = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    readers: dict[str, int] = {}
    for node in model.graph.node:
        for name in set(node.input):
            readers[name] = readers.get(name, 0) + 1
    # One that only this pair has.
    own = [node for node in quantizers if readers[node.input[1]] <= 2]
    node = own[int(0.5 * len(own))]
    _change(model, node.input[1], _numbers(model, node.input[1]) / np.float32(2))
    maker = next(each for each in model.graph.node if node.input[0] in each.output)
    return Planted(model, maker.name)


def half_overflow(model: onnx.ModelProto) -> Planted:
    """The last pool of a network in halves, over numbers whose sum float16 does not hold."""
    pool = next(node for node in model.graph.node if node.op_type == "GlobalAveragePool")
    place = list(model.graph.node).index(pool)
    gain = np.array(_LARGEST / _largest(model, pool.input[0]), np.float32)
    model.graph.initializer.append(numpy_helper.from_array(gain, "planted_gain"))
    gained = helper.make_node("Mul", [pool.input[0], "planted_gain"], ["planted_gained"], "planted/Mul")
    pool.input[0] = "planted_gained"
    model.graph.node.insert(place, gained)
    graph = read(model)
    convert(graph, FP16)
    return Planted(write(graph), pool.name, right=model, emulated=True)


def mixed_batch(model: onnx.ModelProto) -> Planted:
    """A share of the batch's mean added in front of a convolution."""
    node = _conv(model, 0.45, lambda _: True)
    place, value = list(model.graph.node).index(node), node.input[0]
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.array([0], np.int64), "planted_axis"),
            numpy_helper.from_array(np.array(0.5, np.float32), "planted_share"),
        ]
    )
    name = f"{node.name}_planted"
    added = [
        helper.make_node("ReduceMean", [value, "planted_axis"], ["planted_mean"], f"{name}_mean", keepdims=1),
        helper.make_node("Mul", ["planted_mean", "planted_share"], ["planted_part"], f"{name}_part"),
        helper.make_node("Add", [value, "planted_part"], ["planted_sum"], f"{name}_sum"),
    ]
    node.input[0] = "planted_sum"
    for each in reversed(added):
        model.graph.node.insert(place, each)
    return Planted(model, name, alone=True)


FAULTS: dict[str, Plant] = {
    "permuted channel": permuted_channel,
    "epsilon 1e-3 for 1e-5": epsilon,
    "wrong pad": wrong_pad,
    "transposed weight": transposed_weight,
    "weight scale doubled": weight_scale,
    "value scale halved": value_scale,
    "float16 overflow in a pool": half_overflow,
    "batch mixed": mixed_batch,
}
"""By name."""

SOUND = {"no fault, fp32": "fp32", "no fault, int8": "int8", "no fault, fp16": "fp16"}
"""Networks as they are, by what they compute in."""

IN_8_BITS = frozenset({"weight scale doubled", "value scale halved", "no fault, int8"})
"""Those that need a file with quantizers."""


def planted(fault: str, model: onnx.ModelProto) -> Planted:
    """Plant one of ``FAULTS``, or none, as ``SOUND`` has it, in a model that may be changed."""
    if fault in FAULTS:
        return FAULTS[fault](model)
    if SOUND[fault] != "fp16":
        return Planted(model, "")
    graph = read(model)
    convert(graph, FP16)
    return Planted(write(graph), "", emulated=True)


def _conv(model: onnx.ModelProto, share: float, fits: Callable[[Any], bool]) -> onnx.NodeProto:
    """The first convolution from that share of the network on whose weights fit."""
    convs = [node for node in model.graph.node if node.op_type == "Conv"]
    found: onnx.NodeProto = next(
        node for node in convs[int(share * len(convs)) :] if fits(_numbers(model, node.input[1]))
    )
    return found


def _largest(model: onnx.ModelProto, value: str) -> float:
    """Of a value, on one seeded sample."""
    import onnxruntime as ort

    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    tapped.graph.output.append(onnx.ValueInfoProto(name=value))
    session = ort.InferenceSession(tapped.SerializeToString(), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    sample = np.random.default_rng(1).normal(size=(1, *given.shape[1:])).astype(np.float32)
    return float(session.run([value], {given.name: sample})[0].max())


def _numbers(model: onnx.ModelProto, name: str) -> Any:
    return numpy_helper.to_array(next(each for each in model.graph.initializer if each.name == name)).copy()


def _change(model: onnx.ModelProto, name: str, array: Any) -> None:
    tensor = next(each for each in model.graph.initializer if each.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.array(array, order="C"), name))
