"""ResNeXt. Xie et al., Aggregated Residual Transformations, arXiv:1611.05431.

In a name like 32x4d, 32 is the cardinality, the number of groups of the 3 x 3 convolutions, and 4 the width of one
group in the first stage. Parameter names are those of torchvision's checkpoints.
"""

from torch import Tensor, nn

from cnnport.layers import conv_bn
from cnnport.models.resnet import Bottleneck, ResNet

_DEPTHS_50 = (3, 4, 6, 3)
_DEPTHS_101 = (3, 4, 23, 3)


def _resnext(
    depths: tuple[int, int, int, int], cardinality: int, width: int, *, num_classes: int, in_channels: int
) -> nn.Module:
    return ResNet(
        Bottleneck,
        depths,
        groups=cardinality,
        base_width=width,
        num_classes=num_classes,
        in_channels=in_channels,
    )


class ResNeXt29(nn.Module):
    """Three stages of three blocks for 32 x 32 images, section 5.3 of the paper."""

    def __init__(self, cardinality: int, width: int, *, num_classes: int, in_channels: int) -> None:
        super().__init__()
        channels = 64
        self.stem = nn.Sequential(*conv_bn(in_channels, channels, 3))
        blocks: list[nn.Module] = []
        for planes, strides in ((64, (1, 1, 1)), (128, (2, 1, 1)), (256, (2, 1, 1))):
            for stride in strides:
                blocks.append(Bottleneck(channels, planes, stride, groups=cardinality, base_width=width))
                channels = planes * Bottleneck.expansion
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, N x classes, of N x channels x height x width images."""
        return self.fc(self.pool(self.blocks(self.stem(images))).flatten(1))


def resnext50_2x40d(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ResNeXt-50, 2 x 40d."""
    return _resnext(_DEPTHS_50, 2, 40, num_classes=num_classes, in_channels=in_channels)


def resnext50_4x24d(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ResNeXt-50, 4 x 24d."""
    return _resnext(_DEPTHS_50, 4, 24, num_classes=num_classes, in_channels=in_channels)


def resnext50_8x14d(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ResNeXt-50, 8 x 14d."""
    return _resnext(_DEPTHS_50, 8, 14, num_classes=num_classes, in_channels=in_channels)


def resnext50_32x4d(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ResNeXt-50, 32 x 4d."""
    return _resnext(_DEPTHS_50, 32, 4, num_classes=num_classes, in_channels=in_channels)


def resnext101_2x40d(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ResNeXt-101, 2 x 40d."""
    return _resnext(_DEPTHS_101, 2, 40, num_classes=num_classes, in_channels=in_channels)


def resnext101_4x24d(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ResNeXt-101, 4 x 24d."""
    return _resnext(_DEPTHS_101, 4, 24, num_classes=num_classes, in_channels=in_channels)


def resnext101_8x14d(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ResNeXt-101, 8 x 14d."""
    return _resnext(_DEPTHS_101, 8, 14, num_classes=num_classes, in_channels=in_channels)


def resnext101_32x4d(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ResNeXt-101, 32 x 4d."""
    return _resnext(_DEPTHS_101, 32, 4, num_classes=num_classes, in_channels=in_channels)


def resnext101_32x8d(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ResNeXt-101, 32 x 8d."""
    return _resnext(_DEPTHS_101, 32, 8, num_classes=num_classes, in_channels=in_channels)


def resnext101_64x4d(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ResNeXt-101, 64 x 4d."""
    return _resnext(_DEPTHS_101, 64, 4, num_classes=num_classes, in_channels=in_channels)


def resnext29_8x64d_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """ResNeXt-29, 8 x 64d, for CIFAR-10."""
    return ResNeXt29(8, 64, num_classes=num_classes, in_channels=in_channels)


def resnext29_16x64d_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """ResNeXt-29, 16 x 64d, for CIFAR-10."""
    return ResNeXt29(16, 64, num_classes=num_classes, in_channels=in_channels)


def resnext29_32x4d_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """ResNeXt-29, 32 x 4d, for CIFAR-10."""
    return ResNeXt29(32, 4, num_classes=num_classes, in_channels=in_channels)
