"""ShuffleNet v1. Zhang et al., arXiv:1707.01083. ShuffleNet v2. Ma et al., arXiv:1807.11164.

Parameter names of v2 are those of torchvision's checkpoints.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from cnnport.layers import channel_shuffle, conv_bn


class UnitV1(nn.Module):
    """Figure 2 (b) and (c) of the v1 paper: a bottleneck of grouped pointwise convolutions around a depthwise one.

    At stride 1 the shortcut is added; at stride 2 it is pooled and concatenated behind what the unit computed, which
    therefore makes only ``outputs - inputs`` channels.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        groups: int,
        *,
        first_groups: int | None = None,
        attention: Callable[[int], nn.Module] | None = None,
    ) -> None:
        """``attention`` makes, from the channels, the branch's last module; ``first_groups`` if unlike ``groups``."""
        super().__init__()
        width = outputs // 4
        made = outputs if stride == 1 else outputs - inputs
        self.stride = stride
        self.groups = groups
        self.compress = nn.Sequential(*conv_bn(inputs, width, 1, groups=first_groups or groups))
        self.expand = nn.Sequential(
            *conv_bn(width, width, 3, stride=stride, groups=width, relu=False),
            *conv_bn(width, made, 1, groups=groups, relu=False),
        )
        self.attention = nn.Identity() if attention is None else attention(made)
        self.pool = nn.AvgPool2d(3, stride=2, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """N x inputs x H x W to N x outputs x H / stride x W / stride."""
        made = self.compress(features)
        if self.groups > 1:
            made = channel_shuffle(made, self.groups)
        made = self.attention(self.expand(made))
        if self.stride == 1:
            return self.relu(made + features)
        return self.relu(torch.cat((made, self.pool(features)), dim=1))


class ShuffleNetV1(nn.Module):
    """``widths``: output channels of the first convolution and the three stages."""

    def __init__(
        self,
        groups: int,
        widths: tuple[int, int, int, int],
        *,
        num_classes: int,
        in_channels: int,
        classifier_bias: bool = True,
        attention: Callable[[int], nn.Module] | None = None,
        stem_stride: int = 2,
    ) -> None:
        """``attention``: see UnitV1. ``stem_stride``: of the first convolution, 1 for 32 x 32 images."""
        super().__init__()
        stem, *stages = widths
        self.conv1 = nn.Sequential(*conv_bn(in_channels, stem, 3, stride=stem_stride))
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        units: list[nn.Module] = []
        channels = stem
        for outputs, depth in zip(stages, (4, 8, 4), strict=True):
            for index in range(depth):
                stride = 2 if index == 0 else 1
                # The stem has too few channels to be cut into groups, section 3.3.
                first_groups = None if units else 1
                units.append(
                    UnitV1(channels, outputs, stride, groups, first_groups=first_groups, attention=attention)
                )
                channels = outputs
        self.units = nn.Sequential(*units)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes, bias=classifier_bias)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, N x classes, of N x channels x height x width images."""
        features = self.units(self.maxpool(self.conv1(images)))
        return self.fc(self.pool(features).flatten(1))


def _released_v1(
    groups: int, widths: tuple[int, int, int, int], num_classes: int, in_channels: int
) -> ShuffleNetV1:
    """As the authors released it: widths that a factor does not give, and no bias in the classifier."""
    return ShuffleNetV1(
        groups, widths, num_classes=num_classes, in_channels=in_channels, classifier_bias=False
    )


class UnitV2(nn.Module):
    """Figure 3 (c) and (d) of the v2 paper.

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
    """A unit of stride 2 and the rest of stride 1, table 5 of the v2 paper."""
    return nn.Sequential(UnitV2(inputs, outputs, 2), *(UnitV2(outputs, outputs, 1) for _ in range(units - 1)))


