"""ort-cuda without a GPU: a recording stand-in for onnxruntime, and the messages of the real one (1.31.1).

The messages were read off onnxruntime-gpu's own wheel, run with and without CUDA's libraries and with a driver that
has no device.
"""

import json
import re
import sys
from collections.abc import Callable
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from cnnport.artifact import Artifact
from cnnport.errors import ArtifactError, CnnportError, FeedError, RuntimeMissingError
from cnnport.onnxfile import read_artifact
from cnnport.runtimes import Options, cuda_libraries, ort_cuda, ort_packages
from cnnport.runtimes.driver import Device, Driver
from cnnport.runtimes.ort import CPU, assigned, load, recording, session_options
from cnnport.runtimes.ort_cuda import CUDA, OrtCudaRuntime

DRIVER = Driver(
    (13, 0), (Device(0, "NVIDIA H100", (9, 0), 80 << 30), Device(1, "Tesla T4", (7, 5), 15 << 30))
)
FEEDS = {"x": np.arange(6, dtype=np.float32).reshape(2, 3)}

CUDA_CALL = (
    "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:154 std::conditional_t<THRW, void, "
    "onnxruntime::common::Status> onnxruntime::CudaCall(ERRTYPE, const char*, const char*, SUCCTYPE, const char*, "
    "const char*, int) [with ERRTYPE = cudaError; bool THRW = true] CUDA failure {} ; GPU=-1 ; hostname=vm ; "
    "file=/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_execution_provider.cc ; line=355 ; "
    "expr=cudaSetDevice(info_.device_id); \n\n"
)
CUDNN_CALL = CUDA_CALL.replace(
    "CUDA failure {}", "CUDNN failure 1002: CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH"
)
ARENA = (
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running Conv node. Name:'c' "
    "Status Message: /onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:376 void* onnxruntime::BFCArena::"
    "AllocateRawInternal(size_t, bool, onnxruntime::Stream*) Available memory of 3469 is smaller than requested "
    "bytes of 945041920\n"
)
NO_LIBRARY = (
    "[ONNXRuntimeError] : 1 : FAIL : Failed to load library /v/onnxruntime/capi/libonnxruntime_providers_cuda.so "
    "with error: libcublasLt.so.13: cannot open shared object file: No such file or directory"
)
GRAPH_REFUSED = (
    "[ONNXRuntimeError] : 1 : FAIL : This session cannot use the graph capture feature as requested by the user as "
    "the model has control flow nodes which can't be supported by CUDAExecutionProvider"
)


class Settings:
    """Takes whatever is set, and keeps the entries."""

    def __init__(self) -> None:
        self.entries: dict[str, str] = {}

    def add_session_config_entry(self, name: str, value: str) -> None:
        self.entries[name] = value

    add_run_config_entry = add_session_config_entry


class Binding:
    """Adds one to the input, into the memory that is bound or into new memory."""

    def __init__(self, said: list[Any]) -> None:
        self._said = said
        self._input = np.zeros(0)
        self._outputs: dict[str, Any] = {}

    def bind_ortvalue_input(self, name: str, value: Any) -> None:
        self._said.append(("input", name, value.place))
        self._input = value.array

    def bind_output(self, name: str, kind: str, device: int) -> None:
        self._said.append(("output", name, (kind, device)))
        self._outputs[name] = None

    def bind_ortvalue_output(self, name: str, value: Any) -> None:
        self._said.append(("kept", name))
        self._outputs[name] = value

    def compute(self) -> None:
        for name in self._outputs:
            self._outputs[name] = SimpleNamespace(array=self._input + 1)

    def get_outputs(self) -> list[Any]:
        return list(self._outputs.values())

    def synchronize_outputs(self) -> None:
        self._said.append("wait")

    def copy_outputs_to_cpu(self) -> list[Any]:
        return [value.array.copy() for value in self._outputs.values()]


