"""A session of PyTorch's: a module on a device, run as it is or compiled."""

import re
import warnings
from collections import Counter
from typing import TYPE_CHECKING, Any, NoReturn

from cnnport.artifact import Artifact
from cnnport.errors import CnnportError, FeedError, RuntimeMissingError, first_line
from cnnport.runtimes.closing import Closing
from cnnport.runtimes.compiling import compiling
from cnnport.runtimes.cuda import Gpu
from cnnport.runtimes.device_clock import DeviceClock
from cnnport.runtimes.feeds import check_feeds
from cnnport.runtimes.protocol import Array, Tensors
from cnnport.runtimes.settings import Settings
from cnnport.runtimes.torch_switches import Switches

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


# On the CPU it is an error of no class of its own, in front of which stands a place in PyTorch's source.
_NO_MEMORY = re.compile(r"(?:can't allocate|not enough) memory: you tried to allocate \d+ bytes")


class TorchSession(Closing):
    """A module in evaluation mode."""

    def __init__(
        self,
        artifact: Artifact,
        module: "nn.Module",
        device: "torch.device",
        precision: "torch.dtype",
        chosen: Settings,
        switches: Switches,
    ) -> None:
        import torch

        self.inputs = artifact.inputs
        self.outputs = artifact.outputs
        self._model = artifact.model
        self._device = device
        self._precision = precision
        self._switches = switches
        self._last = chosen.text("layout") == "channels_last"
        self._compiled = chosen.text("mode") != "eager"
        try:
            module = module.to(device=device, dtype=precision)
            if self._last:
                # PyTorch's own annotations leave this form out.
                module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        except RuntimeError as error:
            if found := _device_error(error, self._device):
                raise found from error
            raise RuntimeMissingError(f"torch cannot use {device}: {first_line(error)}") from error
        self._module: nn.Module | None = module
        self._forward: Any = module
        if self._compiled:
            mode = None if chosen.text("mode") == "compile" else chosen.text("mode")
            # What it cannot compile as a whole, or for one more size, is then an error and not run eagerly.
            self._forward = torch.compile(module, fullgraph=True, dynamic=False, mode=mode)

    def run(self, feeds: Tensors) -> dict[str, Array]:
        """Every output by name. Raises ``FeedError``, and ``CnnportError`` as ``bind``."""
        launch = self.bind(feeds)
        try:
            launch()
            launch.wait()
            return launch.outputs()
        except RuntimeError as error:
            self._refuse(error)

    def bind(self, feeds: Tensors) -> "TorchLaunch":
        """Put the feeds where the module is, without a copy on the CPU, and compile if that is asked for.

        Raises:
            FeedError: If the feeds do not fit.
            CnnportError: If the module cannot be compiled, or memory runs out.
        """
        # Another thread may close the session meanwhile.
        forward = self._forward
        if forward is None:
            raise ValueError("the session is closed")
        check_feeds(self.inputs, feeds)
        try:
            inputs = [self._placed(feeds[spec.name]) for spec in self.inputs]
        except RuntimeError as error:
            self._refuse(error)
        names = {spec.name: spec.dtype for spec in self.outputs}
        launch = TorchLaunch(forward, inputs, names, self._device, self._switches)
        if self._compiled:
            self._compile(launch)
        return launch

    def module_counts(self) -> dict[str, int]:
        """How many leaf modules of each class there are."""
        assert self._module is not None
        leaves = (leaf for leaf in self._module.modules() if next(leaf.children(), None) is None)
        return dict(sorted(Counter(type(leaf).__name__ for leaf in leaves).items()))

    def close(self) -> None:
        """Free the module, what was compiled, and the device's memory that torch keeps for later."""
        if self._module is None:
            return
        import torch

        self._module = self._forward = None
        if self._compiled:
            # What is compiled belongs to the classes, of which only so many variants are allowed.
            torch.compiler.reset()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _placed(self, array: Array) -> "Tensor":
        import torch

        # torch knows no negative strides, and warns of an array that it may not write to.
        usable = array.flags.c_contiguous and array.flags.writeable
        tensor = torch.from_numpy(array if usable else array.copy(order="C"))
        tensor = tensor.to(device=self._device, dtype=self._precision if tensor.is_floating_point() else None)
        # Only images have channels that could come last.
        return (
            tensor.contiguous(memory_format=torch.channels_last)
            if self._last and tensor.dim() == 4
            else tensor
        )

    @compiling()
    def _compile(self, launch: "TorchLaunch") -> None:
        try:
            with warnings.catch_warnings():
                # It advises to switch on TF32, which is off on purpose.
                warnings.simplefilter("ignore")
                launch()
                launch.wait()
        except CnnportError:
            raise
        except Exception as error:  # its exceptions share no base but this
            if found := _device_error(error, self._device):
                raise found from error
            said = first_line(error)
            advice = ": install g++, or name another in CXX" if "C++ compiler" in said else ""
            raise CnnportError(f"torch.compile cannot compile {self._model}: {said}{advice}") from error

    def _refuse(self, error: Exception) -> NoReturn:
        """Raise what stands for an error of torch's."""
        if found := _device_error(error, self._device):
            raise found from error
        raise FeedError(f"torch cannot run on these inputs: {first_line(error)}") from error


