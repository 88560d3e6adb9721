"""MobileNet v1, v2 and v3.

v1: Howard et al., arXiv:1704.04861. v2: Sandler et al., arXiv:1801.04381. v3: Howard et al., arXiv:1905.02244.
Parameter names of v2 and v3 are those of torchvision's checkpoints.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from cnnport.layers import SqueezeExcite, conv_bn

# Output channels and stride of each depthwise separable block, table 1 of the v1 paper.
_V1_BLOCKS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
    (512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1),
)  # fmt: skip

# Expansion, output channels, number of blocks and stride of the first, table 2 of the v2 paper.
_V2_STAGES = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip


class _BlockV3(NamedTuple):
    """One row of tables 1 and 2 of the v3 paper: kernel, exp size, #out, SE, NL and s."""

    kernel: int
    expanded: int
    outputs: int
    squeeze_excite: bool
    nonlinearity: type[nn.ReLU] | type[nn.Hardswish]
    stride: int


_V3_LARGE = (
    _BlockV3(3, 16, 16, False, nn.ReLU, 1),
    _BlockV3(3, 64, 24, False, nn.ReLU, 2),
    _BlockV3(3, 72, 24, False, nn.ReLU, 1),
    _BlockV3(5, 72, 40, True, nn.ReLU, 2),
    _BlockV3(5, 120, 40, True, nn.ReLU, 1),
    _BlockV3(5, 120, 40, True, nn.ReLU, 1),
    _BlockV3(3, 240, 80, False, nn.Hardswish, 2),
    _BlockV3(3, 200, 80, False, nn.Hardswish, 1),
    _BlockV3(3, 184, 80, False, nn.Hardswish, 1),
    _BlockV3(3, 184, 80, False, nn.Hardswish, 1),
    _BlockV3(3, 480, 112, True, nn.Hardswish, 1),
    _BlockV3(3, 672, 112, True, nn.Hardswish, 1),
    _BlockV3(5, 672, 160, True, nn.Hardswish, 2),
    _BlockV3(5, 960, 160, True, nn.Hardswish, 1),
    _BlockV3(5, 960, 160, True, nn.Hardswish, 1),
)
_V3_SMALL = (
    _BlockV3(3, 16, 16, True, nn.ReLU, 2),
    _BlockV3(3, 72, 24, False, nn.ReLU, 2),
    _BlockV3(3, 88, 24, False, nn.ReLU, 1),
    _BlockV3(5, 96, 40, True, nn.Hardswish, 2),
    _BlockV3(5, 240, 40, True, nn.Hardswish, 1),
    _BlockV3(5, 240, 40, True, nn.Hardswish, 1),
    _BlockV3(5, 120, 48, True, nn.Hardswish, 1),
    _BlockV3(5, 144, 48, True, nn.Hardswish, 1),
    _BlockV3(5, 288, 96, True, nn.Hardswish, 2),
    _BlockV3(5, 576, 96, True, nn.Hardswish, 1),
    _BlockV3(5, 576, 96, True, nn.Hardswish, 1),
)

# torchvision trained v3 with these; its batch norms keep a longer memory than torch's default.
_V3_EPS = 1e-3
_V3_MOMENTUM = 0.01


