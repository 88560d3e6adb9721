"""Memory, streams and recorded runs on one GPU, by the driver's own library alone.

TensorRT's packages bring no Python binding of CUDA. What the adapter needs is a dozen functions of the driver API,
which is the one part of CUDA that is there wherever a GPU can be used at all; a stream of the driver's is one of the
runtime's. The device's primary context is the one that TensorRT and PyTorch use too.

Names and types are those of ``cuda.h`` (13.5); the ``_v2`` are what its macros call the same functions.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from cnnport.errors import CnnportError
from cnnport.runtimes.protocol import Array

_LIBRARY = "libcuda.so.1"
_OUT_OF_MEMORY = 2
_NON_BLOCKING_STREAM = 1
# What other threads do on the device does not spoil a recording, and does not enter it.
_RECORD_THIS_THREAD = 1

_POINTER = ctypes.c_void_p
_ADDRESS = ctypes.c_uint64
_SIZE = ctypes.c_size_t

SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuInit": (ctypes.c_uint,),
    "cuDeviceGet": (ctypes.POINTER(ctypes.c_int), ctypes.c_int),
    "cuDevicePrimaryCtxRetain": (ctypes.POINTER(_POINTER), ctypes.c_int),
    "cuDevicePrimaryCtxRelease_v2": (ctypes.c_int,),
    "cuCtxSetCurrent": (_POINTER,),
    "cuCtxGetCurrent": (ctypes.POINTER(_POINTER),),
    "cuMemAlloc_v2": (ctypes.POINTER(_ADDRESS), _SIZE),
    "cuMemFree_v2": (_ADDRESS,),
    "cuMemGetInfo_v2": (ctypes.POINTER(_SIZE), ctypes.POINTER(_SIZE)),
    "cuMemcpyHtoDAsync_v2": (_ADDRESS, _POINTER, _SIZE, _POINTER),
    "cuMemcpyDtoHAsync_v2": (_POINTER, _ADDRESS, _SIZE, _POINTER),
    "cuStreamCreate": (ctypes.POINTER(_POINTER), ctypes.c_uint),
    "cuStreamDestroy_v2": (_POINTER,),
    "cuStreamSynchronize": (_POINTER,),
    "cuStreamBeginCapture_v2": (_POINTER, ctypes.c_int),
    "cuStreamEndCapture": (_POINTER, ctypes.POINTER(_POINTER)),
    "cuGraphInstantiateWithFlags": (ctypes.POINTER(_POINTER), _POINTER, ctypes.c_ulonglong),
    "cuGraphLaunch": (_POINTER, _POINTER),
    "cuGraphDestroy": (_POINTER,),
    "cuGraphExecDestroy": (_POINTER,),
    "cuMemAllocHost_v2": (ctypes.POINTER(_POINTER), _SIZE),
    "cuMemFreeHost": (_POINTER,),
    "cuEventCreate": (ctypes.POINTER(_POINTER), ctypes.c_uint),
    "cuEventRecord": (_POINTER, _POINTER),
    # The newest header calls another one of the same meaning, which drivers before 12.8 do not have.
    "cuEventElapsedTime": (ctypes.POINTER(ctypes.c_float), _POINTER, _POINTER),
    "cuEventDestroy_v2": (_POINTER,),
    "cuGetErrorString": (ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)),
}
"""Of the functions that are called: their parameters. All return a ``CUresult``, 0 for success."""


class CudaError(CnnportError):
    """The driver refused a call."""


class Gpu:
    """One device, by its primary context, until it is closed.

    What frees raises nothing: it fails only where a call before it has failed, and told why.
    """

    def __init__(self, index: int) -> None:
        """Take hold of the device of a number, in the driver's order. Raises ``CudaError`` if there is none."""
        self.index = index
        self._driver = _declared(_load())
        self._device = ctypes.c_int()
        self._context = _POINTER()
        self._call("cuInit", 0)
        self._call("cuDeviceGet", ctypes.byref(self._device), index)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._device)
        self._choose = self._driver.cuCtxSetCurrent
        self._open = True
        self.use()

    def use(self) -> None:
        """Make this device that of the calling thread; a thread has to before it calls TensorRT.

        It is less than a microsecond, and whatever else runs in the thread may have chosen another one meanwhile.
        """
        code = self._choose(self._context)
        if code:
            self._check("cuCtxSetCurrent", code)

    @contextmanager
    def borrowed(self) -> Iterator[None]:
        """This device for the calling thread while the block lasts, and then the one that it had before."""
        before = _POINTER()
        self._driver.cuCtxGetCurrent(ctypes.byref(before))
        # Where that fails, so does what follows, and was told.
        self._choose(self._context)
        try:
            yield
        finally:
            self._choose(before)

    def allocate(self, size: int) -> int:
        """The address of so many bytes on the device. Raises ``CudaError`` if there is no room."""
        address = _ADDRESS()
        code = self._driver.cuMemAlloc_v2(ctypes.byref(address), max(size, 1))
        if code == _OUT_OF_MEMORY:
            free, total = _SIZE(), _SIZE()
            self._call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
            raise CudaError(
                f"out of memory on GPU {self.index}: {size / 2**20:.0f} MiB are needed, "
                f"{free.value / 2**20:.0f} of {total.value / 2**20:.0f} MiB are free: try a smaller batch"
            )
        self._check("cuMemAlloc_v2", code)
        return int(address.value)

    def free(self, address: int) -> None:
        """Give memory back."""
        self._driver.cuMemFree_v2(address)

    def stream(self) -> int:
        """A new stream that waits for no other."""
        stream = _POINTER()
        self._call("cuStreamCreate", ctypes.byref(stream), _NON_BLOCKING_STREAM)
        return int(stream.value or 0)

    def end_stream(self, stream: int) -> None:
        """Free a stream."""
        self._driver.cuStreamDestroy_v2(stream)

    def wait(self, stream: int) -> None:
        """Return when all that was started on a stream has finished. Raises ``CudaError`` if it failed."""
        code = self._driver.cuStreamSynchronize(stream)
        if code:
            self._check("cuStreamSynchronize", code)

    def to_device(self, address: int, array: Array, stream: int) -> None:
        """Copy a contiguous array; returns when the array may be changed again."""
        self._call("cuMemcpyHtoDAsync_v2", address, array.ctypes.data, array.nbytes, stream)
        self.wait(stream)

    def to_host(self, address: int, shape: tuple[int, ...], dtype: str, stream: int) -> Array:
        """A copy of what lies at an address, behind all that was started on the stream."""
        array = np.empty(shape, dtype)
        self._call("cuMemcpyDtoHAsync_v2", array.ctypes.data, address, array.nbytes, stream)
        self.wait(stream)
        return array

    def page_locked(self, size: int) -> int:
        """The address of so many bytes of the host's memory from which the device copies by itself."""
        address = _POINTER()
        self._call("cuMemAllocHost_v2", ctypes.byref(address), max(size, 1))
        return int(address.value or 0)

    def free_page_locked(self, address: int) -> None:
        """Give such memory back."""
        self._driver.cuMemFreeHost(address)

    def copy_in(self, address: int, locked: int, size: int, stream: int) -> None:
        """Start a copy from page-locked memory to the device."""
        self._call("cuMemcpyHtoDAsync_v2", address, locked, size, stream)

    def copy_out(self, locked: int, address: int, size: int, stream: int) -> None:
        """Start a copy from the device to page-locked memory."""
        self._call("cuMemcpyDtoHAsync_v2", locked, address, size, stream)

    def event(self) -> int:
        """A new event, which notes the time."""
        event = _POINTER()
        self._call("cuEventCreate", ctypes.byref(event), 0)
        return int(event.value or 0)

    def record(self, event: int, stream: int) -> None:
        """Have an event note the time at which the device has done all that was started on a stream."""
        code = self._driver.cuEventRecord(event, stream)
        if code:
            self._check("cuEventRecord", code)

    def milliseconds(self, first: int, last: int) -> float:
        """Between two events that have come to pass."""
        found = ctypes.c_float()
        self._call("cuEventElapsedTime", ctypes.byref(found), first, last)
        return float(found.value)

    def end_event(self, event: int) -> None:
        """Free an event."""
        self._driver.cuEventDestroy_v2(event)

    def begin_recording(self, stream: int) -> None:
        """From now on what this thread starts on the stream is recorded and not run."""
        self._call("cuStreamBeginCapture_v2", stream, _RECORD_THIS_THREAD)

    def end_recording(self, stream: int) -> int:
        """Stop recording.

        Returns:
            What was recorded, ready to be replayed.

        Raises:
            CudaError: If something was started that cannot be recorded.
        """
        graph, ready = _POINTER(), _POINTER()
        self._call("cuStreamEndCapture", stream, ctypes.byref(graph))
        try:
            self._call("cuGraphInstantiateWithFlags", ctypes.byref(ready), graph, 0)
        finally:
            self._call("cuGraphDestroy", graph)
        return int(ready.value or 0)

    def replay(self, recorded: int, stream: int) -> None:
        """Start what was recorded."""
        code = self._driver.cuGraphLaunch(recorded, stream)
        if code:
            self._check("cuGraphLaunch", code)

    def end_replay(self, recorded: int) -> None:
        """Free what was recorded."""
        self._driver.cuGraphExecDestroy(recorded)

    def close(self) -> None:
        """Let go of the device; a second call does nothing. Memory and streams have to be freed before."""
        if self._open:
            self._open = False
            self._driver.cuDevicePrimaryCtxRelease_v2(self._device)

    def _call(self, function: str, *arguments: object) -> None:
        self._check(function, getattr(self._driver, function)(*arguments))

    def _check(self, function: str, code: int) -> None:
        if code:
            said = ctypes.c_char_p()
            self._driver.cuGetErrorString(code, ctypes.byref(said))
            text = (said.value or b"unknown error").decode(errors="replace")
            raise CudaError(f"GPU {self.index} fails in {function}: {text} (error {code})")


def _load() -> Any:
    return ctypes.CDLL(_LIBRARY)


def _declared(library: Any) -> Any:
    """The library with the types of its functions, without which addresses would be cut to 32 bits."""
    for name, parameters in SIGNATURES.items():
        function = getattr(library, name)
        function.argtypes = parameters
        function.restype = ctypes.c_int
    return library
