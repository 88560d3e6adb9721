"""``cnnport quantize`` and ``cnnport export --precision int8``: what they print, refuse and leave on disk."""

import errno
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from cnnport.measuring import speed_check
from cnnport.measuring.paired import Ratio
from cnnport.measuring.speed_contract import Speed
from cnnport.onnxfile import read_artifact
from quantize_graphs import CONSTANTS, NETWORK, images, model_of

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A network and samples for it, in the folder in which commands run."""
    model = model_of(NETWORK, CONSTANTS)
    onnx.save(model, tmp_path / "net.onnx")
    np.save(tmp_path / "x.npy", images(model, 64)["x"])
    return tmp_path


def found(ratio: float) -> Speed:
    return Speed(Ratio(ratio, ratio, ratio), 2.0, 2.0 / ratio, "ort-cpu", 2, 1, 5)


def test_a_file_its_report_and_its_json(cli: Run, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed_check, "speed", lambda *_args, **_rest: found(2.5))
    monkeypatch.setattr(
        speed_check, "measure_in_turn", lambda artifacts, **_: [(0.002, 0.001, 0.003)] * len(artifacts)
    )
    arguments = ("quantize", "net.onnx", "--calibration", "x.npy:32", "--report", "r.json")
    code, out, error = cli(*arguments)
    assert (code, error) == (0, "")
    assert "int8 " in out
    assert "speed     2.500" in out
    assert read_artifact(files / "net.int8.onnx").precision == "int8"
    report = json.loads((files / "r.json").read_text())
    assert report["speed"]["ratio"]["median"] == 2.5
    assert {point["latency_ms"] for point in report["pareto"]} == {2.0}
    assert any(layer["alone_sqnr_db"] is not None for layer in report["layers"])
    code, out, _ = cli(*arguments[:-2], "-o", "b.onnx", "--json", "--report", "r.md")
    assert code == 0
    assert json.loads(out)["path"] == "b.onnx"
    assert (files / "r.md").read_text().startswith("# b.onnx: 8 bits for ort")
    assert (files / "b.onnx").read_bytes() == (files / "net.int8.onnx").read_bytes()


def test_the_speed_contract(cli: Run, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is too slow is not written; what is slower than float32 is, and that is said."""
    monkeypatch.setattr(speed_check, "speed", lambda *_args, **_rest: found(0.8))
    code, out, error = cli("quantize", "net.onnx", "--calibration", "x.npy")
    assert code == 0
    assert "int8 is not faster" in out
    monkeypatch.setattr(speed_check, "speed", lambda *_args, wanted, **_rest: Speed(*vars_of(1.4), wanted))
    command = ("quantize", "net.onnx", "--calibration", "x.npy", "-o", "new.onnx", "--require-speedup")
    code, out, error = cli(*command, "1.5")
    assert (code, out) == (1, "")
    assert error.startswith("error: --require-speedup 1.5 is not reached, nothing was written")
    assert "1.400" in error
    assert not (files / "new.onnx").exists()
    assert cli(*command, "1.3")[0] == 0
    assert (files / "new.onnx").exists()


def vars_of(ratio: float) -> tuple[object, ...]:
    speed = found(ratio)
    return (
        speed.ratio,
        speed.original_ms,
        speed.quantized_ms,
        speed.runtime,
        speed.threads,
        speed.batch,
        speed.rounds,
    )


