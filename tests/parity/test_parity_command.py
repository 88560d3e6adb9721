"""``cnnport parity``: its contract of exit codes and JSON."""

import json
from collections.abc import Callable

import pytest

from parity_files import changed, write

Run = Callable[..., tuple[int, str, str]]

FEW = ("--samples", "4", "--no-extremes", "--no-checks")


def test_the_document_and_the_exit_codes(cli: Run, tmp_path) -> None:
    write(tmp_path / "a.onnx")
    write(tmp_path / "b.onnx", held=changed(lambda each: each["u"].__imul__(1.5)))
    code, out, _ = cli("parity", "a.onnx", "--runtime", "ort-cpu,openvino", *FEW, "--json")
    document = json.loads(out)
    assert (code, document["pass"]) == (0, True)
    (row,) = document["rows"]
    wanted = {"reference", "candidate", "max_abs", "max_rel", "cosine", "top1_agreement", "pass"}
    assert wanted <= set(row)
    assert (row["reference"], row["candidate"], row["pass"]) == ("ort-cpu fp32", "openvino fp32", True)
    assert row["top1_agreement"] == 1.0
    code, out, _ = cli("parity", "a.onnx", "b.onnx", "--runtime", "ort-cpu", *FEW, "--json")
    document = json.loads(out)
    assert (code, document["pass"], document["rows"][0]["pass"]) == (1, False, False)
    assert document["rows"][0]["sets"][0]["outputs"]["logits"]["worst"]["output"] == "logits"
    code, out, _ = cli("parity", "a.onnx", "b.onnx", "--runtime", "ort-cpu", *FEW)
    assert code == 1
    assert "b.onnx ort-cpu fp32: seed " in out
    assert "1 of 1 FAILED" in out


def test_what_is_asked_for_has_to_be_there(cli: Run, tmp_path) -> None:
    write(tmp_path / "a.onnx")
    code, _, err = cli("parity", "a.onnx", "--runtime", "ort-cuda", *FEW)
    assert code == 3
    assert "ort-cuda is not available" in err
    assert cli("parity", "a.onnx", "--runtime", "torch-cpu", *FEW)[0] == 2
    assert cli("parity", "none.onnx", *FEW)[0] == 2
    assert cli("parity", "a.onnx", "--atol", "-1", "--runtime", "ort-cpu", *FEW)[0] == 2
    assert cli("parity", "a.onnx", "--save", "x", "--against", "y")[0] == 2


def test_kept_and_compared(cli: Run, tmp_path) -> None:
    write(tmp_path / "a.onnx")
    write(tmp_path / "b.onnx", held=changed(lambda each: each["u"].__imul__(1.5)))
    code, out, err = cli("parity", "a.onnx", "--runtime", "ort-cpu", *FEW, "--save", "goldens")
    assert code == 0, out
    assert "saved goldens" in err
    assert cli("parity", "a.onnx", "--runtime", "openvino", "--against", "goldens", "--no-checks")[0] == 0
    assert cli("parity", "b.onnx", "--runtime", "openvino", "--against", "goldens", "--no-checks")[0] == 1
    manifest = tmp_path / "goldens" / "manifest.json"
    manifest.write_text(manifest.read_text().replace("samples", "sampler"))
    code, _, err = cli("parity", "a.onnx", "--runtime", "ort-cpu", "--against", "goldens")
    assert code == 1
    assert "its checksum is another" in err


@pytest.mark.parametrize("option", [("--precision", "fp7"), ("--data", "nowhere"), ("--samples", "0")])
def test_wrong_wishes(cli: Run, tmp_path, option) -> None:
    write(tmp_path / "a.onnx")
    assert cli("parity", "a.onnx", "--runtime", "ort-cpu", *option, "--no-checks")[0] == 2
