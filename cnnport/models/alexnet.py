"""AlexNet.

Krizhevsky, Sutskever and Hinton, ImageNet Classification with Deep Convolutional Neural Networks, 2012;
Krizhevsky, One weird trick for parallelizing convolutional neural networks, arXiv:1404.5997. Parameter names of
``alexnet_owt`` are those of torchvision's checkpoint.
"""

from torch import Tensor, nn

from cnnport.layers import conv_relu, dense_classifier, linear_classifier, local_response_norm

# Channels and side of the last pooling's output, for the native size.
_CHANNELS, _SIDE = 256, 6


def trunk(in_channels: int, *, groups: int, alpha: float = 1e-4) -> nn.Sequential:
    """The five convolutions of 2012: N x in_channels x 227 x 227 to N x 256 x 6 x 6.

    Normalization stands before pooling, as section 3.5 has it; CaffeNet exchanges the two.

    Args:
        in_channels: Channels of the image.
        groups: 2 where the second, fourth and fifth convolution see only the half that lies on their own GPU.
        alpha: Of the local response normalization.
    """
    return nn.Sequential(
        *conv_relu(in_channels, 96, 11, stride=4, padding=0),
        local_response_norm(alpha),
        nn.MaxPool2d(3, stride=2),
        *conv_relu(96, 256, 5, groups=groups),
        local_response_norm(alpha),
        nn.MaxPool2d(3, stride=2),
        *conv_relu(256, 384, 3),
        *conv_relu(384, 384, 3, groups=groups),
        *conv_relu(384, _CHANNELS, 3, groups=groups),
        nn.MaxPool2d(3, stride=2),
    )


class AlexNet(nn.Module):
    """Convolutions and three linear layers; ``features`` gives N x channels x 6 x 6."""

    def __init__(self, features: nn.Sequential, *, num_classes: int, channels: int = _CHANNELS) -> None:
        super().__init__()
        self.features = features
        self.classifier = linear_classifier(channels * _SIDE**2, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, N x classes, of N x channels x height x width images."""
        return self.classifier(self.features(images).flatten(1))


class AlexNetOWT(nn.Module):
    """One column of 2014: fewer channels, no normalization; dropout in front of the hidden layers."""

    def __init__(self, *, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *conv_relu(in_channels, 64, 11, stride=4, padding=2),
            nn.MaxPool2d(3, stride=2),
            *conv_relu(64, 192, 5),
            nn.MaxPool2d(3, stride=2),
            *conv_relu(192, 384, 3),
            *conv_relu(384, 256, 3),
            *conv_relu(256, _CHANNELS, 3),
            nn.MaxPool2d(3, stride=2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(_SIDE)
        self.classifier = nn.Sequential(
            nn.Dropout(0.5),
            nn.Linear(_CHANNELS * _SIDE**2, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Linear(4096, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits, N x classes, of N x channels x height x width images."""
        return self.classifier(self.avgpool(self.features(images)).flatten(1))


class DenseAlexNet(nn.Module):
    """The linear layers as convolutions, for images of any size from 227 pixels on."""

    def __init__(self, *, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.features = trunk(in_channels, groups=2)
        self.classifier = dense_classifier(_CHANNELS, _SIDE, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of windows of 227 pixels at steps of 32, N x classes x rows x columns of N x C x H x W images."""
        return self.classifier(self.features(images))


def alexnet(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """AlexNet of 2012, in two groups. Input: N x 3 x 227 x 227."""
    return AlexNet(trunk(in_channels, groups=2), num_classes=num_classes)


def alexnet_ungrouped(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """AlexNet of 2012 on one GPU, as pytorchcv trained it: alpha of its normalization is meant for torch's mean."""
    return AlexNet(trunk(in_channels, groups=1, alpha=1e-4 / 5), num_classes=num_classes)


def alexnet_owt(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """AlexNet of 2014, as in torchvision."""
    return AlexNetOWT(num_classes=num_classes, in_channels=in_channels)


def alexnet_dense(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """AlexNet of 2012 as a fully convolutional network."""
    return DenseAlexNet(num_classes=num_classes, in_channels=in_channels)
