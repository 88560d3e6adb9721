"""PyTorch itself, eager, on the CPU: the original that everything else is held against."""

from collections import Counter
from importlib.util import find_spec
from typing import TYPE_CHECKING

from cnnport.artifact import Artifact
from cnnport.errors import FeedError, RuntimeMissingError, first_line
from cnnport.runtimes.closing import Closing
from cnnport.runtimes.feeds import check_feeds
from cnnport.runtimes.protocol import Array, Options, Tensors
from cnnport.runtimes.settings import Setting, settle

if TYPE_CHECKING:
    from torch import Tensor, nn


class TorchRuntime:
    """The network of the zoo that a file was exported from, with the same weights."""

    name = "torch-cpu"
    settings: tuple[Setting, ...] = ()

    def missing(self) -> str | None:
        """None where torch is installed."""
        return None if find_spec("torch") else "torch is not installed: pip install torch"

    def version(self) -> str:
        """Of torch."""
        import torch

        return f"torch {torch.__version__}"

    def device(self) -> str:
        """The CPU."""
        return "CPU"

    def open(self, artifact: Artifact, options: Options) -> "TorchSession":
        """Build the module again. Raises ``RuntimeMissingError`` and ``ArtifactError``."""
        if reason := self.missing():
            raise RuntimeMissingError(f"runtime {self.name} is not available: {reason}")
        settle(self.name, self.settings, options.settings)
        import torch

        from cnnport.rebuild import module_of

        module = module_of(artifact)
        if options.threads is not None:
            # The number is the process's own; a benchmark has a process for each case.
            torch.set_num_threads(options.threads)
        return TorchSession(artifact, module)

    def placement(self, artifact: Artifact) -> dict[str, dict[str, int]]:
        """The leaf modules, by class. Raises as ``open``."""
        with self.open(artifact, Options()) as session:
            return {"CPU": session.module_counts()}


class TorchSession(Closing):
    """A module in evaluation mode."""

    def __init__(self, artifact: Artifact, module: "nn.Module") -> None:
        self._module: nn.Module | None = module
        self.inputs = artifact.inputs
        self.outputs = artifact.outputs

    def run(self, feeds: Tensors) -> dict[str, Array]:
        """Every output by name. Raises ``FeedError``."""
        launch = self.bind(feeds)
        try:
            launch()
        except RuntimeError as error:
            raise FeedError(f"torch cannot run on these inputs: {first_line(error)}") from error
        return launch.outputs()

    def bind(self, feeds: Tensors) -> "TorchLaunch":
        """Wrap the feeds without a copy. Raises ``FeedError``."""
        import torch

        if self._module is None:
            raise ValueError("the session is closed")
        check_feeds(self.inputs, feeds)
        inputs = [torch.from_numpy(feeds[spec.name]) for spec in self.inputs]
        return TorchLaunch(self._module, inputs, [spec.name for spec in self.outputs])

    def module_counts(self) -> dict[str, int]:
        """How many leaf modules of each class there are."""
        assert self._module is not None
        leaves = (leaf for leaf in self._module.modules() if next(leaf.children(), None) is None)
        return dict(sorted(Counter(type(leaf).__name__ for leaf in leaves).items()))

    def close(self) -> None:
        """Free the module."""
        self._module = None


class TorchLaunch:
    """A forward pass; on the CPU it has finished when it returns."""

    def __init__(self, module: "nn.Module", inputs: "list[Tensor]", names: list[str]) -> None:
        import torch

        self._module = module
        self._inputs = inputs
        self._names = names
        self._mode = torch.inference_mode
        self._results: Tensor | tuple[Tensor, ...] | dict[str, Tensor] = ()

    def __call__(self) -> None:
        """Run."""
        with self._mode():
            self._results = self._module(*self._inputs)

    def wait(self) -> None:
        """Return: the run has finished."""

    def outputs(self) -> dict[str, Array]:
        """Copies of the outputs of the last run."""
        results: Tensor | tuple[Tensor, ...] | dict[str, Tensor] = self._results
        if isinstance(results, dict):
            results = tuple(results[name] for name in self._names)
        elif not isinstance(results, tuple):
            results = (results,)
        arrays = [result.numpy().copy() for result in results]
        return dict(zip(self._names, arrays, strict=True))
