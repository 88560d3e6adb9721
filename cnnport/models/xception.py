"""Xception. Chollet, arXiv:1610.02357."""

from torch import Tensor, nn

from cnnport.layers import conv_bn


def _separable(inputs: int, outputs: int) -> list[nn.Module]:
    """Depthwise 3 x 3 and pointwise convolution, nothing in between (section 4.7), and batch norm."""
    return [
        nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
    ]


class Module(nn.Module):
    """Separable convolutions with ReLU before each and a shortcut around them, figure 5 of the paper.

    ``widths``: output channels of the convolutions; ``halves``: 3 x 3 max pooling of stride 2 behind them and a
    1 x 1 convolution of stride 2 as shortcut; ``relu``: whether there is one before the first convolution.
    """

    def __init__(self, inputs: int, widths: tuple[int, ...], *, halves: bool, relu: bool = True) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = inputs
        for position, outputs in enumerate(widths):
            if position > 0:
                layers.append(nn.ReLU(inplace=True))
            elif relu:
                # Not in place: the shortcut needs the features as they are.
                layers.append(nn.ReLU())
            layers += _separable(channels, outputs)
            channels = outputs
        self.shortcut: nn.Module = nn.Identity()
        if halves:
            layers.append(nn.MaxPool2d(3, stride=2, padding=1))
            self.shortcut = nn.Sequential(*conv_bn(inputs, channels, 1, stride=2, relu=False))
        self.body = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """N x inputs x H x W to N x widths[-1] x H x W, or half of H and W, rounded up."""
        return self.body(features) + self.shortcut(features)


class Xception(nn.Module):
    """Figure 5 of the paper: entry flow, middle flow of eight modules, exit flow."""

    def __init__(self, *, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, 32, 3, stride=2, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(inplace=True),
            nn.Conv2d(32, 64, 3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
        )
        self.entry = nn.Sequential(
            Module(64, (128, 128), halves=True, relu=False),
            Module(128, (256, 256), halves=True),
            Module(256, (728, 728), halves=True),
        )
        self.middle = nn.Sequential(*(Module(728, (728, 728, 728), halves=False) for _ in range(8)))
        self.exit = nn.Sequential(
            Module(728, (728, 1024), halves=True),
            *_separable(1024, 1536),
            nn.ReLU(inplace=True),
            *_separable(1536, 2048),
            nn.ReLU(inplace=True),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(2048, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, N x classes, of N x channels x height x width images."""
        features = self.exit(self.middle(self.entry(self.stem(images))))
        return self.fc(self.dropout(self.avgpool(features).flatten(1)))


def xception(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """Xception, 299 x 299."""
    return Xception(num_classes=num_classes, in_channels=in_channels)