class TorchLaunch:
    """A forward pass; on the CPU it has finished when it returns, on a GPU when ``wait`` does."""

    def __init__(
        self,
        forward: Any,
        inputs: "list[Tensor]",
        outputs: dict[str, str],
        device: "torch.device",
        switches: Switches,
    ) -> None:
        import torch

        self._forward = forward
        self._inputs = inputs
        self._outputs = outputs
        self._device = device
        self._take_effect = switches.take_effect
        self._mode = torch.inference_mode
        self._synchronize = torch.cuda.synchronize if device.type == "cuda" else None
        self._results: Tensor | tuple[Tensor, ...] | dict[str, Tensor] = ()

    def __call__(self) -> None:
        """Run, or on a GPU hand over all that is to be run. Raises ``CnnportError`` if memory or cuDNN fails."""
        self._take_effect()
        try:
            with self._mode():
                self._results = self._forward(*self._inputs)
        except RuntimeError as error:
            if found := _device_error(error, self._device):
                raise found from error
            raise

    def wait(self) -> None:
        """Return when the device has finished. Raises as a run."""
        if self._synchronize is not None:
            try:
                self._synchronize(self._device)
            except RuntimeError as error:
                if found := _device_error(error, self._device):
                    raise found from error
                raise

    def device_clock(self) -> DeviceClock | None:
        """The device's clock on the stream that runs are started on; None on the CPU. Raises ``CudaError``."""
        if self._synchronize is None:
            return None
        import torch

        stream = int(torch.cuda.current_stream(self._device).cuda_stream)
        inputs = [_place(tensor) for tensor in self._inputs]
        return DeviceClock(Gpu(self._device.index or 0), inputs, self._places, stream=stream, owns_gpu=True)

    def _places(self) -> list[tuple[int, int]]:
        """Where the outputs of the last run lie, and their bytes."""
        return [_place(tensor) for tensor in self._tensors()]

    def outputs(self) -> dict[str, Array]:
        """Copies of the outputs of the last run."""
        return {
            name: _array(result, dtype)
            for result, (name, dtype) in zip(self._tensors(), self._outputs.items(), strict=True)
        }

    def _tensors(self) -> "tuple[Tensor, ...]":
        """The outputs of the last run, in order."""
        results: Tensor | tuple[Tensor, ...] | dict[str, Tensor] = self._results
        if isinstance(results, dict):
            results = tuple(results[name] for name in self._outputs)
        elif not isinstance(results, tuple):
            results = (results,)
        return results


def _place(tensor: "Tensor") -> tuple[int, int]:
    """Where a tensor lies, and its bytes."""
    return tensor.data_ptr(), tensor.numel() * tensor.element_size()


def _array(tensor: "Tensor", dtype: str) -> Array:
    """A copy as the file's output would be: NumPy knows no bfloat16, and halves are stored as the file says."""
    if tensor.is_floating_point() and str(tensor.dtype) != f"torch.{dtype}":
        tensor = tensor.float()
    copy: Array = tensor.cpu().numpy().astype(dtype, order="C", copy=True)
    return copy


def _device_error(error: BaseException, device: "torch.device") -> CnnportError | None:
    """What stands for an error that is the device's and not the network's; None for every other."""
    said = first_line(error).partition(". ")[0]
    if _is_memory(error):
        on_cpu = _NO_MEMORY.search(str(error))
        said = on_cpu.group() if on_cpu else said
        return CnnportError(
            f"device {device} has too little memory ({said}): take a smaller batch, or end what else runs there"
        )
    if "CUDNN_STATUS" in said or "cuDNN version" in said:
        # Which is so where another version than torch's own is found first.
        return RuntimeMissingError(
            f"cuDNN fails on {device} ({said}): take the version that torch was built with, "
            "pip install --force-reinstall torch"
        )
    return None


def _is_memory(error: BaseException | None) -> bool:
    """Whether an error, or what it came from, means that memory ran out."""
    import torch

    if error is None:
        return False
    short = isinstance(error, torch.OutOfMemoryError) or _NO_MEMORY.search(str(error)) is not None
    return short or _is_memory(error.__cause__)
