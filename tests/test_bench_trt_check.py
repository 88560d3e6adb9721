"""The build check over the zoo: rows, reasons by node, going on, and what counts as a failure."""

import json
from importlib.util import find_spec
from pathlib import Path

import onnx
import pytest
from onnx import helper

from cnnport.bench import trt_check
from cnnport.errors import CnnportError
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
    assert capsys.readouterr().out.splitlines() == ["1 of 2 build for trt-rtx", reason]
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


def test_networks_of_imagenets_size_are_meant(tmp_path: Path) -> None:
    def tell(*_: object) -> None:
        """Nothing."""

    check = trt_check.TrtCheck(tmp_path, tmp_path, ["*"], tell, keep=False)
    assert len(check._chosen) > 120
    assert {"resnet50", "inception_v3"} <= {spec.name for spec in check._chosen}
    assert "lenet5" not in {spec.name for spec in check._chosen}
