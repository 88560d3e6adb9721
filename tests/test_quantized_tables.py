"""The benchmark of halves and 8 bits: what is counted, pairs, rows, going on, failures, and the page."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from cnnport.digits import load_digits
from cnnport.errors import ArtifactError, CheckFailedError, CnnportError
from cnnport.measuring.studies import quantized, quantized_accuracy, quantized_record, quantized_speed
from cnnport.measuring.studies.quantized_accuracy import HeldOutDigits, accuracy_of, make_file
from cnnport.measuring.studies.quantized_page import markdown
from cnnport.measuring.studies.quantized_speed import are_there, measure_candidates, quantize_static
from cnnport.onnxfile import read_artifact
from quantize_graphs import model_of

pytest.importorskip("onnxruntime")

TWO = """g (float[N, 8, 16, 16] x) => (float[N, 8, 16, 16] y) { a = Conv (x, aw)  b = Relu (a)  y = Conv (b, yw) }"""
WEIGHTS = {"aw": (16, 8, 1, 1), "yw": (8, 16, 1, 1)}


def two(slow: bool = False) -> onnx.ModelProto:
    chain = "  ".join(f"s{number + 1} = Sin (s{number})" for number in range(30))
    text = TWO.replace("y = Conv (b", f"s0 = Identity (b)  {chain}  y = Conv (s30") if slow else TWO
    model = model_of(text, WEIGHTS)
    for node in model.graph.node:
        node.name = f"{node.output[0]}/{node.op_type}"
    return model


def nothing(*_: object) -> None:
    """Tell nobody."""


# Accuracy.


@pytest.fixture
def lenet(exported: Callable[[str], Any]) -> Path:
    return exported("lenet5").path


def broken(path: Path, target: Path) -> None:
    """The same with the scores of two digits exchanged."""
    model = onnx.load(path)
    last = model.graph.node[-1]
    for tensor in model.graph.initializer:
        if tensor.name in last.input[1:]:
            array = numpy_helper.to_array(tensor).copy()
            array[[3, 7]] = array[[7, 3]]
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(model, target)


def test_held_out_digits_are_prepared_as_the_file_says(lenet: Path, tmp_path: Path) -> None:
    samples = HeldOutDigits(read_artifact(lenet))
    digits = load_digits()
    assert len(samples) == 500
    assert [samples.label(place) for place in range(500)] == digits.test_labels.tolist()
    (image,) = samples.load(7).values()
    assert image.shape == (1, 1, 32, 32)
    assert image.dtype == np.float32
    path = tmp_path / "other.onnx"
    onnx.save(two(), path)
    with pytest.raises(ArtifactError, match="does not say how digits are prepared"):
        HeldOutDigits(read_artifact(path))


def test_what_a_file_loses_is_counted(lenet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(name: str, target: str, precision: str, path: Path, *_: str) -> list[str]:
        if (target, precision) == ("trt", "fp16"):
            raise CheckFailedError("halves are\nnot enough")
        if (target, precision) == ("ort", "int8"):
            broken(lenet, path)
            return ["minmax", "bias"]
        shutil.copy(lenet, path)
        return []

    monkeypatch.setattr(quantized_accuracy, "make_file", make)
    monkeypatch.setattr(quantized_accuracy, "TARGETS", ("ort", "trt"))
    found = accuracy_of("lenet5", tmp_path, nothing)
    assert found["ort"]["fp32"]["top1"] == found["ort"]["fp32"]["top1_float"] > 98
    # It is held against itself.
    assert found["ort"]["fp32"]["sqnr_db"] is None
    assert found["trt"]["fp32"]["sqnr_db"] > 100
    worse = found["ort"]["int8"]
    # Two digits of ten are taken for each other.
    assert worse["top1"] == pytest.approx(worse["top1_float"] - 20, abs=1.5)
    assert worse["agreement"] == pytest.approx(80, abs=1.5)
    assert (worse["steps"], worse["samples"]) == (["minmax", "bias"], 500)
    assert "not enough" in found["trt"]["fp16"]["problem"]
    assert found["trt"]["runtime"] == "ort-cpu, nothing fused"


def test_without_its_float_file_a_network_has_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> list[str]:
        raise CnnportError("no such network")

    monkeypatch.setattr(quantized_accuracy, "make_file", fails)
    with pytest.raises(CnnportError, match="no such network"):
        accuracy_of("lenet5", tmp_path, nothing)


def test_files_are_made_by_the_product(tmp_path: Path) -> None:
    paths = {each: tmp_path / f"lenet5.ort.{each}.onnx" for each in ("fp32", "fp16", "int8")}
    steps = {
        each: make_file("lenet5", "ort", each, path, "auto", "digits:24") for each, path in paths.items()
    }
    precisions = {each: read_artifact(path).precision for each, path in paths.items()}
    assert precisions == {each: each for each in paths}
    assert {read_artifact(path).target for path in paths.values()} == {"ort"}
    assert steps["fp32"] == steps["fp16"] == []
    assert steps["int8"]


# Speed.


def test_the_other_quantizer_gets_the_same_file_and_samples(tmp_path: Path) -> None:
    source, path = tmp_path / "x.ort.fp32.onnx", tmp_path / "x.static.onnx"
    onnx.save(two(), source)
    quantize_static(source, path)
    model = onnx.load(path)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    types = {"QuantizeLinear": set(), "DequantizeLinear": set()}
    for node in model.graph.node:
        if node.op_type in types:
            types[node.op_type].add(tensors[node.input[2]].data_type)
    assert types["QuantizeLinear"] == {onnx.TensorProto.UINT8}
    assert onnx.TensorProto.INT8 in types["DequantizeLinear"]
    sizes = {len(numpy_helper.to_array(each)) for each in tensors.values() if list(each.dims) in ([16], [8])}
    assert sizes == {8, 16}
    source.write_bytes(b"no model")
    with pytest.raises(CnnportError):
        quantize_static(source, path)


def test_candidates_are_measured_in_turn_and_the_slow_one_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, model in (("ort.fp32", two()), ("ort.int8", two(slow=True)), ("static", two())):
        onnx.save(model, tmp_path / f"x.{name}.onnx")
    made = {each: {"problem": None, "bytes": 1} for each in ("fp32", "int8", "ort_static")}
    made |= {each: {"problem": "not here"} for each in ("openvino_fp32", "openvino_int8")}
    assert are_there("x", tmp_path, made)
    monkeypatch.setattr(quantized_speed, "THREADS", (1,))
    measured = measure_candidates("x", tmp_path, made, 1, 0.02, nothing)
    (case,) = measured["cases"]
    assert set(case["p50_ms"]) == {"fp32", "int8", "ort_static"}
    assert set(case["ratios"]) == {"int8 over fp32", "ort_static over fp32", "int8 over ort_static"}
    assert case["ratios"]["int8 over fp32"]["high"] < 1
    assert set(case["slower"]) == {"int8"}
    assert "b/Relu" in case["slower"]["int8"][0]
    assert len(case["turns_p50_ms"]["int8"]) == 4
    (tmp_path / "x.static.onnx").unlink()
    assert not are_there("x", tmp_path, made)


# Rows.


def judged(top1: float, sqnr_db: float | None = 40.0, steps: tuple[str, ...] = ()) -> dict[str, Any]:
    facts = {"sqnr_db": sqnr_db, "agreement": 99.5, "top1_float": 99.0, "top1": top1, "samples": 500}
    return {"problem": None, "bytes": 1, "steps": list(steps), **facts}


TARGETS = {
    "ort": {
        "runtime": "ort-cpu",
        "fp32": judged(99.0, None),
        "fp16": judged(99.0, 70.0),
        "int8": judged(98.2, 31.26, ("mse", "bias")),
    },
    "trt": {
        "runtime": "ort-cpu, nothing fused",
        "fp32": judged(99.0, None),
        "fp16": {"problem": "halves\nfail"},
        "int8": judged(98.5, 30.0, ("minmax",)),
    },
    "openvino": {"skipped": "openvino does not import"},
}
MADE = {
    "fp32": {"problem": None, "bytes": 1},
    "int8": {"problem": None, "bytes": 1},
    "ort_static": {"problem": None, "bytes": 1},
    "openvino_fp32": {"problem": "not\nhere"},
    "openvino_int8": {"problem": "not\nhere"},
}


def measured_with(int8_over_fp32: float, int8_over_static: float) -> dict[str, Any]:
    def around(value: float) -> dict[str, float]:
        return {"low": value - 0.1, "median": value, "high": value + 0.1}

    pairs = {"int8 over fp32": int8_over_fp32, "int8 over ort_static": int8_over_static}
    case = {
        "p50_ms": {"fp32": 4.0, "int8": 2.0, "ort_static": 3.0},
        "ratios": {pair: around(value) for pair, value in pairs.items()},
        "slower": {"int8": ["a/Conv: 2.000 ms, in float 1.000 ms"]} if int8_over_fp32 <= 1 else {},
    }
    facts = {"date_utc": "2026-01-02T03:04:05+00:00", "cpu_model": "a CPU", "rounds": 7, "batch": 1}
    return facts | {"cases": [{"threads": threads, **case} for threads in (1, 2)]}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The command with work that takes no time, which notes what it is asked for in ``run.done``."""
    done: list[str] = []

    def accuracy(name: str, *_: object) -> Any:
        done.append(f"accuracy {name}")
        if name == "digits_resnet":
            raise CnnportError("does\nnot run")
        return TARGETS

    def make(name: str, files: Path, _: object) -> Any:
        done.append(f"make {name}")
        for each in ("ort.fp32", "ort.int8", "static"):
            files.mkdir(exist_ok=True)
            (files / f"{name}.{each}.onnx").touch()
        return MADE

    def measure(name: str, *_: object) -> Any:
        done.append(f"measure {name}")
        return measured_with(2.0 if name == "resnet50" else 0.9, 1.0 if name == "resnet50" else 0.8)

    for function, name in (
        (accuracy, "accuracy_of"),
        (make, "make_candidates"),
        (measure, "measure_candidates"),
    ):
        monkeypatch.setattr(quantized_record, name, function)
    folder = [str(tmp_path / "docs")]
    places = ["--record", str(tmp_path / "results" / "q.json"), "--files", str(tmp_path / "files")]

    def call(*arguments: str) -> int:
        done.clear()
        return quantized.main([*folder, *arguments, *places])

    call.done = done  # type: ignore[attr-defined]
    return call


