"""Bisection: the part of a model that is kept holds the nodes at fault, and hardly any other."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cnnport.graphs.bisect import smallest_failing


def ladder(blocks: int = 10) -> onnx.ModelProto:
    """Blocks of Conv, Relu, a parallel Conv and Add: forty nodes that no pass has a reason to touch."""
    rng = np.random.default_rng(0)
    nodes, weights, value = [], [], "x"
    for block in range(blocks):
        names = [f"a{block}", f"r{block}", f"b{block}", f"s{block}"]
        for name in (f"k{block}", f"l{block}"):
            kernel = (rng.normal(size=(4, 4, 3, 3)) / 6).astype(np.float32)
            weights.append(numpy_helper.from_array(kernel, name))
        nodes += [
            helper.make_node("Conv", [value, f"k{block}"], [names[0]], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [names[0]], [names[1]]),
            helper.make_node("Conv", [value, f"l{block}"], [names[2]], pads=[1, 1, 1, 1]),
            helper.make_node("Add", [names[1], names[2]], [names[3]]),
        ]
        value = names[3]
    graph = helper.make_graph(
        nodes,
        "ladder",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4, 8, 8])],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, None)],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def inferred(model: onnx.ModelProto) -> Callable[..., dict[str, onnx.TypeProto]]:
    shapes = onnx.shape_inference.infer_shapes(model).graph
    known = {value.name: value.type for value in (*shapes.value_info, *shapes.input, *shapes.output)}
    return lambda names: {name: known[name] for name in names if name in known}


def has(part: onnx.ModelProto, *outputs: str) -> bool:
    """A pass that goes wrong wherever it finds these nodes together."""
    onnx.checker.check_model(part, full_check=True)
    made = {name for node in part.graph.node for name in node.output}
    return made >= set(outputs)


@pytest.mark.parametrize(
    "at_fault",
    [("a6",), ("a0", "r0"), ("r9", "b9", "s9"), ("s3", "a4", "b4"), ("a2", "s7"), ("a0", "s9")],
)
def test_only_the_nodes_at_fault_are_kept(at_fault: tuple[str, ...]) -> None:
    """Alone, neighbours, around a parallel branch, across blocks, and far apart: those, and none beside them."""
    model = ladder()
    before = model.SerializeToString(deterministic=True)
    part = smallest_failing(model, lambda each: has(each, *at_fault), inferred(model))
    assert part is not None
    assert [node.output[0] for node in part.graph.node] == sorted(at_fault, key=at_fault.index)
    assert {tensor.name for tensor in part.graph.initializer} == {
        name for node in part.graph.node for name in node.input if name[0] in "kl"
    }
    assert model.SerializeToString(deterministic=True) == before


def test_few_questions_are_asked() -> None:
    """Two binary searches and what is left: not a question for every node."""
    model = ladder(60)
    asked = []

    def fails(part: onnx.ModelProto) -> bool:
        asked.append(part)
        return has(part, "a31", "r31")

    part = smallest_failing(model, fails, inferred(model))
    assert part is not None
    assert len(part.graph.node) == 2
    assert len(asked) < 21


def test_inputs_keep_their_open_sizes_and_constants_come_along() -> None:
    model = ladder(3)
    constant = helper.make_node("Constant", [], ["half"], value_float=0.5)
    model.graph.node.insert(0, constant)
    model.graph.node.append(helper.make_node("Mul", ["s2", "half"], ["y"]))
    model.graph.output[0].name = "y"
    part = smallest_failing(model, lambda each: has(each, "y"), inferred(model))
    assert part is not None
    assert [node.op_type for node in part.graph.node] == ["Constant", "Mul"]
    dims = part.graph.input[0].type.tensor_type.shape.dim
    assert (part.graph.input[0].name, dims[0].dim_param, dims[1].dim_value) == ("s2", "batch", 4)


def test_what_a_subgraph_captures_becomes_an_input() -> None:
    model = ladder(3)
    branches = {
        name: helper.make_graph(
            [helper.make_node(op, ["s1"], [f"{name}_y"])],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, None)],
        )
        for name, op in (("then_branch", "Neg"), ("else_branch", "Abs"))
    }
    model.graph.input.append(helper.make_tensor_value_info("yes", TensorProto.BOOL, []))
    model.graph.node.append(helper.make_node("If", ["yes"], ["y"], **branches))
    model.graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, None))
    part = smallest_failing(model, lambda each: has(each, "y"), inferred(model))
    assert part is not None
    assert [value.name for value in part.graph.input] == ["yes", "s1"]


def test_a_fault_that_does_not_show_again_keeps_nothing() -> None:
    model = ladder(3)
    assert smallest_failing(model, lambda part: False, inferred(model)) is None
    # A value of which nobody knows the type cannot be an input: then the part is as small as types allow.
    part = smallest_failing(model, lambda each: each.graph.node[-1].output[0] == "s2", lambda names: {})
    assert part is not None
    assert len(part.graph.node) == 12
