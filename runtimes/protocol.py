"""The seam between cnnport and whatever executes a network."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cnnport.artifact import Artifact, TensorSpec
from cnnport.runtimes.settings import Setting

Array: TypeAlias = NDArray[np.generic]
Tensors: TypeAlias = Mapping[str, Array]
"""Arrays by tensor name."""


@dataclass(frozen=True)
class Options:
    """How a session is opened.

    Attributes:
        threads: Threads inside one run; None leaves it to the runtime.
        optimize: Whether the runtime may rewrite the graph. Off, the file's own semantics are executed, which
            is what a check of a rewrite wants.
        reuse_memory: Whether the memory of one run is kept for the next, which makes that one fast.
        deterministic: Whether the same input has to give the same bits in every run and every session, at the price
            of speed; where a runtime cannot promise that, it says so when it is opened.
        device: Which of several devices of one kind, counted from 0.
        settings: What the runtime offers beside these, by name, as the user wrote it; ``Runtime.settings`` lists it.
    """

    threads: int | None = None
    optimize: bool = True
    reuse_memory: bool = True
    deterministic: bool = False
    device: int = 0
    settings: Mapping[str, str] = field(default_factory=dict)


class Launch(Protocol):
    """One prepared run over inputs that already lie where the runtime wants them."""

    def __call__(self) -> None:
        """Start the run; may return before it has finished."""

    def wait(self) -> None:
        """Return when every run that was started has finished."""

    def outputs(self) -> dict[str, Array]:
        """Copy the outputs of the last finished run."""


class Session(Protocol):
    """A loaded network that owns its memory until it is closed."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def run(self, feeds: Tensors) -> dict[str, Array]:
        """Run once, for correctness.

        Args:
            feeds: One array for every input, of its element type and shape.

        Returns:
            Every output by name.

        Raises:
            FeedError: If the feeds do not fit the inputs.
        """

    def bind(self, feeds: Tensors) -> Launch:
        """Place the feeds once and give a run that can be repeated, for timing. Raises ``FeedError``."""

    def close(self) -> None:
        """Free everything; a second call does nothing."""

    def __enter__(self) -> Self:
        """The session itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""


class Runtime(Protocol):
    """A way to execute artifacts.

    Attributes:
        name: As ``--runtime`` takes it.
        settings: What it offers beside ``Options``.
    """

    name: str
    settings: tuple[Setting, ...]

    def missing(self) -> str | None:
        """Why the runtime cannot be used here and what would change that, in one line; None if it can."""

    def version(self) -> str:
        """Name and version of the package behind it; only where ``missing()`` is None."""

    def device(self) -> str:
        """What it would run on, in words; only where ``missing()`` is None."""

    def open(self, artifact: Artifact, options: Options) -> Session:
        """Load an artifact.

        Raises:
            RuntimeMissingError: If ``missing()`` says so, or there is no device of that number.
            ArtifactError: If the runtime cannot load the file.
            CnnportError: If a setting is unknown or has a value that it does not take.
        """

    def placement(self, artifact: Artifact, options: Options) -> dict[str, dict[str, int]]:
        """Which operators run where: counts by operator, by device or execution provider. Raises as ``open``."""
