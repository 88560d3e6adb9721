"""Hybrid dilated convolution. Wang et al., Understanding Convolution for Semantic Segmentation, arXiv:1702.08502.

Dilation rates without a common factor, in rising and restarting order, so that every position takes part in the
result: the same rate over and over leaves a grid of positions that do not.
"""

from torch import Tensor, nn

from cnnport.layers import conv_bn
from cnnport.models.fcn import ResNetTrunk
from cnnport.models.resnet import Bottleneck, ResNet

# Section 3.2, "DUC-HDC bigger": the rates of the third stage's blocks, again and again, and of the fourth's.
_THIRD_STAGE_RATES = (1, 2, 5, 9)
_FOURTH_STAGE_RATES = (5, 9, 17)


def _set_rates(stage: nn.Sequential, rates: tuple[int, ...]) -> None:
    """Give the 3 x 3 convolutions of a stage's blocks the dilation rates, in turn."""
    for position, block in enumerate(stage):
        assert isinstance(block, Bottleneck)
        convolution, rate = block.conv2, rates[position % len(rates)]
        assert isinstance(convolution, nn.Conv2d)
        convolution.dilation = convolution.padding = (rate, rate)


class HDCResNet(nn.Module):
    """ResNet-101 with hybrid dilated convolutions in place of its last two strides, and class scores."""

    def __init__(self, *, num_classes: int, in_channels: int) -> None:
        super().__init__()
        dilate = (False, True, True)
        resnet = ResNet(
            Bottleneck, (3, 4, 23, 3), num_classes=num_classes, in_channels=in_channels, dilate=dilate
        )
        _set_rates(resnet.layer3, _THIRD_STAGE_RATES)
        _set_rates(resnet.layer4, _FOURTH_STAGE_RATES)
        self.trunk = ResNetTrunk(resnet)
        self.classifier = nn.Conv2d(2048, num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits at steps of 8 pixels, N x classes x H / 8 x W / 8, of N x channels x H x W images."""
        _, features = self.trunk(images)
        return self.classifier(features)


def hdc_demo(*, num_classes: int = 21, in_channels: int = 3) -> nn.Module:
    """Six dilated convolutions of 32 channels, with rates 1, 2, 5 twice: one class a pixel at any image size."""
    channels = 32
    layers: list[nn.Module] = []
    inputs = in_channels
    for rate in (1, 2, 5, 1, 2, 5):
        layers += conv_bn(inputs, channels, 3, dilation=rate)
        inputs = channels
    return nn.Sequential(*layers, nn.Conv2d(channels, num_classes, 1))


def resnet101_hdc(*, num_classes: int = 21, in_channels: int = 3) -> nn.Module:
    """ResNet-101 with hybrid dilated convolutions, without the dense upsampling behind it."""
    return HDCResNet(num_classes=num_classes, in_channels=in_channels)
