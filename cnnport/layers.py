"""The few building blocks that families share."""

import torch
from torch import nn


def conv_bn(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1, relu: bool = True
) -> list[nn.Module]:
    """Convolution without bias, batch norm and, unless told otherwise, ReLU; padded to keep the size at stride 1."""
    padding = (kernel - 1) // 2
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return [*layers, nn.ReLU(inplace=True)] if relu else layers


def channel_shuffle(features: torch.Tensor, groups: int) -> torch.Tensor:
    """Interleave the channels of ``groups`` equal parts.

    Source: Zhang et al., ShuffleNet, arXiv:1707.01083, figure 1(c).

    Args:
        features: N x C x H x W, with C a multiple of ``groups``.
        groups: Number of parts.

    Returns:
        The same shape; channel ``i * groups + g`` is what was channel ``g * C / groups + i``.
    """
    return torch.unflatten(features, 1, (groups, -1)).transpose(1, 2).flatten(1, 2)
