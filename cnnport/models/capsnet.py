"""CapsNet. Sabour, Frosst and Hinton, Dynamic Routing Between Capsules, arXiv:1710.09829."""

from typing import ClassVar

import torch
from torch import Tensor, nn


def squash(vectors: Tensor, dim: int) -> Tensor:
    """Shrink lengths to below one and keep directions, equation 1; a zero vector stays, with a zero gradient."""
    lengths = torch.linalg.vector_norm(vectors, dim=dim, keepdim=True)
    return vectors * (lengths / (1 + lengths.square()))


class Predictions(nn.Conv2d):
    """One group for each input capsule: its matrices to all output capsules, one upon the other.

    ``fan_in`` tells how many of the products make one value of an output capsule: the routing sums those of all
    inputs, of which each sends one in ``outputs`` parts to it. Weights drawn for the matrix alone, which has
    ``input_size`` products, would leave all lengths at nearly one.
    """

    def __init__(self, inputs: int, input_size: int, outputs: int, output_size: int) -> None:
        channels = inputs * outputs * output_size
        super().__init__(inputs * input_size, channels, 1, groups=inputs, bias=False)
        self.fan_in = inputs * input_size / outputs


class DynamicRouting(nn.Module):
    """From ``inputs`` capsules to ``outputs`` capsules by agreement, procedure 1 with three iterations.

    Every input capsule predicts every output capsule by a matrix of its own, and sends more of its prediction to
    those outputs that agree with it.
    """

    iterations: ClassVar[int] = 3

    def __init__(self, inputs: int, input_size: int, outputs: int, output_size: int) -> None:
        """Numbers of capsules, and sizes of their vectors."""
        super().__init__()
        self.shape = (inputs, outputs, output_size)
        self.predict = Predictions(inputs, input_size, outputs, output_size)

    def forward(self, capsules: Tensor) -> Tensor:
        """N x inputs x input_size to N x outputs x output_size."""
        predictions = self.predict(torch.unflatten(capsules.flatten(1), 1, (-1, 1, 1))).flatten(1)
        predictions = predictions.unflatten(1, self.shape).transpose(1, 2)
        # Priors of the coupling, N x outputs x inputs x 1; each input's couplings to all outputs sum to one.
        priors = torch.zeros_like(predictions[..., :1])
        routed = self._route(predictions, priors)
        for _ in range(self.iterations - 1):
            priors = priors + predictions @ routed.transpose(2, 3)
            routed = self._route(predictions, priors)
        return routed.squeeze(2)

    def _route(self, predictions: Tensor, priors: Tensor) -> Tensor:
        """N x outputs x 1 x output_size: the weighted sums of predictions, squashed."""
        couplings = torch.softmax(priors, dim=1)
        return squash(couplings.transpose(2, 3) @ predictions, dim=3)


class CapsNet(nn.Module):
    """Figures 1 and 2: convolution, primary capsules of eight values, class capsules of sixteen, and a decoder."""

    def __init__(
        self,
        size: int,
        capsule_types: int,
        *,
        num_classes: int,
        in_channels: int,
        reconstructs: bool = True,
        none_of_the_above: bool = False,
    ) -> None:
        """``size``: height and width of the images; ``capsule_types``: maps of primary capsules.

        ``none_of_the_above``: one more capsule, for what belongs to no class, takes part in the routing only.
        """
        super().__init__()
        self.num_classes = num_classes
        self.conv1 = nn.Conv2d(in_channels, 256, 9)
        self.relu = nn.ReLU(inplace=True)
        self.primary = nn.Conv2d(256, capsule_types * 8, 9, stride=2)
        self.capsule_types = capsule_types
        side = (size - 8 - 9) // 2 + 1
        outputs = num_classes + 1 if none_of_the_above else num_classes
        self.routing = DynamicRouting(capsule_types * side**2, 8, outputs, 16)
        self.decoder = _decoder(num_classes * 16, (in_channels, size, size)) if reconstructs else None

    def class_capsules(self, images: Tensor) -> Tensor:
        """N x classes x 16 of N x channels x size x size images."""
        maps = self.primary(self.relu(self.conv1(images)))
        primary = squash(maps.unflatten(1, (self.capsule_types, 8)), dim=2)
        capsules = self.routing(primary.permute(0, 1, 3, 4, 2).flatten(1, 3))
        return capsules[:, : self.num_classes]

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Lengths of the class capsules, each the probability that the class is there.

        Args:
            images: N x channels x size x size.
            labels: N indices of the classes whose capsules are decoded in training; else the longest is.

        Returns:
            N x classes; in training, where there is a decoder, also the reconstructed images, from 0 to 1.
        """
        capsules = self.class_capsules(images)
        lengths = torch.linalg.vector_norm(capsules, dim=2)
        if self.decoder is None or not self.training:
            return lengths
        decoded = lengths.argmax(dim=1) if labels is None else labels
        mask = torch.zeros_like(lengths).scatter(1, decoded.unsqueeze(1), 1.0)
        return lengths, self.decoder((capsules * mask.unsqueeze(2)).flatten(1))


def _decoder(features: int, image: tuple[int, int, int]) -> nn.Sequential:
    """Figure 2: from all class capsules, of which all but one are masked, to the pixels."""
    channels, height, width = image
    return nn.Sequential(
        nn.Linear(features, 512),
        nn.ReLU(inplace=True),
        nn.Linear(512, 1024),
        nn.ReLU(inplace=True),
        nn.Linear(1024, channels * height * width),
        nn.Sigmoid(),
        nn.Unflatten(1, image),
    )


def capsnet_mnist(*, num_classes: int = 10, in_channels: int = 1) -> nn.Module:
    """CapsNet for MNIST. Input: N x 1 x 28 x 28."""
    return CapsNet(28, 32, num_classes=num_classes, in_channels=in_channels)


def capsnet_mnist_norecon(*, num_classes: int = 10, in_channels: int = 1) -> nn.Module:
    """CapsNet for MNIST without the decoder. Input: N x 1 x 28 x 28."""
    return CapsNet(28, 32, num_classes=num_classes, in_channels=in_channels, reconstructs=False)


def capsnet_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """CapsNet for CIFAR-10, section 7: 64 types, and a capsule for none of the above. Input: N x 3 x 24 x 24."""
    return CapsNet(24, 64, num_classes=num_classes, in_channels=in_channels, none_of_the_above=True)
