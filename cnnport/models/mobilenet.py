"""MobileNet. Howard et al., MobileNets, arXiv:1704.04861."""

from torch import Tensor, nn

from cnnport.layers import conv_bn

# Output channels and stride of each depthwise separable block, table 1 of the paper.
_V1_BLOCKS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
    (512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1),
)  # fmt: skip


def _separable(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """A depthwise 3 x 3 and a pointwise convolution, each with batch norm and ReLU."""
    depthwise = conv_bn(inputs, inputs, 3, stride=stride, groups=inputs)
    return nn.Sequential(*depthwise, *conv_bn(inputs, outputs, 1))


class MobileNetV1(nn.Module):
    """Depthwise separable convolutions throughout; ``width`` scales every layer's channels."""

    def __init__(self, width: float, *, num_classes: int, in_channels: int) -> None:
        super().__init__()
        channels = int(32 * width)
        blocks: list[nn.Module] = [nn.Sequential(*conv_bn(in_channels, channels, 3, stride=2))]
        for outputs, stride in _V1_BLOCKS:
            blocks.append(_separable(channels, int(outputs * width), stride))
            channels = int(outputs * width)
        self.features = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, N x classes, of N x channels x height x width images."""
        return self.classifier(self.pool(self.features(images)).flatten(1))


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
