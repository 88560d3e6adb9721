"""What networks of the zoo are made for: inputs, classes, pictures, names."""

from dataclasses import dataclass

from cnnport.preprocess import Preprocess, imagenet


@dataclass(frozen=True)
class Task:
    """What a network was made for: shape of each of its inputs, classes, pictures, and names."""

    input_shape: tuple[int, int, int]
    classes: int
    preprocess: Preprocess | None = None
    labels: str | None = None
    input_names: tuple[str, ...] = ("input",)


def _imagenet(size: int, resize: int) -> Task:
    return Task((3, size, size), 1000, imagenet(size, resize), "imagenet")


def _cifar(classes: int, size: int = 32, resize: int | None = None) -> Task:
    preprocess = Preprocess(
        (size, size), resize, "bilinear", (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    )
    return Task((3, size, size), classes, preprocess, f"cifar{classes}")


IMAGENET = _imagenet(224, 256)
IMAGENET_227 = _imagenet(227, 256)
IMAGENET_256 = _imagenet(256, 256)
IMAGENET_384 = _imagenet(384, 384)
# Inceptions were trained on pixels from -1 to 1. torchvision feeds its own two as the others and undoes that within
# the network (transform_input); here the preprocessing says what they want.
_HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
GOOGLENET = Task((3, 224, 224), 1000, Preprocess((224, 224), 256, "bilinear", *_HALVES), "imagenet")
INCEPTION_V3 = Task((3, 299, 299), 1000, Preprocess((299, 299), 342, "bilinear", *_HALVES), "imagenet")
INCEPTION = Task((3, 299, 299), 1000, Preprocess((299, 299), 342, "bicubic", *_HALVES), "imagenet")
CIFAR10 = _cifar(10)
CIFAR10_CROP = _cifar(10, 24, 32)
CIFAR100 = _cifar(100)
MNIST = Task(
    (1, 28, 28), 10, Preprocess((28, 28), None, "bilinear", (0.1307,), (0.3081,), background=0), "digits"
)
# Mean and standard deviation are those of the training split of cnnport.digits at this size.
DIGITS = Task(
    (1, 32, 32), 10, Preprocess((32, 32), None, "bilinear", (0.3054,), (0.3238,), background=0), "digits"
)
# One class a pixel; pictures of segmentation data sets have no one preprocessing.
VOC_64 = Task((3, 64, 64), 21)
VOC_224 = Task((3, 224, 224), 21)
VOC_520 = Task((3, 520, 520), 21)
SCENE_64 = Task((3, 64, 64), 8)
# Several pictures at once: are they of one class?
PAIR_28 = Task((1, 28, 28), 1, input_names=("left", "right"))
PAIR_105 = Task((1, 105, 105), 1, input_names=("left", "right"))
TRIPLE_GREY = Task((1, 32, 32), 2, input_names=("anchor", "positive", "negative"))
TRIPLE_RGB = Task((3, 32, 32), 2, input_names=("anchor", "positive", "negative"))
