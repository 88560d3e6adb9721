"""Cross-layer equalisation: channels between two products get numbers of one size, and the products compute the same.

Of two products with weights A and B, and operators f between them that keep channels apart and for which
f(s x) = s f(x) for every s > 0,

    B f(A x + a) = (B S) f((S^-1 A) x + S^-1 a)

for any diagonal S > 0. With r1 the largest magnitude of the weights that make a channel and r2 that of those that
read it,

    s = sqrt(r1 r2) / r2 = sqrt(r1 / r2)

gives both the same range sqrt(r1 r2), which makes the product of the channels' shares of the largest ranges as large
as it can be (Nagel, van Baalen, Blankevoort, Welling: "Data-free quantization through weight equalization and bias
correction", ICCV 2019, section 4.1). A scale for each output channel takes care of A; what gains is B, in whose rows
small weights of one channel stand beside large ones of another, and above all the value between, which has one scale
for all its channels. In a chain each pair changes what its neighbours see, so it is repeated until nothing moves.

Weights tell nothing of biases. A channel that training switched off has weights of nearly 0 and a bias that is not:
s is nearly 0, a / s enormous, and the one scale of the value between has to reach that far, while the other channels
keep a few levels. So no bias becomes larger than ``_MOST_TIMES`` the median of its layer's, and than its layer's
largest weight; where it would, s is as large as that takes, but not larger than the median of its layer's, with
which the channel stays what it was beside the others.

Firing: Conv, Gemm and MatMul with constant float32 weights (and bias), any groups, whose output goes to exactly one
other such product, directly or through Relu, LeakyRelu, PRelu, pooling, Identity, Transpose, Pad with zeros, Flatten,
Reshape, Squeeze, Unsqueeze and ReduceMean, as far as these keep channels apart (see ``fold.channels``; a Flatten of
N x C x H x W gives each channel H W columns of a Gemm).

It must not fire through Clip, HardSwish, Sigmoid or others that are not homogeneous, through sums and
concatenations, for values that are read twice, given out or used in a subgraph, or for weights that are graph
inputs. A channel without weights on one of the sides stays as it is. Weights that other nodes read too are copied.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from cnnport.graphs.affine import Affine
from cnnport.graphs.fold.channels import below
from cnnport.graphs.operators import DEFAULT_DOMAINS
from cnnport.graphs.quantize.moments import unfolded_size
from cnnport.graphs.quantize.weights import channel_axis, in_groups
from cnnport.graphs.splice import initializer
from cnnport.graphs.values import constant, drop_unused, fresh_names, named_in_subgraphs, opset_of, rank

_Numbers = npt.NDArray[np.float64]

_MOST_TIMES = 8.0
# What a pair is off by at most to count as even, and what it moves by at most when the repetition ends.
_EVEN = 0.01
_MOVED = 1e-4
_MOST_ROUNDS = 200
# Beyond it, a channel is nothing beside the others in float32 as well.
_FURTHEST = 2.0**20
# The first with pads as an input, with constants that are no inputs.
_LEAST_OPSET, _LEAST_IR = 11, 4


@dataclass(eq=False)
class _Product:
    """A product, and what its weights are multiplied with.

    Attributes:
        node: Conv, Gemm or MatMul.
        sizes: groups x outputs x channels, the largest magnitudes of the weights over taps. Several features that
            are of one channel count as its taps.
        bias: Magnitudes, one for each output channel.
        outputs: What each output channel is divided by.
        inputs: What each channel that comes in was divided by.
    """

    node: ir.Node
    sizes: npt.NDArray[np.float32]
    bias: _Numbers
    outputs: _Numbers = field(init=False)
    inputs: _Numbers = field(init=False)

    def __post_init__(self) -> None:
        groups, outputs, channels = self.sizes.shape
        self.outputs, self.inputs = np.ones(groups * outputs), np.ones(groups * channels)

    def made(self) -> _Numbers:
        """For each output channel, the range of the weights that make it, before it is divided."""
        groups, _, channels = self.sizes.shape
        ranges: _Numbers = (self.sizes * self.inputs.reshape(groups, 1, channels)).max(axis=2)
        return ranges.reshape(-1)

    def read(self) -> _Numbers:
        """For each channel that comes in, the range of the weights that read it, before they are multiplied."""
        groups, outputs, _ = self.sizes.shape
        ranges: _Numbers = (self.sizes / self.outputs.reshape(groups, outputs, 1)).max(axis=1)
        return ranges.reshape(-1)


@dataclass(eq=False)
class _Pair:
    upper: _Product
    lower: _Product

    def even(self) -> float:
        """Divide the channels between the two by what is best for them now; by what factor that changed at most."""
        made, read = self.upper.made(), self.lower.read()
        live = (made > 0) & (read > 0)
        before = self.upper.outputs
        self.upper.outputs = self.lower.inputs = _divisors(made, read, self.upper.bias, live)
        return float(np.exp(np.abs(np.log(self.upper.outputs / before)).max()))


def equalize(model: ir.Model) -> int:
    """Even out the ranges of the channels between two products, for quantizers with one scale a value.

    Args:
        model: A graph of floats with batch norms folded; changed in place, only the main graph. Names of values stay,
            though what stands under them is scaled: ranges have to be found afterwards.

    Returns:
        The number of pairs that were uneven.
    """
    if opset_of(model) < _LEAST_OPSET or model.ir_version < _LEAST_IR:
        return 0
    pairs = _pairs(model)
    if max((pair.even() for pair in pairs), default=1.0) <= 1 + _EVEN:
        return 0
    _settle(pairs)
    uneven = sum(bool((np.abs(np.log(pair.upper.outputs)) > np.log1p(_EVEN)).any()) for pair in pairs)
    products = list(dict.fromkeys(each for pair in pairs for each in (pair.upper, pair.lower)))
    constants = [_constants(product) for product in products]
    if not uneven or not all(np.isfinite(array).all() for found in constants for array in found.values()):
        return 0
    fresh = fresh_names(model)
    for product, found in zip(products, constants, strict=True):
        for index, array in found.items():
            _replace(product.node, index, array, model.graph, fresh)
    return uneven


def _divisors(made: _Numbers, read: _Numbers, bias: _Numbers, live: npt.NDArray[np.bool_]) -> _Numbers:
    """What each channel is divided by; 1 for those that are not live."""
    divisors = np.ones_like(made)
    if not live.any():
        return divisors
    made, read, bias = made[live], read[live], bias[live]
    wanted = np.sqrt(made / read)
    middle = float(np.median(wanted))
    wanted = np.clip(wanted, middle / _FURTHEST, middle * _FURTHEST)
    limit = max(_MOST_TIMES * float(np.median(bias / wanted)), float(np.sqrt(made * read).max()))
    divisors[live] = np.maximum(wanted, np.minimum(bias / limit, middle))
    return divisors


def _settle(pairs: Sequence[_Pair]) -> None:
    """Repeat what has been done once, wherever something beside a pair has moved."""
    moving = set(pairs)
    for _ in range(_MOST_ROUNDS):
        moved = {pair for pair in pairs if pair in moving and pair.even() > 1 + _MOVED}
        if not moved:
            return
        touched = {each for pair in moved for each in (pair.upper, pair.lower)}
        moving = {pair for pair in pairs if pair.upper in touched or pair.lower in touched}


def _pairs(model: ir.Model) -> list[_Pair]:
    """Every product with the one that reads it, in the graph's order."""
    captured, opset = named_in_subgraphs(model.graph), opset_of(model)
    found = []
    products: dict[ir.Node, _Product] = {}
    for node in model.graph:
        if not _is_product(node):
            continue
        way = _reader(node, model.graph, captured, opset)
        if way is None:
            continue
        reader, channels = way
        if node not in products:
            products[node] = _product(node, None)
        # Nothing has looked at it before: what it reads is made by one product, and it comes later.
        products[reader] = _product(reader, channels)
        found.append(_Pair(products[node], products[reader]))
    return found


