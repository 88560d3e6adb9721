"""PyTorch, by hooks in front of and behind the forward of every module.

A module's time is its own: what its submodules take is theirs, so that the sum over all modules is the run. What a
module computes itself, without a submodule for it (an addition, a concatenation), is its own time too. On a GPU the
marks are events on the device's stream. The hooks themselves are not counted, only what PyTorch needs to call them.
"""

import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from cnnport.errors import CheckFailedError
from cnnport.measuring.profiling.kernels import Kernel, Timed, middle_mean, timed
from cnnport.measuring.profiling.names import ROOT
from cnnport.measuring.profiling.probes.probe import Turns, Wish
from cnnport.measuring.worker import SEED

if TYPE_CHECKING:
    from cnnport.artifact import Artifact
    from cnnport.runtimes.protocol import Array


class TorchProbe(Turns):
    """A module with hooks."""

    def __init__(self, artifact: "Artifact", wish: Wish) -> None:
        """Build the module. Raises ``ArtifactError``, ``CnnportError`` and ``FeedError``."""
        from cnnport.golden import seeded_input
        from cnnport.runtimes import get_runtime

        super().__init__()
        from torch.nn.modules import module as hooks

        runtime = get_runtime(wish.runtime)
        self._precision = artifact.precision
        self._session = runtime.open(artifact, wish.options)
        self._launch = self._session.bind(seeded_input(artifact.inputs, wish.batch, SEED))
        self._marks = _Events() if wish.runtime == "torch-cuda" else _Clock()
        self._paths: dict[int, str] = {}
        self._operators: dict[str, str] = {}
        self._stack: list[str] = []
        # The times at which somebody else's began, and whose.
        self._changes: list[tuple[Any, str | None]] = []
        self._runs_ms: list[dict[str, float]] = []
        self._hooks = (
            hooks.register_module_forward_pre_hook(self._entered),
            hooks.register_module_forward_hook(self._left),
        )

    def __call__(self) -> None:
        """Run."""
        self.runs += 1
        self._launch()

    def wait(self) -> None:
        """Return when the run has finished, and its times are noted."""
        self._launch.wait()
        spent: defaultdict[str, float] = defaultdict(float)
        for (begin, owner), (end, _) in zip(self._changes, self._changes[1:], strict=False):
            if owner is not None:
                spent[owner] += self._marks.between_ms(begin, end)
        self._runs_ms.append(dict(spent))
        self._changes.clear()

    def outputs(self) -> "dict[str, Array]":
        """As of a launch."""
        return self._launch.outputs()

    def kernels(self) -> tuple[Timed, ...]:
        """The modules, in the order in which they were called first. Raises ``CheckFailedError``."""
        first = self._runs_ms[self.turns[0].start]
        for number in (number for turn in self.turns for number in turn):
            if odd := self._runs_ms[number].keys() ^ first.keys():
                raise CheckFailedError(f"the network does not call the same modules in every run: {min(odd)}")
        # A module is left, and has time, behind those within; it is called before them.
        order = [path for path in self._operators if path in first]
        return tuple(
            timed(
                Kernel((path,), self._operators[path], 0.0, self._precision, label=path or ROOT, module=path),
                [middle_mean([self._runs_ms[number][path] for number in turn]) for turn in self.turns],
            )
            for path in order
        )

    def close(self) -> None:
        """Take the hooks off, and free the module."""
        for hook in self._hooks:
            hook.remove()
        self._session.close()

    def _entered(self, module: Any, _inputs: Any) -> None:
        self._changes.append((self._marks.now(), None))
        if not self._paths:
            # The first that is called holds all the others.
            self._paths = {id(each): path for path, each in module.named_modules()}
        path = self._paths[id(module)]
        self._operators.setdefault(path, type(module).__name__)
        self._stack.append(path)
        self._changes.append((self._marks.now(), path))

    def _left(self, _module: Any, _inputs: Any, _output: Any) -> None:
        self._changes.append((self._marks.now(), None))
        self._stack.pop()
        self._changes.append((self._marks.now(), self._stack[-1] if self._stack else None))


class _Clock:
    """Times on the CPU."""

    def now(self) -> int:
        return time.perf_counter_ns()

    def between_ms(self, begin: int, end: int) -> float:
        return (end - begin) / 1e6


class _Events:
    """Times on the device's stream."""

    def now(self) -> Any:
        import torch

        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def between_ms(self, begin: Any, end: Any) -> float:
        return float(begin.elapsed_time(end))


def open_probe(artifact: "Artifact", wish: Wish) -> TorchProbe:
    """Build with hooks. Raises as ``PROBES``."""
    return TorchProbe(artifact, wish)
