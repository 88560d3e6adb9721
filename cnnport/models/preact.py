"""Pre-activation ResNets, and the shortcuts and activations they were found by. He et al., arXiv:1603.05027."""

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from cnnport.layers import conv_bn
from cnnport.models.resnet import CifarBlock, CifarResNet, padding


class ScaledBlock(CifarBlock):
    """Figure 2 (b): branch and shortcut count half each."""

    def merge(self, residual: Tensor, shortcut: Tensor) -> Tensor:
        """The mean of the two."""
        return self.relu(0.5 * (residual + shortcut))


class GatedBlock(CifarBlock):
    """Figure 2 (d), shortcut-only gating: a 1 x 1 convolution and a sigmoid say how much of the shortcut to drop."""

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__(inputs, width, stride)
        # It sees the shortcut: that is the block's input, or where the shape changes, the padded one.
        self.gate = nn.Conv2d(width, width, 1)
        # Negative biases start the gates near the identity; -6 trained best, table 1.
        assert self.gate.bias is not None
        nn.init.constant_(self.gate.bias, -6.0)

    def merge(self, residual: Tensor, shortcut: Tensor) -> Tensor:
        """The branch and what the gate leaves of the shortcut."""
        return self.relu(residual + (1 - self.gate(shortcut).sigmoid()) * shortcut)


class ExclusivelyGatedBlock(GatedBlock):
    """Figure 2 (c): the same gate lets in of the branch what it drops of the shortcut, as in highway networks."""

    def merge(self, residual: Tensor, shortcut: Tensor) -> Tensor:
        """A convex combination in every position and channel."""
        gate = self.gate(shortcut).sigmoid()
        return self.relu(gate * residual + (1 - gate) * shortcut)


class DropoutBlock(CifarBlock):
    """Figure 2 (f): dropout of half of the shortcut."""

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__(inputs, width, stride)
        self.dropout = nn.Dropout(0.5)

    def merge(self, residual: Tensor, shortcut: Tensor) -> Tensor:
        """The branch and what dropout leaves of the shortcut."""
        return super().merge(residual, self.dropout(shortcut))


class ConvShortcutBlock(CifarBlock):
    """Figure 2 (e): a 1 x 1 convolution where the shortcut was the identity; padding stays where it was."""

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__(inputs, width, stride, shortcut=conv_in_place_of_identity)


