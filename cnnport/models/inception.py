"""Inception.

- v1: Szegedy et al., arXiv:1409.4842
- v2: Ioffe and Szegedy, arXiv:1502.03167
- v3: Szegedy et al., arXiv:1512.00567
- v4 and Inception-ResNet: Szegedy et al., arXiv:1602.07261

Parameter names of googlenet and inception_v3 are those of torchvision's checkpoints.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor, nn

from cnnport.layers import LocalResponseNorm
from cnnport.models.inception_blocks import (
    After,
    AuxiliaryV1,
    AuxiliaryV3,
    Branches,
    InceptionA,
    InceptionB,
    InceptionC,
    InceptionD,
    InceptionE,
    Kernel,
    ModuleV1,
    ResidualModule,
    SplitEnd,
    biased_conv,
    chain,
    conv,
    pooled_projection,
)

_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")


class InceptionV1(nn.Module):
    """Table 1 of the paper.

    ``normalised``: torchvision's port with batch norm in place of local response normalization. It descends from
    TensorFlow's, which has 3 x 3 kernels in the 5 x 5 branch and a last pooling of 2 x 2. Otherwise: the network of
    the paper as Caffe's bvlc_googlenet has it. ``width`` scales the channels of every layer.
    """

    def __init__(
        self,
        *,
        normalised: bool,
        aux: bool,
        num_classes: int,
        in_channels: int,
        width: float = 1.0,
        stem_stride: int = 2,
    ) -> None:
        """``stem_stride``: of the first convolution, 1 for 32 x 32 images."""
        super().__init__()
        unit = conv if normalised else biased_conv
        large = 3 if normalised else 5

        def scaled(full: int) -> int:
            return max(1, round(full * width))

        stem, channels = scaled(64), scaled(192)

        def module(*widths: int) -> ModuleV1:
            nonlocal channels
            one, reduce3, three, reduce5, five, pooled = map(scaled, widths)
            made = ModuleV1(channels, (one, reduce3, three, reduce5, five, pooled), unit=unit, large=large)
            channels = one + three + five + pooled
            return made

        def auxiliary(inputs: int) -> AuxiliaryV1:
            pool = nn.AdaptiveAvgPool2d(4) if normalised else nn.AvgPool2d(5, stride=3)
            return AuxiliaryV1(pool, unit(inputs, 128, 1), num_classes)

        self.conv1 = unit(in_channels, stem, 7, stride=stem_stride)
        self.maxpool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.norm1 = nn.Identity() if normalised else LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
        self.conv2 = unit(stem, stem, 1)
        self.conv3 = unit(stem, channels, 3)
        self.norm2 = nn.Identity() if normalised else LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
        self.maxpool2 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.inception3a = module(64, 96, 128, 16, 32, 32)
        self.inception3b = module(128, 128, 192, 32, 96, 64)
        self.maxpool3 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.inception4a = module(192, 96, 208, 16, 48, 64)
        lower = channels
        self.inception4b = module(160, 112, 224, 24, 64, 64)
        self.inception4c = module(128, 128, 256, 24, 64, 64)
        self.inception4d = module(112, 144, 288, 32, 64, 64)
        upper = channels
        self.inception4e = module(256, 160, 320, 32, 128, 128)
        self.maxpool4 = nn.MaxPool2d(2 if normalised else 3, stride=2, ceil_mode=True)
        self.inception5a = module(256, 160, 320, 32, 128, 128)
        self.inception5b = module(384, 192, 384, 48, 128, 128)
        self.aux1 = auxiliary(lower) if aux else None
        self.aux2 = auxiliary(upper) if aux else None
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.2 if normalised else 0.4)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """Logits, N x classes, of N x channels x 224 x 224 images; in training also those of the auxiliary heads."""
        features = self.norm1(self.maxpool1(self.conv1(images)))
        features = self.maxpool2(self.norm2(self.conv3(self.conv2(features))))
        features = self.maxpool3(self.inception3b(self.inception3a(features)))
        lower = self.inception4a(features)
        upper = self.inception4d(self.inception4c(self.inception4b(lower)))
        features = self.maxpool4(self.inception4e(upper))
        features = self.inception5b(self.inception5a(features))
        logits: Tensor = self.fc(self.dropout(self.avgpool(features).flatten(1)))
        if self.training and self.aux1 is not None and self.aux2 is not None:
            return logits, self.aux1(lower), self.aux2(upper)
        return logits


@dataclass(frozen=True)
class _RowV2:
    """Output channels in a row of figure 5 of the paper; a row without 1 x 1 branch halves and has no projection."""

    one: int
    three: tuple[int, int]
    double: tuple[int, int]
    pooled: int

    @property
    def halves(self) -> bool:
        """Whether stride 2."""
        return self.one == 0

    def outputs(self, inputs: int) -> int:
        """Channels behind the concatenation."""
        return self.one + self.three[-1] + self.double[-1] + (inputs if self.halves else self.pooled)


_ROWS_V2 = (
    _RowV2(64, (64, 64), (64, 96), 32),
    _RowV2(64, (64, 96), (64, 96), 64),
    _RowV2(0, (128, 160), (64, 96), 0),
    _RowV2(224, (64, 96), (96, 128), 128),
    _RowV2(192, (96, 128), (96, 128), 128),
    _RowV2(160, (128, 160), (128, 160), 128),
    _RowV2(96, (128, 192), (160, 192), 128),
    _RowV2(0, (128, 192), (192, 256), 0),
    _RowV2(352, (192, 320), (160, 224), 128),
    _RowV2(352, (192, 320), (192, 224), 128),
)


class InceptionV2(nn.Module):
    """Figure 5 of the paper: two 3 x 3 in place of 5 x 5, and batch norm.

    ``caffe``: the released BN-Inception. Its convolutions keep their biases, though batch norm makes them redundant,
    and its halving pools begin at the first pixel and hang over the end; otherwise they are padded on both sides.
    ``after`` makes what follows every module, from its channels.
    """

    def __init__(
        self, *, caffe: bool, num_classes: int, in_channels: int, after: After = nn.Identity
    ) -> None:
        super().__init__()
        self.caffe = caffe
        layers = [
            self._chain(in_channels, (64,), (7,), stride=2),
            self._halving(),
            self._chain(64, (64, 192), (1, 3)),
            self._halving(),
        ]
        channels = 192
        for row in _ROWS_V2:
            pool = nn.MaxPool2d if row is _ROWS_V2[-1] else nn.AvgPool2d
            layers.append(self._module(channels, row, pool(3, stride=1, padding=1)))
            channels = row.outputs(channels)
            layers.append(after(channels))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)

    def _chain(
        self, inputs: int, widths: Sequence[int], kernels: Sequence[Kernel], stride: int = 1
    ) -> nn.Sequential:
        return chain(inputs, widths, kernels, stride=stride, eps=1e-5, bias=self.caffe)

    def _halving(self) -> nn.Module:
        return nn.MaxPool2d(3, stride=2, padding=0 if self.caffe else 1, ceil_mode=self.caffe)

    def _module(self, inputs: int, row: _RowV2, pool: nn.Module) -> nn.Module:
        stride = 2 if row.halves else 1
        three = self._chain(inputs, row.three, (1, 3), stride)
        double = self._chain(inputs, (*row.double, row.double[-1]), (1, 3, 3), stride)
        if row.halves:
            return Branches(three, double, self._halving())
        projection = nn.Sequential(pool, self._chain(inputs, (row.pooled,), (1,)))
        return Branches(self._chain(inputs, (row.one,), (1,)), three, double, projection)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, N x classes, of N x channels x height x width images."""
        return self.fc(self.avgpool(self.features(images)).flatten(1))


