"""Blocks of published networks, and what they get wrong: parallel branches, gates, shuffle units, inception."""

from collections.abc import Callable, Sequence

import numpy as np
from onnx import helper

from fuzz import linear, movers, pointwise
from fuzz.draft import Draft, Tensor

Layer = Callable[[Draft, Tensor], Tensor]


def residual(draft: Draft, source: Tensor) -> Tensor:
    """A value and an earlier one of the same shape, added mostly."""
    others = [tensor for tensor in draft.images if tensor.shape == source.shape]
    other = draft.pick(*others)
    op = draft.pick("Add", "Add", "Add", "Sum", "Sub", "Max", "gate")
    if op == "gate":
        gate = draft.add("Sigmoid", [other.name], other.shape)
        return draft.add("Mul", [source.name, gate.name], source.shape)
    return draft.add(op, [source.name, other.name], source.shape)


def total(draft: Draft, parts: Sequence[Tensor]) -> Tensor:
    """The sum of all, by one Sum or by Adds from the left or the right."""
    if draft.maybe(3):
        return draft.add("Sum", [part.name for part in parts], parts[0].shape)
    whole = parts[0]
    for each in parts[1:]:
        pair = [whole.name, each.name]
        whole = draft.add("Add", pair if draft.maybe() else pair[::-1], whole.shape)
    return whole


def parallel_sum(draft: Draft, source: Tensor) -> Tensor:
    """RepVGG's block: convolutions of several sizes and the input itself, each with its batch norm, added up."""
    out = draft.pick(source.channels, 4, 8) if source.channels <= 24 else 4
    parts = []
    for kernel in draft.pick((3, 1), (3, 1, 0), (1, 1), (3, 3), (5, 1, 0), (1, 0)):
        if kernel:
            each = linear.conv(draft, source, out=out, kernel=kernel)
            if draft.maybe(6):
                each = pointwise.operator(draft, each)
        elif out == source.channels:
            each = source
        else:
            continue
        if draft.maybe():
            each = linear.batch_norm(draft, each)
        if draft.maybe(4):
            factor = draft.numbers(draft.pick((), (out, 1, 1)))
            each = draft.add("Mul", [each.name, factor], each.shape)
        parts.append(each)
    done = total(draft, parts) if len(parts) > 1 else parts[0]
    return pointwise.activation(draft, done) if draft.maybe() else done


def parallel_concat(draft: Draft, source: Tensor) -> Tensor:
    """Inception's block: convolutions and poolings of one input, side by side."""
    parts = []
    same, normed = draft.maybe(), draft.maybe()
    for _ in range(draft.pick(2, 3)):
        each = linear.conv(
            draft, source, out=draft.pick(4, 2, 6, 16), kernel=1 if same else draft.pick(1, 3, 5)
        )
        if normed:
            each = linear.batch_norm(draft, each)
        if draft.maybe(4):
            each = draft.add("Relu", [each.name], each.shape)
        parts.append(each)
    if draft.maybe(3) and source.channels <= 8:
        kinds = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [1, 1]}
        parts.append(draft.add(draft.pick("MaxPool", "AveragePool"), [source.name], source.shape, **kinds))
    if same and draft.maybe(3):
        return parts[-1]
    return movers.join(draft, parts)


def shuffle_unit(draft: Draft, source: Tensor) -> Tensor:
    """ShuffleNet v2's unit: halves, of which one goes through convolutions, joined and shuffled."""
    half = source.channels // 2
    if source.channels % 2 or half < 2:
        return movers.shuffle(draft, source)
    if draft.maybe():
        kept, worked = movers.split(draft, source, [half, half])
    else:
        kept = movers.cut(draft, source, 0, half)
        worked = movers.cut(draft, source, half, source.channels)
    worked = linear.conv(draft, worked, out=half, kernel=1)
    worked = pointwise.operator(draft, worked) if draft.maybe() else worked
    weight = draft.numbers((half, 1, 3, 3), 1 / 3)
    worked = draft.add("Conv", [worked.name, weight], worked.shape, group=half, pads=[1] * 4)
    worked = linear.batch_norm(draft, worked) if draft.maybe() else worked
    worked = linear.conv(draft, worked, out=half, kernel=1)
    return movers.shuffle(draft, movers.join(draft, [kept, worked] if draft.maybe() else [worked, kept]))


def grouped_shuffle(draft: Draft, source: Tensor) -> Tensor:
    """ShuffleNet v1's: grouped convolutions with a shuffle between them."""
    first = linear.conv(draft, source)
    mixed = movers.shuffle(draft, first)
    for layer in draft.pick(
        (), (pointwise.operator,), (linear.pool,), (linear.batch_norm, pointwise.operator)
    ):
        mixed = layer(draft, mixed)
    return linear.conv(draft, mixed)


