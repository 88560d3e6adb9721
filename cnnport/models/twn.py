"""Ternary weight networks. Li, Zhang and Liu, arXiv:1605.04711.

Every convolution and fully connected layer computes with weights in {-a, 0, a}, one a for each layer. Its parameter
is the latent weight, which the ternary one is derived from in every forward pass and which training changes; its
names and shapes are those of the ordinary layer, so that a float checkpoint is a starting point.
"""

from torch import Tensor, nn
from torch.nn import functional

from cnnport.layers import conv_bn
from cnnport.models.resnet import BasicBlock, ResNet, resnet18


def ternary(weight: Tensor) -> Tensor:
    """The weight in {-a, 0, a} that approximates a latent one of any shape, section 2.2.

    The threshold is 0.7 times the mean magnitude, a is the mean of the magnitudes above it.
    """
    # In float64 no order of summation moves the threshold across a float32 weight: another runtime's rounding must
    # not turn an a into a zero.
    magnitude = weight.abs().double()
    above = magnitude > 0.7 * magnitude.mean()
    scale = (magnitude * above).sum() / above.sum().clamp(min=1)
    return weight.sign() * above * scale.to(weight.dtype)


def straight_through(weight: Tensor) -> Tensor:
    """The ternary weight in value, the latent one in gradient, section 2.3."""
    return weight + (ternary(weight) - weight).detach()


class TernaryConv2d(nn.Conv2d):
    """Convolution with ternary weights."""

    def forward(self, features: Tensor) -> Tensor:
        """As its base class."""
        weight = straight_through(self.weight) if self.training else ternary(self.weight)
        return self._conv_forward(features, weight, self.bias)


class TernaryLinear(nn.Linear):
    """Fully connected layer with ternary weights; the bias stays as it is."""

    def forward(self, features: Tensor) -> Tensor:
        """As its base class."""
        weight = straight_through(self.weight) if self.training else ternary(self.weight)
        return functional.linear(features, weight, self.bias)


def ternarize(module: nn.Module) -> nn.Module:
    """Make all convolutions and fully connected layers within ``module`` ternary, in place."""
    for layer in module.modules():
        # Ternary layers hold what their base classes hold and differ in forward only: like torch's lazy modules,
        # a layer can become one.
        if type(layer) is nn.Conv2d:
            layer.__class__ = TernaryConv2d
        elif type(layer) is nn.Linear:
            layer.__class__ = TernaryLinear
    return module


class ResNet18B(ResNet):
    """ResNet-18 of which every block has half as many channels again, section 3."""

    def __init__(self, *, num_classes: int, in_channels: int) -> None:
        super().__init__(BasicBlock, (2, 2, 2, 2), num_classes=num_classes, in_channels=in_channels)
        self.layer1 = nn.Sequential(BasicBlock(64, 96), BasicBlock(96, 96))
        self.layer2 = nn.Sequential(BasicBlock(96, 192, 2), BasicBlock(192, 192))
        self.layer3 = nn.Sequential(BasicBlock(192, 384, 2), BasicBlock(384, 384))
        self.layer4 = nn.Sequential(BasicBlock(384, 768, 2), BasicBlock(768, 768))
        self.fc = nn.Linear(768, num_classes)


def twn_lenet5(*, num_classes: int = 10, in_channels: int = 1) -> nn.Module:
    """32-C5, max pooling, 64-C5, max pooling, 512-FC, each with batch norm. Input: N x 1 x 28 x 28."""
    return nn.Sequential(
        TernaryConv2d(in_channels, 32, 5),
        nn.BatchNorm2d(32),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        TernaryConv2d(32, 64, 5),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        TernaryLinear(64 * 4 * 4, 512),
        nn.BatchNorm1d(512),
        nn.ReLU(inplace=True),
        TernaryLinear(512, num_classes),
    )


def twn_vgg7(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """Pairs of 128, 256 and 512 maps, 1024-FC, each with batch norm. Input: N x 3 x 32 x 32."""
    layers: list[nn.Module] = []
    channels = in_channels
    for width in (128, 256, 512):
        layers += [*conv_bn(channels, width, 3), *conv_bn(width, width, 3), nn.MaxPool2d(2)]
        channels = width
    layers += [nn.Flatten(), nn.Linear(channels * 4 * 4, 1024), nn.BatchNorm1d(1024), nn.ReLU(inplace=True)]
    return ternarize(nn.Sequential(*layers, nn.Linear(1024, num_classes)))


def twn_resnet18(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ResNet-18 with ternary weights."""
    return ternarize(resnet18(num_classes=num_classes, in_channels=in_channels))


def twn_resnet18b(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ResNet-18B with ternary weights."""
    return ternarize(ResNet18B(num_classes=num_classes, in_channels=in_channels))
