"""Sizes that the file knows, in place of the operators that compute them.

Exporters ask for the Shape of a tensor, pick and join its elements, and reshape by the result, although all but the
batch is known. ``extents`` says what is known of each element.

It fires for

1.  Shape, Size, and Gather, Slice, Concat, Squeeze, Unsqueeze, Cast, Add, Sub, Mul and Div of shapes, all of whose
    elements are numbers: a constant; each element counts for itself, so the channels can be picked from a shape whose
    batch is open;
2.  Reshape to a computed target: an element that is the size of the reshaped tensor on the same axis becomes 0,
    which means just that, and one single unknown among positive numbers becomes -1;
3.  Expand to a computed target: an element that is the tensor's own size becomes 1, which changes nothing there;
4.  Reshape to a constant target whose -1 is the size of the reshaped tensor on the same axis, because all other sizes
    are numbers with the same product: 0, which shape inference follows where it makes up a new size for -1.

It must not fire

10. where a size is neither known nor named, or the target of a Reshape keeps another unknown;
11. with -1 beside a size that may be 0: of an empty tensor nobody could tell the missing size;
12. with 0 for a Reshape that takes 0 as it is (``allowzero`` = 1);
13. for a Reshape that makes an output of the graph, if the file says of that output that it has another number of
    dimensions: the file is wrong there, and runtimes refuse what they can see to be wrong;
14. for sizes within subgraphs and functions.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from cnnport.graphs.extents import Extent, extent_of, extents_of, shape_of
from cnnport.graphs.protos import annotate
from cnnport.graphs.splice import become_constant, initializer
from cnnport.graphs.values import constant, drop_unused, fresh_names, opset_of, rank

_OF_SHAPES = frozenset(
    {"Add", "Cast", "Concat", "Div", "Gather", "Mul", "Shape", "Size", "Slice", "Squeeze", "Sub", "Unsqueeze"}
)


def fold_shapes(model: ir.Model) -> int:
    """Replace computed sizes that the file knows by constants.

    Args:
        model: Changed in place; only the main graph.

    Returns:
        The number of nodes that became constants, and of Reshapes and Expands that got a constant target.
    """
    opset = opset_of(model)
    # Before, every initializer is an input of the graph; before opset 7 operators take other attributes.
    if model.ir_version < 4 or opset < 7:
        return 0
    fresh, folded = fresh_names(model), 0
    # What a Reshape makes is known once its target is, and then the shapes of all that follows.
    while found := _sweep(model.graph, opset, fresh):
        folded += found
        annotate(model)
    return folded


def _sweep(graph: ir.Graph, opset: int, fresh: Callable[[str], str]) -> int:
    folded, replaced = 0, []
    for node in list(graph):
        if node.domain:
            continue
        numbers = _numbers(node, opset) if node.op_type in _OF_SHAPES else None
        if numbers is not None:
            replaced += become_constant(node, [ir.tensor(numbers)], initializers=True)
            folded += 1
        target = (
            _target(node, opset) if node.op_type in {"Expand", "Reshape"} and len(node.inputs) == 2 else None
        )
        if target is not None and not _contradicts(node.outputs[0], target):
            replaced += [value for value in node.inputs[1:] if value is not None]
            new = initializer(np.array(target, np.int64), fresh(f"{node.outputs[0].name}_shape"), graph)
            node.replace_input_with(1, new)
            folded += 1
    drop_unused(graph, replaced)
    return folded


def _contradicts(output: ir.Value, target: Sequence[int]) -> bool:
    dims = rank(output)
    return output.is_graph_output() and dims is not None and dims != len(target)


def _numbers(node: ir.Node, opset: int) -> npt.NDArray[np.generic] | None:
    """What a node makes, if it is sizes that are all known."""
    output = node.outputs[0]
    known = extents_of(output, opset)
    numbers = None if known is None else known.numbers()
    dtype = output.dtype or (ir.DataType.INT64 if node.op_type in {"Shape", "Size"} else None)
    if known is None or numbers is None or dtype not in {ir.DataType.INT32, ir.DataType.INT64}:
        return None
    span = np.iinfo(dtype.numpy())
    if any(not span.min <= number <= span.max for number in numbers):
        return None
    array = np.array(numbers, dtype.numpy())
    return array.reshape(()) if known.scalar else array


def _target(node: ir.Node, opset: int) -> list[int] | None:
    """A constant second input that means the same as the one that is there, and says more."""
    source, is_constant = node.inputs[0], constant(node.inputs[1]) is not None
    known = extents_of(node.inputs[1], opset)
    if known is None or known.scalar:
        return None
    if node.op_type == "Expand":
        return None if is_constant else _expanded(source, known.elements)
    if node.attributes.get_int("allowzero", 0):
        return None if is_constant else known.numbers()
    target = _reshaped(source, known.elements)
    if is_constant:
        return None if target is None else _without_minus_one(source, target)
    return target


def _expanded(source: ir.Value | None, elements: tuple[Extent, ...]) -> list[int] | None:
    dims = rank(source)
    if dims is None:
        return None
    target = []
    for place, element in enumerate(elements):
        if isinstance(element, int):
            target.append(element)
        elif element is not None and element == extent_of(source, place + dims - len(elements)):
            target.append(1)
        else:
            return None
    return target


def _reshaped(source: ir.Value | None, elements: Sequence[Extent]) -> list[int] | None:
    sizes = shape_of(source) or ()
    target: list[int | None] = []
    for place, element in enumerate(elements):
        own = place < len(sizes) and element is not None and element == sizes[place]
        target.append(element if isinstance(element, int) else 0 if own else None)
    if target.count(None) == 1 and all(size is None or size > 0 for size in target):
        target = [-1 if size is None else size for size in target]
    return [size for size in target if size is not None] if None not in target else None


def _without_minus_one(source: ir.Value | None, target: list[int]) -> list[int] | None:
    place, sizes = target.index(-1) if -1 in target else None, shape_of(source)
    if place is None or sizes is None or place >= len(sizes) or sizes[place] is None:
        return None
    # Where the target has 0 it has the input's size.
    others = [
        sizes[at] if size == 0 and at < len(sizes) else size for at, size in enumerate(target) if at != place
    ]
    products = []
    for part in ([size for at, size in enumerate(sizes) if at != place], others):
        numbers = [size for size in part if isinstance(size, int) and size > 0]
        if len(numbers) != len(part):
            return None
        products.append(math.prod(numbers))
    if products[0] != products[1]:
        return None
    return [0 if at == place else size for at, size in enumerate(target)]
