"""Modules of the Inception networks, see inception.py for the papers.

"Padded" convolutions and pools keep the size at stride 1; the others are those that the papers mark with V (valid).
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Kernel = int | tuple[int, int]
# Makes what follows a module of so many channels: a place to insert squeeze and excitation.
After = Callable[[int], nn.Module]


def conv(
    inputs: int,
    outputs: int,
    kernel: Kernel,
    *,
    stride: int = 1,
    padded: bool = True,
    eps: float = 1e-3,
    bias: bool = False,
) -> nn.Sequential:
    """Convolution, batch norm, ReLU; ``conv`` and ``bn`` are the names in torchvision's checkpoints."""
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(inputs, outputs, kernel, stride, _padding(kernel, padded), bias=bias),
            bn=nn.BatchNorm2d(outputs, eps=eps),
            relu=nn.ReLU(inplace=True),
        )
    )


def biased_conv(inputs: int, outputs: int, kernel: int, *, stride: int = 1) -> nn.Sequential:
    """Convolution with bias and ReLU, from the days before batch norm."""
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(inputs, outputs, kernel, stride, _padding(kernel, padded=True)),
            relu=nn.ReLU(inplace=True),
        )
    )


def _padding(kernel: Kernel, padded: bool) -> tuple[int, int]:
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    return (height // 2, width // 2) if padded else (0, 0)


def chain(
    inputs: int,
    widths: Sequence[int],
    kernels: Sequence[Kernel],
    *,
    stride: int = 1,
    padded: bool = True,
    eps: float = 1e-3,
    bias: bool = False,
) -> nn.Sequential:
    """Convolutions one behind the other; ``stride`` and ``padded`` are those of the last."""
    last = len(widths) - 1
    layers: list[nn.Module] = []
    for step, (outputs, kernel) in enumerate(zip(widths, kernels, strict=True)):
        if step < last:
            layers.append(conv(inputs, outputs, kernel, eps=eps, bias=bias))
        else:
            layers.append(conv(inputs, outputs, kernel, stride=stride, padded=padded, eps=eps, bias=bias))
        inputs = outputs
    return nn.Sequential(*layers)


class Branches(nn.Module):
    """Branches that see the same features; their outputs lie behind each other in the given order."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, features: Tensor) -> Tensor:
        """N x C x H x W to N x (sum of the branches' channels) x H' x W'."""
        return torch.cat([branch(features) for branch in self.branches], dim=1)


class ModuleV1(nn.Module):
    """Figure 2 (b) of arXiv:1409.4842: 1 x 1, 3 x 3, 5 x 5 and pooling, each with a 1 x 1 reduction or projection.

    ``widths``: the columns #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj of table 1.
    """

    def __init__(
        self,
        inputs: int,
        widths: tuple[int, int, int, int, int, int],
        *,
        unit: Callable[[int, int, int], nn.Module],
        large: int,
    ) -> None:
        """``unit`` makes a convolution; ``large`` is the kernel of the 5 x 5 branch, 5 but for some ports."""
        super().__init__()
        one, reduce3, three, reduce5, five, pooled = widths
        self.branch1 = unit(inputs, one, 1)
        self.branch2 = nn.Sequential(unit(inputs, reduce3, 1), unit(reduce3, three, 3))
        self.branch3 = nn.Sequential(unit(inputs, reduce5, 1), unit(reduce5, five, large))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), unit(inputs, pooled, 1))

    def forward(self, features: Tensor) -> Tensor:
        """N x inputs x H x W to N x (one + three + five + pooled) x H x W."""
        branches = (self.branch1, self.branch2, self.branch3, self.branch4)
        return torch.cat([branch(features) for branch in branches], dim=1)