def test_rows_are_kept_and_go_on(run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["lenet5", "digits_resnet", "resnet50"]
    assert run(*names, "--no-measure") == 1
    assert run.done == ["accuracy lenet5", "accuracy digits_resnet", "make resnet50"]
    assert capsys.readouterr().out.splitlines() == ["2 of 3 made", "digits_resnet: does not run"]
    # What failed is tried again, what is made is measured, the rest is done.
    assert run(*names) == 1
    assert run.done == ["accuracy digits_resnet", "measure resnet50"]
    assert run("lenet5", "resnet50") == 0
    assert run.done == []
    document = json.loads((tmp_path / "results" / "q.json").read_text())
    assert [row["name"] for row in document["networks"]] == ["lenet5", "digits_resnet", "resnet50"]
    assert document["environment"]["packages"]
    assert "| resnet50 | 2 |" in (tmp_path / "docs" / "quantization_results.md").read_text()
    assert run("resnet50", "--again") == 0
    assert run.done == ["make resnet50", "measure resnet50"]


def test_a_file_that_is_gone_is_made_again(run: Any, tmp_path: Path) -> None:
    run("resnet50", "--no-measure")
    (tmp_path / "files" / "resnet50.static.onnx").unlink()
    assert run("resnet50") == 0
    assert run.done == ["make resnet50", "measure resnet50"]


def test_halves_and_names_choose(run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("--speed", "*net50", "--no-measure")
    assert run.done == ["make resnet50", "make se_resnet50"]
    run("--accuracy", "*resnet")
    assert run.done == ["accuracy digits_resnet", "accuracy digits_se_resnet"]
    assert run("--accuracy", "resnet50") == CnnportError.exit_code
    assert "no network of this benchmark matches resnet50" in capsys.readouterr().err
    (tmp_path / "results" / "q.json").write_text("[]")
    assert run("lenet5") != 0
    assert "is not a record of this command" in capsys.readouterr().err


def test_rows_of_other_versions_are_made_anew(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run("lenet5")
    monkeypatch.setattr(quantized_record, "__version__", "99")
    run("lenet5")
    assert run.done == ["accuracy lenet5"]


def test_the_chosen_networks_are_there() -> None:
    for half, names in quantized_record.HALVES.items():
        for name in names:
            assert quantized_record._empty(name, half)["params"] > 0


def test_the_page_says_what_is_lost_and_what_is_not_faster(run: Any, tmp_path: Path) -> None:
    run("lenet5", "digits_resnet", "resnet50", "densenet121")
    page = (tmp_path / "docs" / "quantization_results.md").read_text()
    for text in (
        "| lenet5 | ort | 99.0 | 99.0 | 98.2 | 99.5 | 99.5 | 70.0 | 31.3 | mse, bias |",
        "| lenet5 | trt | 99.0 | failed | 98.5 | failed | 99.5 | failed | 30.0 | minmax |",
        "More than 0.5 points lost:\n\n- lenet5, ort, int8: 0.8 points\n\n",
        "| resnet50 | 1 | 4.000 | 2.000 | 3.000 | failed | failed |",
        "| densenet121 | 2 | 0.90 (0.80 to 1.00) |",
        # Of 2 and 0.9.
        "| geometric mean | 1 | 1.342 |",
        "- densenet121, int8, 2 threads: 0.90 (0.80 to 1.00)\n  - a/Conv: 2.000 ms, in float 1.000 ms\n",
        "quantizer makes:\n\n- densenet121, 1 thread: 0.80 (0.70 to 0.90)\n",
        "- digits_resnet: does not run\n",
        "- lenet5, trt, fp16: halves fail\n",
        "- lenet5, openvino: openvino does not import\n",
        "- resnet50, float32, OpenVINO: not here\n",
    ):
        assert text in page
    assert "- resnet50, int8, 1 thread" not in page
    assert all(len(line) < 300 for line in page.splitlines())


def test_a_page_of_half_a_record_has_half_the_tables() -> None:
    row = quantized_record._empty("lenet5", "accuracy")
    assert "##" not in markdown([row])
    kept = TARGETS | {"ort": TARGETS["ort"] | {"int8": judged(98.6)}}
    page = markdown([row | {"measured": {"date_utc": "2026-01-02", "targets": kept}}])
    assert "## Accuracy" in page
    assert "## Speed" not in page
    assert "More than 0.5 points lost:\n\n- none.\n" in page
    assert "The most: lenet5, trt, int8: 0.5 points." in page
