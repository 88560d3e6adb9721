"""What is read: settings, the three forms in which an engine is described, messages, and types against the file's."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cnnport.artifact import Artifact, TensorSpec
from cnnport.errors import ArtifactError, CnnportError
from cnnport.runtimes import Options, get_runtime
from cnnport.runtimes.build import BuildError, Layer
from cnnport.runtimes.trt.inspector import read_information, read_listing, spelled
from cnnport.runtimes.trt.messages import build_errors, clean
from cnnport.runtimes.trt.precision import departures, unchecked, wanted_types
from cnnport.runtimes.trt.quantized import misread
from cnnport.runtimes.trt.wishes import Range, Wishes, read_wishes
from trt_files import small

TEN = {
    "Layers": [
        {
            "Name": "conv1 + relu1",
            "LayerType": "CaskConvolution",
            "Inputs": [
                {"Name": "x", "Dimensions": [-1, 3, 8, 8], "Format/Datatype": "N/A due to dynamic shapes"}
            ],
            "Outputs": [{"Name": "y", "Format/Datatype": "Channel major FP16 format where channel % 8 == 0"}],
            "Weights": {"Type": "Half", "Count": 432},
            "TacticName": "sm80_xmma_fprop",
            "Metadata": "[ONNX Layer: conv1]\x1e[ONNX Layer: relu1]",
        }
    ],
    "Bindings": ["x", "y"],
}
ELEVEN = {
    "Layers": [
        {
            "Name": "conv1_myl0_2",
            "LayerType": "correlation",
            "Inputs": [{"Name": "x", "Dimensions": [-1, 3, 8, 8], "Datatype": "Half", "Format": "(NHWC)"}],
            "Constants": [{"Name": "w", "Datatype": "Half", "Format": "(NHWC)"}],
            "Outputs": [{"Name": "y", "Datatype": "Half", "Format": "(NHWC)"}],
            "TacticName": "sm80_xmma_fprop",
            "StreamId": 0,
            "Metadata": "[ONNX Layer: conv1]\x1f[ONNX Layer: relu1]",
        },
        {
            "Name": "wait_1",
            "LayerType": "wait",
            "Inputs": [],
            "Outputs": [],
            "TacticName": "",
            "Metadata": "",
        },
    ],
    "I/O Tensors": [{"Name": "x", "IOMode": "Input", "DataType": "Half"}, {"Name": "y", "IOMode": "Output"}],
}
# As TensorRT-RTX 1.7 logs it, shortened.
LISTING = (
    "Layers:\n"
    "Name: __mye349_0_myl0_0, LayerType: shape_call, Inputs: [], Constants: [], Outputs: [], TacticName: , "
    "StreamId: 0, Metadata: \n"
    "Name: conv1_myl0_2, LayerType: correlation, Inputs: [ { Name: x, Dimensions: [-1,3,8,8], Strides: [192,1,24,3], "
    "StrideOrder: [3,0,2,1], Datatype: Half, Format: (NHWC) Channel major format }], Constants: [ { Name: w, "
    "Dimensions: [1], Strides: [1], StrideOrder: [0], Datatype: Half, Format: (Linear) Row major linear format }], "
    "Outputs: [ { Name: y, Dimensions: [-1,8,8,8], Datatype: Half, Format: (NHWC) Channel major format }], "
    "TacticName: sm80_xmma_fprop, StreamId: 0, Metadata: [ONNX Layer: conv1]\x1f[ONNX Layer: relu1]\n"
    "\nI/O Tensors:\n Name: x, IOMode: Input, DataType: Float"
)


def test_the_three_forms_say_the_same() -> None:
    (ten,), (eleven,), (listed,) = read_information(json.dumps(TEN)), _layers(ELEVEN), read_listing(LISTING)
    assert ten.nodes == eleven.nodes == listed.nodes == ("conv1", "relu1")
    assert ten.reads == eleven.reads == listed.reads == ("Half",)
    assert ten.writes == eleven.writes == listed.writes == ("Half",)
    assert ten.kernel == eleven.kernel == listed.kernel == "sm80_xmma_fprop"


def _layers(document: dict[str, object]) -> tuple[Layer, ...]:
    return read_information(json.dumps(document))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps({"Layers": ["conv1 + relu1"], "Bindings": []}), "built without details"),
        (json.dumps({"Ebenen": []}), "in a form that cnnport does not know"),
        ("{", "in a form that cnnport does not know"),
    ],
)
def test_what_cannot_be_read_is_no_empty_engine(text: str, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        read_information(text)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Row major linear FP32", "Float"),
        ("Thirty-two wide channel vectorized row major Int8 format", "Int8"),
        ("Half", "Half"),
        ("BFloat16", "BFloat16"),
        ("N/A due to dynamic shapes", ""),
        ("Row major", ""),
    ],
)
def test_types_in_all_spellings(text: str, kind: str) -> None:
    assert spelled(text) == kind


def test_the_file_says_in_which_types_to_compute(tmp_path: Path) -> None:
    nodes = ("first/Conv", "second/Conv", "fc/Gemm")
    for precision, kinds in (
        ("fp32", ["Float"] * 3),
        ("fp16", ["Half"] * 3),
        ("int8", ["Int8", "Int8", "Float"]),
    ):
        model = onnx.load(small(tmp_path, precision).path)
        assert wanted_types(model) == dict(zip(nodes, kinds, strict=True))


def test_departures_of_an_engine() -> None:
    wanted = {"conv1": "Half", "fc": "Float"}
    right = (
        Layer("a", "correlation", ("conv1",), ("Half", "Float")),
        Layer("b", "gemm", ("fc",), ("Float",)),
    )
    assert list(departures(wanted, right, tf32=False)) == []
    # The conversion before a convolution in float32 reads float16, and excuses nothing.
    wrong = (
        Layer("cast", "kgen", ("conv1",), ("Half",)),
        Layer("a", "correlation", ("conv1",), ("Float",)),
        Layer("b", "gemm", ("fc",), ("Float",), kernel="sm80_xmma_gemm_f32f32_tf32f32_f32"),
    )
    assert list(map(str, departures(wanted, wrong, tf32=False))) == [
        "conv1: asked for in Half, but layer a computes it in Float",
        "fc: asked for in Float, but kernel sm80_xmma_gemm_f32f32_tf32f32_f32 computes it in TF32",
    ]
    assert len(list(departures(wanted, wrong, tf32=True))) == 1
    (silent,) = departures(wanted, (Layer("a", "correlation", ("conv1",)),), tf32=False)
    assert "does not say" in silent.message


def test_every_profile_is_looked_at() -> None:
    """An engine has layers of its own for each range of sizes, and one of them may be wrong alone."""
    wanted = {"conv1": "Half"}
    first = Layer("conv1_myl0_1", "correlation", ("conv1",), ("Half",))
    second = Layer("conv1 [profile 1]_myl1_2", "correlation", ("conv1",), ("Half",))
    assert list(departures(wanted, (first, second), tf32=False)) == []
    wrong = replace(second, reads=("Float",))
    (error,) = departures(wanted, (first, wrong), tf32=False)
    assert str(error) == "conv1: asked for in Half, but layer conv1 [profile 1]_myl1_2 computes it in Float"


def test_what_could_not_be_read_back_is_said() -> None:
    wanted = {"conv1": "Half", "conv2": "Half", "fc": "Half"}
    layers = (Layer("a", "correlation", ("conv1",), ("Half",)), Layer("b", "correlation", ("fc",)))
    assert list(departures(wanted, layers, tf32=False)) == []
    assert unchecked(wanted, layers) == (
        "the types of 2 of 3 nodes could not be read back from the engine: conv2, fc"
    )
    assert unchecked({"conv1": "Half"}, layers) is None
    # Where none could be, nothing was checked.
    (error,) = departures(wanted, (Layer("c", "correlation", ("other",), ("Half",)),), tf32=False)
    assert "nothing can be checked" in error.message


def test_nodes_without_names_go_by_what_tensorrt_calls_them(tmp_path: Path) -> None:
    model = onnx.load(small(tmp_path, "int8").path)
    for node in model.graph.node:
        node.name = ""
    names = ("node_of_first.out", "node_of_second.out", "node_of_logits")
    assert wanted_types(model) == dict(zip(names, ("Int8", "Int8", "Float"), strict=True))


def quantized(*, axis: int = 0, zero: type = np.int8, transposed: bool = False) -> onnx.ModelProto:
    """A convolution of as many channels as it makes, so that a wrong axis has the right length."""
    tensors = {
        "w": np.ones((8, 8, 3, 3), zero),
        "s": np.full(8, 0.1, np.float32),
        "z": np.zeros(8, zero),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["d"], "w/DQ", axis=axis),
        helper.make_node("ConvTranspose" if transposed else "Conv", ["x", "d"], ["y"], "conv"),
    ]
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 8, 8])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    constants = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    return helper.make_model(helper.make_graph(nodes, "g", [value], [made], constants))


def test_what_tensorrt_would_compute_wrongly_is_refused(tmp_path: Path) -> None:
    assert list(misread(quantized())) == []
    assert list(misread(quantized(axis=1, transposed=True))) == []
    assert list(misread(onnx.load(small(tmp_path, "int8").path))) == []
    for model, message in (
        (quantized(axis=1), "conv: its weights are quantized along axis 1, TensorRT scales along axis 0"),
        (
            quantized(transposed=True),
            "conv: its weights are quantized along axis 0, TensorRT scales along axis 1",
        ),
        (
            quantized(zero=np.uint8),
            "w/DQ: quantized as uint8, which TensorRT reads as int8: quantize with --target trt",
        ),
    ):
        assert list(map(str, misread(model))) == [message]


# As TensorRT-RTX 1.7 writes them.
MESSAGES = {
    "IBuilder::buildSerializedNetwork: Error Code 4: Internal Error (kOPT values for profile 0 violate shape "
    "constraints: IShuffleLayer rs/Reshape: reshaping failed for tensor: c Reshape dimension of -1 has no solution. "
    "In executeReshape at /_src/runtime/core/shapeMachine.cpp:340 In evaluateShapeChecks at "
    "/_src/optimizer/common/shapeCompiler.cpp:1375)": (
        "rs/Reshape",
        "kOPT values for profile 0 violate shape constraints: IShuffleLayer rs/Reshape: reshaping failed for tensor: "
        "c Reshape dimension of -1 has no solution",
    ),
    "IBuilder::buildSerializedNetwork: Error Code 1: Myelin ([pass.cpp:337: check_turing_op_compatibility] Cannot "
    "compile operation 'fc/Gemm' for Turing (SM75): FP32 GEMM is not supported. In compileGraph at "
    "/_src/optimizer/myelin/codeGenerator.cpp:2012)": (
        "fc/Gemm",
        "Cannot compile operation 'fc/Gemm' for Turing (SM75): FP32 GEMM is not supported",
    ),
    "out of workspace": ("", "out of workspace"),
}


def test_messages_of_the_builder_name_the_node() -> None:
    names = ("Reshape", "rs/Reshape", "fc/Gemm", "c/Gemm", "s/Reshape")
    nodes = [helper.make_node("Relu", ["x"], ["y"], name) for name in names]
    assert build_errors(MESSAGES, nodes) == tuple(BuildError(*expected) for expected in MESSAGES.values())
    assert build_errors([], nodes) == (BuildError("", "TensorRT gives no reason"),)
    assert clean("  ") == "no reason given"


def wishes(artifact: Artifact, runtime: str = "trt", **settings: str) -> Wishes:
    return read_wishes(runtime, get_runtime(runtime).settings, artifact, Options(settings=settings))


def test_ranges_of_sizes(tmp_path: Path) -> None:
    asked = wishes(small(tmp_path), batch="2,1:4:16", sizes="height=6:8:12,width=7")
    assert asked.batches == (Range(2, 2, 2), Range(1, 4, 16))
    assert asked.sizes == {"height": Range(6, 8, 12), "width": Range(7, 7, 7)}
    (spec,) = small(tmp_path).inputs
    assert asked.shapes(spec, asked.batches[1]) == ([1, 3, 8, 8], [4, 3, 8, 8], [16, 3, 8, 8])


def test_sizes_that_the_file_states_need_not_be_given(tmp_path: Path) -> None:
    spec = TensorSpec("input", "float32", ("batch", 3, "height", "width"))
    silent = replace(small(tmp_path), inputs=(spec,))
    telling = replace(silent, metadata={"cnnport.native_sizes": '{"height": 8, "width": 10}'})
    batch = Range(1, 2, 4)
    assert wishes(telling).shapes(spec, batch) == ([1, 3, 8, 10], [2, 3, 8, 10], [4, 3, 8, 10])
    assert wishes(telling, sizes="width=6:8:12").shapes(spec, batch)[2] == [4, 3, 8, 12]
    with pytest.raises(
        CnnportError, match=r"height of input:.* is left open: give it as --set sizes=height="
    ):
        wishes(silent).shapes(spec, batch)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch": "1:4"}, "batch takes N or MIN:OPT:MAX"),
        ({"batch": "4:2:8"}, "batch wants 1 <= MIN <= OPT <= MAX"),
        ({"batch": "0"}, "batch wants 1 <= MIN"),
        ({"batch": "1::4:8"}, "batch takes N or"),
        ({"batch": "1:4:8x"}, "batch takes N or"),
        ({"sizes": "height"}, "sizes takes NAME=MIN:OPT:MAX"),
        ({"sizes": "height=8:4:2"}, "sizes wants 1 <= MIN"),
        ({"compute_capability": "sm_89"}, "compute_capability takes 8.9 or 8.6,12.0"),
        ({"hardware": "all"}, "hardware takes none, ampere_plus"),
    ],
)
def test_what_is_no_setting(tmp_path: Path, settings: dict[str, str], message: str) -> None:
    runtime = "trt-rtx" if "compute_capability" in settings else "trt"
    with pytest.raises(CnnportError, match=message):
        wishes(small(tmp_path), runtime, **settings)


def test_all_that_shapes_an_engine_is_in_its_key(tmp_path: Path) -> None:
    changes = (
        {},
        {"batch": "3"},
        {"sizes": "h=4"},
        {"workspace_mb": "64"},
        {"tf32": "1"},
        {"refit": "1"},
        {"optimization_level": "1"},
        {"version_compatible": "1"},
        {"hardware": "ampere_plus"},
    )
    keys = {wishes(small(tmp_path), **change).engine_key() for change in changes}
    assert len(keys) == len(changes)
    for same in ({"cuda_graph": "1"}, {"cache": "0"}):
        assert wishes(small(tmp_path), **same).engine_key() == wishes(small(tmp_path)).engine_key()
