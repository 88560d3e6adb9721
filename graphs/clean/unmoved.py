"""Operators that move elements about, where they move none: every element keeps its place and the shape its sizes."""

from collections.abc import Callable, Sequence

import onnx_ir as ir

from cnnport.graphs.extents import Extent, extent_of, extents_of, integers, is_missing, shape_of, slices
from cnnport.graphs.values import constant, rank, static

# What exporters write for the end of a dimension of unknown size.
_TO_THE_END = 2**31 - 1
# With these, scale 1 takes each element from its own place.
_PLAIN_COORDINATES = frozenset(
    {"align_corners", "asymmetric", "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel"}
)


def _concat(node: ir.Node, _opset: int) -> bool:
    return len(node.inputs) == 1


def _split(node: ir.Node, _opset: int) -> bool:
    return len(node.outputs) == 1


def _block(node: ir.Node, _opset: int) -> bool:
    return node.attributes.get_int("blocksize", 0) == 1


def _pad(node: ir.Node, opset: int) -> bool:
    pads = integers(node, 1) if opset >= 11 else list(node.attributes.get_ints("pads", ()))
    return pads is not None and not any(pads)


def _tile(node: ir.Node, _opset: int) -> bool:
    repeats = integers(node, 1)
    return repeats is not None and all(count == 1 for count in repeats)


def _transpose(node: ir.Node, _opset: int) -> bool:
    dims = rank(node.inputs[0])
    if not node.attributes.get_ints("perm", ()):
        return dims is not None and dims < 2
    order = node.attributes.get_ints("perm", ())
    moved = [(place, axis) for place, axis in enumerate(order) if place != axis]
    return all(static(node.inputs[0], place) == static(node.inputs[0], axis) == 1 for place, axis in moved)


def _flatten(node: ir.Node, _opset: int) -> bool:
    return rank(node.inputs[0]) == 2 and node.attributes.get_int("axis", 1) in {1, -1}


def _expand(node: ir.Node, opset: int) -> bool:
    known, dims = extents_of(node.inputs[1], opset), rank(node.inputs[0])
    if known is None or known.scalar or dims is None or len(known.elements) > dims:
        return False
    return all(
        element == 1 or _same(element, extent_of(node.inputs[0], place + dims - len(known.elements)))
        for place, element in enumerate(known.elements)
    )


def _gather(node: ir.Node, _opset: int) -> bool:
    indices, axis = constant(node.inputs[1]), node.attributes.get_int("axis", 0)
    size = static(node.inputs[0], axis)
    if indices is None or size is None or list(indices.shape.numpy()) != [size]:
        return False
    return [int(each) for each in indices.numpy()] == list(range(size))


def _slice(node: ir.Node, opset: int) -> bool:
    parts, dims = slices(node, opset), rank(node.inputs[0])
    if parts is None:
        return False
    for axis, start, end, step in parts:
        size = extent_of(node.inputs[0], axis if axis >= 0 or dims is None else axis + dims)
        number = size if isinstance(size, int) else None
        from_first = start == 0 or (number is not None and start <= -number)
        to_last = _same(end, size) or (
            isinstance(end, int) and (end >= _TO_THE_END or (number is not None and end >= number))
        )
        if step != 1 or not from_first or not to_last:
            return False
    return True


def _reshape(node: ir.Node, opset: int) -> bool:
    source = shape_of(node.inputs[0])
    if source is None:
        return False
    told = [False] * len(source)
    for target in (_target(node, source, opset), shape_of(node.outputs[0])):
        if target is not None:
            if len(target) != len(source):
                return False
            told = [known or _same(*pair) for known, *pair in zip(told, source, target, strict=True)]
    if told.count(False) == 1:
        # The number of elements decides the last size, unless one of the others is 0: there -1 would be an error.
        computed = extents_of(node.inputs[1], opset)
        others = [size for known, size in zip(told, source, strict=True) if known]
        inferred = computed is not None and computed.elements[told.index(False)] == -1
        return inferred or all(isinstance(size, int) and size > 0 for size in others)
    return all(told)


def _target(node: ir.Node, source: Sequence[Extent], opset: int) -> list[Extent] | None:
    known = extents_of(node.inputs[1], opset)
    if known is None or known.scalar:
        return None
    if node.attributes.get_int("allowzero", 0):
        return [None if element == -1 else element for element in known.elements]
    return [
        None if element == -1 else source[place] if element == 0 and place < len(source) else element
        for place, element in enumerate(known.elements)
    ]


def _resize(node: ir.Node, opset: int) -> bool:
    if node.op_type == "Upsample" and opset < 9:
        scales = list(node.attributes.get_floats("scales", ()))
        return bool(scales) and all(scale == 1 for scale in scales)
    if node.op_type == "Resize" and opset >= 11:
        if (
            node.attributes.get_string("coordinate_transformation_mode", "half_pixel")
            not in _PLAIN_COORDINATES
        ):
            return False
        if not is_missing(node, 3):
            return _resizes_to_own_size(node, opset)
    factors = constant(node.inputs[2 if node.op_type == "Resize" and opset >= 11 else 1])
    return factors is not None and factors.size > 0 and bool((factors.numpy() == 1).all())


def _resizes_to_own_size(node: ir.Node, opset: int) -> bool:
    known, dims = extents_of(node.inputs[3], opset), rank(node.inputs[0])
    if known is None or dims is None or not known.elements:
        return False
    axes = list(node.attributes.get_ints("axes", ())) or list(range(dims))
    plain = node.attributes.get_string("keep_aspect_ratio_policy", "stretch") == "stretch"
    return (
        plain
        and len(axes) == len(known.elements)
        and all(
            _same(element, extent_of(node.inputs[0], axis % dims))
            for element, axis in zip(known.elements, axes, strict=True)
        )
    )


def _same(one: Extent, other: Extent) -> bool:
    return one is not None and one == other


RULES: dict[str, Callable[[ir.Node, int], bool]] = {
    "Concat": _concat,
    "DepthToSpace": _block,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Pad": _pad,
    "Reshape": _reshape,
    "Resize": _resize,
    "Slice": _slice,
    "SpaceToDepth": _block,
    "Split": _split,
    "Tile": _tile,
    "Transpose": _transpose,
    "Upsample": _resize,
}
"""For each operator, when its first output is its first input; given the node and the opset."""
