"""SPP-net. He, Zhang, Ren and Sun, Spatial Pyramid Pooling in Deep Convolutional Networks, arXiv:1406.4729."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from cnnport.layers import conv_relu, linear_classifier, local_response_norm


class SpatialPyramidPool(nn.Module):
    """The largest value of every channel in each cell of several grids: as many features at any image size.

    Cell i of n covers floor(i * size / n) to ceil((i + 1) * size / n), the paper's rule for windows of any size.
    """

    def __init__(self, levels: tuple[int, ...]) -> None:
        """``levels``: cells along each side of each grid, from the finest on."""
        super().__init__()
        self.levels = levels

    def forward(self, features: Tensor) -> Tensor:
        """N x C x H x W to N x (C * cells of the first grid + C * cells of the second + ...)."""
        grids: dict[int, Tensor] = {}
        for cells in self.levels:
            # By that rule two of six cells are together one of three, whatever the size.
            finer = [known for known in grids if known % cells == 0]
            grids[cells] = (
                functional.max_pool2d(grids[finer[-1]], finer[-1] // cells)
                if finer
                else _largest(_largest(features, cells, 2), cells, 3)
            )
        return torch.cat([grids[cells].flatten(1) for cells in self.levels], dim=1)


def _largest(features: Tensor, cells: int, dim: int) -> Tensor:
    """The maximum in each of ``cells`` overlapping parts of one dimension.

    Slices, because ONNX's pooling has windows of one size and step only, which cover 14 positions in 3 cells badly.
    """
    size = features.shape[dim]
    parts = []
    for cell in range(cells):
        start, end = cell * size // cells, ((cell + 1) * size + cells - 1) // cells
        part = features[:, :, start:end] if dim == 2 else features[:, :, :, start:end]
        parts.append(part.amax(dim, keepdim=True))
    return torch.cat(parts, dim)


class SPPNet(nn.Module):
    """ZF-5, five convolutions of Zeiler and Fergus, with a pyramid in the place of the last pooling."""

    def __init__(self, *, num_classes: int, in_channels: int) -> None:
        super().__init__()
        levels = (6, 3, 2, 1)
        self.features = nn.Sequential(
            *conv_relu(in_channels, 96, 7, stride=2),
            local_response_norm(),
            nn.MaxPool2d(3, stride=2, padding=1),
            *conv_relu(96, 256, 5, stride=2),
            local_response_norm(),
            nn.MaxPool2d(3, stride=2, padding=1),
            *conv_relu(256, 384, 3),
            *conv_relu(384, 384, 3),
            *conv_relu(384, 256, 3),
        )
        self.pyramid = SpatialPyramidPool(levels)
        self.classifier = linear_classifier(256 * sum(cells**2 for cells in levels), num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, N x classes, of N x channels x height x width images of any size."""
        return self.classifier(self.pyramid(self.features(images)))


def spp_zf5(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """SPP-net on ZF-5 with the pyramid of 50 cells."""
    return SPPNet(num_classes=num_classes, in_channels=in_channels)
