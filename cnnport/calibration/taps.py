"""What a graph is made to tell of its values, beside its outputs, at little cost.

A value that leaves a runtime is copied, out of the blocked layout that convolutions on a CPU work in first. For all
values of a ResNet-50 that takes half as long as the network. So large maps are looked at inside the graph, by
operators that read that layout as it is:

- GlobalMaxPool gives the greatest number of each channel. ReduceMin gives the least, where the operators before do
  not tell already that it is no less than zero: behind Relu, as most are.
- GlobalAveragePool gives a NaN or an infinity for each channel that has one, which maxima may pass over.
- A depthwise convolution takes one number out of each cell of s x s: its kernel of 2 x 2, spread over half of a cell,
  is one in one corner and zero in the others, so the product is exact and little is read. The corner differs from
  channel to channel: as often at the cell's edge as the map has numbers at its own edge, where padding makes them
  different, and otherwise in the cell's middle.

Small values, and those of which too little is known, leave the graph as they are.
"""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from cnnport.errors import ArtifactError, UnknownNameError
from cnnport.graphs.bounds import bounds_of
from cnnport.graphs.values import constant, fresh_names, opset_of

SAMPLE = 16_384
"""So many numbers of each value and input are counted at most, give or take what does not divide."""

# Of channels in ONNX Runtime's blocked layouts, which have 4, 8 or 16.
_BLOCK = 16
_IRRATIONAL = ((math.sqrt(5) - 1) / 2, math.sqrt(2) - 1)
# A map of which one number in 64 x 64 is still too many is no image.
_LARGEST_CELL = 64


@dataclass(frozen=True)
class Tap:
    """Where to read what is known of one value.

    Attributes:
        value: The value's name.
        whole: Graph input or output that has all of it; None if it has the others.
        greatest: Output with the greatest numbers of each channel.
        least: Output with the least number of all; None where there is nothing below zero.
        mean: Output with the mean of each channel, which is finite if all numbers are.
        sample: Output with some numbers.
    """

    value: str
    whole: str | None = None
    greatest: str | None = None
    least: str | None = None
    mean: str | None = None
    sample: str | None = None


def float_values(model: ir.Model) -> list[str]:
    """The names of all float32 values of the main graph that are not constants: inputs first, then as computed."""
    computed = (value for node in model.graph for value in node.outputs)
    values = (*(value for value in model.graph.inputs if not value.is_initializer()), *computed)
    return [
        value.name
        for value in values
        if value.name and value.dtype == ir.DataType.FLOAT and constant(value) is None
    ]


def add_taps(model: ir.Model, names: Collection[str]) -> list[Tap]:
    """Make a graph tell of values.

    Args:
        model: Gets nodes and outputs. Shapes have to be those that it will be run with, the batch apart.
        names: Of float32 values of the main graph, inputs included.

    Raises:
        UnknownNameError: If there is no such value.
        ArtifactError: If a value is not float32.
    """
    graph = model.graph
    known = {value.name: value for value in graph.inputs}
    known |= {value.name: value for node in graph for value in node.outputs}
    fresh = fresh_names(model)
    taps = []
    for name in dict.fromkeys(names):
        value = known.get(name)
        if not name or value is None:
            raise UnknownNameError(f"the graph has no value {name!r} to calibrate")
        if value.dtype not in {None, ir.DataType.FLOAT}:
            raise ArtifactError(f"value {name!r} is {value.dtype}: only float32 is calibrated")
        sizes = _map_sizes(value)
        if value.producer() is not None and sizes is not None:
            taps.append(_look_inside(model, value, sizes, fresh))
            continue
        if not value.is_graph_input() and not value.is_graph_output():
            value.type = value.type or ir.TensorType(ir.DataType.FLOAT)
            graph.outputs.append(value)
        taps.append(Tap(name, whole=name))
    return taps


def _map_sizes(value: ir.Value) -> tuple[int, int, int] | None:
    """Channels, height and width of a value that is worth a look inside the graph; otherwise None."""
    if value.shape is None or value.shape.rank() != 4:
        return None
    sizes = [size for size in value.shape[1:] if isinstance(size, int)]
    if len(sizes) != 3 or sizes[0] % _BLOCK or math.prod(sizes) <= SAMPLE:
        return None
    channels, height, width = sizes
    return (channels, height, width) if _cell(channels, height, width) <= min(height, width) else None


def _cell(channels: int, height: int, width: int) -> int:
    """The smallest side of cells of which there are few enough."""
    side = 1
    while channels * (height // side) * (width // side) > SAMPLE and side < _LARGEST_CELL:
        side += 1
    return side


def _look_inside(
    model: ir.Model, value: ir.Value, sizes: tuple[int, int, int], fresh: Callable[[str], str]
) -> Tap:
    graph, name = model.graph, value.name
    assert name is not None
    producer = value.producer()
    assert producer is not None

    def add(op: str, inputs: list[ir.Value], suffix: str, **attributes: int | list[int]) -> str:
        output = fresh(f"{name}/{suffix}")
        node = ir.node(op, inputs, attributes=attributes, name=fresh(f"{name}/{suffix}_node"))
        node.outputs[0].name = output
        node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        # Right behind what makes it, so that the value can be let go of as before.
        graph.insert_after(producer, node)
        graph.outputs.append(node.outputs[0])
        return output

    low, _ = bounds_of(value, opset_of(model))
    least = None if low >= 0 else add("ReduceMin", [value], "least", keepdims=0)
    greatest = add("GlobalMaxPool", [value], "greatest")
    mean = add("GlobalAveragePool", [value], "mean")
    channels, side = sizes[0], _cell(*sizes)
    weight = _corners(channels, side)
    held = ir.Value(name=fresh(f"{name}/kernel"), const_value=ir.tensor(weight))
    held.type, held.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(weight.shape)
    graph.register_initializer(held)
    spread = max(1, side // 2)
    shape = {"kernel_shape": [*weight.shape[2:]], "dilations": [spread, spread], "strides": [side, side]}
    sample = add("Conv", [value, held], "sample", group=channels, **shape)
    return Tap(name, None, greatest, least, mean, sample)


def _corners(channels: int, side: int) -> NDArray[np.float32]:
    """One kernel for each channel, which is one in one place."""
    corners = min(side, 2)
    weight = np.zeros((channels, 1, corners, corners), np.float32)
    # Multiples of two irrational numbers are spread evenly. A map has two edges, and a cell one.
    numbers = np.arange(1, channels + 1)[:, None] * np.array(_IRRATIONAL) % 1
    rows, columns = np.where(numbers < min(2 / side, 1 / 2), 0, corners - 1).T
    weight[np.arange(channels), 0, rows, columns] = 1
    return weight
