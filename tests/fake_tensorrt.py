"""A stand-in for TensorRT's bindings: it keeps to the order of calls that TensorRT wants, and really computes.

Files are read by onnx, and what an engine computes is computed by ONNX Runtime on the memory of ``fake_cuda``, so
that the conformance suite runs over it. Whatever TensorRT would answer with an error or a crash (a freed runtime, a
missing shape, a thread without a device) is an error here. ``calls`` are in order. It shows that the adapter uses the
API as it is meant, and nothing of TensorRT's speed or numbers.
"""

import json
import sys
import weakref
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from cnnport.runtimes.trt.precision import wanted_types
from fake_cuda import FakeCuda

MAGIC = b"imaginary plan "
NAMES = {1: "Float", 10: "Half", 7: "Int64", 6: "Int32", 3: "Int8", 9: "Bool"}
TYPES = {1: "FLOAT", 10: "HALF", 7: "INT64", 6: "INT32", 3: "INT8", 9: "BOOL"}


class Member:
    """Of an enumeration."""

    def __init__(self, name: str, value: int) -> None:
        self.name = name
        self.value = value

    def __int__(self) -> int:
        return self.value


def enumeration(*names: str) -> Any:
    members = {name: Member(name, value) for value, name in enumerate(names)}
    return SimpleNamespace(__members__=members, **members)


class ILogger:
    """Refuses subclasses that do not call its constructor, as the bindings do."""

    def __init__(self) -> None:
        self.ready = True


class IProfiler(ILogger):
    pass


class FakeTensorRt:
    """The module ``tensorrt`` or ``tensorrt_rtx``.

    Attributes:
        calls: Everything that was called, in order.
        faults: What goes wrong: ``{"engine type": "Half"}`` builds in another type, ``{"deserialize": "text"}`` and
            the like refuse with a message.
        alive: Contexts and engines that nobody has freed.
        host_code_allowed: Whether the last engine might have brought code for the CPU.
    """

    def __init__(self, cuda: FakeCuda, *, version: str = "11.4.0.106", rtx: bool = False) -> None:
        self.__version__ = version
        self.__name__ = "tensorrt_rtx" if rtx else "tensorrt"
        self.__spec__ = ModuleSpec(self.__name__, None)
        self.cuda = cuda
        self.rtx = rtx
        self.major = int(version.split(".", maxsplit=1)[0]) + 10 * rtx
        self.calls: list[str] = []
        self.faults: dict[str, str] = {}
        self.alive: weakref.WeakSet[Any] = weakref.WeakSet()
        self.kernels_compiled = 0
        self.host_code_allowed = False
        self.ILogger, self.IProfiler = ILogger, IProfiler
        old = () if self.major >= 11 else ("FP16", "INT8")
        self.BuilderFlag = enumeration("TF32", "REFIT", "VERSION_COMPATIBLE", *old)
        self.NetworkDefinitionCreationFlag = enumeration("STRONGLY_TYPED")
        self.ProfilingVerbosity = enumeration("LAYER_NAMES_ONLY", "NONE", "DETAILED")
        self.MemoryPoolType = enumeration("WORKSPACE")
        self.LayerInformationFormat = enumeration("ONELINE", "JSON")
        self.HardwareCompatibilityLevel = enumeration("NONE", "AMPERE_PLUS", "SAME_COMPUTE_CAPABILITY")
        self.CudaGraphStrategy = enumeration("DISABLED", "WHOLE_GRAPH_CAPTURE")
        self.DynamicShapesKernelSpecializationStrategy = enumeration("LAZY", "EAGER", "NONE")
        self.ComputeCapability = enumeration("NONE", "CURRENT", "SM75", "SM80", "SM86", "SM89", "SM120")

    def note(self, call: str) -> None:
        assert self.rtx or self.cuda.has_device(), f"{call} in a thread without a device"
        self.calls.append(call)

    def refuse(self, logger: Any, what: str) -> bool:
        """Log the fault of a name, if it is planted."""
        if what not in self.faults:
            return False
        logger.log(
            Member("ERROR", 1),
            f"{what}: Error Code 9: API Usage Error ({self.faults[what]} In f at /a.cpp:1)",
        )
        return True

    def Builder(self, logger: Any) -> Any:
        assert logger.ready
        self.note("Builder")
        return Builder(self, logger)

    def OnnxParser(self, network: Any, logger: Any) -> Any:
        self.note("OnnxParser")
        return Parser(self, network, logger)

    def Runtime(self, logger: Any) -> Any:
        assert logger.ready
        self.note("Runtime")
        return Runtime(self, logger)

    def Refitter(self, engine: Any, logger: Any) -> Any:
        self.note("Refitter")
        return SimpleNamespace(
            engine=engine,
            get_missing_weights=lambda: ["conv.weight"] if "missing weights" in self.faults else [],
            refit_cuda_engine=lambda: self.note("refit_cuda_engine") or not self.refuse(logger, "refit"),
        )

    def OnnxParserRefitter(self, refitter: Any, logger: Any) -> Any:
        def refit_from_file(path: str) -> bool:
            self.note("refit_from_file")
            refitter.engine.take(Path(path).read_bytes())
            return not self.refuse(logger, "refit_from_file")

        return SimpleNamespace(num_errors=0, refit_from_file=refit_from_file)


