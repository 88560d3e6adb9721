"""Siamese networks: two pictures through one tower, and the distance of what comes out.

Koch, Zemel and Salakhutdinov, Siamese Neural Networks for One-shot Image Recognition, 2015; Hadsell, Chopra and
LeCun, Dimensionality Reduction by Learning an Invariant Mapping, 2006.
"""

import torch
from torch import Tensor, nn

from cnnport.errors import ModelError
from cnnport.models.lenet import lenet5_caffe


class Siamese(nn.Module):
    """Both pictures pass the same tower; ``head`` judges the absolute differences of their features."""

    def __init__(self, tower: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.tower = tower
        self.head = head

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """N x outputs of the head, of two times N x channels x height x width images."""
        return self.head(torch.abs(self.tower(left) - self.tower(right)))


class EuclideanNorm(nn.Module):
    """Length of each vector of differences."""

    def forward(self, differences: Tensor) -> Tensor:
        """N x features to N x 1."""
        return torch.linalg.vector_norm(differences, dim=1, keepdim=True)


def siamese_koch(*, num_classes: int = 1, in_channels: int = 1) -> nn.Module:
    """Figure 4 of Koch et al. Inputs: N x 1 x 105 x 105.

    Output: the logit that both show the same character; its sigmoid is the paper's p.
    """
    tower = nn.Sequential(
        nn.Conv2d(in_channels, 64, 10),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 128, 7),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(128, 128, 4),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(128, 256, 4),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(256 * 6 * 6, 4096),
        nn.Sigmoid(),
    )
    return Siamese(tower, nn.Linear(4096, num_classes))


def siamese_lenet(*, num_classes: int = 1, in_channels: int = 1) -> nn.Module:
    """Caffe's LeNet-5 with two more features, as in Caffe's example for Hadsell et al. Inputs: N x 1 x 28 x 28.

    Output: the Euclidean distance of the two points in the plane; 0 is the same class.

    Raises:
        ModelError: If more than the one distance is asked for.
    """
    if num_classes != 1:
        raise ModelError(f"siamese_lenet compares two pictures: it gives 1 distance, not {num_classes}")
    tower = nn.Sequential(lenet5_caffe(num_classes=10, in_channels=in_channels), nn.Linear(10, 2))
    return Siamese(tower, EuclideanNorm())
