"""What the NVIDIA driver says: asked through its own library, before anything that would crash without it.

Without a driver some of the packages that need one return broken objects or end the process, so every runtime on a
GPU asks here first. Only ``libcuda`` is loaded: neither CUDA's runtime nor any package.
"""

import ctypes
from dataclasses import dataclass

_LIBRARY = "libcuda.so.1"
_INSTALL = "install it from nvidia.com/drivers, and see that nvidia-smi lists the GPU"

# Of the driver API's enumerations CUresult and CUdevice_attribute.
_STUB_LIBRARY = 34
_NO_DEVICE = 100
_COMPUTE_MAJOR, _COMPUTE_MINOR = 75, 76

_NAME_BYTES = 256


@dataclass(frozen=True)
class Device:
    """One GPU as the driver counts them; ``CUDA_VISIBLE_DEVICES`` has chosen and ordered them.

    Attributes:
        index: From 0.
        name: As the driver calls it.
        compute: Compute capability, major and minor.
        memory_bytes: Of the device, in use or not.
    """

    index: int
    name: str
    compute: tuple[int, int]
    memory_bytes: int

    def __str__(self) -> str:
        """Name, memory and compute capability: ``NVIDIA H100 80GB HBM3 (79 GiB, compute 9.0)``."""
        return (
            f"{self.name} ({self.memory_bytes / 2**30:.0f} GiB, compute {self.compute[0]}.{self.compute[1]})"
        )


@dataclass(frozen=True)
class Driver:
    """A driver that answers and has at least one device.

    Attributes:
        version: The newest CUDA that it serves, major and minor; it serves all of the same major and older ones.
        devices: In the driver's order.
    """

    version: tuple[int, int]
    devices: tuple[Device, ...]

    def __str__(self) -> str:
        """The devices; numbered where there are several."""
        if len(self.devices) == 1:
            return str(self.devices[0])
        return "; ".join(f"{device.index}: {device}" for device in self.devices)

    def too_old_for(self, cuda: str) -> str | None:
        """Why a package built for a version of CUDA, such as ``13.0``, cannot use this driver; None if it can."""
        major = cuda.partition(".")[0]
        if not major.isdecimal() or self.version[0] >= int(major):
            return None
        own = ".".join(map(str, self.version))
        return f"the NVIDIA driver serves CUDA {own} at most, and this needs CUDA {major}: install a newer driver"

    def lacks(self, index: int) -> str | None:
        """That there is no device of that number, and which there are; None if there is one."""
        if index < len(self.devices):
            return None
        listing = ", ".join(f"{device.index} is {device.name}" for device in self.devices)
        return f"there is no GPU number {index}: {listing}"


def driver() -> Driver | str:
    """The driver and its devices, or in one line why there is none that can be used and what would change that."""
    try:
        library = _load()
    except OSError:
        return f"no NVIDIA driver ({_LIBRARY} is not found): {_INSTALL}"
    try:
        return _read(library)
    except _DriverError as error:
        return str(error)
    except AttributeError:
        return f"{_LIBRARY} is not a library of NVIDIA's driver as it should be: {_INSTALL}"


class _DriverError(Exception):
    """A call into the driver failed."""


def _load() -> ctypes.CDLL:
    return ctypes.CDLL(_LIBRARY)


def _read(library: ctypes.CDLL) -> Driver:
    version, count = ctypes.c_int(), ctypes.c_int()
    _call(library, "cuInit", ctypes.c_uint(0))
    _call(library, "cuDriverGetVersion", ctypes.byref(version))
    _call(library, "cuDeviceGetCount", ctypes.byref(count))
    if count.value == 0:
        raise _DriverError(_no_device())
    devices = tuple(_device(library, index) for index in range(count.value))
    return Driver((version.value // 1000, version.value % 1000 // 10), devices)


def _device(library: ctypes.CDLL, index: int) -> Device:
    handle, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    memory = ctypes.c_size_t()
    name = ctypes.create_string_buffer(_NAME_BYTES)
    _call(library, "cuDeviceGet", ctypes.byref(handle), ctypes.c_int(index))
    _call(library, "cuDeviceGetName", name, ctypes.c_int(_NAME_BYTES), handle)
    _call(library, "cuDeviceTotalMem_v2", ctypes.byref(memory), handle)
    for value, attribute in ((major, _COMPUTE_MAJOR), (minor, _COMPUTE_MINOR)):
        _call(library, "cuDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(attribute), handle)
    text = name.value.decode(errors="replace")
    return Device(index, text, (major.value, minor.value), memory.value)


def _call(library: ctypes.CDLL, function: str, *arguments: object) -> None:
    """Call a function of the driver. Raises ``_DriverError`` if it fails."""
    code = getattr(library, function)(*arguments)
    if code == 0:
        return
    if code == _NO_DEVICE:
        raise _DriverError(_no_device())
    if code == _STUB_LIBRARY:
        raise _DriverError(f"{_LIBRARY} is CUDA's stub and no driver: {_INSTALL}")
    said = ctypes.c_char_p()
    library.cuGetErrorString(ctypes.c_int(code), ctypes.byref(said))
    text = (said.value or b"unknown error").decode(errors="replace")
    raise _DriverError(
        f"the NVIDIA driver fails in {function}: {text} (error {code}); nvidia-smi may say more"
    )


def _no_device() -> str:
    return "the NVIDIA driver sees no GPU: attach one, or let CUDA_VISIBLE_DEVICES and the container name it"
