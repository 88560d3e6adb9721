"""Why a network cannot run on an input: the layer, what is wrong there, and the sizes that do fit.

Only called when a forward has failed. The layer is found by running it once more with hooks; the sizes are searched
on the meta device, where shapes are computed and values are not, and confirmed once in the network itself.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.padding import _ReflectionPadNd
from torch.nn.modules.pooling import _AvgPoolNd, _MaxPoolNd

from cnnport.errors import ModelError, first_line

Shape = tuple[int, ...]

# The usual sizes of inputs in pixels, the commonest first: one that fits is where the search begins.
_USUAL_PX = (224, 32, 64, 28, 299, 128, 227, 256, 96, 384, 512, 331, 448, 16, 640, 1024)
# Where larger images than the one that fits are looked for.
_LARGEST_PX = 2048
# Networks that join several scales take multiples of a power of two only: bisection alone would not notice.
_FINE_PX, _COARSE_PX = (4, 8, 12, 20, 24, 28), 16
_FORWARDS = 80
_QUOTED = 200


class _ExhaustedError(Exception):
    """The search has taken as many forwards as it may."""


@dataclass(frozen=True)
class _Place:
    """Where a forward failed: the innermost module, its name, the shape that it was given, the error."""

    name: str
    layer: nn.Module
    given: Shape | None
    error: Exception

    @property
    def called(self) -> str:
        return f"layer {self.name} ({type(self.layer).__name__})"


@dataclass(frozen=True)
class _Sizes:
    """Sides of square images in pixels that a network takes.

    Attributes:
        smallest: The smallest that was found.
        largest: None if there is no limit.
        all_between: Whether every size between them fits.
    """

    smallest: int
    largest: int | None
    all_between: bool


def explain(module: nn.Module, input_shapes: Sequence[Shape], error: Exception) -> ModelError:
    """Turn the failure of a forward into an error that says what to do.

    Args:
        module: The network, as it failed; it is not changed.
        input_shapes: Channels, height, width of each input.
        error: What the forward raised.

    Returns:
        An error of one or two lines. Never raises itself: what cannot be found out is left out.
    """
    sizes = ", ".join(dict.fromkeys(map(_times, input_shapes)))
    place = _locate(module, input_shapes)
    reason = _short(error)
    advice = ""
    if place is not None:
        with suppress(Exception):
            reason = _reason(place)
            advice = _channel_advice(place, input_shapes) or _size_advice(module, input_shapes)
    text = f"the network cannot run on {sizes} inputs: {reason}"
    return ModelError(f"{text}\n{advice}" if advice else text)


def _locate(module: nn.Module, input_shapes: Sequence[Shape]) -> _Place | None:
    """Run again and see which module was entered and not left; None if it does not fail again."""
    entered: list[tuple[str, nn.Module, Shape | None]] = []
    try:
        with ExitStack() as stack:
            for name, layer in module.named_modules():
                for handle in _watch(name, layer, entered):
                    stack.callback(handle.remove)
            _forward(module, input_shapes)
    except Exception as error:  # the failure that is looked for, whatever it is
        if not entered:
            return None
        name, layer, given = entered[-1]
        return _Place(name, layer, given, error)
    return None


def _watch(name: str, layer: nn.Module, entered: list[tuple[str, nn.Module, Shape | None]]) -> Iterator[Any]:
    def enter(_layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        tensors = [value for value in inputs if isinstance(value, Tensor)]
        entered.append((name, layer, tuple(tensors[0].shape) if tensors else None))

    def leave(_layer: nn.Module, _inputs: Any, _output: Any) -> None:
        entered.pop()

    yield layer.register_forward_pre_hook(enter)
    yield layer.register_forward_hook(leave)


def _forward(module: nn.Module, input_shapes: Sequence[Shape]) -> None:
    parameter = next((value for value in module.parameters() if value.is_floating_point()), torch.empty(0))
    inputs = [
        torch.zeros(1, *shape, dtype=parameter.dtype, device=parameter.device) for shape in input_shapes
    ]
    with torch.no_grad():
        module(*inputs)


def _reason(place: _Place) -> str:
    """What is wrong at that layer, in words where it can be known, else what torch says."""
    layer, given = place.layer, place.given
    if given is not None:
        channels = given[1] if len(given) > 1 else 0
        if isinstance(layer, _ConvNd) and channels != layer.in_channels:
            return f"{place.called} takes {layer.in_channels} channels, not {channels}"
        if isinstance(layer, _BatchNorm) and channels != layer.num_features:
            return f"{place.called} takes {layer.num_features} channels, not {channels}"
        if isinstance(layer, nn.Linear) and given[-1] != layer.in_features:
            return f"{place.called} takes {layer.in_features} values, not {given[-1]}"
        left = given[2:]
        window = _window(layer, len(left)) or ()
        # A layer of other dimensions, such as a convolution over videos, has no such reason.
        if len(window) == len(left) and any(size < side for size, side in zip(left, window, strict=True)):
            return f"{place.called} needs {_times(window)} pixels and gets {_times(left)}"
    where = f"{place.called}: " if place.name else ""
    return f"{where}{_short(place.error)}"


def _short(error: Exception) -> str:
    text = first_line(error)
    return text if len(text) <= _QUOTED else text[:_QUOTED] + "..."


def _window(layer: nn.Module, dims: int) -> Shape | None:
    """The smallest input that a convolution, pooling or reflection takes, its padding taken off."""
    if isinstance(layer, _ConvNd) and not isinstance(layer, _ConvTransposeNd):
        if isinstance(layer.padding, str):
            return None
        dilation = layer.dilation
    elif isinstance(layer, _MaxPoolNd):
        dilation = _tuple(layer.dilation, dims)
    elif isinstance(layer, _AvgPoolNd):
        dilation = (1,) * dims
    elif isinstance(layer, _ReflectionPadNd):
        # It mirrors what lies inside the border; the padding of the last axis comes first.
        pairs = zip(layer.padding[0::2], layer.padding[1::2], strict=True)
        return tuple(max(pair) + 1 for pair in pairs)[::-1]
    else:
        return None
    kernel, padding = _tuple(layer.kernel_size, dims), _tuple(layer.padding, dims)
    return tuple(
        spread * (side - 1) + 1 - 2 * added
        for side, spread, added in zip(kernel, dilation, padding, strict=False)
    )


def _tuple(value: Any, dims: int) -> Shape:
    return (value,) * dims if isinstance(value, int) else tuple(value)


def _times(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _channel_advice(place: _Place, input_shapes: Sequence[Shape]) -> str:
    """For a network whose first layer takes another number of channels than its input has."""
    layer, given = place.layer, place.given
    is_first = given is not None and given[1:] in {tuple(shape) for shape in input_shapes}
    if not (is_first and isinstance(layer, _ConvNd) and given is not None and given[1] != layer.in_channels):
        return ""
    return f"it takes images of {layer.in_channels} channels: --in-channels {layer.in_channels}"


def _size_advice(module: nn.Module, input_shapes: Sequence[Shape]) -> str:
    channels = [shape[0] for shape in input_shapes]
    light = _without_values(module)
    known: dict[int, bool] = {}

    def fits(side: int) -> bool:
        if side not in known:
            if len(known) == _FORWARDS:
                raise _ExhaustedError
            known[side] = _runs(light, channels, side)
        return known[side]

    asked = {side for shape in input_shapes for side in shape[1:]}
    if all(fits(side) for side in sorted(asked)):
        # Not the size, then, unless it is a rectangle: memory, say.
        return "square images of either side fit" if len(asked) > 1 else ""

    def too_large(side: int) -> bool:
        place = _locate(light, [(count, side, side) for count in channels])
        return place is not None and _excess(place) > 0

    found = _search(fits, too_large)
    has_values = not any(value.is_meta for value in module.parameters())
    if found is None or (has_values and not _runs(module, channels, found.smallest)):
        return ""
    return _advice(found, channels[0])


def _advice(found: _Sizes, channels: int) -> str:
    smallest = f"{channels}x{found.smallest}x{found.smallest}"
    if found.largest == found.smallest:
        return f"it takes {smallest} images only: --image-size {found.smallest}"
    if not found.all_between:
        return f"not every size fits; the smallest square image that was found to fit is {smallest}"
    if found.largest is not None:
        return f"the square images that fit are {smallest} to {channels}x{found.largest}x{found.largest}"
    return f"the smallest square image that fits is {smallest}: --image-size {found.smallest}"


def _excess(place: _Place) -> int:
    """By how much a layer is given more values than it takes: a flattened image was too large."""
    layer, given = place.layer, place.given
    if given is None or len(given) < 2:
        return 0
    if isinstance(layer, nn.Linear):
        return given[-1] - layer.in_features
    if isinstance(layer, _ConvNd):
        return given[1] - layer.in_channels
    return 0


def _search(fits: Callable[[int], bool], too_large: Callable[[int], bool]) -> _Sizes | None:
    """Find the sizes that fit: bisection between one that does and those that do not, then probes of the outcome."""
    start = next((side for side in _USUAL_PX if fits(side)), None)
    if start is None:
        # A size of its own, then: the largest that is not too large for a layer that takes one number of values.
        start = _boundary(lambda side: not too_large(side), inside=0, outside=_LARGEST_PX)
        if start == 0 or not fits(start):
            return None
    smallest = _boundary(fits, inside=start, outside=0)
    suspects = sorted({*_FINE_PX, *range(_COARSE_PX, smallest, _COARSE_PX)})
    below = next((side for side in suspects if side < smallest and fits(side)), None)
    largest = None if fits(_LARGEST_PX) else _boundary(fits, inside=start, outside=_LARGEST_PX)
    if below is not None:
        return _Sizes(below, largest, all_between=False)
    between = [side for side in (smallest + 1, smallest + 3) if largest is None or side < largest]
    return _Sizes(smallest, largest, all(fits(side) for side in between))


def _boundary(fits: Callable[[int], bool], *, inside: int, outside: int) -> int:
    """The last size that fits on the way from one that does to one that does not."""
    while abs(inside - outside) > 1:
        middle = (inside + outside) // 2
        if fits(middle):
            inside = middle
        else:
            outside = middle
    return inside


def _runs(module: nn.Module, channels: Sequence[int], side: int) -> bool:
    try:
        _forward(module, [(count, side, side) for count in channels])
    except Exception:  # every failure means the same here
        return False
    return True


def _without_values(module: nn.Module) -> nn.Module:
    """A copy on the meta device; values are not copied on the way."""
    memo: dict[int, Any] = {}
    for value in (*module.parameters(), *module.buffers()):
        empty = torch.empty_like(value, device="meta")
        memo[id(value)] = (
            nn.Parameter(empty, value.requires_grad) if isinstance(value, nn.Parameter) else empty
        )
    return copy.deepcopy(module, memo)
