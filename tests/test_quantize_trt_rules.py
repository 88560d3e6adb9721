"""What TensorRT does not take, or takes for something else, is found in any file, and named."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from cnnport.graphs.protos import read
from cnnport.graphs.quantize.trt_rules import faults
from cnnport.onnxfile import read_artifact
from cnnport.runtimes import Options, get_runtime
from cnnport.runtimes.build import Builds, Built
from quantize_graphs import CONSTANTS, NETWORK, images, model_of, quantized

SMALL = """g (float[N, 16, 8, 8] x) => (float[N, 10] y) {
    a = Conv <pads = [1, 1, 1, 1]> (x, aw, ab)  r = Relu (a)  b = Conv (r, bw)  s = Add (b, r)  t = Relu (s)
    u = ConvTranspose <strides = [2, 2]> (t, uw)
    p = GlobalAveragePool (u)  f = Flatten (p)  y = Gemm <transB = 1> (f, yw, yb)
}"""
# Square, so that no size tells a wrong axis.
WEIGHTS = {
    "aw": (16, 16, 3, 3),
    "ab": (16,),
    "bw": (16, 16, 1, 1),
    "uw": (16, 16, 2, 2),
    "yw": (10, 16),
    "yb": (10,),
}


def made_for(target: str) -> onnx.ModelProto:
    made, _ = quantized(model_of(SMALL, WEIGHTS), target)
    return made


def node_of(model: onnx.ModelProto, output: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.output[0] == output)


def put(model: onnx.ModelProto, name: str, array: np.ndarray) -> None:
    tensor = next(each for each in model.graph.initializer if each.name == name)
    tensor.CopyFrom(numpy_helper.from_array(array, name))


def unsigned(model: onnx.ModelProto) -> None:
    put(model, "r_zero_point", np.array(0, np.uint8))


def no_zero_point(model: onnx.ModelProto) -> None:
    for output in ("r_quantized", "r_dequantized"):
        del node_of(model, output).input[2]


def moved_zero_point(model: onnx.ModelProto) -> None:
    put(model, "r_zero_point", np.array(3, np.int8))


def wrong_axis(model: onnx.ModelProto) -> None:
    node_of(model, "bw_dequantized").attribute[0].i = 1


def default_axis(model: onnx.ModelProto) -> None:
    del node_of(model, "bw_dequantized").attribute[:]


def transposed_axis(model: onnx.ModelProto) -> None:
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.ones((16, 16, 2, 2), np.int8), "uw_quantized"),
            numpy_helper.from_array(np.ones(16, np.float32), "uw_scale"),
        ]
    )
    up = helper.make_node(
        "DequantizeLinear", ["uw_quantized", "uw_scale"], ["uw_dequantized"], "uw_up", axis=0
    )
    model.graph.node.insert(0, up)
    node_of(model, "u").input[1] = "uw_dequantized"


def wrong_count(model: onnx.ModelProto) -> None:
    put(model, "aw_scale", np.ones(8, np.float32))
    put(model, "aw_zero_point", np.zeros(8, np.int8))


def scaled_activations(model: onnx.ModelProto) -> None:
    put(model, "r_scale", np.full(16, 0.1, np.float32))
    put(model, "r_zero_point", np.zeros(16, np.int8))


def infinite_scale(model: onnx.ModelProto) -> None:
    put(model, "r_scale", np.array(np.inf, np.float32))


def negative_scale(model: onnx.ModelProto) -> None:
    put(model, "aw_scale", -np.ones(16, np.float32))


def computed_scale(model: onnx.ModelProto) -> None:
    model.graph.node.insert(0, helper.make_node("Exp", ["r_scale"], ["computed"], "computing"))
    node_of(model, "r_quantized").input[1] = "computed"


def integer_bias(model: onnx.ModelProto) -> None:
    add = [
        numpy_helper.from_array(np.zeros(16, np.int32), "ab_quantized"),
        numpy_helper.from_array(np.ones(16, np.float32), "ab_scale"),
    ]
    model.graph.initializer.extend(add)
    up = helper.make_node("DequantizeLinear", ["ab_quantized", "ab_scale"], ["ab_up"], "ab_up", axis=0)
    model.graph.node.insert(0, up)
    node_of(model, "a").input[2] = "ab_up"


def torn(model: onnx.ModelProto) -> None:
    given = ["r_scale", "r_zero_point"]
    place = [node.output[0] for node in model.graph.node].index("a") + 1
    model.graph.node.insert(place, helper.make_node("DequantizeLinear", ["a_q", *given], ["a_d"], "a_d"))
    model.graph.node.insert(place, helper.make_node("QuantizeLinear", ["a", *given], ["a_q"], "a_q"))
    node_of(model, "r").input[0] = "a_d"


def integer_operator(model: onnx.ModelProto) -> None:
    given = ["r_quantized", "bw_quantized", "r_zero_point"]
    model.graph.node.append(helper.make_node("ConvInteger", given, ["sums"], "integers"))


PLANTED: dict[Callable[[onnx.ModelProto], None], tuple[str, str]] = {
    unsigned: ("r_quantized", "uint8 is read as int8"),
    no_zero_point: ("r_quantized", "uint8 is read as int8"),
    moved_zero_point: ("r_quantized", "its zero point is 3, not 0"),
    wrong_axis: ("Conv_2", "the scales of its weights bw_dequantized lie along axis 1, not 0"),
    default_axis: ("Conv_2", "the scales of its weights bw_dequantized lie along axis 1, not 0"),
    transposed_axis: ("ConvTranspose_5", "the scales of its weights uw_dequantized lie along axis 0, not 1"),
    wrong_count: ("Conv_0", "its weights aw_dequantized have 16 output channels, and 8 scales"),
    scaled_activations: ("r_quantized", "it gives activations a scale for each channel"),
    infinite_scale: ("r_quantized", "its scale is not positive and finite"),
    negative_scale: ("aw_dequantized", "its scale is not positive and finite"),
    computed_scale: ("r_quantized", "its scale is computed"),
    integer_bias: ("ab_up", "a bias in int32 is rejected: it has to be in float"),
    torn: ("a_q", "it stands between a convolution and what belongs to it"),
    integer_operator: ("integers", "TensorRT has no operators on integers"),
}


def test_files_for_tensorrt_have_no_faults() -> None:
    assert faults(read(made_for("trt"))) == ()
    assert faults(read(model_of(SMALL, WEIGHTS))) == ()


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_planted_faults_are_found_and_named(plant: Callable[[onnx.ModelProto], None]) -> None:
    model = made_for("trt")
    plant(model)
    found = faults(read(model))
    assert PLANTED[plant] in {(each.node, each.reason) for each in found}
    assert all(str(each).startswith(f"{each.operator} {each.node}: ") for each in found)


def test_files_for_other_targets_and_of_other_tools_break_the_rules(tmp_path: Path) -> None:
    reasons = {each.reason for each in faults(read(made_for("ort")))}
    assert {"uint8 is read as int8", "a bias in int32 is rejected: it has to be in float"} <= reasons
    foreign = onnx.load(by_onnxruntime(model_of(SMALL, WEIGHTS), tmp_path))
    assert "a bias in int32 is rejected: it has to be in float" in {
        each.reason for each in faults(read(foreign))
    }


def by_onnxruntime(model: onnx.ModelProto, folder: Path) -> Path:
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = [images(model, 2)]

        def get_next(self) -> dict[str, np.ndarray] | None:
            return self.left.pop() if self.left else None

    onnx.save(model, folder / "float.onnx")
    quantization.quantize_static(
        folder / "float.onnx",
        folder / "foreign.onnx",
        Reader(),
        activation_type=quantization.QuantType.QInt8,
        weight_type=quantization.QuantType.QInt8,
        per_channel=True,
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True},
    )
    return folder / "foreign.onnx"


@pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")
@pytest.mark.parametrize("text", ["small", "network"])
def test_tensorrt_builds_the_files_and_convolutions_read_integers(text: str, tmp_path: Path) -> None:
    model = model_of(SMALL, WEIGHTS) if text == "small" else model_of(NETWORK, CONSTANTS)
    made, _ = quantized(model, "trt")
    done = build(made, tmp_path)
    assert done.ok, done.errors
    reads = [layer.reads for layer in done.layers if any(node.startswith("Conv") for node in layer.nodes)]
    assert reads
    assert any("Int8" in kinds for kinds in reads)


@pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")
@pytest.mark.parametrize("plant", [integer_bias, moved_zero_point], ids=lambda plant: plant.__name__)
def test_tensorrt_rejects_what_the_rules_say_it_rejects(
    plant: Callable[[onnx.ModelProto], None], tmp_path: Path
) -> None:
    model = made_for("trt")
    plant(model)
    assert not build(model, tmp_path).ok


def build(model: onnx.ModelProto, folder: Path) -> Built:
    path = folder / "made.onnx"
    onnx.save(model, path)
    runtime = get_runtime("trt-rtx")
    assert isinstance(runtime, Builds)
    return runtime.check(read_artifact(path), Options())
