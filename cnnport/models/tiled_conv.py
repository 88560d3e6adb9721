"""Tiled convolution: between one kernel for all positions and one for each. Ngiam et al., Tiled CNNs, NIPS 2010."""

import torch
from torch import Tensor, nn

from cnnport.models.lenet import lenet5_around


class TiledConv2d(nn.Module):
    """Convolution whose kernels and biases repeat every ``period`` positions in each direction.

    With period 1 it is a convolution, with the output's size a locally connected layer. Every set of kernels is a
    convolution of stride ``period`` over the image shifted to its first position.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, period: int) -> None:
        super().__init__()
        self.period = period
        self.convs = nn.ModuleList(
            nn.Conv2d(inputs, outputs, kernel, stride=period) for _ in range(period**2)
        )

    def forward(self, features: Tensor) -> Tensor:
        """N x inputs x H x W to N x outputs x (H - kernel + 1) x (W - kernel + 1), both multiples of the period."""
        tiles = []
        for index, conv in enumerate(self.convs):
            row, column = divmod(index, self.period)
            tiles.append(conv(features[:, :, row:, column:]))
        return torch.pixel_shuffle(torch.stack(tiles, dim=2).flatten(1, 2), self.period)


def lenet5_tiled2(*, num_classes: int = 10, in_channels: int = 1) -> nn.Module:
    """LeNet-5 with C1 and C3 tiled with period 2. Input: N x 1 x 32 x 32."""
    return lenet5_around(TiledConv2d(in_channels, 6, 5, 2), TiledConv2d(6, 16, 5, 2), num_classes)
