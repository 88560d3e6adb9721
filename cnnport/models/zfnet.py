"""ZFNet. Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, arXiv:1311.2901.

Sizes, paddings and normalization are those of pytorchcv's checkpoints.
"""

from torch import nn

from cnnport.layers import conv_relu, local_response_norm
from cnnport.models.alexnet import AlexNet

# pytorchcv gives torch, which takes the mean over five channels, the alpha meant for their sum.
_ALPHA = 1e-4 / 5


def _pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)


def _zfnet(widths: tuple[int, int, int], num_classes: int, in_channels: int) -> nn.Module:
    """AlexNet with 7 x 7 at stride 2 in front; ``widths``: channels of the third to fifth convolution."""
    third, fourth, fifth = widths
    features = nn.Sequential(
        *conv_relu(in_channels, 96, 7, stride=2, padding=1),
        local_response_norm(_ALPHA),
        _pool(),
        *conv_relu(96, 256, 5, stride=2, padding=0),
        local_response_norm(_ALPHA),
        _pool(),
        *conv_relu(256, third, 3),
        *conv_relu(third, fourth, 3),
        *conv_relu(fourth, fifth, 3),
        _pool(),
    )
    return AlexNet(features, num_classes=num_classes, channels=fifth)


def zfnet(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ZFNet, figure 3."""
    return _zfnet((384, 384, 256), num_classes, in_channels)


def zfnet_b(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ZFNet with 512, 1024 and 512 channels in the last three convolutions, table 2, model (b)."""
    return _zfnet((512, 1024, 512), num_classes, in_channels)
