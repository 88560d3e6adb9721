"""The table of runtimes: one line each."""

from collections.abc import Iterable, Sequence

from cnnport.errors import RuntimeMissingError, UnknownNameError
from cnnport.registry import nearest
from cnnport.runtimes.eager import TorchCudaRuntime, TorchRuntime
from cnnport.runtimes.null import NullRuntime
from cnnport.runtimes.openvino import OpenVinoRuntime
from cnnport.runtimes.ort import OrtCpuRuntime
from cnnport.runtimes.ort_cuda import OrtCudaRuntime
from cnnport.runtimes.protocol import Runtime
from cnnport.runtimes.settings import parse_settings, settle
from cnnport.runtimes.trt import TensorRtRuntime

RUNTIMES: dict[str, Runtime] = {
    "torch-cpu": TorchRuntime(),
    "torch-cuda": TorchCudaRuntime(),
    "ort-cpu": OrtCpuRuntime(),
    "ort-cuda": OrtCudaRuntime(),
    "trt": TensorRtRuntime.trt(),
    "trt-rtx": TensorRtRuntime.rtx(),
    "openvino": OpenVinoRuntime(),
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


def settings_for(names: Sequence[str], texts: Iterable[str]) -> dict[str, dict[str, str]]:
    """What ``--set`` means for each of some runtimes.

    Args:
        names: Of the runtimes in use.
        texts: ``NAME=VALUE`` for all of them that have the setting, or ``RUNTIME.NAME=VALUE`` for one.

    Raises:
        CnnportError: If a text has another form, a runtime is not in use, or a value is none that a setting takes.
        UnknownNameError: If no runtime in use has such a setting.
    """
    found: dict[str, dict[str, str]] = {name: {} for name in names}
    for key, value in parse_settings(texts).items():
        owner, dot, own = key.rpartition(".")
        if dot and owner not in found:
            raise UnknownNameError(f"--set {key}: runtime {owner} is not in use: it is {', '.join(names)}")
        takers = [owner] if dot else [name for name in names if own in _declared(name)]
        # Nobody has it: the first one says what there is.
        for name in takers or names[:1]:
            found[name] |= {own: settle(name, get_runtime(name).settings, {own: value}).text(own)}
    return found


def _declared(name: str) -> set[str]:
    return {setting.name for setting in get_runtime(name).settings}


def available() -> tuple[str, ...]:
    """Names of the runtimes that can be used here."""
    return tuple(
        name for name, runtime in RUNTIMES.items() if name not in _ON_REQUEST and not runtime.missing()
    )
