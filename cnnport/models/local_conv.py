"""Locally connected networks: convolutions whose kernels are not shared between positions.

Goodfellow, Bengio and Courville, Deep Learning, section 9.5; Krizhevsky's cuda-convnet, ``layers-conv-local-11pct``.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from cnnport.models.lenet import lenet5_around


class LocalConv2d(nn.Module):
    """Convolution at stride 1 with a kernel and a bias of its own at every position of a map of known size.

    Each position is one group of a grouped 1 x 1 convolution over the windows.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, size: int, padding: int = 0) -> None:
        """``size``: height and width of the input."""
        super().__init__()
        self.kernel, self.padding = kernel, padding
        self.side = size + 2 * padding - kernel + 1
        self.positions = self.side**2
        window = inputs * kernel**2
        self.conv = nn.Conv2d(self.positions * window, self.positions * outputs, 1, groups=self.positions)

    def forward(self, features: Tensor) -> Tensor:
        """N x inputs x size x size to N x outputs x side x side."""
        windows = functional.unfold(features, self.kernel, padding=self.padding)
        by_position = torch.unflatten(windows.transpose(1, 2).flatten(1), 1, (-1, 1, 1))
        maps = self.conv(by_position).flatten(1).unflatten(1, (self.positions, -1)).transpose(1, 2)
        return maps.unflatten(2, (self.side, self.side))


def local_cifar11(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """Two convolutions, two locally connected layers, one fully connected. Input: N x 3 x 24 x 24.

    Named after its error on CIFAR-10, 11 %. The responses are normalised over nine maps.
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, 64, 5, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.LocalResponseNorm(9, alpha=0.001, beta=0.75, k=1),
        nn.Conv2d(64, 64, 5, padding=2),
        nn.ReLU(inplace=True),
        nn.LocalResponseNorm(9, alpha=0.001, beta=0.75, k=1),
        nn.MaxPool2d(3, stride=2, padding=1),
        LocalConv2d(64, 64, 3, size=6, padding=1),
        nn.ReLU(inplace=True),
        LocalConv2d(64, 32, 3, size=6, padding=1),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(32 * 6 * 6, num_classes),
    )


def lenet5_local(*, num_classes: int = 10, in_channels: int = 1) -> nn.Module:
    """LeNet-5 with C1 and C3 locally connected. Input: N x 1 x 32 x 32."""
    c1 = LocalConv2d(in_channels, 6, 5, size=32)
    c3 = LocalConv2d(6, 16, 5, size=14)
    return lenet5_around(c1, c3, num_classes)
