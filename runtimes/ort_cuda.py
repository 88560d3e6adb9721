"""ONNX Runtime on NVIDIA GPUs: the CUDA execution provider, held to owning the graph.

onnxruntime runs on the CPU what its CUDA provider does not take, and everything where that provider does not load;
neither is an error to it. Here both are: the session must have the provider, and which nodes it was given is read
back from the session.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cnnport.artifact import Artifact
from cnnport.errors import ArtifactError, CnnportError, RuntimeMissingError
from cnnport.runtimes.cuda import Gpu
from cnnport.runtimes.cuda_libraries import load_cuda_libraries
from cnnport.runtimes.device_clock import DeviceClock
from cnnport.runtimes.driver import Driver, driver
from cnnport.runtimes.ort import CPU, Loaded, assigned, load, recording, session_options
from cnnport.runtimes.ort_cuda_errors import error_of_load, error_of_run, why_not_loaded
from cnnport.runtimes.ort_packages import cuda_provider_failure
from cnnport.runtimes.protocol import Array, Options, Tensors
from cnnport.runtimes.settings import Setting, Settings, settle

if TYPE_CHECKING:
    import onnxruntime

CUDA = "CUDAExecutionProvider"

# The kind of device as onnxruntime's values and bindings name it.
_KIND = "cuda"

# Sizes are computed where they are needed: the provider itself leaves these to the CPU where they work on shapes.
# fmt: off
_SHAPE_OPERATORS = frozenset({
    "Add", "Cast", "Concat", "Constant", "ConstantOfShape", "Div", "Equal", "Expand", "Gather", "Max", "Min", "Mod",
    "Mul", "Range", "ReduceProd", "Reshape", "Shape", "Size", "Slice", "Squeeze", "Sub", "Unsqueeze", "Where",
})
# fmt: on

# Of the run option gpu_graph_id: a run that neither records a CUDA graph nor replays one.
_NO_GRAPH = -1


class OrtCudaRuntime:
    """The CUDA execution provider; the CPU's only for what computes shapes."""

    name = "ort-cuda"
    settings: tuple[Setting, ...] = (
        Setting("cuda_graph", "0", "record a run once, and replay it from then on", ("0", "1")),
        Setting("nhwc", "0", "convolutions channels last inside", ("0", "1")),
        Setting("tf32", "0", "let float32 multiply with 10 bits of mantissa", ("0", "1")),
        Setting(
            "cudnn_search",
            "",
            "how cuDNN chooses algorithms; exhaustive times them all",
            ("exhaustive", "heuristic", "default"),
        ),
        Setting(
            "most_on_cpu",
            "0",
            "share of nodes on the CPU that is no error; those of shapes do not count",
            ("X",),
        ),
        Setting("memory_mib", "", "most device memory of its arena, in MiB", ("N",)),
        Setting("stream", "", "address of the caller's CUDA stream to run on; from Python", ("N",)),
    )

    def missing(self) -> str | None:
        """None where onnxruntime has CUDA, the driver a GPU that it can use, and CUDA's libraries load."""
        package, found = cuda_provider_failure(CUDA), driver()
        if package:
            return package if isinstance(found, Driver) else f"{package}; and {found}"
        if not isinstance(found, Driver):
            return found
        import onnxruntime

        cuda = str(getattr(onnxruntime, "cuda_version", ""))
        if reason := found.too_old_for(cuda):
            return reason
        libraries = load_cuda_libraries(cuda)
        return libraries and f"{libraries}: pip install 'cnnport[cuda]'"

    def version(self) -> str:
        """Of onnxruntime, and the CUDA that it was built for."""
        self._require()
        import onnxruntime

        return (
            f"onnxruntime {onnxruntime.__version__}, CUDA {getattr(onnxruntime, 'cuda_version', 'unknown')}"
        )

    def device(self) -> str:
        """The GPUs, as the driver counts them."""
        return str(self._require())

    def open(self, artifact: Artifact, options: Options) -> "OrtCudaSession":
        """Load an artifact.

        Raises:
            RuntimeMissingError: If ``missing()`` says so, there is no GPU of that number, or it cannot be used.
            ArtifactError: If onnxruntime cannot load the file, or leaves more of it to the CPU than is allowed.
            CnnportError: If a setting is unknown or has a value that it does not take, or memory runs out.
        """
        chosen = self._chosen(options)
        session = self._load(artifact, options, chosen)
        _check_share(artifact, assigned(session), chosen.share("most_on_cpu"))
        return OrtCudaSession(artifact, session, options, cuda_graph=chosen.flag("cuda_graph"))

    def placement(self, artifact: Artifact, options: Options) -> dict[str, dict[str, int]]:
        """The graph's nodes by execution provider, before fusion, whatever their share. Raises as ``open``."""
        return assigned(self._load(artifact, options, self._chosen(options)))

    def _chosen(self, options: Options) -> Settings:
        if reason := self._require().lacks(options.device):
            raise RuntimeMissingError(f"runtime {self.name}: {reason}")
        return settle(self.name, self.settings, options.settings)

    def _load(self, artifact: Artifact, options: Options, chosen: Settings) -> "onnxruntime.InferenceSession":
        import onnxruntime as ort

        provider = provider_options(options, chosen)
        # The default logger, whose severity is "warning", is the one that a provider that fails to load is told to.
        ort.set_default_logger_severity(4)
        try:
            session = load(artifact, recording(session_options(options)), [(CUDA, provider), CPU])
        except ArtifactError as error:
            raise error_of_load(self.name, error, options.device) or error from error.__cause__
        finally:
            ort.set_default_logger_severity(2)
        if CUDA not in session.get_providers():
            raise RuntimeMissingError(f"runtime {self.name} is not available: {why_not_loaded()}")
        return session

    def _require(self) -> "Driver":
        found = driver()
        if (reason := self.missing()) or not isinstance(found, Driver):
            raise RuntimeMissingError(f"runtime {self.name} is not available: {reason or found}")
        return found


