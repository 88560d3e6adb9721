"""DenseNet. Huang et al., arXiv:1608.06993; its training in less memory: Pleiss et al., arXiv:1707.06990.

Parameter names are those of torchvision's checkpoints.
"""

import re
from collections import OrderedDict
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

_OLD_NAME = re.compile(r"^(.*\bdenselayer\d+\.(?:norm|conv))\.([12]\..+)$")


class _NotCounted(AbstractContextManager[None]):
    """Inside, a batch norm in training normalises by the batch but leaves its running statistics as they are."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        self.norm = norm
        self.momentum = norm.momentum
        self.batches = norm.num_batches_tracked

    def __enter__(self) -> None:
        self.norm.momentum = 0.0
        self.norm.num_batches_tracked = None

    def __exit__(self, *exception: object) -> None:
        self.norm.momentum = self.momentum
        self.norm.num_batches_tracked = self.batches


class DenseLayer(nn.Module):
    """BN, ReLU, 3 x 3 convolution from all maps so far to ``growth`` new ones.

    Memory-efficient, the backward pass computes the concatenation and the batch norm again, so that the forward pass
    need not keep them: memory then grows linearly with depth, not with its square.
    """

    def __init__(self, inputs: int, growth: int, *, memory_efficient: bool) -> None:
        super().__init__()
        self.memory_efficient = memory_efficient
        self.norm1 = nn.BatchNorm2d(inputs)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(inputs, growth, 3, padding=1, bias=False)

    def forward(self, *maps: Tensor) -> Tensor:
        """Maps of one height and width, ``inputs`` channels in all, to N x growth x H x W."""
        if self.memory_efficient and torch.is_grad_enabled():
            return self._checkpointed(*maps)
        return self._first(*maps)

    def _first(self, *maps: Tensor) -> Tensor:
        return self.conv1(self.relu1(self.norm1(torch.cat(maps, dim=1))))

    def _checkpointed(self, *maps: Tensor) -> Tensor:
        # Computed twice, a batch must not count twice in the running statistics.
        again = _NotCounted(self.norm1)
        result: Tensor = checkpoint(
            self._first,
            *maps,
            use_reentrant=False,
            preserve_rng_state=False,
            context_fn=lambda: (nullcontext(), again),
        )
        return result


class DenseBottleneck(DenseLayer):
    """BN, ReLU, 1 x 1 convolution to ``4 * growth`` channels, BN, ReLU, 3 x 3 convolution to ``growth`` (-B)."""

    def __init__(self, inputs: int, growth: int, *, memory_efficient: bool) -> None:
        super().__init__(inputs, growth, memory_efficient=memory_efficient)
        width = 4 * growth
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, growth, 3, padding=1, bias=False)

    def forward(self, *maps: Tensor) -> Tensor:
        """Maps of one height and width, ``inputs`` channels in all, to N x growth x H x W."""
        return self.conv2(self.relu2(self.norm2(super().forward(*maps))))


class DenseBlock(nn.Sequential):
    """Layers each of which sees the block's input and the new maps of all layers before it."""

    def forward(self, features: Tensor) -> Tensor:
        """N x inputs x H x W to N x (inputs + layers * growth) x H x W: the new maps behind the old ones."""
        maps = [features]
        for layer in self:
            maps.append(layer(*maps))
        return torch.cat(maps, dim=1)


def _transition(inputs: int, outputs: int) -> nn.Sequential:
    """Compression (-C) and halving of the resolution between two blocks."""
    return nn.Sequential(
        OrderedDict(
            norm=nn.BatchNorm2d(inputs),
            relu=nn.ReLU(inplace=True),
            conv=nn.Conv2d(inputs, outputs, 1, bias=False),
            pool=nn.AvgPool2d(2, stride=2),
        )
    )


def _stem(in_channels: int, channels: int, *, cifar: bool) -> "OrderedDict[str, nn.Module]":
    """All before the first block: one convolution for 32 x 32 images; larger ones are made a quarter as wide."""
    if cifar:
        return OrderedDict(conv0=nn.Conv2d(in_channels, channels, 3, padding=1, bias=False))
    return OrderedDict(
        conv0=nn.Conv2d(in_channels, channels, 7, stride=2, padding=3, bias=False),
        norm0=nn.BatchNorm2d(channels),
        relu0=nn.ReLU(inplace=True),
        pool0=nn.MaxPool2d(3, stride=2, padding=1),
    )