def conv_in_place_of_identity(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Shortcut of figure 2 (e)."""
    return padding(inputs, outputs, stride) or nn.Sequential(*conv_bn(inputs, outputs, 1, relu=False))


class NormAfterAddBlock(CifarBlock):
    """Figure 4 (b): the second batch norm follows the addition, and so stands in the shortcut's way."""

    def residual(self, features: Tensor) -> Tensor:
        """The branch without its last norm."""
        return self.conv2(self.relu(self.bn1(self.conv1(features))))

    def merge(self, residual: Tensor, shortcut: Tensor) -> Tensor:
        """Addition, norm and ReLU."""
        return self.relu(self.bn2(residual + shortcut))


class ReluBeforeAddBlock(CifarBlock):
    """Figure 4 (c): the branch ends in the ReLU, so that it only ever adds."""

    def merge(self, residual: Tensor, shortcut: Tensor) -> Tensor:
        """ReLU, then addition."""
        return self.relu(residual) + shortcut


class ReluFirstBlock(CifarBlock):
    """Figure 4 (d): the last ReLU of a block moved in front of the next one's branch, the norms left in place."""

    def residual(self, features: Tensor) -> Tensor:
        """The branch behind a ReLU of its own; the shortcut keeps what it cuts off."""
        return super().residual(functional.relu(features))

    def merge(self, residual: Tensor, shortcut: Tensor) -> Tensor:
        """Addition and nothing after it."""
        return residual + shortcut


class PreactBlock(nn.Module):
    """Figure 4 (e): norm and ReLU before each of the two 3 x 3 convolutions, nothing after the addition.

    Where the shape changes, the shortcut is a bare 1 x 1 convolution of the activated input, as in pytorchcv.
    """

    expansion: ClassVar[int] = 1

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = bare_projection(inputs, width, stride)

    def residual(self, activated: Tensor) -> Tensor:
        """The branch behind its first activation."""
        return self.conv2(self.relu(self.bn2(self.conv1(activated))))

    def forward(self, features: Tensor) -> Tensor:
        """N x inputs x H x W to N x width x H / stride x W / stride."""
        activated = self.relu(self.bn1(features))
        shortcut = features if self.downsample is None else self.downsample(activated)
        return self.residual(activated) + shortcut


class PaddedPreactBlock(PreactBlock):
    """The same with option A: zeros are appended to the input itself."""

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__(inputs, width, stride)
        self.downsample = padding(inputs, width, stride)

    def forward(self, features: Tensor) -> Tensor:
        """N x inputs x H x W to N x width x H / stride x W / stride."""
        shortcut = features if self.downsample is None else self.downsample(features)
        return self.residual(self.relu(self.bn1(features))) + shortcut


class PreactBottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1, each behind norm and ReLU, with the stride on the 3 x 3 convolution."""

    expansion: ClassVar[int] = 4

    def __init__(self, inputs: int, width: int, stride: int = 1, *, stride_first: bool = False) -> None:
        """``stride_first``: whether the first 1 x 1 convolution has the stride, as in the paper's networks."""
        super().__init__()
        outputs = width * self.expansion
        first, second = (stride, 1) if stride_first else (1, stride)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, width, 1, first, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, second, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = bare_projection(inputs, outputs, stride)

    def forward(self, features: Tensor) -> Tensor:
        """N x inputs x H x W to N x 4 width x H / stride x W / stride."""
        activated = self.relu(self.bn1(features))
        shortcut = features if self.downsample is None else self.downsample(activated)
        residual = self.relu(self.bn2(self.conv1(activated)))
        residual = self.relu(self.bn3(self.conv2(residual)))
        return self.conv3(residual) + shortcut


class StrideFirstBottleneck(PreactBottleneck):
    """The bottleneck with the stride on the first 1 x 1 convolution, for ImageNet."""

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__(inputs, width, stride, stride_first=True)


def bare_projection(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    """A 1 x 1 convolution where the shape changes, without the norm: the activation before it has had one."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Conv2d(inputs, outputs, 1, stride, bias=False)


Block = type[PreactBlock] | type[PreactBottleneck]


class PreactResNet(nn.Module):
    """A stem, stages that halve the resolution from the second one on, and an activation that ends them.

    ``widths`` and ``depths`` have one entry for each stage.
    """

    def __init__(
        self,
        stem: nn.Sequential,
        block: Block,
        widths: tuple[int, ...],
        depths: tuple[int, ...],
        *,
        num_classes: int,
    ) -> None:
        """``stem`` ends in as many channels as the first stage is wide."""
        super().__init__()
        self.stem = stem
        self.stages = nn.Sequential()
        channels = widths[0]
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            blocks = nn.Sequential()
            for position in range(depth):
                blocks.append(block(channels, width, 2 if stage > 0 and position == 0 else 1))
                channels = width * block.expansion
            self.stages.append(blocks)
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, N x classes, of N x channels x height x width images."""
        features = self.relu(self.bn(self.stages(self.stem(images))))
        return self.fc(self.avgpool(features).flatten(1))


def _imagenet(block: Block, depths: tuple[int, ...], num_classes: int, in_channels: int) -> nn.Module:
    stem = nn.Sequential(*conv_bn(in_channels, 64, 7, stride=2), nn.MaxPool2d(3, stride=2, padding=1))
    return PreactResNet(stem, block, (64, 128, 256, 512), depths, num_classes=num_classes)


def _cifar_bottleneck(depth: int, num_classes: int, in_channels: int) -> nn.Module:
    """``depth`` is 9 n + 2, with n bottlenecks of three convolutions in each of the three stages."""
    blocks = (depth - 2) // 9
    stem = nn.Sequential(nn.Conv2d(in_channels, 16, 3, padding=1, bias=False))
    return PreactResNet(stem, PreactBottleneck, (16, 32, 64), (blocks,) * 3, num_classes=num_classes)


def resnet110_const_scale_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """ResNet-110 with both paths scaled by 0.5, table 1."""
    return CifarResNet(ScaledBlock, 110, num_classes=num_classes, in_channels=in_channels)


def resnet110_excl_gate_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """ResNet-110 with exclusive gates, table 1."""
    return CifarResNet(ExclusivelyGatedBlock, 110, num_classes=num_classes, in_channels=in_channels)


def resnet110_shortcut_gate_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """ResNet-110 with gated shortcuts, table 1."""
    return CifarResNet(GatedBlock, 110, num_classes=num_classes, in_channels=in_channels)


def resnet110_conv_shortcut_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """ResNet-110 with convolutions as shortcuts, table 1."""
    return CifarResNet(ConvShortcutBlock, 110, num_classes=num_classes, in_channels=in_channels)


def resnet110_dropout_shortcut_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """ResNet-110 with dropout on the shortcuts, table 1."""
    return CifarResNet(DropoutBlock, 110, num_classes=num_classes, in_channels=in_channels)


def resnet110_bn_after_add_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """ResNet-110 with batch norm after the addition, table 2."""
    return CifarResNet(NormAfterAddBlock, 110, num_classes=num_classes, in_channels=in_channels)


def resnet110_relu_before_add_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """ResNet-110 with ReLU before the addition, table 2."""
    return CifarResNet(ReluBeforeAddBlock, 110, num_classes=num_classes, in_channels=in_channels)


def resnet110_relu_only_preact_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """ResNet-110 with the ReLU alone as pre-activation, table 2."""
    return CifarResNet(ReluFirstBlock, 110, num_classes=num_classes, in_channels=in_channels)


def preact_resnet18(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """Pre-activation ResNet-18."""
    return _imagenet(PreactBlock, (2, 2, 2, 2), num_classes, in_channels)


def preact_resnet34(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """Pre-activation ResNet-34."""
    return _imagenet(PreactBlock, (3, 4, 6, 3), num_classes, in_channels)


def preact_resnet50(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """Pre-activation ResNet-50."""
    return _imagenet(StrideFirstBottleneck, (3, 4, 6, 3), num_classes, in_channels)


def preact_resnet101(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """Pre-activation ResNet-101."""
    return _imagenet(StrideFirstBottleneck, (3, 4, 23, 3), num_classes, in_channels)


def preact_resnet152(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """Pre-activation ResNet-152."""
    return _imagenet(StrideFirstBottleneck, (3, 8, 36, 3), num_classes, in_channels)


def preact_resnet200(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """Pre-activation ResNet-200."""
    return _imagenet(StrideFirstBottleneck, (3, 24, 36, 3), num_classes, in_channels)


def preact_resnet110_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """Pre-activation ResNet-110 of basic blocks with option A, table 2; its stem is activated as well."""
    stem = nn.Sequential(*conv_bn(in_channels, 16, 3))
    return PreactResNet(stem, PaddedPreactBlock, (16, 32, 64), (18, 18, 18), num_classes=num_classes)


def preact_resnet164_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """Pre-activation ResNet-164 of bottlenecks, table 4."""
    return _cifar_bottleneck(164, num_classes, in_channels)


def preact_resnet1001_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """Pre-activation ResNet-1001 of bottlenecks, table 4."""
    return _cifar_bottleneck(1001, num_classes, in_channels)