class OrtCudaSession(Loaded):
    """A session whose inputs and outputs lie on the device."""

    def __init__(
        self,
        artifact: Artifact,
        session: "onnxruntime.InferenceSession",
        options: Options,
        *,
        cuda_graph: bool,
    ) -> None:
        super().__init__(artifact, session)
        self._device = options.device
        self._cuda_graph = cuda_graph
        self._keep_memory = options.reuse_memory
        self._graphs = 0

    def run(self, feeds: Tensors) -> dict[str, Array]:
        """Every output by name. Raises ``FeedError``, and ``CnnportError`` if memory runs out."""
        return self._bound(feeds).outputs()

    def bind(self, feeds: Tensors) -> "OrtCudaLaunch":
        """Copy the feeds to the device, run once, and keep the outputs' memory for the runs that follow.

        Raises:
            FeedError: If the feeds do not fit, or onnxruntime cannot run on them.
            CnnportError: If memory runs out.
        """
        launch = self._bound(feeds)
        self._graphs += self._cuda_graph
        # Each has memory of its own, and a recorded graph knows no other.
        launch.keep_outputs(self._run_options(self._graphs if self._cuda_graph else _NO_GRAPH))
        return launch

    def _bound(self, feeds: Tensors) -> "OrtCudaLaunch":
        session = self._checked(feeds)
        try:
            launch = OrtCudaLaunch(session, feeds, [spec.name for spec in self.outputs], self._device)
            launch.first(self._run_options(_NO_GRAPH))
        except Exception as error:  # onnxruntime's exceptions share no base but this
            raise error_of_run(error, self._device) from error
        return launch

    def _run_options(self, graph: int) -> "onnxruntime.RunOptions | None":
        """None where nothing is to be said, which saves a run some microseconds."""
        if not self._cuda_graph and self._keep_memory:
            return None
        import onnxruntime as ort

        options = ort.RunOptions()
        if self._cuda_graph:
            options.add_run_config_entry("gpu_graph_id", str(graph))
        else:
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", f"gpu:{self._device}")
        return options