class DenseNet(nn.Module):
    """``depths``: number of layers in each block. DenseNet-BC unless ``bottleneck`` or ``compress`` is turned off.

    ``cifar``: for 32 x 32 images. ``memory_efficient``: slower training in less memory, see DenseLayer.
    """

    def __init__(
        self,
        growth: int,
        depths: tuple[int, ...],
        *,
        num_classes: int,
        in_channels: int,
        cifar: bool = False,
        bottleneck: bool = True,
        compress: bool = True,
        memory_efficient: bool = False,
    ) -> None:
        super().__init__()
        dense_layer = DenseBottleneck if bottleneck else DenseLayer
        channels = 2 * growth if bottleneck and compress else 16
        features = _stem(in_channels, channels, cifar=cifar)
        for block, depth in enumerate(depths, start=1):
            layers: OrderedDict[str, nn.Module] = OrderedDict()
            for layer in range(1, depth + 1):
                layers[f"denselayer{layer}"] = dense_layer(
                    channels, growth, memory_efficient=memory_efficient
                )
                channels += growth
            features[f"denseblock{block}"] = DenseBlock(layers)
            if block < len(depths):
                outputs = channels // 2 if compress else channels
                features[f"transition{block}"] = _transition(channels, outputs)
                channels = outputs
        features[f"norm{len(depths) + 1}"] = nn.BatchNorm2d(channels)
        self.features = nn.Sequential(features)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, N x classes, of N x channels x height x width images."""
        features = self.pool(self.relu(self.features(images)))
        return self.classifier(features.flatten(1))


def _cifar(
    depth: int,
    growth: int,
    *,
    num_classes: int,
    in_channels: int,
    bottleneck: bool = False,
    compress: bool = False,
) -> DenseNet:
    """Three equal blocks; ``depth`` also counts the first convolution, two transitions and the classifier."""
    convolutions = (depth - 4) // 3
    layers = convolutions // 2 if bottleneck else convolutions
    return DenseNet(
        growth,
        (layers, layers, layers),
        num_classes=num_classes,
        in_channels=in_channels,
        cifar=True,
        bottleneck=bottleneck,
        compress=compress,
    )


def densenet121(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """DenseNet-121."""
    return DenseNet(32, (6, 12, 24, 16), num_classes=num_classes, in_channels=in_channels)


def densenet169(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """DenseNet-169."""
    return DenseNet(32, (6, 12, 32, 32), num_classes=num_classes, in_channels=in_channels)


def densenet201(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """DenseNet-201."""
    return DenseNet(32, (6, 12, 48, 32), num_classes=num_classes, in_channels=in_channels)


def densenet161(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """DenseNet-161, growth rate 48."""
    return DenseNet(48, (6, 12, 36, 24), num_classes=num_classes, in_channels=in_channels)


def densenet264(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """DenseNet-264."""
    return DenseNet(32, (6, 12, 64, 48), num_classes=num_classes, in_channels=in_channels)


def densenet264_k48(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """DenseNet-264, growth rate 48."""
    return DenseNet(48, (6, 12, 64, 48), num_classes=num_classes, in_channels=in_channels)


def densenet232_k48(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """DenseNet-232, growth rate 48."""
    return DenseNet(48, (6, 12, 48, 48), num_classes=num_classes, in_channels=in_channels)


def densenet40_k12_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """DenseNet for CIFAR-10, depth 40, growth rate 12."""
    return _cifar(40, 12, num_classes=num_classes, in_channels=in_channels)


def densenet100_k12_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """DenseNet for CIFAR-10, depth 100, growth rate 12."""
    return _cifar(100, 12, num_classes=num_classes, in_channels=in_channels)


def densenet100_k24_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """DenseNet for CIFAR-10, depth 100, growth rate 24."""
    return _cifar(100, 24, num_classes=num_classes, in_channels=in_channels)


def densenet_bc100_k12_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """DenseNet-BC for CIFAR-10, depth 100, growth rate 12."""
    return _cifar(100, 12, num_classes=num_classes, in_channels=in_channels, bottleneck=True, compress=True)


def densenet_bc250_k24_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """DenseNet-BC for CIFAR-10, depth 250, growth rate 24."""
    return _cifar(250, 24, num_classes=num_classes, in_channels=in_channels, bottleneck=True, compress=True)


def densenet_bc190_k40_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """DenseNet-BC for CIFAR-10, depth 190, growth rate 40."""
    return _cifar(190, 40, num_classes=num_classes, in_channels=in_channels, bottleneck=True, compress=True)


def densenet_b40_k12_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """DenseNet-B for CIFAR-10, depth 40, growth rate 12."""
    return _cifar(40, 12, num_classes=num_classes, in_channels=in_channels, bottleneck=True)


def densenet_c40_k12_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """DenseNet-C for CIFAR-10, depth 40, growth rate 12."""
    return _cifar(40, 12, num_classes=num_classes, in_channels=in_channels, compress=True)


def densenet_b100_k12_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """DenseNet-B for CIFAR-10, depth 100, growth rate 12."""
    return _cifar(100, 12, num_classes=num_classes, in_channels=in_channels, bottleneck=True)


def densenet_c100_k12_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """DenseNet-C for CIFAR-10, depth 100, growth rate 12."""
    return _cifar(100, 12, num_classes=num_classes, in_channels=in_channels, compress=True)


def digits_densenet(*, num_classes: int = 10, in_channels: int = 1) -> nn.Module:
    """DenseNet-BC for 32 x 32 images, depth 40, growth rate 4."""
    return _cifar(40, 4, num_classes=num_classes, in_channels=in_channels, bottleneck=True, compress=True)


def rename_keys(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """From the names of the published checkpoints, ``denselayer1.norm.1.weight``, to ``denselayer1.norm1.weight``."""
    return {_OLD_NAME.sub(r"\1\2", name): value for name, value in state.items()}
