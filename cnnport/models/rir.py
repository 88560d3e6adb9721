"""ResNet in ResNet. Targ, Almeida and Lyman, arXiv:1603.08029: the 18-layer wide RiR.

The blocks stand as in pytorchcv, which has slightly fewer parameters than the paper states (10.3 million).
"""

import torch
from torch import Tensor, nn

from cnnport.layers import conv_bn

# Channels of each of the two streams and the stride of each generalized residual block.
_BLOCKS = ((48, 1),) * 4 + ((96, 2),) + ((96, 1),) * 5 + ((192, 2),) + ((192, 1),) * 5


def _conv(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)


class GeneralizedResidualBlock(nn.Module):
    """A residual and a transient stream, each convolved into itself and into the other; figure 1(b).

    Only the residual stream has a shortcut: a 1 x 1 convolution where its shape changes, else the identity.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.residual_to_residual = _conv(inputs, outputs, 3, stride)
        self.residual_to_transient = _conv(inputs, outputs, 3, stride)
        self.transient_to_transient = _conv(inputs, outputs, 3, stride)
        self.transient_to_residual = _conv(inputs, outputs, 3, stride)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else _conv(inputs, outputs, 1, stride)
        self.residual_out = nn.Sequential(nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))
        self.transient_out = nn.Sequential(nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))

    def forward(self, residual: Tensor, transient: Tensor) -> tuple[Tensor, Tensor]:
        """Two of N x inputs x H x W to two of N x outputs x H / stride x W / stride."""
        kept = self.residual_to_residual(residual) + self.shortcut(residual)
        return (
            self.residual_out(kept + self.transient_to_residual(transient)),
            self.transient_out(self.transient_to_transient(transient) + self.residual_to_transient(residual)),
        )


class RiR(nn.Module):
    """Both streams start from the image and are joined before the classifying 1 x 1 convolution."""

    def __init__(self, *, num_classes: int, in_channels: int) -> None:
        super().__init__()
        channels = _BLOCKS[0][0]
        self.residual_in = nn.Sequential(*conv_bn(in_channels, channels, 3))
        self.transient_in = nn.Sequential(*conv_bn(in_channels, channels, 3))
        self.blocks = nn.ModuleList()
        for outputs, stride in _BLOCKS:
            self.blocks.append(GeneralizedResidualBlock(channels, outputs, stride))
            channels = outputs
        self.classifier = nn.Sequential(*conv_bn(2 * channels, num_classes, 1, relu=False))
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, N x classes, of N x channels x height x width images."""
        residual, transient = self.residual_in(images), self.transient_in(images)
        for block in self.blocks:
            residual, transient = block(residual, transient)
        maps = self.classifier(torch.cat((residual, transient), dim=1))
        return self.pool(maps).flatten(1)


def rir_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """RiR-18 for CIFAR-10. Input: N x 3 x 32 x 32."""
    return RiR(num_classes=num_classes, in_channels=in_channels)


def rir_cifar100(*, num_classes: int = 100, in_channels: int = 3) -> nn.Module:
    """RiR-18 for CIFAR-100. Input: N x 3 x 32 x 32."""
    return RiR(num_classes=num_classes, in_channels=in_channels)
