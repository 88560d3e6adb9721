"""Networks of the lottery ticket hypothesis. Frankle and Carbin, arXiv:1803.03635, figure 2.

They are VGG's (arXiv:1409.1556) cut down to 32 x 32 images. Masks of pruned weights are no part of a network.
"""

from torch import nn

from cnnport.layers import conv_bn


def _conv(blocks: int, *, num_classes: int, in_channels: int) -> nn.Sequential:
    """Conv-2, -4, -6: pairs of convolutions, each followed by a max pooling, and three fully connected layers."""
    layers: list[nn.Module] = []
    channels = in_channels
    for width in (64, 128, 256)[:blocks]:
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
        layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
        channels = width
    side = 32 // 2**blocks
    return nn.Sequential(
        *layers,
        nn.Flatten(),
        nn.Linear(channels * side * side, 256),
        nn.ReLU(inplace=True),
        nn.Linear(256, 256),
        nn.ReLU(inplace=True),
        nn.Linear(256, num_classes),
    )


def lottery_conv2(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """Conv-2."""
    return _conv(1, num_classes=num_classes, in_channels=in_channels)


def lottery_conv4(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """Conv-4."""
    return _conv(2, num_classes=num_classes, in_channels=in_channels)


def lottery_conv6(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """Conv-6."""
    return _conv(3, num_classes=num_classes, in_channels=in_channels)


def lottery_vgg19(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """VGG-19 for CIFAR-10: batch norms, global average pooling and one fully connected layer."""
    layers: list[nn.Module] = []
    channels = in_channels
    for block, (width, depth) in enumerate(((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))):
        if block > 0:
            layers.append(nn.MaxPool2d(2))
        for _ in range(depth):
            layers += conv_bn(channels, width, 3)
            channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