def _round_channels(channels: float) -> int:
    """The nearest multiple of 8, or the next one where that would take away more than a tenth."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _separable(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """A depthwise 3 x 3 and a pointwise convolution, each with batch norm and ReLU."""
    depthwise = conv_bn(inputs, inputs, 3, stride=stride, groups=inputs)
    return nn.Sequential(*depthwise, *conv_bn(inputs, outputs, 1))


class MobileNetV1(nn.Module):
    """Depthwise separable convolutions throughout; ``width`` scales every layer's channels."""

    def __init__(
        self,
        width: float,
        *,
        num_classes: int,
        in_channels: int,
        attention: Callable[[int], nn.Module] | None = None,
        stem_stride: int = 2,
    ) -> None:
        """``attention`` makes, from the channels, what follows each depthwise separable block.

        ``stem_stride``: of the first convolution, 1 for 32 x 32 images.
        """
        super().__init__()
        channels = int(32 * width)
        blocks: list[nn.Module] = [nn.Sequential(*conv_bn(in_channels, channels, 3, stride=stem_stride))]
        for outputs, stride in _V1_BLOCKS:
            blocks.append(_separable(channels, int(outputs * width), stride))
            channels = int(outputs * width)
            if attention is not None:
                blocks.append(attention(channels))
        self.features = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, N x classes, of N x channels x height x width images."""
        return self.classifier(self.pool(self.features(images)).flatten(1))


class InvertedResidual(nn.Module):
    """Expand, convolve depthwise, project without activation: figure 3 (b) of the v2 paper."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        expansion: int,
        downsample: Callable[[int], nn.Module] | None = None,
    ) -> None:
        """``downsample`` makes, from the channels, what takes over the depthwise convolution's stride."""
        super().__init__()
        width = inputs * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(nn.Sequential(*conv_bn(inputs, width, 1, relu=False), nn.ReLU6(inplace=True)))
        if stride == 1 or downsample is None:
            depthwise = [
                *conv_bn(width, width, 3, stride=stride, groups=width, relu=False),
                nn.ReLU6(inplace=True),
            ]
        else:
            unstrided = conv_bn(width, width, 3, groups=width, relu=False)
            depthwise = [*unstrided, nn.ReLU6(inplace=True), downsample(width)]
        layers.append(nn.Sequential(*depthwise))
        self.conv = nn.Sequential(*layers, *conv_bn(width, outputs, 1, relu=False))
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, features: Tensor) -> Tensor:
        """N x inputs x H x W to N x outputs x H / stride x W / stride."""
        return features + self.conv(features) if self.shortcut else self.conv(features)


class MobileNetV2(nn.Module):
    """Inverted residuals; ``width`` scales the channels, those of the last convolution only upwards."""

    def __init__(
        self,
        width: float,
        *,
        num_classes: int,
        in_channels: int,
        downsample: Callable[[int], nn.Module] | None = None,
        last: int | None = None,
        stem_stride: int = 2,
    ) -> None:
        """``downsample``: see InvertedResidual; the first convolution keeps its stride.

        ``last``: outputs of the last convolution, where ``width`` is not to say. ``stem_stride``: of the first
        convolution, 1 for 32 x 32 images.
        """
        super().__init__()
        channels = _round_channels(32 * width)
        last = last or _round_channels(1280 * max(1.0, width))
        stem = conv_bn(in_channels, channels, 3, stride=stem_stride, relu=False)
        features: list[nn.Module] = [nn.Sequential(*stem, nn.ReLU6(inplace=True))]
        for expansion, stage_channels, depth, first_stride in _V2_STAGES:
            outputs = _round_channels(stage_channels * width)
            for index in range(depth):
                stride = first_stride if index == 0 else 1
                features.append(InvertedResidual(channels, outputs, stride, expansion, downsample))
                channels = outputs
        features.append(nn.Sequential(*conv_bn(channels, last, 1, relu=False), nn.ReLU6(inplace=True)))
        self.features = nn.Sequential(*features)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last, num_classes))

    def forward(self, images: Tensor) -> Tensor:
        """Logits, N x classes, of N x channels x height x width images."""
        return self.classifier(self.pool(self.features(images)).flatten(1))


