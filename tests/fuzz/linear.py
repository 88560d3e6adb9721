"""Layers that are linear: convolutions of every kind, batch norms, arithmetic with constants, pooling, padding."""

from typing import Any

import numpy as np

from fuzz.draft import Draft, Tensor

_WIDTHS = (4, 2, 3, 6, 8, 12, 15, 16, 24, 29)


def window(size: int, kernel: int, stride: int, dilation: int, padding: int) -> int:
    """Outputs along one axis of whatever slides a window over it; less than 1 where it does not fit."""
    return (size + padding - (dilation * (kernel - 1) + 1)) // stride + 1


def weight(draft: Draft, shape: tuple[int, ...], fan_in: int) -> str:
    """A matrix or kernel: as an initializer mostly, or made from one, or quantised."""
    scale = fan_in**-0.5
    form = draft.pick(*["plain"] * 12, "identity", "scaled", "quantised", "transposed")
    if form == "identity":
        return draft.add("Identity", [draft.numbers(shape, scale)], (), image=False).name
    if form == "scaled":
        factors = draft.numbers((shape[0], *[1] * (len(shape) - 1)), 0.5, positive=True)
        return draft.add("Mul", [draft.numbers(shape, 2 * scale), factors], (), image=False).name
    if form == "quantised" and draft.opset >= 10 and draft.dtype == "float32":
        levels = draft.tensor(draft.rng.integers(-100, 100, size=shape).astype(np.int8))
        inputs = [levels, draft.constant(scale / 60), draft.tensor(np.array(0, np.int8))]
        return draft.add("DequantizeLinear", inputs, (), image=False).name
    if form == "transposed":
        stored = draft.numbers(tuple(reversed(shape)), scale)
        return draft.add("Transpose", [stored], (), image=False).name
    return draft.numbers(shape, scale)