def blocked_groups(draft: Draft, source: Tensor) -> Tensor:
    """ShuffleNet v1's unit with 16 channels a group outside and fewer within."""
    wide = linear.conv(draft, source, out=32, kernel=1)
    wide = draft.add("Relu", [wide.name], wide.shape)
    inner = 2 * draft.pick(14, 13, 15, 8)
    each = draft.add(
        "Conv", [wide.name, draft.numbers((inner, 16, 1, 1), 0.25)], (inner, *wide.side), group=2
    )
    each = draft.add("Relu", [each.name], each.shape) if draft.maybe() else each
    each = movers.shuffle(draft, each, groups=2)
    each = draft.add(
        "Conv", [each.name, draft.numbers((inner, 1, 3, 3), 1 / 3)], each.shape, group=inner, pads=[1] * 4
    )
    each = draft.add("Relu", [each.name], each.shape) if draft.maybe() else each
    weight = draft.numbers((32, inner // 2, 1, 1), 0.3)
    done = draft.add("Conv", [each.name, weight], (32, *each.side), group=2)
    return draft.add("Relu", [done.name], done.shape) if draft.maybe() else done


def same_pools(draft: Draft, source: Tensor) -> Tensor:
    """An average pooling of channels that fill no blocks, counted with its padding or without any."""
    if min(source.side) < 3:
        return source
    pad, count = draft.pick((0, 0), (1, 1), (1, 1), (1, 0))
    shape = (source.channels, *(size + 2 * pad - 2 for size in source.side))
    given = {"kernel_shape": [3, 3], "pads": [pad] * 4, "count_include_pad": count}
    return draft.add("AveragePool", [source.name], shape, **given)


def squeeze_excite(draft: Draft, source: Tensor) -> Tensor:
    """A gate for each channel, from the mean of each channel."""
    channels = source.channels
    narrow = max(1, channels // 2)
    if draft.maybe():
        pooled = linear.mean(draft, source, keep=True)
    else:
        pooled = draft.add("GlobalAveragePool", [source.name], (channels, 1, 1))
    if pooled.shape != (channels, 1, 1):
        return source
    if draft.maybe():
        small = linear.conv(draft, pooled, out=narrow, kernel=1)
        small = draft.add("Relu", [small.name], small.shape)
        wide = linear.conv(draft, small, out=channels, kernel=1)
    else:
        flat = draft.add("Flatten", [pooled.name], (channels,))
        small = _dense(draft, flat, narrow)
        wide = _dense(draft, draft.add("Relu", [small.name], small.shape), channels)
        if draft.maybe():
            wide = draft.reshape(wide, (channels, 1, 1), (channels, 1, 1))
        else:
            wide = draft.with_axes("Unsqueeze", wide, [2, 3], (channels, 1, 1), as_input_since=13)
    gate = draft.add(draft.pick("Sigmoid", "HardSigmoid"), [wide.name], wide.shape)
    return draft.add(
        "Mul", [source.name, gate.name] if draft.maybe() else [gate.name, source.name], source.shape
    )


def _dense(draft: Draft, source: Tensor, out: int) -> Tensor:
    features = source.channels
    form = draft.pick("Gemm", "Gemm", "MatMul")
    if form == "MatMul":
        done = draft.add("MatMul", [source.name, linear.weight(draft, (features, out), features)], (out,))
        return draft.add("Add", [done.name, draft.numbers((out,), 0.5)], (out,)) if draft.maybe() else done
    flipped = draft.pick(0, 1)
    inputs = [source.name, linear.weight(draft, (out, features) if flipped else (features, out), features)]
    if draft.opset < 11 or draft.maybe():
        inputs.append(draft.numbers(draft.pick((out,), (), (1, out), (1,)), 0.5))
    scales = draft.pick({}, {}, {"alpha": 0.5}, {"beta": -2.0}, {"alpha": 2.0, "beta": 0.5})
    return draft.add("Gemm", inputs, (out,), transB=flipped, **scales)


def linear_chain(draft: Draft, source: Tensor) -> Tensor:
    """Convolutions with nothing between them, or only what is affine."""
    for layer in draft.pick((linear.conv, linear.conv), (linear.conv, linear.arithmetic, linear.conv)):
        source = layer(draft, source)
    return linear.conv(draft, source, out=draft.pick(4, 8), kernel=draft.pick(1, 3))


def padded_conv(draft: Draft, source: Tensor) -> Tensor:
    return linear.conv(draft, linear.pad(draft, source))


def norm_of_conv(draft: Draft, source: Tensor) -> Tensor:
    return linear.batch_norm(draft, linear.conv(draft, source))


def norm_before_conv(draft: Draft, source: Tensor) -> Tensor:
    """DenseNet's order."""
    normed = linear.batch_norm(draft, source)
    if draft.maybe():
        normed = draft.add("Relu", [normed.name], normed.shape)
    return linear.conv(draft, normed)


def twice(draft: Draft, source: Tensor) -> Tensor:
    """A node once more, with the same inputs, and the sum of both."""
    made = {tensor.name: tensor for tensor in draft.images}
    candidates = [node for node in draft.nodes if len(node.output) == 1 and node.output[0] in made]
    if not candidates:
        return source
    node = draft.pick(*candidates[-4:])
    first = made[node.output[0]]
    again = type(node)()
    again.CopyFrom(node)
    again.output[0] = draft.fresh(f"again{len(draft.nodes)}")
    again.name = f"{node.name}_again" if node.name else ""
    draft.nodes.append(again)
    second = Tensor(again.output[0], first.shape)
    draft.images.append(second)
    return draft.add("Add", [first.name, second.name], first.shape)


def branch(draft: Draft, source: Tensor) -> Tensor:
    """An If whose branches read values of the graph around it, also ones that nothing else reads."""
    shape = source.shape
    others = [tensor.name for tensor in draft.images if tensor.shape == shape]
    captured = draft.pick(*others)
    subgraphs = []
    for label, op in (("then", "Relu"), ("else", "Neg")):
        result = draft.fresh(f"{label}{len(draft.nodes)}")
        inner = draft.fresh(f"{label}_in{len(draft.nodes)}")
        nodes = [
            helper.make_node(op, [captured], [inner]),
            helper.make_node("Add", [inner, source.name], [result]),
        ]
        output = helper.make_tensor_value_info(result, draft.elem_type, None)
        subgraphs.append(helper.make_graph(nodes, label, [], [output]))
    condition = draft.tensor(np.array(draft.pick(True, False)))
    return draft.add("If", [condition], shape, then_branch=subgraphs[0], else_branch=subgraphs[1])


def constants_only(draft: Draft, source: Tensor) -> Tensor:
    """Something computed from constants alone, added."""
    shape = (source.channels, 1, 1)
    op = draft.pick("Add", "Mul", "Sqrt", "Reshape", "ConstantOfShape", "Tile", "Range")
    if op == "ConstantOfShape":
        zeros = draft.add(op, [draft.integers(list(shape))], (), image=False)
        made = (
            zeros.name
            if draft.dtype == "float32"
            else draft.add("Cast", [zeros.name], (), to=draft.elem_type).name
        )
    elif op == "Reshape":
        flat = draft.numbers((source.channels,))
        made = draft.add(op, [flat, draft.integers([-1, 1, 1])], (), image=False).name
    elif op == "Tile":
        made = draft.add(op, [draft.numbers((1, 1, 1)), draft.integers(list(shape))], (), image=False).name
    elif op == "Sqrt":
        made = draft.add(op, [draft.numbers(shape, positive=True)], (), image=False).name
    elif op == "Range" and draft.opset >= 11:
        limits = [draft.integers(0), draft.integers(source.channels), draft.integers(1)]
        indices = draft.add(op, limits, (), image=False)
        return draft.add("Gather", [source.name, indices.name], source.shape, axis=1)
    else:
        op = draft.pick("Add", "Mul")
        made = draft.add(op, [draft.numbers(shape), draft.numbers(shape)], (), image=False).name
    return draft.add("Add", [source.name, made], source.shape)


def head(draft: Draft, source: Tensor) -> Tensor:
    """From maps to features, and dense layers with batch norms and activations on them."""
    flat = _flattened(draft, source)
    for _ in range(draft.pick(1, 2)):
        if draft.maybe(3):
            flat = linear.batch_norm(draft, flat)
        flat = _dense(draft, flat, draft.pick(3, 5, 16))
        if draft.maybe(3):
            flat = linear.batch_norm(draft, flat)
        if draft.maybe():
            flat = pointwise.operator(draft, flat)
    if draft.maybe(4):
        flat = draft.add("Softmax", [flat.name], flat.shape, axis=draft.pick(1, -1))
    draft.others.append(flat)
    return flat


def _flattened(draft: Draft, source: Tensor) -> Tensor:
    channels, height, width = source.shape
    form = draft.pick("pooled", "pooled", "Flatten", "Reshape", "mean", "conv")
    if form == "conv":
        # A classifier as a convolution, as in SqueezeNet, pooled and reshaped.
        source, form = linear.conv(draft, source, out=draft.pick(3, 8), kernel=1), "pooled"
        channels = source.channels
    if form == "mean":
        return linear.mean(draft, source, keep=False)
    if form == "pooled":
        pooled = draft.add("GlobalAveragePool", [source.name], (channels, 1, 1))
        if draft.maybe(3):
            return draft.with_axes("Squeeze", pooled, [2, 3], (channels,), as_input_since=13)
        source, height, width = pooled, 1, 1
    features = channels * height * width
    if form == "Reshape" or draft.maybe():
        return draft.reshape(source, (features,), (features,))
    axis = draft.pick(1, 1, 1 - len(source.shape) - 1) if draft.opset >= 11 else 1
    return draft.add("Flatten", [source.name], (features,), axis=axis)
