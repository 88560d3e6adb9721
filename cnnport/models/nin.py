"""Network in Network. Lin, Chen and Yan, arXiv:1312.4400."""

from torch import nn

from cnnport.layers import conv_relu


def _mlpconv(
    inputs: int, widths: tuple[int, int, int], kernel: int, *, stride: int = 1, padding: int | None = None
) -> list[nn.Module]:
    """A convolution and two of 1 x 1: a small perceptron that slides over the image, figure 1(b)."""
    first, second, third = widths
    return [
        *conv_relu(inputs, first, kernel, stride=stride, padding=padding),
        *conv_relu(first, second, 1),
        *conv_relu(second, third, 1),
    ]


def _class_averages() -> list[nn.Module]:
    """Global average pooling in the place of linear layers, section 3.2: one map a class, one number a map."""
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten()]


def _cifar(num_classes: int, in_channels: int) -> nn.Module:
    """Three blocks with dropout between them; pooling as in pytorchcv's checkpoints."""
    return nn.Sequential(
        *_mlpconv(in_channels, (192, 160, 96), 5),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.Dropout(0.5),
        *_mlpconv(96, (192, 192, 192), 5),
        nn.AvgPool2d(3, stride=2, padding=1),
        nn.Dropout(0.5),
        *_mlpconv(192, (192, 192, num_classes), 3),
        *_class_averages(),
    )


def nin_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """Network in Network for CIFAR-10."""
    return _cifar(num_classes, in_channels)


def nin_cifar100(*, num_classes: int = 100, in_channels: int = 3) -> nn.Module:
    """Network in Network for CIFAR-100."""
    return _cifar(num_classes, in_channels)


def nin_imagenet(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """Network in Network for ImageNet, as its authors put it into Caffe's model zoo."""
    return nn.Sequential(
        *_mlpconv(in_channels, (96, 96, 96), 11, stride=4, padding=0),
        nn.MaxPool2d(3, stride=2),
        *_mlpconv(96, (256, 256, 256), 5),
        nn.MaxPool2d(3, stride=2),
        *_mlpconv(256, (384, 384, 384), 3),
        nn.MaxPool2d(3, stride=2),
        nn.Dropout(0.5),
        *_mlpconv(384, (1024, 1024, num_classes), 3),
        *_class_averages(),
    )
