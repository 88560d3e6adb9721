"""use_global_average_pool: what becomes a pooling, and what does not."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from cnnport.graphs import count_ops, optimize
from cnnport.graphs.fuse.use_global_average_pool import use_global_average_pool


def model_of(axes: list[int], keepdims: int, opset: int, shape: str, result: str) -> onnx.ModelProto:
    attributes = f"keepdims = {keepdims}" + ("" if opset >= 18 else f", axes = {axes}")
    inputs = "x, axes" if opset >= 18 else "x"
    text = f"g (float[{shape}] x) => (float[{result}] y) {{ y = ReduceMean <{attributes}> ({inputs}) }}"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {text}')
    if opset >= 18:
        model.graph.initializer.append(numpy_helper.from_array(np.array(axes, np.int64), "axes"))
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.mark.parametrize("opset", [13, 18, 21])
@pytest.mark.parametrize("axes", [[2, 3], [-1, -2]])
def test_becomes_a_pooling(axes: list[int], opset: int) -> None:
    before = model_of(axes, 1, opset, "N, 3, H, W", "N, 3, 1, 1")
    after, (report, *_) = optimize(before, [use_global_average_pool])
    assert report.refused is None
    assert count_ops(after) == {"GlobalAveragePool": 1}
    assert not after.graph.initializer
    image = np.random.default_rng(0).normal(size=(2, 3, 5, 7))
    found, expected = (ReferenceEvaluator(model).run(None, {"x": image})[0] for model in (after, before))
    np.testing.assert_allclose(found, expected, atol=1e-15)


@pytest.mark.parametrize(
    ("axes", "keepdims", "shape", "result"),
    [
        ([2, 3], 0, "N, 3, 5, 7", "N, 3"),
        ([1, 2], 1, "N, 3, 5, 7", "N, 1, 1, 7"),
        ([3], 1, "N, 3, 5, 7", "N, 3, 5, 1"),
        ([2, 3], 1, "N, 3, 5, 7, 9", "N, 3, 1, 1, 9"),
        ([1, 2], 1, "N, 3, 5", "N, 1, 1"),
    ],
)
def test_stays(axes: list[int], keepdims: int, shape: str, result: str) -> None:
    before = model_of(axes, keepdims, 18, shape, result)
    after, (report, *_) = optimize(before, [use_global_average_pool])
    assert report.refused is None
    assert after is before
