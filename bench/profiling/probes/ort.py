"""ONNX Runtime, by the trace that it writes of every kernel, and the graph that it made of the file.

On a GPU a kernel's time is that of the call that starts it. So every start is made to wait until the device has
finished (CUDA_LAUNCH_BLOCKING), which makes a run slower than it is, and the time that of the kernels themselves and
of starting them.
"""

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnport.errors import RuntimeMissingError
from cnnport.measuring.profiling.kernels import Timed
from cnnport.measuring.profiling.ort_trace import Graph, Ran, ort_kernels
from cnnport.measuring.profiling.probes.probe import Turns, Wish
from cnnport.measuring.worker import SEED

if TYPE_CHECKING:
    import onnxruntime

    from cnnport.artifact import Artifact
    from cnnport.runtimes.protocol import Array, Launch, Session

_GRAPH = "graph.onnx"
_SAVED = {
    "session.optimized_model_external_initializers_file_name": "weights.bin",
    "session.optimized_model_external_initializers_min_size_in_bytes": "1024",
}


class OrtProbe(Turns):
    """A session that writes a trace."""

    def __init__(self, artifact: "Artifact", wish: Wish, providers: Sequence[Any], wrapped: Any) -> None:
        """Load.

        Args:
            artifact: The file.
            wish: How it is to be run.
            providers: As onnxruntime takes them.
            wrapped: Makes a session of ours of the artifact and onnxruntime's.

        Raises:
            ArtifactError: If onnxruntime cannot load it.
            FeedError: If no input can be made for it.
        """
        from cnnport.golden import seeded_input
        from cnnport.runtimes.ort import load, session_options

        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="cnnport-", ignore_cleanup_errors=True)
        folder = Path(self._folder.name)
        settings = session_options(wish.options)
        settings.enable_profiling = True
        settings.profile_file_prefix = str(folder / "profile")
        settings.optimized_model_filepath = str(folder / _GRAPH)
        for name, value in _SAVED.items():
            settings.add_session_config_entry(name, value)
        self._ort = load(named(artifact, folder), settings, list(providers))
        self._session: Session = wrapped(artifact, self._ort)
        self._launch: Launch = self._session.bind(seeded_input(artifact.inputs, wish.batch, SEED))

    def __call__(self) -> None:
        """Run."""
        self.runs += 1
        self._launch()

    def wait(self) -> None:
        """Return when the run has finished."""
        self._launch.wait()

    def outputs(self) -> "dict[str, Array]":
        """As of a launch."""
        return self._launch.outputs()

    def kernels(self) -> tuple[Timed, ...]:
        """Read the trace. Raises ``CheckFailedError``."""
        events = json.loads(Path(self._ort.end_profiling()).read_text(encoding="utf-8"))
        return ort_kernels(events, self.turns, graph_of(Path(self._folder.name) / _GRAPH))

    def close(self) -> None:
        """Free the session, and remove what it wrote."""
        self._session.close()
        self._folder.cleanup()


def open_cpu(artifact: "Artifact", wish: Wish) -> OrtProbe:
    """On the CPU. Raises as ``PROBES``."""
    from cnnport.runtimes.ort import CPU, OrtSession

    return OrtProbe(artifact, wish, [CPU], OrtSession)


def open_cuda(artifact: "Artifact", wish: Wish) -> OrtProbe:
    """On a GPU. Raises as ``PROBES``, and ``RuntimeMissingError`` if the provider does not load."""
    # CUDA reads it once, when it is used first.
    os.environ["CUDA_LAUNCH_BLOCKING"] = "1"

    from cnnport.runtimes import get_runtime
    from cnnport.runtimes.ort import CPU
    from cnnport.runtimes.ort_cuda import CUDA, OrtCudaSession, provider_options
    from cnnport.runtimes.settings import settle

    chosen = settle(wish.runtime, get_runtime(wish.runtime).settings, wish.settings)

    def wrapped(artifact: "Artifact", session: "onnxruntime.InferenceSession") -> OrtCudaSession:
        if CUDA not in session.get_providers():
            raise RuntimeMissingError(f"runtime {wish.runtime} is not available: its provider did not load")
        return OrtCudaSession(artifact, session, wish.options, cuda_graph=False)

    providers = [(CUDA, provider_options(wish.options, chosen)), CPU]
    return OrtProbe(artifact, wish, providers, wrapped)


def named(artifact: "Artifact", folder: Path) -> "Artifact":
    """The file, or a copy in which every node bears its own name or that of what it writes: a trace has no other."""
    from cnnport.onnxfile import load_model

    if all(node.name for node in load_model(artifact.path, external_data=False).graph.node):
        return artifact
    model = load_model(artifact.path)
    for node in model.graph.node:
        node.name = node.name or next(filter(None, node.output), "")
    path = folder / "named.onnx"
    path.write_bytes(model.SerializeToString())
    return replace(artifact, path=path)


def graph_of(path: Path) -> Graph:
    """The nodes of a file's graph. Raises ``ArtifactError``."""
    from cnnport.onnxfile import load_model

    nodes = [node for node in load_model(path, external_data=False).graph.node if node.op_type != "Constant"]
    names = {id(node): node.name or next(filter(None, node.output), "") for node in nodes}
    maker = {name: names[id(node)] for node in nodes for name in node.output if name}
    return {
        names[id(node)]: Ran(
            tuple(dict.fromkeys(maker[name] for name in node.input if name in maker)),
            tuple(filter(None, node.output)),
            "" if node.name else node.op_type,
        )
        for node in nodes
    }
