"""ConvNeXt. Liu et al., arXiv:2201.03545. Parameter names are those of torchvision's checkpoints."""

import torch
from torch import Tensor, nn

_EPS = 1e-6
_INITIAL_LAYER_SCALE = 1e-6


class Permute(nn.Module):
    """The axes in another order."""

    def __init__(self, *axes: int) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, features: Tensor) -> Tensor:
        """Axis ``i`` of the output is axis ``axes[i]`` of the input."""
        return features.permute(self.axes)


class LayerNorm2d(nn.LayerNorm):
    """Layer norm over the channels of each position."""

    def forward(self, features: Tensor) -> Tensor:
        """N x C x H x W to the same."""
        return super().forward(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class StochasticDepth(nn.Module):
    """In training, drops each image's residual with probability ``rate``, else divides it by ``1 - rate``.

    The expectation is that of evaluation, which neither drops nor scales. Huang et al., arXiv:1603.09382, scale in
    evaluation instead; the published weights are for this form.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, residual: Tensor) -> Tensor:
        """N x C x H x W to the same."""
        if not self.training or self.rate == 0:
            return residual
        kept = residual.new_ones(residual.shape[0], 1, 1, 1)
        return residual * nn.functional.dropout(kept, self.rate)


class Block(nn.Module):
    """Figure 4 (right): a depthwise 7 x 7 convolution, then per position a layer norm and a perceptron."""

    def __init__(self, channels: int, drop_rate: float) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(channels, channels, 7, padding=3, groups=channels),
            Permute(0, 2, 3, 1),
            nn.LayerNorm(channels, eps=_EPS),
            nn.Linear(channels, 4 * channels),
            nn.GELU(),
            nn.Linear(4 * channels, channels),
            Permute(0, 3, 1, 2),
        )
        self.layer_scale = nn.Parameter(torch.full((channels, 1, 1), _INITIAL_LAYER_SCALE))
        self.stochastic_depth = StochasticDepth(drop_rate)

    def forward(self, features: Tensor) -> Tensor:
        """N x channels x H x W to the same."""
        return features + self.stochastic_depth(self.layer_scale * self.block(features))


class ConvNeXt(nn.Module):
    """``width``: channels of the first of four stages, doubled from one to the next; ``depths``: their blocks.

    ``drop_rate``: of the last block's stochastic depth; it grows linearly from none in the first.
    """

    def __init__(
        self,
        width: int,
        depths: tuple[int, int, int, int],
        drop_rate: float,
        *,
        num_classes: int,
        in_channels: int,
    ) -> None:
        super().__init__()
        drop_rates = iter(torch.linspace(0, drop_rate, sum(depths), device="cpu").tolist())
        channels = width
        stem = nn.Sequential(nn.Conv2d(in_channels, channels, 4, stride=4), LayerNorm2d(channels, eps=_EPS))
        features: list[nn.Module] = [stem]
        for stage, depth in enumerate(depths):
            if stage > 0:
                halve = nn.Conv2d(channels, 2 * channels, 2, stride=2)
                features.append(nn.Sequential(LayerNorm2d(channels, eps=_EPS), halve))
                channels *= 2
            features.append(nn.Sequential(*(Block(channels, next(drop_rates)) for _ in range(depth))))
        self.features = nn.Sequential(*features)
        # The checkpoints count a flattening, done in forward here, between the two.
        self.classifier = nn.Sequential(
            nn.LayerNorm(channels, eps=_EPS), nn.Identity(), nn.Linear(channels, num_classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits, N x classes, of N x channels x height x width images."""
        # Not an average pool: on permuted axes torch.onnx makes a gather by position of it.
        return self.classifier(self.features(images).mean(dim=(2, 3)))


def convnext_tiny(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ConvNeXt-T."""
    return ConvNeXt(96, (3, 3, 9, 3), 0.1, num_classes=num_classes, in_channels=in_channels)


def convnext_small(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ConvNeXt-S."""
    return ConvNeXt(96, (3, 3, 27, 3), 0.4, num_classes=num_classes, in_channels=in_channels)


def convnext_base(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ConvNeXt-B."""
    return ConvNeXt(128, (3, 3, 27, 3), 0.5, num_classes=num_classes, in_channels=in_channels)


def convnext_large(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ConvNeXt-L."""
    return ConvNeXt(192, (3, 3, 27, 3), 0.5, num_classes=num_classes, in_channels=in_channels)


def convnext_xlarge(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ConvNeXt-XL, with the stochastic depth of its pre-training on ImageNet-22K."""
    return ConvNeXt(256, (3, 3, 27, 3), 0.2, num_classes=num_classes, in_channels=in_channels)
