"""The part of TensorRT's Python API that the adapter uses, as types.

The bindings carry no annotations. These protocols are what the type checker holds the adapter to: it can touch
nothing that does not stand here. ``CONTRACT`` is the same as data, and the tests hold that against the bindings of
every release that is served. Names are TensorRT's own; what they do is in its documentation.
"""

# ruff: noqa: D102

from collections.abc import Sequence
from typing import Protocol


class Value(Protocol):
    """A member of one of TensorRT's enumerations."""

    @property
    def name(self) -> str: ...
    def __int__(self) -> int: ...


class IHostMemory(Protocol):
    """Bytes that TensorRT owns; a buffer in Python's sense."""

    def __buffer__(self, flags: int, /) -> memoryview: ...


class ITensor(Protocol):
    """A tensor of a network."""

    name: str
    shape: Sequence[int]


class INetworkDefinition(Protocol):
    """What the parser fills."""

    num_inputs: int

    def get_input(self, index: int) -> ITensor: ...


class ParserError(Protocol):
    """What the parser has against a file."""

    def desc(self) -> str: ...
    def node(self) -> int: ...
    def node_name(self) -> str: ...
    def node_operator(self) -> str: ...


class OnnxParser(Protocol):
    """Reads a file into a network."""

    num_errors: int

    def get_error(self, index: int) -> ParserError: ...
    def parse_from_file(self, model: str) -> bool: ...


class IOptimizationProfile(Protocol):
    """The range of shapes that an engine is built for."""

    def set_shape(self, input: str, min: list[int], opt: list[int], max: list[int]) -> None: ...  # noqa: A002


class ITimingCache(Protocol):
    """How fast each kernel was; only TensorRT fills it, RTX compiles on the device."""

    def serialize(self) -> IHostMemory: ...


class IBuilderConfig(Protocol):
    """How an engine is built."""

    profiling_verbosity: Value
    builder_optimization_level: int
    hardware_compatibility_level: Value
    num_compute_capabilities: int

    def set_flag(self, flag: Value) -> None: ...
    def clear_flag(self, flag: Value) -> None: ...
    def set_memory_pool_limit(self, pool: Value, pool_size: int) -> None: ...
    def add_optimization_profile(self, profile: IOptimizationProfile) -> int: ...
    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache | None: ...
    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool: ...
    def set_compute_capability(self, compute_capability: Value, index: int) -> bool: ...


class Builder(Protocol):
    """Makes networks into engines."""

    max_threads: int

    def create_network(self, flags: int) -> INetworkDefinition: ...
    def create_builder_config(self) -> IBuilderConfig: ...
    def create_optimization_profile(self) -> IOptimizationProfile: ...
    def build_serialized_network(
        self, network: INetworkDefinition, config: IBuilderConfig
    ) -> IHostMemory | None: ...


class EngineInspector(Protocol):
    """Tells what an engine is made of."""

    def get_engine_information(self, format: Value) -> str: ...  # noqa: A002


class IRuntimeCache(Protocol):
    """The kernels that RTX compiled on the device."""

    def serialize(self) -> IHostMemory: ...
    def deserialize(self, blob: bytes) -> bool: ...


class IRuntimeConfig(Protocol):
    """How an execution context is made."""

    cuda_graph_strategy: Value
    dynamic_shapes_kernel_specialization_strategy: Value

    def create_runtime_cache(self) -> IRuntimeCache: ...
    def set_runtime_cache(self, cache: IRuntimeCache) -> bool: ...


class IProfiler(Protocol):
    """Is told how long each layer took."""

    def report_layer_time(self, layer_name: str, ms: float) -> None: ...


class IExecutionContext(Protocol):
    """One run at a time over an engine."""

    profiler: IProfiler
    enqueue_emits_profile: bool

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool: ...
    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool: ...
    def infer_shapes(self) -> list[str]: ...
    def get_tensor_shape(self, name: str) -> Sequence[int]: ...
    def set_tensor_address(self, name: str, memory: int) -> bool: ...
    def execute_async_v3(self, stream_handle: int) -> bool: ...
    def report_to_profiler(self) -> bool: ...


