"""ResNet trained with stochastic depth. Huang et al., arXiv:1603.09382."""

from functools import partial

import torch
from torch import Tensor, nn

from cnnport.models.resnet import Bottleneck, CifarBlock, CifarResNet, ResNet, projection


def drop_branch(residual: Tensor, survival: float, training: bool) -> Tensor:
    """A branch that is there for a whole mini-batch or not at all, equation 2; its expectation later, equation 5.

    Args:
        residual: Output of the branch, of any shape.
        survival: Probability that the branch is there.
        training: Whether to draw lots instead of scaling.

    Returns:
        The same shape.
    """
    if not training:
        return residual * survival
    # A product rather than a jump over the branch: its parameters get gradients, of zeros, in every step.
    return residual * torch.bernoulli(residual.new_full((), survival))


class DroppedBlock(CifarBlock):
    """The basic block with a branch that survives by chance."""

    survival: float = 1.0

    def merge(self, residual: Tensor, shortcut: Tensor) -> Tensor:
        """Addition of what is left of the branch."""
        return super().merge(drop_branch(residual, self.survival, self.training), shortcut)


class DroppedBottleneck(Bottleneck):
    """The bottleneck with a branch that survives by chance."""

    survival: float = 1.0

    def merge(self, residual: Tensor, shortcut: Tensor) -> Tensor:
        """Addition of what is left of the branch."""
        return super().merge(drop_branch(residual, self.survival, self.training), shortcut)


class RescaledBlock(DroppedBlock):
    """The basic block whose branch is scaled up in training instead of down afterwards, as in pytorchcv."""

    def merge(self, residual: Tensor, shortcut: Tensor) -> Tensor:
        """Addition of what is left of the branch: in eval mode all of it."""
        if self.training:
            return super().merge(residual / self.survival, shortcut)
        return self.relu(residual + shortcut)


def decay_linearly(network: nn.Module, last: float = 0.5) -> nn.Module:
    """Survival from 1 at the input down to ``last`` at the last of the L blocks: 1 - l / L (1 - last), equation 4."""
    blocks = [block for block in network.modules() if isinstance(block, DroppedBlock | DroppedBottleneck)]
    for position, block in enumerate(blocks, start=1):
        block.survival = 1 - position / len(blocks) * (1 - last)
    return network


def resnet110_sd_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """ResNet-110 with stochastic depth for CIFAR-10, table 1."""
    return decay_linearly(CifarResNet(DroppedBlock, 110, num_classes=num_classes, in_channels=in_channels))


def resnet110_sd_cifar100(*, num_classes: int = 100, in_channels: int = 3) -> nn.Module:
    """ResNet-110 with stochastic depth for CIFAR-100, table 1."""
    return resnet110_sd_cifar10(num_classes=num_classes, in_channels=in_channels)


def resnet1202_sd_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """ResNet-1202 with stochastic depth for CIFAR-10, section 4."""
    return decay_linearly(CifarResNet(DroppedBlock, 1202, num_classes=num_classes, in_channels=in_channels))


def resnet152_sd(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ResNet-152 with stochastic depth for ImageNet, section 4."""
    network = ResNet(DroppedBottleneck, (3, 8, 36, 3), num_classes=num_classes, in_channels=in_channels)
    return decay_linearly(network)


def resnet20_sd_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """ResNet-20 with stochastic depth and option B, pytorchcv's resdropresnet20_cifar10."""
    block = partial(RescaledBlock, shortcut=projection)
    return decay_linearly(CifarResNet(block, 20, num_classes=num_classes, in_channels=in_channels))