class OnnxRuntime(ModuleType):
    """What the adapter uses of onnxruntime, told in order in ``said``; ``fail`` has errors by place."""

    __version__ = "1.31.1"
    cuda_version = "13.0"
    GraphOptimizationLevel = SimpleNamespace(ORT_DISABLE_ALL="none")

    def __init__(self, folder: Path) -> None:
        super().__init__("onnxruntime")
        self.__file__ = str(folder / "onnxruntime" / "__init__.py")
        self.__spec__ = ModuleSpec("onnxruntime", None, is_package=True)
        assert self.__spec__.submodule_search_locations is not None
        self.__spec__.submodule_search_locations.append(str(folder / "onnxruntime"))
        self.said: list[Any] = []
        self.fail: dict[str, Exception] = {}
        self.placed: dict[str, list[str]] = {CUDA: ["Conv", "Relu"]}
        self.available = [CUDA, CPU]
        self.loaded = [CUDA, CPU]
        self.SessionOptions = self.RunOptions = Settings
        self.OrtValue = SimpleNamespace(ortvalue_from_numpy=self._value)
        self.InferenceSession = self._session

    def get_available_providers(self) -> list[str]:
        return self.available

    def set_default_logger_severity(self, level: int) -> None:
        self.said.append(("log", level))

    def register_execution_provider_library(self, name: str, path: str) -> None:
        raise self.fail["register"]

    def _value(self, array: Any, kind: str, device: int) -> Any:
        assert array.flags.c_contiguous
        return SimpleNamespace(array=array, place=(kind, device))

    def _session(self, path: str, settings: Any, *, providers: list[Any], enable_fallback: int) -> Any:
        self.said.append(("session", settings, providers, enable_fallback))
        if "load" in self.fail:
            raise self.fail["load"]

        def run(binding: Binding, options: Settings | None) -> None:
            self.said.append(("run", options and options.entries))
            if "run" in self.fail:
                raise self.fail["run"]
            binding.compute()

        return SimpleNamespace(
            get_providers=lambda: self.loaded,
            io_binding=lambda: Binding(self.said),
            run_with_iobinding=run,
            get_provider_graph_assignment_info=lambda: [
                SimpleNamespace(
                    ep_name=provider,
                    get_nodes=lambda kinds=kinds: [SimpleNamespace(op_type=kind) for kind in kinds],
                )
                for provider, kinds in self.placed.items()
            ],
        )


@pytest.fixture
def ort(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> OnnxRuntime:
    """Everything there: onnxruntime with CUDA, a driver with two GPUs, CUDA's libraries."""
    fake = OnnxRuntime(tmp_path)
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    monkeypatch.setattr(ort_cuda, "driver", lambda: DRIVER)
    monkeypatch.setattr(ort_cuda, "load_cuda_libraries", lambda cuda: None)
    return fake


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return read_artifact(add_one(tmp_path / "one.onnx"))


def add_one(path: Path) -> Path:
    specs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in ("x", "y")]
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "one"], ["y"])], "g", specs[:1], specs[1:], [one]
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def provider(ort: OnnxRuntime) -> dict[str, str]:
    (providers,) = (entry[2] for entry in ort.said if entry[0] == "session")
    (name, options), rest = providers
    assert (name, rest) == (CUDA, CPU)
    return dict(options)


def test_inputs_go_to_the_device_once_and_outputs_stay_there(ort: OnnxRuntime, artifact: Artifact) -> None:
    with OrtCudaRuntime().open(artifact, Options(device=1)) as session:
        ort.said.clear()
        launch = session.bind(FEEDS)
        assert ort.said == [
            ("input", "x", ("cuda", 1)),
            ("output", "y", ("cuda", 1)),
            ("run", None),
            "wait",
            ("kept", "y"),
        ]
        ort.said.clear()
        launch()
        assert ort.said == [("run", None)]
        launch.wait()
        assert ort.said == [("run", None), "wait"]
        np.testing.assert_array_equal(launch.outputs()["y"], FEEDS["x"] + 1)
        np.testing.assert_array_equal(session.run(FEEDS)["y"], FEEDS["x"] + 1)
        np.testing.assert_array_equal(session.run({"x": FEEDS["x"][:, ::-1]})["y"], FEEDS["x"][:, ::-1] + 1)
    with pytest.raises(ValueError, match="closed"):
        session.bind(FEEDS)


