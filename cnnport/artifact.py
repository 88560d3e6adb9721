"""One ONNX file and its identity: what every runtime, benchmark and check takes as input."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Self, TypeAlias

from cnnport.errors import FeedError

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
        precision: ``fp32``, ``fp16``, ``bf16`` or ``int8``.
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

    def with_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> Self:
        """The same file with dynamic sizes of its inputs settled; a dynamic first dimension stays the batch.

        Args:
            shapes: Whole shapes by input name.

        Raises:
            FeedError: If there is no such input, or the shape does not fit it.
        """
        known = {spec.name: spec for spec in self.inputs}
        for name, shape in shapes.items():
            spec = known.get(name)
            if spec is None:
                raise FeedError(f"no input is called {name!r}: the inputs are {', '.join(known)}")
            fits = len(shape) == len(spec.shape) and all(
                isinstance(want, str) or want == size for size, want in zip(shape, spec.shape, strict=True)
            )
            if not fits:
                raise FeedError(f"shape {'x'.join(map(str, shape))} does not fit input {spec}")
            batch = spec.shape[:1] if spec.dynamic_batch else shape[:1]
            known[name] = replace(spec, shape=(*batch, *shape[1:]))
        return replace(self, inputs=tuple(known.values()))

    def with_sizes(self, sizes: Mapping[str, int]) -> Self:
        """The same file with dynamic sizes of its inputs settled by name; a dynamic first dimension stays the batch.

        Args:
            sizes: By the names of dimensions; a name that no input has is passed over.
        """

        def settled(spec: TensorSpec) -> TensorSpec:
            rest = (sizes.get(size, size) if isinstance(size, str) else size for size in spec.shape[1:])
            return replace(spec, shape=(*spec.shape[:1], *rest))

        return replace(self, inputs=tuple(settled(spec) for spec in self.inputs))
