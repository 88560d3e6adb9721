"""CUDA's and cuDNN's libraries as pip installs them: found wherever they lie, and loaded before what needs them.

The loader of the system does not look into Python's folders, and onnxruntime's own ``preload_dlls`` only into the one
that onnxruntime itself is installed in, and prints what it misses. A library that is loaded already is found by its
name, so loading them here is enough.
"""

import ctypes
from importlib.util import find_spec
from pathlib import Path

# From the ones that others need to those that need them; cuDNN loads its parts itself.
_WANTED = (
    "libcudart.so.{cuda}",
    "libcublasLt.so.{cuda}",
    "libcublas.so.{cuda}",
    "libcurand.so.10",
    "libcudnn.so.9",
)
# Only some operators need these, and none of a CNN's.
_WELCOME = ("libnvJitLink.so.{cuda}", "libnvrtc.so.{cuda}", "libcufft.so.{cufft}")


def load_cuda_libraries(cuda: str) -> str | None:
    """Load what a package built for a version of CUDA, such as ``13.0``, needs of CUDA 13 and cuDNN 9.

    Returns:
        In one line what is missing or does not load; None if all is there, or the version is not known.
    """
    major = cuda.partition(".")[0]
    if not major.isdecimal():
        return None
    # cuFFT has counted its own versions one behind since CUDA 12.
    versions = {"cuda": major, "cufft": str(int(major) - 1)}
    folders = _folders()
    for name in (pattern.format(**versions) for pattern in _WELCOME):
        _load(name, folders)
    for name in (pattern.format(**versions) for pattern in _WANTED):
        if said := _load(name, folders):
            return f"CUDA {major} and cuDNN 9 do not load ({said})"
    return None


def _load(name: str, folders: list[Path]) -> str | None:
    """What the loader says, if it says no."""
    found = next((folder / name for folder in folders if (folder / name).is_file()), Path(name))
    try:
        ctypes.CDLL(str(found))
    except OSError as error:
        return str(error)
    return None


def _folders() -> list[Path]:
    """Where pip puts the libraries: below the package ``nvidia``, or into torch."""
    nvidia, torch = (_package_folders(name) for name in ("nvidia", "torch"))
    return [found for folder in nvidia for found in sorted(folder.glob("*/lib"))] + [
        folder / "lib" for folder in torch
    ]


def _package_folders(name: str) -> list[Path]:
    """The folders of a package that need not be installed; it is not imported."""
    spec = find_spec(name)
    return [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
