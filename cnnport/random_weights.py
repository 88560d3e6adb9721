"""Seeded weights that make an untrained network behave: the same bits on every machine, logits of sane size.

Drawing. Every convolution and linear layer gets He-uniform weights, U(-b, b) with b = sqrt(6 / fan_in), which
keep the variance of activations through ReLUs (He et al., arXiv:1502.01852). Each tensor has its own PCG64
stream, seeded by (seed, parameter name), so that adding a layer does not change the others. A draw is 24 bits
of the raw stream scaled by a power of two, which float32 holds exactly, times the bound: one correctly
rounded product, and so the same bits everywhere.

No parameter keeps what its constructor set, which may come from torch's random state, or hide faults. Norms, batch
norms among them, get both parameters from U(0.5, 1.5): were gamma 1 and beta 0, nobody would notice them lost or
swapped. Every other vector gets U(1/8, 3/8), which does for all that a vector is used for: the scale of a residual
branch counts (ConvNeXt's constructor leaves it at 1e-6, so that the blocks might as well be missing), a PReLU bends,
a shift shows. Every other tensor of more axes is taken for a matrix, or kernels, and gets He-uniform values.

Calibration. One forward pass over a small seeded batch then sets what depends on the data, layer by layer,
each layer seeing its predecessors already calibrated:

- a batch norm gets the mean and variance of its own input as running statistics;
- a layer with a bias has no batch norm behind it to rely on, so it is normalised itself: its weights are
  multiplied by a power of two that brings the deviation from the mean near 1, its bias replaces the mean by
  what was drawn (LSUV, Mishkin and Matas, arXiv:1511.06422). Without it sigmoids, or the pooling of many
  alike features, would give all pictures nearly the same logits.

Shifts. What was drawn for biases, and for the beta of batch norms, is around 1, not around 0: a ReLU then
passes five values in six. Around 0, where it passes half, each layer of a random network enlarges a relative
perturbation by about 1.2 (Yang et al., arXiv:1902.08129): float32 rounding reached 1.6e-4 in resnet50's
logits, whose deviation is 1.4, and a relative perturbation of its input grew 65-fold. That is too rough a
ground to compare runtimes or float16 on. Around 1 the same figures are 2e-5 and 2.

The pass runs in float64 and keeps only ten bits of each statistic: float64 kernels differ between machines in
the last bits of 53, so that the chance of a different rounding is negligible, where float32 kernels would
show theirs.
"""

import hashlib
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from cnnport.errors import WeightsError
from cnnport.misfit import explain

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SQUARES_PX = (1, 8, 64)
_STATISTIC_BITS = 10
_NORMS = _NormBase | nn.LayerNorm | nn.GroupNorm | nn.RMSNorm
_RAW_AT_ONCE = 1 << 20


def randomize(module: nn.Module, seed: int, input_shape: tuple[int, int, int], inputs: int = 1) -> None:
    """Give ``module`` seeded weights and calibrated batch-norm statistics, in place.

    Afterwards it is in evaluation mode and float32, and no parameter has what its constructor set; buffers that are
    no statistics of norms keep it. The global random state of torch and numpy is left alone.

    Args:
        module: Any network that maps N x C x H x W tensors to logits.
        seed: A whole number from 0 on.
        input_shape: Channels, height, width of each of its inputs.
        inputs: How many it takes. Layers that several of them pass through are calibrated with the first.

    Raises:
        WeightsError: If the seed is negative.
        ModelError: If the network cannot process an input of that shape.
    """
    if seed < 0:
        raise WeightsError(f"the seed is a whole number from 0 on, not {seed}")
    images = [torch.from_numpy(_images(seed, input_shape, position)) for position in range(inputs)]
    module.eval().float()
    _draw(module, seed)
    try:
        _calibrate(module.double(), [image.double() for image in images])
    except Exception:
        # Some networks fix a dtype inside their forward. They get the same procedure in float32; one that fails
        # for another reason fails again, with a message that speaks of its own types.
        module.float()
        _draw(module, seed)
        try:
            _calibrate(module, images)
        except Exception as error:
            raise explain(module, [input_shape] * inputs, error) from error
    module.float()


def _draw(module: nn.Module, seed: int) -> None:
    """Overwrite every parameter; batch norms are then far from the identity and still without statistics."""
    for name, layer in module.named_modules():
        if isinstance(layer, _NormBase):
            layer.reset_running_stats()
        for own_name, parameter in layer.named_parameters(recurse=False):
            if parameter.is_floating_point():
                centre, bound = _range(layer, own_name, parameter)
                _fill(parameter, seed, f"{name}.{own_name}", bound, centre=centre)


def _range(layer: nn.Module, own_name: str, parameter: nn.Parameter) -> tuple[float, float]:
    """Centre of what a parameter is drawn from, and the largest distance to it."""
    if isinstance(layer, _ConvNd | nn.Linear) and own_name == "weight":
        return 0.0, math.sqrt(6 / _fan_in(layer))
    if isinstance(layer, _ConvNd | nn.Linear | _NORMS) and own_name in {"weight", "bias"}:
        return 1.0, 0.5
    sizes = [size for size in parameter.shape if size > 1]
    if len(sizes) > 1:
        return 0.0, math.sqrt(6 / math.prod(sizes[1:]))
    return 0.25, 0.125


def _fan_in(layer: "_ConvNd | nn.Linear") -> float:
    """Number of products that are summed up in one output value."""
    if isinstance(own := getattr(layer, "fan_in", None), int | float):
        # The layer knows that more, or less, is summed up than its shape says: see capsnet.
        return own
    if isinstance(layer, _ConvTransposeNd):
        # Only one in stride x stride positions of the kernel meets an input.
        taps = math.prod(layer.kernel_size) / math.prod(layer.stride)
        return max(1.0, layer.in_channels / layer.groups * taps)
    return max(1.0, layer.weight[0].numel())


