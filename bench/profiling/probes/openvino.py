"""OpenVINO, by the counters of its layers.

They are means over all runs that the compiled network has made, in whole microseconds, cut off. So the mean of a turn
is taken from the counters before and behind it; cut off on both sides, it is off by as many microseconds, at
most, as there have been runs for each run of the turn.
"""

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cnnport.errors import CnnportError
from cnnport.measuring.profiling.kernels import Kernel, Timed, precision_of, timed
from cnnport.measuring.profiling.probes.probe import Turns, Wish
from cnnport.measuring.worker import SEED

if TYPE_CHECKING:
    from cnnport.artifact import Artifact
    from cnnport.runtimes.protocol import Array

_MS = timedelta(milliseconds=1)


class OpenVinoProbe(Turns):
    """A network compiled with counters."""

    def __init__(self, artifact: "Artifact", wish: Wish) -> None:
        """Compile. Raises ``ArtifactError``, ``CnnportError`` and ``FeedError``."""
        from cnnport.golden import seeded_input
        from cnnport.runtimes.build import for_batch
        from cnnport.runtimes.engine_file import is_engine
        from cnnport.runtimes.openvino import package
        from cnnport.runtimes.openvino.choices import choose
        from cnnport.runtimes.openvino.network import compile_network, read

        super().__init__()
        if is_engine(artifact.path):
            raise CnnportError(f"{artifact.path.name} was compiled without counters: profile its ONNX file")
        choices = choose(wish.options)
        choices = replace(choices, properties={**choices.properties, "PERF_COUNT": True})
        artifact = for_batch(artifact, choices.batch)
        self._network = compile_network(artifact, read(artifact), choices)
        feeds = seeded_input(artifact.inputs, wish.batch, SEED)
        request = self._network.compiled.create_infer_request()
        self._request = request
        # Under the wrapper, as sessions run.
        beneath: Any = super(type(request), request)
        self._infer = beneath.infer
        self._held = [feeds[spec.name] for spec in artifact.inputs]
        for place, array in zip(self._network.inputs, self._held, strict=True):
            request.set_input_tensor(place, package.load().Tensor(array, shared_memory=True))
        self._before: tuple[int, dict[str, float]] = (0, {})
        self._turns_ms: list[dict[str, float]] = []

    def __call__(self) -> None:
        """Run."""
        self.runs += 1
        self._infer({}, True, False)

    def wait(self) -> None:
        """Return: the run has finished."""

    def outputs(self) -> "dict[str, Array]":
        """Nothing: nobody asks."""
        return {}

    def begin(self) -> None:
        """Note the counters."""
        super().begin()
        self._before = self.runs, self._counters()

    def end(self) -> None:
        """Note the counters again, and what the turn added."""
        super().end()
        before, means = self._before
        now = self._counters()
        self._turns_ms.append(
            {
                name: max(0.0, (mean * self.runs - means.get(name, 0.0) * before) / (self.runs - before))
                for name, mean in now.items()
            }
        )

    def kernels(self) -> tuple[Timed, ...]:
        """The layers, each with its means."""
        layers = self._network.layers
        places = {layer.name: place for place, layer in enumerate(layers)}
        sources = _sources(self._network.compiled)
        return tuple(
            timed(
                Kernel(
                    layer.nodes or (layer.name,),
                    layer.kind,
                    0.0,
                    precision_of(layer.reads[0]) if layer.reads else "",
                    label=layer.name,
                    sources=tuple(places[name] for name in sources.get(layer.name, ()) if name in places),
                ),
                [turn.get(layer.name, 0.0) for turn in self._turns_ms],
            )
            for layer in layers
        )

    def close(self) -> None:
        """Free the network."""
        del self._infer, self._request, self._network

    def _counters(self) -> dict[str, float]:
        return {entry.node_name: entry.real_time / _MS for entry in self._request.profiling_info}


def open_probe(artifact: "Artifact", wish: Wish) -> OpenVinoProbe:
    """Compile with counters. Raises as ``PROBES``."""
    return OpenVinoProbe(artifact, wish)


def _sources(compiled: Any) -> dict[str, tuple[str, ...]]:
    """For every layer the layers whose results it reads."""
    return {
        node.get_friendly_name(): tuple(
            source.get_source_output().get_node().get_friendly_name() for source in node.inputs()
        )
        for node in compiled.get_runtime_model().get_ordered_ops()
    }
