"""Fully convolutional networks for one class a pixel.

Long, Shelhamer and Darrell, Fully Convolutional Networks for Semantic Segmentation, arXiv:1411.4038. Those on
ResNets are torchvision's, and have the parameter names of its checkpoints.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from cnnport.layers import conv_bn, dense_classifier
from cnnport.models import vgg
from cnnport.models.resnet import Bottleneck, ResNet

# Zeros around the image, so that a single window of 224 pixels still fits the smallest one.
_PADDING = 100
# Pixels between two scores of the coarsest layer.
_COARSEST_STEP = 32
# The padding shifts each layer's scores against the image and against each other. These rows and columns, cut off at
# the top and the left, undo that, as in the authors' Caffe networks: of the scores of the fourth and of the third
# pooling, and of the result after no, one and two refinements.
FINER_OFFSETS = (5, 9)
RESULT_OFFSETS = (19, 27, 31)


def bilinear_upsampling(channels: int, factor: int) -> nn.ConvTranspose2d:
    """A transposed convolution that enlarges ``factor`` times: bilinear interpolation, until training changes it.

    The kernel has ``2 * factor`` positions a side; no channel sees another at first.
    """
    kernel = 2 * factor
    layer = nn.ConvTranspose2d(channels, channels, kernel, stride=factor, bias=False)
    distance = (torch.arange(kernel) - (kernel - 1) / 2).abs() / factor
    weight = torch.outer(1 - distance, 1 - distance)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight.diagonal().copy_(weight.unsqueeze(-1).expand(-1, -1, channels))
    return layer


def _zero_scores(inputs: int, num_classes: int) -> nn.Conv2d:
    """Class scores of a finer layer, 0 at first: training starts from what the coarser layers say (section 4.2)."""
    layer = nn.Conv2d(inputs, num_classes, 1)
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def _crop(features: Tensor, offset: int, like: Tensor) -> Tensor:
    """The part of ``features`` from ``offset`` on, both ways, that has the height and width of ``like``."""
    return features.narrow(2, offset, like.shape[2]).narrow(3, offset, like.shape[3])


class FCNVGG(nn.Module):
    """Scores of VGG-16 at steps of 32 pixels, refined by those of its finer poolings, and enlarged: figure 3."""

    def __init__(self, refinements: int, *, num_classes: int, in_channels: int) -> None:
        """``refinements``: 0, 1 with the scores of the fourth pooling, 2 with those of the third as well."""
        super().__init__()
        widths, depths = vgg.WIDTHS, vgg.DEPTHS["D"]
        self.pool3 = nn.Sequential(
            *vgg.stage(in_channels, widths[0], depths[0], first_padding=_PADDING),
            *vgg.stage(widths[0], widths[1], depths[1]),
            *vgg.stage(widths[1], widths[2], depths[2]),
        )
        self.pool4 = nn.Sequential(*vgg.stage(widths[2], widths[3], depths[3]))
        self.pool5 = nn.Sequential(*vgg.stage(widths[3], widths[4], depths[4]))
        self.classifier = dense_classifier(widths[4], vgg.SIDE, num_classes)
        self.doublings = nn.ModuleList(bilinear_upsampling(num_classes, 2) for _ in range(refinements))
        finer = (widths[3], widths[2])[:refinements]
        self.scores = nn.ModuleList(_zero_scores(channels, num_classes) for channels in finer)
        self.enlargement = bilinear_upsampling(num_classes, _COARSEST_STEP // 2**refinements)
        self.offset = RESULT_OFFSETS[refinements]

    def forward(self, images: Tensor) -> Tensor:
        """Logits of every pixel, N x classes x H x W, of N x channels x H x W images."""
        height, width = images.shape[2:]
        # Poolings drop what is left over at the right and the bottom; behind more of the zeros that is no picture.
        third = self.pool3(functional.pad(images, (0, -width % _COARSEST_STEP, 0, -height % _COARSEST_STEP)))
        fourth = self.pool4(third)
        result = self.classifier(self.pool5(fourth))
        for double, score, features, offset in zip(
            self.doublings, self.scores, (fourth, third), FINER_OFFSETS, strict=False
        ):
            result = double(result)
            result = result + _crop(score(features), offset, result)
        return _crop(self.enlargement(result), self.offset, images)


class ResNetTrunk(nn.Module):
    """A ResNet without its pooling and linear layer."""

    def __init__(self, resnet: ResNet) -> None:
        super().__init__()
        self.conv1, self.bn1 = resnet.conv1, resnet.bn1
        self.relu = resnet.relu
        self.maxpool = resnet.maxpool
        self.layer1, self.layer2 = resnet.layer1, resnet.layer2
        self.layer3, self.layer4 = resnet.layer3, resnet.layer4

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The features of the third and of the fourth stage of N x channels x H x W images."""
        features = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        third = self.layer3(self.layer2(self.layer1(features)))
        return third, self.layer4(third)


