"""ShuffleNet v2. Ma et al., arXiv:1807.11164. Parameter names are those of torchvision's checkpoints."""

import torch
from torch import Tensor, nn

from cnnport.layers import channel_shuffle, conv_bn


class UnitV2(nn.Module):
    """Figure 3 (c) and (d) of the paper.

    At stride 1 half of the channels pass by; at stride 2 both branches see all of them. Channel shuffle mixes the
    halves afterwards.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        half = outputs // 2
        self.stride = stride
        self.branch1 = nn.Sequential()
        if stride > 1:
            depthwise = conv_bn(inputs, inputs, 3, stride=stride, groups=inputs, relu=False)
            self.branch1 = nn.Sequential(*depthwise, *conv_bn(inputs, half, 1))
        self.branch2 = nn.Sequential(
            *conv_bn(inputs if stride > 1 else half, half, 1),
            *conv_bn(half, half, 3, stride=stride, groups=half, relu=False),
            *conv_bn(half, half, 1),
        )

    def forward(self, features: Tensor) -> Tensor:
        """N x inputs x H x W to N x outputs x H / stride x W / stride."""
        if self.stride == 1:
            passed, worked = features.chunk(2, dim=1)
            branches = (passed, self.branch2(worked))
        else:
            branches = (self.branch1(features), self.branch2(features))
        return channel_shuffle(torch.cat(branches, dim=1), 2)


def _stage_v2(inputs: int, outputs: int, units: int) -> nn.Sequential:
    """A unit of stride 2 and the rest of stride 1, table 5 of the paper."""
    return nn.Sequential(UnitV2(inputs, outputs, 2), *(UnitV2(outputs, outputs, 1) for _ in range(units - 1)))


class ShuffleNetV2(nn.Module):
    """``widths``: output channels of the first convolution, the three stages and the last convolution."""

    def __init__(self, widths: tuple[int, ...], *, num_classes: int, in_channels: int) -> None:
        super().__init__()
        stem, *stages, last = widths
        self.conv1 = nn.Sequential(*conv_bn(in_channels, stem, 3, stride=2))
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.stage2 = _stage_v2(stem, stages[0], 4)
        self.stage3 = _stage_v2(stages[0], stages[1], 8)
        self.stage4 = _stage_v2(stages[1], stages[2], 4)
        self.conv5 = nn.Sequential(*conv_bn(stages[2], last, 1))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(last, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, N x classes, of N x channels x height x width images."""
        features = self.maxpool(self.conv1(images))
        features = self.conv5(self.stage4(self.stage3(self.stage2(features))))
        return self.fc(self.pool(features).flatten(1))


def shufflenet_v2_x0_5(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ShuffleNet v2, 0.5x."""
    return ShuffleNetV2((24, 48, 96, 192, 1024), num_classes=num_classes, in_channels=in_channels)


def shufflenet_v2_x1_0(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ShuffleNet v2, 1x."""
    return ShuffleNetV2((24, 116, 232, 464, 1024), num_classes=num_classes, in_channels=in_channels)


def shufflenet_v2_x1_5(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ShuffleNet v2, 1.5x."""
    return ShuffleNetV2((24, 176, 352, 704, 1024), num_classes=num_classes, in_channels=in_channels)


def shufflenet_v2_x2_0(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ShuffleNet v2, 2x."""
    return ShuffleNetV2((24, 244, 488, 976, 2048), num_classes=num_classes, in_channels=in_channels)
