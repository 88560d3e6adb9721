"""What moves channels and pixels and computes nothing: shuffles in every spelling, cuts, joins, transpositions."""

from collections.abc import Sequence

from fuzz.draft import Draft, Tensor


def shuffle(draft: Draft, source: Tensor, groups: int = 0) -> Tensor:
    """A channel shuffle, of any number of groups if none is given, or another order of channels."""
    channels = source.channels
    divisors = [each for each in (2, 3, 4, channels // 2) if each > 1 and channels % each == 0]
    if not divisors or channels < 4:
        return source
    if groups:
        return draft.pick(_in_five, _in_three, _gathered)(draft, source, groups)
    groups = draft.pick(*divisors)
    spelling = draft.pick(_in_five, _in_three, _gathered, _split_up, _permuted)
    return spelling(draft, source, groups)


def _in_five(draft: Draft, source: Tensor, groups: int) -> Tensor:
    channels, height, width = source.shape
    dims = (groups, channels // groups, height, width)
    cut = draft.reshape(source, dims, dims)
    moved = draft.add(
        "Transpose", [cut.name], (dims[1], dims[0], height, width), perm=[0, 2, 1, 3, 4], image=False
    )
    return draft.reshape(moved, source.shape, source.shape)


def _in_three(draft: Draft, source: Tensor, groups: int) -> Tensor:
    """The batch and the groups in one dimension; the batch open or not."""
    channels, height, width = source.shape
    each = channels // groups
    first = draft.integers([-1, groups, each * height * width]) if draft.maybe() else None
    if first is not None:
        cut = draft.add("Reshape", [source.name, first], (groups, each * height * width), image=False)
        swapped = draft.reshape(cut, (groups, each, height * width), (groups, each, height * width))
    else:
        swapped = draft.reshape(source, (groups, each, height * width), (groups, each, height * width))
    moved = draft.add(
        "Transpose", [swapped.name], (each, groups, height * width), perm=[0, 2, 1, 3], image=False
    )
    return draft.reshape(moved, source.shape, source.shape)


def _order(channels: int, groups: int) -> list[int]:
    return [
        group * (channels // groups) + place for place in range(channels // groups) for group in range(groups)
    ]


def _gathered(draft: Draft, source: Tensor, groups: int) -> Tensor:
    order = _order(source.channels, groups)
    if draft.maybe(3):
        order = [index - source.channels for index in order]
    return draft.add("Gather", [source.name, draft.integers(order)], source.shape, axis=draft.pick(1, -3))


def _split_up(draft: Draft, source: Tensor, groups: int) -> Tensor:
    """Channel by channel, joined in another order."""
    if source.channels > 16:
        return source
    parts = split(draft, source, [1] * source.channels)
    return join(draft, [parts[index] for index in _order(source.channels, groups)])


def _permuted(draft: Draft, source: Tensor, groups: int) -> Tensor:
    """Any order of channels, a channel twice now and then."""
    order = draft.rng.permutation(source.channels).tolist()
    if draft.maybe(4):
        order[0] = order[-1]
    return draft.add("Gather", [source.name, draft.integers(order)], source.shape, axis=1)


def split(draft: Draft, source: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """A Split on channels, with its sizes given or, where they are equal, left out."""
    shapes = [(size, *source.side) for size in sizes]
    axis = draft.pick(1, -3)
    if len(set(sizes)) == 1 and (len(sizes) > 1 or draft.opset >= 18) and draft.maybe(3):
        given = {"num_outputs": len(sizes)} if draft.opset >= 18 else {}
        return draft.add_many("Split", [source.name], shapes, axis=axis, **given)
    if draft.opset >= 13:
        return draft.add_many("Split", [source.name, draft.integers(list(sizes))], shapes, axis=axis)
    return draft.add_many("Split", [source.name], shapes, axis=axis, split=list(sizes))


def cut(draft: Draft, source: Tensor, start: int, stop: int, *, axis: int = 1, step: int = 1) -> Tensor:
    """A Slice of one axis; counted from either end."""
    size = source.shape[axis - 1]
    count = len(range(*slice(start, stop, step).indices(size)))
    shape = (*source.shape[: axis - 1], count, *source.shape[axis:])
    if start and draft.maybe(3):
        start -= size
    if stop == size and draft.maybe():
        stop = 2**31 - 1
    named = draft.pick(axis, axis - 1 - len(source.shape))
    if draft.opset < 10:
        if step != 1:
            return source
        return draft.add("Slice", [source.name], shape, starts=[start], ends=[stop], axes=[named])
    inputs = [source.name, *(draft.integers([each]) for each in (start, stop, named))]
    if step != 1 or draft.maybe():
        inputs.append(draft.integers([step]))
    return draft.add("Slice", inputs, shape)


def join(draft: Draft, parts: Sequence[Tensor], *, axis: int = 1) -> Tensor:
    shape = list(parts[0].shape)
    shape[axis - 1] = sum(part.shape[axis - 1] for part in parts)
    named = draft.pick(axis, axis - 1 - len(shape))
    return draft.add("Concat", [part.name for part in parts], tuple(shape), axis=named)


def concat(draft: Draft, source: Tensor) -> Tensor:
    """Values of one height and width side by side, the same one twice now and then; rarely one above the other."""
    if draft.maybe(10) and source.shape[1] <= 6:
        others = [tensor for tensor in draft.images if tensor.shape == source.shape]
        return join(draft, [source, draft.pick(*others)], axis=2)
    others = [tensor for tensor in draft.images if tensor.side == source.side]
    parts = [source, *(draft.pick(*others) for _ in range(draft.pick(1, 1, 2)))]
    return join(draft, parts) if sum(part.channels for part in parts) <= 48 else source


def part(draft: Draft, source: Tensor) -> Tensor:
    """Some of the channels, by Split or Slice; sometimes rows, or every second channel."""
    channels, height, _ = source.shape
    if draft.maybe(8) and height > 2:
        return cut(draft, source, 1, height, axis=2)
    if channels < 2:
        return source
    if draft.maybe():
        first = draft.pick(channels // 2, 1, channels - 1)
        return draft.pick(*split(draft, source, [first, channels - first]))
    if draft.maybe(4):
        return cut(draft, source, draft.pick(0, 1), channels, step=2)
    start = draft.pick(0, channels // 2)
    return cut(draft, source, start, draft.pick(channels, max(start + 1, channels - 1)))


def transposed(draft: Draft, source: Tensor) -> Tensor:
    """Channels last, something done there, and channels second again; or height and width changed over."""
    channels, height, width = source.shape
    if draft.maybe(6):
        return draft.add("Transpose", [source.name], (channels, width, height), perm=[0, 1, 3, 2])
    last = draft.add("Transpose", [source.name], (height, width, channels), perm=[0, 2, 3, 1], image=False)
    for _ in range(draft.pick(1, 0, 2, 2)):
        kind = draft.pick("Relu", "bias", "scale", "Sigmoid", "residual", "mean", "MatMul", "MatMul", "rows")
        if kind in {"bias", "scale"}:
            constant = draft.numbers(draft.pick((channels,), (1, 1, 1, channels), (), (width, channels)))
            op = "Add" if kind == "bias" else "Mul"
            last = draft.add(op, [last.name, constant], last.shape, image=False)
        elif kind == "residual":
            others = [tensor for tensor in draft.images if tensor.shape == source.shape]
            perm = [0, 2, 3, 1]
            other = draft.add("Transpose", [draft.pick(*others).name], last.shape, perm=perm, image=False)
            last = draft.add("Add", [last.name, other.name], last.shape, image=False)
        elif kind == "mean":
            wide = draft.with_axes(
                "ReduceMean", last, [1, 2], (1, 1, channels), as_input_since=18, image=False
            )
            last = draft.add("Mul", [last.name, wide.name], last.shape, image=False)
        elif kind == "rows":
            last = _as_rows(draft, last)
        elif kind == "MatMul":
            matrix = draft.numbers((channels, channels), channels**-0.5)
            last = draft.add("MatMul", [last.name, matrix], last.shape, image=False)
        else:
            last = draft.add(kind, [last.name], last.shape, image=False)
    return draft.add("Transpose", [last.name], source.shape, perm=[0, 3, 1, 2])


def _as_rows(draft: Draft, last: Tensor) -> Tensor:
    """A Gemm for a MatMul, as simplifiers write it: the pixels as rows, and back."""
    height, width, channels = last.shape
    rows = draft.add("Reshape", [last.name, draft.integers([-1, channels])], (channels,), image=False)
    inputs = [rows.name, draft.numbers((channels, channels), channels**-0.5), draft.numbers((channels,), 0.5)]
    flipped = draft.pick(0, 1)
    done = draft.add("Gemm", inputs, (channels,), image=False, transB=flipped, alpha=draft.pick(1.0, 0.5))
    return draft.add(
        "Reshape", [done.name, draft.integers([-1, height, width, channels])], last.shape, image=False
    )


def nested(draft: Draft, source: Tensor) -> Tensor:
    """One join after another, or one cut after another."""
    if draft.maybe() and source.shape[1] > 2:
        first = cut(draft, source, 1, source.shape[1], axis=2)
        return cut(draft, first, 0, max(1, source.channels - 1))
    same = [tensor for tensor in draft.images if tensor.side == source.side]
    whole = source
    for _ in range(2):
        other = draft.pick(*same)
        if whole.channels + other.channels > 48:
            return whole
        whole = join(draft, [whole, other] if draft.maybe() else [other, whole])
    return whole


def depth_and_space(draft: Draft, source: Tensor) -> Tensor:
    channels, height, width = source.shape
    if channels % 4 == 0 and max(height, width) <= 6:
        return draft.add("DepthToSpace", [source.name], (channels // 4, 2 * height, 2 * width), blocksize=2)
    if height % 2 == 0 and width % 2 == 0 and channels <= 8:
        return draft.add("SpaceToDepth", [source.name], (4 * channels, height // 2, width // 2), blocksize=2)
    return source


def resized(draft: Draft, source: Tensor) -> Tensor:
    """Twice the height and width."""
    channels, height, width = source.shape
    if max(height, width) > 6 or draft.dtype != "float32":
        return source
    shape = (channels, 2 * height, 2 * width)
    scales = draft.constant([1.0, 1.0, 2.0, 2.0])
    if draft.opset < 10:
        return draft.add("Upsample", [source.name, scales], shape, mode="nearest")
    if draft.opset < 11:
        return draft.add("Resize", [source.name, scales], shape, mode="nearest")
    mode, region = draft.pick("nearest", "linear"), draft.constant([]) if draft.opset < 13 else ""
    return draft.add(
        "Resize", [source.name, region, scales], shape, mode=mode, coordinate_transformation_mode="asymmetric"
    )
