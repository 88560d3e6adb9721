"""Activations as operators and written out, normalisations of other kinds, and operators that do nothing."""

import math
from typing import Any

import numpy as np
from onnx import TensorProto

from fuzz.draft import Draft, Tensor

_SINCE = {"ThresholdedRelu": 10, "Celu": 12, "HardSwish": 14, "Mish": 18, "Gelu": 20}


def activation(draft: Draft, source: Tensor) -> Tensor:
    kind = draft.pick(operator, operator, operator, clip, hard_swish, gelu, mish, silu, leaky, custom)
    return kind(draft, source)


def operator(draft: Draft, source: Tensor) -> Tensor:
    names = (
        "Relu",
        "Relu",
        "Sigmoid",
        "Tanh",
        "LeakyRelu",
        "Elu",
        "HardSigmoid",
        "Softplus",
        "Selu",
        "Softsign",
    )
    names += ("ThresholdedRelu", "Celu", "HardSwish", "Mish", "Gelu", "PRelu", "Erf", "Abs", "Exp")
    if draft.dtype != "float32":
        names = tuple(name for name in names if name != "Celu")
    op = draft.pick(*[name for name in names if draft.opset >= _SINCE.get(name, 0)])
    if op == "PRelu":
        shape = draft.pick((1,), (source.channels, *[1] * len(source.side)))
        return draft.add("PRelu", [source.name, draft.numbers(shape, 0.3)], source.shape)
    given: dict[str, Any] = {}
    if op in {"LeakyRelu", "Elu"} and draft.maybe():
        given["alpha"] = 0.3
    if op == "HardSigmoid" and draft.maybe():
        given["alpha"] = 1 / 6
    if op == "Gelu" and draft.maybe():
        given["approximate"] = "tanh"
    if op == "Exp":
        # Of something bounded.
        bounded = draft.add("Tanh", [source.name], source.shape)
        return draft.add("Exp", [bounded.name], source.shape)
    return draft.add(op, [source.name], source.shape, **given)


def _clipped(draft: Draft, source: Tensor, low: float | None, high: float | None) -> Tensor:
    if draft.opset < 11:
        limits = {"min": low, "max": high}
        return draft.add(
            "Clip",
            [source.name],
            source.shape,
            **{key: each for key, each in limits.items() if each is not None},
        )
    inputs = [source.name, *("" if each is None else draft.constant(each) for each in (low, high))]
    while not inputs[-1]:
        inputs.pop()
    return draft.add("Clip", inputs, source.shape)


def clip(draft: Draft, source: Tensor) -> Tensor:
    low, high = draft.pick((0.0, 6.0), (0.0, None), (-0.5, 0.5), (None, 1.0), (0.0, 1.0))
    if draft.maybe(4) and low is not None and high is not None:
        lower = draft.add("Max", [source.name, draft.constant(low)], source.shape)
        return draft.add("Min", [lower.name, draft.constant(high)], source.shape)
    return _clipped(draft, source, low, high)


def _product(draft: Draft, one: str, other: str, source: Tensor) -> Tensor:
    return draft.add("Mul", [one, other] if draft.maybe() else [other, one], source.shape)


def hard_swish(draft: Draft, source: Tensor) -> Tensor:
    """x * relu6(x + 3) / 6, in the orders in which exporters write it; sometimes with a number that is wrong."""
    form = draft.pick("divided", "scaled", "gate", "six")
    offset = draft.pick(3.0, 3.0, 3.0, 2.5)
    if form == "gate":
        gate = draft.add("HardSigmoid", [source.name], source.shape, alpha=draft.pick(1 / 6, 0.2), beta=0.5)
        return _product(draft, source.name, gate.name, source)
    inputs = [source.name, draft.constant(offset)]
    shifted = draft.add("Add", inputs if draft.maybe() else inputs[::-1], source.shape)
    gate = _clipped(draft, shifted, 0.0, 6.0)
    if form == "six":
        gate = draft.add("Div", [gate.name, draft.constant(6.0)], source.shape)
        return _product(draft, source.name, gate.name, source)
    whole = _product(draft, source.name, gate.name, source)
    if form == "divided":
        return draft.add("Div", [whole.name, draft.constant(6.0)], source.shape)
    return draft.add("Mul", [whole.name, draft.constant(1 / 6)], source.shape)


def gelu(draft: Draft, source: Tensor) -> Tensor:
    """x/2 (1 + erf(x / sqrt 2)), or its approximation by tanh."""
    half = draft.constant(0.5)
    if draft.maybe(3):
        cube = draft.add("Pow", [source.name, draft.constant(3.0)], source.shape)
        small = draft.add("Mul", [cube.name, draft.constant(0.044715)], source.shape)
        total = draft.add("Add", [source.name, small.name], source.shape)
        scaled = draft.add("Mul", [total.name, draft.constant(math.sqrt(2 / math.pi))], source.shape)
        inner = draft.add("Tanh", [scaled.name], source.shape)
    else:
        op, number = draft.pick(("Div", math.sqrt(2)), ("Mul", math.sqrt(0.5)), ("Div", 1.5))
        scaled = draft.add(op, [source.name, draft.constant(number)], source.shape)
        inner = draft.add("Erf", [scaled.name], source.shape)
    one = draft.add("Add", [inner.name, draft.constant(1.0)], source.shape)
    if draft.maybe():
        product = _product(draft, source.name, one.name, source)
        return draft.add("Mul", [product.name, half], source.shape)
    halved = draft.add("Mul", [source.name, half], source.shape)
    return _product(draft, halved.name, one.name, source)


