"""Rounding told apart from mistakes: the graph computed in float64."""

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

from cnnport.capture import capture
from cnnport.float64 import run_in_float64
from cnnport.reference import Reference


@pytest.fixture(scope="module")
def module() -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 6),
    )
    nn.init.uniform_(network[1].running_var, 0.3, 2)
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def reference(module: nn.Module) -> Reference:
    return Reference(module, (3, 12, 12), output_name="y", batches=(1, 3), seeds=(0,))


@pytest.fixture(scope="module")
def graph(module: nn.Module) -> onnx.ModelProto:
    image = torch.zeros(2, 3, 12, 12)
    return capture(module, {"input": image}, output_names=["y"], opset=20, dynamic_batch=True)


def noisy(reference: Reference, share: float) -> list[dict[str, np.ndarray]]:
    """What a runtime would answer whose float32 kernels round worse than PyTorch's."""
    rng = np.random.default_rng(0)
    return [
        {"y": (each["y"] + share * each["y"].std() * rng.normal(size=each["y"].shape)).astype(np.float32)}
        for each in reference.outputs
    ]


def test_a_graph_in_float64_gives_what_pytorch_gives(graph: onnx.ModelProto, module: nn.Module) -> None:
    image = np.random.default_rng(0).normal(size=(2, 3, 12, 12)).astype(np.float32)
    before = graph.SerializeToString()
    outputs = run_in_float64(graph, {"input": image})
    assert outputs is not None
    assert outputs["y"].dtype == np.float64
    exact = module.double()(torch.from_numpy(image).double()).numpy()
    module.float()
    # The folded weights are rounded to float32, everything else is not.
    assert np.abs(outputs["y"] - exact).max() < 2e-7 * np.abs(exact).max()
    assert graph.SerializeToString() == before


def test_a_fixed_batch_is_computed_as_a_whole(graph: onnx.ModelProto) -> None:
    image = np.random.default_rng(0).normal(size=(2, 3, 12, 12)).astype(np.float32)
    fixed = onnx.ModelProto()
    fixed.CopyFrom(graph)
    for value in (*fixed.graph.input, *fixed.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 2
    one, other = run_in_float64(graph, {"input": image}), run_in_float64(fixed, {"input": image})
    assert one is not None
    assert other is not None
    np.testing.assert_allclose(one["y"], other["y"], rtol=0, atol=1e-12)


def test_rounding_of_a_runtime_is_no_mistake(reference: Reference, graph: onnx.ModelProto) -> None:
    verdict = reference._judge(noisy(reference, 3e-4), graph)
    assert verdict.ok
    assert verdict.worst.error > 1e-4
    assert "the file's graph in float64" in verdict.note


def test_a_wrong_graph_is_no_rounding(reference: Reference, graph: onnx.ModelProto) -> None:
    """Answers just as far off, of a graph whose weights are wrong by as much."""
    wrong = onnx.ModelProto()
    wrong.CopyFrom(graph)
    (bias,) = [each for each in wrong.graph.initializer if each.name == "5.bias"]
    shifted = numpy_helper.to_array(bias) + np.float32(4e-4 * reference.outputs[0]["y"].std())
    bias.CopyFrom(numpy_helper.from_array(shifted, bias.name))
    verdict = reference._judge(noisy(reference, 3e-4), wrong)
    assert not verdict.ok
    assert not reference._judge(noisy(reference, 3e-4)).ok


def test_rounding_has_its_limit(reference: Reference, graph: onnx.ModelProto) -> None:
    assert not reference._judge(noisy(reference, 0.1), graph).ok


def test_what_the_reference_cannot_compute() -> None:
    value = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    result = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    node = helper.make_node("Unheard", ["x"], ["y"], domain="nobody")
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("nobody", 1)]
    model = helper.make_model(helper.make_graph([node], "g", [value], [result]), opset_imports=imports)
    assert run_in_float64(model, {"x": np.zeros(1, np.float32)}) is None


def test_normalisation_across_channels_is_the_standards() -> None:
    """onnx 1.23's own reference sums over as many channels as there are pictures."""
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 13]>
        g (float[N, 6, 2, 2] x) => (float[N, 6, 2, 2] y) { y = LRN <size = 3, alpha = 0.5, bias = 2.0> (x) }"""
    )
    image = np.random.default_rng(0).normal(size=(2, 6, 2, 2)).astype(np.float32)
    outputs = run_in_float64(model, {"x": image})
    assert outputs is not None
    expected = nn.LocalResponseNorm(3, alpha=0.5, k=2.0)(torch.from_numpy(image).double()).numpy()
    np.testing.assert_allclose(outputs["y"], expected, rtol=0, atol=1e-7)
