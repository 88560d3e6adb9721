"""What quantization does with each operator, for each target, and why.

A table for people as much as for the code: ``docs`` are made from it. A rule says which inputs of an operator are
to come from 8-bit numbers, and whether its result has to go to such; what no rule names is computed in float.

The targets differ in what they do with a quantizer:

- ``ort`` (ONNX Runtime on x86 CPUs) replaces an operator with quantizers on all sides by an integer kernel. Without
  one on its result a convolution is computed in float, from weights that are dequantized first. So the result of
  every integer operator is quantized, and a float operator between two of them costs two conversions.
- ``trt`` (TensorRT) fuses what lies between a DequantizeLinear above and a QuantizeLinear below into one kernel. A
  quantizer on the result of a convolution in front of a residual sum or an activation would tear such a kernel.
- ``openvino`` moves dequantization down through the graph until it meets a quantizer, as it does for files of its own
  tools, which quantize inputs only.
"""

from types import MappingProxyType

import onnx_ir as ir

from cnnport.errors import UnknownNameError
from cnnport.graphs.operators import DEFAULT_DOMAINS
from cnnport.graphs.quantize.rule import Reads, Role, Rule, Writes
from cnnport.registry import nearest


def _in_float(operators: str, reason: str) -> Rule:
    return Rule(tuple(operators.split()), Role.FLOAT, Reads.NONE, Writes.NEVER, reason)


_STATISTICS = _in_float(
    "GroupNormalization InstanceNormalization LRN LayerNormalization LpNormalization MeanVarianceNormalization",
    "squares and their sums reach further than 8 bits",
)
_SOFTMAX = _in_float(
    "LogSoftmax Softmax",
    "it stands at the end, where nothing reads 8 bits, and its exponentials magnify roundings",
)

_MOVES = (
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "MaxPool",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
)

_ORT = (
    Rule(
        ("Conv",),
        Role.PRODUCT,
        Reads.FIRST,
        Writes.ALWAYS,
        "its integer kernel takes and gives 8 bits; one scale for each output channel costs nothing, and depthwise "
        "weights, whose channels differ most, need it",
    ),
    Rule(
        ("Gemm", "MatMul"),
        Role.PRODUCT,
        Reads.FIRST,
        Writes.IF_READ,
        "a quarter of the weights to read; its kernel can give floats, so that the scores at a network's end are not "
        "rounded to 256 levels",
    ),
    Rule(
        ("Add",),
        Role.SUM,
        Reads.ALL,
        Writes.ALWAYS,
        "both sides may have scales of their own; in float it would cost three conversions of large values",
    ),
    Rule(
        ("Mul",),
        Role.SCALING,
        Reads.ALL,
        Writes.ALWAYS,
        "the gate of a squeeze-and-excitation block multiplies a large value that is in 8 bits already",
    ),
    Rule(
        ("AveragePool", "GlobalAveragePool"),
        Role.MEAN,
        Reads.ALL,
        Writes.ALWAYS,
        "its integer kernel sums in 32 bits",
    ),
    Rule(
        ("Concat",),
        Role.JOIN,
        Reads.ALL,
        Writes.ALWAYS,
        "inputs with the scale of the result are copied, others go through a table byte by byte, so they share one "
        "where they lose nothing by it",
    ),
    Rule(
        _MOVES,
        Role.MOVE,
        Reads.FIRST,
        Writes.ALWAYS,
        "with the same scale on both sides it moves bytes, a quarter of what floats are",
    ),
    Rule(
        ("LeakyRelu", "Sigmoid"),
        Role.CURVE,
        Reads.FIRST,
        Writes.ALWAYS,
        "256 levels are a table to look up",
    ),
    Rule(
        ("Clip", "Relu"),
        Role.BOUND,
        Reads.NONE,
        Writes.NEVER,
        "the quantizer behind it cuts off where it does, if its least level is the bound, and so takes its place",
    ),
    _in_float("ConvTranspose", "there is no integer kernel of it"),
    _in_float(
        "BatchNormalization",
        "there is no integer kernel of it; norm_by_convolution has written as convolutions what it can",
    ),
    _in_float(
        "HardSigmoid HardSwish",
        "there is no integer kernel of it; hard_by_convolution has written out what it can",
    ),
    _in_float("Pad", "there is no integer kernel of it; behind it 0 is a level, so that padding stays exact"),
    _in_float("Resize Upsample", "its integer kernel does not round"),
    _STATISTICS,
    _SOFTMAX,
)