class Builder:
    def __init__(self, trt: FakeTensorRt, logger: Any) -> None:
        self.trt, self.logger = trt, logger
        self.max_threads = 1

    def create_network(self, flags: int) -> Any:
        self.trt.note("create_network")
        assert flags == 1 << int(self.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        network = SimpleNamespace(num_inputs=0, model=None, data=b"")
        network.get_input = lambda index: network.inputs[index]
        return network

    def create_builder_config(self) -> Any:
        self.trt.note("create_builder_config")
        return Config(self.trt, self.logger)

    def create_optimization_profile(self) -> Any:
        shapes: dict[str, Any] = {}
        return SimpleNamespace(
            shapes=shapes,
            set_shape=lambda name, least, best, most: shapes.update({name: (least, best, most)}),
        )

    def build_serialized_network(self, network: Any, config: Any) -> Any:
        self.trt.note("build_serialized_network")
        if self.trt.refuse(self.logger, "build"):
            return None
        dynamic = [tensor.name for tensor in network.inputs if -1 in tensor.shape]
        if dynamic and not config.profiles:
            self.logger.log(Member("ERROR", 1), "no optimization profile has been defined")
            return None
        if hasattr(self.trt, "during_build"):
            self.trt.during_build()
        layers = self._layers(network.model, config)
        lines = [
            f"Name: {row['Name']}, LayerType: {row['LayerType']}, Inputs: "
            f"[ {{ Name: x, Datatype: {row['Inputs'][0]['Datatype']}, Format: f }}], Constants: [], Outputs: [], "
            f"TacticName: {row['TacticName']}, StreamId: 0, Metadata: {row['Metadata']}"
            for row in layers
        ]
        self.logger.log(Member("VERBOSE", 4), "\n".join(["Layers:", *lines]) + "\n\nI/O Tensors:\n Name: x")
        if config.timing is not None:
            config.timing.data += b"+"
        header = {
            "version": self.trt.__version__,
            "layers": layers,
            "profiles": config.profiles,
            "detailed": config.profiling_verbosity is self.trt.ProfilingVerbosity.DETAILED,
            "refit": "REFIT" in config.flags,
            "hardware": config.hardware_compatibility_level.name,
            "level": config.builder_optimization_level,
            "hosted": "VERSION_COMPATIBLE" in config.flags,
        }
        return MAGIC + json.dumps(header).encode() + b"\n" + network.data

    def _layers(self, model: Any, config: Any) -> list[dict[str, Any]]:
        wanted = wanted_types(model)
        kind = self.trt.faults.get("engine type")
        tactic = "kernel_tf32" if "TF32" in config.flags or "tf32" in self.trt.faults else "kernel"
        return [
            {
                "Name": f"{node.name}_0",
                "LayerType": "correlation",
                "Inputs": [{"Name": "x", "Datatype": kind or wanted.get(node.name, "Float")}],
                "Outputs": [],
                "TacticName": tactic,
                "Metadata": f"[ONNX Layer: {node.name}]",
            }
            for node in model.graph.node
        ]


class Config:
    def __init__(self, trt: FakeTensorRt, logger: Any) -> None:
        self.trt, self.logger = trt, logger
        self.flags = {"TF32"}
        self.profiles: list[dict[str, Any]] = []
        self.timing: Any = None
        self.profiling_verbosity = trt.ProfilingVerbosity.LAYER_NAMES_ONLY
        self.builder_optimization_level = 3
        self.hardware_compatibility_level = trt.HardwareCompatibilityLevel.NONE
        self.num_compute_capabilities = 0

    def set_flag(self, flag: Member) -> None:
        self.flags.add(flag.name)

    def clear_flag(self, flag: Member) -> None:
        self.flags.discard(flag.name)

    def set_memory_pool_limit(self, pool: Member, size: int) -> None:
        self.trt.note(f"set_memory_pool_limit {size}")

    def add_optimization_profile(self, profile: Any) -> int:
        for least, best, most in profile.shapes.values():
            if not all(low <= mid <= high for low, mid, high in zip(least, best, most, strict=True)):
                return -1
        self.profiles.append(profile.shapes)
        return len(self.profiles) - 1

    def create_timing_cache(self, data: bytes) -> Any:
        assert not self.trt.rtx, "timing caches are deprecated in RTX"
        timing = SimpleNamespace(data=data, fits=not data.startswith(b"foreign"))
        timing.serialize = lambda: timing.data
        return timing

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        if cache.fits:
            self.timing = cache
        return bool(cache.fits)

    def set_compute_capability(self, capability: Member, index: int) -> bool:
        assert index < self.num_compute_capabilities
        self.trt.note(f"set_compute_capability {capability.name}")
        return True


class Parser:
    def __init__(self, trt: FakeTensorRt, network: Any, logger: Any) -> None:
        self.trt, self.network, self.logger = trt, network, logger
        self.errors: list[Any] = []

    @property
    def num_errors(self) -> int:
        return len(self.errors)

    def get_error(self, index: int) -> Any:
        return self.errors[index]

    def parse_from_file(self, path: str) -> bool:
        self.trt.note("parse_from_file")
        model = onnx.load(path)
        for index, node in enumerate(model.graph.node):
            if node.domain not in {"", "ai.onnx"}:
                fields = {
                    "desc": "false",
                    "node": index,
                    "node_name": node.name,
                    "node_operator": node.op_type,
                }
                self.errors.append(
                    SimpleNamespace(**{name: _giving(value) for name, value in fields.items()})
                )
        self.network.model, self.network.data = model, model.SerializeToString()
        self.network.inputs = [
            SimpleNamespace(
                name=value.name, shape=[dim.dim_value or -1 for dim in value.type.tensor_type.shape.dim]
            )
            for value in model.graph.input
        ]
        self.network.num_inputs = len(self.network.inputs)
        return not self.errors


class Runtime:
    def __init__(self, trt: FakeTensorRt, logger: Any) -> None:
        self.trt, self.logger = trt, logger
        self.engine_host_code_allowed = False

    def deserialize_cuda_engine(self, data: bytes | memoryview) -> Any:
        self.trt.note("deserialize_cuda_engine")
        self.trt.host_code_allowed = self.engine_host_code_allowed
        data = bytes(data)
        if self.trt.refuse(self.logger, "deserialize") or not data.startswith(MAGIC):
            return None
        header, _, file = data.removeprefix(MAGIC).partition(b"\n")
        facts = json.loads(header)
        if facts["version"] != self.trt.__version__ and not facts["hosted"]:
            return None
        assert not facts["hosted"] or self.engine_host_code_allowed
        return Engine(self, facts, file)


class Engine:
    def __init__(self, runtime: Runtime, facts: dict[str, Any], file: bytes) -> None:
        self.trt, self.runtime, self.facts = runtime.trt, weakref.ref(runtime), facts
        self.device = self.trt.cuda.current()
        self.refittable = facts["refit"]
        self.take(file)
        self.trt.alive.add(self)

    def take(self, file: bytes) -> None:
        import onnxruntime as ort

        self.file = file
        self.model = onnx.load_from_string(file)
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = 1
        self.session = ort.InferenceSession(file, settings, providers=["CPUExecutionProvider"])
        graph = self.model.graph
        self.ends = {value.name: (value, True) for value in graph.input}
        self.ends |= {value.name: (value, False) for value in graph.output}
        self.num_io_tensors = len(self.ends)
        self.num_optimization_profiles = max(1, len(self.facts["profiles"]))

    def runs(self) -> None:
        assert self.runtime() is not None, "the runtime was freed before its engine"
        assert self.device == self.trt.cuda.current(), "the thread has another device than the engine"

    def get_tensor_name(self, index: int) -> str:
        return list(self.ends)[index]

    def get_tensor_mode(self, name: str) -> Member:
        return Member("INPUT" if self.ends[name][1] else "OUTPUT", 1)

    def get_tensor_dtype(self, name: str) -> Member:
        return Member(TYPES.get(self.ends[name][0].type.tensor_type.elem_type, "BF16"), 0)

    def get_tensor_location(self, name: str) -> Member:
        return Member("HOST" if name in self.trt.faults.get("host", "") else "DEVICE", 0)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(dim.dim_value or -1 for dim in self.ends[name][0].type.tensor_type.shape.dim)

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[list[int]]:
        if profiles := self.facts["profiles"]:
            found: list[list[int]] = profiles[profile][name]
            return found
        return [[dim.dim_value for dim in self.ends[name][0].type.tensor_type.shape.dim]] * 3

    def create_runtime_config(self) -> Any:
        assert self.trt.rtx
        kernels = SimpleNamespace(data=b"")
        kernels.serialize = lambda: kernels.data
        kernels.deserialize = lambda data: setattr(kernels, "data", data) or True
        config = SimpleNamespace(create_runtime_cache=lambda: kernels, kernels=None)
        config.set_runtime_cache = lambda cache: setattr(config, "kernels", cache) or True
        return config

    def create_execution_context(self, config: Any = None) -> Any:
        self.trt.note("create_execution_context")
        self.runs()
        assert (config is not None) == self.trt.rtx
        if self.trt.refuse(self.runtime().logger, "context"):  # type: ignore[union-attr]
            return None
        return Context(self, config)

    def create_engine_inspector(self) -> Any:
        return SimpleNamespace(get_engine_information=self._information)

    def _information(self, form: Member) -> str:
        assert form.name == "JSON"
        layers = self.facts["layers"]
        if not self.facts["detailed"]:
            return json.dumps({"Layers": [layer["Name"] for layer in layers], "Bindings": list(self.ends)})
        if self.trt.major < 11:
            sentence = {
                "Float": "Row major linear FP32",
                "Half": "Row major linear FP16 format",
                "Int8": "Int8",
            }
            layers = [
                {
                    **layer,
                    "Inputs": [{"Name": "x", "Format/Datatype": sentence[layer["Inputs"][0]["Datatype"]]}],
                }
                for layer in layers
            ]
            return json.dumps({"Layers": layers, "Bindings": list(self.ends)})
        return json.dumps({"Layers": layers, "I/O Tensors": [{"Name": name} for name in self.ends]})

    def serialize(self) -> bytes:
        return MAGIC + json.dumps(self.facts).encode() + b"\n" + self.file


class Context:
    def __init__(self, engine: Engine, config: Any) -> None:
        self.trt, self.engine, self.config = engine.trt, weakref.ref(engine), config
        self.profile = 0
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.inferred = False
        self.profiler: Any = None
        self.enqueue_emits_profile = True
        self.trt.alive.add(self)

    def _engine(self) -> Engine:
        engine = self.engine()
        assert engine is not None, "the engine was freed before its context"
        engine.runs()
        return engine

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self.trt.note(f"set_optimization_profile_async {profile}")
        assert not self.shapes, "the profile comes before the shapes"
        self.profile = profile
        return profile < self._engine().num_optimization_profiles

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.trt.note("set_input_shape")
        least, _, most = self._engine().get_tensor_profile_shape(name, self.profile)
        self.shapes[name] = shape
        return all(low <= size <= high for low, size, high in zip(least, shape, most, strict=True))

    def infer_shapes(self) -> list[str]:
        self.trt.note("infer_shapes")
        self.inferred = True
        missing = [
            name
            for name, (_, is_input) in self._engine().ends.items()
            if is_input and name not in self.shapes
        ]
        return missing + self.trt.faults.get("unsettled", "").split()

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        assert self.inferred
        value, is_input = self._engine().ends[name]
        if is_input:
            return self.shapes[name]
        known: dict[str, int] = {}
        for given, shape in self.shapes.items():
            dims = self._engine().ends[given][0].type.tensor_type.shape.dim
            known |= {dim.dim_param: size for dim, size in zip(dims, shape, strict=True) if dim.dim_param}
        return tuple(
            known.get(dim.dim_param, -1) if dim.dim_param else dim.dim_value
            for dim in value.type.tensor_type.shape.dim
        )

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.trt.note("set_tensor_address")
        self.addresses[name] = address
        return name in self._engine().ends

    def execute_async_v3(self, stream: int) -> bool:
        self.trt.note("execute_async_v3")
        engine, cuda = self._engine(), self.trt.cuda
        assert self.inferred
        assert set(self.addresses) == set(engine.ends)
        assert cuda.is_here(stream), "the default stream is none to run on, nor is another device's"
        logger = engine.runtime().logger  # type: ignore[union-attr]
        if self.trt.refuse(logger, "execute") or (
            stream in cuda.recording and self.trt.refuse(logger, "record")
        ):
            return False
        if self.config is not None and self.config.kernels.data != self.trt.__version__.encode():
            self.trt.kernels_compiled += 1
            self.config.kernels.data = self.trt.__version__.encode()
        cuda.enqueue(stream, lambda: self._compute(engine))
        return True

    def _compute(self, engine: Engine) -> None:
        memory, feeds = self.trt.cuda.memory, {}
        for name, (value, is_input) in engine.ends.items():
            if is_input:
                dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
                size = int(np.prod(self.shapes[name])) * dtype.itemsize
                data = bytes(memory[self.addresses[name]][:size])
                feeds[name] = np.frombuffer(data, dtype).reshape(self.shapes[name])
        names = [name for name, (_, is_input) in engine.ends.items() if not is_input]
        for name, array in zip(names, engine.session.run(names, feeds), strict=True):
            data = np.ascontiguousarray(array).tobytes()
            assert len(memory[self.addresses[name]]) == max(len(data), 1)
            memory[self.addresses[name]][: len(data)] = data

    def report_to_profiler(self) -> bool:
        self.trt.note("report_to_profiler")
        if self.profiler is None or self.enqueue_emits_profile:
            return False
        for number, layer in enumerate(self._engine().facts["layers"]):
            self.profiler.report_layer_time(layer["Name"], 0.5 + number)
        return True


def _giving(value: Any) -> Callable[[], Any]:
    return lambda: value


def install(patch: pytest.MonkeyPatch, cuda: FakeCuda | None, **facts: Any) -> FakeTensorRt:
    """Put the stand-ins where the adapter looks; without a ``FakeCuda`` there is no driver."""
    from cnnport.runtimes import cuda as cuda_module
    from cnnport.runtimes import driver as driver_module

    def load() -> FakeCuda:
        if cuda is None:
            raise OSError("libcuda.so.1: cannot open shared object file")
        return cuda

    made = FakeTensorRt(cuda or FakeCuda(), **facts)
    patch.setattr(driver_module, "_load", load)
    patch.setattr(cuda_module, "_load", load)
    patch.setitem(sys.modules, made.__name__, made)
    return made


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., FakeTensorRt]:
    """Gives the module for a version, with a cache of the test's own; ``cuda`` and ``rtx`` as in ``FakeTensorRt``."""
    monkeypatch.setenv("CNNPORT_CACHE", str(tmp_path / "cache"))

    def make(cuda: FakeCuda | None = None, *, driver: bool = True, **facts: Any) -> FakeTensorRt:
        return install(monkeypatch, (cuda or FakeCuda()) if driver else None, **facts)

    return make
