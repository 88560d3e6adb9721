"""A stand-in for NVIDIA's driver library that keeps to its rules and notes who breaks them.

Work that is put on a stream is done when somebody waits for the stream, no sooner, so that a forgotten wait shows as
an old result. Calls from a thread that has no device fail as they do on a device. ``held()`` is what nobody freed,
``misused`` the functions that were given what does not exist, or no more.
"""

import ctypes
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

OUT_OF_MEMORY = 2
INVALID_CONTEXT = 201
INVALID_HANDLE = 400
NOT_READY = 600

_FIRST_ADDRESS = 0x7F00_0000_0000


class Function:
    """One function of the library, as ctypes gives it: its types can be declared."""

    def __init__(self, call: Callable[..., int]) -> None:
        self.call = call
        self.argtypes: Any = None
        self.restype: Any = None

    def __call__(self, *arguments: Any) -> int:
        if self.argtypes is not None:
            assert len(arguments) == len(self.argtypes)
        plain = (value.value if isinstance(value, ctypes._SimpleCData) else value for value in arguments)
        return self.call(*plain)


class FakeCuda:
    """Devices that share so much memory; a stream is of the one that its thread had when it was made."""

    def __init__(
        self,
        *,
        version: int = 13000,
        compute: tuple[int, int] = (8, 9),
        memory: int = 2**30,
        devices: int = 1,
        codes: dict[str, int] | None = None,
    ) -> None:
        """Take what is to be imitated.

        Args:
            version: Of the newest CUDA that is served, as the driver numbers it.
            compute: Compute capability.
            memory: Bytes of all devices together.
            devices: How many there are.
            codes: What named functions return instead of doing anything.
        """
        self.version, self.compute, self.total, self.codes = version, compute, memory, codes or {}
        self.devices = devices
        self.memory: dict[int, bytearray] = {}
        self.streams: dict[int, list[Callable[[], None]]] = {}
        self.recording: dict[int, list[Callable[[], None]]] = {}
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.contexts = 0
        self.owners: dict[int, int] = {}
        self.locked: dict[int, Any] = {}
        self.events: dict[int, float] = {}
        self.now_ms = 0.0
        self.calls: Counter[str] = Counter()
        self.misused: list[str] = []
        self._current = threading.local()
        self._lock = threading.RLock()
        self._next = _FIRST_ADDRESS
        self._functions: dict[str, Function] = {}

    def __getattr__(self, name: str) -> Function:
        if not name.startswith("cu"):
            raise AttributeError(name)
        if name not in self._functions:
            self._functions[name] = Function(lambda *arguments: self._guarded(name, arguments))
        return self._functions[name]

    def held(self) -> dict[str, int]:
        """How many of each kind were made and not freed."""
        found = {
            "memory": len(self.memory),
            "streams": len(self.streams),
            "graphs": len(self.graphs),
            "contexts": self.contexts,
            "page-locked": len(self.locked),
            "events": len(self.events),
        }
        return {kind: count for kind, count in found.items() if count}

    def enqueue(self, stream: int, work: Callable[[], None]) -> None:
        """What a library puts on a stream; each piece of work takes a millisecond."""

        def timed() -> None:
            work()
            self.now_ms += 1

        with self._lock:
            (self.recording[stream] if stream in self.recording else self.streams[stream]).append(timed)

    def has_device(self) -> bool:
        """Whether the calling thread has made a device its own."""
        return bool(self.current())

    def current(self) -> int:
        """The context that the calling thread has made its own; 0 for none."""
        return int(getattr(self._current, "context", 0) or 0)

    def is_here(self, stream: int) -> bool:
        """Whether a stream is one of the calling thread's device."""
        return stream in self.streams and self.owners[stream] == self.current()

    def _guarded(self, name: str, arguments: tuple[Any, ...]) -> int:
        free = ("cuInit", "cuDriver", "cuDevice", "cuCtx", "cuGetError")
        with self._lock:
            self.calls[name] += 1
            if name in self.codes:
                return self.codes[name]
            if not name.startswith(free) and not self.has_device():
                return INVALID_CONTEXT
            code = int(getattr(self, f"_{name}")(*arguments) or 0)
            if code == INVALID_HANDLE:
                self.misused.append(name)
            return code

    def _new(self, size: int = 1) -> int:
        self._next += (size + 511) // 512 * 512
        return self._next

    def _cuInit(self, flags: int) -> None:
        assert flags == 0

    def _cuDriverGetVersion(self, version: Any) -> None:
        version._obj.value = self.version

    def _cuDeviceGetCount(self, count: Any) -> None:
        count._obj.value = self.devices

    def _cuDeviceGet(self, device: Any, index: int) -> int:
        device._obj.value = 70 + index
        return 0 if index < self.devices else 101

    def _cuDeviceGetName(self, text: Any, size: int, device: int) -> None:
        text.value = b"Imaginary 4090"

    def _cuDeviceTotalMem_v2(self, size: Any, device: int) -> None:
        size._obj.value = self.total

    def _cuDeviceGetAttribute(self, value: Any, attribute: int, device: int) -> None:
        value._obj.value = self.compute[attribute - 75]

    def _cuDevicePrimaryCtxRetain(self, context: Any, device: int) -> None:
        self.contexts += 1
        context._obj.value = 0x1000 + device

    def _cuDevicePrimaryCtxRelease_v2(self, device: int) -> None:
        self.contexts -= 1

    def _cuCtxSetCurrent(self, context: int) -> int:
        if not self.contexts:
            return INVALID_CONTEXT
        self._current.context = context
        return 0

    def _cuCtxGetCurrent(self, context: Any) -> None:
        context._obj.value = self.current()

    def _cuMemAlloc_v2(self, address: Any, size: int) -> int:
        if sum(map(len, self.memory.values())) + size > self.total:
            return OUT_OF_MEMORY
        address._obj.value = self._new(size)
        self.memory[address._obj.value] = bytearray(size)
        return 0

    def _cuMemFree_v2(self, address: int) -> int:
        return 0 if self.memory.pop(address, None) is not None else INVALID_HANDLE

    def _cuMemGetInfo_v2(self, free: Any, total: Any) -> None:
        free._obj.value = self.total - sum(map(len, self.memory.values()))
        total._obj.value = self.total

    def _cuMemcpyHtoDAsync_v2(self, target: int, source: int, size: int, stream: int) -> int:
        if target not in self.memory or size > len(self.memory[target]) or not self.is_here(stream):
            return INVALID_HANDLE
        self.enqueue(stream, lambda: self._fill(target, ctypes.string_at(source, size)))
        return 0

    def _cuMemcpyDtoHAsync_v2(self, target: int, source: int, size: int, stream: int) -> int:
        if source not in self.memory or size > len(self.memory[source]) or not self.is_here(stream):
            return INVALID_HANDLE
        self.enqueue(stream, lambda: ctypes.memmove(target, bytes(self.memory[source][:size]), size))
        return 0

    def _fill(self, target: int, data: bytes) -> None:
        self.memory[target][: len(data)] = data

    def _cuStreamCreate(self, stream: Any, flags: int) -> None:
        assert flags == 1
        stream._obj.value = self._new()
        self.streams[stream._obj.value] = []
        self.owners[stream._obj.value] = self.current()

    def _cuStreamDestroy_v2(self, stream: int) -> int:
        return 0 if self.streams.pop(stream, None) is not None else INVALID_HANDLE

    def _cuStreamSynchronize(self, stream: int) -> int:
        if not self.is_here(stream) or stream in self.recording:
            return INVALID_HANDLE
        work, self.streams[stream] = self.streams[stream], []
        for each in work:
            each()
        return 0

    def _cuStreamBeginCapture_v2(self, stream: int, mode: int) -> int:
        if stream not in self.streams or stream in self.recording:
            return INVALID_HANDLE
        self.recording[stream] = []
        return 0

    def _cuStreamEndCapture(self, stream: int, graph: Any) -> int:
        if stream not in self.recording:
            return INVALID_HANDLE
        graph._obj.value = self._new()
        self.graphs[graph._obj.value] = self.recording.pop(stream)
        return 0

    def _cuGraphInstantiateWithFlags(self, ready: Any, graph: int, flags: int) -> None:
        ready._obj.value = self._new()
        self.graphs[ready._obj.value] = self.graphs[graph]

    def _cuGraphLaunch(self, ready: int, stream: int) -> int:
        if ready not in self.graphs or not self.is_here(stream):
            return INVALID_HANDLE
        self.streams[stream] += self.graphs[ready]
        return 0

    def _cuGraphDestroy(self, graph: int) -> int:
        return 0 if self.graphs.pop(graph, None) is not None else INVALID_HANDLE

    _cuGraphExecDestroy = _cuGraphDestroy

    def _cuMemAllocHost_v2(self, address: Any, size: int) -> None:
        buffer = ctypes.create_string_buffer(size)
        address._obj.value = ctypes.addressof(buffer)
        self.locked[address._obj.value] = buffer

    def _cuMemFreeHost(self, address: int) -> int:
        return 0 if self.locked.pop(address, None) is not None else INVALID_HANDLE

    def _cuEventCreate(self, event: Any, flags: int) -> None:
        assert flags == 0
        event._obj.value = self._new()
        self.events[event._obj.value] = -1.0

    def _cuEventRecord(self, event: int, stream: int) -> int:
        if event not in self.events or not self.is_here(stream):
            return INVALID_HANDLE
        # It notes the time when its turn comes, and takes none.
        self.streams[stream].append(lambda: self.events.update({event: self.now_ms}))
        self.events[event] = -1.0
        return 0

    def _cuEventElapsedTime(self, found: Any, first: int, last: int) -> int:
        if min(self.events.get(first, -1.0), self.events.get(last, -1.0)) < 0:
            return NOT_READY
        found._obj.value = self.events[last] - self.events[first]
        return 0

    def _cuEventDestroy_v2(self, event: int) -> int:
        return 0 if self.events.pop(event, None) is not None else INVALID_HANDLE

    def _cuGetErrorString(self, code: int, text: Any) -> None:
        text._obj.value = f"what {code} means".encode()
