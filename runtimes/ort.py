"""ONNX Runtime on the CPU."""

from collections import Counter
from importlib.util import find_spec
from typing import TYPE_CHECKING

from cnnport.artifact import Artifact
from cnnport.errors import ArtifactError, FeedError, RuntimeMissingError, first_line
from cnnport.runtimes.closing import Closing
from cnnport.runtimes.feeds import check_feeds
from cnnport.runtimes.protocol import Array, Options, Tensors
from cnnport.runtimes.settings import Setting, settle

if TYPE_CHECKING:
    import onnxruntime


class OrtCpuRuntime:
    """The CPU execution provider, and no other."""

    name = "ort-cpu"
    settings: tuple[Setting, ...] = ()

    def missing(self) -> str | None:
        """None where onnxruntime imports."""
        if find_spec("onnxruntime") is None:
            return "onnxruntime is not installed: pip install 'cnnport[cpu]'"
        try:
            import onnxruntime  # noqa: F401
        except (ImportError, AttributeError) as error:
            # Two packages in one folder, or half an installation, show here and not before.
            return f"onnxruntime does not import ({first_line(error)}): pip install --force-reinstall onnxruntime"
        return None

    def version(self) -> str:
        """Of onnxruntime."""
        import onnxruntime

        return f"onnxruntime {onnxruntime.__version__}"

    def device(self) -> str:
        """The CPU."""
        return "CPU"

    def open(self, artifact: Artifact, options: Options) -> "OrtSession":
        """Load an artifact. Raises ``RuntimeMissingError`` and ``ArtifactError``."""
        self._require()
        settle(self.name, self.settings, options.settings)
        return OrtSession(artifact, options)

    def placement(self, artifact: Artifact) -> dict[str, dict[str, int]]:
        """The graph's nodes by execution provider, before fusion. Raises as ``open``."""
        import onnxruntime as ort

        self._require()
        settings = ort.SessionOptions()
        settings.log_severity_level = 3
        settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        found: dict[str, Counter[str]] = {}
        for part in _load(artifact, settings).get_provider_graph_assignment_info():
            found.setdefault(part.ep_name, Counter()).update(node.op_type for node in part.get_nodes())
        return {provider: dict(sorted(counts.items())) for provider, counts in found.items()}

    def _require(self) -> None:
        if reason := self.missing():
            raise RuntimeMissingError(f"runtime {self.name} is not available: {reason}")


class OrtSession(Closing):
    """An ``InferenceSession`` over the file."""

    def __init__(self, artifact: Artifact, options: Options) -> None:
        import onnxruntime as ort

        settings = ort.SessionOptions()
        # What goes wrong is raised; its log would say it once more, past whoever catches it.
        settings.log_severity_level = 4
        if options.threads is not None:
            settings.intra_op_num_threads = options.threads
        if not options.optimize:
            settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        settings.enable_cpu_mem_arena = options.reuse_memory
        self._session: onnxruntime.InferenceSession | None = _load(artifact, settings)
        self.inputs = artifact.inputs
        self.outputs = artifact.outputs

    def run(self, feeds: Tensors) -> dict[str, Array]:
        """Every output by name. Raises ``FeedError``."""
        session = self._checked(feeds)
        names = [spec.name for spec in self.outputs]
        try:
            values = session.run(names, dict(feeds))
        except Exception as error:
            raise FeedError(f"onnxruntime cannot run on these inputs: {_reason(error)}") from error
        return dict(zip(names, values, strict=True))

    def bind(self, feeds: Tensors) -> "OrtLaunch":
        """Place the feeds, and let the outputs be allocated by each run. Raises ``FeedError``."""
        return OrtLaunch(self._checked(feeds), feeds, [spec.name for spec in self.outputs])

    def close(self) -> None:
        """Free the session."""
        self._session = None

    def _checked(self, feeds: Tensors) -> "onnxruntime.InferenceSession":
        if self._session is None:
            raise ValueError("the session is closed")
        check_feeds(self.inputs, feeds)
        return self._session


class OrtLaunch:
    """A run over bound inputs and outputs; on the CPU it has finished when it returns."""

    def __init__(self, session: "onnxruntime.InferenceSession", feeds: Tensors, outputs: list[str]) -> None:
        self._names = outputs
        self._binding = session.io_binding()
        for name, array in feeds.items():
            self._binding.bind_cpu_input(name, array)
        for name in outputs:
            self._binding.bind_output(name)
        self._run = session.run_with_iobinding

    def __call__(self) -> None:
        """Run."""
        self._run(self._binding)

    def wait(self) -> None:
        """Return: the run has finished."""

    def outputs(self) -> dict[str, Array]:
        """Copies of the outputs of the last run."""
        values = self._binding.copy_outputs_to_cpu()
        return dict(zip(self._names, values, strict=True))


def _load(artifact: Artifact, settings: "onnxruntime.SessionOptions") -> "onnxruntime.InferenceSession":
    import onnxruntime as ort

    try:
        return ort.InferenceSession(str(artifact.path), settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base but this
        raise ArtifactError(f"onnxruntime cannot load {artifact.path}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What onnxruntime says, in one line, without its error codes."""
    return first_line(error).rsplit(" : ", 1)[-1].strip()
