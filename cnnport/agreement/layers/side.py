"""One of the two that are held against each other, and how variants of its file are run."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnnport.agreement.layers.graph import Array, Arrays, Graph
from cnnport.artifact import Artifact
from cnnport.graphs.half.emulate import emulate
from cnnport.graphs.protos import read
from cnnport.onnxfile import read_artifact
from cnnport.runtimes import Options, require_runtime

if TYPE_CHECKING:
    import onnx

    from cnnport.runtimes.protocol import Session

PYTORCH = ("torch-cpu", "torch-cuda")


@dataclass(frozen=True)
class Side:
    """A file on a runtime.

    Attributes:
        artifact: The file; for PyTorch the one that says which module it is.
        runtime: Name of the runtime.
        options: How it is opened.
        alone: Whether samples are run one by one, rather than all that are given together.
        emulated: Whether what the file holds in halves is rounded as on a runtime that holds halves, by ONNX
            Runtime on the CPU, which by itself rounds nothing.
    """

    artifact: Artifact
    runtime: str = "ort-cpu"
    options: Options = field(default_factory=Options)
    alone: bool = False
    emulated: bool = False

    def __str__(self) -> str:
        """For people."""
        extra = ", one by one" if self.alone else ""
        how = "halves emulated" if self.emulated else self.runtime
        return f"{self.artifact.path.name} ({self.artifact.precision}) on {how}{extra}"

    @property
    def precision(self) -> str:
        """What it computes in, as far as the file and the runtime's settings say."""
        if self.artifact.precision == "fp32":
            told = self.options.settings.get("precision", "f32").lower()
            return {"f16": "fp16", "bf16": "bf16"}.get(told, "fp32")
        return self.artifact.precision


class Subject:
    """A side whose graph can be changed and run."""

    def __init__(self, side: Side, folder: Path, name: str) -> None:
        """Read its file.

        Args:
            side: Not PyTorch.
            folder: Where files can be written that last as long as this object.
            name: Of what is written there.

        Raises:
            ArtifactError: If the file cannot be read.
        """
        self.side = side
        self.graph = Graph(side.artifact.path, folder, name)
        self._name = name
        self._numbers = count()

    @cached_property
    def options(self) -> Options:
        """Emulation is to compute what is written, and nothing else."""
        return replace(self.side.options, optimize=False) if self.side.emulated else self.side.options

    def write(self, model: "onnx.ModelProto") -> Artifact:
        """Put a variant of the file where it can be opened; the next one replaces it."""
        if self.side.emulated:
            model = emulate(read(model, self.graph.folder))
        path = self.graph.folder / f"{self._name}.{next(self._numbers) % 2}.onnx"
        path.write_bytes(model.SerializeToString())
        return replace(read_artifact(path), precision=self.side.artifact.precision)

    @contextmanager
    def opened(self, model: "onnx.ModelProto") -> Iterator["Session"]:
        """A session over a variant. Raises as ``Runtime.open``."""
        artifact = self.write(model)
        runtime = require_runtime("ort-cpu" if self.side.emulated else self.side.runtime)
        with runtime.open(artifact, self.options) as session:
            yield session
        artifact.path.unlink(missing_ok=True)

    @cached_property
    def batch(self) -> int | None:
        """How many samples the file takes at once; None where it takes any number."""
        sizes = [spec.shape[0] for spec in self.side.artifact.inputs if spec.shape]
        return next((size for size in sizes if isinstance(size, int)), None)

    def run(self, model: "onnx.ModelProto", feeds: Mapping[str, Array], total: int) -> Arrays:
        """The outputs of a variant, samples together or one by one as the side has it.

        Args:
            model: Its inputs have a row, or the same number of rows, for each sample.
            feeds: By its inputs' names; others are passed over.
            total: The number of samples.

        Raises:
            ArtifactError: If the runtime cannot load it.
            FeedError: If it cannot run on these inputs.
        """
        size = self.batch or (1 if self.side.alone else total)
        with self.opened(model) as session:
            wanted = {spec.name: spec.dtype for spec in session.inputs}
            pieces = []
            for start in range(0, total, size):
                samples = np.arange(start, start + size).clip(max=total - 1)
                piece = {
                    name: _as_type(_rows(feeds[name], samples, total), kind) for name, kind in wanted.items()
                }
                pieces.append(session.run(piece))
        return joined(pieces, size, total)


def joined(pieces: Sequence[Mapping[str, Array]], size: int, total: int) -> Arrays:
    """Runs of so many samples as one run; what is the same in every run has no rows."""
    found: Arrays = {}
    for name, first in pieces[0].items():
        values = [piece[name] for piece in pieces]
        if len(values) > 1 and all(np.array_equal(first, value, equal_nan=True) for value in values[1:]):
            found[name] = first
        elif all(value.shape[1:] == first.shape[1:] and value.ndim for value in values):
            whole = np.concatenate(values) if len(values) > 1 else first
            # What a fixed batch was filled up with goes again.
            is_filled = len(pieces) * size > total and first.shape[0] % size == 0
            found[name] = whole[: total * (first.shape[0] // size)] if is_filled else whole
    return found


def _rows(array: Array, samples: Array, total: int) -> Array:
    if len(array) == total:
        return array[samples]
    return array.reshape(total, -1, *array.shape[1:])[samples].reshape(-1, *array.shape[1:])


def _as_type(array: Array, kind: str) -> Array:
    return np.ascontiguousarray(array).astype(kind, copy=False)