def _stem_v3(in_channels: int) -> tuple[nn.Module, nn.Module, nn.Module, nn.Module, nn.Module, nn.Module]:
    """299 x 299 images to 192 x 71 x 71 features; Inception-ResNet begins in the same way."""
    return (
        conv(in_channels, 32, 3, stride=2, padded=False),
        conv(32, 32, 3, padded=False),
        conv(32, 64, 3),
        nn.MaxPool2d(3, stride=2),
        conv(64, 80, 1),
        conv(80, 192, 3, padded=False),
    )


class InceptionV3(nn.Module):
    """Table 1 of the paper with the module widths of the released network."""

    def __init__(self, *, aux: bool, num_classes: int, in_channels: int) -> None:
        super().__init__()
        stem = _stem_v3(in_channels)
        self.Conv2d_1a_3x3, self.Conv2d_2a_3x3, self.Conv2d_2b_3x3 = stem[:3]
        self.maxpool1, self.Conv2d_3b_1x1, self.Conv2d_4a_3x3 = stem[3:]
        self.maxpool2 = nn.MaxPool2d(3, stride=2)
        self.Mixed_5b = InceptionA(192, pooled=32)
        self.Mixed_5c = InceptionA(256, pooled=64)
        self.Mixed_5d = InceptionA(288, pooled=64)
        self.Mixed_6a = InceptionB(288)
        self.Mixed_6b = InceptionC(768, width=128)
        self.Mixed_6c = InceptionC(768, width=160)
        self.Mixed_6d = InceptionC(768, width=160)
        self.Mixed_6e = InceptionC(768, width=192)
        self.AuxLogits = AuxiliaryV3(768, num_classes) if aux else None
        self.Mixed_7a = InceptionD(768)
        self.Mixed_7b = InceptionE(1280)
        self.Mixed_7c = InceptionE(2048)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(2048, num_classes)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Logits, N x classes, of N x channels x 299 x 299 images; in training also those of the auxiliary head."""
        features = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(images)))
        features = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(self.maxpool1(features)))
        features = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(self.maxpool2(features))))
        features = self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(features)))
        middle = self.Mixed_6e(self.Mixed_6d(features))
        features = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(middle)))
        logits: Tensor = self.fc(self.dropout(self.avgpool(features).flatten(1)))
        if self.training and self.AuxLogits is not None:
            return logits, self.AuxLogits(middle)
        return logits


class Classifier(nn.Module):
    """Features, global average, dropout of 0.2 as the paper of v4 has it, and ``output`` on the ``channels``."""

    def __init__(self, features: nn.Module, output: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.2)
        self.fc = output

    def forward(self, images: Tensor) -> Tensor:
        """Logits, N x classes, of N x channels x height x width images."""
        return self.fc(self.dropout(self.avgpool(self.features(images)).flatten(1)))


def _stem_v4(in_channels: int, asymmetric: tuple[Kernel, Kernel], eps: float = 1e-3) -> nn.Sequential:
    """Figure 3 of the paper, 299 x 299 images to 384 x 35 x 35; the figure has 7 x 1 first, the release last."""
    longer = chain(160, (64, 64, 64, 96), (1, *asymmetric, 3), padded=False, eps=eps)
    return nn.Sequential(
        conv(in_channels, 32, 3, stride=2, padded=False, eps=eps),
        conv(32, 32, 3, padded=False, eps=eps),
        conv(32, 64, 3, eps=eps),
        Branches(nn.MaxPool2d(3, stride=2), conv(64, 96, 3, stride=2, padded=False, eps=eps)),
        Branches(chain(160, (64, 96), (1, 3), padded=False, eps=eps), longer),
        Branches(conv(192, 192, 3, stride=2, padded=False, eps=eps), nn.MaxPool2d(3, stride=2)),
    )


def _a_v4() -> nn.Module:
    """Figure 4: 384 x 35 x 35 to the same."""
    return Branches(
        conv(384, 96, 1),
        chain(384, (64, 96), (1, 3)),
        chain(384, (64, 96, 96), (1, 3, 3)),
        pooled_projection(384, 96),
    )


def _b_v4() -> nn.Module:
    """Figure 5: 1024 x 17 x 17 to the same."""
    return Branches(
        conv(1024, 384, 1),
        chain(1024, (192, 224, 256), (1, (1, 7), (7, 1))),
        chain(1024, (192, 192, 224, 224, 256), (1, (7, 1), (1, 7), (7, 1), (1, 7))),
        pooled_projection(1024, 128),
    )


def _c_v4() -> nn.Module:
    """Figure 6: 1536 x 8 x 8 to the same."""
    return Branches(
        conv(1536, 256, 1),
        SplitEnd(conv(1536, 384, 1), 384, 256),
        SplitEnd(chain(1536, (384, 448, 512), (1, (3, 1), (1, 3))), 512, 256),
        pooled_projection(1536, 256),
    )


def _reduction(
    inputs: int,
    widths: Sequence[Sequence[int]],
    kernels: Sequence[Sequence[Kernel]],
    *,
    pool_first: bool = False,
    eps: float = 1e-3,
) -> nn.Module:
    """Chains whose last convolution has stride 2, and the maximum of the input; the papers' figures begin with it."""
    chains = [
        chain(inputs, each, sizes, stride=2, padded=False, eps=eps)
        for each, sizes in zip(widths, kernels, strict=True)
    ]
    pool = nn.MaxPool2d(3, stride=2)
    return Branches(pool, *chains) if pool_first else Branches(*chains, pool)