def _fill(parameter: nn.Parameter, seed: int, name: str, bound: float, *, centre: float) -> None:
    """Overwrite a parameter with U(centre - bound, centre + bound)."""
    values = _uniform(f"{seed}/{name}", parameter.numel())
    np.multiply(values, np.float32(bound), out=values)
    np.add(values, np.float32(centre), out=values)
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(values).view(parameter.shape))


def _uniform(stream: str, count: int) -> "NDArray[np.float32]":
    """``count`` multiples of 2^-23 in [-1, 1), two from each raw 64-bit value of the stream."""
    generator = np.random.PCG64(int.from_bytes(hashlib.sha256(stream.encode()).digest(), "big"))
    values = np.empty(count + count % 2, np.float32)
    for start in range(0, len(values), 2 * _RAW_AT_ONCE):
        part = values[start : start + 2 * _RAW_AT_ONCE]
        raw = np.asarray(generator.random_raw(len(part) // 2))
        part[0::2] = raw >> np.uint64(40)
        part[1::2] = (raw >> np.uint64(8)) & np.uint64(0xFFFFFF)
    values -= np.float32(1 << 23)
    values *= np.float32(2.0**-23)
    return values[:count]


def _images(seed: int, input_shape: tuple[int, int, int], position: int) -> "NDArray[np.float32]":
    """Inputs of mean 0 and variance 1, N x C x H x W, from fine noise to large plain areas.

    White noise alone would calibrate the network for inputs that no camera takes: neighbouring pixels of
    pictures are alike. Each of the three images therefore consists of squares of another width. Networks with
    several inputs get other images at each ``position``.
    """
    stream = f"{seed}/image" if position == 0 else f"{seed}/input {position}/image"
    channels, height, width = input_shape
    images = np.empty((len(_SQUARES_PX), channels, height, width), np.float32)
    for index, side in enumerate(_SQUARES_PX):
        rows, columns = -(-height // side), -(-width // side)
        squares = _uniform(f"{stream} {index}", channels * rows * columns)
        pixels = squares.reshape(channels, rows, columns).repeat(side, axis=1).repeat(side, axis=2)
        images[index] = pixels[:, :height, :width] * np.float32(math.sqrt(3))
    return images


def _calibrate(module: nn.Module, images: list[Tensor]) -> None:
    """Set batch-norm statistics, and normalise biased layers, in one forward pass."""
    # A layer that is called twice keeps what it got from its first call.
    done: set[nn.Module] = set()

    def before(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if layer not in done:
            done.add(layer)
            _take_statistics(layer, inputs[0])

    def after(layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if layer in done:
            return output
        done.add(layer)
        return _normalise(layer, output)

    with ExitStack() as stack:
        for layer in module.modules():
            if isinstance(layer, _NormBase) and layer.running_mean is not None:
                stack.callback(layer.register_forward_pre_hook(before).remove)
            elif isinstance(layer, _ConvNd | nn.Linear) and _owns(layer, "weight") and _owns(layer, "bias"):
                stack.callback(layer.register_forward_hook(after).remove)
        stack.enter_context(one_thread())
        stack.enter_context(torch.no_grad())
        module(*images)


def _owns(layer: nn.Module, name: str) -> bool:
    """Whether that is a parameter; parametrizations put there what they compute from others."""
    return isinstance(getattr(layer, name), nn.Parameter)


def _take_statistics(layer: nn.Module, features: Tensor) -> None:
    """Make mean and variance of N x C x ... features the running statistics of a batch norm."""
    variance, mean = torch.var_mean(features, _all_but(features, 1), correction=0)
    # A channel that hardly moves in this batch must not explode when another input moves it.
    floor = 0.01 * variance.mean()
    variance = variance.clamp(min=floor) if floor > 0 else torch.ones_like(variance)
    running_mean, running_var = layer.running_mean, layer.running_var
    assert isinstance(running_mean, Tensor)
    assert isinstance(running_var, Tensor)
    running_mean.copy_(_coarse(mean))
    running_var.copy_(_coarse(variance))


def _normalise(layer: nn.Module, output: Tensor) -> Tensor:
    """Change weight and bias so that the output deviates by about 1 from its mean, the bias; return it."""
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    assert isinstance(bias, Tensor)
    channel = output.dim() - 1 if isinstance(layer, nn.Linear) else 1
    shape = [-1 if dim == channel else 1 for dim in range(output.dim())]
    product = output - bias.view(shape)
    variance, mean = torch.var_mean(product, _all_but(product, channel), correction=0)
    deviation = math.sqrt(variance.mean().item())
    scale = 2.0 ** -round(math.log2(deviation)) if 2**-20 < deviation < 2**20 else 1.0
    # A power of two changes the exponents of the weights only: they stay exact.
    weight.mul_(scale)
    bias.sub_(_coarse(mean * scale)).copy_(bias.float())
    return product * scale + bias.view(shape)


def _all_but(features: Tensor, kept: int) -> list[int]:
    return [dim for dim in range(features.dim()) if dim != kept]


def _coarse(statistic: Tensor) -> Tensor:
    """Round to ten significant bits."""
    mantissa, exponent = torch.frexp(statistic)
    return torch.ldexp(torch.round(mantissa * 2**_STATISTIC_BITS), exponent - _STATISTIC_BITS)


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch on one thread.

    Float64 convolutions are many small matrix products, one for each group: on two threads whose cores others
    use too, shufflenet_v2_x1_0 was measured at 8 s instead of 0.1 s.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