def conv(draft: Draft, source: Tensor, *, out: int | None = None, kernel: int | None = None) -> Tensor:
    """Any Conv; with ``kernel``, one of that size that keeps height and width."""
    channels, *side = source.shape
    divisors = [group for group in (2, 3, 4) if channels % group == 0]
    groups = 1 if out else draft.pick(1, 1, 1, channels, *divisors)
    outs = [each for each in _WIDTHS if each % groups == 0] if groups < channels else [channels, 2 * channels]
    width = out or draft.pick(*[each for each in outs if each <= 48] or [groups])
    if kernel is not None:
        kernels, given = (kernel, kernel), _keeping(draft, kernel)
        shape = (width, *side)
    else:
        kernels = draft.pick((1, 1), (3, 3), (3, 3), (2, 2), (1, 3), (5, 5))
        shape, given = _slide(draft, side, kernels)
        shape = (width, *shape)
    if min(shape) < 1:
        return source
    if groups > 1 or draft.maybe():
        given["group"] = groups
    if draft.maybe():
        given["kernel_shape"] = list(kernels)
    fan_in = channels // groups * int(np.prod(kernels))
    inputs = [source.name, weight(draft, (width, channels // groups, *kernels), fan_in)]
    if draft.maybe():
        inputs.append(draft.numbers((width,), 0.5))
    return draft.add("Conv", inputs, shape, **given)


def _keeping(draft: Draft, kernel: int) -> dict[str, Any]:
    if kernel == 1:
        return {}
    if draft.maybe(3):
        return {"auto_pad": draft.pick("SAME_UPPER", "SAME_LOWER")}
    return {"pads": [kernel // 2] * 4}


def _slide(draft: Draft, side: list[int], kernels: tuple[int, int]) -> tuple[tuple[int, ...], dict[str, Any]]:
    """Height and width of the result, and the attributes that lead there."""
    strides = draft.pick((1, 1), (1, 1), (2, 2), (1, 2))
    given: dict[str, Any] = {"strides": list(strides)} if strides != (1, 1) or draft.maybe() else {}
    padding = draft.pick("none", "none", "even", "even", "uneven", "auto")
    if padding == "auto":
        given["auto_pad"] = mode = draft.pick("SAME_UPPER", "SAME_LOWER", "VALID")
        if mode == "VALID":
            pairs = zip(side, kernels, strides, strict=True)
            return tuple(window(size, k, s, 1, 0) for size, k, s in pairs), given
        return tuple(-(-size // stride) for size, stride in zip(side, strides, strict=True)), given
    dilations = draft.pick((1, 1), (1, 1), (1, 1), (2, 2), (2, 1)) if max(kernels) > 1 else (1, 1)
    if dilations != (1, 1) or draft.maybe():
        given["dilations"] = list(dilations)
    pads = [0, 0, 0, 0]
    if padding == "even":
        pads = [k // 2 * d for k, d in zip(kernels, dilations, strict=True)] * 2
    elif padding == "uneven":
        pads = [draft.pick(0, 1) for _ in range(4)]
    if any(pads) or draft.maybe():
        given["pads"] = pads
    sizes = zip(side, kernels, strides, dilations, pads[:2], pads[2:], strict=True)
    return tuple(window(size, k, s, d, a + b) for size, k, s, d, a, b in sizes), given


def transposed_conv(draft: Draft, source: Tensor) -> Tensor:
    channels, *side = source.shape
    groups = draft.pick(1, 1, channels, *([2] if channels % 2 == 0 else []))
    each = draft.pick(1, 2, 4) if groups == 1 else draft.pick(1, 2)
    kernel, stride = draft.pick(1, 2, 3), draft.pick(1, 1, 2)
    pad = draft.pick(0, 0, 1) if kernel == 3 else 0
    extra = draft.pick(0, 1) if stride == 2 else 0
    shape = tuple((size - 1) * stride + extra + kernel - 2 * pad for size in side)
    if groups * each > 48 or max(shape) > 12 or min(shape) < 1:
        return source
    given: dict[str, Any] = {"group": groups, "strides": [stride] * 2, "pads": [pad] * 4}
    if extra:
        given["output_padding"] = [extra] * 2
    fan_in = max(1, channels // groups * kernel**2 // stride**2)
    inputs = [source.name, weight(draft, (channels, each, kernel, kernel), fan_in)]
    if draft.maybe():
        inputs.append(draft.numbers((groups * each,), 0.5))
    return draft.add("ConvTranspose", inputs, (groups * each, *shape), **given)


def batch_norm(draft: Draft, source: Tensor) -> Tensor:
    """BatchNormalization, or the arithmetic that it stands for."""
    size = (source.channels,)
    if draft.maybe(6) and len(source.shape) == 3:
        return _written_norm(draft, source)
    inputs = [
        source.name,
        draft.numbers(size),
        draft.numbers(size, 0.5),
        draft.numbers(size, 0.5),
        draft.numbers(size, draft.pick(1.0, 0.2), positive=True),
    ]
    epsilon = draft.pick(1e-5, None, 1e-3, 1e-2)
    given = {} if epsilon is None else {"epsilon": epsilon}
    if draft.opset >= 14 and draft.maybe():
        given["training_mode"] = 0
    return draft.add("BatchNormalization", inputs, source.shape, **given)


def _written_norm(draft: Draft, source: Tensor) -> Tensor:
    column = (source.channels, 1, 1)
    centred = draft.add("Sub", [source.name, draft.numbers(column, 0.5)], source.shape)
    op, spread = draft.pick(("Mul", False), ("Div", True))
    scaled = draft.add(op, [centred.name, draft.numbers(column, 1.0, positive=spread)], source.shape)
    return draft.add("Add", [scaled.name, draft.numbers(column, 0.5)], source.shape)


def arithmetic(draft: Draft, source: Tensor) -> Tensor:
    """One operation with a constant: a number, one a channel, one a pixel, or one an element."""
    if draft.maybe(10):
        return draft.add("Neg", [source.name], source.shape)
    channels, height, width = source.shape
    shape = draft.pick(
        (channels, 1, 1),
        (),
        (1, channels, 1, 1),
        (1,),
        (1, 1, height, width),
        (width,),
        (1, *source.shape),
        (1, 1, 1, 1),
    )
    op = draft.pick("Add", "Mul", "Sub", "Div")
    first = draft.maybe(3) and op != "Div"
    constant = draft.numbers(shape, 1.0, positive=op == "Div")
    return draft.add(op, [constant, source.name] if first else [source.name, constant], source.shape)


def pool(draft: Draft, source: Tensor) -> Tensor:
    channels, *side = source.shape
    op = draft.pick("AveragePool", "MaxPool", "AveragePool", "GlobalAveragePool", "ReduceMean", "LpPool")
    if op == "ReduceMean":
        return mean(draft, source, keep=True)
    if op == "GlobalAveragePool" or min(side) < 2:
        return draft.add(draft.pick("GlobalAveragePool", "GlobalMaxPool"), [source.name], (channels, 1, 1))
    kernel = draft.pick(2, 3) if min(side) > 2 else 2
    if draft.maybe(5):
        return draft.add(
            op, [source.name], source.shape, kernel_shape=[3, 3], strides=[1, 1], auto_pad="SAME_UPPER"
        )
    stride, pad = draft.pick(1, 2), draft.pick(0, 0, 1)
    given: dict[str, Any] = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
    sizes = [window(size, kernel, stride, 1, 2 * pad) for size in side]
    # A window that would start in the padding behind the picture is left out, but not by every opset's inference.
    more = [-(-(size + 2 * pad - kernel) // stride) + 1 for size in side]
    clear = all((count - 1) * stride < size + pad for count, size in zip(more, side, strict=True))
    if op != "LpPool" and draft.opset >= 10 and clear and draft.maybe(3):
        given["ceil_mode"], sizes = 1, more
    if op == "AveragePool" and draft.maybe():
        given["count_include_pad"] = draft.pick(0, 1)
    return draft.add(op, [source.name], (channels, *sizes), **given) if min(sizes) > 0 else source


def mean(draft: Draft, source: Tensor, *, keep: bool) -> Tensor:
    """ReduceMean over height and width, now and then over something else."""
    channels, height, width = source.shape
    axes = draft.pick([2, 3], [-1, -2], [2, 3], [-2, -1])
    shape = (channels, 1, 1) if keep else (channels,)
    if keep and draft.maybe(6):
        axes, shape = draft.pick(([3], (channels, height, 1)), ([1], (1, height, width)))
    return draft.with_axes("ReduceMean", source, axes, shape, as_input_since=18, keepdims=int(keep))


def pad(draft: Draft, source: Tensor) -> Tensor:
    """Pad of height and width, sometimes of channels, by zeros, another number, or what lies at the edge."""
    channels, height, width = source.shape
    mode = draft.pick("constant", "constant", "constant", "reflect", "edge")
    front = draft.pick(*[0] * 5, 1) if mode == "constant" else 0
    amounts = [0, front, *[draft.pick(1, 0) for _ in range(2)], 0, 0, *[draft.pick(1, 0) for _ in range(2)]]
    shape = tuple(
        size + before + after
        for size, before, after in zip(source.shape, amounts[1:4], amounts[5:], strict=True)
    )
    value = draft.pick(0.0, 0.0, 0.0, 0.5) if mode == "constant" else 0.0
    if min(height, width) < 2 or channels > 40 or max(shape[1:]) > 12:
        return source
    if draft.opset < 11:
        return draft.add("Pad", [source.name], shape, pads=amounts, value=value, mode=mode)
    if draft.opset >= 18 and front == 0 and draft.maybe(3):
        amounts = [*amounts[2:4], *amounts[6:]]
        inputs = [
            draft.integers(amounts),
            draft.constant(value),
            draft.integers(draft.pick([2, 3], [-2, -1])),
        ]
        return draft.add("Pad", [source.name, *inputs], shape, mode=mode)
    inputs = [source.name, draft.integers(amounts)]
    if value or draft.maybe():
        inputs.append(draft.constant(value))
    return draft.add("Pad", inputs, shape, mode=mode)