@pytest.mark.parametrize("settings", [{"cuda_graph": "1"}, {}])
def test_the_real_onnxruntime_takes_every_call(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]
) -> None:
    """The same bindings, values and options of a run, on the only device that is here."""
    monkeypatch.setattr(ort_cuda, "_KIND", "cpu")
    real = load(artifact, recording(session_options(Options(deterministic=True))), [CPU])
    assert assigned(real) == {CPU: {"Add": 1}}
    with ort_cuda.OrtCudaSession(artifact, real, Options(), cuda_graph=bool(settings)) as session:
        launch = session.bind({"x": FEEDS["x"].T.copy().T})
        kept = [value.data_ptr() for value in launch._binding.get_outputs()]
        for _ in range(3):
            launch()
            launch.wait()
        assert [value.data_ptr() for value in launch._binding.get_outputs()] == kept
        found = launch.outputs()["y"]
        np.testing.assert_array_equal(found, FEEDS["x"] + 1)
        found += 1
        np.testing.assert_array_equal(session.run(FEEDS)["y"], launch.outputs()["y"])


def test_a_session_is_loaded_without_onnxruntimes_own_fallback(ort: OnnxRuntime, artifact: Artifact) -> None:
    OrtCudaRuntime().open(artifact, Options(threads=3, optimize=False))
    ((_, settings, _, fallback),) = (entry for entry in ort.said if entry[0] == "session")
    assert fallback == 0
    assert settings.entries == {"session.record_ep_graph_assignment_info": "1"}
    assert (settings.intra_op_num_threads, settings.graph_optimization_level) == (3, "none")
    assert [entry for entry in ort.said if entry[0] == "log"] == [("log", 4), ("log", 2)]


def test_tf32_is_off_unless_it_is_asked_for(ort: OnnxRuntime, artifact: Artifact) -> None:
    OrtCudaRuntime().open(artifact, Options())
    assert provider(ort) == {
        "device_id": "0",
        "enable_cuda_graph": "0",
        "prefer_nhwc": "0",
        "use_tf32": "0",
        "cudnn_conv_algo_search": "EXHAUSTIVE",
    }


def test_settings_reach_the_provider(ort: OnnxRuntime, artifact: Artifact) -> None:
    settings = {"nhwc": "on", "tf32": "1", "cudnn_search": "heuristic", "memory_mib": "512", "stream": "4096"}
    OrtCudaRuntime().open(artifact, Options(device=1, reuse_memory=False, settings=settings))
    assert provider(ort) == {
        "device_id": "1",
        "enable_cuda_graph": "0",
        "prefer_nhwc": "1",
        "use_tf32": "1",
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
        "gpu_mem_limit": str(512 << 20),
        "user_compute_stream": "4096",
    }


def test_what_times_algorithms_is_not_deterministic(ort: OnnxRuntime, artifact: Artifact) -> None:
    OrtCudaRuntime().open(artifact, Options(deterministic=True))
    assert provider(ort)["cudnn_conv_algo_search"] == "DEFAULT"
    with pytest.raises(CnnportError, match="leave out one of the two"):
        OrtCudaRuntime().open(artifact, Options(deterministic=True, settings={"cudnn_search": "exhaustive"}))


def test_each_recorded_run_has_a_graph_of_its_own(ort: OnnxRuntime, artifact: Artifact) -> None:
    session = OrtCudaRuntime().open(artifact, Options(settings={"cuda_graph": "1"}))
    assert provider(ort)["enable_cuda_graph"] == "1"
    ort.said.clear()
    launches = [session.bind(FEEDS), session.bind(FEEDS)]
    for launch in launches:
        launch()
    session.run(FEEDS)
    graphs = [entry[1]["gpu_graph_id"] for entry in ort.said if entry[0] == "run"]
    # Only the launches are recorded: what runs once, or before the memory is settled, is not.
    assert graphs == ["-1", "-1", "1", "2", "-1"]