class AuxiliaryV1(nn.Module):
    """Classifier half-way, section 5 of arXiv:1409.4842: it feeds gradients to the lower layers while training."""

    def __init__(self, pool: nn.Module, reduction: nn.Module, num_classes: int) -> None:
        """``pool`` leaves 4 x 4 positions; ``reduction`` is the 1 x 1 convolution to 128 channels."""
        super().__init__()
        self.pool = pool
        self.conv = reduction
        self.fc1 = nn.Linear(128 * 4 * 4, 1024)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(0.7)
        self.fc2 = nn.Linear(1024, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Logits, N x classes, of N x channels x 14 x 14 features."""
        reduced = self.conv(self.pool(features)).flatten(1)
        return self.fc2(self.dropout(self.relu(self.fc1(reduced))))


class InceptionA(nn.Module):
    """Inception v3 at 35 x 35, figure 5 of arXiv:1512.00567; one 5 x 5 is left, as in the released network."""

    def __init__(self, inputs: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = conv(inputs, 64, 1)
        self.branch5x5_1 = conv(inputs, 48, 1)
        self.branch5x5_2 = conv(48, 64, 5)
        self.branch3x3dbl_1 = conv(inputs, 64, 1)
        self.branch3x3dbl_2 = conv(64, 96, 3)
        self.branch3x3dbl_3 = conv(96, 96, 3)
        self.pool = nn.AvgPool2d(3, stride=1, padding=1)
        self.branch_pool = conv(inputs, pooled, 1)

    def forward(self, features: Tensor) -> Tensor:
        """N x inputs x H x W to N x (224 + pooled) x H x W."""
        five = self.branch5x5_2(self.branch5x5_1(features))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(features)))
        pooled = self.branch_pool(self.pool(features))
        return torch.cat((self.branch1x1(features), five, double, pooled), dim=1)


class InceptionB(nn.Module):
    """Inception v3 from 35 x 35 to 17 x 17, figure 10 of arXiv:1512.00567."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3 = conv(inputs, 384, 3, stride=2, padded=False)
        self.branch3x3dbl_1 = conv(inputs, 64, 1)
        self.branch3x3dbl_2 = conv(64, 96, 3)
        self.branch3x3dbl_3 = conv(96, 96, 3, stride=2, padded=False)
        self.pool = nn.MaxPool2d(3, stride=2)

    def forward(self, features: Tensor) -> Tensor:
        """N x inputs x H x W to N x (480 + inputs) x (H - 1) / 2 x (W - 1) / 2."""
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(features)))
        return torch.cat((self.branch3x3(features), double, self.pool(features)), dim=1)


class InceptionC(nn.Module):
    """Inception v3 at 17 x 17, figure 6 of arXiv:1512.00567: 7 x 7 as 1 x 7 and 7 x 1 of ``width`` channels."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.branch1x1 = conv(inputs, 192, 1)
        self.branch7x7_1 = conv(inputs, width, 1)
        self.branch7x7_2 = conv(width, width, (1, 7))
        self.branch7x7_3 = conv(width, 192, (7, 1))
        self.branch7x7dbl_1 = conv(inputs, width, 1)
        self.branch7x7dbl_2 = conv(width, width, (7, 1))
        self.branch7x7dbl_3 = conv(width, width, (1, 7))
        self.branch7x7dbl_4 = conv(width, width, (7, 1))
        self.branch7x7dbl_5 = conv(width, 192, (1, 7))
        self.pool = nn.AvgPool2d(3, stride=1, padding=1)
        self.branch_pool = conv(inputs, 192, 1)

    def forward(self, features: Tensor) -> Tensor:
        """N x inputs x H x W to N x 768 x H x W."""
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(features)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(features)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        pooled = self.branch_pool(self.pool(features))
        return torch.cat((self.branch1x1(features), seven, double, pooled), dim=1)


class InceptionD(nn.Module):
    """Inception v3 from 17 x 17 to 8 x 8."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3_1 = conv(inputs, 192, 1)
        self.branch3x3_2 = conv(192, 320, 3, stride=2, padded=False)
        self.branch7x7x3_1 = conv(inputs, 192, 1)
        self.branch7x7x3_2 = conv(192, 192, (1, 7))
        self.branch7x7x3_3 = conv(192, 192, (7, 1))
        self.branch7x7x3_4 = conv(192, 192, 3, stride=2, padded=False)
        self.pool = nn.MaxPool2d(3, stride=2)

    def forward(self, features: Tensor) -> Tensor:
        """N x inputs x H x W to N x (512 + inputs) x (H - 1) / 2 x (W - 1) / 2."""
        three = self.branch3x3_2(self.branch3x3_1(features))
        seven = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(features)))
        return torch.cat((three, self.branch7x7x3_4(seven), self.pool(features)), dim=1)


