"""How long each layer of an engine took, as TensorRT's own events on the device tell; statistics are for others."""

from dataclasses import dataclass

from cnnport.runtimes.build import Layer
from cnnport.runtimes.protocol import Tensors
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


def layer_times(
    session: TensorRtSession, feeds: Tensors, *, runs: int, warmup: int = 1
) -> tuple[LayerTimes, ...]:
    """Run with a profiler, in a context of its own.

    Args:
        session: Open.
        feeds: As for ``run``.
        runs: That are reported.
        warmup: Runs before them, in which kernels are loaded or compiled.

    Returns:
        In the order in which the layers run. Layers overlap on the device, so that their sum may be more than a run
        takes without the profiler, and the events between them cost time of their own.

    Raises:
        FeedError: If the feeds do not fit.
        CnnportError: If TensorRT reports no times.
    """
    found: dict[str, list[float]] = {}
    launch = session.profiled(feeds, _profiler(session.engine.trt, found))
    try:
        for number in range(warmup + runs):
            if number == warmup:
                found.clear()
            launch()
            launch.wait()
            launch.report()
    finally:
        launch.close()
    layers = {layer.name: layer for layer in session.engine.layers()}
    return tuple(
        LayerTimes(layers.get(name, Layer(name, "")), tuple(samples)) for name, samples in found.items()
    )


def _profiler(trt: Api, found: dict[str, list[float]]) -> api.IProfiler:
    class Listener(trt.IProfiler):  # type: ignore[misc, name-defined]  # the class is found while the program runs
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            found.setdefault(layer_name, []).append(ms)

    listener: api.IProfiler = Listener()
    return listener
