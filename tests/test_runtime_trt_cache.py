"""Engines and timings that are kept: found by all that they depend on, and valid whatever happened to a process."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cnnport.artifact import Artifact
from cnnport.errors import ArtifactError
from cnnport.runtimes import Options, get_runtime
from cnnport.runtimes.engine_cache import Slot
from cnnport.runtimes.trt.package import Package
from fake_cuda import FakeCuda
from fake_tensorrt import MAGIC, FakeTensorRt, stand_in
from trt_files import feeds, small

__all__ = ["stand_in"]

Stand = Callable[..., FakeTensorRt]


def builds(trt: FakeTensorRt, artifact: Artifact, name: str = "trt", **settings: str) -> int:
    """How many builds it takes to open a file; what comes of it has to compute."""
    trt.calls.clear()
    with get_runtime(name).open(artifact, Options(settings=settings)) as session:
        assert session.run(feeds(1))["logits"].any()
    return trt.calls.count("build_serialized_network")


def entries(folder: Path, suffix: str = ".engine") -> list[Path]:
    return sorted((folder / "cache" / "engines").glob(f"*{suffix}"))


def test_one_build_for_each_thing_that_matters(
    stand_in: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = stand_in()
    artifact = small(tmp_path)
    assert [builds(trt, artifact) for _ in range(3)] == [1, 0, 0]
    assert builds(trt, artifact, batch="1:2:4") == 1
    assert builds(trt, artifact, cuda_graph="1") == 0
    assert builds(trt, small(tmp_path, seed=1, name="other")) == 1
    assert builds(trt, artifact.with_shapes({"input": (1, 3, 8, 8)})) == 0
    for other in ({"version": "11.3.0.99"}, {"cuda": FakeCuda(compute=(8, 6))}):
        changed = stand_in(**other)
        assert [builds(changed, artifact) for _ in range(2)] == [1, 0]
    with monkeypatch.context() as patch:
        patch.setattr(Package, "cuda", lambda package: "12")
        assert [builds(stand_in(), artifact) for _ in range(2)] == [1, 0]
    assert [builds(stand_in(), artifact, cache="0") for _ in range(2)] == [1, 1]
    assert builds(stand_in(rtx=True), artifact, "trt-rtx") == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: MAGIC + data,
        lambda data: data.replace(b'"gpu": "Imaginary 4090"', b'"gpu": "Imaginary 4080"'),
        lambda data: data.replace(b'"notes"', b'"nodes"'),
        lambda data: b"cnnport cache entry 1\n[]\n",
    ],
)
def test_a_damaged_or_foreign_entry_is_rebuilt(
    stand_in: Stand, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    trt = stand_in()
    artifact = small(tmp_path)
    assert builds(trt, artifact) == 1
    (entry,) = entries(tmp_path)
    whole = entry.read_bytes()
    assert damage(whole) != whole
    entry.write_bytes(damage(whole))
    assert builds(trt, artifact) == 1
    assert builds(trt, artifact) == 0
    assert len(entries(tmp_path)) == 1


def test_a_file_that_has_changed_is_no_key(stand_in: Stand, tmp_path: Path) -> None:
    stand_in()
    artifact = small(tmp_path)
    small(tmp_path, seed=1)
    with pytest.raises(ArtifactError, match="has changed since it was read"):
        get_runtime("trt").open(artifact, Options())
    with pytest.raises(ArtifactError, match="cannot read"):
        get_runtime("trt").open(replace(artifact, path=tmp_path / "gone.onnx"), Options())


def test_an_engine_that_is_refused_is_not_kept(stand_in: Stand, tmp_path: Path) -> None:
    trt = stand_in()
    trt.faults["engine type"] = "Half"
    with pytest.raises(ArtifactError, match="asked for in Float"):
        get_runtime("trt").open(small(tmp_path), Options())
    assert entries(tmp_path) == []


def test_builds_learn_from_each_other(stand_in: Stand, tmp_path: Path) -> None:
    trt = stand_in()
    for number in range(3):
        assert builds(trt, small(tmp_path, seed=number)) == 1
    (entry,) = entries(tmp_path, ".timing")
    assert entry.read_bytes().endswith(b"\n+++")
    place = {"package": "tensorrt", "version": "11.4.0.106", "gpu": "Imaginary 4090", "compute": "8.9"}
    slot = Slot(entry.parent, "timing", place, ".timing")
    assert slot.path == entry
    with slot.held():
        slot.write(b"foreign")
    assert builds(trt, small(tmp_path, seed=9)) == 1
    assert entry.read_bytes().endswith(b"\n+")


def open_in_threads(artifact: Artifact, count: int) -> None:
    """As many sessions at once, each closed again."""
    threads = [
        threading.Thread(target=lambda: get_runtime("trt").open(artifact, Options()).close())
        for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_threads_wait_for_each_other(stand_in: Stand, tmp_path: Path) -> None:
    trt = stand_in()
    artifact = small(tmp_path)
    trt.during_build = lambda: time.sleep(0.2)
    trt.calls.clear()
    open_in_threads(artifact, 3)
    assert trt.calls.count("build_serialized_network") == 1


def start(file: Path, cache: Path, mark: str, where: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            sys.executable,
            str(Path(__file__).with_name("build_engine.py")),
            str(file),
            str(file.parent / mark),
            where,
        ],
        env={**os.environ, "CNNPORT_CACHE": str(cache), "PYTHONPATH": str(Path(__file__).parent)},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("where", ["build", "write"])
def test_two_processes_of_which_one_is_killed(tmp_path: Path, where: str) -> None:
    """While it builds, or while it writes: the other one waits, sweeps up, builds, and leaves one valid entry."""
    artifact = small(tmp_path)
    cache = tmp_path / "cache"
    first = start(artifact.path, cache, "first", where)
    end = time.monotonic() + 60
    while not (tmp_path / "first").exists():
        assert time.monotonic() < end
        assert first.poll() is None
        time.sleep(0.02)
    if where == "write":
        assert list((cache / "engines").glob(".*.part"))
    second = start(artifact.path, cache, "second", "none")
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(timeout=3)
    assert entries(tmp_path) == []
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert second.communicate(timeout=60)[0] == "1\n"
    assert len(entries(tmp_path)) == 1
    assert not list((cache / "engines").glob(".*.part"))
    third = start(artifact.path, cache, "third", "none")
    assert third.communicate(timeout=60)[0] == "0\n"
    first.stdout.close()


def test_without_the_lock_both_would_build(
    stand_in: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = stand_in()
    monkeypatch.setattr("cnnport.runtimes.engine_cache.fcntl.flock", lambda file, kind: None)
    both = threading.Barrier(2, timeout=20)
    trt.during_build = both.wait
    open_in_threads(small(tmp_path), 2)
    assert trt.calls.count("build_serialized_network") == 2
