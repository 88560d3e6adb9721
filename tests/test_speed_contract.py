"""Whether int8 is faster, and where its time goes: traces, layers, conversions, and a file slower on purpose."""

import json
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import onnx
import pytest

from cnnport.errors import CnnportError
from cnnport.measuring import speed_contract
from cnnport.measuring.paired import Ratio
from cnnport.measuring.profiling.kernels import Kernel
from cnnport.measuring.profiling.layer_times import Conversion, LayerTime, LayerTimes, layer_times
from cnnport.measuring.speed_contract import Speed, compare_layers, speed
from quantize_graphs import model_of, quantized

FLOAT = """g (float[N, 8, 32, 32] x) => (float[N, 8, 32, 32] y) {
    a = Conv (x, aw)  b = Relu (a)  c = Conv (b, cw)  d = Add (c, b)  e = Sigmoid (d)  y = Conv (e, yw)
}"""
WEIGHTS = {"aw": (8, 8, 1, 1), "cw": (8, 8, 1, 1), "yw": (8, 8, 1, 1)}


def named(model: onnx.ModelProto) -> onnx.ModelProto:
    for node in model.graph.node:
        node.name = f"{node.output[0]}/{node.op_type}"
    return model


@pytest.fixture(scope="module")
def original() -> onnx.ModelProto:
    return named(model_of(FLOAT, WEIGHTS))


