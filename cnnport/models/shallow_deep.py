"""A shallow network in front of ResNet-50, whose 7 x 7 convolution its small kernels replace.

There is no paper: it is one reading of the idea that a few cheap layers, which can be trained by themselves, feed
the deep network.
"""

from torch import Tensor, nn

from cnnport.layers import conv_bn
from cnnport.models.resnet import Bottleneck, ResNet


class ShallowDeep(nn.Module):
    """``shallow`` stands where ``deep`` had its stem; ``head`` classifies what it finds, in training only."""

    def __init__(self, deep: ResNet, *, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.shallow = nn.Sequential(
            *conv_bn(in_channels, 32, 3, stride=2), *conv_bn(32, 32, 3), *conv_bn(32, 64, 3)
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(64, num_classes)
        self.deep = deep
        self.deep.conv1 = nn.Identity()
        self.deep.bn1 = nn.Identity()
        self.deep.relu = nn.Identity()

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Logits, N x classes, of N x channels x height x width images; in training those of the head as well."""
        features = self.shallow(images)
        logits: Tensor = self.deep(features)
        if self.training:
            return logits, self.head(self.avgpool(features).flatten(1))
        return logits


def shallow_deep_resnet50(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ResNet-50 behind three 3 x 3 convolutions."""
    # The stem of the deep network is thrown away, so its channels are of no matter.
    deep = ResNet(Bottleneck, (3, 4, 6, 3), num_classes=num_classes, in_channels=1)
    return ShallowDeep(deep, num_classes=num_classes, in_channels=in_channels)