def test_memory_that_is_not_to_be_kept_is_given_back_after_each_run(
    ort: OnnxRuntime, artifact: Artifact
) -> None:
    session = OrtCudaRuntime().open(artifact, Options(device=1, reuse_memory=False))
    ort.said.clear()
    session.run(FEEDS)
    assert ("run", {"memory.enable_memory_arena_shrinkage": "gpu:1"}) in ort.said


def test_a_provider_that_does_not_load_is_an_error_and_not_the_cpu(
    ort: OnnxRuntime, artifact: Artifact
) -> None:
    ort.loaded = [CPU]
    ort.fail["register"] = RuntimeError(NO_LIBRARY)
    for call in (
        lambda: OrtCudaRuntime().open(artifact, Options()),
        lambda: OrtCudaRuntime().placement(artifact, Options()),
    ):
        with pytest.raises(
            RuntimeMissingError, match=r"does not load \(libcublasLt\.so\.13: cannot open"
        ) as caught:
            call()
        assert "FAIL" not in str(caught.value)


def test_operators_on_the_cpu_are_an_error_that_names_them(ort: OnnxRuntime, artifact: Artifact) -> None:
    ort.placed = {CUDA: ["Conv"] * 6 + ["Shape"], CPU: ["Conv", "Resize", "Resize", "Gather"]}
    with pytest.raises(
        ArtifactError, match=r"3 of 11 nodes .* \(Conv 1, Resize 2\): --set most_on_cpu=0\.28"
    ):
        OrtCudaRuntime().open(artifact, Options())
    with pytest.raises(ArtifactError, match="3 of 11"):
        OrtCudaRuntime().open(artifact, Options(settings={"most_on_cpu": "0.27"}))
    OrtCudaRuntime().open(artifact, Options(settings={"most_on_cpu": "0.28"}))
    assert OrtCudaRuntime().placement(artifact, Options()) == {
        CUDA: {"Conv": 6, "Shape": 1},
        CPU: {"Conv": 1, "Gather": 1, "Resize": 2},
    }


def test_what_computes_shapes_may_be_on_the_cpu(ort: OnnxRuntime, artifact: Artifact) -> None:
    ort.placed = {CUDA: ["Conv"], CPU: ["Shape", "Gather", "Concat", "Unsqueeze"]}
    OrtCudaRuntime().open(artifact, Options())


def test_info_prints_the_placement(ort: OnnxRuntime, cli: Callable[..., Any], tmp_path: Path) -> None:
    code, out, _ = cli("info", add_one(tmp_path / "one.onnx"), "--runtime", "ort-cuda")
    assert code == 0
    assert re.search(r"CUDAExecutionProvider: Conv 1, Relu 1", out)
    assert provider(ort)["device_id"] == "0"


def test_info_asks_for_the_device_and_the_settings(
    ort: OnnxRuntime, cli: Callable[..., Any], tmp_path: Path
) -> None:
    """What is placed may depend on both; what was refused for a run is refused here."""
    file = add_one(tmp_path / "one.onnx")
    asked = ("info", file, "--runtime", "ort-cuda", "--device", "1", "--set", "nhwc=1", "--json")
    code, out, err = cli(*asked)
    assert (code, err) == (0, "")
    assert json.loads(out)["placement"] == {CUDA: {"Conv": 1, "Relu": 1}}
    assert {name: provider(ort)[name] for name in ("device_id", "prefer_nhwc")} == {
        "device_id": "1",
        "prefer_nhwc": "1",
    }
    for wrong, status, message in (
        (("--runtime", "ort-cuda", "--device", "7"), 3, "runtime ort-cuda: .* GPU"),
        (("--runtime", "ort-cuda", "--set", "nhwc=2"), 2, "setting nhwc takes 0 or 1"),
        (("--runtime", "ort-cuda", "--set", "zzz=1"), 2, "no setting called 'zzz'"),
        (("--set", "nhwc=1"), 2, "add --runtime"),
        (("--device", "1"), 2, "add --runtime"),
    ):
        code, out, err = cli("info", file, *wrong)
        assert (code, out) == (status, "")
        assert re.search(message, err)


