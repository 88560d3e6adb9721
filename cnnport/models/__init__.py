"""The catalogue: every network of the zoo, one line each, with the facts that tests hold it to.

A network is one function of its name in the family's module and one line here. The counts are golden: parameters
of the whole network, multiply-adds of its convolutions and matrix products for one input of native size.
"""

from cnnport.models import papers, tasks
from cnnport.preprocess import imagenet
from cnnport.registry import ModelSpec, OfficialWeights, Paper


def _net(
    name: str,
    family: str,
    task: tasks.Task,
    params: int,
    macs: int,
    paper: Paper,
    weights: OfficialWeights | None = None,
    *,
    resize: int | None = None,
    aliases: tuple[str, ...] = (),
    output: tuple[int, ...] | None = None,
    params_with_aux: int | None = None,
    output_name: str = "logits",
    any_size: bool = False,
) -> ModelSpec:
    preprocess = imagenet(task.input_shape[1], resize) if resize else task.preprocess
    return ModelSpec(
        name,
        family,
        task.input_shape,
        task.classes,
        params,
        macs,
        paper,
        preprocess,
        weights,
        task.labels,
        aliases,
        output or (task.classes,),
        params_with_aux,
        task.input_names,
        output_name,
        any_size,
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


def _digits(filename: str, sha256: str, top1: float) -> OfficialWeights:
    # Made by examples/train_digits.py.
    return OfficialWeights(filename, sha256, top1, "500 held-out scans of scikit-learn's handwritten digits")


# fmt: off
CATALOGUE: tuple[ModelSpec, ...] = (
    # lenet
    _net("lenet5", "lenet", tasks.DIGITS, 61_706, 416_520, papers.LENET, _digits("lenet5_digits.safetensors", "803991a9af21d3f35db21085ba9a4b430e24bfcb8a87faa2e4be504ad09133b0", 99.4)),
    _net("lenet5_1998", "lenet", tasks.DIGITS, 60_000, 325_680, papers.LENET),
    _net("lenet5_caffe", "lenet", tasks.MNIST, 431_080, 2_293_000, papers.DEEP_COMPRESSION),
    _net("lenet_300_100", "lenet", tasks.MNIST, 266_610, 266_200, papers.DEEP_COMPRESSION),
    # alexnet
    _net("alexnet", "alexnet", tasks.IMAGENET_227, 60_965_224, 724_406_816, papers.ALEXNET, aliases=("alexnet_grouped",)),
    _net("alexnet_ungrouped", "alexnet", tasks.IMAGENET_227, 62_378_344, 1_135_256_096, papers.ALEXNET),
    _net("alexnet_owt", "alexnet", tasks.IMAGENET, 61_100_840, 714_188_480, papers.ONE_WEIRD_TRICK, _torchvision("alexnet-owt-7be5be79.pth", 56.522)),
    _net("alexnet_dense", "alexnet", tasks.IMAGENET_256, 60_965_224, 859_226_240, papers.ALEXNET, output=(1000, 1, 1), any_size=True),
    # zfnet
    _net("zfnet", "zfnet", tasks.IMAGENET, 62_357_608, 1_168_032_896, papers.ZFNET),
    _net("zfnet_b", "zfnet", tasks.IMAGENET, 107_627_624, 2_476_704_896, papers.ZFNET),
    # vgg
    _net("vgg11", "vgg", tasks.IMAGENET, 132_863_336, 7_609_090_048, papers.VGG, _torchvision("vgg11-8a719046.pth", 69.02), aliases=("vgg_a",)),
    _net("vgg11_bn", "vgg", tasks.IMAGENET, 132_868_840, 7_609_090_048, papers.VGG, _torchvision("vgg11_bn-6002323d.pth", 70.37)),
    _net("vgg13", "vgg", tasks.IMAGENET, 133_047_848, 11_308_466_176, papers.VGG, _torchvision("vgg13-19584684.pth", 69.928), aliases=("vgg_b",)),
    _net("vgg13_bn", "vgg", tasks.IMAGENET, 133_053_736, 11_308_466_176, papers.VGG, _torchvision("vgg13_bn-abd245e5.pth", 71.586)),
    _net("vgg16", "vgg", tasks.IMAGENET, 138_357_544, 15_470_264_320, papers.VGG, _torchvision("vgg16-397923af.pth", 71.592), aliases=("vgg_d",)),
    _net("vgg16_bn", "vgg", tasks.IMAGENET, 138_365_992, 15_470_264_320, papers.VGG, _torchvision("vgg16_bn-6c64b313.pth", 73.36)),
    _net("vgg19", "vgg", tasks.IMAGENET, 143_667_240, 19_632_062_464, papers.VGG, _torchvision("vgg19-dcbb9e9d.pth", 72.376), aliases=("vgg_e",)),
    _net("vgg19_bn", "vgg", tasks.IMAGENET, 143_678_248, 19_632_062_464, papers.VGG, _torchvision("vgg19_bn-c79401a0.pth", 74.218)),
    _net("vgg11_lrn", "vgg", tasks.IMAGENET, 132_863_336, 7_609_090_048, papers.VGG, aliases=("vgg_a_lrn",)),
    _net("vgg16_1x1", "vgg", tasks.IMAGENET, 133_638_952, 11_770_888_192, papers.VGG, aliases=("vgg_c",)),
    _net("vgg16_dense", "vgg", tasks.IMAGENET_384, 138_357_544, 49_551_114_240, papers.VGG, output=(1000, 6, 6), any_size=True),
    # nin
    _net("nin_cifar10", "nin", tasks.CIFAR10, 966_986, 222_486_528, papers.NIN),
    _net("nin_cifar100", "nin", tasks.CIFAR100, 984_356, 223_592_448, papers.NIN),
    _net("nin_imagenet", "nin", tasks.IMAGENET, 7_595_176, 969_460_864, papers.NIN),
    # prelu_net
    _net("prelu_net_a", "prelu_net", tasks.IMAGENET, 178_023_882, 19_058_106_368, papers.PRELU),
    _net("prelu_net_b", "prelu_net", tasks.IMAGENET, 183_334_858, 23_219_904_512, papers.PRELU),
    _net("prelu_net_c", "prelu_net", tasks.IMAGENET, 330_615_754, 53_463_130_112, papers.PRELU),
    # spp
    _net("spp_zf5", "spp", tasks.IMAGENET, 77_037_672, 1_338_941_440, papers.SPP, any_size=True),
    # fcn
    _net("fcn32s_vgg16", "fcn", tasks.VOC_224, 136_152_917, 59_660_538_624, papers.FCN, output=(21, 224, 224), any_size=True),
    _net("fcn16s_vgg16", "fcn", tasks.VOC_224, 134_815_994, 59_695_247_760, papers.FCN, output=(21, 224, 224), any_size=True),
    _net("fcn8s_vgg16", "fcn", tasks.VOC_224, 134_489_759, 59_726_493_072, papers.FCN, output=(21, 224, 224), any_size=True),
    _net("fcn_resnet50", "fcn", tasks.VOC_520, 32_957_013, 142_725_772_800, papers.FCN, output=(21, 520, 520), params_with_aux=35_322_218, any_size=True),
    _net("fcn_resnet101", "fcn", tasks.VOC_520, 51_949_141, 222_746_867_200, papers.FCN, output=(21, 520, 520), params_with_aux=54_314_346, any_size=True),
    # inception
    _net("inception_v1", "inception", tasks.IMAGENET, 6_998_552, 1_582_671_872, papers.INCEPTION_V1, aliases=("googlenet_caffe",), params_with_aux=13_378_280),
    _net("googlenet", "inception", tasks.GOOGLENET, 6_624_904, 1_498_376_192, papers.INCEPTION_V1, _torchvision("googlenet-1378be20.pth", 69.778), params_with_aux=13_004_888),
    _net("digits_inception", "inception", tasks.DIGITS, 58_243, 1_405_460, papers.INCEPTION_V1, _digits("digits_inception.safetensors", "10400f30e0469ca4bc98a4c855e9cc5c56e02dfe4732becdfa7ab25112db9490", 99)),
    _net("inception_v2", "inception", tasks.IMAGENET, 11_295_240, 2_032_600_064, papers.INCEPTION_V2, aliases=("bn_inception",)),
    _net("inception_v2_paper", "inception", tasks.IMAGENET, 11_285_224, 2_032_600_064, papers.INCEPTION_V2),
    _net("inception_v3", "inception", tasks.INCEPTION_V3, 23_834_568, 5_713_216_096, papers.INCEPTION_V3, _torchvision("inception_v3_google-0cc3c7bd.pth", 77.294), params_with_aux=27_161_264),
    _net("inception_v4", "inception", tasks.INCEPTION, 42_679_816, 12_253_974_624, papers.INCEPTION_V4),
    _net("inception_resnet_v1", "inception", tasks.INCEPTION, 23_995_624, 6_308_235_360, papers.INCEPTION_V4),
    _net("inception_resnet_v2", "inception", tasks.INCEPTION, 55_843_464, 13_155_794_016, papers.INCEPTION_V4),
    _net("inception_resnet_v2_paper", "inception", tasks.INCEPTION, 32_433_928, 9_257_953_632, papers.INCEPTION_V4),
    # xception
    _net("xception", "xception", tasks.INCEPTION, 22_855_952, 8_357_403_496, papers.XCEPTION),
    # highway
    _net("highway_mnist_16", "highway", tasks.MNIST, 38_730, 10_726_560, papers.HIGHWAY),
    _net("highway_mnist_32", "highway", tasks.MNIST, 151_178, 42_677_568, papers.HIGHWAY),
    _net("highway_mlp_10", "highway", tasks.MNIST, 80_560, 79_700, papers.HIGHWAY),
    # resnet
    _net("resnet18", "resnet", tasks.IMAGENET, 11_689_512, 1_814_073_344, papers.RESNET, _torchvision("resnet18-f37072fd.pth", 69.758)),
    _net("resnet34", "resnet", tasks.IMAGENET, 21_797_672, 3_663_761_408, papers.RESNET, _torchvision("resnet34-b627a593.pth", 73.314)),
    _net("resnet50", "resnet", tasks.IMAGENET, 25_557_032, 4_089_184_256, papers.RESNET, _torchvision("resnet50-11ad3fa6.pth", 80.858), resize=232),
    _net("resnet101", "resnet", tasks.IMAGENET, 44_549_160, 7_801_405_440, papers.RESNET, _torchvision("resnet101-cd907fc2.pth", 81.886), resize=232),
    _net("resnet152", "resnet", tasks.IMAGENET, 60_192_808, 11_513_626_624, papers.RESNET, _torchvision("resnet152-f82ba261.pth", 82.284), resize=232),
    _net("resnet200", "resnet", tasks.IMAGENET, 64_673_832, 15_007_481_856, papers.PREACT),
    _net("plain18", "resnet", tasks.IMAGENET, 11_515_688, 1_794_805_760, papers.RESNET),
    _net("plain34", "resnet", tasks.IMAGENET, 21_623_848, 3_644_493_824, papers.RESNET),
    _net("resnet34_a", "resnet", tasks.IMAGENET, 21_623_848, 3_644_493_824, papers.RESNET),
    _net("resnet34_c", "resnet", tasks.IMAGENET, 22_716_840, 3_830_747_136, papers.RESNET),
    _net("resnet20_cifar10", "resnet", tasks.CIFAR10, 269_722, 40_551_040, papers.RESNET),
    _net("resnet32_cifar10", "resnet", tasks.CIFAR10, 464_154, 68_862_592, papers.RESNET),
    _net("resnet44_cifar10", "resnet", tasks.CIFAR10, 658_586, 97_174_144, papers.RESNET),
    _net("resnet56_cifar10", "resnet", tasks.CIFAR10, 853_018, 125_485_696, papers.RESNET),
    _net("resnet110_cifar10", "resnet", tasks.CIFAR10, 1_727_962, 252_887_680, papers.RESNET),
    _net("resnet1202_cifar10", "resnet", tasks.CIFAR10, 19_421_274, 2_829_238_912, papers.RESNET),
    _net("plain20_cifar10", "resnet", tasks.CIFAR10, 269_722, 40_551_040, papers.RESNET),
    _net("plain56_cifar10", "resnet", tasks.CIFAR10, 853_018, 125_485_696, papers.RESNET),
    _net("digits_resnet", "resnet", tasks.DIGITS, 29_574, 4_313_248, papers.RESNET, _digits("digits_resnet.safetensors", "acfc981ba325caa43aa71312bb5bc3f8fcf2349ab9d893f9b614142597efd02a", 98.8)),
    # preact
    _net("resnet110_const_scale_cifar10", "preact", tasks.CIFAR10, 1_727_962, 252_887_680, papers.PREACT),
    _net("resnet110_excl_gate_cifar10", "preact", tasks.CIFAR10, 1_826_746, 267_043_456, papers.PREACT),
    _net("resnet110_shortcut_gate_cifar10", "preact", tasks.CIFAR10, 1_826_746, 267_043_456, papers.PREACT),
    _net("resnet110_conv_shortcut_cifar10", "preact", tasks.CIFAR10, 1_823_450, 266_519_168, papers.PREACT),
    _net("resnet110_dropout_shortcut_cifar10", "preact", tasks.CIFAR10, 1_727_962, 252_887_680, papers.PREACT),
    _net("resnet110_bn_after_add_cifar10", "preact", tasks.CIFAR10, 1_727_962, 252_887_680, papers.PREACT),
    _net("resnet110_relu_before_add_cifar10", "preact", tasks.CIFAR10, 1_727_962, 252_887_680, papers.PREACT),
    _net("resnet110_relu_only_preact_cifar10", "preact", tasks.CIFAR10, 1_727_962, 252_887_680, papers.PREACT),
    _net("preact_resnet18", "preact", tasks.IMAGENET, 11_687_848, 1_814_073_344, papers.PREACT),
    _net("preact_resnet34", "preact", tasks.IMAGENET, 21_796_008, 3_663_761_408, papers.PREACT),
    _net("preact_resnet50", "preact", tasks.IMAGENET, 25_549_480, 3_857_973_248, papers.PREACT),
    _net("preact_resnet101", "preact", tasks.IMAGENET, 44_541_608, 7_570_194_432, papers.PREACT),
    _net("preact_resnet152", "preact", tasks.IMAGENET, 60_185_256, 11_282_415_616, papers.PREACT),
    _net("preact_resnet200", "preact", tasks.IMAGENET, 64_666_280, 14_776_270_848, papers.PREACT),
    _net("preact_resnet110_cifar10", "preact", tasks.CIFAR10, 1_727_994, 252_887_680, papers.PREACT),
    _net("preact_resnet164_cifar10", "preact", tasks.CIFAR10, 1_703_258, 247_646_720, papers.PREACT),
    _net("preact_resnet1001_cifar10", "preact", tasks.CIFAR10, 10_327_706, 1_490_995_712, papers.PREACT),
    # resnext
    _net("resnext50_2x40d", "resnext", tasks.IMAGENET, 25_425_000, 4_124_508_160, papers.RESNEXT),
    _net("resnext50_4x24d", "resnext", tasks.IMAGENET, 25_292_968, 4_159_832_064, papers.RESNEXT),
    _net("resnext50_8x14d", "resnext", tasks.IMAGENET, 25_603_016, 4_267_409_408, papers.RESNEXT),
    _net("resnext50_32x4d", "resnext", tasks.IMAGENET, 25_028_904, 4_230_479_872, papers.RESNEXT, _torchvision("resnext50_32x4d-1a0047aa.pth", 81.198), resize=232),
    _net("resnext101_2x40d", "resnext", tasks.IMAGENET, 44_456_296, 7_843_553_280, papers.RESNEXT),
    _net("resnext101_4x24d", "resnext", tasks.IMAGENET, 44_363_432, 7_885_701_120, papers.RESNEXT),
    _net("resnext101_8x14d", "resnext", tasks.IMAGENET, 45_104_328, 8_076_871_680, papers.RESNEXT),
    _net("resnext101_32x4d", "resnext", tasks.IMAGENET, 44_177_704, 7_969_996_800, papers.RESNEXT),
    _net("resnext101_32x8d", "resnext", tasks.IMAGENET, 88_791_336, 16_414_015_488, papers.RESNEXT, _torchvision("resnext101_32x8d-110c445d.pth", 82.834), resize=232),
    _net("resnext101_64x4d", "resnext", tasks.IMAGENET, 83_455_272, 15_460_270_080, papers.RESNEXT, _torchvision("resnext101_64x4d-173b62eb.pth", 83.246), resize=232),
    _net("resnext29_8x64d_cifar10", "resnext", tasks.CIFAR10, 34_426_698, 5_387_266_048, papers.RESNEXT),
    _net("resnext29_16x64d_cifar10", "resnext", tasks.CIFAR10, 68_155_210, 10_688_866_304, papers.RESNEXT),
    _net("resnext29_32x4d_cifar10", "resnext", tasks.CIFAR10, 4_775_754, 774_055_936, papers.RESNEXT),
    # stochastic_depth
    _net("resnet110_sd_cifar10", "stochastic_depth", tasks.CIFAR10, 1_727_962, 252_887_680, papers.STOCHASTIC_DEPTH),
    _net("resnet110_sd_cifar100", "stochastic_depth", tasks.CIFAR100, 1_733_812, 252_893_440, papers.STOCHASTIC_DEPTH),
    _net("resnet1202_sd_cifar10", "stochastic_depth", tasks.CIFAR10, 19_421_274, 2_829_238_912, papers.STOCHASTIC_DEPTH),
    _net("resnet152_sd", "stochastic_depth", tasks.IMAGENET, 60_192_808, 11_513_626_624, papers.STOCHASTIC_DEPTH),
    _net("resnet20_sd_cifar10", "stochastic_depth", tasks.CIFAR10, 272_474, 40_813_184, papers.STOCHASTIC_DEPTH),
    # wide_resnet
    _net("wide_resnet50_2", "wide_resnet", tasks.IMAGENET, 68_883_240, 11_398_021_120, papers.WIDE_RESNET, _torchvision("wide_resnet50_2-9ba9bcbe.pth", 81.602), resize=232),
    _net("wide_resnet101_2", "wide_resnet", tasks.IMAGENET, 126_886_696, 22_753_050_624, papers.WIDE_RESNET, _torchvision("wide_resnet101_2-d733dc28.pth", 82.51), resize=232),
    _net("wrn16_8_cifar10", "wide_resnet", tasks.CIFAR10, 10_961_370, 1_548_145_664, papers.WIDE_RESNET),
    _net("wrn16_10_cifar10", "wide_resnet", tasks.CIFAR10, 17_116_634, 2_412_173_568, papers.WIDE_RESNET),
    _net("wrn22_8_cifar10", "wide_resnet", tasks.CIFAR10, 17_158_106, 2_454_115_328, papers.WIDE_RESNET),
    _net("wrn28_10_cifar10", "wide_resnet", tasks.CIFAR10, 36_479_194, 5_243_328_768, papers.WIDE_RESNET),
    _net("wrn28_12_cifar10", "wide_resnet", tasks.CIFAR10, 52_517_850, 7_543_905_792, papers.WIDE_RESNET),
    _net("wrn40_1_cifar10", "wide_resnet", tasks.CIFAR10, 563_930, 83_280_512, papers.WIDE_RESNET),
    _net("wrn40_2_cifar10", "wide_resnet", tasks.CIFAR10, 2_243_546, 327_599_360, papers.WIDE_RESNET),
    _net("wrn40_4_cifar10", "wide_resnet", tasks.CIFAR10, 8_949_210, 1_298_582_016, papers.WIDE_RESNET),
    _net("wrn40_8_cifar10", "wide_resnet", tasks.CIFAR10, 35_748_314, 5_172_024_320, papers.WIDE_RESNET),
    _net("wrn28_10_cifar100", "wide_resnet", tasks.CIFAR100, 36_536_884, 5_243_386_368, papers.WIDE_RESNET),
    # rir
    _net("rir_cifar10", "rir", tasks.CIFAR10, 9_492_980, 1_279_279_104, papers.RIR),
    _net("rir_cifar100", "rir", tasks.CIFAR100, 9_527_720, 1_281_490_944, papers.RIR),
    # senet
    _net("se_resnet18", "senet", tasks.IMAGENET, 11_778_592, 1_814_160_384, papers.SENET),
    _net("se_resnet34", "senet", tasks.IMAGENET, 21_958_868, 3_663_918_592, papers.SENET),
    _net("se_resnet50", "senet", tasks.IMAGENET, 28_088_024, 3_860_488_192, papers.SENET),
    _net("se_resnet101", "senet", tasks.IMAGENET, 49_326_872, 7_574_937_600, papers.SENET),
    _net("se_resnet152", "senet", tasks.IMAGENET, 66_821_848, 11_288_993_792, papers.SENET),
    _net("se_resnext50_32x4d", "senet", tasks.IMAGENET, 27_559_896, 4_232_994_816, papers.SENET),
    _net("se_resnext101_32x4d", "senet", tasks.IMAGENET, 48_955_416, 7_974_739_968, papers.SENET),
    _net("senet154", "senet", tasks.IMAGENET, 115_088_984, 20_688_363_520, papers.SENET),
    _net("se_vgg16_bn", "senet", tasks.IMAGENET, 138_596_784, 15_470_490_624, papers.SENET),
    _net("se_inception_v2", "senet", tasks.IMAGENET, 11_931_622, 2_033_239_424, papers.SENET),
    _net("se_inception_resnet_v2", "senet", tasks.INCEPTION, 64_387_444, 13_164_289_376, papers.SENET),
    _net("se_mobilenet_v1", "senet", tasks.IMAGENET, 4_718_044, 569_220_096, papers.SENET),
    _net("se_shufflenet_v1_g3", "senet", tasks.IMAGENET, 2_484_533, 138_071_088, papers.SENET),
    _net("digits_se_resnet", "senet", tasks.DIGITS, 30_797, 4_330_472, papers.SENET, _digits("digits_se_resnet.safetensors", "ec87440184bb7848098b91474bf3d813e33f1143b39a59ebf8fbc99e2d870779", 99.4)),
    # densenet
    _net("densenet121", "densenet", tasks.IMAGENET, 7_978_856, 2_834_161_664, papers.DENSENET, _torchvision("densenet121-a639ec97.pth", 74.434)),
    _net("densenet169", "densenet", tasks.IMAGENET, 14_149_480, 3_359_843_328, papers.DENSENET, _torchvision("densenet169-b2777c0a.pth", 75.6)),
    _net("densenet201", "densenet", tasks.IMAGENET, 20_013_928, 4_291_365_888, papers.DENSENET, _torchvision("densenet201-c1103571.pth", 76.896)),
    _net("densenet161", "densenet", tasks.IMAGENET, 28_681_000, 7_727_907_072, papers.DENSENET, _torchvision("densenet161-8d451a50.pth", 77.138)),
    _net("densenet264", "densenet", tasks.IMAGENET, 33_337_704, 5_751_653_376, papers.DENSENET),
    _net("densenet264_k48", "densenet", tasks.IMAGENET, 72_686_632, 12_850_693_632, papers.DENSENET_MEMORY),
    _net("densenet232_k48", "densenet", tasks.IMAGENET, 55_570_984, 10_119_129_600, papers.DENSENET_MEMORY),
    _net("densenet40_k12_cifar10", "densenet", tasks.CIFAR10, 1_019_722, 264_812_928, papers.DENSENET),
    _net("densenet100_k12_cifar10", "densenet", tasks.CIFAR10, 6_979_642, 1_769_516_448, papers.DENSENET),
    _net("densenet100_k24_cifar10", "densenet", tasks.CIFAR10, 27_249_082, 6_889_347_744, papers.DENSENET),
    _net("densenet_bc100_k12_cifar10", "densenet", tasks.CIFAR10, 769_162, 287_929_692, papers.DENSENET),
    _net("densenet_bc250_k24_cifar10", "densenet", tasks.CIFAR10, 15_324_406, 5_418_785_724, papers.DENSENET),
    _net("densenet_bc190_k40_cifar10", "densenet", tasks.CIFAR10, 25_624_430, 9_301_945_740, papers.DENSENET),
    _net("densenet_b40_k12_cifar10", "densenet", tasks.CIFAR10, 238_306, 82_499_856, papers.DENSENET),
    _net("densenet_c40_k12_cifar10", "densenet", tasks.CIFAR10, 578_090, 192_000_512, papers.DENSENET),
    _net("densenet_b100_k12_cifar10", "densenet", tasks.CIFAR10, 1_180_666, 363_222_816, papers.DENSENET),
    _net("densenet_c100_k12_cifar10", "densenet", tasks.CIFAR10, 4_013_370, 1_288_125_032, papers.DENSENET),
    _net("digits_densenet", "densenet", tasks.DIGITS, 21_002, 8_040_888, papers.DENSENET, _digits("digits_densenet.safetensors", "dfb9f5d54eb15472d978f87f3339a72a9058e31ca14cb9d4d957a5cbaa4eafa6", 99)),
    # squeezenet
    _net("squeezenet1_0", "squeezenet", tasks.IMAGENET, 1_248_424, 818_924_576, papers.SQUEEZENET, _torchvision("squeezenet1_0-b66bff10.pth", 58.092)),
    _net("squeezenet1_1", "squeezenet", tasks.IMAGENET, 1_235_496, 349_151_936, papers.SQUEEZENET, _torchvision("squeezenet1_1-b8a52dc0.pth", 58.178)),
    _net("squeezenet1_0_simple_bypass", "squeezenet", tasks.IMAGENET, 1_248_424, 818_924_576, papers.SQUEEZENET),
    _net("squeezenet1_0_complex_bypass", "squeezenet", tasks.IMAGENET, 1_589_672, 1_165_298_720, papers.SQUEEZENET),
    _net("digits_squeezenet", "squeezenet", tasks.DIGITS, 47_034, 1_521_664, papers.SQUEEZENET, _digits("digits_squeezenet.safetensors", "1aa16c3342a94ac206f97227b3e7fd3f87cd684181171b34989083397bd8c05a", 99.2)),
    # mobilenet
    _net("mobilenet_v1_x1_0", "mobilenet", tasks.IMAGENET, 4_231_976, 568_740_352, papers.MOBILENET_V1, aliases=("mobilenet_v1",)),
    _net("mobilenet_v1_x0_75", "mobilenet", tasks.IMAGENET, 2_585_560, 325_400_448, papers.MOBILENET_V1),
    _net("mobilenet_v1_x0_5", "mobilenet", tasks.IMAGENET, 1_331_592, 149_497_088, papers.MOBILENET_V1),
    _net("mobilenet_v1_x0_25", "mobilenet", tasks.IMAGENET, 470_072, 41_030_272, papers.MOBILENET_V1),
    _net("digits_mobilenet_v1", "mobilenet", tasks.DIGITS, 58_698, 903_680, papers.MOBILENET_V1, _digits("digits_mobilenet_v1.safetensors", "223c89b405c86f901b1e258a0bfae3b5613b7345ea39c7759cbf2e643f542b70", 98.8)),
    _net("mobilenet_v2_x0_5", "mobilenet", tasks.IMAGENET, 1_968_680, 97_131_840, papers.MOBILENET_V2),
    _net("mobilenet_v2_x0_75", "mobilenet", tasks.IMAGENET, 2_636_424, 209_069_792, papers.MOBILENET_V2),
    _net("mobilenet_v2", "mobilenet", tasks.IMAGENET, 3_504_872, 300_774_272, papers.MOBILENET_V2, _torchvision("mobilenet_v2-7ebf99e0.pth", 72.154), resize=232),
    _net("mobilenet_v2_x1_4", "mobilenet", tasks.IMAGENET, 6_108_776, 582_195_824, papers.MOBILENET_V2),
    _net("digits_mobilenet_v2", "mobilenet", tasks.DIGITS, 64_074, 1_839_680, papers.MOBILENET_V2, _digits("digits_mobilenet_v2.safetensors", "28cbc703aac13c489cc14156c5523d6f148ce580ab5770d3c747dc1b3aef8f98", 98.2)),
    _net("mobilenet_v3_large", "mobilenet", tasks.IMAGENET, 5_483_032, 216_589_760, papers.MOBILENET_V3, _torchvision("mobilenet_v3_large-5c1a4163.pth", 75.274), resize=232),
    _net("mobilenet_v3_small", "mobilenet", tasks.IMAGENET, 2_542_856, 56_510_400, papers.MOBILENET_V3, _torchvision("mobilenet_v3_small-047dcff4.pth", 67.668)),
    # shufflenet
    _net("shufflenet_v1_g1", "shufflenet", tasks.IMAGENET, 1_531_936, 143_078_976, papers.SHUFFLENET_V1),
    _net("shufflenet_v1_g2", "shufflenet", tasks.IMAGENET, 1_733_848, 140_836_512, papers.SHUFFLENET_V1),
    _net("shufflenet_v1_g3", "shufflenet", tasks.IMAGENET, 1_865_728, 137_460_672, papers.SHUFFLENET_V1, aliases=("shufflenet_v1",)),
    _net("shufflenet_v1_g4", "shufflenet", tasks.IMAGENET, 1_968_344, 134_339_776, papers.SHUFFLENET_V1),
    _net("shufflenet_v1_g8", "shufflenet", tasks.IMAGENET, 2_434_768, 138_365_952, papers.SHUFFLENET_V1),
    _net("shufflenet_v1_g1_x0_5", "shufflenet", tasks.IMAGENET, 534_484, 38_517_408, papers.SHUFFLENET_V1),
    _net("shufflenet_v1_g3_x0_5", "shufflenet", tasks.IMAGENET, 718_324, 37_589_856, papers.SHUFFLENET_V1),
    _net("shufflenet_v1_g1_x0_25", "shufflenet", tasks.IMAGENET, 209_746, 11_003_184, papers.SHUFFLENET_V1),
    _net("shufflenet_v1_g3_x0_25", "shufflenet", tasks.IMAGENET, 305_902, 11_009_808, papers.SHUFFLENET_V1),
    _net("shufflenet_v1_g3_x1_5", "shufflenet", tasks.IMAGENET, 3_441_168, 292_443_552, papers.SHUFFLENET_V1),
    _net("shufflenet_v1_g3_x2_0", "shufflenet", tasks.IMAGENET, 5_449_776, 524_045_184, papers.SHUFFLENET_V1),
    _net("shufflenet_v1_g8_x0_5", "shufflenet", tasks.IMAGENET, 1_010_448, 40_469_760, papers.SHUFFLENET_V1),
    _net("shufflenet_v1_g8_x1_5", "shufflenet", tasks.IMAGENET, 4_268_952, 290_188_800, papers.SHUFFLENET_V1),
    _net("shufflenet_v1_g8_x2_0", "shufflenet", tasks.IMAGENET, 6_521_232, 521_942_016, papers.SHUFFLENET_V1),
    _net("digits_shufflenet_v1", "shufflenet", tasks.DIGITS, 45_286, 601_728, papers.SHUFFLENET_V1, _digits("digits_shufflenet_v1.safetensors", "5e93bcdf2f02d5b1f13685993c7bef3cd503bdd5ab01b43576a6c905250b208e", 98.6)),
    _net("shufflenet_v2_x0_5", "shufflenet", tasks.IMAGENET, 1_366_792, 40_476_448, papers.SHUFFLENET_V2, _torchvision("shufflenetv2_x0.5-f707e7126e.pth", 60.552)),
    _net("shufflenet_v2_x1_0", "shufflenet", tasks.IMAGENET, 2_278_604, 144_907_992, papers.SHUFFLENET_V2, _torchvision("shufflenetv2_x1-5666bf0f80.pth", 69.362), aliases=("shufflenet_v2",)),
    _net("shufflenet_v2_x1_5", "shufflenet", tasks.IMAGENET, 3_503_624, 295_759_392, papers.SHUFFLENET_V2, _torchvision("shufflenetv2_x1_5-3c479a10.pth", 72.996), resize=232),
    _net("shufflenet_v2_x2_0", "shufflenet", tasks.IMAGENET, 7_393_996, 583_253_464, papers.SHUFFLENET_V2, _torchvision("shufflenetv2_x2_0-8be3c8ee.pth", 76.23), resize=232),
    _net("digits_shufflenet_v2", "shufflenet", tasks.DIGITS, 53_362, 640_832, papers.SHUFFLENET_V2, _digits("digits_shufflenet_v2.safetensors", "6c0112979341f7bb58bd7cf9d38e66435f27f0d583510537882fb2aea0bdb3ed", 100)),
    # capsnet
    _net("capsnet_mnist", "capsnet", tasks.MNIST, 8_215_568, 201_793_536, papers.CAPSNET, output_name="lengths"),
    _net("capsnet_mnist_norecon", "capsnet", tasks.MNIST, 6_804_224, 201_793_536, papers.CAPSNET, output_name="lengths"),
    _net("capsnet_cifar10", "capsnet", tasks.CIFAR10_CROP, 14_500_544, 188_137_472, papers.CAPSNET, output_name="lengths"),
    # siamese
    _net("siamese_koch", "siamese", tasks.PAIR_105, 38_951_745, 1_817_251_840, papers.SIAMESE),
    _net("siamese_lenet", "siamese", tasks.PAIR_28, 431_102, 4_586_040, papers.DRLIM, output_name="distance"),
    # triplet
    _net("triplet_cifar10", "triplet", tasks.TRIPLE_RGB, 505_088, 57_689_088, papers.TRIPLET, output_name="distances"),
    _net("triplet_mnist", "triplet", tasks.TRIPLE_GREY, 501_888, 50_162_688, papers.TRIPLET, output_name="distances"),
    # convnext
    _net("convnext_tiny", "convnext", tasks.IMAGENET, 28_589_128, 4_455_531_264, papers.CONVNEXT, _torchvision("convnext_tiny-983f1562.pth", 82.52), resize=236),
    _net("convnext_small", "convnext", tasks.IMAGENET, 50_223_688, 8_683_712_256, papers.CONVNEXT, _torchvision("convnext_small-0c510722.pth", 83.616), resize=230),
    _net("convnext_base", "convnext", tasks.IMAGENET, 88_591_464, 15_354_729_472, papers.CONVNEXT, _torchvision("convnext_base-6075fbad.pth", 84.062), resize=232),
    _net("convnext_large", "convnext", tasks.IMAGENET, 197_767_336, 34_361_433_600, papers.CONVNEXT, _torchvision("convnext_large-ea097f82.pth", 84.414), resize=232),
    _net("convnext_xlarge", "convnext", tasks.IMAGENET, 350_196_968, 60_921_030_656, papers.CONVNEXT),
    # blurpool
    _net("aa_alexnet", "blurpool", tasks.IMAGENET, 61_100_840, 924_441_792, papers.BLURPOOL),
    _net("aa_vgg16_bn", "blurpool", tasks.IMAGENET, 138_365_992, 15_494_750_208, papers.BLURPOOL),
    _net("aa_resnet18", "blurpool", tasks.IMAGENET, 11_689_512, 2_341_724_160, papers.BLURPOOL),
    _net("aa_resnet34", "blurpool", tasks.IMAGENET, 21_797_672, 4_191_412_224, papers.BLURPOOL),
    _net("aa_resnet50", "blurpool", tasks.IMAGENET, 25_557_032, 5_141_274_624, papers.BLURPOOL),
    _net("aa_resnet101", "blurpool", tasks.IMAGENET, 44_549_160, 8_853_495_808, papers.BLURPOOL),
    _net("aa_densenet121", "blurpool", tasks.IMAGENET, 7_978_856, 2_840_182_784, papers.BLURPOOL),
    _net("aa_mobilenet_v2", "blurpool", tasks.IMAGENET, 3_504_872, 321_406_016, papers.BLURPOOL),
    # local_conv
    _net("local_cifar11", "local_conv", tasks.CIFAR10_CROP, 2_112_970, 19_512_576, papers.LOCAL),
    _net("lenet5_local", "local_conv", tasks.DIGITS, 423_038, 416_520, papers.LOCAL),
    # tiled_conv
    _net("lenet5_tiled2", "tiled_conv", tasks.DIGITS, 69_422, 416_520, papers.TILED),
    # hdc
    _net("hdc_demo", "hdc", tasks.VOC_64, 48_021, 195_035_136, papers.HDC, output=(21, 64, 64), any_size=True),
    _net("resnet101_hdc", "hdc", tasks.VOC_224, 42_543_189, 33_959_919_616, papers.HDC, output=(21, 28, 28), any_size=True),
    # recurrent_conv
    _net("recurrent_conv_demo", "recurrent_conv", tasks.SCENE_64, 13_708, 127_897_600, papers.RECURRENT, output=(8, 64, 64), any_size=True),
    # maxout
    _net("maxout_cifar10", "maxout", tasks.CIFAR10, 11_927_830, 628_216_712, papers.MAXOUT),
    # twn
    _net("twn_lenet5", "twn", tasks.MNIST, 583_242, 4_267_008, papers.TWN),
    _net("twn_vgg7", "twn", tasks.CIFAR10, 12_980_106, 615_917_568, papers.TWN),
    _net("twn_resnet18", "twn", tasks.IMAGENET, 11_689_512, 1_814_073_344, papers.TWN),
    _net("twn_resnet18b", "twn", tasks.IMAGENET, 25_875_816, 3_866_327_040, papers.TWN),
    # lottery
    _net("lottery_conv2", "lottery", tasks.CIFAR10, 4_301_642, 43_780_608, papers.LOTTERY),
    _net("lottery_conv4", "lottery", tasks.CIFAR10, 2_425_930, 98_306_560, papers.LOTTERY),
    _net("lottery_conv6", "lottery", tasks.CIFAR10, 2_262_602, 153_881_088, papers.LOTTERY),
    _net("lottery_vgg19", "lottery", tasks.CIFAR10, 20_035_018, 398_136_320, papers.LOTTERY),
    # hfs
    _net("hfs_base_cifar10", "hfs", tasks.CIFAR10, 890_410, 15_167_872, papers.HFS),
    _net("hfs_branch_cifar10", "hfs", tasks.CIFAR10, 2_168_362, 26_579_968, papers.HFS),
    _net("hfs_concat_cifar10", "hfs", tasks.CIFAR10, 6_417_962, 44_930_048, papers.HFS),
    # shallow_deep
    _net("shallow_deep_resnet50", "shallow_deep", tasks.IMAGENET, 25_641_264, 4_328_824_832, papers.SHALLOW_DEEP),
)
# fmt: on
