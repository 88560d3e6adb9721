"""The catalogue: every network of the zoo, one line each, with the facts that tests hold it to.

A network is one function of its name in the family's module and one line here. The counts are golden: parameters
of the whole network, multiply-adds of its convolutions and matrix products for one input of native size.
"""

from cnnport.preprocess import Preprocess, imagenet
from cnnport.registry import ModelSpec, OfficialWeights, Paper

# Mean and standard deviation are those of the training split of cnnport.digits at this size.
DIGITS = Preprocess((32, 32), None, "bilinear", (0.3054,), (0.3238,), background=0)

LENET = Paper("Gradient-Based Learning Applied to Document Recognition", 1998)
RESNET = Paper("Deep Residual Learning for Image Recognition", 2015, "1512.03385")
DENSENET = Paper("Densely Connected Convolutional Networks", 2016, "1608.06993")
MOBILENET = Paper(
    "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications", 2017, "1704.04861"
)
SHUFFLENET_V2 = Paper(
    "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design", 2018, "1807.11164"
)


def _imagenet(
    name: str,
    family: str,
    params: int,
    macs: int,
    paper: Paper,
    weights: OfficialWeights | None = None,
    resize: int = 256,
    aliases: tuple[str, ...] = (),
) -> ModelSpec:
    return ModelSpec(
        name,
        family,
        (3, 224, 224),
        1000,
        params,
        macs,
        paper,
        imagenet(224, resize),
        weights,
        "imagenet",
        aliases,
    )


def _torchvision(filename: str, top1: float) -> OfficialWeights:
    # The publisher puts the first digits of the SHA-256 between the last dash and the ending.
    prefix = filename.removesuffix(".pth").rsplit("-", 1)[1]
    return OfficialWeights(
        f"https://download.pytorch.org/models/{filename}",
        prefix,
        top1,
        "ImageNet-1k validation, one crop, as published by torchvision",
    )


# fmt: off
CATALOGUE: tuple[ModelSpec, ...] = (
    ModelSpec("lenet5", "lenet", (1, 32, 32), 10, 61_706, 416_520, LENET, DIGITS, OfficialWeights("lenet5_digits.safetensors", "f164e7f7f1fdad801d9a8cdefcac1b18a871f0bbb17ce6ca90b5f3e6ef93ce78", 99.4, "500 held-out scans of the handwritten digits"), "digits"),
    _imagenet("resnet18", "resnet", 11_689_512, 1_814_073_344, RESNET, _torchvision("resnet18-f37072fd.pth", 69.758)),
    _imagenet("resnet34", "resnet", 21_797_672, 3_663_761_408, RESNET, _torchvision("resnet34-b627a593.pth", 73.314)),
    _imagenet("resnet50", "resnet", 25_557_032, 4_089_184_256, RESNET, _torchvision("resnet50-11ad3fa6.pth", 80.858), resize=232),
    _imagenet("densenet121", "densenet", 7_978_856, 2_834_161_664, DENSENET, _torchvision("densenet121-a639ec97.pth", 74.434)),
    _imagenet("mobilenet_v1_x0_25", "mobilenet", 470_072, 41_030_272, MOBILENET),
    _imagenet("mobilenet_v1_x0_5", "mobilenet", 1_331_592, 149_497_088, MOBILENET),
    _imagenet("mobilenet_v1_x0_75", "mobilenet", 2_585_560, 325_400_448, MOBILENET),
    _imagenet("mobilenet_v1_x1_0", "mobilenet", 4_231_976, 568_740_352, MOBILENET),
    _imagenet("shufflenet_v2_x0_5", "shufflenet", 1_366_792, 40_476_448, SHUFFLENET_V2, _torchvision("shufflenetv2_x0.5-f707e7126e.pth", 60.552)),
    _imagenet("shufflenet_v2_x1_0", "shufflenet", 2_278_604, 144_907_992, SHUFFLENET_V2, _torchvision("shufflenetv2_x1-5666bf0f80.pth", 69.362), aliases=("shufflenet_v2",)),
    _imagenet("shufflenet_v2_x1_5", "shufflenet", 3_503_624, 295_759_392, SHUFFLENET_V2, _torchvision("shufflenetv2_x1_5-3c479a10.pth", 72.996), resize=232),
    _imagenet("shufflenet_v2_x2_0", "shufflenet", 7_393_996, 583_253_464, SHUFFLENET_V2, _torchvision("shufflenetv2_x2_0-8be3c8ee.pth", 76.230), resize=232),
)
# fmt: on