def slower(model: onnx.ModelProto, after: str, count: int = 30) -> onnx.ModelProto:
    """The same with a row of costly nodes behind a value."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    place = next(index for index, node in enumerate(made.graph.node) if after in node.output) + 1
    for node in made.graph.node[place:]:
        for index, name in enumerate(node.input):
            if name == after:
                node.input[index] = f"extra{count - 1}"
    chain = [after, *(f"extra{number}" for number in range(count))]
    for offset, (first, other) in enumerate(pairwise(chain)):
        made.graph.node.insert(
            place + offset, onnx.helper.make_node("Sin", [first], [other], f"node{offset}")
        )
    return made


def saved(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, path)
    return path


# Kernels and layers.


def attributed(original: onnx.ModelProto, int8: onnx.ModelProto, kernels: list[Kernel]) -> LayerTimes:
    # As ONNX Runtime does: the convolution with what is behind it, by its value or its own name.
    floats = [
        Kernel(("b_nchwc",), "Conv", 1.0, "fp32"),
        Kernel(("c_ch_nchwc",), "Conv", 2.0, "fp32"),
        Kernel(("ReorderOutput_token_9",), "ReorderOutput", 0.5, "fp32"),
        Kernel(("e/Sigmoid",), "Sigmoid", 0.25, "fp32"),
        Kernel(("y_nchwc",), "Conv", 4.0, "fp32"),
    ]
    original = onnx.ModelProto.FromString(original.SerializeToString())
    for each in original.graph.node:
        each.output[:] = ["c_ch" if name == "c" else name for name in each.output]
        each.input[:] = ["c_ch" if name == "c" else name for name in each.input]
    return layer_times(original, floats, int8, kernels)


def test_layers_hold_every_kernel_of_either_file(original: onnx.ModelProto) -> None:
    int8, _ = quantized(original, "ort", keep=["y/Conv"])
    found = attributed(
        original,
        int8,
        [
            Kernel(("x_quantized",), "QuantizeLinear", 0.1, "fp32"),
            Kernel(("Transpose",), "Transpose", 0.01, "int8"),
            Kernel(("a/Conv_token_4",), "QLinearConv", 0.5, "int8"),
            Kernel(("c/Conv_token_5",), "QLinearConv", 1.0, "int8"),
            Kernel(("b_dequantized/duplicated",), "DequantizeLinear", 0.15, "int8"),
            Kernel(("c_dequantized",), "DequantizeLinear", 0.04, "int8"),
            Kernel(("y/Conv_bias_dq",), "DequantizeLinear", 0.01, "int8"),
            Kernel(("d/Add",), "Add", 1.5, "fp32"),
            Kernel(("e/Sigmoid",), "Sigmoid", 0.25, "fp32"),
            Kernel(("y_nchwc",), "Conv", 4.5, "fp32"),
        ],
    )
    assert [(layer.nodes, layer.float_ms, layer.int8_ms) for layer in found.layers] == [
        (("a/Conv", "b/Relu"), 1.0, 0.5),
        (("c/Conv", "d/Add"), 2.0, 2.5),
        (("e/Sigmoid",), 0.25, 0.25),
        (("y/Conv",), 4.0, 4.5),
    ]
    assert {layer.nodes[0] for layer in found.slower} == {"c/Conv", "y/Conv"}
    assert [
        (each.operator, each.count, each.float_ms, each.int8_ms, each.around) for each in found.conversions
    ] == [
        ("DequantizeLinear", 3, 0.0, pytest.approx(0.2), ("d/Add", "y/Conv")),
        ("QuantizeLinear", 1, 0.0, 0.1, ("x",)),
        ("Transpose", 1, 0.0, 0.01, ()),
        ("ReorderOutput", 0, 0.5, 0.0, ()),
    ]


def test_what_rewrites_add_belongs_where_it_stands(original: onnx.ModelProto) -> None:
    int8 = slower(original, "b", count=2)
    int8.graph.node[0].name = "a/Conv_part_2"
    int8.graph.node[0].output[0] = int8.graph.node[1].input[0] = "a_part_2"
    found = attributed(
        original,
        int8,
        [
            Kernel(("a/Conv_part_2",), "Conv", 1.0, "fp32"),
            Kernel(("node0",), "Sin", 3.0, "fp32"),
            Kernel(("node1",), "Sin", 5.0, "fp32"),
            Kernel(("made_up",), "Loop", 0.5, "fp32"),
        ],
    )
    (first,) = found.slower
    assert (first.nodes, first.int8_ms) == (("a/Conv", "b/Relu"), 9.0)
    # Whatever bears no name of the file is counted too.
    assert next((each.operator, each.int8_ms) for each in found.conversions) == ("Loop", 0.5)


def test_a_transpose_of_the_file_is_a_layer() -> None:
    text = "g (float[1, 8, 4, 4] x) => (float[1, 4, 4, 8] y) { y = Transpose <perm = [0, 2, 3, 1]> (x) }"
    model = model_of(text, {})
    model.graph.node[0].name = "Transpose"
    own, added = (Kernel((name,), "Transpose", 1.0, "fp32") for name in ("Transpose", "Transpose_token_3"))
    found = layer_times(model, [own], model, [own, added])
    assert [(layer.float_ms, layer.int8_ms) for layer in found.layers] == [(1.0, 1.0)]
    assert [each.operator for each in found.conversions] == ["Transpose"]


# Files.


def test_a_slower_file_breaks_the_contract_and_is_told_why(original: onnx.ModelProto, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    first = saved(original, tmp_path / "float.onnx")
    other = saved(slower(original, "c"), tmp_path / "int8.onnx")
    found = speed(first, other, threads=1, rounds=1, duration_s=0.05)
    assert found.ratio.high < 1
    assert not found.is_faster
    assert found.slower[0].nodes[0] == "c/Conv"
    assert found.slower[0].extra_ms > 0
    text = str(found).splitlines()
    assert text[0].startswith("int8 is not faster: 0.")
    assert text[2].startswith("  c/Conv")
    row = json.loads(json.dumps(found.to_json()))
    assert row["slower"][0]["nodes"][0] == "c/Conv"
    assert row["ratio"]["median"] < 1
    # The other way round there is nothing to tell, and nothing is profiled.
    other_way = speed(other, first, threads=1, rounds=1, duration_s=0.05)
    assert other_way.is_kept
    assert other_way.slower == other_way.conversions == ()
    assert "\n" not in str(other_way)


def test_quantizers_around_floats_are_conversions(original: onnx.ModelProto, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    int8, _ = quantized(original, "ort")
    first, other = saved(original, tmp_path / "float.onnx"), saved(int8, tmp_path / "int8.onnx")
    # No names to go by, as in files of others.
    for path in (first, other):
        model = onnx.load(path)
        for each in model.graph.node:
            each.name = ""
        onnx.save(model, path)
    found = compare_layers(first, other, runtime="ort-cpu", batch=1, threads=1)
    assert {layer.nodes[0] for layer in found.layers} >= {"a", "y"}
    assert all(layer.float_ms > 0 and layer.int8_ms > 0 for layer in found.layers)
    around = {name for each in found.conversions for name in each.around}
    assert "x" in around
    quantizers = {each.operator: each.count for each in found.conversions}
    assert quantizers["QuantizeLinear"] >= 1


@pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")
def test_openvino_tells_of_its_layers_too(original: onnx.ModelProto, tmp_path: Path) -> None:
    first = saved(original, tmp_path / "float.onnx")
    other = saved(slower(original, "c"), tmp_path / "int8.onnx")
    found = speed(first, other, runtime="openvino", threads=1, rounds=1, duration_s=0.05)
    assert found.runtime == "openvino"
    assert found.ratio.high < 1
    assert "c/Conv" in found.slower[0].nodes


def test_a_wish_is_held_against_the_ratio(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = saved(named(model_of(FLOAT, WEIGHTS)), tmp_path / "float.onnx")
    asked: list[str] = []
    monkeypatch.setattr(speed_contract, "measure_in_turn", lambda *_, **__: ((0.004, 0.003), (0.002, 0.0015)))
    monkeypatch.setattr(
        speed_contract, "compare_layers", lambda *_, **__: asked.append("layers") or LayerTimes((), ())
    )
    kept, broken = (speed(path, path, threads=1, wanted=wanted) for wanted in (2.0, 2.1))
    assert (kept.is_kept, broken.is_kept, broken.is_faster) == (True, False, True)
    assert asked == ["layers"]
    assert (kept.original_ms, kept.quantized_ms) == (3.5, 1.75)
    assert str(kept) == (
        "2.000 (2.000 to 2.000) times as fast as float32 on ort-cpu, 1.750 ms against 3.500 ms "
        "(batch 1, 1 thread, 5 rounds)"
    )


def test_who_does_not_tell_of_kernels_is_named(tmp_path: Path) -> None:
    path = saved(named(model_of(FLOAT, WEIGHTS)), tmp_path / "float.onnx")
    with pytest.raises(
        CnnportError, match="null does not say how long its kernels take: ort-cpu, ort-cuda, openvino"
    ):
        compare_layers(path, path, runtime="null", batch=1, threads=1)


def test_long_lists_are_cut_where_people_read_them() -> None:
    names = tuple("abcdefg")
    layer, conversion = LayerTime(names, 1.0, 2.0), Conversion("Cast", 3, 0.0, 0.5, names)
    told = Speed(Ratio(0.4, 0.5, 0.6), 1.0, 2.0, "ort-cpu", 2, 1, 5, 1.0, (layer,) * 10, (conversion,))
    lines = str(told).splitlines()
    assert lines[0].endswith("(batch 1, 2 threads, 5 rounds)")
    assert lines[2] == "  a + b + c + d + 3 more: 2.000 ms, in float 1.000 ms"
    assert lines[-3:] == [
        "  and 2 more",
        "conversions, and what bears no name of the file, take 0.500 ms of a run:",
        "  3 Cast: 0.500 ms, in float 0.000 ms, around a, b, c, d and 3 more",
    ]
    assert told.to_json()["conversions"][0]["around"] == list(names)
    assert len(told.to_json()["slower"]) == 10


def test_equal_files_differ_by_noise_only() -> None:
    same = Speed(Ratio(0.98, 1.0, 1.02), 1.0, 1.0, "ort-cpu", 1, 1, 5)
    assert not same.is_faster
    assert not same.is_kept