class ShuffleNetV2(nn.Module):
    """``widths``: output channels of the first convolution, the three stages and the last convolution."""

    def __init__(
        self, widths: tuple[int, ...], *, num_classes: int, in_channels: int, stem_stride: int = 2
    ) -> None:
        """``stem_stride``: of the first convolution, 1 for 32 x 32 images."""
        super().__init__()
        stem, *stages, last = widths
        self.conv1 = nn.Sequential(*conv_bn(in_channels, stem, 3, stride=stem_stride))
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


def shufflenet_v1_g1(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ShuffleNet v1, 1 group."""
    return ShuffleNetV1(1, (24, 144, 288, 576), num_classes=num_classes, in_channels=in_channels)


def shufflenet_v1_g2(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ShuffleNet v1, 2 groups."""
    return ShuffleNetV1(2, (24, 200, 400, 800), num_classes=num_classes, in_channels=in_channels)


def shufflenet_v1_g3(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ShuffleNet v1, 3 groups."""
    return ShuffleNetV1(3, (24, 240, 480, 960), num_classes=num_classes, in_channels=in_channels)


def shufflenet_v1_g4(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ShuffleNet v1, 4 groups."""
    return ShuffleNetV1(4, (24, 272, 544, 1088), num_classes=num_classes, in_channels=in_channels)


def shufflenet_v1_g8(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ShuffleNet v1, 8 groups."""
    return ShuffleNetV1(8, (24, 384, 768, 1536), num_classes=num_classes, in_channels=in_channels)


def shufflenet_v1_g1_x0_5(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ShuffleNet v1, 1 group, 0.5x."""
    return ShuffleNetV1(1, (12, 72, 144, 288), num_classes=num_classes, in_channels=in_channels)


def shufflenet_v1_g3_x0_5(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ShuffleNet v1, 3 groups, 0.5x."""
    return ShuffleNetV1(3, (12, 120, 240, 480), num_classes=num_classes, in_channels=in_channels)


def shufflenet_v1_g1_x0_25(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ShuffleNet v1, 1 group, 0.25x."""
    return ShuffleNetV1(1, (6, 36, 72, 144), num_classes=num_classes, in_channels=in_channels)


def shufflenet_v1_g3_x0_25(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ShuffleNet v1, 3 groups, 0.25x."""
    return ShuffleNetV1(3, (6, 60, 120, 240), num_classes=num_classes, in_channels=in_channels)


def shufflenet_v1_g3_x1_5(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ShuffleNet v1, 3 groups, 1.5x."""
    return _released_v1(3, (24, 360, 720, 1440), num_classes, in_channels)


def shufflenet_v1_g3_x2_0(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ShuffleNet v1, 3 groups, 2x."""
    return _released_v1(3, (48, 480, 960, 1920), num_classes, in_channels)


def shufflenet_v1_g8_x0_5(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ShuffleNet v1, 8 groups, 0.5x."""
    return _released_v1(8, (16, 192, 384, 768), num_classes, in_channels)


def shufflenet_v1_g8_x1_5(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ShuffleNet v1, 8 groups, 1.5x."""
    return _released_v1(8, (24, 576, 1152, 2304), num_classes, in_channels)


def shufflenet_v1_g8_x2_0(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ShuffleNet v1, 8 groups, 2x."""
    return _released_v1(8, (48, 768, 1536, 3072), num_classes, in_channels)


def digits_shufflenet_v1(*, num_classes: int = 10, in_channels: int = 1) -> nn.Module:
    """ShuffleNet v1 for 32 x 32 images, 3 groups, 0.2x but for the first convolution."""
    widths = (12, 48, 96, 192)
    return ShuffleNetV1(3, widths, stem_stride=1, num_classes=num_classes, in_channels=in_channels)


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


def digits_shufflenet_v2(*, num_classes: int = 10, in_channels: int = 1) -> nn.Module:
    """ShuffleNet v2 for 32 x 32 images, 0.25x."""
    widths = (12, 24, 48, 96, 128)
    return ShuffleNetV2(widths, stem_stride=1, num_classes=num_classes, in_channels=in_channels)
