"""ONNX Runtime on the CPU, and what is the same for ONNX Runtime on a GPU."""

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from cnnport.artifact import Artifact
from cnnport.errors import ArtifactError, FeedError, RuntimeMissingError, first_line
from cnnport.runtimes.closing import Closing
from cnnport.runtimes.feeds import check_feeds
from cnnport.runtimes.ort_packages import import_failure
from cnnport.runtimes.protocol import Array, Options, Tensors
from cnnport.runtimes.settings import Setting, settle

if TYPE_CHECKING:
    import onnxruntime

CPU = "CPUExecutionProvider"

# What CUDA's libraries said, out of a text that also has the source's line and the machine's name.
_CUDA_FAILURE = re.compile(r"(?:CUDA|CUDNN|CUBLAS|CUFFT|CURAND) failure \d+: [^;]+")


class OrtCpuRuntime:
    """The CPU execution provider, and no other."""

    name = "ort-cpu"
    settings: tuple[Setting, ...] = ()

    def missing(self) -> str | None:
        """None where onnxruntime imports."""
        return import_failure("cpu", "onnxruntime")

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
        settings = session_options(options)
        settings.enable_cpu_mem_arena = options.reuse_memory
        return OrtSession(artifact, load(artifact, settings, [CPU]))

    def placement(self, artifact: Artifact, options: Options) -> dict[str, dict[str, int]]:
        """The graph's nodes by execution provider, before fusion. Raises as ``open``."""
        self._require()
        settle(self.name, self.settings, options.settings)
        return assigned(load(artifact, recording(session_options(options)), [CPU]))

    def _require(self) -> None:
        if reason := self.missing():
            raise RuntimeMissingError(f"runtime {self.name} is not available: {reason}")


class Loaded(Closing):
    """An ``InferenceSession`` over the file, and what all sessions check."""

    def __init__(self, artifact: Artifact, session: "onnxruntime.InferenceSession") -> None:
        self._session: onnxruntime.InferenceSession | None = session
        self.inputs = artifact.inputs
        self.outputs = artifact.outputs

    def close(self) -> None:
        """Free the session."""
        self._session = None

    def _checked(self, feeds: Tensors) -> "onnxruntime.InferenceSession":
        if self._session is None:
            raise ValueError("the session is closed")
        check_feeds(self.inputs, feeds)
        return self._session


class OrtSession(Loaded):
    """A session on the CPU."""

    def run(self, feeds: Tensors) -> dict[str, Array]:
        """Every output by name. Raises ``FeedError``."""
        session = self._checked(feeds)
        names = [spec.name for spec in self.outputs]
        try:
            values = session.run(names, dict(feeds))
        except Exception as error:
            raise FeedError(f"onnxruntime cannot run on these inputs: {reason_of(error)}") from error
        return dict(zip(names, values, strict=True))

    def bind(self, feeds: Tensors) -> "OrtLaunch":
        """Place the feeds, and let the outputs be allocated by each run. Raises ``FeedError``."""
        return OrtLaunch(self._checked(feeds), feeds, [spec.name for spec in self.outputs])


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


def session_options(options: Options) -> "onnxruntime.SessionOptions":
    """What every session of onnxruntime is opened with."""
    import onnxruntime as ort

    settings = ort.SessionOptions()
    # What goes wrong is raised; its log would say it once more, past whoever catches it.
    settings.log_severity_level = 4
    settings.use_deterministic_compute = options.deterministic
    if options.threads is not None:
        settings.intra_op_num_threads = options.threads
    if not options.optimize:
        settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return settings


def recording(settings: "onnxruntime.SessionOptions") -> "onnxruntime.SessionOptions":
    """The same, with which ``assigned`` can be asked of the session."""
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return settings


def assigned(session: "onnxruntime.InferenceSession") -> dict[str, dict[str, int]]:
    """The graph's nodes by execution provider and operator, before fusion; see ``recording``."""
    found: dict[str, Counter[str]] = {}
    for part in session.get_provider_graph_assignment_info():
        found.setdefault(part.ep_name, Counter()).update(node.op_type for node in part.get_nodes())
    return {provider: dict(sorted(counts.items())) for provider, counts in found.items()}


def load(
    artifact: Artifact, settings: "onnxruntime.SessionOptions", providers: list[Any]
) -> "onnxruntime.InferenceSession":
    """A session on these execution providers. Raises ``ArtifactError``."""
    import onnxruntime as ort

    try:
        # Its own fallback prints a banner and goes on with other providers than those asked for.
        return ort.InferenceSession(str(artifact.path), settings, providers=providers, enable_fallback=0)
    except Exception as error:  # onnxruntime's exceptions share no base but this
        raise ArtifactError(f"onnxruntime cannot load {artifact.path}: {reason_of(error)}") from error


def reason_of(error: Exception) -> str:
    """What onnxruntime says, in one line, without its error codes and the places in its source."""
    return cuda_failure(error) or first_line(error).rsplit(" : ", 1)[-1].strip()


def cuda_failure(error: Exception) -> str | None:
    """What one of CUDA's libraries said, with its error's number; None if the error is none of theirs."""
    found = _CUDA_FAILURE.search(str(error))
    return found.group().strip() if found else None