def _is_product(node: ir.Node) -> bool:
    if unfolded_size(node) is None:
        return False
    tensors = [constant(value) for value in node.inputs[1:] if value is not None]
    return all(
        tensor is not None and tensor.dtype == ir.DataType.FLOAT and np.isfinite(tensor.numpy()).all()
        for tensor in tensors
    )


def _product(node: ir.Node, channels: int | None) -> _Product:
    """A product that reads as many channels, or as many as it has inputs."""
    weights = _numbers(node, 1)
    groups, outputs, inputs, _ = (view := in_groups(node, weights)).shape
    view = view.reshape(groups, outputs, inputs if channels is None else channels // groups, -1)
    sizes = np.maximum(view.max(axis=3), -view.min(axis=3))
    if node.op_type == "Gemm":
        sizes = sizes * np.float32(abs(node.attributes.get_float("alpha", 1.0)))
    bias = np.zeros(groups * outputs)
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        given = np.abs(_numbers(node, 2).astype(np.float64))
        if node.op_type == "Gemm":
            given = given * abs(node.attributes.get_float("beta", 1.0))
            given = given.reshape(-1, given.shape[-1] if given.ndim else 1).max(axis=0)
        bias = np.broadcast_to(given, bias.shape)
    return _Product(node, sizes, bias)


def _reader(
    node: ir.Node, graph: ir.Graph, captured: frozenset[str], opset: int
) -> tuple[ir.Node, int] | None:
    """The one product that reads a product's output, if all between is homogeneous; and how many channels it is."""
    value = node.outputs[0]
    dims = rank(value)
    if dims is None:
        return None
    count = int(_numbers(node, 1).shape[channel_axis(node)])
    axis = dims - 1 if node.op_type == "MatMul" else 1
    # Where each number that is read belongs to: a map that is carried along.
    way = Affine(np.arange(1.0, count + 1), np.zeros(count), ir.DataType.FLOAT, axis)
    while len(value.uses()) == 1 and not value.is_graph_output() and value.name not in captured:
        ((reader, index),) = value.uses()
        if index != 0 or reader.graph is not graph:
            return None
        if _is_product(reader):
            return (reader, count) if _reads_all(reader, way) else None
        carried = way if _pads_space(reader, way) else below(reader, way, opset)
        if carried is None:
            return None
        way, value = carried, reader.outputs[0]
    return None


def _reads_all(reader: ir.Node, way: Affine) -> bool:
    """Whether a product's inputs are the channels of a way, each as often as the others."""
    dims = rank(reader.inputs[0])
    size = unfolded_size(reader)
    assert size is not None
    inputs = _numbers(reader, 1).shape[1] * size[0] if reader.op_type == "Conv" else size[1]
    if dims is None or way.axis != (dims - 1 if reader.op_type == "MatMul" else 1) or way.channels != inputs:
        return False
    count = int(way.scale.max())
    return inputs % count == 0 and np.array_equal(
        way.scale, np.repeat(np.arange(1, count + 1), inputs // count)
    )


def _pads_space(node: ir.Node, way: Affine) -> bool:
    """Whether a node adds zeros, and none of them as channels."""
    if node.domain not in DEFAULT_DOMAINS or node.op_type != "Pad":
        return False
    if node.attributes.get_string("mode", "constant") != "constant":
        return False
    dims = rank(node.inputs[0])
    given = [value for value in node.inputs[1:] if value is not None]
    if dims is None or not given or any(constant(value) is None for value in given):
        return False
    if len(node.inputs) > 2 and node.inputs[2] is not None and _numbers(node, 2).any():
        return False
    pads = _numbers(node, 1).reshape(2, -1)
    axes = list(range(dims))
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        axes = [int(axis) % dims for axis in _numbers(node, 3).reshape(-1)]
    return not any(pads[:, place].any() for place, axis in enumerate(axes) if axis == way.axis)


def _constants(product: _Product) -> dict[int, npt.NDArray[np.float32]]:
    """Weights and bias by the index of the input, rounded once; none for those that stay."""
    node = product.node
    found: dict[int, npt.NDArray[np.float32]] = {}
    divided = (product.outputs != 1).any()
    with np.errstate(over="ignore"):
        if divided or (product.inputs != 1).any():
            weights = np.ascontiguousarray(_numbers(node, 1)).astype(np.float64)
            view = in_groups(node, weights)
            groups, outputs, inputs, _ = view.shape
            each = product.inputs.reshape(groups, -1)
            view *= np.repeat(each, inputs // each.shape[1], axis=1)[:, None, :, None]
            view /= product.outputs.reshape(groups, outputs, 1, 1)
            found[1] = weights.astype(np.float32)
        if divided and len(node.inputs) > 2 and node.inputs[2] is not None:
            found[2] = (_numbers(node, 2) / product.outputs).astype(np.float32)
    return found


def _replace(
    node: ir.Node, index: int, array: npt.NDArray[np.float32], graph: ir.Graph, fresh: Callable[[str], str]
) -> None:
    """Another constant in place of an input; it keeps the name unless others still need the old one."""
    old = node.inputs[index]
    assert old is not None
    assert old.name
    maker = old.producer()
    node.replace_input_with(index, None)
    drop_unused(graph, [old])
    is_gone = old.name not in graph.initializers and (maker is None or maker.graph is None)
    name = old.name if is_gone else fresh(f"{old.name}_equalized")
    node.replace_input_with(index, initializer(array, name, graph))


def _numbers(node: ir.Node, index: int) -> npt.NDArray[np.float32]:
    tensor = constant(node.inputs[index])
    assert tensor is not None
    numbers: npt.NDArray[np.float32] = tensor.numpy()
    return numbers
