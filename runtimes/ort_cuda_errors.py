"""What onnxruntime says when a GPU, CUDA or cuDNN lets it down, as errors that say what to do."""

import re
from pathlib import Path

from cnnport.errors import CnnportError, FeedError, RuntimeMissingError
from cnnport.runtimes.ort import cuda_failure, reason_of

# How onnxruntime's allocator, CUDA and its libraries put it that memory ran out.
_OUT_OF_MEMORY = re.compile(
    r"Available memory of \d+ is smaller than requested bytes of \d+|Failed to allocate memory[^\n]*"
    r"|CUDA failure 2: out of memory|out of memory|\w+_ALLOC_FAILED"
)


def error_of_load(runtime: str, error: Exception, device: int) -> CnnportError | None:
    """What stands for an error of loading that is the device's and not the file's; None for every other."""
    if found := _memory(error, device) or _cudnn(error, device):
        return found
    if (said := cuda_failure(error)) is None:
        return None
    return RuntimeMissingError(f"runtime {runtime}: GPU {device} cannot be used ({said}): see nvidia-smi")


def error_of_run(error: Exception, device: int) -> CnnportError:
    """What stands for an error of a run: ``FeedError`` where neither memory nor cuDNN is the cause."""
    if found := _memory(error, device) or _cudnn(error, device):
        return found
    return FeedError(f"onnxruntime cannot run on these inputs: {reason_of(error)}")


def why_not_loaded() -> str:
    """What the provider's library says when it is loaded: a session only tells its log."""
    import onnxruntime as ort

    library = Path(ort.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"
    try:
        ort.register_execution_provider_library("cnnport", str(library))
    except Exception as error:  # onnxruntime's exceptions share no base but this
        said = reason_of(error).rpartition(" with error: ")[2]
        return f"onnxruntime's CUDA provider does not load ({said}): pip install 'cnnport[cuda]'"
    return "onnxruntime's CUDA provider does not start: pip install --force-reinstall onnxruntime-gpu"


def _memory(error: Exception, device: int) -> CnnportError | None:
    """If the device's memory ran out."""
    found = _OUT_OF_MEMORY.search(str(error))
    if found is None:
        return None
    return CnnportError(
        f"GPU {device} has too little memory ({found.group()}): take a smaller batch, or end what else runs there"
    )


def _cudnn(error: Exception, device: int) -> CnnportError | None:
    """If cuDNN fails, which it does where another version than onnxruntime's is found first."""
    said = cuda_failure(error) or ""
    if not said.startswith("CUDNN"):
        return None
    return RuntimeMissingError(
        f"cuDNN fails on GPU {device} ({said}): take the version that onnxruntime was built with, "
        "pip install 'cnnport[cuda]'"
    )