@pytest.mark.parametrize(
    ("place", "error", "kind", "message"),
    [
        (
            "load",
            CUDA_CALL.format("100: no CUDA-capable device is detected"),
            RuntimeMissingError,
            "GPU 0 cannot be",
        ),
        (
            "load",
            CUDA_CALL.format("2: out of memory"),
            CnnportError,
            r"too little memory \(CUDA failure 2: out of m",
        ),
        ("load", GRAPH_REFUSED, ArtifactError, "model has control flow nodes"),
        (
            "load",
            CUDNN_CALL,
            RuntimeMissingError,
            r"cuDNN fails on GPU 0 \(CUDNN failure 1002: .*pip install",
        ),
        ("run", CUDNN_CALL, RuntimeMissingError, r"SUBLIBRARY_VERSION_MISMATCH\): take the version that"),
        ("run", CUDA_CALL.format("2: out of memory"), CnnportError, "take a smaller batch"),
        (
            "run",
            ARENA,
            CnnportError,
            r"\(Available memory of 3469 is smaller than requested bytes of 945041920\)",
        ),
        (
            "run",
            CUDA_CALL.format("700: an illegal memory access"),
            FeedError,
            "CUDA failure 700: an illegal memory",
        ),
    ],
)
def test_what_onnxruntime_says_becomes_one_line(
    ort: OnnxRuntime, artifact: Artifact, place: str, error: str, kind: type[CnnportError], message: str
) -> None:
    ort.fail[place] = RuntimeError(error)
    with pytest.raises(kind, match=message) as caught:
        OrtCudaRuntime().open(artifact, Options()).bind(FEEDS)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    assert "hostname" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (CUDA_CALL.format("2: out of memory"), CnnportError),
        (CUDNN_CALL, RuntimeMissingError),
        (CUDA_CALL.format("700: an illegal memory access"), FeedError),
    ],
)
def test_what_fails_after_the_first_run_is_told_as_well(
    ort: OnnxRuntime, artifact: Artifact, error: str, kind: type[CnnportError]
) -> None:
    """A recording takes memory of its own, and a benchmark calls nothing but the launch."""
    launch = OrtCudaRuntime().open(artifact, Options(settings={"cuda_graph": "1"})).bind(FEEDS)
    ort.fail["run"] = RuntimeError(error)
    with pytest.raises(CnnportError) as caught:
        launch()
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code in {2, 3}


def no_driver(ort: OnnxRuntime, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ort_cuda, "driver", lambda: "no NVIDIA driver: install it")


def old_driver(ort: OnnxRuntime, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ort_cuda, "driver", lambda: Driver((12, 8), DRIVER.devices))


def without_cuda(ort: OnnxRuntime, patch: pytest.MonkeyPatch) -> None:
    ort.available = [CPU]


def without_cuda_or_driver(ort: OnnxRuntime, patch: pytest.MonkeyPatch) -> None:
    without_cuda(ort, patch)
    no_driver(ort, patch)


def not_installed(ort: OnnxRuntime, patch: pytest.MonkeyPatch) -> None:
    patch.setitem(sys.modules, "onnxruntime", None)


def libraries(ort: OnnxRuntime, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ort_cuda, "load_cuda_libraries", lambda cuda: f"CUDA {cuda[:2]} does not load (x)")


def both_installed(ort: OnnxRuntime, patch: pytest.MonkeyPatch) -> None:
    installed(patch, Path(ort.__file__).parents[1], "onnxruntime", "onnxruntime-gpu")