class InvertedResidualV3(nn.Module):
    """The inverted residual with squeeze-and-excite on the expanded channels, figure 4 of the v3 paper."""

    def __init__(self, inputs: int, row: _BlockV3) -> None:
        super().__init__()
        kernel, width, outputs, squeeze_excite, nonlinearity, stride = row
        layers: list[nn.Module] = []
        if width != inputs:
            expand = conv_bn(inputs, width, 1, eps=_V3_EPS, relu=False)
            layers.append(nn.Sequential(*expand, nonlinearity(inplace=True)))
        depthwise = conv_bn(width, width, kernel, stride=stride, groups=width, eps=_V3_EPS, relu=False)
        layers.append(nn.Sequential(*depthwise, nonlinearity(inplace=True)))
        if squeeze_excite:
            layers.append(SqueezeExcite(width, _round_channels(width // 4), nn.Hardsigmoid()))
        layers.append(nn.Sequential(*conv_bn(width, outputs, 1, eps=_V3_EPS, relu=False)))
        self.block = nn.Sequential(*layers)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, features: Tensor) -> Tensor:
        """N x inputs x H x W to N x outputs x H / stride x W / stride."""
        return features + self.block(features) if self.shortcut else self.block(features)


class MobileNetV3(nn.Module):
    """``last``: width of the layer before the classifier."""

    def __init__(self, rows: tuple[_BlockV3, ...], last: int, *, num_classes: int, in_channels: int) -> None:
        super().__init__()
        channels = 16
        stem = conv_bn(in_channels, channels, 3, stride=2, eps=_V3_EPS, relu=False)
        features: list[nn.Module] = [nn.Sequential(*stem, nn.Hardswish(inplace=True))]
        for row in rows:
            features.append(InvertedResidualV3(channels, row))
            channels = row.outputs
        width = 6 * channels
        features.append(
            nn.Sequential(*conv_bn(channels, width, 1, eps=_V3_EPS, relu=False), nn.Hardswish(inplace=True))
        )
        self.features = nn.Sequential(*features)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        # The features are pooled before the last wide layer, section 5.1.
        self.classifier = nn.Sequential(
            nn.Linear(width, last), nn.Hardswish(inplace=True), nn.Dropout(0.2), nn.Linear(last, num_classes)
        )
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = _V3_MOMENTUM

    def forward(self, images: Tensor) -> Tensor:
        """Logits, N x classes, of N x channels x height x width images."""
        return self.classifier(self.avgpool(self.features(images)).flatten(1))


def mobilenet_v1_x0_25(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """MobileNet v1, a quarter of the width."""
    return MobileNetV1(0.25, num_classes=num_classes, in_channels=in_channels)


def mobilenet_v1_x0_5(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """MobileNet v1, half of the width."""
    return MobileNetV1(0.5, num_classes=num_classes, in_channels=in_channels)


def mobilenet_v1_x0_75(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """MobileNet v1, three quarters of the width."""
    return MobileNetV1(0.75, num_classes=num_classes, in_channels=in_channels)


def mobilenet_v1_x1_0(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """MobileNet v1."""
    return MobileNetV1(1.0, num_classes=num_classes, in_channels=in_channels)


def digits_mobilenet_v1(*, num_classes: int = 10, in_channels: int = 1) -> nn.Module:
    """MobileNet v1 for 32 x 32 images, an eighth of the width."""
    return MobileNetV1(0.125, stem_stride=1, num_classes=num_classes, in_channels=in_channels)


def mobilenet_v2_x0_5(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """MobileNet v2, half of the width."""
    return MobileNetV2(0.5, num_classes=num_classes, in_channels=in_channels)


def mobilenet_v2_x0_75(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """MobileNet v2, three quarters of the width."""
    return MobileNetV2(0.75, num_classes=num_classes, in_channels=in_channels)


def mobilenet_v2(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """MobileNet v2."""
    return MobileNetV2(1.0, num_classes=num_classes, in_channels=in_channels)


def mobilenet_v2_x1_4(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """MobileNet v2, 1.4 times the width."""
    return MobileNetV2(1.4, num_classes=num_classes, in_channels=in_channels)


def digits_mobilenet_v2(*, num_classes: int = 10, in_channels: int = 1) -> nn.Module:
    """MobileNet v2 for 32 x 32 images, an eighth of the width, but no layer narrower than 8 channels."""
    return MobileNetV2(0.125, last=128, stem_stride=1, num_classes=num_classes, in_channels=in_channels)


def mobilenet_v3_large(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """MobileNet v3, large."""
    return MobileNetV3(_V3_LARGE, 1280, num_classes=num_classes, in_channels=in_channels)


def mobilenet_v3_small(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """MobileNet v3, small."""
    return MobileNetV3(_V3_SMALL, 1024, num_classes=num_classes, in_channels=in_channels)
