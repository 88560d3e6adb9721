"""Why TensorRT cannot be used here: no package, no driver, one that is too old, a package that is broken."""

import sys
from collections.abc import Callable
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from cnnport.errors import RuntimeMissingError
from cnnport.runtimes import Options, get_runtime
from cnnport.runtimes.build import Builds
from cnnport.runtimes.trt import package as module
from fake_cuda import FakeCuda
from fake_tensorrt import FakeTensorRt, stand_in
from trt_files import small

__all__ = ["stand_in"]

Stand = Callable[..., FakeTensorRt]


@pytest.fixture
def distributions(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """State what pip has installed."""

    def state(*names: str) -> None:
        def version(name: str) -> str:
            if name in names:
                return "1.0"
            raise metadata.PackageNotFoundError(name)

        monkeypatch.setattr(module.metadata, "version", version)

    state()
    return state


def test_here_it_can_be_used(stand_in: Stand, distributions: Callable[..., None]) -> None:
    stand_in()
    assert get_runtime("trt").missing() is None
    assert get_runtime("trt").version() == "tensorrt 11.4.0.106"
    assert "Imaginary 4090 (1 GiB, compute 8.9)" in get_runtime("trt").device()


@pytest.mark.parametrize(("name", "extra"), [("trt", "trt"), ("trt-rtx", "trt-check")])
def test_no_package(
    stand_in: Stand,
    distributions: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    extra: str,
) -> None:
    stand_in()
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    monkeypatch.setattr("cnnport.runtimes.trt.adapter.find_spec", lambda name: None)
    missing = f"is not installed: pip install 'cnnport[{extra}]'"
    assert str(get_runtime(name).missing()).endswith(missing)
    # Who lacks both need not find out one after the other.
    stand_in(driver=False)
    assert f"{missing}; and no NVIDIA driver" in str(get_runtime(name).missing())


def test_no_driver(stand_in: Stand, distributions: Callable[..., None], tmp_path: Path) -> None:
    """Nothing of TensorRT is touched without one: parts of it would end the process."""
    trt = stand_in(driver=False)
    for call in (
        lambda: get_runtime("trt").open(small(tmp_path), Options()),
        lambda: get_runtime("trt").placement(small(tmp_path), Options()),
        get_runtime("trt").version,
        get_runtime("trt").device,
    ):
        with pytest.raises(
            RuntimeMissingError, match="runtime trt is not available: no NVIDIA driver"
        ) as caught:
            call()
        assert caught.value.exit_code == 3
    assert trt.calls == []


def test_an_old_driver(stand_in: Stand, distributions: Callable[..., None]) -> None:
    distributions("tensorrt-cu13")
    stand_in(FakeCuda(version=12080))
    assert "serves CUDA 12.8 at most, and this needs CUDA 13" in str(get_runtime("trt").missing())
    distributions("tensorrt-cu12")
    assert get_runtime("trt").missing() is None


def test_an_old_package(stand_in: Stand, distributions: Callable[..., None]) -> None:
    stand_in(version="10.11.0.33")
    assert get_runtime("trt").missing() == (
        "tensorrt 10.11.0.33 is too old, 10.12 is the oldest served: pip install 'cnnport[trt]' --upgrade"
    )


def test_a_broken_package(
    stand_in: Stand, distributions: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stand_in()
    distributions("tensorrt-cu13")
    folder = tmp_path / "tensorrt"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "raise ImportError('libnvinfer.so.11: cannot open shared object file')"
    )
    monkeypatch.delitem(sys.modules, "tensorrt")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert get_runtime("trt").missing() == (
        "tensorrt does not import (libnvinfer.so.11: cannot open shared object file): "
        "pip install --force-reinstall tensorrt-cu13"
    )


def test_a_package_that_is_no_package(
    stand_in: Stand, distributions: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder called tensorrt in the current folder is what Python imports then."""
    stand_in()
    empty = type(sys)("tensorrt")
    empty.__spec__ = ModuleSpec("tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt", empty)
    assert "tensorrt does not import (module 'tensorrt' has no attribute '__version__')" in str(
        get_runtime("trt").missing()
    )


def test_a_gpu_that_is_not_served(
    stand_in: Stand, distributions: Callable[..., None], tmp_path: Path
) -> None:
    hopper = FakeCuda(compute=(9, 0))
    stand_in(hopper, rtx=True)
    assert "TensorRT-RTX does not serve compute capability 9.0 (Imaginary 4090): take --runtime trt" in str(
        get_runtime("trt-rtx").missing()
    )
    stand_in(hopper)
    assert get_runtime("trt").missing() is None
    stand_in(FakeCuda(compute=(7, 0)))
    assert "TensorRT does not serve compute capability 7.0" in str(get_runtime("trt").missing())


def test_rtx_builds_without_a_gpu_and_tensorrt_does_not(
    stand_in: Stand, distributions: Callable[..., None], tmp_path: Path
) -> None:
    stand_in(driver=False)
    trt = stand_in(rtx=True, driver=False)
    one, other = get_runtime("trt"), get_runtime("trt-rtx")
    assert isinstance(one, Builds)
    assert isinstance(other, Builds)
    assert "no NVIDIA driver" in str(one.cannot_build())
    with pytest.raises(RuntimeMissingError, match="runtime trt cannot build here: no NVIDIA driver"):
        one.check(small(tmp_path), Options())
    assert other.cannot_build() is None
    assert other.check(small(tmp_path), Options(settings={"compute_capability": "8.9,12.0"})).ok
    assert [call for call in trt.calls if call.startswith("set_compute")] == [
        "set_compute_capability SM89",
        "set_compute_capability SM120",
    ]
