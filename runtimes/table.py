"""The table of runtimes: one line each."""

from cnnport.errors import RuntimeMissingError, UnknownNameError
from cnnport.registry import nearest
from cnnport.runtimes.awaited import AwaitedRuntime
from cnnport.runtimes.eager import TorchRuntime
from cnnport.runtimes.null import NullRuntime
from cnnport.runtimes.ort import OrtCpuRuntime
from cnnport.runtimes.protocol import Runtime

RUNTIMES: dict[str, Runtime] = {
    "torch-cpu": TorchRuntime(),
    "torch-cuda": AwaitedRuntime("torch-cuda"),
    "ort-cpu": OrtCpuRuntime(),
    "ort-cuda": AwaitedRuntime("ort-cuda"),
    "trt": AwaitedRuntime("trt"),
    "trt-rtx": AwaitedRuntime("trt-rtx"),
    "openvino": AwaitedRuntime("openvino"),
    "null": NullRuntime(),
}

# The null runtime computes nothing: it is never taken unless it is asked for by name.
_ON_REQUEST = {"null"}


def get_runtime(name: str) -> Runtime:
    """Find a runtime by name, whether or not it is available here.

    Raises:
        UnknownNameError: With the nearest names.
    """
    if name not in RUNTIMES:
        advice = nearest(name, RUNTIMES, "cnnport doctor").replace("_", "-")
        raise UnknownNameError(f"no runtime is called {name!r}: {advice}")
    return RUNTIMES[name]


def require_runtime(name: str) -> Runtime:
    """Find a runtime that can be used here.

    Raises:
        UnknownNameError: If there is none of that name.
        RuntimeMissingError: If it is not available here, with the reason.
    """
    runtime = get_runtime(name)
    if reason := runtime.missing():
        raise RuntimeMissingError(f"runtime {name} is not available: {reason}")
    return runtime


def available() -> tuple[str, ...]:
    """Names of the runtimes that can be used here."""
    return tuple(
        name for name, runtime in RUNTIMES.items() if name not in _ON_REQUEST and not runtime.missing()
    )
