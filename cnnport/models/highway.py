"""Highway networks. Srivastava, Greff and Schmidhuber, arXiv:1505.00387."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Highway(nn.Module):
    """y = H(x) T(x) + x (1 - T(x)), equation 3: the gate T decides how much of x is transformed, the rest is carried.

    H ends in a ReLU, T in a sigmoid. Both keep the shape.
    """

    def __init__(self, layer: Callable[[], nn.Conv2d | nn.Linear]) -> None:
        """``layer`` makes the affine part, once for H and once for T."""
        super().__init__()
        self.transform = layer()
        self.gate = layer()
        # Negative, section 2.2: the gates begin by carrying, so that gradients reach the first of many layers.
        if self.gate.bias is not None:
            nn.init.constant_(self.gate.bias, -1.0)

    def forward(self, features: Tensor) -> Tensor:
        """N x channels (x H x W) to the same."""
        gate = torch.sigmoid(self.gate(features))
        return torch.relu(self.transform(features)) * gate + features * (1 - gate)


def _mnist(width: int, *, num_classes: int, in_channels: int) -> nn.Sequential:
    """A plain convolution, eight highway ones in three stages that end in max pooling, and the output layer.

    The paper leaves the number of poolings open; with three of them the parameters are those of its table 1.
    """
    stages: list[nn.Module] = []
    for depth in (2, 3, 3):
        stages += [Highway(lambda: nn.Conv2d(width, width, 3, padding=1)) for _ in range(depth)]
        stages.append(nn.MaxPool2d(2))
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3, padding=1),
        nn.ReLU(inplace=True),
        *stages,
        nn.Flatten(),
        nn.Linear(width * 3 * 3, num_classes),
    )


def highway_mnist_16(*, num_classes: int = 10, in_channels: int = 1) -> nn.Module:
    """Ten layers of 16 maps, table 1. Input: N x 1 x 28 x 28."""
    return _mnist(16, num_classes=num_classes, in_channels=in_channels)


def highway_mnist_32(*, num_classes: int = 10, in_channels: int = 1) -> nn.Module:
    """Ten layers of 32 maps, table 1. Input: N x 1 x 28 x 28."""
    return _mnist(32, num_classes=num_classes, in_channels=in_channels)


def highway_mlp_10(*, num_classes: int = 10, in_channels: int = 1) -> nn.Module:
    """Ten fully connected layers: a plain one, eight highway ones of 50 units, the output. Input: N x 1 x 28 x 28."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(in_channels * 28 * 28, 50),
        nn.ReLU(inplace=True),
        *(Highway(lambda: nn.Linear(50, 50)) for _ in range(8)),
        nn.Linear(50, num_classes),
    )
