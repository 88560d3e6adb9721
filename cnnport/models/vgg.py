"""VGG. Simonyan and Zisserman, arXiv:1409.1556. Parameter names are those of torchvision's checkpoints."""

from torch import Tensor, nn

from cnnport.layers import conv_relu, dense_classifier, linear_classifier, local_response_norm

# Channels of the five stages, and the convolutions in each by the letter of the configuration, table 1.
WIDTHS = (64, 128, 256, 512, 512)
DEPTHS = {
    "A": (1, 1, 2, 2, 2),
    "B": (2, 2, 2, 2, 2),
    "D": (2, 2, 3, 3, 3),
    "E": (2, 2, 4, 4, 4),
}
# What the five poolings leave of 224 pixels.
SIDE = 7


def stage(
    inputs: int,
    outputs: int,
    depth: int,
    *,
    batch_norm: bool = False,
    last_kernel: int = 3,
    first_padding: int = 1,
) -> list[nn.Module]:
    """``depth`` convolutions of 3 x 3, each with ReLU, and the pooling that halves the resolution.

    Args:
        inputs: Channels that come in.
        outputs: Channels of every convolution.
        depth: Number of convolutions.
        batch_norm: Between convolution and ReLU.
        last_kernel: Size of the last convolution; 1 in configuration C.
        first_padding: Of the first convolution.
    """
    layers: list[nn.Module] = []
    for position in range(depth):
        kernel = last_kernel if position == depth - 1 else 3
        convolution, relu = conv_relu(
            inputs, outputs, kernel, padding=first_padding if position == 0 else kernel // 2
        )
        layers += [convolution, nn.BatchNorm2d(outputs), relu] if batch_norm else [convolution, relu]
        inputs = outputs
    return [*layers, nn.MaxPool2d(2)]


def trunk(letter: str, in_channels: int, *, batch_norm: bool = False) -> nn.Sequential:
    """The convolutions of a configuration: N x in_channels x H x W to N x 512 x H / 32 x W / 32."""
    layers: list[nn.Module] = []
    for inputs, outputs, depth in zip((in_channels, *WIDTHS[:-1]), WIDTHS, DEPTHS[letter], strict=True):
        layers += stage(inputs, outputs, depth, batch_norm=batch_norm)
    return nn.Sequential(*layers)


class VGG(nn.Module):
    """Convolutions and the three linear layers; ``features`` gives 512 channels."""

    def __init__(self, features: nn.Sequential, *, num_classes: int) -> None:
        super().__init__()
        self.features = features
        self.avgpool = nn.AdaptiveAvgPool2d(SIDE)
        self.classifier = linear_classifier(WIDTHS[-1] * SIDE**2, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, N x classes, of N x channels x height x width images."""
        return self.classifier(self.avgpool(self.features(images)).flatten(1))


class DenseVGG(nn.Module):
    """The linear layers as convolutions, for images of any size from 224 pixels on: section 3.2, dense evaluation.

    The weights are those of the network with linear layers, reshaped.
    """

    def __init__(self, features: nn.Sequential, *, num_classes: int) -> None:
        super().__init__()
        self.features = features
        self.classifier = dense_classifier(WIDTHS[-1], SIDE, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of every window of 224 pixels at steps of 32, N x classes x (H / 32 - 6) x (W / 32 - 6)."""
        return self.classifier(self.features(images))


def vgg11(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """VGG-11, configuration A."""
    return VGG(trunk("A", in_channels), num_classes=num_classes)


def vgg13(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """VGG-13, configuration B."""
    return VGG(trunk("B", in_channels), num_classes=num_classes)


def vgg16(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """VGG-16, configuration D."""
    return VGG(trunk("D", in_channels), num_classes=num_classes)


def vgg19(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """VGG-19, configuration E."""
    return VGG(trunk("E", in_channels), num_classes=num_classes)


def vgg11_bn(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """VGG-11 with batch norm."""
    return VGG(trunk("A", in_channels, batch_norm=True), num_classes=num_classes)


def vgg13_bn(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """VGG-13 with batch norm."""
    return VGG(trunk("B", in_channels, batch_norm=True), num_classes=num_classes)


def vgg16_bn(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """VGG-16 with batch norm."""
    return VGG(trunk("D", in_channels, batch_norm=True), num_classes=num_classes)


def vgg19_bn(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """VGG-19 with batch norm."""
    return VGG(trunk("E", in_channels, batch_norm=True), num_classes=num_classes)


def vgg11_lrn(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """VGG-11 with local response normalization behind the first convolution, configuration A-LRN."""
    convolution, relu, *rest = trunk("A", in_channels)
    features = nn.Sequential(convolution, relu, local_response_norm(), *rest)
    return VGG(features, num_classes=num_classes)


def vgg16_1x1(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """VGG-16 whose last three stages end in a 1 x 1 convolution, configuration C."""
    layers: list[nn.Module] = []
    kernels = (3, 3, 1, 1, 1)
    for inputs, outputs, depth, last_kernel in zip(
        (in_channels, *WIDTHS[:-1]), WIDTHS, DEPTHS["D"], kernels, strict=True
    ):
        layers += stage(inputs, outputs, depth, last_kernel=last_kernel)
    return VGG(nn.Sequential(*layers), num_classes=num_classes)


def vgg16_dense(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """VGG-16 as a fully convolutional network."""
    return DenseVGG(trunk("D", in_channels), num_classes=num_classes)
