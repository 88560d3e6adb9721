"""One ONNX file and its identity: what every runtime, benchmark and check takes as input."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

Dim: TypeAlias = int | str
"""A fixed size, or the name of a dynamic one."""


@dataclass(frozen=True)
class TensorSpec:
    """Name, element type (a NumPy name, such as ``float32``) and shape of a graph input or output."""

    name: str
    dtype: str
    shape: tuple[Dim, ...]

    def __str__(self) -> str:
        """The spec as the field writes it: ``input:float32[batch,3,224,224]``."""
        return f"{self.name}:{self.dtype}[{','.join(map(str, self.shape))}]"

    def fixed(self, batch: int) -> tuple[int, ...]:
        """The shape at a batch size: the first dimension, where dynamic, becomes ``batch``.

        Raises:
            ValueError: If another dimension is dynamic.
        """
        sizes: list[int] = []
        for axis, size in enumerate(self.shape):
            if isinstance(size, int):
                sizes.append(size)
            elif axis == 0:
                sizes.append(batch)
            else:
                raise ValueError(f"dimension {axis} of {self} is dynamic")
        return tuple(sizes)

    @property
    def dynamic_batch(self) -> bool:
        """Whether the first dimension is left to the caller."""
        return bool(self.shape) and isinstance(self.shape[0], str)


@dataclass(frozen=True)
class Artifact:
    """An ONNX file on disk.

    Attributes:
        path: Where the file lies.
        sha256: Of the file's bytes.
        model: The zoo name that the file was exported from, or the file's stem.
        opset: Version of the default operator set.
        precision: ``fp32``, ``fp16`` or ``int8``.
        target: The runtime that the graph was written for, or ``portable``.
        inputs: Graph inputs, initializers left out.
        outputs: Graph outputs.
        metadata: The file's ``metadata_props`` as they are.
    """

    path: Path
    sha256: str
    model: str
    opset: int
    precision: str
    target: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    metadata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
