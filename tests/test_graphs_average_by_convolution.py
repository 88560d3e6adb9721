"""average_by_convolution before and after. The cases are those of its docstring."""

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from cnnport.graphs import count_ops, optimize
from cnnport.graphs.channel.average_by_convolution import average_by_convolution

FIRES = {
    "counted padding": "kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], count_include_pad = 1",
    "one side": "kernel_shape = [3, 2], pads = [1, 0, 0, 0], count_include_pad = 1",
    "no padding": "kernel_shape = [2, 2], strides = [2, 2], pads = [0, 0, 0, 0]",
    "valid": 'kernel_shape = [3, 3], auto_pad = "VALID"',
    "dilated": "kernel_shape = [3, 3], dilations = [2, 2]",
}
STAYS = {
    "padding that is not counted": "kernel_shape = [3, 3], pads = [1, 1, 1, 1]",
    "ceil mode": "kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1",
    "same": 'kernel_shape = [3, 3], auto_pad = "SAME_UPPER", count_include_pad = 1',
}


def model_of(attributes: str, *, channels: int = 24, dtype: str = "float") -> onnx.ModelProto:
    model = onnx.parser.parse_model(
        f"""<ir_version: 9, opset_import: ["" : 19]>
        g ({dtype}[N, {channels}, 7, 8] x) => ({dtype}[N, C, H, W] y) {{
            y = AveragePool <{attributes}> (x)
        }}"""
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: onnx.ModelProto) -> np.ndarray:
    image = np.random.default_rng(0).normal(size=(2, 24, 7, 8)).astype(np.float32)
    return ReferenceEvaluator(model).run(None, {"x": image})[0]


@pytest.mark.parametrize("attributes", FIRES.values(), ids=FIRES.keys())
def test_it_becomes_a_convolution(attributes: str) -> None:
    before = model_of(attributes)
    after, _ = optimize(before, [average_by_convolution])
    assert count_ops(after) == {"Conv": 1}
    onnx.checker.check_model(after, full_check=True)
    np.testing.assert_allclose(run(after), run(before), rtol=0, atol=1e-6)


@pytest.mark.parametrize("attributes", STAYS.values(), ids=STAYS.keys())
def test_it_stays(attributes: str) -> None:
    before = model_of(attributes)
    after, (report,) = optimize(before, [average_by_convolution])
    assert (after, report.rewrites) == (before, 0)


def test_whole_blocks_other_types_and_unknown_channels_stay() -> None:
    window = "kernel_shape = [2, 2]"
    for before in (
        model_of(window, channels=32),
        model_of(window, channels=6),
        model_of(window, dtype="float16"),
        model_of(window),
    ):
        if before.graph.input[0].type.tensor_type.shape.dim[1].dim_value == 24:
            before.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "C"
        assert optimize(before, [average_by_convolution])[0] is before


def test_uncounted_padding_would_be_wrong() -> None:
    """Planted fault: what the pass refuses is told apart by the numbers."""
    counted, uncounted = (
        model_of(f"kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = {flag}") for flag in (1, 0)
    )
    assert not np.allclose(run(counted), run(uncounted), atol=1e-3)