_TRT = (
    Rule(
        ("Conv", "Gemm", "MatMul"),
        Role.PRODUCT,
        Reads.FIRST,
        Writes.NEVER,
        "only its input is quantized: what follows, up to the next quantizer, becomes part of its kernel",
    ),
    Rule(
        ("Add",),
        Role.SUM,
        Reads.SKIP,
        Writes.NEVER,
        "the branch that skips layers is quantized, the other one is not, so that convolution, sum, activation and "
        "the next quantizer are one kernel",
    ),
    Rule(
        ("AveragePool", "GlobalAveragePool"),
        Role.MEAN,
        Reads.ALL,
        Writes.NEVER,
        "it runs in 8 bits where its input and what reads it are quantized",
    ),
    Rule(
        ("Mul",),
        Role.SCALING,
        Reads.ALL,
        Writes.NEVER,
        "it runs in 8 bits where its inputs and what reads it are quantized",
    ),
    Rule(
        ("Concat",),
        Role.JOIN,
        Reads.ALL,
        Writes.NEVER,
        "with one scale for all its inputs, their makers write into their places of the result and nothing is copied",
    ),
    Rule(
        (*_MOVES, "Resize"),
        Role.MOVE,
        Reads.NONE,
        Writes.NEVER,
        "quantizers move across it",
    ),
    Rule(
        ("Clip", "Relu"),
        Role.BOUND,
        Reads.NONE,
        Writes.NEVER,
        "it is part of the kernel before it, and no quantizer may stand between the two",
    ),
    _in_float("ConvTranspose", "TensorRT-RTX computes it in float, and only converts more often"),
    _in_float(
        "BatchNormalization Elu Gelu HardSigmoid HardSwish LeakyRelu Mish PRelu Sigmoid Softplus Swish Tanh",
        "it is part of the kernel before or behind it, and computed there in float",
    ),
    _STATISTICS,
    _SOFTMAX,
)

_OPENVINO = (
    Rule(
        ("Conv", "ConvTranspose", "Gemm", "MatMul"),
        Role.PRODUCT,
        Reads.FIRST,
        Writes.NEVER,
        "only its input is quantized: its result is rescaled, biased and rounded for the next in one kernel",
    ),
    Rule(
        ("Add",),
        Role.SUM,
        Reads.ALL,
        Writes.NEVER,
        "it becomes part of the convolution before it, and reads the other branch in 8 bits",
    ),
    Rule(
        ("AveragePool", "GlobalAveragePool"),
        Role.MEAN,
        Reads.ALL,
        Writes.NEVER,
        "a quarter of the bytes to read",
    ),
    Rule(
        ("Mul",),
        Role.SCALING,
        Reads.ALL,
        Writes.NEVER,
        "the gate of a squeeze-and-excitation block multiplies a large value",
    ),
    Rule(
        ("Concat",),
        Role.JOIN,
        Reads.ALL,
        Writes.NEVER,
        "with one scale for all its inputs nothing is computed",
    ),
    Rule(
        _MOVES,
        Role.MOVE,
        Reads.NONE,
        Writes.NEVER,
        "quantizers move across it",
    ),
    Rule(
        ("Clip", "Relu"),
        Role.BOUND,
        Reads.NONE,
        Writes.NEVER,
        "it is part of the kernel before it",
    ),
    _in_float(
        "BatchNormalization Elu Gelu HardSigmoid HardSwish LeakyRelu Mish PRelu Sigmoid Softplus Swish Tanh",
        "it is part of the kernel before it, and computed there in float",
    ),
    _STATISTICS,
    _SOFTMAX,
)

RULES: MappingProxyType[str, tuple[Rule, ...]] = MappingProxyType(
    {"ort": _ORT, "trt": _TRT, "openvino": _OPENVINO}
)
"""The rules of every target."""

_NO_RULE = Rule((), Role.FLOAT, Reads.NONE, Writes.NEVER, "there is no integer kernel of it")


def require_target(target: str) -> None:
    """Raise ``UnknownNameError`` if nothing can be quantized for this target."""
    if target not in RULES:
        hint = nearest(target, RULES, f"int8 files are written for {', '.join(RULES)}")
        raise UnknownNameError(f"no int8 target is called {target!r}: {hint}")


def rule_of(node: ir.Node, target: str) -> Rule:
    """The rule for a node's operator."""
    if node.domain not in DEFAULT_DOMAINS:
        return _NO_RULE
    return next((rule for rule in RULES[target] if node.op_type in rule.operators), _NO_RULE)


PRINCIPLES: MappingProxyType[str, str] = MappingProxyType(
    {
        "weights": "int8 from -127 to 127, symmetric, a scale for each output channel: depthwise convolutions, whose "
        "channels differ by orders of magnitude, lose most of their bits otherwise",
        "activations": "one scale a value; for ONNX Runtime uint8 with a zero point, so that what a Relu leaves has "
        "all 256 levels; for TensorRT int8 around 0, which is all it takes; for OpenVINO uint8 where nothing is "
        "negative, else int8 around 0",
        "biases": "for ONNX Runtime 32 bits on the scale of the sums that they are added to; for TensorRT, which "
        "rejects those, and OpenVINO in float",
        "zero": "always a level of its own: what padding adds, and what a Relu cuts off, is exact",
        "first layer": "quantized: pixels have 8 bits to begin with",
        "last layer": "reads 8 bits and gives floats: 256 levels of scores would tie, and change the winner",
        "concatenation": "inputs share the scale of the result where they lose at most a bit by it",
        "split, slice, pooling of maxima, reshape": "the same scale on both sides, so that bytes are moved",
        "relu, clip": "never a quantizer before it: the range behind it is the one that counts",
        "squeeze and excitation": "quantized throughout for ONNX Runtime, whose conversions cost more than the small "
        "products; pooled and gated in 8 bits",
        "channel shuffles": "eliminated before quantizing: between integer kernels each costs two transposes",
    }
)
"""What holds beside the rules for operators, by subject."""
