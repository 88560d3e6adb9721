"""The runtime that computes nothing: what remains when it is measured is the instrument itself."""

import numpy as np

from cnnport.artifact import Artifact, TensorSpec
from cnnport.runtimes.closing import Closing
from cnnport.runtimes.feeds import check_feeds
from cnnport.runtimes.protocol import Array, Options, Tensors
from cnnport.runtimes.settings import Setting, settle


class NullRuntime:
    """Outputs zeros of the right shapes, at once."""

    name = "null"
    settings: tuple[Setting, ...] = ()

    def missing(self) -> None:
        """It is everywhere."""

    def version(self) -> str:
        """Nothing stands behind it."""
        return "null"

    def device(self) -> str:
        """It runs nowhere."""
        return "none"

    def open(self, artifact: Artifact, options: Options) -> "NullSession":
        """Take the names and shapes of the artifact; its weights are not read."""
        settle(self.name, self.settings, options.settings)
        return NullSession(artifact)

    def placement(self, artifact: Artifact, options: Options) -> dict[str, dict[str, int]]:  # noqa: ARG002
        """Nothing runs anywhere."""
        settle(self.name, self.settings, options.settings)
        return {}


class NullSession(Closing):
    """A session whose outputs are zeros."""

    def __init__(self, artifact: Artifact) -> None:
        self.inputs = artifact.inputs
        self.outputs = artifact.outputs

    def run(self, feeds: Tensors) -> dict[str, Array]:
        """Zeros by output name. Raises ``FeedError``."""
        return self.bind(feeds).outputs()

    def bind(self, feeds: Tensors) -> "NullLaunch":
        """A launch that returns at once. Raises ``FeedError``."""
        check_feeds(self.inputs, feeds)
        sizes = {
            want: size
            for spec in self.inputs
            for want, size in zip(spec.shape, feeds[spec.name].shape, strict=True)
            if isinstance(want, str)
        }
        return NullLaunch({spec.name: _zeros(spec, sizes) for spec in self.outputs})

    def close(self) -> None:
        """Nothing to free."""


class NullLaunch:
    """Does nothing."""

    def __init__(self, zeros: dict[str, Array]) -> None:
        self._zeros = zeros

    def __call__(self) -> None:
        """Return."""

    def wait(self) -> None:
        """Return."""

    def outputs(self) -> dict[str, Array]:
        """Zeros by output name."""
        return {name: zeros.copy() for name, zeros in self._zeros.items()}


def _zeros(spec: TensorSpec, sizes: dict[str, int]) -> Array:
    # A dynamic size that no input states cannot be known without computing; one is as good as any.
    return np.zeros(
        [size if isinstance(size, int) else sizes.get(size, 1) for size in spec.shape], spec.dtype
    )