def _head(inputs: int, num_classes: int) -> nn.Sequential:
    """3 x 3 to a quarter of the channels, dropout, and the scores of every position."""
    hidden = inputs // 4
    return nn.Sequential(*conv_bn(inputs, hidden, 3), nn.Dropout(0.1), nn.Conv2d(hidden, num_classes, 1))


def _enlarged(scores: Tensor, images: Tensor) -> Tensor:
    return functional.interpolate(scores, images.shape[2:], mode="bilinear", align_corners=False)


class FCNResNet(nn.Module):
    """A ResNet with dilation in the place of its last two strides, and scores enlarged eight times."""

    def __init__(self, depths: tuple[int, ...], *, num_classes: int, in_channels: int, aux: bool) -> None:
        """``aux``: with a second head on the third stage, for training only."""
        super().__init__()
        dilate = (False, True, True)
        self.backbone = ResNetTrunk(
            ResNet(Bottleneck, depths, num_classes=num_classes, in_channels=in_channels, dilate=dilate)
        )
        self.classifier = _head(2048, num_classes)
        self.aux_classifier = _head(1024, num_classes) if aux else None

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Logits of every pixel, N x classes x H x W, of N x channels x H x W images.

        In training mode a network with the auxiliary head returns a pair: these, and the logits of that head.
        """
        third, fourth = self.backbone(images)
        logits = _enlarged(self.classifier(fourth), images)
        if self.training and self.aux_classifier is not None:
            return logits, _enlarged(self.aux_classifier(third), images)
        return logits


def fcn32s_vgg16(*, num_classes: int = 21, in_channels: int = 3) -> nn.Module:
    """FCN-32s on VGG-16."""
    return FCNVGG(0, num_classes=num_classes, in_channels=in_channels)


def fcn16s_vgg16(*, num_classes: int = 21, in_channels: int = 3) -> nn.Module:
    """FCN-16s on VGG-16."""
    return FCNVGG(1, num_classes=num_classes, in_channels=in_channels)


def fcn8s_vgg16(*, num_classes: int = 21, in_channels: int = 3) -> nn.Module:
    """FCN-8s on VGG-16."""
    return FCNVGG(2, num_classes=num_classes, in_channels=in_channels)


def fcn_resnet50(*, num_classes: int = 21, in_channels: int = 3, aux: bool = False) -> nn.Module:
    """FCN on ResNet-50, as in torchvision."""
    return FCNResNet((3, 4, 6, 3), num_classes=num_classes, in_channels=in_channels, aux=aux)


def fcn_resnet101(*, num_classes: int = 21, in_channels: int = 3, aux: bool = False) -> nn.Module:
    """FCN on ResNet-101, as in torchvision."""
    return FCNResNet((3, 4, 23, 3), num_classes=num_classes, in_channels=in_channels, aux=aux)


def rename_keys(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drop the auxiliary head of torchvision's checkpoints, which evaluation does not use."""
    return {name: value for name, value in state.items() if not name.startswith("aux_classifier.")}
