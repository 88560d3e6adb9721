"""ResNet. He et al., arXiv:1512.03385. Parameter names are those of torchvision's checkpoints."""

from typing import ClassVar

from torch import Tensor, nn

from cnnport.layers import conv_bn


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut, figure 5 (left)."""

    expansion: ClassVar[int] = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_bn(inputs, width, 3, stride=stride, relu=False)
        self.relu = nn.ReLU(inplace=True)
        self.conv2, self.bn2 = conv_bn(width, width, 3, relu=False)
        self.downsample = projection(inputs, width, stride)

    def forward(self, features: Tensor) -> Tensor:
        """N x inputs x H x W to N x width x H / stride x W / stride."""
        shortcut = features if self.downsample is None else self.downsample(features)
        features = self.relu(self.bn1(self.conv1(features)))
        features = self.bn2(self.conv2(features))
        return self.relu(features + shortcut)


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 and a shortcut, figure 5 (right).

    The stride lies on the 3 x 3 convolution, as in torchvision's checkpoints; the paper has it on the first 1 x 1.
    """

    expansion: ClassVar[int] = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1, self.bn1 = conv_bn(inputs, width, 1, relu=False)
        self.conv2, self.bn2 = conv_bn(width, width, 3, stride=stride, relu=False)
        self.conv3, self.bn3 = conv_bn(width, outputs, 1, relu=False)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = projection(inputs, outputs, stride)

    def forward(self, features: Tensor) -> Tensor:
        """N x inputs x H x W to N x 4 width x H / stride x W / stride."""
        shortcut = features if self.downsample is None else self.downsample(features)
        features = self.relu(self.bn1(self.conv1(features)))
        features = self.relu(self.bn2(self.conv2(features)))
        features = self.bn3(self.conv3(features))
        return self.relu(features + shortcut)


def projection(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    """Shortcut of option B: a 1 x 1 convolution where the shape changes, else nothing."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(*conv_bn(inputs, outputs, 1, stride=stride, relu=False))


def _stage(
    block: type[BasicBlock] | type[Bottleneck], inputs: int, width: int, depth: int, stride: int
) -> nn.Sequential:
    """``depth`` blocks, the first of which has the stride."""
    outputs = width * block.expansion
    return nn.Sequential(block(inputs, width, stride), *(block(outputs, width, 1) for _ in range(depth - 1)))


class ResNet(nn.Module):
    """``depths``: number of blocks in each of the four stages."""

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: tuple[int, int, int, int],
        *,
        num_classes: int,
        in_channels: int,
    ) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_bn(in_channels, 64, 7, stride=2, relu=False)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(block, 64, 64, depths[0], stride=1)
        self.layer2 = _stage(block, 64 * block.expansion, 128, depths[1], stride=2)
        self.layer3 = _stage(block, 128 * block.expansion, 256, depths[2], stride=2)
        self.layer4 = _stage(block, 256 * block.expansion, 512, depths[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512 * block.expansion, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, N x classes, of N x channels x height x width images."""
        features = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        features = self.layer4(self.layer3(self.layer2(self.layer1(features))))
        return self.fc(self.avgpool(features).flatten(1))


def resnet18(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ResNet-18."""
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes=num_classes, in_channels=in_channels)


def resnet34(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ResNet-34."""
    return ResNet(BasicBlock, (3, 4, 6, 3), num_classes=num_classes, in_channels=in_channels)


def resnet50(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ResNet-50."""
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes=num_classes, in_channels=in_channels)