def _features_v4(in_channels: int) -> nn.Module:
    """Figure 9 without its head: 299 x 299 images to 1536 x 8 x 8."""
    return nn.Sequential(
        _stem_v4(in_channels, ((1, 7), (7, 1))),
        *(_a_v4() for _ in range(4)),
        _reduction(384, ((384,), (192, 224, 256)), ((3,), (1, 3, 3))),
        *(_b_v4() for _ in range(7)),
        _reduction(1024, ((192, 192), (256, 256, 320, 320)), ((1, 3), (1, (1, 7), (7, 1), 3))),
        *(_c_v4() for _ in range(3)),
    )


@dataclass(frozen=True)
class _ResidualPlan:
    """What the Inception-ResNets differ in: widths of all branches, blocks in a stage, and how it was written down.

    ``released``: the last block is linear and unscaled and a reduction's pooling lies last, as in TensorFlow's
    networks; otherwise as the figures show.
    """

    depths: tuple[int, int, int]
    a: Sequence[Sequence[int]]
    reduction_a: Sequence[Sequence[int]]
    b: Sequence[Sequence[int]]
    reduction_b: Sequence[Sequence[int]]
    c: Sequence[Sequence[int]]
    released: bool = True
    eps: float = 1e-3


_RESNET_V1 = _ResidualPlan(
    depths=(5, 10, 6),
    a=((32,), (32, 32), (32, 32, 32)),
    reduction_a=((384,), (192, 192, 256)),
    b=((128,), (128, 128, 128)),
    reduction_b=((256, 384), (256, 256), (256, 256, 256)),
    c=((192,), (192, 192, 192)),
)
_RESNET_V2 = _ResidualPlan(
    depths=(10, 20, 10),
    a=((32,), (32, 32), (32, 48, 64)),
    reduction_a=((384,), (256, 256, 384)),
    b=((192,), (128, 160, 192)),
    reduction_b=((256, 384), (256, 288), (256, 288, 320)),
    c=((192,), (192, 224, 256)),
)
_RESNET_V2_PAPER = replace(_RESNET_V2, depths=(5, 10, 5), released=False, eps=1e-5)