def mish(draft: Draft, source: Tensor) -> Tensor:
    soft = draft.add("Softplus", [source.name], source.shape)
    gate = draft.add("Tanh", [soft.name], source.shape)
    return _product(draft, source.name, gate.name, source)


def silu(draft: Draft, source: Tensor) -> Tensor:
    gate = draft.add("Sigmoid", [source.name], source.shape)
    return _product(draft, source.name, gate.name, source)


def leaky(draft: Draft, source: Tensor) -> Tensor:
    """max(x, a x), which is a leaky ReLU for a below 1."""
    small = draft.add("Mul", [source.name, draft.constant(draft.pick(0.1, 0.3))], source.shape)
    return draft.add("Max", [source.name, small.name], source.shape)


def custom(draft: Draft, source: Tensor) -> Tensor:
    """An operator that the standard does not know, behind which no shapes are known."""
    if draft.dtype != "float32":
        return operator(draft, source)
    draft.domains.add("com.microsoft")
    return draft.add("QuickGelu", [source.name], source.shape, domain="com.microsoft", alpha=1.0)


def other_norm(draft: Draft, source: Tensor) -> Tensor:
    """Normalisations that depend on the input, and so fold into nothing."""
    kind = draft.pick(local_response, written_response, instance_norm, written_instance, layer_norm_last)
    kind = draft.pick(kind, kind, kind, group_norm, softmax)
    return kind(draft, source)


def local_response(draft: Draft, source: Tensor) -> Tensor:
    return draft.add("LRN", [source.name], source.shape, size=draft.pick(3, 5), alpha=0.1, beta=0.75)


def written_response(draft: Draft, source: Tensor) -> Tensor:
    """LRN as torch writes it: the squares' channels as an axis of their own, averaged with the padding counted."""
    channels, height, width = source.shape
    if draft.maybe():
        square = draft.add("Mul", [source.name, source.name], source.shape, image=False)
    else:
        square = draft.add("Pow", [source.name, draft.constant(2.0)], source.shape, image=False)
    shape = (1, channels, height, width)
    apart = draft.with_axes("Unsqueeze", square, [1], shape, as_input_since=13)
    size = draft.pick(3, 5)
    half = size // 2
    given = {"kernel_shape": [size, 1, 1], "pads": [half, 0, 0, half, 0, 0], "strides": [1, 1, 1]}
    average = draft.add(
        "AveragePool", [apart.name], shape, image=False, count_include_pad=draft.pick(1, 1, 0), **given
    )
    back = draft.with_axes("Squeeze", average, [1], source.shape, as_input_since=13, image=False)
    scaled = draft.add("Mul", [back.name, draft.constant(0.3)], source.shape, image=False)
    moved = draft.add("Add", [scaled.name, draft.constant(1.0)], source.shape, image=False)
    power = draft.add("Pow", [moved.name, draft.constant(0.75)], source.shape, image=False)
    return draft.add("Div", [source.name, power.name], source.shape)


def written_instance(draft: Draft, source: Tensor) -> Tensor:
    """InstanceNormalization in steps."""
    if min(source.side) < 2:
        return source
    one = (source.channels, 1, 1)

    def average(value: Tensor) -> Tensor:
        return draft.with_axes("ReduceMean", value, [2, 3], one, as_input_since=18, keepdims=1, image=False)

    centred = draft.add("Sub", [source.name, average(source).name], source.shape, image=False)
    square = draft.add("Mul", [centred.name, centred.name], source.shape, image=False)
    safe = draft.add("Add", [average(square).name, draft.constant(1e-3)], one, image=False)
    root = draft.add("Sqrt", [safe.name], one, image=False)
    whole = draft.add("Div", [centred.name, root.name], source.shape)
    if draft.maybe():
        whole = draft.add("Mul", [whole.name, draft.numbers(one)], source.shape)
        whole = draft.add("Add", [whole.name, draft.numbers(one, 0.5)], source.shape)
    return whole


def instance_norm(draft: Draft, source: Tensor) -> Tensor:
    if min(source.side) < 2:
        return source
    size = (source.channels,)
    inputs = [source.name, draft.numbers(size), draft.numbers(size, 0.5)]
    return draft.add("InstanceNormalization", inputs, source.shape, epsilon=1e-3)


def softmax(draft: Draft, source: Tensor) -> Tensor:
    # Before opset 13 it runs over all axes from this one on, which onnx's reference does not know.
    axis = draft.pick(1, 3, -1) if draft.opset >= 13 else 3
    return draft.add("Softmax", [source.name], source.shape, axis=axis)


