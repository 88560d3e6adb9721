"""What NVIDIA's driver tells of a GPU (clock, temperature, power, memory), by its library alone.

The library lies beside the driver, so there is nothing to install, and asking it makes no context on the device.
"""

import ctypes
from dataclasses import dataclass
from typing import Any

_LIBRARY = "libnvidia-ml.so.1"
_DRIVER = "libcuda.so.1"
_MULTIPROCESSORS = 1  # NVML_CLOCK_SM
_CORE = 0  # NVML_TEMPERATURE_GPU
# nvmlClocksEventReasonSwThermalSlowdown and nvmlClocksEventReasonHwThermalSlowdown.
_THERMAL = 0x20 | 0x40
_ID_BYTES = 32


class _Memory(ctypes.Structure):
    """``nvmlMemory_t``, in bytes."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


@dataclass(frozen=True)
class State:
    """What a GPU says of itself; None where it does not."""

    mhz: float | None = None
    celsius: float | None = None
    watts: float | None = None
    throttled: float | None = None


class Gpu:
    """One device of NVML's."""

    def __init__(self, library: Any, handle: ctypes.c_void_p) -> None:
        """Take what ``find_gpu`` found."""
        self._library = library
        self._handle = handle

    def state(self) -> State:
        """As it is now."""
        milliwatts, reasons = self._number("nvmlDeviceGetPowerUsage"), self._reasons()
        return State(
            mhz=self._number("nvmlDeviceGetClockInfo", _MULTIPROCESSORS),
            celsius=self._number("nvmlDeviceGetTemperature", _CORE),
            watts=None if milliwatts is None else milliwatts / 1e3,
            throttled=None if reasons is None else float(bool(reasons & _THERMAL)),
        )

    def used_bytes(self) -> int | None:
        """Memory in use on the device, by everybody; None if it does not tell."""
        memory = _Memory()
        code = self._library.nvmlDeviceGetMemoryInfo(self._handle, ctypes.byref(memory))
        return None if code else int(memory.used)

    def _number(self, function: str, *arguments: int) -> float | None:
        value = ctypes.c_uint()
        code = getattr(self._library, function)(self._handle, *arguments, ctypes.byref(value))
        return None if code else float(value.value)

    def _reasons(self) -> int | None:
        """Why clocks are as low as they are, as bits."""
        value = ctypes.c_ulonglong()
        # The name that drivers of all ages know; newer ones have another for the same.
        code = self._library.nvmlDeviceGetCurrentClocksThrottleReasons(self._handle, ctypes.byref(value))
        return None if code else int(value.value)


def find_gpu(index: int) -> Gpu | None:
    """The GPU of a number in CUDA's order, which is not NVML's; None without a driver or such a device."""
    try:
        library, driver = ctypes.CDLL(_LIBRARY), ctypes.CDLL(_DRIVER)
        return _find(library, driver, index)
    except (OSError, AttributeError):
        return None


def _find(library: Any, driver: Any, index: int) -> Gpu | None:
    device, place, handle = ctypes.c_int(), ctypes.create_string_buffer(_ID_BYTES), ctypes.c_void_p()
    steps = (
        lambda: driver.cuInit(0),
        lambda: driver.cuDeviceGet(ctypes.byref(device), index),
        lambda: driver.cuDeviceGetPCIBusId(place, _ID_BYTES, device),
        library.nvmlInit_v2,
        lambda: library.nvmlDeviceGetHandleByPciBusId_v2(place, ctypes.byref(handle)),
    )
    return None if any(step() for step in steps) else Gpu(library, handle)
