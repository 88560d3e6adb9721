"""Passes that are wrong on purpose, each in a way in which passes go wrong."""

import itertools

import numpy as np
import onnx_ir as ir

from cnnport.graphs.fold.fold_batchnorm import fold_batchnorm
from cnnport.graphs.values import constant, fresh_names

_count = itertools.count()
_SHAPE_KEPT = frozenset(
    {"Add", "BatchNormalization", "Div", "LRN", "Mul", "Relu", "Sigmoid", "Softmax", "Sub", "Tanh"}
)


def ignores_epsilon(model: ir.Model) -> int:
    """Folds batch norms as if all had the epsilon that is the default."""
    if not fold_batchnorm(model.clone()):
        return 0
    for node in model.graph:
        if node.op_type == "BatchNormalization":
            node.attributes["epsilon"] = ir.AttrFloat32("epsilon", 1e-5)
    return fold_batchnorm(model)


def swaps_channels(model: ir.Model) -> int:
    """Gives one convolution, the first time it sees it, two of its output channels in the other order."""
    for node, weight in _convolutions(model):
        array = weight.numpy()
        if len(array) > 1 and not (array[0] == array[1]).all():
            order = [1, 0, *range(2, len(array))]
            return _once(model, node, 1, array[order])
    return 0


def drops_bias(model: ir.Model) -> int:
    """Takes the biases of convolutions away."""
    biased = [node for node, _ in _convolutions(model) if len(node.inputs) > 2]
    for node in biased:
        node.resize_inputs(2)
    return len(biased)


def forgets_padding(model: ir.Model) -> int:
    """Takes the additions in front of convolutions into their biases, padded or not."""
    done = 0
    for node, weight in _convolutions(model):
        value = node.inputs[0]
        above = value.producer() if value is not None else None
        if above is None or above.op_type != "Add" or len(value.uses()) > 1 or value.is_graph_output():
            continue
        shift, bias = constant(above.inputs[1]), constant(node.inputs[2]) if len(node.inputs) > 2 else None
        array = weight.numpy()
        plain = array.dtype == np.float32 and (len(node.inputs) < 3 or bias is not None)
        if not plain or shift is None or shift.numpy().shape not in {(), (1,), (array.shape[1], 1, 1)}:
            continue
        moved = (array * shift.numpy()).sum(axis=(1, 2, 3))
        node.replace_input_with(0, above.inputs[0])
        model.graph.remove(above, safe=True)
        done += _put(model, node, 2, moved if bias is None else moved + bias.numpy())
    return done


def ignores_subgraphs(model: ir.Model) -> int:
    """Takes out operators that a branch reads, as if nobody did."""
    gone = 0
    # From the end, so that what one of them leaves to the branch is seen as well.
    for node in reversed(model.graph):
        value = node.outputs[0]
        source = node.inputs[0] if node.inputs else None
        same = source is not None and source.shape is not None and source.shape == value.shape
        captured = any(use.node.graph is not model.graph for use in value.uses())
        if captured and same and node.op_type in _SHAPE_KEPT and not value.is_graph_output():
            value.replace_all_uses_with(source)
            model.graph.remove(node, safe=True)
            gone += 1
    return gone


def never_done(model: ir.Model) -> int:
    """Renames a node whenever it runs."""
    for node in model.graph:
        node.name = f"{node.name}'"
        return 1
    return 0


def not_the_same_twice(model: ir.Model) -> int:
    """Names values after how many it has named in its life."""
    done = 0
    for node in model.graph:
        value = node.outputs[0]
        inner = all(use.node.graph is model.graph for use in value.uses())
        if inner and not value.is_graph_output() and not (value.name or "").startswith("the_"):
            value.name = f"the_{next(_count)}th"
            done += 1
    return done


def changes_batch(model: ir.Model) -> int:
    """Fixes the batch of the first output."""
    shape = model.graph.outputs[0].shape
    if shape is None or shape[0] == 7:
        return 0
    model.graph.outputs[0].shape = ir.Shape([7, *shape[1:]])
    return 1


def changes_silently(model: ir.Model) -> int:
    """Says that it found nothing, and has renamed a node."""
    for node in model.graph:
        node.name = "renamed"
    return 0


FAULTS = {
    ignores_epsilon: "numbers",
    swaps_channels: "numbers",
    drops_bias: "numbers",
    forgets_padding: "numbers",
    ignores_subgraphs: "numbers",
    never_done: "endless",
    not_the_same_twice: "not the same twice",
    changes_batch: "refused",
    changes_silently: "touched",
}
"""Each with the kind of finding that it must lead to."""


def _convolutions(model: ir.Model) -> list[tuple[ir.Node, ir.TensorProtocol]]:
    found = []
    for node in model.graph:
        weight = constant(node.inputs[1]) if node.op_type == "Conv" else None
        if weight is not None and not (node.name or "").endswith("_swapped"):
            found.append((node, weight))
    return found


def _once(model: ir.Model, node: ir.Node, index: int, array: np.ndarray) -> int:
    node.name = f"{node.name}_swapped"
    return _put(model, node, index, array)


def _put(model: ir.Model, node: ir.Node, index: int, array: np.ndarray) -> int:
    name = fresh_names(model)("faulty")
    value = ir.Value(name=name, const_value=ir.tensor(np.ascontiguousarray(array), name=name))
    value.type, value.shape = ir.TensorType(value.const_value.dtype), ir.Shape(array.shape)
    model.graph.register_initializer(value)
    if index >= len(node.inputs):
        node.resize_inputs(index + 1)
    node.replace_input_with(index, value)
    return 1
