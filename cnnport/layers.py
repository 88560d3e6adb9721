"""The building blocks that families share."""

import torch
from torch import Tensor, nn
from torch.nn import functional


def conv_bn(
    inputs: int,
    outputs: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    dilation: int = 1,
    eps: float = 1e-5,
    relu: bool = True,
) -> list[nn.Module]:
    """Convolution without bias, batch norm and, unless told otherwise, ReLU; padded to keep the size at stride 1."""
    padding = dilation * (kernel - 1) // 2
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias=False),
        nn.BatchNorm2d(outputs, eps=eps),
    ]
    return [*layers, nn.ReLU(inplace=True)] if relu else layers


def conv_relu(
    inputs: int,
    outputs: int,
    kernel: int,
    *,
    stride: int = 1,
    padding: int | None = None,
    groups: int = 1,
) -> list[nn.Module]:
    """Convolution with bias and ReLU; padded to keep the size at stride 1 unless told otherwise."""
    padding = (kernel - 1) // 2 if padding is None else padding
    return [nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups), nn.ReLU(inplace=True)]


class LocalResponseNorm(nn.LocalResponseNorm):
    """torch's, written without the sizes of its input, so that a graph for images of any size does without them."""

    def forward(self, features: Tensor) -> Tensor:
        """N x C x H x W to the same."""
        before = self.size // 2
        squares = functional.pad(
            (features * features).unsqueeze(1), (0, 0, 0, 0, before, (self.size - 1) // 2)
        )
        mean = functional.avg_pool3d(squares, (self.size, 1, 1), stride=1).squeeze(1)
        return features / (mean * self.alpha + self.k).pow(self.beta)


def local_response_norm(alpha: float = 1e-4) -> LocalResponseNorm:
    """Each value divided by (2 + alpha * sum of the squares of 5 neighbouring channels)^0.75.

    Source: section 3.3 of Krizhevsky et al., ImageNet Classification with Deep Convolutional Neural Networks, 2012.
    torch takes the mean of the squares in place of the sum, hence the factor.
    """
    channels = 5
    return LocalResponseNorm(channels, alpha * channels, beta=0.75, k=2.0)


def linear_classifier(inputs: int, num_classes: int, hidden: int = 4096) -> nn.Sequential:
    """The three linear layers behind AlexNet and those that came after it, with dropout behind the hidden two."""
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Linear(hidden, hidden),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Linear(hidden, num_classes),
    )


def dense_classifier(inputs: int, kernel: int, num_classes: int, hidden: int = 4096) -> nn.Sequential:
    """``linear_classifier`` at every place where a window of ``kernel`` x ``kernel`` fits.

    The names are the same, and the weights the same after reshaping: a row of C * kernel * kernel numbers is a
    kernel of C x kernel x kernel. Source: Sermanet et al., OverFeat, arXiv:1312.6229, section 3.5.
    """
    return nn.Sequential(
        *conv_relu(inputs, hidden, kernel, padding=0),
        nn.Dropout(0.5),
        *conv_relu(hidden, hidden, 1),
        nn.Dropout(0.5),
        nn.Conv2d(hidden, num_classes, 1),
    )


def channel_shuffle(features: Tensor, groups: int) -> Tensor:
    """Interleave the channels of ``groups`` equal parts.

    Source: Zhang et al., ShuffleNet, arXiv:1707.01083, figure 1(c).

    Args:
        features: N x C x H x W, with C a multiple of ``groups``.
        groups: Number of parts.

    Returns:
        The same shape; channel ``i * groups + g`` is what was channel ``g * C / groups + i``.
    """
    return torch.unflatten(features, 1, (groups, -1)).transpose(1, 2).flatten(1, 2)


class SqueezeExcite(nn.Module):
    """Channels weighted by a gate that sees their averages. Hu et al., arXiv:1709.01507, figure 2.

    ``fc1`` and ``fc2`` are 1 x 1 convolutions, as in torchvision's checkpoints.
    """

    def __init__(self, channels: int, squeezed: int, gate: nn.Module | None = None) -> None:
        """``gate`` ends it; a sigmoid unless told otherwise."""
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.activation = nn.ReLU(inplace=True)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.gate = nn.Sigmoid() if gate is None else gate

    def forward(self, features: Tensor) -> Tensor:
        """N x channels x H x W to the same."""
        weights = self.fc2(self.activation(self.fc1(self.avgpool(features))))
        return features * self.gate(weights)