class ICudaEngine(Protocol):
    """An engine on a device."""

    num_io_tensors: int
    num_optimization_profiles: int
    refittable: bool

    def get_tensor_name(self, index: int) -> str: ...
    def get_tensor_mode(self, name: str) -> Value: ...
    def get_tensor_dtype(self, name: str) -> Value: ...
    def get_tensor_shape(self, name: str) -> Sequence[int]: ...
    def get_tensor_location(self, name: str) -> Value: ...
    def get_tensor_profile_shape(self, name: str, profile_index: int) -> Sequence[Sequence[int]]: ...
    def create_runtime_config(self) -> IRuntimeConfig: ...
    def create_execution_context(
        self, runtime_config: IRuntimeConfig | None = None
    ) -> IExecutionContext | None: ...
    def create_engine_inspector(self) -> EngineInspector: ...
    def serialize(self) -> IHostMemory | None: ...


class Runtime(Protocol):
    """Brings engines onto a device."""

    engine_host_code_allowed: bool

    def deserialize_cuda_engine(self, serialized_engine: bytes | memoryview) -> ICudaEngine | None: ...


class Refitter(Protocol):
    """Replaces the weights of an engine."""

    def get_missing_weights(self) -> list[str]: ...
    def refit_cuda_engine(self) -> bool: ...


class OnnxParserRefitter(Protocol):
    """Takes the weights from a file."""

    num_errors: int

    def get_error(self, index: int) -> ParserError: ...
    def refit_from_file(self, model: str) -> bool: ...


class ILogger(Protocol):
    """Is told everything."""

    def log(self, severity: Value, msg: str) -> None: ...


class BuilderFlag(Protocol):
    """Switches of a build."""

    TF32: Value
    REFIT: Value
    VERSION_COMPATIBLE: Value


class NetworkDefinitionCreationFlag(Protocol):
    """Bits of ``create_network``."""

    STRONGLY_TYPED: Value


class ProfilingVerbosity(Protocol):
    """How much an engine remembers of itself."""

    DETAILED: Value


class MemoryPoolType(Protocol):
    """Kinds of memory that can be limited."""

    WORKSPACE: Value


class LayerInformationFormat(Protocol):
    """Forms of the inspector's answer."""

    JSON: Value


class HardwareCompatibilityLevel(Protocol):
    """On which devices an engine runs beside the one that it was built on; not of RTX."""

    NONE: Value
    AMPERE_PLUS: Value
    SAME_COMPUTE_CAPABILITY: Value


class CudaGraphStrategy(Protocol):
    """Whether RTX records its launches."""

    DISABLED: Value
    WHOLE_GRAPH_CAPTURE: Value


class DynamicShapesKernelSpecializationStrategy(Protocol):
    """When RTX compiles kernels for the very shapes that are run."""

    LAZY: Value
    EAGER: Value
    NONE: Value


CLASSES: tuple[type, ...] = (
    IHostMemory,
    ITensor,
    INetworkDefinition,
    ParserError,
    OnnxParser,
    IOptimizationProfile,
    ITimingCache,
    IBuilderConfig,
    Builder,
    EngineInspector,
    IRuntimeCache,
    IRuntimeConfig,
    IProfiler,
    IExecutionContext,
    ICudaEngine,
    Runtime,
    Refitter,
    OnnxParserRefitter,
    ILogger,
    BuilderFlag,
    NetworkDefinitionCreationFlag,
    ProfilingVerbosity,
    MemoryPoolType,
    LayerInformationFormat,
    HardwareCompatibilityLevel,
    CudaGraphStrategy,
    DynamicShapesKernelSpecializationStrategy,
)

_RTX_ALONE = {
    "IBuilderConfig": {"num_compute_capabilities", "set_compute_capability"},
    "IRuntimeConfig": {
        "cuda_graph_strategy",
        "dynamic_shapes_kernel_specialization_strategy",
        "create_runtime_cache",
        "set_runtime_cache",
    },
    "IRuntimeCache": {"serialize", "deserialize"},
    "CudaGraphStrategy": {"DISABLED", "WHOLE_GRAPH_CAPTURE"},
    "DynamicShapesKernelSpecializationStrategy": {"LAZY", "EAGER", "NONE"},
}


def _members(protocol: type) -> set[str]:
    names = {**vars(protocol), **vars(protocol).get("__annotations__", {})}
    return {name for name in names if not name.startswith("_")}


CONTRACT: dict[str, dict[str, set[str]]] = {
    "tensorrt": {
        held.__name__: used
        for held in CLASSES
        if (used := _members(held) - _RTX_ALONE.get(held.__name__, set()))
    },
    "tensorrt_rtx": {held.__name__: _members(held) for held in CLASSES}
    | {"ComputeCapability": {"SM75", "SM80", "SM86", "SM89", "SM120"}},
}
"""The members of each class that the adapter uses, by the module that has to have them."""
