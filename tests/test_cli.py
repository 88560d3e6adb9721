"""The command line as its contract states it: outputs, exit codes, errors in one or two lines."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from cnnport._version import __version__
from cnnport.artifact import Artifact
from cnnport.runtimes import available

Exported = Callable[[str], Artifact]
Run = Callable[..., tuple[int, str, str]]


def fails(result: tuple[int, str, str], code: int, message: str) -> None:
    """An error as the contract has it: the code, nothing on standard output, one or two lines, no traceback."""
    got, out, err = result
    assert (got, out) == (code, ""), err
    errors = err[err.index("error: ") :].splitlines()
    assert 1 <= len(errors) <= 2, err
    assert re.search(message, "\n".join(errors)), err
    assert "Traceback" not in err


def parsed(result: tuple[int, str, str], code: int = 0) -> object:
    got, out, err = result
    assert got == code, err
    return json.loads(out)


# ---------------------------------------------------------------- general


def test_version_and_help(cli: Run) -> None:
    assert cli("--version") == (0, f"cnnport {__version__}\n", "")
    names = ("list", "info", "export", "optimize", "verify", "run", "bench", "doctor")
    for command in ((), *((name,) for name in names)):
        code, out, _ = cli(*command, "--help")
        assert code == 0
        assert "Usage" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["export"], "Missing argument 'MODEL'"),
        (["export", "lenet5", "--opsett", "3"], "No such option"),
        (["export", "lenet5", "--opset", "x"], "valid integer"),
        (["export", "lenet5", "--opset", "9"], "opset 9 is not supported"),
        (["export", "lenet5", "--batch", "0"], "a batch is a number from 1"),
        (["export", "lenet5", "--batch", "many"], "a batch is a number from 1"),
        (["export", "lenet5", "--image-size", "big"], "an image size is"),
        (["export", "lenet5", "--image-size", "0"], "no pixels"),
        (["export", "lenet5", "--num-classes", "0"], "at least 1"),
        (["export", "lenet5", "--seed", "-1"], "seed"),
        (["export", "lenet5", "--passes", "+nothing"], "nothing"),
        (["export", "lenet6"], "did you mean lenet5"),
        (["export", "other.onnx"], "ONNX file"),
        (["export", "nowhere.py:net"], "no such file"),
        (["export", "mobilenet_v1_x1_0", "--weights", "default"], "no official weights"),
        (["export", "lenet5", "--weights", "none.pth"], "none.pth"),
        (["export", "lenet5", "-o", "no/such/folder.onnx"], "no folder"),
        (["export", "lenet5", "-o", "/proc/x.onnx"], "cannot write"),
        (["verify", "none.onnx"], "no such file"),
        (["info", "none.onnx"], "no such file"),
        (["info", "resnet"], "did you mean"),
        (["list", "zzz"], "no network matches"),
        (["list", "--family", "zzz"], "no family"),
        (["run", "lenet5", "x.png", "--runtime", "zzz"], "no runtime is called 'zzz'"),
        (["bench", "none.onnx"], "no such file"),
        (["bench", "lenet5", "--runtime", "ort"], "no runtime is called 'ort'"),
        (["bench", "lenet5", "--threads", "two"], "--threads takes numbers"),
        (["bench", "lenet5", "--threads", "0"], "at least 1"),
        (["bench", "lenet5", "--duration", "-1"], "at least 0"),
        (["bench", "lenet5", "-o", "x.txt"], r"x\.txt"),
    ],
)
def test_wrong_usage(cli: Run, tmp_path: Path, arguments: list[str], message: str) -> None:
    fails(cli(*arguments), 2, message)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["run", "bench"])
def test_a_runtime_that_is_not_here_gives_3(
    cli: Run, exported: Exported, digit_scans: list[Path], command: str
) -> None:
    extra = digit_scans[:1] if command == "run" else []
    fails(
        cli(command, exported("lenet5").path, *extra, "--runtime", "trt"), 3, "runtime trt is not available"
    )


def test_debug_shows_the_traceback(cli: Run) -> None:
    _, _, err = cli("--debug", "export", "lenet6")
    assert "Traceback" in err


def test_an_internal_error_is_told_without_a_traceback(cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from cnnport import registry

    def broken() -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(registry, "specs", broken)
    fails(cli("list"), 70, "internal error.*ZeroDivisionError")


def test_help_answers_at_once() -> None:
    times = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "cnnport", "--help"], check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    # The contract's 0.3 s is a figure of a quiet machine; a heavy import costs a second and more.
    assert min(times) < 0.6


def test_completion_knows_names(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "_CNNPORT_COMPLETE": "complete_bash",
        "COMP_WORDS": "cnnport export shuff",
        "COMP_CWORD": "2",
    }
    program = "import sys; sys.argv = ['cnnport']; from cnnport.cli.main import app; app(prog_name='cnnport')"
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, env=environment
    )
    assert "shufflenet_v2_x1_0" in done.stdout, done.stderr


# ---------------------------------------------------------------- list, info, doctor


def test_list(cli: Run) -> None:
    rows = parsed(cli("list", "--json"))
    assert {"name", "family", "params", "macs", "input", "classes", "weights", "paper"} <= set(rows[0])
    assert len(rows) >= 13
    assert [row["name"] for row in parsed(cli("list", "shuffle*_v2_x1_?", "--json"))] == [
        "shufflenet_v2_x1_0",
        "shufflenet_v2_x1_5",
    ]
    assert {row["family"] for row in parsed(cli("list", "--family", "resnet", "--json"))} == {"resnet"}
    assert parsed(cli("list", "zzz", "--json")) == []
    code, out, err = cli("list", "resnet18")
    assert (code, err) == (0, "")
    assert "11,689,512" in out
    assert "1,814,073,344" in out


def test_info_of_a_network(cli: Run) -> None:
    facts = parsed(cli("info", "shufflenet_v2", "--json"))
    assert (facts["name"], facts["params"]) == ("shufflenet_v2_x1_0", 2_278_604)
    assert "2,278,604" in cli("info", "shufflenet_v2")[1]


def test_info_of_a_file(cli: Run, exported: Exported) -> None:
    facts = parsed(cli("info", exported("lenet5").path, "--runtime", "ort-cpu", "--json"))
    assert facts["ops"]["Conv"] == 3
    assert facts["inputs"] == ["input:float32[batch,1,32,32]"]
    assert facts["metadata"]["cnnport.weights"] == "default"
    assert facts["placement"]["CPUExecutionProvider"]["Conv"] == 3
    assert "input:float32[batch,1,32,32]" in cli("info", exported("lenet5").path)[1]


def test_info_of_a_callable(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("from torch import nn\ndef net(): return nn.Conv2d(3, 8, 3)\n")
    facts = parsed(cli("info", "own.py:net", "--json"))
    assert (facts["params"], facts["macs"], facts["output"]) == (224, 222 * 222 * 216, [1, 8, 222, 222])


def test_doctor(cli: Run) -> None:
    rows = {row["runtime"]: row for row in parsed(cli("doctor", "--json"))}
    assert {"torch-cpu", "torch-cuda", "ort-cpu", "ort-cuda", "trt", "trt-rtx", "openvino"} <= set(rows)
    assert rows["ort-cpu"]["present"]
    assert "onnxruntime" in rows["ort-cpu"]["version"]
    assert all(row["present"] or row["reason"] for row in rows.values())
    code, out, _ = cli("doctor")
    assert code == 0
    assert "torch-cuda" in out


# ---------------------------------------------------------------- export, verify


def test_export_then_verify(cli: Run, tmp_path: Path) -> None:
    code, out, err = cli("export", "lenet5")
    assert (code, err) == (0, "")
    for text in ("Conv", "verified", "lenet5.onnx", "default"):
        assert text in out
    assert [path.name for path in tmp_path.iterdir()] == ["lenet5.onnx"]
    code, out, _ = cli("verify", "lenet5.onnx")
    assert code == 0
    assert "verified" in out
    document = parsed(cli("verify", "lenet5.onnx", "--json"))
    assert document["ok"]
    assert all({"name", "ok", "detail"} == set(check) for check in document["checks"])
    fails(cli("export", "lenet5"), 2, "--overwrite")
    assert parsed(cli("export", "lenet5", "--overwrite", "--json"))["weights"]["kind"] == "default"


def test_random_weights_are_said_to_be_random(cli: Run) -> None:
    code, out, err = cli("export", "mobilenet_v1_x0_25", "--image-size", "64")
    assert code == 0
    assert "warning" in err
    assert "random" in err
    assert "weights   random (seed 0)" in out
    code, _, err = cli("--quiet", "export", "mobilenet_v1_x0_25", "--image-size", "64", "--overwrite")
    assert (code, err) == (0, "")


def test_a_flipped_bit_fails_verification(cli: Run, tmp_path: Path, exported: Exported) -> None:
    data = bytearray(exported("lenet5").path.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "x.onnx").write_bytes(data)
    code, out, _ = cli("verify", "x.onnx")
    assert code == 1
    assert "FAILED" in out
    assert not parsed(cli("verify", "x.onnx", "--json"), 1)["ok"]


def test_verify_needs_no_torch(exported: Exported) -> None:
    program = (
        "import sys; sys.modules['torch'] = None; from cnnport.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    arguments = [sys.executable, "-c", program, "verify", str(exported("lenet5").path)]
    done = subprocess.run(arguments, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_corrupt_file(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"\x08\x09garbage")
    for command in (
        ["verify", "x.onnx"],
        ["info", "x.onnx"],
        ["bench", "x.onnx"],
        ["run", "x.onnx", "a.png"],
    ):
        fails(cli(*command), 2, "not an ONNX model")


def test_an_unknown_operator(cli: Run, tmp_path: Path) -> None:
    import onnx
    from onnx import parser

    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 18, "com.acme": 1]> '
        "g (float[1, 3, 8, 8] x) => (float[1, 3, 8, 8] y) { y = com.acme.Magic(x) }"
    )
    onnx.save(model, tmp_path / "x.onnx")
    assert parsed(cli("info", "x.onnx", "--json"))["nodes"] == 1
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    fails(cli("run", "x.onnx", "a.png"), 2, "cannot load x.onnx.*Magic")
    code, out, err = cli("bench", "x.onnx", "--runtime", "ort-cpu", "--duration", "0.1", "--rounds", "1")
    assert code == 2
    assert "Magic" in out + err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_export_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    target = tmp_path / "x.onnx"
    arguments = [
        sys.executable,
        "-m",
        "cnnport",
        "-v",
        "export",
        "resnet18",
        "--weights",
        "random",
        "-o",
        str(target),
    ]
    process = subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "torch.onnx" in line:
            break
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert err.splitlines()[-1] == "error: interrupted"
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small file system needs root")
    try:
        arguments = [sys.executable, "-m", "cnnport", "export", "lenet5", "-o", str(small / "x.onnx")]
        done = subprocess.run(arguments, check=False, capture_output=True, text=True)
        assert done.returncode == 2
        assert done.stderr == f"error: cannot write {small / 'x.onnx'}: No space left on device\n"
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


# ---------------------------------------------------------------- run


def test_run_on_real_scans(cli: Run, exported: Exported, digit_scans: list[Path]) -> None:
    document = parsed(cli("run", exported("lenet5").path, *digit_scans, "--top", "3", "--json"))
    assert (document["model"], document["runtime"]) == ("lenet5", "ort-cpu")
    assert len(document["results"]) == len(digit_scans) >= 10
    for scan, row in zip(digit_scans, document["results"], strict=True):
        assert row["image"] == str(scan)
        assert len(row["top"]) == 3
        assert row["top"][0]["label"] == scan.name[0]
        assert sorted((guess["probability"] for guess in row["top"]), reverse=True) == [
            guess["probability"] for guess in row["top"]
        ]
        assert 0.5 < sum(guess["probability"] for guess in row["top"]) <= 1 + 1e-9


def test_run_is_the_same_on_every_runtime(cli: Run, exported: Exported, digit_scans: list[Path]) -> None:
    results = [
        parsed(cli("run", exported("lenet5").path, *digit_scans, "--runtime", name, "--json"))["results"]
        for name in ("ort-cpu", "torch-cpu")
    ]
    for left, right in zip(*results, strict=True):
        assert left["top"][0]["index"] == right["top"][0]["index"]
        assert left["top"][0]["probability"] == pytest.approx(right["top"][0]["probability"], abs=1e-5)


def test_run_by_name_exports_first(cli: Run, digit_scans: list[Path]) -> None:
    code, out, _ = cli("run", "lenet5", digit_scans[0])
    assert code == 0
    assert digit_scans[0].name[0] in out


def test_one_bad_picture_does_not_stop_the_others(
    cli: Run, exported: Exported, digit_scans: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "bad.png").write_bytes(digit_scans[0].read_bytes()[:40])
    images = [digit_scans[0], tmp_path / "bad.png", digit_scans[1], tmp_path / "none.png"]
    code, out, err = cli("run", exported("lenet5").path, *images, "--json")
    assert code == 2
    rows = json.loads(out)["results"]
    assert [bool(row["top"]) for row in rows] == [True, False, True, False]
    assert "bad.png" in rows[1]["error"]
    assert [line.startswith("error: ") for line in err.splitlines()] == [True, True]


def test_a_fixed_batch_takes_any_number_of_pictures(cli: Run, digit_scans: list[Path]) -> None:
    parsed(cli("export", "lenet5", "--batch", "4", "-o", "four.onnx", "--json"))
    rows = parsed(cli("run", "four.onnx", *digit_scans, "--json"))["results"]
    assert [row["top"][0]["label"] for row in rows] == [scan.name[0] for scan in digit_scans]


def test_a_file_that_states_no_preprocessing(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from torch import nn\n"
        "def net(): return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
    )
    parsed(cli("export", "own.py:net", "--image-size", "32", "--json"))
    Image.new("RGB", (50, 40), "red").save(tmp_path / "a.jpg")
    code, out, err = cli("run", "net.onnx", "a.jpg", "--json")
    assert code == 0
    assert "does not state its preprocessing" in err
    assert json.loads(out)["results"][0]["top"][0]["label"] is None


# ---------------------------------------------------------------- bench


def test_bench(cli: Run, exported: Exported, tmp_path: Path) -> None:
    arguments = [
        "bench",
        exported("lenet5").path,
        "--duration",
        "0.2",
        "--warmup",
        "0",
        "--rounds",
        "2",
        "--threads",
        "1",
    ]
    document = parsed(cli(*arguments, "-o", "r.json", "--json"))
    assert {row["runtime"] for row in document["results"]} == set(available())
    for row in document["results"]:
        assert {"mean", "p50", "p90", "p95", "p99", "min", "max", "std"} <= set(row["latency_ms"])
        assert row["throughput"] > 0
        assert len(row["samples_s"]) >= 20
        assert row["weights"] == "default"
    assert document["skipped"] == []
    assert json.loads((tmp_path / "r.json").read_text()) == document
    fails(cli(*arguments, "-o", "r.json"), 2, "--overwrite")


DYNAMIC = """
<ir_version: 8, opset_import: ["": 18]>
g (float[batch, 3, height, width] x) => (float[batch, 3, 1, 1] y) { y = GlobalAveragePool(x) }
"""


@pytest.mark.parametrize("dialect", ["x:4x3x20x30", "x:4,3,20,30", "x:[4, 3, 20, 30]"])
def test_bench_takes_a_shape_where_the_file_leaves_it_open(cli: Run, tmp_path: Path, dialect: str) -> None:
    import onnx
    from onnx import parser

    onnx.save(parser.parse_model(DYNAMIC), tmp_path / "d.onnx")
    arguments = [
        "bench",
        "d.onnx",
        "--runtime",
        "ort-cpu",
        "--duration",
        "0.1",
        "--warmup",
        "0",
        "--rounds",
        "1",
    ]
    fails(cli(*arguments), 2, "dynamic")
    (row,) = parsed(cli(*arguments, "--shape", dialect, "--json"))["results"]
    assert row["batch"] == 4
    fails(cli(*arguments, "--shape", "x:4x3x20"), 2, "does not fit input x")
    fails(cli(*arguments, "--shape", "x:4x5x20x30"), 2, "does not fit input x")
    fails(cli(*arguments, "--shape", "z:4x3x20x30"), 2, "no input is called 'z'")
    fails(cli(*arguments, "--shape", "x:4xAx20x30"), 2, "a shape is NAME:")
    fails(cli(*arguments, "--shape", "4x3x20x30"), 2, "a shape is NAME:")


def test_without_onnxruntime_the_extra_is_named_at_once(tmp_path: Path, exported: Exported) -> None:
    program = (
        "import sys; sys.modules['onnxruntime'] = None; "
        "from cnnport.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    for command in (["export", "resnet18"], ["verify", str(exported("lenet5").path)]):
        arguments = [sys.executable, "-c", program, *command]
        done = subprocess.run(
            arguments, check=False, capture_output=True, text=True, cwd=tmp_path, timeout=60
        )
        assert (done.returncode, done.stdout) == (3, "")
        assert done.stderr.startswith(
            "error: runtime ort-cpu is not available: onnxruntime is not installed: pip"
        )
        assert "cnnport[cpu]" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_bench_shows_what_cannot_run_as_a_row(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("from torch import nn\ndef net(): return nn.Conv2d(3, 4, 3)\n")
    parsed(cli("export", "own.py:net", "--image-size", "32", "--json"))
    document = parsed(
        cli("bench", "net.onnx", "--duration", "0.1", "--warmup", "0", "--rounds", "1", "--json")
    )
    assert [row["runtime"] for row in document["results"]] == [
        name for name in available() if name != "torch-cpu"
    ]
    assert [row["runtime"] for row in document["skipped"]] == ["torch-cpu"]
    assert "not a network of the zoo" in document["skipped"][0]["reason"]
