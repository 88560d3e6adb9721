"""Engine files: what ``build`` writes runs like the file that it came from, and only where it belongs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnport.artifact import Artifact
from cnnport.errors import ArtifactError, CnnportError, RuntimeMissingError
from cnnport.measuring.case import Case
from cnnport.runtimes import Options, get_runtime
from cnnport.runtimes.build import Builds
from cnnport.runtimes.engine_file import engine_facts, sidecar_of
from cnnport.store import artifact_of
from fake_cuda import FakeCuda
from fake_tensorrt import MAGIC, FakeTensorRt, stand_in
from trt_files import feeds, small

__all__ = ["stand_in"]

Stand = Callable[..., FakeTensorRt]


def built(artifact: Artifact, target: Path, name: str = "trt", **settings: str) -> Artifact:
    runtime = get_runtime(name)
    assert isinstance(runtime, Builds)
    done = runtime.build(artifact, target, Options(settings=settings))
    assert done.ok
    assert (done.path, done.bytes) == (target, target.stat().st_size)
    return artifact_of(str(target))


def logits(artifact: Artifact, name: str = "trt", **settings: str) -> np.ndarray:
    with get_runtime(name).open(artifact, Options(settings=settings)) as session:
        return session.run(feeds(2))["logits"]


@pytest.mark.parametrize("name", ["trt", "trt-rtx"])
def test_an_engine_runs_like_its_file(stand_in: Stand, tmp_path: Path, name: str) -> None:
    trt = stand_in(rtx=name == "trt-rtx")
    artifact = small(tmp_path)
    plan = built(artifact, tmp_path / "small.plan", name)
    assert (plan.model, plan.precision, plan.inputs, plan.outputs) == (
        artifact.model,
        artifact.precision,
        artifact.inputs,
        artifact.outputs,
    )
    expected = logits(artifact, name)
    artifact.path.unlink()
    trt.calls.clear()
    np.testing.assert_array_equal(logits(plan, name), expected)
    assert "build_serialized_network" not in trt.calls
    assert Case(plan, name, 2, 1).misfit() is None


def test_an_engine_is_for_its_runtime_alone(stand_in: Stand, tmp_path: Path) -> None:
    stand_in()
    plan = built(small(tmp_path), tmp_path / "small.plan")
    stand_in(rtx=True)
    for name in ("trt-rtx", "ort-cpu"):
        assert Case(plan, name, 2, 1).misfit() == f"{plan.path} is an engine of trt: pass --runtime trt"
    with pytest.raises(ArtifactError, match="is an engine of trt: pass --runtime trt"):
        get_runtime("trt-rtx").open(plan, Options())
    with pytest.raises(ArtifactError, match="is an engine already"):
        built(plan, tmp_path / "again.plan")


@pytest.mark.parametrize(
    ("settings", "elsewhere", "message"),
    [
        ({}, {"version": "11.3.0.99"}, r"was built by tensorrt 11\.4\.0\.106, here is 11\.3\.0\.99"),
        ({}, {"cuda": FakeCuda(compute=(8, 6))}, r"was built for compute capability 8\.9, this GPU has 8\.6"),
        ({"hardware": "ampere_plus"}, {"cuda": FakeCuda(compute=(8, 6))}, None),
        ({"hardware": "same_compute_capability"}, {}, None),
        (
            {"hardware": "same_compute_capability"},
            {"cuda": FakeCuda(compute=(8, 6))},
            "was built for compute capability",
        ),
        ({"version_compatible": "1"}, {"version": "11.5.0.1"}, None),
        ({"version_compatible": "1"}, {"version": "11.3.0.99"}, "was built by tensorrt"),
        ({"version_compatible": "1"}, {"version": "12.0.0.1"}, "was built by tensorrt"),
    ],
)
def test_where_an_engine_runs(
    stand_in: Stand, tmp_path: Path, settings: dict[str, str], elsewhere: dict, message: str | None
) -> None:
    stand_in()
    plan = built(small(tmp_path), tmp_path / "small.plan", **settings)
    stand_in(**elsewhere)
    if message is None:
        assert logits(plan).any()
    else:
        with pytest.raises(ArtifactError, match=message):
            logits(plan)


def test_what_is_settled_in_an_engine_cannot_be_chosen_anew(stand_in: Stand, tmp_path: Path) -> None:
    stand_in()
    plan = built(small(tmp_path), tmp_path / "small.plan", batch="1:2:4")
    for settings in ({"batch": "1:2:4"}, {"cuda_graph": "1"}, {"cache": "0"}):
        assert logits(plan, **settings).any()
    for settings, message in (
        ({"batch": "1:8:32"}, r"was built with batch=1:2:4: batch=1:8:32 needs a build"),
        ({"workspace_mb": "64"}, "was built with workspace_mb=none"),
    ):
        with pytest.raises(CnnportError, match=message):
            logits(plan, **settings)


def test_how_an_engine_was_asked_for_reaches_the_builder(stand_in: Stand, tmp_path: Path) -> None:
    stand_in()
    for settings, expected in (
        ({}, {"hardware": "NONE", "hosted": False, "refit": False, "level": 3}),
        ({"hardware": "ampere_plus", "version_compatible": "1"}, {"hardware": "AMPERE_PLUS", "hosted": True}),
        ({"hardware": "same_compute_capability"}, {"hardware": "SAME_COMPUTE_CAPABILITY"}),
        ({"refit": "1", "optimization_level": "5"}, {"refit": True, "level": 5}),
    ):
        plan = built(small(tmp_path), tmp_path / "small.plan", **settings)
        header = json.loads(plan.path.read_bytes().removeprefix(MAGIC).partition(b"\n")[0])
        assert {name: header[name] for name in expected} == expected


def test_an_engine_brings_code_only_where_that_was_asked_for(stand_in: Stand, tmp_path: Path) -> None:
    trt = stand_in()
    for settings, expected in (({}, False), ({"version_compatible": "1"}, True)):
        artifact = small(tmp_path)
        logits(artifact, **settings)
        assert trt.host_code_allowed == expected
        logits(built(artifact, tmp_path / "small.plan", **settings))
        assert trt.host_code_allowed == expected


def test_sizes_that_are_the_only_ones_are_stated(stand_in: Stand, tmp_path: Path) -> None:
    stand_in()
    plan = built(small(tmp_path), tmp_path / "small.plan", batch="2")
    assert (plan.inputs[0].shape, plan.outputs[0].shape) == ((2, 3, 8, 8), (2, 4))
    assert logits(plan).shape == (2, 4)
    assert Case(plan, "trt", 2, 1).misfit() is None
    assert "fixed at 2" in str(Case(plan, "trt", 1, 1).misfit())


def test_a_command_runs_an_engine(stand_in: Stand, tmp_path: Path, cli: Callable[..., Any]) -> None:
    stand_in()
    built(small(tmp_path), tmp_path / "small.plan", batch="2")
    pictures = [tmp_path / f"{name}.png" for name in "abc"]
    for path in pictures:
        Image.new("RGB", (8, 8), (200, 100, 50)).save(path)
    code, out, err = cli("run", "small.plan", *pictures, "--runtime", "trt", "--json")
    assert code == 0, err
    assert [len(row["top"]) for row in json.loads(out)["results"]] == [4, 4, 4]


def test_damage_is_found(stand_in: Stand, tmp_path: Path) -> None:
    stand_in()
    target = tmp_path / "small.plan"
    plan = built(small(tmp_path), target)
    sidecar = sidecar_of(target)
    data, facts = target.read_bytes(), sidecar.read_text()
    target.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ArtifactError, match=r"is not the engine that small\.plan\.json describes"):
        artifact_of(str(target))
    target.write_bytes(data)
    document = json.loads(facts)
    damaged = {
        "{": "damaged",
        json.dumps({**document, "format": 2}): "of format 2",
        json.dumps({name: value for name, value in document.items() if name != "inputs"}): "damaged",
        "[]": "damaged",
        "3": "damaged",
        json.dumps({"name": "of another tool"}): "none of cnnport's",
        json.dumps({**document, "metadata": {"cnnport.model": 3}}): "damaged",
        json.dumps({**document, "settings": ["batch"]}): "damaged",
        json.dumps({**document, "opset": "20"}): "damaged",
        "[" * 100_000: "damaged",
    }
    for text, message in damaged.items():
        sidecar.write_text(text)
        with pytest.raises(ArtifactError, match=message):
            artifact_of(str(target))
    sidecar.unlink()
    with pytest.raises(ArtifactError, match=r"small\.plan\.json does not lie beside it"):
        artifact_of(str(target))
    target.unlink()
    with pytest.raises(ArtifactError, match="no such file"):
        artifact_of(str(target))
    with pytest.raises(ArtifactError, match="cannot read"):
        get_runtime("trt").open(plan, Options())


def test_new_weights_go_into_an_engine(stand_in: Stand, tmp_path: Path) -> None:
    trt = stand_in()
    old, new = small(tmp_path), small(tmp_path, seed=1, name="new")
    first = built(old, tmp_path / "old.plan", refit="1")
    expected = logits(new)
    assert not np.array_equal(logits(first), expected)
    trt.calls.clear()
    second = built(new, tmp_path / "new.plan", refit_from=str(tmp_path / "old.plan"))
    assert "build_serialized_network" not in trt.calls
    assert trt.calls[-3:] == ["Refitter", "refit_from_file", "refit_cuda_engine"]
    np.testing.assert_array_equal(logits(second), expected)
    facts = engine_facts(second)
    assert facts is not None
    assert facts.source_sha256 == new.sha256
    # In a session, without a file of its own.
    np.testing.assert_array_equal(logits(new, refit_from=str(tmp_path / "old.plan")), expected)


def test_an_engine_with_new_weights_keeps_its_settings(stand_in: Stand, tmp_path: Path) -> None:
    stand_in()
    old, new = small(tmp_path), small(tmp_path, seed=1, name="new")
    first = built(old, tmp_path / "old.plan", refit="1", batch="1:2:4", tf32="1")
    second = built(new, tmp_path / "new.plan", refit_from=str(first.path))
    facts = engine_facts(second)
    assert facts is not None
    assert {name: facts.settings[name] for name in ("batch", "tf32", "refit")} == {
        "batch": "1:2:4",
        "tf32": "1",
        "refit": "1",
    }
    with pytest.raises(
        CnnportError, match=r"old\.plan was built with batch=1:2:4: batch=1:8:32 needs a build"
    ):
        built(new, tmp_path / "third.plan", refit_from=str(first.path), batch="1:8:32")


def test_weights_go_only_into_an_engine_of_here(stand_in: Stand, tmp_path: Path) -> None:
    stand_in()
    artifact = small(tmp_path)
    plan = built(artifact, tmp_path / "old.plan", refit="1")
    for name, engine, message in (
        ("trt-rtx", plan.path, "is an engine of trt: pass --runtime trt"),
        ("trt", artifact.path, r"refit_from takes an engine, a \.plan file"),
        ("trt", tmp_path / "gone.plan", "no such file"),
    ):
        stand_in(rtx=name == "trt-rtx")
        with pytest.raises(ArtifactError, match=message):
            built(artifact, tmp_path / "new.plan", name, refit_from=str(engine))
    stand_in(FakeCuda(compute=(8, 6)))
    with pytest.raises(ArtifactError, match=r"was built for compute capability 8\.9, this GPU has 8\.6"):
        built(artifact, tmp_path / "new.plan", refit_from=str(plan.path))


def test_what_does_not_take_new_weights(stand_in: Stand, tmp_path: Path) -> None:
    trt = stand_in()
    old, new, other = (
        small(tmp_path),
        small(tmp_path, seed=1, name="new"),
        small(tmp_path, "fp16", name="other"),
    )
    plan, fixed = tmp_path / "old.plan", tmp_path / "fixed.plan"
    built(old, plan, refit="1")
    built(old, fixed)

    def fails(artifact: Artifact, engine: Path, message: str) -> None:
        with pytest.raises(ArtifactError, match=message):
            built(artifact, tmp_path / "made.plan", refit_from=str(engine))
        assert not (tmp_path / "made.plan").exists()

    fails(new, fixed, "was not built to be refitted: build it with --set refit=1")
    fails(other, plan, r"other\.onnx differs from the file of the engine in more than its weights")
    for fault, message in (
        ("missing weights", r"gives no new values for 1 weights of the engine: conv\.weight"),
        ("refit_from_file", r"the weights of .*new\.onnx cannot be taken: no luck"),
        ("refit", "the engine does not take new weights: no luck"),
    ):
        trt.faults = {fault: "no luck"}
        fails(new, plan, message)


def test_rtx_needs_a_gpu_to_refit(stand_in: Stand, tmp_path: Path) -> None:
    stand_in(rtx=True, driver=False)
    artifact = small(tmp_path)
    plan = built(artifact, tmp_path / "small.plan", "trt-rtx")
    for settings in ({"refit": "1"}, {"refit_from": str(plan.path)}):
        with pytest.raises(
            RuntimeMissingError, match="runtime trt-rtx needs a GPU for this: no NVIDIA driver"
        ):
            built(artifact, tmp_path / "other.plan", "trt-rtx", **settings)
