"""Anti-aliased networks. Zhang, Making Convolutional Networks Shift-Invariant Again, arXiv:1904.11486.

Each is a plain network of another family in which every layer that skips positions gives way, as figure 2 of the
paper has it, to the same layer at stride 1, its activation, and a blur that does the skipping. The first convolution
keeps a stride of 2, as in the author's networks: what is blurred there costs the most.
"""

import torch
from torch import Tensor, nn

from cnnport.models.alexnet import AlexNetOWT
from cnnport.models.densenet import DenseNet, densenet121
from cnnport.models.mobilenet import MobileNetV2
from cnnport.models.resnet import BasicBlock, Bottleneck, ResNet, resnet18, resnet34, resnet50, resnet101
from cnnport.models.vgg import VGG, trunk


class BlurPool(nn.Module):
    """A binomial 4 x 4 filter on each channel, at stride 2; the border is mirrored."""

    filt: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        binomial = torch.tensor([1.0, 3.0, 3.0, 1.0])
        kernel = torch.outer(binomial, binomial) / binomial.sum() ** 2
        # The name that the author's checkpoints have.
        self.register_buffer("filt", kernel.expand(channels, 1, 4, 4).clone())
        self.pad = nn.ReflectionPad2d((1, 2, 1, 2))

    def forward(self, features: Tensor) -> Tensor:
        """N x channels x H x W to N x channels x H / 2 x W / 2, rounded up."""
        return nn.functional.conv2d(self.pad(features), self.filt, stride=2, groups=self.channels)


def _at_every_position(layer: nn.Module) -> nn.Conv2d:
    """The same convolution, its stride made 1."""
    assert isinstance(layer, nn.Conv2d)
    layer.stride = (1, 1)
    return layer


def _blur_before(layer: nn.Module) -> nn.Sequential:
    """The blur, then a convolution: the skipping of the layer before it."""
    convolution = _at_every_position(layer)
    return nn.Sequential(BlurPool(convolution.in_channels), convolution)


def _blur_pools(layers: nn.Sequential) -> None:
    """Let a blur do the skipping of each max pool, and replace average pools, which are a poorer blur, in place."""
    channels = 0
    for index, layer in enumerate(list(layers)):
        if isinstance(layer, nn.Conv2d):
            channels = layer.out_channels
        elif isinstance(layer, nn.MaxPool2d):
            everywhere = nn.MaxPool2d(layer.kernel_size, stride=1, padding=layer.padding)
            layers[index] = nn.Sequential(everywhere, BlurPool(channels))
        elif isinstance(layer, nn.AvgPool2d):
            layers[index] = BlurPool(channels)
        elif isinstance(layer, nn.Sequential):
            _blur_pools(layer)


def _antialias_resnet(network: nn.Module) -> nn.Module:
    """Blur the pool, the strided 3 x 3 of each stage's first block behind its ReLU, and the shortcut beside it."""
    assert isinstance(network, ResNet)
    # The author's networks take the maximum of 2 x 2 here, where plain ones take it of 3 x 3.
    network.set_submodule("maxpool", nn.Sequential(nn.MaxPool2d(2, stride=1), BlurPool(64)))
    for stage in (network.layer2, network.layer3, network.layer4):
        block = stage[0]
        if isinstance(block, Bottleneck):
            _at_every_position(block.conv2)
            block.conv3 = _blur_before(block.conv3)
        elif isinstance(block, BasicBlock):
            _at_every_position(block.conv1)
            block.conv2 = _blur_before(block.conv2)
        assert isinstance(block.downsample, nn.Sequential)
        projection, norm = block.downsample
        block.downsample = nn.Sequential(*_blur_before(projection), norm)
    return network


def aa_alexnet(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """AlexNet of 2014, anti-aliased: two of the first convolution's stride of four are left to a blur."""
    network = AlexNetOWT(num_classes=num_classes, in_channels=in_channels)
    _blur_pools(network.features)
    first = network.features[0]
    assert isinstance(first, nn.Conv2d)
    first.stride = (2, 2)
    network.features[1] = nn.Sequential(network.features[1], BlurPool(first.out_channels))
    return network


def aa_vgg16_bn(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """VGG-16 with batch norm, anti-aliased."""
    features = trunk("D", in_channels, batch_norm=True)
    _blur_pools(features)
    return VGG(features, num_classes=num_classes)


def aa_resnet18(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ResNet-18, anti-aliased."""
    return _antialias_resnet(resnet18(num_classes=num_classes, in_channels=in_channels))


def aa_resnet34(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ResNet-34, anti-aliased."""
    return _antialias_resnet(resnet34(num_classes=num_classes, in_channels=in_channels))


def aa_resnet50(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ResNet-50, anti-aliased."""
    return _antialias_resnet(resnet50(num_classes=num_classes, in_channels=in_channels))


def aa_resnet101(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ResNet-101, anti-aliased."""
    return _antialias_resnet(resnet101(num_classes=num_classes, in_channels=in_channels))


def aa_densenet121(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """DenseNet-121, anti-aliased."""
    network = densenet121(num_classes=num_classes, in_channels=in_channels)
    assert isinstance(network, DenseNet)
    _blur_pools(network.features)
    return network


def aa_mobilenet_v2(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """MobileNet v2, anti-aliased."""
    return MobileNetV2(1.0, num_classes=num_classes, in_channels=in_channels, downsample=BlurPool)
