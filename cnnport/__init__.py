"""cnnport: CNNs from PyTorch to every runtime, as one small, verified ONNX file.

The functions are those of ``cnnport.api``; each brings what it needs when it is first asked for, so that importing
the package costs nothing.
"""

from typing import TYPE_CHECKING

from cnnport._version import __version__

if TYPE_CHECKING:
    from cnnport.api import bench, evaluate, export, load, optimize, parity, quantize, verify
    from cnnport.artifact import Artifact, TensorSpec
    from cnnport.errors import CheckFailedError, CnnportError, RuntimeMissingError
    from cnnport.packaging import package
    from cnnport.preprocess import Preprocess

_PLACES = {
    "cnnport.api": ("bench", "evaluate", "export", "load", "optimize", "parity", "quantize", "verify"),
    "cnnport.artifact": ("Artifact", "TensorSpec"),
    "cnnport.errors": ("CheckFailedError", "CnnportError", "RuntimeMissingError"),
    "cnnport.packaging": ("package",),
    "cnnport.preprocess": ("Preprocess",),
}
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names}

__all__ = [
    "Artifact",
    "CheckFailedError",
    "CnnportError",
    "Preprocess",
    "RuntimeMissingError",
    "TensorSpec",
    "__version__",
    "bench",
    "evaluate",
    "export",
    "load",
    "optimize",
    "package",
    "parity",
    "quantize",
    "verify",
]


def __getattr__(name: str) -> object:
    if name not in _PLACE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_PLACE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
