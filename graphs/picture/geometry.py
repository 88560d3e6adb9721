"""From a picture of any size to the crop that a network sees, in integers as Pillow and torchvision count them.

Pillow scales one axis after the other and rounds to 8 bits in between, so the order shows. Since version 13 it takes
the height first where H - h > 2 (W - w) and h < H, for H x W to become h x w; otherwise, as all versions before, the
width. ONNX Runtime always takes the width first. So there are two Resize: the first scales the height alone, or
nothing, which costs a copy; the second does the rest.
"""

import numpy as np

from cnnport.graphs.picture.nodes import Nodes
from cnnport.preprocess import Preprocess

OLDEST_OPSET = 18
"""The first in which Resize has an antialias."""

_AXES = (2, 3)
_MODES = {"bilinear": "linear", "bicubic": "cubic"}

# Pillow's coefficient of Keys' kernel; the standard's default is -0.75.
_CUBIC_COEFFICIENT = -0.5


def planes(nodes: Nodes, image: str, layout: str) -> tuple[str, str]:
    """All channels of all pictures one after the other, as one picture of many channels.

    ONNX Runtime scales the channels of one picture side by side, and pictures one after the other. It would also
    move a Transpose behind a Resize, where it has to go over pixels instead of planes, at twice the time; not across
    the Reshape.

    Args:
        nodes: Gets more.
        image: uint8, in that layout.
        layout: ``nhwc`` or ``nchw``.

    Returns:
        uint8, 1 x pictures and channels x height x width; and height and width, a vector of int64.
    """
    is_last = layout == "nhwc"
    places = nodes.integers([1, 2] if is_last else [2, 3], "side_axes")
    sides = nodes.add("Gather", [nodes.add("Shape", [image], "shape"), places], "sides")
    if is_last:
        image = nodes.add("Transpose", [image], "channels_first", perm=[0, 3, 1, 2])
    shape = nodes.add("Concat", [nodes.integers([1, -1], "one_picture"), sides], "planes_shape", axis=0)
    return nodes.add("Reshape", [image, shape], "planes"), sides


def resize(nodes: Nodes, image: str, sides: str, preprocess: Preprocess) -> tuple[str, str]:
    """Scale with antialias.

    Args:
        nodes: Gets more.
        image: uint8, four dimensions, the last of them height and width.
        sides: Height and width.
        preprocess: Its ``resize``, ``size`` and ``interpolation``.

    Returns:
        The scaled image, uint8, and its height and width.
    """
    if preprocess.resize is None:
        scaled = nodes.integers(preprocess.size, "scaled_sides")
    else:
        # int(resize * side / shorter): whole numbers give the same, and the shorter side its exact length.
        shorter = nodes.add("ReduceMin", [sides], "shorter_side", keepdims=1)
        length = nodes.add("Mul", [sides, nodes.integers([preprocess.resize], "resize")], "sides_x_resize")
        scaled = nodes.add("Div", [length, shorter], "scaled_sides")
    first = _height_first(nodes, sides, scaled)
    image = _scale(nodes, image, first, preprocess, "resized_height")
    return _scale(nodes, image, scaled, preprocess, "resized"), scaled


def crop(nodes: Nodes, image: str, sides: str, preprocess: Preprocess) -> str:
    """Cut out the centre, with zeros around what is smaller.

    Args:
        nodes: Gets more.
        image: uint8, four dimensions, the last of them height and width.
        sides: Those, at least ``preprocess.resize`` each.
        preprocess: Its ``resize`` and ``size``.
    """
    size = nodes.integers(preprocess.size, "crop")
    two, zero = nodes.integers([2], "two"), nodes.integers([0], "zero")
    axes = nodes.integers(_AXES, "axes")
    room = nodes.add("Sub", [sides, size], "room")
    if max(preprocess.size) > (preprocess.resize or 0):
        missing = nodes.add("Max", [nodes.add("Neg", [room], "negative_room"), zero], "missing")
        before = nodes.add("Div", [missing, two], "pad_before")
        after = nodes.add("Sub", [missing, before], "pad_after")
        none = nodes.integers([0, 0], "no_pad")
        pads = nodes.add("Concat", [none, before, none, after], "pads", axis=0)
        image = nodes.add("Pad", [image, pads], "padded")
        room = nodes.add("Max", [room, zero], "room_left")
    # Python's round(room / 2): halves go to the even number.
    half = nodes.add("Div", [room, two], "half_room")
    is_odd = nodes.add("Mod", [room, two], "room_is_odd")
    half_is_odd = nodes.add("Mod", [half, two], "half_is_odd")
    start = nodes.add("Add", [half, nodes.add("Mul", [is_odd, half_is_odd], "half_to_even")], "crop_start")
    end = nodes.add("Add", [start, size], "crop_end")
    return nodes.add("Slice", [image, start, end, axes], "cropped")


def pictures(nodes: Nodes, image: str, preprocess: Preprocess, batch: int | None) -> str:
    """The inverse of ``planes``, of the size that is wanted; ``batch`` is None if it is dynamic."""
    shape = [-1 if batch is None else batch, preprocess.channels, *preprocess.size]
    return nodes.add("Reshape", [image, nodes.integers(shape, "pictures_shape")], "pictures")


def _height_first(nodes: Nodes, sides: str, scaled: str) -> str:
    """The sides after the first Resize: height scaled where Pillow begins with that, otherwise as they are."""
    shrink = nodes.add("Sub", [sides, scaled], "shrink")
    swapped = nodes.add("Gather", [shrink, nodes.integers([1, 0], "swap")], "shrink_of_other")
    twice = nodes.add("Mul", [swapped, nodes.integers([2], "two")], "twice_shrink_of_other")
    limit = nodes.add("Max", [twice, nodes.integers([0], "zero")], "shrink_limit")
    is_steeper = nodes.add("Greater", [shrink, limit], "shrinks_more")
    of_height = nodes.constant(np.array([True, False]), "of_height")
    return nodes.add(
        "Where", [nodes.add("And", [is_steeper, of_height], "height_first"), scaled, sides], "first_sides"
    )


def _scale(nodes: Nodes, image: str, sides: str, preprocess: Preprocess, name: str) -> str:
    is_cubic = preprocess.interpolation == "bicubic"
    return nodes.add(
        "Resize",
        [image, "", "", sides],
        name,
        mode=_MODES[preprocess.interpolation],
        antialias=1,
        axes=_AXES,
        coordinate_transformation_mode="half_pixel",
        exclude_outside=1,
        **({"cubic_coeff_a": _CUBIC_COEFFICIENT} if is_cubic else {}),
    )
