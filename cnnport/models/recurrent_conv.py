"""Recurrent convolutional network that labels every pixel. Pinheiro and Collobert, arXiv:1306.2795.

In the notation of Goodfellow, Bengio and Courville, Deep Learning, section 9.6: U, V and W are convolutions.
"""

import torch
from torch import Tensor, nn


class RecurrentConv(nn.Module):
    """Guess the labels of all pixels, and ``steps - 1`` times guess again in view of the image and the last guess.

    H(t) = tanh(U * X + W * Y(t-1)) and Y(t) = V * H(t), with the same kernels in every step and Y(0) = 0. All
    convolutions keep the size; each step widens the context that a label depends on.
    """

    def __init__(self, hidden: int, kernel: int, steps: int, *, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.u = nn.Conv2d(in_channels, hidden, kernel, padding=kernel // 2)
        self.v = nn.Conv2d(hidden, num_classes, 1)
        # U has the bias of both.
        self.w = nn.Conv2d(num_classes, hidden, kernel, padding=kernel // 2, bias=False)
        self.steps = steps

    def forward(self, images: Tensor) -> Tensor:
        """Logits, N x classes x H x W, of N x channels x H x W images."""
        labels = self.v(torch.tanh(self.u(images)))
        for _ in range(self.steps - 1):
            # U * X is the same in every step of this network, which sees one scale of the image. It is written, and
            # counted, as the recurrence has it; compilers compute it once.
            labels = self.v(torch.tanh(self.u(images) + self.w(labels)))
        return labels


def recurrent_conv_demo(*, num_classes: int = 8, in_channels: int = 3) -> nn.Module:
    """Three steps of 7 x 7 kernels and 25 hidden maps: sizes of a demonstration, no published ones."""
    return RecurrentConv(25, 7, 3, num_classes=num_classes, in_channels=in_channels)
