"""LeNet. LeCun, Bottou, Bengio and Haffner, Gradient-Based Learning Applied to Document Recognition, 1998.

Two descendants are the test beds of pruning, as in Deep Compression, Han et al., arXiv:1510.00149.
"""

import random
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import functional

# Table I of the paper: which maps of S2 each of the sixteen maps of C3 sees, in three groups of equal fan-in.
_C3_TABLE = (
    ((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (4, 5, 0), (5, 0, 1)),
    (
        *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (3, 4, 5, 0), (4, 5, 0, 1), (5, 0, 1, 2)),
        *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    ),
    ((0, 1, 2, 3, 4, 5),),
)

# What F6 should show for each digit: a picture of 7 x 12 pixels. The paper shows its own in figure 3, for all of
# ASCII, but does not print the pixels.
_DIGITS = """
..###.. ...#... .#####. .#####. .....#. ####### ..####. ####### .#####. .#####.
.#...#. ..##... #.....# #.....# ....##. #...... .#..... ......# #.....# #.....#
#.....# .#.#... ......# ......# ...#.#. #...... #...... ......# #.....# #.....#
#.....# ...#... ......# ......# ..#..#. #...... #...... .....#. #.....# #.....#
#.....# ...#... ......# ......# .#...#. ######. #...... .....#. #.....# #.....#
#.....# ...#... .....#. ..####. #....#. ......# ######. ....#.. .#####. .######
#.....# ...#... ....#.. ......# #....#. ......# #.....# ....#.. #.....# ......#
#.....# ...#... ...#... ......# ####### ......# #.....# ...#... #.....# ......#
#.....# ...#... ..#.... ......# .....#. ......# #.....# ...#... #.....# ......#
#.....# ...#... .#..... ......# .....#. ......# #.....# ..#.... #.....# ......#
.#...#. ...#... #...... #.....# .....#. #.....# #.....# ..#.... #.....# .....#.
..###.. .#####. ####### .#####. .....#. .#####. .#####. ..#.... .#####. .####..
"""


class Squash(nn.Module):
    """Scaled hyperbolic tangent of the paper's appendix A: plus and minus one are where it bends most."""

    def forward(self, features: Tensor) -> Tensor:
        """Any shape."""
        return 1.7159 * torch.tanh(features * (2 / 3))


class SubSampling(nn.Module):
    """Sum over 2 x 2 windows, times a trainable coefficient, plus a trainable bias, one pair for each map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        # A quarter: training starts from the average.
        self.coefficient = nn.Parameter(torch.full((channels, 1, 1), 0.25))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        """N x channels x H x W to N x channels x H / 2 x W / 2."""
        # Four times the average: torch.onnx drops avg_pool2d's divisor_override without a word.
        sums = 4 * functional.avg_pool2d(features, 2)
        return sums * self.coefficient + self.bias


class PartialConv2d(nn.Module):
    """5 x 5 convolution of which each output map sees only some of the input maps.

    Output maps of equal fan-in are one grouped convolution over a selection of the input maps.
    """

    def __init__(self, table: tuple[tuple[tuple[int, ...], ...], ...]) -> None:
        """``table``: the input maps of each output map, in groups of equal fan-in."""
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(len(group) * len(group[0]), len(group), 5, groups=len(group)) for group in table
        )
        selected = [list(chain.from_iterable(group)) for group in table]
        self.selected_count = [len(maps) for maps in selected]
        self.selected: Tensor
        self.register_buffer("selected", torch.tensor(list(chain.from_iterable(selected))), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """N x input maps x H x W to N x output maps x (H - 4) x (W - 4)."""
        parts = torch.split(features.index_select(1, self.selected), self.selected_count, dim=1)
        return torch.cat([conv(part) for conv, part in zip(self.convs, parts, strict=True)], dim=1)


class RadialBasis(nn.Module):
    """Negated squared distance of F6 to a fixed target of each class, so that the nearest class scores highest.

    The paper's output is the distance itself.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        targets = torch.tensor([_target(index) for index in range(num_classes)], dtype=torch.float32)
        self.targets: Tensor
        self.register_buffer("targets", targets, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """N x 84 to N x classes."""
        return -(features.unsqueeze(1) - self.targets).square().sum(dim=2)


def _target(index: int) -> list[int]:
    """The 84 pixels, 1 for ink and -1 for paper, of a class; classes that are no digits get random ones."""
    rows = [line.split() for line in _DIGITS.split("\n") if line]
    if index < len(rows[0]):
        return [1 if pixel == "#" else -1 for row in rows for pixel in row[index]]
    return random.Random(index).choices((-1, 1), k=84)  # noqa: S311 - a code, no secret


def lenet5_around(c1: nn.Module, c3: nn.Module, num_classes: int) -> nn.Sequential:
    """LeNet-5 as it is read today around its two convolutions, N x ? x 32 x 32 to 6 maps and 6 to 16 maps."""
    return nn.Sequential(
        c1,
        nn.Sigmoid(),
        nn.AvgPool2d(2),
        c3,
        nn.Sigmoid(),
        nn.AvgPool2d(2),
        nn.Conv2d(16, 120, 5),
        nn.Sigmoid(),
        nn.Flatten(),
        nn.Linear(120, 84),
        nn.Sigmoid(),
        nn.Linear(84, num_classes),
    )


def lenet5(*, num_classes: int = 10, in_channels: int = 1) -> nn.Module:
    """LeNet-5 as it is read today: full C3, sub-sampling without parameters, linear output.

    Sigmoids follow the convolutions. Input: N x 1 x 32 x 32.
    """
    return lenet5_around(nn.Conv2d(in_channels, 6, 5), nn.Conv2d(6, 16, 5), num_classes)


def lenet5_1998(*, num_classes: int = 10, in_channels: int = 1) -> nn.Module:
    """LeNet-5 as published: C3 of table I, trainable sub-sampling, squashing, fixed RBF output.

    Input: N x 1 x 32 x 32. Output: N x classes, zero or less, highest for the nearest class.
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, 6, 5),
        Squash(),
        SubSampling(6),
        Squash(),
        PartialConv2d(_C3_TABLE),
        Squash(),
        SubSampling(16),
        Squash(),
        nn.Conv2d(16, 120, 5),
        Squash(),
        nn.Flatten(),
        nn.Linear(120, 84),
        Squash(),
        RadialBasis(num_classes),
    )


def lenet5_caffe(*, num_classes: int = 10, in_channels: int = 1) -> nn.Module:
    """Caffe's LeNet-5: wider, max pooling, one ReLU. Input: N x 1 x 28 x 28."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 20, 5),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 50, 5),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(800, 500),
        nn.ReLU(inplace=True),
        nn.Linear(500, num_classes),
    )


def lenet_300_100(*, num_classes: int = 10, in_channels: int = 1) -> nn.Module:
    """LeNet-300-100: two hidden layers, no convolution. Input: N x 1 x 28 x 28."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(in_channels * 28 * 28, 300),
        nn.ReLU(inplace=True),
        nn.Linear(300, 100),
        nn.ReLU(inplace=True),
        nn.Linear(100, num_classes),
    )
