"""Squeeze-and-excitation networks. Hu et al., arXiv:1709.01507: hosts of other families whose channels are gated.

16 channels are squeezed into one, but where there are few. Parameter names of the blocks and of SENet-154 are those
of the Caffe checkpoints' ports in pretrainedmodels.
"""

from collections import OrderedDict
from functools import partial
from typing import Any

from torch import Tensor, nn

from cnnport.layers import SqueezeExcite, conv_bn
from cnnport.models.inception import inception_resnet_v2, inception_v2_paper
from cnnport.models.mobilenet import MobileNetV1
from cnnport.models.resnet import BasicBlock, Bottleneck, CifarResNet, ResNet
from cnnport.models.shufflenet import ShuffleNetV1
from cnnport.models.vgg import VGG, trunk

_DEPTHS_50 = (3, 4, 6, 3)
_DEPTHS_101 = (3, 4, 23, 3)
_DEPTHS_152 = (3, 8, 36, 3)


def _gate(channels: int, reduction: int = 16) -> SqueezeExcite:
    """``reduction``: the paper's r."""
    return SqueezeExcite(channels, channels // reduction)


class SEBasicBlock(BasicBlock):
    """ResNet's basic block with the branch gated before the addition, figure 3."""

    def __init__(
        self, inputs: int, width: int, stride: int = 1, *, reduction: int = 16, **options: Any
    ) -> None:
        super().__init__(inputs, width, stride, **options)
        self.se_module = _gate(width, reduction)

    def residual(self, features: Tensor) -> Tensor:
        """The gated branch."""
        return self.se_module(super().residual(features))


class SEBottleneck(Bottleneck):
    """ResNet's or ResNeXt's bottleneck with the branch gated before the addition, figure 3."""

    def __init__(self, inputs: int, width: int, stride: int = 1, **options: Any) -> None:
        super().__init__(inputs, width, stride, **options)
        self.se_module = _gate(width * self.expansion)

    def residual(self, features: Tensor) -> Tensor:
        """The gated branch."""
        return self.se_module(super().residual(features))


class SEResNetBottleneck(SEBottleneck):
    """With the stride on the first 1 x 1 convolution, where the ResNet paper has it."""

    def __init__(self, inputs: int, width: int, stride: int = 1, **options: Any) -> None:
        super().__init__(inputs, width, stride, **options)
        self.conv1, self.bn1 = conv_bn(inputs, width, 1, stride=stride, relu=False)
        self.conv2, self.bn2 = conv_bn(width, width, 3, relu=False)


class SENetBottleneck(SEBottleneck):
    """SENet-154's: ResNeXt's 64 x 4d with half the channels after the first 1 x 1.

    A strided shortcut is a 3 x 3 convolution.
    """

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__(inputs, width, stride, groups=64, base_width=4, shortcut=_wide_projection)
        self.conv1, self.bn1 = conv_bn(inputs, 2 * width, 1, relu=False)
        self.conv2, self.bn2 = conv_bn(2 * width, 4 * width, 3, stride=stride, groups=64, relu=False)


def _wide_projection(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(*conv_bn(inputs, outputs, 1 if stride == 1 else 3, stride=stride, relu=False))


class SENet154(nn.Module):
    """The paper's challenge entry: appendix "Details of SENet-154"."""

    def __init__(self, *, num_classes: int, in_channels: int) -> None:
        super().__init__()
        conv1, bn1, relu1 = conv_bn(in_channels, 64, 3, stride=2)
        conv2, bn2, relu2 = conv_bn(64, 64, 3)
        conv3, bn3, relu3 = conv_bn(64, 128, 3)
        pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.layer0 = nn.Sequential(
            OrderedDict(
                conv1=conv1, bn1=bn1, relu1=relu1,
                conv2=conv2, bn2=bn2, relu2=relu2,
                conv3=conv3, bn3=bn3, relu3=relu3, pool=pool,
            )
        )  # fmt: skip
        stages = []
        channels = 128
        for width, depth, stride in zip((64, 128, 256, 512), _DEPTHS_152, (1, 2, 2, 2), strict=True):
            blocks = []
            for position in range(depth):
                blocks.append(SENetBottleneck(channels, width, stride if position == 0 else 1))
                channels = width * SENetBottleneck.expansion
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.2)
        self.last_linear = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, N x classes, of N x channels x height x width images."""
        features = self.layer4(self.layer3(self.layer2(self.layer1(self.layer0(images)))))
        return self.last_linear(self.dropout(self.avg_pool(features).flatten(1)))


def se_resnet18(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """SE-ResNet-18."""
    return ResNet(SEBasicBlock, (2, 2, 2, 2), num_classes=num_classes, in_channels=in_channels)


def se_resnet34(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """SE-ResNet-34."""
    return ResNet(SEBasicBlock, _DEPTHS_50, num_classes=num_classes, in_channels=in_channels)


def se_resnet50(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """SE-ResNet-50."""
    return ResNet(SEResNetBottleneck, _DEPTHS_50, num_classes=num_classes, in_channels=in_channels)


def se_resnet101(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """SE-ResNet-101."""
    return ResNet(SEResNetBottleneck, _DEPTHS_101, num_classes=num_classes, in_channels=in_channels)


def se_resnet152(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """SE-ResNet-152."""
    return ResNet(SEResNetBottleneck, _DEPTHS_152, num_classes=num_classes, in_channels=in_channels)


def se_resnext50_32x4d(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """SE-ResNeXt-50, 32 x 4d."""
    return _se_resnext(_DEPTHS_50, num_classes=num_classes, in_channels=in_channels)


def se_resnext101_32x4d(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """SE-ResNeXt-101, 32 x 4d."""
    return _se_resnext(_DEPTHS_101, num_classes=num_classes, in_channels=in_channels)


def _se_resnext(depths: tuple[int, ...], *, num_classes: int, in_channels: int) -> nn.Module:
    return ResNet(
        SEBottleneck, depths, groups=32, base_width=4, num_classes=num_classes, in_channels=in_channels
    )


def senet154(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """SENet-154."""
    return SENet154(num_classes=num_classes, in_channels=in_channels)


def se_vgg16_bn(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """VGG-16 with batch norm and a gate behind every convolution's ReLU; the paper does not say where it has them."""
    layers: list[nn.Module] = []
    channels = 0
    for layer in trunk("D", in_channels, batch_norm=True):
        layers.append(layer)
        if isinstance(layer, nn.BatchNorm2d):
            channels = layer.num_features
        if isinstance(layer, nn.ReLU):
            layers.append(_gate(channels))
    return VGG(nn.Sequential(*layers), num_classes=num_classes)


def se_inception_v2(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """Inception v2 of the paper with a gate behind every module, figure 2."""
    return inception_v2_paper(num_classes=num_classes, in_channels=in_channels, after=_gate)


def se_inception_resnet_v2(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """Inception-ResNet v2 with every residual gated before it is scaled, figure 3."""
    return inception_resnet_v2(num_classes=num_classes, in_channels=in_channels, after=_gate)


def se_mobilenet_v1(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """MobileNet v1 with a gate behind every depthwise separable block."""
    return MobileNetV1(1.0, num_classes=num_classes, in_channels=in_channels, attention=_gate)


def se_shufflenet_v1_g3(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ShuffleNet v1, 3 groups, with a gate at the end of every unit's branch."""
    return ShuffleNetV1(
        3, (24, 240, 480, 960), num_classes=num_classes, in_channels=in_channels, attention=_gate
    )


def digits_se_resnet(*, num_classes: int = 10, in_channels: int = 1) -> nn.Module:
    """SE-ResNet-32 for 32 x 32 images, a quarter as wide as CIFAR-10's ResNet; 4 channels are squeezed into one."""
    block = partial(SEBasicBlock, reduction=4)
    return CifarResNet(block, 32, width=4, num_classes=num_classes, in_channels=in_channels)
