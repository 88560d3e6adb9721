"""How long each layer of an engine took, as TensorRT's own events on the device tell; statistics are for others."""

from dataclasses import dataclass

from cnnport.runtimes.build import Layer
from cnnport.runtimes.protocol import Array, Tensors
from cnnport.runtimes.trt import api
from cnnport.runtimes.trt.package import Api
from cnnport.runtimes.trt.session import TensorRtSession


@dataclass(frozen=True)
class LayerTimes:
    """One layer.

    Attributes:
        layer: What it is; name only where the engine does not say more.
        samples_ms: One for each run, in the order of the runs.
    """

    layer: Layer
    samples_ms: tuple[float, ...]


class ProfiledRuns:
    """A launch with a profiler, in a context of its own, whose layers are noted whenever it has been waited for."""

    def __init__(self, session: TensorRtSession, feeds: Tensors) -> None:
        """Prepare it.

        Args:
            session: Open.
            feeds: As for ``run``.

        Raises:
            FeedError: If the feeds do not fit.
        """
        self._found: dict[str, list[float]] = {}
        self._session = session
        self._launch = session.profiled(feeds, _profiler(session.engine.trt, self._found))

    def __call__(self) -> None:
        """Start the run. Raises ``CnnportError`` if TensorRT refuses."""
        self._launch()

    def wait(self) -> None:
        """Return when it has finished and its times are noted. Raises ``CnnportError`` if TensorRT reports none."""
        self._launch.wait()
        self._launch.report()

    def outputs(self) -> dict[str, Array]:
        """Copies of the outputs of the last run."""
        return self._launch.outputs()

    def layers(self) -> tuple[LayerTimes, ...]:
        """What was noted, in the order in which the layers run.

        Layers overlap on the device, so that their sum may be more than a run takes without the profiler, and the
        events between them cost time of their own. The first run loads kernels, or compiles them.
        """
        known = {layer.name: layer for layer in self._session.engine.layers()}
        return tuple(
            LayerTimes(known.get(name, Layer(name, "")), tuple(samples))
            for name, samples in self._found.items()
        )

    def close(self) -> None:
        """Free the context."""
        self._launch.close()


def _profiler(trt: Api, found: dict[str, list[float]]) -> api.IProfiler:
    class Listener(trt.IProfiler):  # type: ignore[misc, name-defined]  # the class is found while the program runs
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            found.setdefault(layer_name, []).append(ms)

    listener: api.IProfiler = Listener()
    return listener