def installed(patch: pytest.MonkeyPatch, folder: Path, *names: str) -> None:
    """Have these packages, and no others, lie in a folder."""

    def distribution(name: str) -> Any:
        if name not in names:
            raise metadata.PackageNotFoundError(name)
        return SimpleNamespace(locate_file=lambda path: folder / path)

    patch.setattr(ort_packages.metadata, "distribution", distribution)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (no_driver, r"^no NVIDIA driver: install it$"),
        (old_driver, r"serves CUDA 12\.8 at most, and this needs CUDA 13"),
        (
            without_cuda,
            r"1\.31\.1 is built without CUDA: pip uninstall -y onnxruntime && pip install 'cnnport\[cuda",
        ),
        (without_cuda_or_driver, r"built without CUDA: pip .*; and no NVIDIA driver"),
        (not_installed, r"^onnxruntime is not installed: pip install 'cnnport\[cuda\]'$"),
        (libraries, r"^CUDA 13 does not load \(x\): pip install 'cnnport\[cuda\]'$"),
        (
            both_installed,
            r"^onnxruntime and onnxruntime-gpu overwrite .* pip uninstall -y onnxruntime onnxruntime-gpu",
        ),
    ],
)
def test_what_is_missing_is_said_with_what_would_change_it(
    ort: OnnxRuntime,
    artifact: Artifact,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[OnnxRuntime, pytest.MonkeyPatch], None],
    reason: str,
) -> None:
    runtime = OrtCudaRuntime()
    assert runtime.missing() is None
    spoil(ort, monkeypatch)
    assert re.search(reason, runtime.missing() or "")
    for call in (
        lambda: runtime.open(artifact, Options()),
        lambda: runtime.placement(artifact, Options()),
        runtime.version,
        runtime.device,
    ):
        with pytest.raises(RuntimeMissingError, match="runtime ort-cuda is not available: "):
            call()


def test_packages_in_different_folders_do_not_mix(ort: OnnxRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, Path("/elsewhere"), "onnxruntime", "onnxruntime-gpu")
    assert OrtCudaRuntime().missing() is None


def test_a_gpu_that_is_not_there_is_named(ort: OnnxRuntime, artifact: Artifact) -> None:
    with pytest.raises(RuntimeMissingError, match="no GPU number 2: 0 is NVIDIA H100, 1 is Tesla T4"):
        OrtCudaRuntime().open(artifact, Options(device=2))


def test_libraries_are_taken_from_where_pip_puts_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own, torch = tmp_path / "nvidia", tmp_path / "torch"
    there = [own / "cu13/lib/libcudart.so.13", own / "cudnn/lib/libcudnn.so.9", torch / "lib/libcublas.so.13"]
    for path in there:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    asked: list[str] = []
    monkeypatch.setattr(
        cuda_libraries, "_package_folders", lambda name: {"nvidia": [own], "torch": [torch]}[name]
    )
    monkeypatch.setattr(cuda_libraries.ctypes, "CDLL", asked.append)
    assert cuda_libraries.load_cuda_libraries("13.0") is None
    assert {str(path) for path in there} < set(asked)
    # What no package brings is left to the system's loader, by name.
    assert {"libcublasLt.so.13", "libcurand.so.10", "libcufft.so.12"} < set(asked)


def test_a_library_that_does_not_load_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        if "cudnn" in name:
            raise OSError(f"{name}: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(cuda_libraries, "_package_folders", lambda name: [])
    monkeypatch.setattr(cuda_libraries.ctypes, "CDLL", refuse)
    assert cuda_libraries.load_cuda_libraries("13.0") == (
        "CUDA 13 and cuDNN 9 do not load (libcudnn.so.9: cannot open shared object file: No such file or directory)"
    )
    assert cuda_libraries.load_cuda_libraries("") is None


@pytest.mark.parametrize("name", ["ort-cuda", "torch-cuda"])
@pytest.mark.parametrize(
    "command",
    [("run", "lenet5", "digit.png"), ("bench", "lenet5"), ("info", "lenet5"), ("info", "one.onnx")],
)
def test_a_command_that_asks_for_cuda_without_one_ends_with_3(
    monkeypatch: pytest.MonkeyPatch,
    cli: Callable[..., Any],
    tmp_path: Path,
    name: str,
    command: tuple[str, ...],
) -> None:
    for module in ("ort_cuda", "eager"):
        monkeypatch.setattr(f"cnnport.runtimes.{module}.driver", lambda: "no NVIDIA driver: install it")
    add_one(tmp_path / "one.onnx")
    code, out, err = cli(*command, "--runtime", name)
    assert (code, out) == (3, "")
    assert re.fullmatch(rf"error: runtime {name} is not available: .*no NVIDIA driver: install it\n", err), (
        err
    )
