"""Maxout network. Goodfellow et al., arXiv:1302.4389. Sizes are those of the authors' release for CIFAR-10."""

from torch import Tensor, nn


class Maxout(nn.Module):
    """Largest of ``pieces`` neighbouring outputs of a layer, section 3: a convex function that is learned."""

    def __init__(self, layer: nn.Conv2d | nn.Linear, pieces: int) -> None:
        super().__init__()
        self.layer = layer
        self.pieces = pieces

    def forward(self, features: Tensor) -> Tensor:
        """N x inputs (x H x W) to N x outputs of the layer / pieces (x H x W)."""
        return self.layer(features).unflatten(1, (-1, self.pieces)).amax(dim=2)


def maxout_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """Three convolutional maxout layers of two pieces and a fully connected one of five, section 5.2.

    Dropout at the input of every layer, as maxout is made for it. Input: N x 3 x 32 x 32.
    """
    return nn.Sequential(
        nn.Dropout(0.2),
        Maxout(nn.Conv2d(in_channels, 2 * 96, 8, padding=4), 2),
        nn.MaxPool2d(4, stride=2),
        nn.Dropout(0.5),
        Maxout(nn.Conv2d(96, 2 * 192, 8, padding=3), 2),
        nn.MaxPool2d(4, stride=2),
        nn.Dropout(0.5),
        Maxout(nn.Conv2d(192, 2 * 192, 5, padding=3), 2),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.5),
        Maxout(nn.Linear(192 * 4 * 4, 5 * 500), 5),
        nn.Dropout(0.5),
        nn.Linear(500, num_classes),
    )
