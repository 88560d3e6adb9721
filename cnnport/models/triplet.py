"""Triplet network. Hoffer and Ailon, Deep metric learning using Triplet network, arXiv:1412.6622."""

import torch
from torch import Tensor, nn

from cnnport.errors import ModelError


class Triplet(nn.Module):
    """Three pictures pass the same tower; the first, the anchor, is compared with the other two."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """Euclidean distances of the anchor to the positive and to the negative, N x 2, of N x C x H x W images."""
        embedded = self.tower(anchor)
        differences = torch.stack((embedded - self.tower(positive), embedded - self.tower(negative)), dim=1)
        return torch.linalg.vector_norm(differences, dim=2)


def _triplet(num_classes: int, in_channels: int) -> Triplet:
    """The published tower: four convolutions down to one pixel of 128 features, the last one linear."""
    if num_classes != 2:
        raise ModelError(
            f"a triplet network compares with two pictures: it gives 2 distances, not {num_classes}"
        )
    tower = nn.Sequential(
        nn.Conv2d(in_channels, 64, 5),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 128, 3),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(128, 256, 3),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(256, 128, 2),
        nn.Flatten(),
    )
    return Triplet(tower)


def triplet_cifar10(*, num_classes: int = 2, in_channels: int = 3) -> nn.Module:
    """For CIFAR-10. Inputs: N x 3 x 32 x 32."""
    return _triplet(num_classes, in_channels)


def triplet_mnist(*, num_classes: int = 2, in_channels: int = 1) -> nn.Module:
    """For MNIST padded to 32 x 32. Inputs: N x 1 x 32 x 32."""
    return _triplet(num_classes, in_channels)
