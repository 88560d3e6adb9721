"""The order of the layers: every module imports only from its own layer and those above it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the lowest layer to the highest. A package stands for all of its modules.
LAYERS = (
    ("_version", "errors", "files", "memory", "process", "answering", "artifact", "preprocess", "data"),
    (
        "registry",
        "documents",
        "models",
        "layers",
        "golden",
        "compare",
        "onnxfile",
        "metadata",
        "offload",
        "serialize",
        "difference",
        "trial_inputs",
    ),
    (
        "connection",
        "download",
        "checkpoint",
        "random_weights",
        "weights",
        "images",
        "digits",
        "libraries",
        "misfit",
        "source",
        "count",
        "rebuild",
        "dense",
    ),
    ("graphs",),
    ("runtimes",),
    (
        "float64",
        "capture",
        "reference",
        "halved",
        "half_precision",
        "half_file",
        "exporting",
        "export_calibrated",
        "prepared",
        "verifying",
        "classify",
        "picture_input",
        "picture_cases",
        "picture_check",
        "picture_source",
        "picture_file",
        "export_picture",
        "calibration",
        "quantization",
        "evaluation",
        "store",
        "digest",
        "original",
        "failing",
        "other_weights",
        "verified_passes",
        "optimize_file",
        "packaging",
        "agreement",
        "testing",
    ),
    ("measuring",),
    ("api",),
    ("cli", "__main__"),
)
FOLDERS = {
    "cnnport": "cnnport",
    "cnnport.graphs": "graphs",
    "cnnport.runtimes": "runtimes",
    "cnnport.measuring": "bench",
}


def modules() -> dict[str, Path]:
    found = {}
    for package, folder in FOLDERS.items():
        for path in (ROOT / folder).rglob("*.py"):
            if "templates" in path.parts:  # what packages are made of: it runs elsewhere
                continue
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join((package, *parts)).removesuffix(".__init__")] = path
    return found


def layer_of(module: str) -> int:
    name = module.split(".")[1]
    return next(index for index, names in enumerate(LAYERS) if name in names)


def imports(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found += (
                [f"{node.module}.{alias.name}" for alias in node.names]
                if node.module == "cnnport"
                else [node.module]
            )
    return [name for name in found if name.startswith("cnnport.")]


def violations(module: str, source: str) -> list[str]:
    own = layer_of(module)
    return [name for name in imports(ast.parse(source)) if layer_of(name) > own]


def test_every_module_has_a_layer_and_keeps_to_it() -> None:
    found = modules()
    assert len(found) > 40
    wrong = {
        module: bad
        for module, path in found.items()
        # The package itself hands out names of every layer, lazily.
        if module != "cnnport" and (bad := violations(module, path.read_text()))
    }
    assert not wrong


def test_a_planted_violation_is_found() -> None:
    assert violations("cnnport.graphs.optimize", "def f():\n    from cnnport.runtimes import Options") == [
        "cnnport.runtimes"
    ]
    assert violations("cnnport.registry", "from cnnport import exporting") == ["cnnport.exporting"]
    assert not violations("cnnport.exporting", "from cnnport.graphs import optimize")


@pytest.mark.parametrize("heavy", ["torch", "onnx", "onnxruntime", "onnxsim", "numpy", "rich"])
def test_importing_cnnport_is_light(heavy: str) -> None:
    program = f"import sys, cnnport, cnnport.cli.main; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_every_module_imports_without_any_runtime() -> None:
    """Runtimes are extras: without one, only what opens a session may fail, and with a clear error."""
    program = """
import importlib, sys
for name in ("onnxruntime", "tensorrt", "tensorrt_rtx", "openvino", "sklearn"):
    sys.modules[name] = None
for name in sys.argv[1:]:
    importlib.import_module(name)
from cnnport.runtimes import RUNTIMES
print({name: runtime.missing() for name, runtime in RUNTIMES.items()})
"""
    names = [name for name in modules() if not name.endswith(("__main__", "studies.bare"))]
    done = subprocess.run(
        [sys.executable, "-c", program, *names], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "pip install 'cnnport[cpu]'" in done.stdout
