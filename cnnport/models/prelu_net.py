"""PReLU-net. He, Zhang, Ren and Sun, Delving Deep into Rectifiers, arXiv:1502.01852, table 3."""

from torch import Tensor, nn

from cnnport.models.spp import SpatialPyramidPool

_LEVELS = (7, 3, 2, 1)


class PReLUNet(nn.Module):
    """7 x 7, three stages of 3 x 3, a spatial pyramid and three linear layers.

    A slope for every channel behind convolutions, one for all features behind linear layers.
    """

    def __init__(
        self, widths: tuple[int, int, int], depth: int, *, num_classes: int, in_channels: int
    ) -> None:
        """``widths``: channels of the stages; ``depth``: convolutions in each."""
        super().__init__()
        channels, hidden = 96, 4096
        layers: list[nn.Module] = [
            nn.Conv2d(in_channels, channels, 7, stride=2, padding=3),
            nn.PReLU(channels),
        ]
        for width in widths:
            layers.append(nn.MaxPool2d(2))
            for _ in range(depth):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.PReLU(width)]
                channels = width
        self.features = nn.Sequential(*layers)
        self.pyramid = SpatialPyramidPool(_LEVELS)
        self.classifier = nn.Sequential(
            nn.Linear(channels * sum(cells**2 for cells in _LEVELS), hidden),
            nn.PReLU(),
            nn.Dropout(0.5),
            nn.Linear(hidden, hidden),
            nn.PReLU(),
            nn.Dropout(0.5),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits, N x classes, of N x channels x height x width images of any size."""
        return self.classifier(self.pyramid(self.features(images)))


def prelu_net_a(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """Model A, 19 layers."""
    return PReLUNet((256, 512, 512), 5, num_classes=num_classes, in_channels=in_channels)


def prelu_net_b(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """Model B, 22 layers."""
    return PReLUNet((256, 512, 512), 6, num_classes=num_classes, in_channels=in_channels)


def prelu_net_c(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """Model C, 22 wider layers."""
    return PReLUNet((384, 768, 896), 6, num_classes=num_classes, in_channels=in_channels)
