"""How each kind of package is run for the study of packages: a folder and pictures in, probabilities out."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cnnport.errors import CnnportError
from cnnport.measuring.studies.embedding_pictures import Shown

Run: TypeAlias = "Callable[[Path, Sequence[Shown]], NDArray[np.floating]]"

# It sees the package, numpy and onnxruntime; of cnnport it gets nothing.
_PYTHON = """
import json, sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from model import Model
pictures = [np.load(name) for name in json.loads(sys.stdin.read())]
print(json.dumps(Model().probabilities(pictures).tolist()))
assert "cnnport" not in sys.modules
"""

_NODE = """
import { readFileSync } from 'node:fs';
import { Model } from './index.mjs';
const model = await Model.load();
const pictures = JSON.parse(readFileSync(0, 'utf8')).map((name) => readFileSync(name));
console.log(JSON.stringify((await model.probabilities(pictures)).map((row) => [...row])));
"""


@dataclass(frozen=True)
class Way:
    """A kind of package, and how to have one classify pictures.

    Attributes:
        kind: As ``cnnport package --for`` takes it.
        run: From a package and pictures to probabilities, pictures x classes.
        resizes: Whether it takes pictures of any size whatever its model takes, and so resizes by itself.
    """

    kind: str
    run: Run
    resizes: bool = False


def python(folder: Path, shown: Sequence[Shown]) -> NDArray[np.floating]:
    """The module of a Python package, by itself in another process."""
    arrays = folder.with_name(f"{folder.name}_arrays")
    arrays.mkdir(exist_ok=True)
    names = [str(arrays / f"{place}.npy") for place in range(len(shown))]
    for name, each in zip(names, shown, strict=True):
        np.save(name, each.pixels)
    answer = _asked([sys.executable, "-I", "-B", "-c", _PYTHON, str(folder)], folder, names)
    return np.array(json.loads(answer), np.float32)


def node(folder: Path, shown: Sequence[Shown]) -> NDArray[np.floating]:
    """The module of a Node.js package, which decodes the files itself, with what its lock names."""
    if shutil.which("npm") is None:
        raise CnnportError("Node.js and npm are not installed")
    # All packages depend on the same, and Node looks for it in every folder above.
    if not (folder.parent / "node_modules").is_dir():
        _asked(["npm", "ci", "--no-audit", "--no-fund"], folder, None)
        (folder / "node_modules").rename(folder.parent / "node_modules")
    names = [str(each.path) for each in shown]
    answer = _asked(["node", "--input-type=module", "-e", _NODE], folder, names)
    return np.array(json.loads(answer), np.float32)


def web(folder: Path, shown: Sequence[Shown]) -> NDArray[np.floating]:
    """The page of a web package in headless Chromium, which decodes the files itself."""
    from cnnport.measuring.studies.web_pages import web_probabilities

    return web_probabilities(folder, [each.path for each in shown])


def triton(folder: Path, shown: Sequence[Shown]) -> NDArray[np.floating]:
    """The ensemble of a Triton repository, its steps run by ONNX Runtime as their configurations say."""
    from cnnport.measuring.studies.triton_ensemble import probabilities

    return probabilities(folder, [each.pixels for each in shown])


WAYS = (Way("python", python), Way("node", node), Way("web", web, resizes=True), Way("triton", triton))
"""Every kind of package."""


def _asked(command: Sequence[str], folder: Path, question: Sequence[str] | None) -> bytes:
    """What a program prints. Raises ``CnnportError`` with its last words where it fails."""
    given = None if question is None else json.dumps(question).encode()
    done = subprocess.run(command, cwd=folder, input=given, capture_output=True, check=False)
    if done.returncode:
        words = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
        raise CnnportError(f"{command[0]} failed: {words[-1].strip() if words else done.returncode}")
    return done.stdout
