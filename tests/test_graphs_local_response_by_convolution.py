"""local_response_by_convolution before and after. The cases are those of its docstring."""

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from cnnport.graphs import count_ops, optimize
from cnnport.graphs.channel.local_response_by_convolution import local_response_by_convolution

QUOTIENT = {"Mul": 1, "Conv": 1, "Div": 1}
FIRES = {
    "fourth root": ("size = 5, alpha = 0.5, beta = 0.75, bias = 2.0", QUOTIENT | {"Mul": 2, "Sqrt": 2}),
    "defaults": ("size = 3", QUOTIENT | {"Mul": 2, "Sqrt": 2}),
    "square root": ("size = 7, alpha = 1.5, beta = 0.5", QUOTIENT | {"Sqrt": 1}),
    "no root": ("size = 5, alpha = 0.3, beta = 1.0", QUOTIENT),
    "one channel": ("size = 1, alpha = 0.3, beta = 1.0", QUOTIENT),
    "wider than the channels": ("size = 41, alpha = 0.3, beta = 0.75", QUOTIENT | {"Mul": 2, "Sqrt": 2}),
}
STAYS = {
    "even size": "size = 4, alpha = 0.5",
    "another power": "size = 5, alpha = 0.5, beta = 0.7",
    "nothing is added": "size = 5, alpha = 0.5, bias = 0.0",
    "something is taken off": "size = 5, alpha = -0.5, bias = 1.0",
}


def model_of(
    attributes: str, *, channels: str = "24", dtype: str = "float", ir_version: int = 9
) -> onnx.ModelProto:
    model = onnx.parser.parse_model(
        f"""<ir_version: {ir_version}, opset_import: ["" : 19]>
        g ({dtype}[N, {channels}, 5, 4] x) => ({dtype}[N, {channels}, 5, 4] y) {{
            y = LRN <{attributes}> (x)
        }}"""
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def by_the_standard(x: np.ndarray, size: int, alpha: float, beta: float, bias: float) -> np.ndarray:
    """LRN as its page defines it, one channel after the other, in float64."""
    x = x.astype(np.float64)
    channels = x.shape[1]
    y = np.empty_like(x)
    for channel in range(channels):
        first = max(0, channel - (size - 1) // 2)
        last = min(channels - 1, channel + -(-(size - 1) // 2))
        squares = sum(x[:, i] ** 2 for i in range(first, last + 1))
        y[:, channel] = x[:, channel] / (bias + alpha / size * squares) ** beta
    return y


@pytest.mark.parametrize(("attributes", "ops"), FIRES.values(), ids=FIRES.keys())
@pytest.mark.parametrize("channels", ["24", "16"])
def test_it_is_written_out(attributes: str, ops: dict[str, int], channels: str) -> None:
    before = model_of(attributes, channels=channels)
    after, (report, *_) = optimize(before, [local_response_by_convolution])
    assert report.rewrites == 1
    assert count_ops(after) == ops
    onnx.checker.check_model(after, full_check=True)
    image = np.random.default_rng(0).normal(0, 3, size=(2, int(channels), 5, 4)).astype(np.float32)
    given = {each.name: onnx.helper.get_attribute_value(each) for each in before.graph.node[0].attribute}
    expected = by_the_standard(image, **{"alpha": 1e-4, "beta": 0.75, "bias": 1.0, **given})
    (found,) = ReferenceEvaluator(after).run(None, {"x": image})
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("attributes", STAYS.values(), ids=STAYS.keys())
def test_it_stays(attributes: str) -> None:
    before = model_of(attributes)
    after, (report,) = optimize(before, [local_response_by_convolution])
    assert (after, report.rewrites) == (before, 0)
    assert len(report.left) == 1


def test_other_types_few_many_and_unknown_channels_stay() -> None:
    attributes = "size = 5, alpha = 0.5"
    for before in (
        model_of(attributes, channels="15"),
        model_of(attributes, channels="513"),
        model_of(attributes, channels="C"),
        model_of(attributes, dtype="float16"),
        model_of(attributes, ir_version=3),
    ):
        assert optimize(before, [local_response_by_convolution])[0] is before


def test_two_in_a_row_get_names_of_their_own() -> None:
    before = onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["" : 19]>
        g (float[N, 16, 3, 3] x) => (float[N, 16, 3, 3] y, float[N, 16, 3, 3] z) {
            y = LRN <size = 3, alpha = 0.5> (x)
            z = LRN <size = 5, alpha = 0.5> (y)
        }"""
    )
    after, _ = optimize(before, [local_response_by_convolution])
    onnx.checker.check_model(after, full_check=True)
    assert [value.name for value in after.graph.output] == ["y", "z"]
    image = np.random.default_rng(1).normal(size=(1, 16, 3, 3)).astype(np.float32)
    found = ReferenceEvaluator(after).run(None, {"x": image})
    first = by_the_standard(image, 3, 0.5, 0.75, 1.0)
    np.testing.assert_allclose(found[0], first, rtol=2e-6)
    np.testing.assert_allclose(found[1], by_the_standard(first, 5, 0.5, 0.75, 1.0), rtol=2e-6)


def test_the_band_of_an_even_size_would_be_wrong() -> None:
    """Planted fault: a window that lies one channel to the side is told apart by the numbers."""
    image = np.random.default_rng(2).normal(0, 3, size=(1, 24, 5, 4)).astype(np.float32)
    after, _ = optimize(model_of("size = 5, alpha = 0.5"), [local_response_by_convolution])
    for tensor in after.graph.initializer:
        band = onnx.numpy_helper.to_array(tensor)
        if band.ndim == 4:
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.roll(band, 1, axis=1), tensor.name))
    (found,) = ReferenceEvaluator(after).run(None, {"x": image})
    assert np.abs(found - by_the_standard(image, 5, 0.5, 0.75, 1.0)).max() > 1e-2
