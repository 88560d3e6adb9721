"""``cnnport evaluate``: what it prints, saves and refuses."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from cnnport.artifact import Artifact
from evaluation_files import write_digits


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNPORT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def lenet5(exported) -> Artifact:
    return exported("lenet5")


def test_json_has_the_fields_of_the_contract(cli, lenet5: Artifact) -> None:
    code, out, err = cli("evaluate", lenet5.path, "--data", "digits", "--runtime", "ort-cpu", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert {"model", "runtime", "top1", "top5", "count", "skipped"} <= set(found)
    assert (found["model"], found["runtime"], found["count"], found["skipped"]) == (
        "lenet5",
        "ort-cpu",
        500,
        0,
    )
    assert 0.98 < found["top1"] <= found["top5"] <= 1
    (row,) = found["evaluations"]
    assert row["top1_interval"][0] < row["top1"] < row["top1_interval"][1]
    assert sum(each["count"] for each in row["classes"]) == 500
    assert sum(times for _, _, times in row["confusion"]) == round(500 * (1 - row["top1"]))
    assert row["protocol"]["averaged"] == "1 crop (whole picture)"
    assert row["sha256"] == lenet5.sha256


def test_a_table_of_several_runtimes_and_a_file_with_everything(
    cli, lenet5: Artifact, tmp_path: Path
) -> None:
    folder = write_digits(tmp_path / "digits", 4)
    (folder / "7" / "broken.png").write_bytes(b"nothing")
    arguments = (
        "evaluate",
        lenet5.path,
        "--data",
        folder,
        "--runtime",
        "ort-cpu,openvino",
        "-o",
        "found.json",
    )
    code, out, err = cli(*arguments)
    assert code == 0, err
    assert "ort-cpu" in out
    assert "openvino" in out
    assert "41 pictures of 10 classes, matched by number" in out
    assert "unreadable: 7/broken.png" in err
    assert "saved found.json" in err
    saved = json.loads(Path("found.json").read_text())
    assert [row["skipped"] for row in saved["evaluations"]] == [1, 1]
    assert saved["evaluations"][0]["unreadable"][0]["image"] == "7/broken.png"
    assert "packages" in saved["environment"]

    assert cli(*arguments)[0] == 2
    code, _, err = cli(*arguments, "--overwrite")
    assert (code, "41 of them in an earlier run" in err) == (0, True)
    assert "in an earlier run" not in cli(*arguments, "--overwrite", "--fresh")[2]


def test_what_nobody_named_may_be_missing(cli, lenet5: Artifact, tmp_path: Path) -> None:
    """Another's file is nothing for PyTorch, which is here as well."""
    model = onnx.load(lenet5.path)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "plain.onnx")
    folder = write_digits(tmp_path / "digits", 2)
    own = ("--size", "32", "--mean", "0.3054", "--std", "0.3238", "--data", folder)
    code, out, err = cli("evaluate", "plain.onnx", *own, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert {row["runtime"] for row in found["not_evaluated"]} == {"torch-cpu"}
    assert found["top1"] > 0.9
    code, out, err = cli("evaluate", "plain.onnx", *own, "--runtime", "torch-cpu")
    assert code == 2
    assert "Traceback" not in err
    # Without a word on how pictures are prepared, nothing is guessed for one channel.
    code, _, err = cli("evaluate", "plain.onnx", "--data", folder, "--runtime", "ort-cpu")
    assert (code, "does not say how to prepare pictures for it: say how with --size" in err) == (2, True)


def test_nan_is_exit_code_1(cli, lenet5: Artifact, tmp_path: Path) -> None:
    model = onnx.load(lenet5.path)
    bias = next(each for each in model.graph.initializer if list(each.dims) == [10])
    bias.CopyFrom(onnx.numpy_helper.from_array(np.full(10, np.inf, np.float32), bias.name))
    onnx.save(model, tmp_path / "spoilt.onnx")
    code, _, err = cli("evaluate", "spoilt.onnx", "--data", "digits", "--runtime", "ort-cpu")
    assert code == 1
    assert "NaN or infinity for digit" in err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--data", "nowhere"), 2, "no such folder"),
        (("--data", "empty"), 2, "has no pictures"),
        (("--data", "digits", "--crops", "3"), 2, "--crops takes 1, 5, 10, 144, dense"),
        (("--data", "digits", "--crops", "10"), 2, "leaves nothing to crop from: pass --scales 37"),
        (("--data", "digits", "--crops", "dense", "--scales", "36"), 2, "cnnport export NETWORK --dense"),
        (("--data", "digits", "--scales", "a"), 2, "--scales takes lengths in pixels"),
        (("--data", "digits", "--engine", "spark"), 2, "--engine is local or ray"),
        (("--data", "digits", "--mean", "0.5"), 2, "--mean and --std come together"),
        (("--data", "digits", "--mean", "0.5,0.5", "--std", "1,1"), 2, "1 or 3 numbers each"),
        (("--data", "digits", "--mean", "a", "--std", "1"), 2, "--mean takes numbers"),
        (("--data", "digits", "--mean", "0.5,0.5,0.5", "--std", "1,1,1"), 2, "takes 1 channel"),
        (
            ("--data", "digits", "--size", "64"),
            2,
            "takes 32x32 pixels, but its pictures are prepared as 64x64",
        ),
        (("--data", "digits", "-o", "x.csv"), 2, "an evaluation is saved as .json"),
        (("--data", "digits", "--runtime", "nothing"), 2, "no runtime is called 'nothing'"),
        (("--data", "digits", "--runtime", "ort-cuda"), 3, "is not available"),
    ],
)
def test_bad_input_is_one_or_two_lines(cli, lenet5: Artifact, arguments, code: int, message: str) -> None:
    Path("empty").mkdir()
    if "--runtime" not in arguments:
        arguments = (*arguments, "--runtime", "ort-cpu")
    found, _, err = cli("evaluate", lenet5.path, *arguments)
    assert found == code, err
    assert message in err
    lines = [line for line in err.splitlines() if not line.startswith("note:")]
    assert len(lines) <= 3


def test_dense_wants_a_file(cli) -> None:
    code, _, err = cli("evaluate", "vgg16", "--data", "digits", "--crops", "dense")
    assert (code, "cnnport export vgg16 --dense" in err) == (2, True)
