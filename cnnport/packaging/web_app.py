"""``package --for web``: a static page that runs the model in the browser, with everything that it needs beside it.

The page is ``templates/web`` as it lies there. What runs the model is onnxruntime-web: of its package two builds are
taken, each one module with its WebAssembly, and a browser loads only one of them.
"""

from collections.abc import Mapping
from types import MappingProxyType

from cnnport.packaging.common_files import common_files
from cnnport.packaging.kinds import Content
from cnnport.packaging.manifest import MODEL_FILE
from cnnport.packaging.npm_files import NpmPackage, npm_files
from cnnport.packaging.subject import Subject
from cnnport.packaging.templates import filled, template_files
from cnnport.packaging.texts import values_of

RUNTIME = NpmPackage(
    "onnxruntime-web",
    "1.30.0",
    "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
)
"""What runs the model in the browser."""

RUNTIME_FILES: Mapping[str, str] = MappingProxyType(
    {
        "runtime/ort.wasm.bundle.min.js": "dist/ort.wasm.bundle.min.mjs",
        "runtime/ort-wasm-simd-threaded.wasm": "dist/ort-wasm-simd-threaded.wasm",
        "runtime/ort.webgpu.bundle.min.js": "dist/ort.webgpu.bundle.min.mjs",
        "runtime/ort-wasm-simd-threaded.asyncify.wasm": "dist/ort-wasm-simd-threaded.asyncify.wasm",
    }
)
"""What is taken of it, by the name that it gets: many servers do not know yet that ``.mjs`` is JavaScript."""

_README = "README.md"


def files(subject: Subject) -> Mapping[str, Content]:
    """The files of a web page by their names in its folder.

    Args:
        subject: A picture file of either kind and layout.

    Raises:
        CnnportError: If onnxruntime-web is neither in the cache nor to be had.
    """
    runtime = npm_files(RUNTIME, list(RUNTIME_FILES.values()))
    page = template_files("web")
    values = {**values_of(subject), "runtime": RUNTIME.version}
    return {
        **common_files(subject),
        **page,
        _README: filled(page[_README], values),
        **{name: runtime[source] for name, source in RUNTIME_FILES.items()},
        MODEL_FILE: subject.artifact.path,
    }
