"""What the NVIDIA driver says, over a stand-in for its library; every way in which there is none is a line."""

import ctypes
import re
from collections.abc import Callable
from typing import Any

import pytest

from cnnport.runtimes import driver as module
from cnnport.runtimes.driver import Device, Driver, driver

H100 = Device(0, "NVIDIA H100 80GB HBM3", (9, 0), 85_045_018_624)
T4 = Device(1, "Tesla T4", (7, 5), 15_642_263_552)


class Library:
    """As ctypes would give it: arguments by reference hold the object that they point to."""

    def __init__(self, devices: tuple[Device, ...] = (H100, T4), codes: dict[str, int] | None = None) -> None:
        self._devices = devices
        self._codes = codes or {}

    def __getattr__(self, name: str) -> Callable[..., int]:
        if self._codes.get(name, 0) < 0:
            raise AttributeError(name)

        def call(*arguments: Any) -> int:
            if code := self._codes.get(name):
                return code
            getattr(self, f"_{name}")(*arguments)
            return 0

        return call

    def _cuInit(self, flags: ctypes.c_uint) -> None:
        assert flags.value == 0

    def _cuDriverGetVersion(self, version: Any) -> None:
        version._obj.value = 12080

    def _cuDeviceGetCount(self, count: Any) -> None:
        count._obj.value = len(self._devices)

    def _cuDeviceGet(self, handle: Any, index: ctypes.c_int) -> None:
        handle._obj.value = 70 + index.value

    def _cuDeviceGetName(self, text: Any, size: ctypes.c_int, handle: ctypes.c_int) -> None:
        assert size.value == len(text)
        text.value = self._devices[handle.value - 70].name.encode()

    def _cuDeviceTotalMem_v2(self, memory: Any, handle: ctypes.c_int) -> None:
        assert isinstance(memory._obj, ctypes.c_size_t)
        memory._obj.value = self._devices[handle.value - 70].memory_bytes

    def _cuDeviceGetAttribute(self, value: Any, attribute: ctypes.c_int, handle: ctypes.c_int) -> None:
        value._obj.value = self._devices[handle.value - 70].compute[{75: 0, 76: 1}[attribute.value]]

    def _cuGetErrorString(self, code: ctypes.c_int, text: Any) -> None:
        text._obj.value = f"what {code.value} means".encode()


def said(monkeypatch: pytest.MonkeyPatch, library: Library) -> Driver | str:
    monkeypatch.setattr(module, "_load", lambda: library)
    return driver()


def test_a_driver_states_its_version_and_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    found = said(monkeypatch, Library())
    assert found == Driver((12, 8), (H100, T4))
    assert str(found) == ("0: NVIDIA H100 80GB HBM3 (79 GiB, compute 9.0); 1: Tesla T4 (15 GiB, compute 7.5)")


def test_an_older_driver_does_not_serve_a_newer_cuda() -> None:
    found = Driver((12, 8), (H100, T4))
    assert "serves CUDA 12.8 at most, and this needs CUDA 13" in str(found.too_old_for("13.0"))
    # Any version of the same major, an older one, and one that is not stated.
    assert [found.too_old_for(cuda) for cuda in ("12.9", "11.8", "")] == [None] * 3


def test_devices_that_are_not_there_are_named() -> None:
    found = Driver((13, 0), (H100, T4))
    assert found.lacks(1) is None
    assert found.lacks(2) == "there is no GPU number 2: 0 is NVIDIA H100 80GB HBM3, 1 is Tesla T4"


@pytest.mark.parametrize(
    ("library", "reason"),
    [
        (Library(codes={"cuInit": 100}), "sees no GPU"),
        (Library(devices=()), "sees no GPU"),
        (Library(codes={"cuInit": 34}), "is CUDA's stub"),
        (Library(codes={"cuInit": 803}), r"fails in cuInit: what 803 means \(error 803\)"),
        (Library(codes={"cuDeviceTotalMem_v2": 999}), "fails in cuDeviceTotalMem_v2: what 999 means"),
        (Library(codes={"cuInit": -1}), "not a library of NVIDIA's driver"),
    ],
)
def test_a_driver_that_cannot_be_used_says_why(
    monkeypatch: pytest.MonkeyPatch, library: Library, reason: str
) -> None:
    found = said(monkeypatch, library)
    assert isinstance(found, str)
    assert "\n" not in found
    assert re.search(reason, found)


def test_no_driver_at_all_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> ctypes.CDLL:
        return ctypes.CDLL("libcuda-that-nobody-has.so.1")

    monkeypatch.setattr(module, "_load", missing)
    assert "no NVIDIA driver" in str(driver())
