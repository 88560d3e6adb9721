"""LeNet. LeCun, Bottou, Bengio and Haffner, Gradient-Based Learning Applied to Document Recognition, 1998."""

from torch import nn


def lenet5(*, num_classes: int = 10, in_channels: int = 1) -> nn.Module:
    """LeNet-5 as it is read today: full C3, sub-sampling without parameters, linear output.

    Sigmoids follow the convolutions. Input: N x 1 x 32 x 32.
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, 6, 5),
        nn.Sigmoid(),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.Sigmoid(),
        nn.AvgPool2d(2),
        nn.Conv2d(16, 120, 5),
        nn.Sigmoid(),
        nn.Flatten(),
        nn.Linear(120, 84),
        nn.Sigmoid(),
        nn.Linear(84, num_classes),
    )
