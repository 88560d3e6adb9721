"""Answers that are kept: written whole, checked before use, and enough without PyTorch."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cnnport.agreement import Plan, Request, parity
from cnnport.agreement.goldens import read_goldens
from cnnport.artifact import Artifact
from cnnport.errors import CheckFailedError, CnnportError
from parity_files import changed, write

pytest_plugins = ["pytester"]

NO_TORCH = "raise ImportError('there is no torch here')\n"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return write(tmp_path_factory.mktemp("net") / "net.onnx")


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    def nudge(each) -> None:
        each["u"][0, 3] *= 1.01

    return write(tmp_path_factory.mktemp("net") / "bad.onnx", held=changed(nudge))


@pytest.fixture(scope="module")
def goldens(good: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kept") / "goldens"
    request = Request(
        files=(("net", good),), runtimes=("ort-cpu",), plan=Plan(checks=False), count=4, save=folder
    )
    assert parity(request).ok
    return folder


def against(artifact: Artifact, folder: Path):
    request = Request(
        files=(("net", artifact),), runtimes=("ort-cpu",), plan=Plan(checks=False), against=folder
    )
    return parity(request)


def test_what_is_kept(goldens: Path, good: Artifact) -> None:
    held = read_goldens(goldens)
    assert held.reference == "ort-cpu unfused fp32"
    assert held.artifact_sha256 == good.sha256
    manifest = json.loads((goldens / "manifest.json").read_text())
    assert manifest["tolerance"]["in_std"] == 1e-4
    assert len(manifest["sets"]) == 6
    assert np.load(goldens / "outputs" / "samples.0.npy").shape == (4, 10)
    assert [path.name for path in goldens.parent.iterdir()] == ["goldens"]


def test_files_are_held_to_them(goldens: Path, good: Artifact, bad: Artifact) -> None:
    assert against(good, goldens).ok
    row = against(bad, goldens).rows[0]
    assert not row.ok
    assert "logits[3]" in row.failures[0]


def test_every_flipped_byte_is_found(goldens: Path, good: Artifact, tmp_path: Path) -> None:
    files = sorted(path.relative_to(goldens) for path in goldens.rglob("*") if path.is_file())
    assert len(files) == 13
    for file in files:
        copy = tmp_path / "copy"
        shutil.copytree(goldens, copy)
        data = bytearray((copy / file).read_bytes())
        data[-len(data) // 3] ^= 1
        (copy / file).write_bytes(data)
        with pytest.raises(CheckFailedError, match=file.name):
            against(good, copy)
        shutil.rmtree(copy)


def test_damage_of_other_kinds(goldens: Path, tmp_path: Path) -> None:
    with pytest.raises(CnnportError, match="holds no goldens"):
        read_goldens(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(goldens, copy)
    (copy / "outputs" / "large.0.npy").unlink()
    with pytest.raises(CheckFailedError, match=r"large\.0\.npy cannot be read"):
        read_goldens(copy)
    # One who can write a right checksum still cannot have a file read from elsewhere.
    from cnnport.agreement import goldens as module

    document = json.loads((goldens / "manifest.json").read_text())
    document["sets"][0]["inputs"][0]["file"] = "../../etc/passwd"
    document.pop("sha256")
    document["sha256"] = module._digest(document)
    (copy / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(CheckFailedError, match="outside of its folder"):
        read_goldens(copy)


def test_nothing_is_lost_that_was_there(goldens: Path, good: Artifact, bad: Artifact, tmp_path: Path) -> None:
    request = {
        "files": (("net", good),),
        "runtimes": ("ort-cpu",),
        "plan": Plan(extremes=False, checks=False),
    }
    folder = tmp_path / "kept"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(CnnportError, match="--overwrite"):
        parity(Request(**request, save=folder))
    with pytest.raises(CnnportError, match="something else"):
        parity(Request(**request, save=folder, overwrite=True))
    shutil.rmtree(folder)
    shutil.copytree(goldens, folder)
    files = (("net", good), ("bad", bad))
    assert not parity(Request(**{**request, "files": files}, save=folder, overwrite=True)).ok
    assert len(read_goldens(folder).answered) == 6
    assert parity(Request(**request, count=2, save=folder, overwrite=True)).ok
    assert len(read_goldens(folder).answered) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


TEST_FILE = """
import sys

def test_what_is_shipped(assert_parity):
    assert_parity("net.onnx", runtime="ort-cpu")
    assert "torch" not in sys.modules or sys.modules["torch"] is None

def test_a_fault(assert_parity):
    assert_parity("bad.onnx", "goldens", runtime="ort-cpu", checks=False)
"""


def test_the_plugin_where_there_is_no_torch(
    goldens: Path, good: Artifact, bad: Artifact, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(goldens, pytester.path / "goldens")
    shutil.copy(good.path, pytester.path / "net.onnx")
    shutil.copy(bad.path, pytester.path / "bad.onnx")
    (pytester.path / "without").mkdir()
    (pytester.path / "without" / "torch.py").write_text(NO_TORCH)
    pytester.makepyfile(TEST_FILE)
    monkeypatch.setenv("PYTHONPATH", str(pytester.path / "without"))
    tried = subprocess.run(
        [sys.executable, "-c", "import torch"], check=False, capture_output=True, text=True
    )
    assert "there is no torch here" in tried.stderr
    found = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:timeout")
    found.assert_outcomes(passed=1, failed=1)
    found.stdout.fnmatch_lines(["*AssertionError: bad.onnx does not say the same as goldens of *"])
    found.stdout.fnmatch_lines(["*logits[[]3[]]*"])
