"""The packages behind the adapter: which are there, whether they work with this driver, and what would help."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module, metadata
from importlib.util import find_spec
from typing import Any, Protocol, cast

from cnnport.errors import first_line
from cnnport.runtimes.driver import Driver
from cnnport.runtimes.trt import api

# Of TensorRT 10 and 11; older GPUs need an older TensorRT.
_OLDEST = (7, 5)


class Api(Protocol):
    """The module itself, ``tensorrt`` or ``tensorrt_rtx``."""

    __version__: str
    Builder: Callable[[api.ILogger], api.Builder | None]
    OnnxParser: Callable[[api.INetworkDefinition, api.ILogger], api.OnnxParser]
    Runtime: Callable[[api.ILogger], api.Runtime]
    Refitter: Callable[[api.ICudaEngine, api.ILogger], api.Refitter]
    OnnxParserRefitter: Callable[[api.Refitter, api.ILogger], api.OnnxParserRefitter]
    # Subclassed while the program runs, which no type checker follows.
    ILogger: Any
    IProfiler: Any
    # Its members differ from release to release.
    ComputeCapability: Any
    BuilderFlag: api.BuilderFlag
    NetworkDefinitionCreationFlag: api.NetworkDefinitionCreationFlag
    ProfilingVerbosity: api.ProfilingVerbosity
    MemoryPoolType: api.MemoryPoolType
    LayerInformationFormat: api.LayerInformationFormat
    HardwareCompatibilityLevel: api.HardwareCompatibilityLevel
    CudaGraphStrategy: api.CudaGraphStrategy
    DynamicShapesKernelSpecializationStrategy: api.DynamicShapesKernelSpecializationStrategy


@dataclass(frozen=True)
class Package:
    """One of the two packages.

    Attributes:
        title: As people call it.
        module: As Python imports it.
        distributions: As pip may have installed it, with the CUDA that each is for; empty where no name says it.
        install: The command that installs it.
        floor: The oldest release that is served.
        rtx: Whether it is TensorRT-RTX, which builds without a GPU and compiles its kernels on the device.
    """

    title: str
    module: str
    distributions: tuple[tuple[str, str], ...]
    install: str
    floor: tuple[int, int]
    rtx: bool

    def fault(self) -> str | None:
        """Why the package itself cannot be used, in one line; None if it imports and is new enough."""
        if find_spec(self.module) is None:
            return f"{self.module} is not installed: {self.install}"
        try:
            found = import_module(self.module)
            version = str(found.__version__)
            numbers = tuple(int(part) for part in version.split(".")[:2])
        except Exception as error:  # its libraries are loaded here, and their absence takes many forms
            return f"{self.module} does not import ({first_line(error)}): {self._reinstall()}"
        if numbers < self.floor:
            floor = ".".join(map(str, self.floor))
            return (
                f"{self.module} {version} is too old, {floor} is the oldest served: {self.install} --upgrade"
            )
        return None

    def unfit(self, driver: Driver, index: int = 0) -> str | None:
        """Why the package cannot run on a device, in one line; None if it can. Only where ``fault()`` is None."""
        if reason := driver.lacks(index) or driver.too_old_for(self.cuda()):
            return reason
        device = driver.devices[index]
        own = f"{device.compute[0]}.{device.compute[1]}"
        other = "trt" if self.rtx else "ort-cuda"
        if own not in self.computes() if self.rtx else device.compute < _OLDEST:
            return f"{self.title} does not serve compute capability {own} ({device.name}): take --runtime {other}"
        return None

    def computes(self) -> tuple[str, ...]:
        """The compute capabilities that RTX builds for: ``8.9``; the GPUs of data centres are not among them."""
        names = (name for name in self.load().ComputeCapability.__members__ if name.startswith("SM"))
        return tuple(f"{name[2:-1]}.{name[-1]}" for name in names)

    def load(self) -> Api:
        """The module; only where ``fault()`` is None."""
        return cast("Api", import_module(self.module))

    def version(self) -> str:
        """Of the package; only where ``fault()`` is None."""
        return self.load().__version__

    def cuda(self) -> str:
        """The major version of CUDA that the installed package is for; empty where nothing says."""
        for name, cuda in self.distributions:
            try:
                metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
            return cuda
        return ""

    def _reinstall(self) -> str:
        first, *others = self.distributions
        for name, _ in (*others, first):
            try:
                metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
            return f"pip install --force-reinstall {name}"
        return self.install


TENSORRT = Package(
    title="TensorRT",
    module="tensorrt",
    distributions=(("tensorrt-cu13", "13"), ("tensorrt-cu12", "12"), ("tensorrt", "")),
    install="pip install 'cnnport[trt]'",
    floor=(10, 12),
    rtx=False,
)

RTX = Package(
    title="TensorRT-RTX",
    module="tensorrt_rtx",
    distributions=(("tensorrt-rtx-cu13", "13"), ("tensorrt-rtx-cu12", "12"), ("tensorrt-rtx", "")),
    install="pip install 'cnnport[trt-check]'",
    floor=(1, 4),
    rtx=True,
)