class OrtCudaLaunch:
    """A run over inputs and outputs on the device.

    onnxruntime waits for its stream at the end of a run; ``wait`` waits for the device all the same, so that what it
    promises does not depend on that.
    """

    def __init__(
        self, session: "onnxruntime.InferenceSession", feeds: Tensors, outputs: list[str], device: int
    ) -> None:
        import onnxruntime as ort

        self._names = outputs
        self._device = device
        self._binding = session.io_binding()
        self._inputs: list[Any] = []
        for name, array in feeds.items():
            dense = array if array.flags.c_contiguous else array.copy(order="C")
            value = ort.OrtValue.ortvalue_from_numpy(dense, _KIND, device)
            self._binding.bind_ortvalue_input(name, value)
            self._inputs.append(value)
        for name in outputs:
            self._binding.bind_output(name, _KIND, device)
        self._run = session.run_with_iobinding
        self._options: onnxruntime.RunOptions | None = None

    def first(self, options: "onnxruntime.RunOptions | None") -> None:
        """Run once, which tells the sizes of the outputs."""
        self._run(self._binding, options)
        self.wait()

    def keep_outputs(self, options: "onnxruntime.RunOptions | None") -> None:
        """Have every further run write where the last one did, and run with these options."""
        for name, value in zip(self._names, self._binding.get_outputs(), strict=True):
            self._binding.bind_ortvalue_output(name, value)
        self._options = options

    def __call__(self) -> None:
        """Run. Raises ``CnnportError`` if memory runs out, and ``FeedError`` if the run fails otherwise."""
        try:
            self._run(self._binding, self._options)
        except Exception as error:  # onnxruntime's exceptions share no base but this
            raise error_of_run(error, self._device) from error

    def wait(self) -> None:
        """Return when the device has finished."""
        self._binding.synchronize_outputs()

    def device_clock(self) -> DeviceClock:
        """The device's clock; the stream of the runs is onnxruntime's own. Raises ``CudaError``."""
        outputs = self._binding.get_outputs
        inputs = _places(self._inputs)
        return DeviceClock(Gpu(self._device), inputs, lambda: _places(outputs()), stream=None, owns_gpu=True)

    def outputs(self) -> dict[str, Array]:
        """Copies of the outputs of the last run."""
        values = self._binding.copy_outputs_to_cpu()
        return dict(zip(self._names, values, strict=True))


def _places(values: "Sequence[onnxruntime.OrtValue]") -> list[tuple[int, int]]:
    """Where values lie, and their bytes."""
    return [(value.data_ptr(), value.tensor_size_in_bytes()) for value in values]


def provider_options(options: Options, chosen: Settings) -> dict[str, str]:
    """Options and settings as the provider takes them.

    Raises:
        CnnportError: If they contradict each other.
    """
    search = chosen.text("cudnn_search")
    if options.deterministic and search == "exhaustive":
        raise CnnportError(
            "cudnn_search=exhaustive takes what is fastest at the time, which is not deterministic: "
            "leave out one of the two"
        )
    if not search:
        search = "default" if options.deterministic else "exhaustive"
    given: dict[str, Any] = {
        "device_id": options.device,
        "enable_cuda_graph": int(chosen.flag("cuda_graph")),
        "prefer_nhwc": int(chosen.flag("nhwc")),
        "use_tf32": int(chosen.flag("tf32")),
        "cudnn_conv_algo_search": search.upper(),
    }
    if not options.reuse_memory:
        given["arena_extend_strategy"] = "kSameAsRequested"
    if (mebibytes := chosen.number("memory_mib")) is not None:
        given["gpu_mem_limit"] = mebibytes * 2**20
    if stream := chosen.number("stream"):
        given["user_compute_stream"] = stream
    return {name: str(value) for name, value in given.items()}


def _check_share(artifact: Artifact, placed: dict[str, dict[str, int]], limit: float) -> None:
    """Raises ``ArtifactError`` where too much of the graph is not the CUDA provider's."""
    total = sum(sum(counts.values()) for counts in placed.values())
    fallen = {
        operator: count
        for provider, counts in placed.items()
        if provider != CUDA
        for operator, count in counts.items()
        if operator not in _SHAPE_OPERATORS
    }
    share = sum(fallen.values()) / total if total else 0.0
    if share > limit:
        listing = ", ".join(f"{operator} {count}" for operator, count in sorted(fallen.items()))
        raise ArtifactError(
            f"onnxruntime leaves {sum(fallen.values())} of {total} nodes of {artifact.path} to the CPU ({listing}): "
            f"--set most_on_cpu={math.ceil(share * 100) / 100:g} allows that"
        )
