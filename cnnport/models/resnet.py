"""ResNet. He et al., arXiv:1512.03385. Parameter names are those of torchvision's checkpoints."""

from collections.abc import Callable
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from cnnport.layers import conv_bn

# From the inputs, the outputs and the stride of a block to the module beside its branch; None is the identity.
Shortcut = Callable[[int, int, int], nn.Module | None]


class PaddedShortcut(nn.Module):
    """Shortcut of option A: every ``stride``-th position, with zeros for the new channels behind the old ones."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.new_channels = outputs - inputs
        self.stride = stride

    def forward(self, features: Tensor) -> Tensor:
        """N x inputs x H x W to N x outputs x H / stride x W / stride."""
        kept = features[:, :, :: self.stride, :: self.stride]
        return functional.pad(kept, (0, 0, 0, 0, 0, self.new_channels))


def padding(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    """Shortcut of option A: zero padding where the shape changes, else nothing; no parameters at all."""
    if stride == 1 and inputs == outputs:
        return None
    return PaddedShortcut(inputs, outputs, stride)


def projection(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    """Shortcut of option B: a 1 x 1 convolution where the shape changes, else nothing."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(*conv_bn(inputs, outputs, 1, stride=stride, relu=False))


def projection_everywhere(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Shortcut of option C: a 1 x 1 convolution in every block."""
    return nn.Sequential(*conv_bn(inputs, outputs, 1, stride=stride, relu=False))


class ResidualBlock(nn.Module):
    """What the blocks share: a branch, a shortcut beside it, and what happens where they meet."""

    expansion: ClassVar[int]
    relu: nn.Module
    downsample: nn.Module | None

    def residual(self, features: Tensor) -> Tensor:
        """The branch beside the shortcut, before the addition."""
        raise NotImplementedError

    def merge(self, residual: Tensor, shortcut: Tensor) -> Tensor:
        """Addition and what follows it."""
        return self.relu(residual + shortcut)

    def forward(self, features: Tensor) -> Tensor:
        """N x inputs x H x W to N x (expansion * width) x H / stride x W / stride."""
        shortcut = features if self.downsample is None else self.downsample(features)
        return self.merge(self.residual(features), shortcut)


class BasicBlock(ResidualBlock):
    """Two 3 x 3 convolutions and a shortcut, figure 5 (left)."""

    expansion: ClassVar[int] = 1

    def __init__(
        self,
        inputs: int,
        width: int,
        stride: int = 1,
        *,
        groups: int = 1,
        base_width: int = 64,
        dilation: int = 1,
        shortcut: Shortcut = projection,
    ) -> None:
        """Between the two lie ``groups`` groups of ``base_width`` channels where ``width`` is 64."""
        super().__init__()
        inner = width * base_width // 64 * groups
        self.conv1, self.bn1 = conv_bn(
            inputs, inner, 3, stride=stride, groups=groups, dilation=dilation, relu=False
        )
        self.relu = nn.ReLU(inplace=True)
        self.conv2, self.bn2 = conv_bn(inner, width, 3, groups=groups, dilation=dilation, relu=False)
        self.downsample = shortcut(inputs, width, stride)

    def residual(self, features: Tensor) -> Tensor:
        """The branch beside the shortcut, before the addition."""
        features = self.relu(self.bn1(self.conv1(features)))
        return self.bn2(self.conv2(features))


class Bottleneck(ResidualBlock):
    """1 x 1, 3 x 3, 1 x 1 and a shortcut, figure 5 (right).

    The stride lies on the 3 x 3 convolution, as in torchvision's checkpoints; the paper has it on the first 1 x 1.
    """

    expansion: ClassVar[int] = 4

    def __init__(
        self,
        inputs: int,
        width: int,
        stride: int = 1,
        *,
        groups: int = 1,
        base_width: int = 64,
        dilation: int = 1,
        shortcut: Shortcut = projection,
    ) -> None:
        """The 3 x 3 has ``groups`` groups of ``base_width`` channels in the first stage, where ``width`` is 64."""
        super().__init__()
        inner = width * base_width // 64 * groups
        outputs = width * self.expansion
        self.conv1, self.bn1 = conv_bn(inputs, inner, 1, relu=False)
        self.conv2, self.bn2 = conv_bn(
            inner, inner, 3, stride=stride, groups=groups, dilation=dilation, relu=False
        )
        self.conv3, self.bn3 = conv_bn(inner, outputs, 1, relu=False)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(inputs, outputs, stride)

    def residual(self, features: Tensor) -> Tensor:
        """The branch beside the shortcut, before the addition."""
        features = self.relu(self.bn1(self.conv1(features)))
        features = self.relu(self.bn2(self.conv2(features)))
        return self.bn3(self.conv3(features))


class PlainBlock(BasicBlock):
    """The two convolutions without the shortcut: the networks that deeper is worse for."""

    def forward(self, features: Tensor) -> Tensor:
        """N x inputs x H x W to N x width x H / stride x W / stride."""
        return self.relu(self.residual(features))


class CifarBlock(BasicBlock):
    """The basic block of section 4.2, with option A."""

    def __init__(self, inputs: int, width: int, stride: int = 1, *, shortcut: Shortcut = padding) -> None:
        super().__init__(inputs, width, stride, shortcut=shortcut)


class PlainCifarBlock(PlainBlock, CifarBlock):
    """The same without the shortcut."""


Block = type[BasicBlock] | type[Bottleneck]


class ResNet(nn.Module):
    """``depths``: number of blocks in each of the four stages."""

    def __init__(
        self,
        block: Block,
        depths: tuple[int, ...],
        *,
        num_classes: int,
        in_channels: int,
        groups: int = 1,
        base_width: int = 64,
        dilate: tuple[bool, bool, bool] = (False, False, False),
        shortcut: Shortcut = projection,
    ) -> None:
        """``dilate``: whether the second, third and fourth stage trade their stride for dilation."""
        super().__init__()
        self.conv1, self.bn1 = conv_bn(in_channels, 64, 7, stride=2, relu=False)
        self.relu: nn.Module = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        stages = []
        channels, dilation = 64, 1
        for width, depth, stride, dilated in zip(
            (64, 128, 256, 512), depths, (1, 2, 2, 2), (False, *dilate), strict=True
        ):
            # The block that would have had the stride still sees the spacing of the stage before it.
            first, rest = dilation, dilation * stride if dilated else dilation
            blocks = []
            for position in range(depth):
                blocks.append(
                    block(
                        channels,
                        width,
                        stride if position == 0 and not dilated else 1,
                        groups=groups,
                        base_width=base_width,
                        dilation=first if position == 0 else rest,
                        shortcut=shortcut,
                    )
                )
                channels = width * block.expansion
            stages.append(nn.Sequential(*blocks))
            dilation = rest
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, N x classes, of N x channels x height x width images."""
        features = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        features = self.layer4(self.layer3(self.layer2(self.layer1(features))))
        return self.fc(self.avgpool(features).flatten(1))


class CifarResNet(nn.Module):
    """The networks of section 4.2 for 32 x 32 images: three stages of 16, 32 and 64 channels.

    ``depth`` is the number of weighted layers, 6 n + 2 with n blocks in each stage. ``block`` makes a block from
    its inputs, outputs and stride.
    """

    def __init__(
        self,
        block: Callable[[int, int, int], nn.Module],
        depth: int,
        *,
        num_classes: int,
        in_channels: int,
        width: int = 16,
    ) -> None:
        """``width``: channels of the first stage, of which the second has twice and the third four times as many."""
        super().__init__()
        blocks = (depth - 2) // 6
        first, second, third = width, 2 * width, 4 * width
        self.conv1, self.bn1 = conv_bn(in_channels, first, 3, relu=False)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = nn.Sequential(*(block(first, first, 1) for _ in range(blocks)))
        self.layer2 = nn.Sequential(
            block(first, second, 2), *(block(second, second, 1) for _ in range(blocks - 1))
        )
        self.layer3 = nn.Sequential(
            block(second, third, 2), *(block(third, third, 1) for _ in range(blocks - 1))
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(third, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, N x classes, of N x channels x height x width images."""
        features = self.relu(self.bn1(self.conv1(images)))
        features = self.layer3(self.layer2(self.layer1(features)))
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


def resnet101(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ResNet-101."""
    return ResNet(Bottleneck, (3, 4, 23, 3), num_classes=num_classes, in_channels=in_channels)


def resnet152(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ResNet-152."""
    return ResNet(Bottleneck, (3, 8, 36, 3), num_classes=num_classes, in_channels=in_channels)


def resnet200(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ResNet-200 with the original unit, of arXiv:1603.05027, table 5."""
    return ResNet(Bottleneck, (3, 24, 36, 3), num_classes=num_classes, in_channels=in_channels)


def plain18(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """The plain network of 18 layers, table 2."""
    return ResNet(
        PlainBlock, (2, 2, 2, 2), shortcut=padding, num_classes=num_classes, in_channels=in_channels
    )


def plain34(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """The plain network of 34 layers, table 2."""
    return ResNet(
        PlainBlock, (3, 4, 6, 3), shortcut=padding, num_classes=num_classes, in_channels=in_channels
    )


def resnet34_a(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ResNet-34 with option A, table 3: shortcuts without parameters."""
    return ResNet(
        BasicBlock, (3, 4, 6, 3), shortcut=padding, num_classes=num_classes, in_channels=in_channels
    )


def resnet34_c(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ResNet-34 with option C, table 3: projections everywhere."""
    return ResNet(
        BasicBlock,
        (3, 4, 6, 3),
        shortcut=projection_everywhere,
        num_classes=num_classes,
        in_channels=in_channels,
    )


def resnet20_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """ResNet-20 for CIFAR-10, table 6."""
    return CifarResNet(CifarBlock, 20, num_classes=num_classes, in_channels=in_channels)


def resnet32_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """ResNet-32 for CIFAR-10, table 6."""
    return CifarResNet(CifarBlock, 32, num_classes=num_classes, in_channels=in_channels)


def resnet44_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """ResNet-44 for CIFAR-10, table 6."""
    return CifarResNet(CifarBlock, 44, num_classes=num_classes, in_channels=in_channels)


def resnet56_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """ResNet-56 for CIFAR-10, table 6."""
    return CifarResNet(CifarBlock, 56, num_classes=num_classes, in_channels=in_channels)


def resnet110_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """ResNet-110 for CIFAR-10, table 6."""
    return CifarResNet(CifarBlock, 110, num_classes=num_classes, in_channels=in_channels)


def resnet1202_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """ResNet-1202 for CIFAR-10, table 6."""
    return CifarResNet(CifarBlock, 1202, num_classes=num_classes, in_channels=in_channels)


def plain20_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """The plain network of 20 layers for CIFAR-10, figure 6 (left)."""
    return CifarResNet(PlainCifarBlock, 20, num_classes=num_classes, in_channels=in_channels)


def plain56_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """The plain network of 56 layers for CIFAR-10, figure 6 (left)."""
    return CifarResNet(PlainCifarBlock, 56, num_classes=num_classes, in_channels=in_channels)


def digits_resnet(*, num_classes: int = 10, in_channels: int = 1) -> nn.Module:
    """ResNet-32 for 32 x 32 images, a quarter as wide as CIFAR-10's."""
    return CifarResNet(CifarBlock, 32, width=4, num_classes=num_classes, in_channels=in_channels)