class InceptionE(nn.Module):
    """Inception v3 at 8 x 8, figure 7 of arXiv:1512.00567: 1 x 3 and 3 x 1 side by side."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch1x1 = conv(inputs, 320, 1)
        self.branch3x3_1 = conv(inputs, 384, 1)
        self.branch3x3_2a = conv(384, 384, (1, 3))
        self.branch3x3_2b = conv(384, 384, (3, 1))
        self.branch3x3dbl_1 = conv(inputs, 448, 1)
        self.branch3x3dbl_2 = conv(448, 384, 3)
        self.branch3x3dbl_3a = conv(384, 384, (1, 3))
        self.branch3x3dbl_3b = conv(384, 384, (3, 1))
        self.pool = nn.AvgPool2d(3, stride=1, padding=1)
        self.branch_pool = conv(inputs, 192, 1)

    def forward(self, features: Tensor) -> Tensor:
        """N x inputs x H x W to N x 2048 x H x W."""
        three = self.branch3x3_1(features)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(features))
        parts = (
            self.branch1x1(features),
            self.branch3x3_2a(three),
            self.branch3x3_2b(three),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(self.pool(features)),
        )
        return torch.cat(parts, dim=1)


class AuxiliaryV3(nn.Module):
    """Classifier on the last 17 x 17 features, figure 8 of arXiv:1512.00567."""

    def __init__(self, inputs: int, num_classes: int) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(5, stride=3)
        self.conv0 = conv(inputs, 128, 1)
        self.conv1 = conv(128, 768, 5, padded=False)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(768, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Logits, N x classes, of N x inputs x 17 x 17 features."""
        reduced = self.conv1(self.conv0(self.pool(features)))
        return self.fc(self.avgpool(reduced).flatten(1))


def pooled_projection(inputs: int, outputs: int) -> nn.Sequential:
    """Average over 3 x 3 neighbours, not counting the border, and 1 x 1 convolution: TensorFlow's "same" pooling."""
    pool = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    return nn.Sequential(pool, conv(inputs, outputs, 1))


class SplitEnd(nn.Module):
    """A trunk whose output goes through 1 x 3 and 3 x 1 side by side: Inception-C of v4."""

    def __init__(self, trunk: nn.Module, inputs: int, outputs: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.ends = Branches(conv(inputs, outputs, (1, 3)), conv(inputs, outputs, (3, 1)))

    def forward(self, features: Tensor) -> Tensor:
        """Features of the trunk's input to N x 2 outputs x H x W."""
        return self.ends(self.trunk(features))


class ResidualModule(nn.Module):
    """Branches, linear 1 x 1 convolution back to the input's channels, scaled sum with the input, ReLU.

    Source: arXiv:1602.07261, figures 10 to 19; the scale is that of section 3.3, figure 20.
    """

    def __init__(
        self,
        channels: int,
        widths: Sequence[Sequence[int]],
        kernels: Sequence[Kernel],
        *,
        scale: float,
        linear: bool = False,
        after: After = nn.Identity,
        eps: float = 1e-3,
    ) -> None:
        """Each branch has its ``widths`` and the first as many ``kernels``.

        ``after`` makes what the residual goes through before it is scaled; ``linear`` leaves out the last ReLU.
        """
        super().__init__()
        self.branches = Branches(*(chain(channels, each, kernels[: len(each)], eps=eps) for each in widths))
        self.up = nn.Conv2d(sum(each[-1] for each in widths), channels, 1)
        self.after = after(channels)
        self.scale = scale
        self.activation = nn.Identity() if linear else nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """N x channels x H x W to the same."""
        residual = self.after(self.up(self.branches(features)))
        return self.activation(features + self.scale * residual)
