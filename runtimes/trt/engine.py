"""An engine on a device, with everything that has to outlive it, taken down in the right order."""

from collections.abc import Sequence
from dataclasses import dataclass

from cnnport.errors import ArtifactError, FeedError
from cnnport.runtimes.build import Layer
from cnnport.runtimes.closing import Closing
from cnnport.runtimes.trt import api
from cnnport.runtimes.trt.inspector import read_information
from cnnport.runtimes.trt.messages import Log, logger_of
from cnnport.runtimes.trt.package import Package

# TensorRT's types as NumPy calls them; the others have no counterpart there.
_NUMPY = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}


@dataclass(frozen=True)
class Tensor:
    """An input or output of an engine.

    Attributes:
        name: As in the ONNX file.
        is_input: Otherwise it is an output.
        dtype: As NumPy calls it.
        profiles: Smallest and largest shape for each optimisation profile; empty for outputs.
    """

    name: str
    is_input: bool
    dtype: str
    profiles: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = ()


class Engine(Closing):
    """An engine that was brought onto the current device."""

    def __init__(
        self, package: Package, data: bytes | memoryview, origin: str, *, hosted: bool = False
    ) -> None:
        """Deserialize.

        Args:
            package: Which of the two; usable, with a device that is current in this thread.
            data: The serialized engine.
            origin: What the error calls it.
            hosted: Whether it may bring code of its own for the CPU, as engines for later releases do.

        Raises:
            ArtifactError: If it is none for this release and device, or has tensors that cannot be fed.
        """
        self.package = package
        self.trt = package.load()
        self.log = Log()
        self.logger = logger_of(self.trt, self.log)
        self._runtime: api.Runtime | None = self.trt.Runtime(self.logger)
        if not self._runtime:
            raise ArtifactError(self.log.reason(f"{package.title} makes no runtime here"))
        self._runtime.engine_host_code_allowed = hosted
        self._engine: api.ICudaEngine | None = self._runtime.deserialize_cuda_engine(data)
        if self._engine is None:
            reason = self.log.reason("no reason given")
            raise ArtifactError(
                f"{package.title} cannot load the engine of {origin}: {reason}: build it again"
            )
        self.tensors = tuple(
            _tensor(self._engine, self._engine.get_tensor_name(index), origin)
            for index in range(self._engine.num_io_tensors)
        )

    @property
    def handle(self) -> api.ICudaEngine:
        """TensorRT's own object. Raises ``ValueError`` if it was freed."""
        if self._engine is None:
            raise ValueError("the session is closed")
        return self._engine

    def layers(self) -> tuple[Layer, ...]:
        """What it is made of. Raises ``ArtifactError`` if it was built without details."""
        inspector = self.handle.create_engine_inspector()
        return read_information(inspector.get_engine_information(self.trt.LayerInformationFormat.JSON))

    def profile_for(self, shapes: dict[str, tuple[int, ...]]) -> int:
        """The number of the narrowest optimisation profile that holds these shapes.

        Raises:
            FeedError: If none does, with the ranges.
        """
        fitting = []
        for number in range(self.handle.num_optimization_profiles):
            spans = [(shapes[each.name], *each.profiles[number]) for each in self.tensors if each.is_input]
            if all(_within(*span) for span in spans):
                width = sum(sum(most) - sum(least) for _, least, most in spans)
                fitting.append((width, number))
        if not fitting:
            raise FeedError(self._out_of_range(shapes))
        return min(fitting)[1]

    def close(self) -> None:
        """Free it; contexts have to be gone before. A second call does nothing."""
        self._engine = None
        self._runtime = None

    def _out_of_range(self, shapes: dict[str, tuple[int, ...]]) -> str:
        each = next(tensor for tensor in self.tensors if tensor.is_input)
        ranges = " or ".join(f"{_text(least)} to {_text(most)}" for least, most in each.profiles)
        return (
            f"input {each.name!r} of shape {_text(shapes[each.name])} is outside what the engine was built for, "
            f"{ranges}: build it with --set batch=MIN:OPT:MAX"
        )


def _tensor(engine: api.ICudaEngine, name: str, origin: str) -> Tensor:
    kind = engine.get_tensor_dtype(name).name
    if kind not in _NUMPY:
        raise ArtifactError(f"{origin}: tensor {name!r} is of type {kind}, for which NumPy has no name")
    if engine.get_tensor_location(name).name != "DEVICE":
        raise ArtifactError(f"{origin}: tensor {name!r} decides on shapes, which cnnport does not feed")
    is_input = engine.get_tensor_mode(name).name == "INPUT"
    fixed = tuple(engine.get_tensor_shape(name))
    profiles = []
    for number in range(engine.num_optimization_profiles) if is_input else ():
        least, most = fixed, fixed
        if any(size < 0 for size in fixed):
            lower, _, upper = engine.get_tensor_profile_shape(name, number)
            least, most = tuple(lower), tuple(upper)
        profiles.append((least, most))
    return Tensor(name, is_input, _NUMPY[kind], tuple(profiles))


def _within(shape: Sequence[int], least: Sequence[int], most: Sequence[int]) -> bool:
    return len(shape) == len(least) and all(
        low <= size <= high for size, low, high in zip(shape, least, most, strict=True)
    )


def _text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
