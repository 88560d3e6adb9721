"""PyTorch itself, on the CPU and on NVIDIA GPUs: the original that everything else is held against, and compiled."""

from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

from cnnport.artifact import Artifact
from cnnport.errors import ArtifactError, CnnportError, RuntimeMissingError, first_line
from cnnport.runtimes.driver import Driver, driver
from cnnport.runtimes.protocol import Options
from cnnport.runtimes.settings import Setting, Settings, settle
from cnnport.runtimes.torch_session import TorchSession
from cnnport.runtimes.torch_switches import Switches

if TYPE_CHECKING:
    import torch

_LAYOUT = Setting("layout", "contiguous", "order of axes in memory", ("contiguous", "channels_last"))


class TorchRuntime:
    """The network of the zoo that a file was exported from, with the same weights, on the CPU."""

    name = "torch-cpu"
    kind = "cpu"
    settings: tuple[Setting, ...] = (
        Setting(
            "mode", "eager", "operator by operator, or compiled for the sizes at hand", ("eager", "compile")
        ),
        _LAYOUT,
    )

    def missing(self) -> str | None:
        """None where torch is installed."""
        return None if find_spec("torch") else "torch is not installed: pip install torch"

    def version(self) -> str:
        """Of torch."""
        self._require()
        import torch

        return f"torch {torch.__version__}"

    def device(self) -> str:
        """The CPU."""
        return "CPU"

    def open(self, artifact: Artifact, options: Options) -> TorchSession:
        """Build the module again.

        Raises:
            RuntimeMissingError: If ``missing()`` says so, or there is no device of that number.
            ArtifactError: If the file does not say which module it is, or is one of integers.
            CnnportError: If a setting is unknown or has a value that it does not take, or memory runs out.
        """
        self._require(options.device)
        chosen = settle(self.name, self.settings, options.settings)
        from cnnport.rebuild import module_of

        precision = _dtype(artifact)
        switches = self._switches(options, chosen)
        switches.take_effect()
        return TorchSession(artifact, module_of(artifact), self._device(options), precision, chosen, switches)

    def placement(self, artifact: Artifact, options: Options) -> dict[str, dict[str, int]]:
        """The leaf modules, by class. Raises as ``open``."""
        with self.open(artifact, options) as session:
            return {self.kind.upper(): session.module_counts()}

    def _switches(self, options: Options, chosen: Settings) -> Switches:  # noqa: ARG002
        return Switches(options.threads, options.deterministic)

    def _device(self, options: Options) -> "torch.device":  # noqa: ARG002
        import torch

        return torch.device("cpu")

    def _require(self, device: int = 0) -> None:  # noqa: ARG002
        if reason := self.missing():
            raise RuntimeMissingError(f"runtime {self.name} is not available: {reason}")


class TorchCudaRuntime(TorchRuntime):
    """The same on an NVIDIA GPU."""

    name = "torch-cuda"
    kind = "cuda"
    settings: tuple[Setting, ...] = (
        Setting(
            "mode",
            "eager",
            "operator by operator, compiled, or compiled and replayed as a CUDA graph",
            ("eager", "compile", "reduce-overhead"),
        ),
        _LAYOUT,
        Setting("tf32", "0", "let float32 multiply with 10 bits of mantissa", ("0", "1")),
        Setting("cudnn_benchmark", "0", "let cuDNN time its algorithms for every new shape", ("0", "1")),
    )

    def missing(self) -> str | None:
        """None where torch is built with CUDA, and the driver has a GPU that this CUDA can use."""
        found = driver()
        package = super().missing()
        version, cuda = ("", None) if package else _stated_versions()
        if package is None and cuda is None:
            package = f"torch {version} is built without CUDA: pip install --force-reinstall torch"
        if package:
            return package if isinstance(found, Driver) else f"{package}; and {found}"
        return found.too_old_for(cuda or "") if isinstance(found, Driver) else found

    def version(self) -> str:
        """Of torch, and the CUDA that it was built for."""
        return f"{super().version()}, CUDA {_stated_versions()[1]}"

    def device(self) -> str:
        """The GPUs, as the driver counts them."""
        self._require()
        return str(driver())

    def _switches(self, options: Options, chosen: Settings) -> Switches:
        benchmark = chosen.flag("cudnn_benchmark")
        if options.deterministic and benchmark:
            raise CnnportError(
                "cudnn_benchmark=1 takes what is fastest at the time, which is not deterministic: "
                "leave out one of the two"
            )
        return Switches(options.threads, options.deterministic, chosen.flag("tf32"), benchmark)

    def _device(self, options: Options) -> "torch.device":
        import torch

        try:
            torch.cuda.init()  # type: ignore[no-untyped-call]
        except (RuntimeError, AssertionError) as error:
            raise RuntimeMissingError(
                f"runtime {self.name}: torch cannot use the GPU ({first_line(error)}): see nvidia-smi"
            ) from error
        return torch.device("cuda", options.device)

    def _require(self, device: int = 0) -> None:
        super()._require()
        found = driver()
        if isinstance(found, Driver) and (reason := found.lacks(device)):
            raise RuntimeMissingError(f"runtime {self.name}: {reason}")


def _dtype(artifact: Artifact) -> "torch.dtype":
    """What the weights are computed in. Raises ``ArtifactError``."""
    import torch

    known = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    if artifact.precision not in known:
        raise ArtifactError(
            f"{artifact.path} is {artifact.precision}, and the PyTorch module that it was made from is not"
        )
    return known[artifact.precision]


def _stated_versions() -> tuple[str, str | None]:
    """Of torch and of the CUDA that it is built for, if any; torch is not imported for that."""
    spec = find_spec("torch")
    assert spec is not None
    stated = spec_from_file_location("torch_version", Path(str(spec.origin)).with_name("version.py"))
    assert stated is not None
    assert stated.loader is not None
    module = module_from_spec(stated)
    stated.loader.exec_module(module)
    return str(module.__version__), module.cuda
