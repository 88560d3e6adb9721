"""Hierarchical feature sharing: a small CIFAR network, and its convolutions' outputs shared with later layers.

From a note that names no paper. What the note prints of the shared network cannot run; ``hfs_branch_cifar10`` is
its shared layer as printed, ``hfs_concat_cifar10`` its text, by which every convolution's output is concatenated
to the next one's input.
"""

import torch
from torch import Tensor, nn


class SharingBlock(nn.Module):
    """Two 3 x 3 convolutions; what goes in, and what each gives, is shared with all that comes behind."""

    def __init__(self, inputs: int, width: int, *, share_input: bool) -> None:
        """``share_input``: false for the image, which is no feature."""
        super().__init__()
        self.share_input = share_input
        self.conv1 = nn.Conv2d(inputs, width, 3, padding=1)
        self.conv2 = nn.Conv2d(inputs + width if share_input else width, width, 3, padding=1)
        self.outputs = 2 * width + (inputs if share_input else 0)

    def forward(self, features: Tensor) -> Tensor:
        """N x inputs x H x W to N x outputs x H x W, the oldest maps first."""
        new = torch.relu(self.conv1(features))
        shared = torch.cat((features, new), dim=1) if self.share_input else new
        return torch.cat((shared, torch.relu(self.conv2(shared))), dim=1)


def _classifier(features: int, num_classes: int) -> list[nn.Module]:
    """One hidden layer of 512 units."""
    return [
        nn.Flatten(),
        nn.Linear(features, 512),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Linear(512, num_classes),
    ]


def _chain(padding: int, side: int, *, num_classes: int, in_channels: int) -> nn.Sequential:
    """Two pairs of 3 x 3 convolutions that share nothing; their last maps have ``side`` x ``side`` pixels."""
    layers: list[nn.Module] = []
    channels = in_channels
    for width in (32, 64):
        layers += [nn.Conv2d(channels, width, 3, padding=padding), nn.ReLU(inplace=True)]
        layers += [nn.Conv2d(width, width, 3, padding=padding), nn.ReLU(inplace=True)]
        layers += [nn.MaxPool2d(2), nn.Dropout(0.25)]
        channels = width
    return nn.Sequential(*layers, *_classifier(channels * side * side, num_classes))


def hfs_base_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """The base network, convolutions without padding."""
    return _chain(0, 5, num_classes=num_classes, in_channels=in_channels)


def hfs_branch_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """One branch of the shared layer as printed: the base network with padding."""
    return _chain(1, 8, num_classes=num_classes, in_channels=in_channels)


def hfs_concat_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """Every convolution but the first sees the maps of all before it, and the classifier sees all of them."""
    first = SharingBlock(in_channels, 32, share_input=False)
    second = SharingBlock(first.outputs, 64, share_input=True)
    return nn.Sequential(
        first,
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        second,
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        *_classifier(second.outputs * 8 * 8, num_classes),
    )
