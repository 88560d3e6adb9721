"""Wide ResNet. Zagoruyko and Komodakis, Wide Residual Networks, arXiv:1605.07146.

The two for ImageNet carry torchvision's parameter names. Those for CIFAR, WRN-depth-width, have no dropout.
"""

from torch import Tensor, nn

from cnnport.models.preact import PreactBlock
from cnnport.models.resnet import Bottleneck, ResNet


class WideResNet(nn.Module):
    """Three stages of pre-activated basic blocks, table 1: B(3, 3).

    ``depth`` counts the convolutions; ``widen`` multiplies the stages' 16, 32 and 64 channels.
    """

    def __init__(self, depth: int, widen: int, *, num_classes: int, in_channels: int) -> None:
        super().__init__()
        channels = 16
        self.conv = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        blocks: list[nn.Module] = []
        for outputs, first_stride in ((16 * widen, 1), (32 * widen, 2), (64 * widen, 2)):
            # Two convolutions in each block of three stages; the four others are the stem and the shortcuts.
            for position in range((depth - 4) // 6):
                blocks.append(PreactBlock(channels, outputs, first_stride if position == 0 else 1))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, N x classes, of N x channels x height x width images."""
        features = self.relu(self.bn(self.blocks(self.conv(images))))
        return self.fc(self.pool(features).flatten(1))


def _wide(depths: tuple[int, int, int, int], *, num_classes: int, in_channels: int) -> nn.Module:
    return ResNet(Bottleneck, depths, base_width=128, num_classes=num_classes, in_channels=in_channels)


def wide_resnet50_2(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ResNet-50 with 3 x 3 convolutions of twice the width."""
    return _wide((3, 4, 6, 3), num_classes=num_classes, in_channels=in_channels)


def wide_resnet101_2(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ResNet-101 with 3 x 3 convolutions of twice the width."""
    return _wide((3, 4, 23, 3), num_classes=num_classes, in_channels=in_channels)


def wrn16_8_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """WRN-16-8 for CIFAR-10."""
    return WideResNet(16, 8, num_classes=num_classes, in_channels=in_channels)


def wrn16_10_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """WRN-16-10 for CIFAR-10."""
    return WideResNet(16, 10, num_classes=num_classes, in_channels=in_channels)


def wrn22_8_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """WRN-22-8 for CIFAR-10."""
    return WideResNet(22, 8, num_classes=num_classes, in_channels=in_channels)


def wrn28_10_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """WRN-28-10 for CIFAR-10."""
    return WideResNet(28, 10, num_classes=num_classes, in_channels=in_channels)


def wrn28_12_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """WRN-28-12 for CIFAR-10."""
    return WideResNet(28, 12, num_classes=num_classes, in_channels=in_channels)


def wrn40_1_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """WRN-40-1 for CIFAR-10."""
    return WideResNet(40, 1, num_classes=num_classes, in_channels=in_channels)


def wrn40_2_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """WRN-40-2 for CIFAR-10."""
    return WideResNet(40, 2, num_classes=num_classes, in_channels=in_channels)


def wrn40_4_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """WRN-40-4 for CIFAR-10."""
    return WideResNet(40, 4, num_classes=num_classes, in_channels=in_channels)


def wrn40_8_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """WRN-40-8 for CIFAR-10."""
    return WideResNet(40, 8, num_classes=num_classes, in_channels=in_channels)


def wrn28_10_cifar100(*, num_classes: int = 100, in_channels: int = 3) -> nn.Module:
    """WRN-28-10 for CIFAR-100."""
    return WideResNet(28, 10, num_classes=num_classes, in_channels=in_channels)