def _residual_stages(channels: int, plan: _ResidualPlan, after: After = nn.Identity) -> tuple[nn.Module, int]:
    """The three stages behind a stem of ``channels``, 35 x 35 to 8 x 8, and their output channels.

    The scales of the residuals are those of TensorFlow's network; the paper says 0.1 to 0.3.
    """
    block = partial(ResidualModule, after=after, eps=plan.eps)
    reduction = partial(_reduction, pool_first=not plan.released, eps=plan.eps)
    depth_a, depth_b, depth_c = plan.depths

    layers: list[nn.Module] = [block(channels, plan.a, (1, 3, 3), scale=0.17) for _ in range(depth_a)]
    layers.append(reduction(channels, plan.reduction_a, ((3,), (1, 3, 3))))
    channels += sum(widths[-1] for widths in plan.reduction_a)
    layers += [block(channels, plan.b, (1, (1, 7), (7, 1)), scale=0.1) for _ in range(depth_b)]
    layers.append(reduction(channels, plan.reduction_b, ((1, 3), (1, 3), (1, 3, 3))))
    channels += sum(widths[-1] for widths in plan.reduction_b)
    kernels_c: tuple[Kernel, ...] = (1, (1, 3), (3, 1))
    layers += [block(channels, plan.c, kernels_c, scale=0.2) for _ in range(depth_c - 1)]
    end = plan.released
    layers.append(block(channels, plan.c, kernels_c, scale=1.0 if end else 0.2, linear=end))
    return nn.Sequential(*layers), channels


