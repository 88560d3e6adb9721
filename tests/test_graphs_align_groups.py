"""align_groups before and after, on ShuffleNet v1's unit. The numbers are those of its docstring."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from cnnport.graphs import optimize
from cnnport.graphs.channel import align_groups as module
from cnnport.graphs.channel.align_groups import align_groups


def unit(
    *,
    groups: int = 2,
    size: int = 14,
    outer: int = 16,
    dense: bool = False,
    between: str = "",
    order: str = "shuffle",
) -> onnx.ModelProto:
    """Grouped 1x1, activation, shuffle, depthwise 3x3, grouped (or dense) 1x1.

    Args:
        groups: Of the convolutions.
        size: Channels of a group between the two.
        outer: Channels of a group outside.
        dense: Whether the last convolution has one group.
        between: Text of nodes that read the shuffled channels ``s`` or the activation ``r`` too.
        order: ``shuffle``, or ``repeat`` for a Gather that takes a channel twice.
    """
    inside, outside = groups * size, groups * outer
    extra = f", float[N, {inside}, 5, 5] z" if between else ""
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 18]>
        g (float[N, {outside}, 5, 5] x) => (float[N, {outside}, 5, 5] y{extra}) {{
            a = Conv <group = {groups}> (x, aw, ab)
            r = Relu (a)
            s = Gather <axis = 1> (r, order)
            d = Conv <group = {inside}, pads = [1, 1, 1, 1]> (s, dw, db)
            e = Conv <group = {1 if dense else groups}> (d, ew, eb)
            y = Add (e, x)
            {between}
        }}"""
    )
    rng = np.random.default_rng(0)
    shapes = {
        "aw": (inside, outer, 1, 1),
        "ab": (inside,),
        "dw": (inside, 1, 3, 3),
        "db": (inside,),
        "ew": (outside, inside if dense else size, 1, 1),
        "eb": (outside,),
    }
    for name, shape in shapes.items():
        model.graph.initializer.append(
            numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)
        )
    shuffled = np.arange(inside).reshape(groups, size).T.reshape(-1)
    if order == "repeat":
        shuffled[0] = shuffled[1]
    model.graph.initializer.append(numpy_helper.from_array(shuffled, "order"))
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: onnx.ModelProto) -> list[np.ndarray]:
    channels = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    image = np.random.default_rng(1).normal(size=(2, channels, 5, 5)).astype(np.float32)
    return ReferenceEvaluator(model).run(None, {"x": image})


def kernels(model: onnx.ModelProto) -> list[tuple[int, ...]]:
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    return [shapes[node.input[1]] for node in model.graph.node if node.op_type == "Conv"]


@pytest.mark.parametrize(("groups", "size", "filled"), [(2, 14, 16), (3, 40, 48), (4, 15, 16)])
def test_groups_are_filled(groups: int, size: int, filled: int) -> None:
    before = unit(groups=groups, size=size)
    after, (report, *_) = optimize(before, [align_groups])
    assert (report.rewrites, report.refused) == (1, None)
    inside = groups * filled
    assert kernels(after) == [(inside, 16, 1, 1), (inside, 1, 3, 3), (groups * 16, filled, 1, 1)]
    onnx.checker.check_model(after, full_check=True)
    for one, other in zip(run(before), run(after), strict=True):
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-5)
    assert optimize(after, [align_groups])[0] is after


@pytest.mark.parametrize(
    "model",
    [
        unit(size=16),
        unit(size=20),
        unit(outer=12),
        unit(dense=True),
        unit(order="repeat"),
        unit(between="z = Neg (s)"),
        unit(between="z = Neg (r)"),
    ],
    ids=[
        "whole",
        "11-too much",
        "12-other side",
        "10-dense",
        "repeat",
        "10-given out behind",
        "10-given out before",
    ],
)
def test_it_must_not_fire(model: onnx.ModelProto) -> None:
    after, (report,) = optimize(model, [align_groups])
    assert (after, report.rewrites, report.refused) == (model, 0, None)


def test_zeros_in_the_wrong_place_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault: a shuffle that takes the zeros first."""
    before = unit()
    real = module._filled_order
    monkeypatch.setattr(module, "_filled_order", lambda *given: real(*given)[::-1].copy())

    def differs(candidate: onnx.ModelProto) -> str | None:
        return None if np.allclose(run(before)[0], run(candidate)[0], atol=1e-3) else "outputs differ"

    after, (report,) = optimize(before, [align_groups], verify=differs)
    assert (after, report.refused) == (before, "outputs differ")
