"""SqueezeNet. Iandola et al., arXiv:1602.07360. Parameter names are those of torchvision's checkpoints."""

from typing import Literal

import torch
from torch import Tensor, nn

# Squeezed channels and output channels of fire2 to fire9, table 1 of the paper.
_FIRES = (
    (16, 128), (16, 128), (32, 256), (32, 256), (48, 384), (48, 384), (64, 512), (64, 512),
)  # fmt: skip

Bypass = Literal["none", "simple", "complex"]


class Fire(nn.Module):
    """1 x 1 squeeze; 1 x 1 and 3 x 3 expansions side by side, half of the outputs each: figure 1 of the paper.

    With ``bypass`` the input is added to the output: itself where the channels agree, figure 2 (middle); elsewhere
    through a 1 x 1 convolution, figure 2 (right), if the bypass is complex, and not at all if it is simple.
    """

    def __init__(self, inputs: int, squeezed: int, outputs: int, bypass: Bypass = "none") -> None:
        super().__init__()
        half = outputs // 2
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.squeeze_activation = nn.ReLU(inplace=True)
        self.expand1x1 = nn.Conv2d(squeezed, half, 1)
        self.expand1x1_activation = nn.ReLU(inplace=True)
        self.expand3x3 = nn.Conv2d(squeezed, half, 3, padding=1)
        self.expand3x3_activation = nn.ReLU(inplace=True)
        self.bypass: nn.Module | None = None
        if bypass != "none" and inputs == outputs:
            self.bypass = nn.Identity()
        elif bypass == "complex":
            self.bypass = nn.Conv2d(inputs, outputs, 1)

    def forward(self, features: Tensor) -> Tensor:
        """N x inputs x H x W to N x outputs x H x W."""
        squeezed = self.squeeze_activation(self.squeeze(features))
        narrow = self.expand1x1_activation(self.expand1x1(squeezed))
        wide = self.expand3x3_activation(self.expand3x3(squeezed))
        expanded = torch.cat((narrow, wide), dim=1)
        return expanded if self.bypass is None else expanded + self.bypass(features)


def _max_pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)


class SqueezeNet(nn.Module):
    """``pooled_fires``: numbers of the fire modules that max pooling follows."""

    def __init__(
        self,
        stem: nn.Conv2d,
        pooled_fires: tuple[int, int],
        *,
        num_classes: int,
        bypass: Bypass = "none",
        width: float = 1.0,
    ) -> None:
        """``stem``: the first convolution. ``width`` scales the channels of the fire modules."""
        super().__init__()
        features: list[nn.Module] = [stem, nn.ReLU(inplace=True), _max_pool()]
        channels = stem.out_channels
        for number, fire in enumerate(_FIRES, start=2):
            squeezed, outputs = (int(full * width) for full in fire)
            features.append(Fire(channels, squeezed, outputs, bypass))
            if number in pooled_fires:
                features.append(_max_pool())
            channels = outputs
        self.features = nn.Sequential(*features)
        # The last convolution scores every position; their average is the image's score.
        self.classifier = nn.Sequential(
            nn.Dropout(0.5),
            nn.Conv2d(channels, num_classes, 1),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Scores, N x classes and none below zero, of N x channels x height x width images."""
        return self.classifier(self.features(images)).flatten(1)


def _squeezenet1_0(bypass: Bypass, num_classes: int, in_channels: int) -> SqueezeNet:
    stem = nn.Conv2d(in_channels, 96, 7, stride=2)
    return SqueezeNet(stem, (4, 8), num_classes=num_classes, bypass=bypass)


def squeezenet1_0(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """SqueezeNet 1.0, the paper's."""
    return _squeezenet1_0("none", num_classes, in_channels)


def squeezenet1_1(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """SqueezeNet 1.1, the authors' later release: a smaller stem and earlier pooling, 2.4 times less to compute."""
    return SqueezeNet(nn.Conv2d(in_channels, 64, 3, stride=2), (3, 5), num_classes=num_classes)


def squeezenet1_0_simple_bypass(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """SqueezeNet 1.0 with shortcuts around fire3, 5, 7 and 9."""
    return _squeezenet1_0("simple", num_classes, in_channels)


def squeezenet1_0_complex_bypass(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """SqueezeNet 1.0 with shortcuts around every fire module, 1 x 1 convolutions around fire2, 4, 6 and 8."""
    return _squeezenet1_0("complex", num_classes, in_channels)


def digits_squeezenet(*, num_classes: int = 10, in_channels: int = 1) -> nn.Module:
    """SqueezeNet 1.1 for 32 x 32 images, a quarter of the width."""
    stem = nn.Conv2d(in_channels, 16, 3, padding=1)
    return SqueezeNet(stem, (3, 5), width=0.25, num_classes=num_classes)
