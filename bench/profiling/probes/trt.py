"""TensorRT and TensorRT-RTX, by the events that TensorRT itself sets around every layer on the device."""

from statistics import median
from typing import TYPE_CHECKING

from cnnport.errors import CheckFailedError
from cnnport.measuring.profiling.kernels import Kernel, Timed, precision_of, timed
from cnnport.measuring.profiling.probes.probe import Turns, Wish
from cnnport.measuring.worker import SEED

if TYPE_CHECKING:
    from cnnport.artifact import Artifact
    from cnnport.runtimes.protocol import Array


class TensorRtProbe(Turns):
    """An engine with a profiler, in a context of its own."""

    def __init__(self, artifact: "Artifact", wish: Wish) -> None:
        """Build and load. Raises ``ArtifactError``, ``CnnportError`` and ``FeedError``."""
        from cnnport.golden import seeded_input
        from cnnport.runtimes import get_runtime
        from cnnport.runtimes.trt.profile import ProfiledRuns
        from cnnport.runtimes.trt.session import TensorRtSession

        super().__init__()
        self._session = get_runtime(wish.runtime).open(artifact, wish.options)
        assert isinstance(self._session, TensorRtSession)
        self._profiled = ProfiledRuns(self._session, seeded_input(artifact.inputs, wish.batch, SEED))

    def __call__(self) -> None:
        """Start a run."""
        self.runs += 1
        self._profiled()

    def wait(self) -> None:
        """Return when the run has finished, and its times are noted."""
        self._profiled.wait()

    def outputs(self) -> "dict[str, Array]":
        """As of a launch."""
        return self._profiled.outputs()

    def kernels(self) -> tuple[Timed, ...]:
        """The layers. Raises ``CheckFailedError`` if one was not reported in every run."""
        found = self._profiled.layers()
        if odd := next((each for each in found if len(each.samples_ms) != self.runs), None):
            raise CheckFailedError(
                f"TensorRT reported layer {odd.layer.name} {len(odd.samples_ms)} times in {self.runs} runs"
            )
        return tuple(
            timed(
                Kernel(
                    each.layer.nodes or (each.layer.name,),
                    each.layer.kind or each.layer.name,
                    0.0,
                    precision_of(each.layer.reads[0]) if each.layer.reads else "",
                    label=each.layer.name,
                ),
                [median(each.samples_ms[turn.start : turn.stop]) for turn in self.turns],
            )
            for each in found
        )

    def close(self) -> None:
        """Free the context and the session."""
        self._profiled.close()
        self._session.close()


def open_probe(artifact: "Artifact", wish: Wish) -> TensorRtProbe:
    """Load with a profiler. Raises as ``PROBES``."""
    return TensorRtProbe(artifact, wish)
