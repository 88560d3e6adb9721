"""What is the same for every runtime that compiles a file ahead of time: the result, its layers, its errors."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from cnnport.artifact import Artifact, TensorSpec
from cnnport.runtimes.protocol import Options


@dataclass(frozen=True)
class BuildError:
    """Why a file does not become an engine.

    Attributes:
        node: Of the ONNX graph; empty where the fault lies in no single one.
        message: In one line.
    """

    node: str
    message: str

    def __str__(self) -> str:
        """Node and message, or the message alone."""
        return f"{self.node}: {self.message}" if self.node else self.message


@dataclass(frozen=True)
class Layer:
    """One layer of an engine: what the runtime launches at once.

    Attributes:
        name: As the runtime calls it.
        kind: Likewise, such as ``correlation`` for a convolution.
        nodes: Names of the ONNX nodes that it computes, wholly or in part; several where they were fused.
        reads: Element types of inputs and weights, each once, as the runtime calls them; empty where it does not say.
        writes: Element types of the outputs.
        kernel: Name of the kernel, where it is known.
    """

    name: str
    kind: str
    nodes: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    kernel: str = ""


@dataclass(frozen=True)
class Built:
    """What came of building one file.

    Attributes:
        model: As the artifact calls it.
        runtime: Name of the runtime.
        parsed: Whether the runtime understood the file.
        built: Whether an engine came of it.
        layers: Of the engine.
        errors: Why not; empty where an engine was built and is what was asked for.
        warnings: What the user should know of an engine that was built.
        path: Where the engine was written; None where it was only tried.
        bytes: Of the engine.
        facts: What the engine was built with and for: versions, device, settings.
    """

    model: str
    runtime: str
    parsed: bool
    built: bool
    layers: tuple[Layer, ...] = ()
    errors: tuple[BuildError, ...] = ()
    warnings: tuple[str, ...] = ()
    path: Path | None = None
    bytes: int = 0
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether an engine was built and is what was asked for."""
        return self.built and not self.errors

    @property
    def fused(self) -> int:
        """How many layers compute more than one node."""
        return sum(len(layer.nodes) > 1 for layer in self.layers)


@runtime_checkable
class Builds(Protocol):
    """A runtime that compiles a file ahead of time.

    Attributes:
        engine_suffix: What its engine files end in, dot included.
    """

    engine_suffix: str

    def cannot_build(self) -> str | None:
        """Why it can build nothing here and what would change that, in one line; None if it can."""

    def check(self, artifact: Artifact, options: Options) -> Built:
        """Build and throw away; what goes wrong with the file is in the result.

        Raises:
            RuntimeMissingError: If ``cannot_build()`` says so.
            CnnportError: If a setting is unknown or has a value that it does not take.
        """

    def build(self, artifact: Artifact, target: Path, options: Options) -> Built:
        """Build into a file that ``open`` takes in the place of the ONNX file; its facts lie beside it.

        Raises:
            RuntimeMissingError: As ``check``.
            ArtifactError: If the file cannot be built, with the node.
            OutputError: If the engine cannot be written.
            CnnportError: As ``check``.
        """


def for_batch(artifact: Artifact, batch: int | None) -> Artifact:
    """The same file for one batch size alone; without one, as it is."""
    open_sizes = {spec.shape[0] for spec in artifact.inputs if spec.dynamic_batch}
    if batch is None or not open_sizes:
        return artifact

    def settled(spec: TensorSpec) -> TensorSpec:
        return replace(spec, shape=tuple(batch if size in open_sizes else size for size in spec.shape))

    return replace(
        artifact,
        inputs=tuple(map(settled, artifact.inputs)),
        outputs=tuple(map(settled, artifact.outputs)),
    )