def _average(draft: Draft, source: Tensor, shape: tuple[int, ...]) -> Tensor:
    return draft.with_axes("ReduceMean", source, [-1], shape, as_input_since=18, keepdims=1, image=False)


def _normalised_last(draft: Draft, last: Tensor) -> Tensor:
    """Over the last axis, by the operator or in steps."""
    scale, shift = draft.numbers(last.shape[-1:]), draft.numbers(last.shape[-1:], 0.5)
    if draft.opset >= 17 and draft.maybe():
        return draft.add(
            "LayerNormalization", [last.name, scale, shift], last.shape, axis=-1, epsilon=1e-3, image=False
        )
    one = (*last.shape[:-1], 1)
    centred = draft.add("Sub", [last.name, _average(draft, last, one).name], last.shape, image=False)
    if draft.maybe():
        square = draft.add("Mul", [centred.name, centred.name], last.shape, image=False)
    else:
        square = draft.add("Pow", [centred.name, draft.constant(2.0)], last.shape, image=False)
    spread = _average(draft, square, one)
    safe = draft.add("Add", [spread.name, draft.constant(draft.pick(1e-3, 1e-5))], one, image=False)
    root = draft.add("Sqrt", [safe.name], one, image=False)
    whole = draft.add("Div", [centred.name, root.name], last.shape, image=False)
    scaled = draft.add("Mul", [whole.name, scale], last.shape, image=False)
    return draft.add("Add", [scaled.name, shift], last.shape, image=False)


def layer_norm_last(draft: Draft, source: Tensor) -> Tensor:
    """ConvNeXt's: over channels, which a Transpose makes the last axis and another one the second again."""
    channels, height, width = source.shape
    if channels < 4:
        return source
    last = draft.add("Transpose", [source.name], (height, width, channels), perm=[0, 2, 3, 1], image=False)
    done = _normalised_last(draft, last)
    if draft.maybe():
        matrix = draft.numbers((channels, channels), channels**-0.5)
        done = draft.add("MatMul", [done.name, matrix], done.shape, image=False)
    return draft.add("Transpose", [done.name], source.shape, perm=[0, 3, 1, 2])


def group_norm(draft: Draft, source: Tensor) -> Tensor:
    """As torch writes it before opset 18: Reshape, InstanceNormalization, Reshape; or the operator."""
    channels = source.channels
    if channels % 2 or min(source.side) < 2:
        return source
    column = (channels, 1, 1)
    if draft.opset >= 21 and draft.maybe():
        inputs = [source.name, draft.numbers((channels,)), draft.numbers((channels,), 0.5)]
        return draft.add("GroupNormalization", inputs, source.shape, num_groups=2, epsilon=1e-3)
    flat = draft.add("Reshape", [source.name, draft.integers([0, 2, -1])], (2, -1), image=False)
    ones, zeros = draft.constant(np.ones(2)), draft.constant(np.zeros(2))
    done = draft.add("InstanceNormalization", [flat.name, ones, zeros], (2, -1), epsilon=1e-3, image=False)
    whole = draft.reshape(done, source.shape, source.shape)
    scaled = draft.add("Mul", [whole.name, draft.numbers(column)], source.shape)
    return draft.add("Add", [scaled.name, draft.numbers(column, 0.5)], source.shape)


def nothing(draft: Draft, source: Tensor) -> Tensor:
    """Operators that give out what they get."""
    shape, name = source.shape, source.name
    kind = draft.pick(
        "Identity", "Dropout", "zero", "one", "Concat", "Transpose", "Reshape", "Cast", "Expand", "Sum"
    )
    if kind == "zero":
        return draft.add(draft.pick("Add", "Sub"), [name, draft.constant(0.0)], shape)
    if kind == "one":
        return draft.add(
            draft.pick("Mul", "Div"), [name, draft.constant(draft.pick(1.0, np.ones((1, 1, 1))))], shape
        )
    if kind == "Concat":
        return draft.add("Concat", [name], shape, axis=1)
    if kind == "Transpose":
        return draft.add("Transpose", [name], shape, perm=[0, 1, 2, 3])
    if kind == "Reshape":
        return draft.reshape(source, shape, shape)
    if kind == "Cast":
        return draft.add("Cast", [name], shape, to=draft.elem_type)
    if kind == "Expand":
        return draft.add("Expand", [name, draft.integers([1, *[1] * len(shape)])], shape)
    if kind == "Dropout" and draft.opset >= 12 and draft.maybe():
        training = draft.tensor(np.array(False))
        return draft.add("Dropout", [name, draft.constant(0.5), training], shape)
    return draft.add(kind, [name], shape)


def half_and_back(draft: Draft, source: Tensor) -> Tensor:
    """A Cast there and back, which rounds, and so is not nothing."""
    if draft.dtype != "float32":
        return source
    half = draft.add("Cast", [source.name], source.shape, to=TensorProto.FLOAT16, image=False)
    return draft.add("Cast", [half.name], source.shape, to=TensorProto.FLOAT)