def inception_v1(*, num_classes: int = 1000, in_channels: int = 3, aux: bool = False) -> nn.Module:
    """GoogLeNet as in the paper: biases, local response normalization, 5 x 5 convolutions."""
    return InceptionV1(normalised=False, aux=aux, num_classes=num_classes, in_channels=in_channels)


def googlenet(*, num_classes: int = 1000, in_channels: int = 3, aux: bool = False) -> nn.Module:
    """GoogLeNet of torchvision: batch norm, 3 x 3 convolutions for the 5 x 5 ones; pixels scaled to -1..1."""
    return InceptionV1(normalised=True, aux=aux, num_classes=num_classes, in_channels=in_channels)


def digits_inception(*, num_classes: int = 10, in_channels: int = 1) -> nn.Module:
    """GoogLeNet with batch norm for 32 x 32 images, a tenth of the width."""
    return InceptionV1(
        normalised=True, aux=False, width=0.1, stem_stride=1, num_classes=num_classes, in_channels=in_channels
    )


def inception_v2(*, num_classes: int = 1000, in_channels: int = 3, after: After = nn.Identity) -> nn.Module:
    """BN-Inception as released for Caffe; ``after`` as in InceptionV2."""
    return InceptionV2(caffe=True, num_classes=num_classes, in_channels=in_channels, after=after)


def inception_v2_paper(
    *, num_classes: int = 1000, in_channels: int = 3, after: After = nn.Identity
) -> nn.Module:
    """BN-Inception as printed; ``after`` as in InceptionV2."""
    return InceptionV2(caffe=False, num_classes=num_classes, in_channels=in_channels, after=after)


def inception_v3(*, num_classes: int = 1000, in_channels: int = 3, aux: bool = False) -> nn.Module:
    """Inception v3 of torchvision; pixels scaled to -1..1."""
    return InceptionV3(aux=aux, num_classes=num_classes, in_channels=in_channels)


def inception_v4(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """Inception v4."""
    return Classifier(_features_v4(in_channels), nn.Linear(1536, num_classes))


def inception_resnet_v1(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """Inception-ResNet v1 with the 512-dimensional embedding that FaceNet's implementation has before the logits."""
    stem = nn.Sequential(*_stem_v3(in_channels), conv(192, 256, 3, stride=2, padded=False))
    stages, channels = _residual_stages(256, _RESNET_V1)
    embedding = nn.Sequential(nn.Linear(channels, 512, bias=False), nn.BatchNorm1d(512, eps=1e-3))
    return Classifier(nn.Sequential(stem, stages), nn.Sequential(*embedding, nn.Linear(512, num_classes)))


def inception_resnet_v2(
    *, num_classes: int = 1000, in_channels: int = 3, after: After = nn.Identity
) -> nn.Module:
    """Inception-ResNet v2 as released for TensorFlow; ``after`` makes what every residual goes through."""
    mixed = Branches(
        conv(192, 96, 1),
        chain(192, (48, 64), (1, 5)),
        chain(192, (64, 96, 96), (1, 3, 3)),
        pooled_projection(192, 64),
    )
    stem = nn.Sequential(*_stem_v3(in_channels), nn.MaxPool2d(3, stride=2), mixed)
    stages, channels = _residual_stages(320, _RESNET_V2, after)
    return Classifier(nn.Sequential(stem, stages, conv(channels, 1536, 1)), nn.Linear(1536, num_classes))


def inception_resnet_v2_paper(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """Inception-ResNet v2 as printed: stem of v4, 5, 10 and 5 blocks."""
    stem = _stem_v4(in_channels, ((7, 1), (1, 7)), eps=_RESNET_V2_PAPER.eps)
    stages, channels = _residual_stages(384, _RESNET_V2_PAPER)
    return Classifier(nn.Sequential(stem, stages), nn.Linear(channels, num_classes))


def rename_keys(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the auxiliary heads of the published checkpoints, which the networks have only while training."""
    return {name: value for name, value in state.items() if not name.startswith(_AUXILIARY)}