def test_a_speed_that_nobody_can_measure_here(cli: Run, files: Path) -> None:
    command = ("quantize", "net.onnx", "--calibration", "x.npy", "--target", "trt")
    code, _, error = cli(*command, "--require-speedup", "1.5")
    assert code == 3
    assert "cannot be measured here" in error
    assert not (files / "net.int8.onnx").exists()
    code, _, error = cli(*command)
    assert code == 0
    assert "its speed was not measured" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--calibration", "nowhere"), "nowhere: no such folder"),
        (("--calibration", "nowhere.npz:8"), "nowhere.npz: no such file"),
        (("--calibration", "."), "no pictures"),
        (("--calibration", "x.npy:0"), "random:100"),
        (("--calibration", "x.npy", "--target", "cuda"), "no int8 target is called 'cuda'"),
        (("--calibration", "x.npy", "--max-drop", "many"), "--max-drop is in per cent"),
        (("--calibration", "x.npy", "--max-drop", "101"), "--max-drop is in per cent"),
        (("--calibration", "x.npy", "--method", "median"), "no calibration method"),
        (("--calibration", "x.npy", "--report", "r.pdf"), "ends in .json or .md"),
        (("--calibration", "x.npy", "-o", "r.md", "--report", "r.md"), "the same file"),
        (("--calibration", "x.npy", "-o", "net.onnx"), "exists"),
        ((), "--calibration"),
    ],
)
def test_bad_usage_is_one_or_two_lines(
    arguments: tuple[str, ...], message: str, cli: Run, files: Path
) -> None:
    if arguments[:2] == ("--calibration", "."):
        (files / "empty").mkdir()
        arguments = ("--calibration", "empty", *arguments[2:])
    before = sorted(path.name for path in files.iterdir())
    code, out, error = cli("quantize", "net.onnx", *arguments)
    assert (code, out) == (2, "")
    assert message in error
    assert len(error.strip().splitlines()) <= 2
    assert sorted(path.name for path in files.iterdir()) == before


def test_one_array_for_two_inputs(cli: Run, files: Path) -> None:
    text = "g (float[N, 2, 4, 4] x, float[N, 2, 4, 4] z) => (float[N, 3, 4, 4] y) { a = Add (x, z)  y = Conv (a, w) }"
    onnx.save(model_of(text, {"w": (3, 2, 1, 1)}), files / "two.onnx")
    code, _, error = cli("quantize", "two.onnx", "--calibration", "x.npy")
    assert code == 2
    assert "x.npy is one array, and the network has 2 inputs" in error


def test_no_room_for_temporary_files(cli: Run, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("cnnport.optimize_file.set_aside", full)
    code, out, error = cli("quantize", "net.onnx", "--calibration", "x.npy", "--no-speed")
    assert (code, out) == (2, "")
    assert error.startswith("error: No space left on device: temporary files lie in ")
    assert not (files / "net.int8.onnx").exists()


def test_what_is_in_8_bits_already(cli: Run, files: Path) -> None:
    assert cli("quantize", "net.onnx", "--calibration", "x.npy", "--no-speed")[0] == 0
    code, _, error = cli("quantize", "net.int8.onnx", "--calibration", "x.npy")
    assert code == 2
    assert "is quantized already" in error


def test_export_in_8_bits(cli: Run, tmp_path: Path) -> None:
    code, out, _ = cli("export", "lenet5", "--precision", "int8", "--calibration", "digits:40", "--json")
    assert code == 0
    told = json.loads(out)
    assert (told["precision"], told["path"]) == ("int8", "lenet5.onnx")
    assert told["int8"]["target"] == "ort"
    assert told["int8"]["judged"]["top1"] > 98
    code, out, _ = cli("verify", "lenet5.onnx")
    assert code == 0
    code, out, _ = cli("info", "lenet5.onnx", "--json")
    assert json.loads(out)["precision"] == "int8"
    data = bytearray((tmp_path / "lenet5.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "lenet5.onnx").write_bytes(data)
    assert cli("verify", "lenet5.onnx")[0] == 1


def test_export_in_halves_with_ranges_of_samples(cli: Run) -> None:
    code, out, _ = cli("export", "lenet5", "--precision", "fp16", "--calibration", "digits:8", "--json")
    assert code == 0
    told = json.loads(out)
    assert (told["precision"], told["int8"]) == ("fp16", None)
    assert told["half"]["nodes"] > 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--precision", "int8"), "int8 needs samples"),
        (("--precision", "int8", "--calibration", "digits", "--io-dtype", "fp16"), "fp32 inputs and outputs"),
        (("--precision", "int8", "--calibration", "digits", "--target", "cuda"), "no int8 target"),
        (("--calibration", "digits"), "--calibration is for int8"),
        (("--max-drop", "1"), "--max-drop is for --precision int8"),
        (("--precision", "int4", "--calibration", "digits"), "no precision is called 'int4'"),
    ],
)
def test_exports_that_make_no_sense(
    arguments: tuple[str, ...], message: str, cli: Run, tmp_path: Path
) -> None:
    code, out, error = cli("export", "lenet5", *arguments)
    assert (code, out) == (2, "")
    assert message in error
    assert list(tmp_path.iterdir()) == []
