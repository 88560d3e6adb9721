"""Every attribute of TensorRT that the adapter uses exists in each release that is served.

What the adapter uses is ``CONTRACT``, which the type checker holds it to; what releases have lies in
``tests/data/tensorrt_api.json``, read from their bindings by ``tests/tensorrt_api.py``.
"""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from cnnport.runtimes.trt.api import CONTRACT
from fake_cuda import FakeCuda
from fake_tensorrt import Builder, Config, Context, Engine, FakeTensorRt, Parser, Runtime
from tensorrt_api import RELEASES

RECORDED = json.loads((Path(__file__).parent / "data" / "tensorrt_api.json").read_text())["releases"]
GONE_IN_11 = {"BuilderFlag": "FP16", "IBuilderConfig": "int8_calibrator", "ICudaEngine": "device_memory_size"}


def absent(contract: dict[str, set[str]], release: dict[str, list[str]]) -> dict[str, set[str]]:
    """What a release lacks, by class."""
    found = {name: used - set(release.get(name, ())) for name, used in contract.items()}
    return {name: lacking for name, lacking in found.items() if lacking}


def contract_of(release: str) -> dict[str, set[str]]:
    return CONTRACT["tensorrt_rtx" if "rtx" in release else "tensorrt"]


def test_every_release_that_is_served_was_read() -> None:
    assert list(RECORDED) == [f"{package}=={version}" for package, version in RELEASES]
    assert {name.split("==")[1].split(".")[0] for name in RECORDED} == {"1", "10", "11"}


@pytest.mark.parametrize("release", list(RECORDED))
def test_a_release_has_all_that_is_used(release: str) -> None:
    contract = contract_of(release)
    assert sum(map(len, contract.values())) > 60
    assert absent(contract, RECORDED[release]) == {}


@pytest.mark.parametrize(("kind", "member"), GONE_IN_11.items())
def test_what_went_away_with_11_would_be_found(kind: str, member: str) -> None:
    planted = {**CONTRACT["tensorrt"], kind: CONTRACT["tensorrt"][kind] | {member}}
    for release, has in RECORDED.items():
        if "rtx" not in release:
            gone = release.split("==")[1].startswith("11")
            assert absent(planted, has) == ({kind: {member}} if gone else {})


def test_what_rtx_alone_has_is_not_asked_of_tensorrt() -> None:
    release = next(name for name in RECORDED if "==11.4" in name)
    assert "IRuntimeCache" in absent(CONTRACT["tensorrt_rtx"], RECORDED[release])


@pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")
def test_the_installed_package_has_all_that_is_used() -> None:
    import tensorrt_rtx

    installed = {name: dir(getattr(tensorrt_rtx, name)) for name in CONTRACT["tensorrt_rtx"]}
    assert absent(CONTRACT["tensorrt_rtx"], installed) == {}


def test_the_stand_in_offers_nothing_that_tensorrt_does_not_have() -> None:
    """A test that passes by an invented method would prove nothing."""
    release = RECORDED["tensorrt_rtx_cu13_bindings==1.7.1.116"]
    own = {
        "trt",
        "logger",
        "device",
        "data",
        "engine",
        "facts",
        "runtime",
        "take",
        "ends",
        "file",
        "model",
        "session",
        "runs",
    }
    own |= {
        "network",
        "errors",
        "flags",
        "profiles",
        "timing",
        "config",
        "profile",
        "shapes",
        "addresses",
        "inferred",
    }
    for fake, name in (
        (Builder, "Builder"),
        (Config, "IBuilderConfig"),
        (Parser, "OnnxParser"),
        (Runtime, "Runtime"),
        (Engine, "ICudaEngine"),
        (Context, "IExecutionContext"),
    ):
        offered = {member for member in vars(fake) if not member.startswith("_")} - own
        assert offered <= set(release[name]), name
    trt = FakeTensorRt(FakeCuda(), rtx=True)
    for name in ("BuilderFlag", "ComputeCapability", "CudaGraphStrategy", "HardwareCompatibilityLevel"):
        assert set(getattr(trt, name).__members__) <= set(release[name])
