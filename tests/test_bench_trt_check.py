"""The build check over the zoo: rows, reasons by node, going on, and what counts as a failure."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from cnnport.errors import CnnportError
from cnnport.measuring.studies import trt_check
from cnnport.measuring.studies.graphs_record import REPRESENTATIVES
from cnnport.measuring.studies.trt_precisions import PRECISIONS, CheckedFiles, precision_facts
from trt_files import small

pytestmark = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of two networks whose files wait: one that builds, and one that no TensorRT knows."""
    monkeypatch.setattr(trt_check, "SMALLEST_PIXELS", 0)
    files = tmp_path / "files"
    files.mkdir()
    small(files, name="lenet5")
    model = onnx.load(small(files, name="lenet_300_100").path)
    model.graph.node[1].CopyFrom(
        helper.make_node("Frob", ["first.out"], ["act.out"], "act/Frob", domain="own")
    )
    model.opset_import.append(helper.make_opsetid("own", 1))
    onnx.save(model, files / "lenet_300_100.onnx")
    return [str(tmp_path / "out"), "lenet5", "lenet_300_100", "--files", str(files)]


def test_rows_and_reasons(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trt_check.main(arguments) == 1
    reason = "lenet_300_100: not parsed: act/Frob: operator Frob is unknown to TensorRT"
    assert capsys.readouterr().out.splitlines() == ["1 of 2 build for trt-rtx in fp32", reason]
    out = Path(arguments[0])
    document = json.loads((out / "trt_check.json").read_text())
    rows = {row["name"]: row for row in document["networks"]}
    assert (rows["lenet5"]["ok"], rows["lenet_300_100"]["ok"]) == (True, False)
    assert rows["lenet5"]["layers"] == sum(rows["lenet5"]["kinds"].values()) > 2
    assert rows["lenet5"]["versions"]["tensorrt-rtx-cu13"][0].isdecimal()
    page = (out / "trt_check.md").read_text()
    assert "| lenet5 | 61,706 | yes | yes |" in page
    assert f"- {reason}" in page
    # One in two is too few; one in one is enough.
    assert trt_check.main([arguments[0], "lenet5", *arguments[3:]]) == 0

    def again(*_: object, **__: object) -> str:
        raise AssertionError("what has a row was checked again")

    monkeypatch.setattr(trt_check, "cnnport_command", again)
    assert trt_check.main(arguments) == 1
    assert Path(arguments[-1], "lenet5.onnx").exists()


def test_what_could_not_be_checked_is_no_verdict(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = trt_check.cnnport_command

    def fails(*_: object, **__: object) -> str:
        raise CnnportError("no room\nleft")

    monkeypatch.setattr(trt_check, "cnnport_command", fails)
    only = [arguments[0], "lenet5", *arguments[3:]]
    assert trt_check.main(only) == 1
    assert "lenet5: not checked: no room left" in capsys.readouterr().out
    # It is tried again.
    monkeypatch.setattr(trt_check, "cnnport_command", real)
    assert trt_check.main(only) == 0


def test_precisions_are_made_of_one_file_and_computed_as_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, files = tmp_path / "out", tmp_path / "files"
    files.mkdir()
    small(files, name="lenet5.trt.fp32")
    arguments = [str(out), "lenet5", "lenet_300_100", "--files", str(files)]
    assert trt_check.main([*arguments, "--precision", "int8", "--precision", "fp16"]) == 0
    # The other network is no representative.
    expected = [f"1 of 1 build for trt-rtx in {precision}" for precision in ("fp16", "int8")]
    assert capsys.readouterr().out.splitlines() == expected
    half, int8 = json.loads((out / "trt_check.json").read_text())["networks"]
    assert (half["precision"], int8["precision"]) == ("fp16", "int8")
    for row in (half, int8):
        assert (row["products"], row["asked"], row["computed"], row["nameless"]) == (3, 3, 3, 0)
        assert row["faults"] == []
        assert row["layers_in"] >= 3
    page = (out / "trt_check.md").read_text()
    assert "## fp32" not in page
    assert "| lenet5 | 3 | 3 | 3 | 0 | yes |" in page
    assert f"| lenet5 | 3 | 3 | 3 | 0 | {int8['layers_in']} | 0 | yes |" in page
    # What it made is gone, what waited is not; rows of another precision stay beside new ones.
    assert [path.name for path in files.iterdir()] == ["lenet5.trt.fp32.onnx"]
    small(files, name="lenet5")
    monkeypatch.setattr(trt_check, "SMALLEST_PIXELS", 0)
    assert trt_check.main([arguments[0], "lenet5", *arguments[3:]]) == 0
    rows = json.loads((out / "trt_check.json").read_text())["networks"]
    assert [row["precision"] for row in rows] == ["fp32", "fp16", "int8"]


def test_files_that_are_not_what_they_are_called_are_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = tmp_path / "files"
    files.mkdir()
    small(files, name="lenet5.trt.fp16")
    small(files, "int8", name="lenet5.trt.int8")
    model = onnx.load(files / "lenet5.trt.int8.onnx")
    zero = next(each for each in model.graph.initializer if each.name == "second.in.zero")
    zero.CopyFrom(numpy_helper.from_array(np.zeros((), np.uint8), zero.name))
    onnx.save(model, files / "lenet5.trt.int8.onnx")
    arguments = [str(tmp_path / "out"), "lenet5", "--files", str(files)]
    assert trt_check.main([*arguments, "--precision", "fp16", "--precision", "int8"]) == 1
    half, floats, int8, misread = capsys.readouterr().out.splitlines()
    assert half == "0 of 1 build for trt-rtx in fp16"
    assert floats == "lenet5: built, but the file is wrong: none of its 3 products is in fp16"
    assert int8 == "0 of 1 build for trt-rtx in int8"
    assert "QuantizeLinear second.in/Q: uint8 is read as int8" in misread


def test_generated_arithmetic_is_no_product(tmp_path: Path) -> None:
    path = small(tmp_path, "int8").path

    def kernel(kind: str, node: str, reads: str) -> dict[str, object]:
        return {"kind": kind, "nodes": [node] if node else [], "reads": [reads]}

    kernels = [
        kernel("correlation", "first/Conv", "Int8"),
        kernel("correlation", "second/Conv", "Float"),
        kernel("kgen", "second/Conv", "Int8"),
        kernel("gemm", "", "Int8"),
    ]
    found = precision_facts(path, "int8", kernels)
    counts = {"products": 3, "asked": 2, "computed": 1, "layers_in": 2, "nameless": 1}
    assert found == counts | {"faults": []}


def test_networks_of_imagenets_size_are_meant_and_the_representatives_in_less(tmp_path: Path) -> None:
    def tell(*_: object) -> None:
        """Nothing."""

    files = CheckedFiles(tmp_path, keep=False)
    check = trt_check.TrtCheck(tmp_path, files, ["*"], ["fp32", "fp16", "int8"], tell)
    floats, half, int8 = (
        {spec.name for spec, each in check._chosen if each == precision} for precision in PRECISIONS
    )
    assert len(floats) > 120
    assert {"resnet50", "inception_v3"} <= floats
    assert "lenet5" not in floats
    assert half == int8 == set(REPRESENTATIVES)
