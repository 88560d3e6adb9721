"""DenseNet. Huang et al., arXiv:1608.06993. Parameter names are those of torchvision's checkpoints."""

import re
from collections import OrderedDict

import torch
from torch import Tensor, nn

_OLD_NAME = re.compile(r"^(.*\bdenselayer\d+\.(?:norm|conv))\.([12]\..+)$")


class DenseLayer(nn.Module):
    """BN, ReLU, 1 x 1 convolution to ``4 * growth`` channels, BN, ReLU, 3 x 3 convolution to ``growth`` (-B)."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        width = 4 * growth
        self.norm1 = nn.BatchNorm2d(inputs)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, growth, 3, padding=1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """N x inputs x H x W to N x (inputs + growth) x H x W: the new maps behind the old ones."""
        new = self.conv1(self.relu1(self.norm1(features)))
        new = self.conv2(self.relu2(self.norm2(new)))
        return torch.cat((features, new), dim=1)


def _transition(inputs: int, outputs: int) -> nn.Sequential:
    """Compression (-C) and halving of the resolution between two blocks."""
    return nn.Sequential(
        OrderedDict(
            norm=nn.BatchNorm2d(inputs),
            relu=nn.ReLU(inplace=True),
            conv=nn.Conv2d(inputs, outputs, 1, bias=False),
            pool=nn.AvgPool2d(2, stride=2),
        )
    )


class DenseNet(nn.Module):
    """DenseNet-BC for 224 x 224 images; ``depths``: number of layers in each block."""

    def __init__(self, growth: int, depths: tuple[int, ...], *, num_classes: int, in_channels: int) -> None:
        super().__init__()
        channels = 2 * growth
        features: OrderedDict[str, nn.Module] = OrderedDict(
            conv0=nn.Conv2d(in_channels, channels, 7, stride=2, padding=3, bias=False),
            norm0=nn.BatchNorm2d(channels),
            relu0=nn.ReLU(inplace=True),
            pool0=nn.MaxPool2d(3, stride=2, padding=1),
        )
        for block, depth in enumerate(depths, start=1):
            layers: OrderedDict[str, nn.Module] = OrderedDict()
            for layer in range(1, depth + 1):
                layers[f"denselayer{layer}"] = DenseLayer(channels, growth)
                channels += growth
            features[f"denseblock{block}"] = nn.Sequential(layers)
            if block < len(depths):
                features[f"transition{block}"] = _transition(channels, channels // 2)
                channels //= 2
        features[f"norm{len(depths) + 1}"] = nn.BatchNorm2d(channels)
        self.features = nn.Sequential(features)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, N x classes, of N x channels x height x width images."""
        features = self.pool(self.relu(self.features(images)))
        return self.classifier(features.flatten(1))


def densenet121(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """DenseNet-121."""
    return DenseNet(32, (6, 12, 24, 16), num_classes=num_classes, in_channels=in_channels)


def rename_keys(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """From the names of the published checkpoints, ``denselayer1.norm.1.weight``, to ``denselayer1.norm1.weight``."""
    return {_OLD_NAME.sub(r"\1\2", name): value for name, value in state.items()}
