"""Seeded weights: the same bits whatever the threads and the process, and networks that behave."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cnnport import random_weights, registry
from cnnport.errors import ModelError, WeightsError
from cnnport.models.convnext import ConvNeXt
from cnnport.random_weights import randomize
from cnnport.registry import ModelSpec
from cnnport.weights import state_sha256

# Fixed on purpose: a seed that starts to mean other weights breaks every golden output of a random export.
GOLDEN = {
    "lenet5": "4b7b43c17cc534e2f7cc9b530521ecc2105bd21233bec22f5c98ef158398973b",
    "shufflenet_v2_x0_5": "1c94fb20558cb58c9b914599a4def5768c0720f7e5b63be2d0004ba82c2f6dd6",
    "mobilenet_v1_x0_25": "3d4359563e434dddc3d7e5f4daedaab5adc3569eae7a6cdc5591497ed544a4f9",
}


def made(name: str, seed: int = 0) -> nn.Module:
    spec = registry.get(name)
    module = spec.build()
    randomize(module, seed, spec.input_shape, len(spec.input_names))
    return module


def inputs(shape: tuple[int, int, int]) -> dict[str, Tensor]:
    """White noise, and smooth pictures that differ in their large structures: 4 of each."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(4, *shape, generator=generator)
    coarse = torch.randn(4, shape[0], 5, 5, generator=generator) * 1.5
    return {"noise": noise, "smooth": nn.functional.interpolate(coarse, shape[1:], mode="bilinear")}


# One or two a family; calibrating all of the zoo takes most of an hour. Networks that end in the average of a map
# for each class (NIN, SqueezeNet) answer all white noise alike, whatever their weights, and are left out.
CLASSIFIERS = (
    *("lenet5", "alexnet_owt", "vgg11_bn", "resnet18", "resnet50", "resnet110_cifar10", "densenet121"),
    *("densenet_bc100_k12_cifar10", "mobilenet_v1_x0_25", "mobilenet_v1_x1_0", "mobilenet_v2"),
    *("shufflenet_v1_g3", "shufflenet_v2_x0_5", "shufflenet_v2_x1_0"),
)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_logits_are_sane_and_tell_inputs_apart(name: str) -> None:
    module = made(name)
    assert not module.training
    for kind, images in inputs(registry.get(name).input_shape).items():
        with torch.no_grad():
            logits = module(images)
        assert torch.isfinite(logits).all(), kind
        deviation = logits.std(dim=1)
        assert deviation.min() > 0.1, kind
        assert deviation.max() < 30, kind
        correlation = np.corrcoef(logits.numpy()) - np.eye(4)
        assert correlation.max() < 0.995, kind


@pytest.mark.parametrize("name", ["lenet5", "resnet18", "shufflenet_v2_x1_0"])
def test_rounding_is_not_enlarged(name: str) -> None:
    """What makes comparisons of runtimes mean something: float32 differs from float64 by little."""
    module = made(name)
    images = inputs(registry.get(name).input_shape)["noise"]
    with torch.no_grad():
        single = module(images)
        double = module.double()(images.double())
    assert (single - double).abs().max() < 1e-4 * double.std()


def test_the_same_seed_gives_the_same_bits_whatever_the_process_threads_and_kernels() -> None:
    program = """
import json, sys, torch
torch.set_num_threads(int(sys.argv[1]))
torch.manual_seed(int(sys.argv[1]))
from cnnport import registry
from cnnport.random_weights import randomize
from cnnport.weights import state_sha256
hashes = {}
for name in sys.argv[2:]:
    spec = registry.get(name)
    module = spec.build()
    randomize(module, 0, spec.input_shape)
    hashes[name] = state_sha256(module)
assert torch.get_num_threads() == int(sys.argv[1])
print(json.dumps(hashes))
"""
    # The second process computes with the kernels of an older processor, whose sums differ in their last bits.
    older = {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE"}
    found = [
        json.loads(
            subprocess.check_output(
                [sys.executable, "-c", program, threads, *GOLDEN], text=True, env=os.environ | kernels
            )
        )
        for threads, kernels in (("1", {}), ("2", older))
    ]
    assert found == [GOLDEN, GOLDEN]


def test_another_seed_gives_other_weights() -> None:
    hashes = {state_sha256(made("lenet5", seed)) for seed in (0, 1, 2**40)}
    assert len(hashes) == 3


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(WeightsError, match="from 0 on, not -1"):
        made("lenet5", -1)


def test_what_was_there_before_does_not_matter() -> None:
    module = made("mobilenet_v1_x0_25", 3)
    randomize(module, 0, (3, 224, 224))
    assert state_sha256(module) == GOLDEN["mobilenet_v1_x0_25"]


def test_the_global_random_state_is_left_alone() -> None:
    module = registry.get("mobilenet_v1_x0_25").build()
    before, before_numpy = torch.get_rng_state(), np.random.get_state()[1]
    randomize(module, 0, (3, 64, 64))
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], before_numpy)


def test_weights_are_he_uniform_up_to_a_power_of_two() -> None:
    weight = made("resnet18").get_parameter("layer1.0.conv1.weight")
    bound = (6 / (64 * 9)) ** 0.5
    assert 0.99 * bound < weight.abs().max() <= bound
    assert abs(weight.mean()) < 0.01 * bound
    assert abs(weight.std() - bound / 3**0.5) < 0.01 * bound


def test_batch_norms_are_calibrated_and_visible() -> None:
    module = made("shufflenet_v2_x0_5")
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        assert norm.momentum == 0.1
        assert norm.num_batches_tracked is not None
        assert norm.num_batches_tracked.item() == 0
        assert norm.running_var is not None
        assert norm.running_var.min() > 0
        for parameter in (norm.weight, norm.bias):
            assert parameter.min() >= 0.5
            assert parameter.max() <= 1.5
            assert parameter.unique().numel() == parameter.numel()


def test_calibrated_batch_norms_normalise_what_they_see() -> None:
    module = made("mobilenet_v1_x0_25")
    seen = []
    last = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)][-1]
    last.register_forward_hook(lambda layer, _, output: seen.append(output - layer.bias.view(1, -1, 1, 1)))
    with torch.no_grad():
        module(inputs((3, 224, 224))["smooth"])
    assert abs(seen[0].mean()) < 0.5
    assert 0.5 < seen[0].std() < 2


class Shared(nn.Module):
    """One layer called twice, a branch that is not run, layers of other kinds, a channel that never moves."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.still = nn.BatchNorm2d(8)
        self.again = nn.Conv2d(8, 8, 3, padding=1)
        self.unused = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8))
        self.up = nn.ConvTranspose2d(8, 8, 2, stride=2, groups=2)
        self.plain = nn.BatchNorm2d(8, affine=False)
        self.current = nn.BatchNorm2d(8, track_running_stats=False)
        self.drop = nn.Dropout(0.5)
        self.scale = nn.Parameter(torch.tensor(1e-6))
        self.mix = nn.Parameter(torch.randn(1, 8, 8))
        self.group = nn.GroupNorm(2, 8)
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))
        self.head = nn.Linear(8, 4)

    def forward(self, images: Tensor) -> Tensor:
        features = self.norm(self.first(images)) * torch.tensor([0.0] + [1.0] * 7).view(1, 8, 1, 1)
        features = self.still(features)
        features = self.again(self.again(features).relu())
        features = self.group(self.current(self.plain(self.up(features))))
        pooled = self.drop(features * self.scale).mean((2, 3))
        logits: Tensor = self.head(self.normed(pooled) + pooled @ self.mix[0])
        return logits


def test_unusual_networks_are_served() -> None:
    hashes = set()
    for seed in (5, 6):
        torch.manual_seed(seed)
        module = Shared()
        randomize(module, 0, (3, 16, 16))
        hashes.add(state_sha256(module))
        assert 0.125 <= module.scale <= 0.375
        assert 0.5 <= module.group.weight.min() < module.group.weight.max() <= 1.5
        assert 0.5 < module.mix.abs().max() <= (6 / 8) ** 0.5
        assert module.get_buffer("unused.1.running_var").eq(1).all()
        variances = module.get_buffer("still.running_var")
        assert variances[0] > 0.009 * variances.mean()
        assert module(torch.randn(2, 3, 16, 16)).isfinite().all()
        assert all(value.dtype == torch.float32 for value in module.parameters())
        assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in module.modules())
    assert len(hashes) == 1


# The layers of a family are those of its smallest network.
SMALLEST = {spec.family: spec for spec in sorted(registry.specs(), key=lambda spec: -spec.params)}


@pytest.mark.parametrize("spec", SMALLEST.values(), ids=SMALLEST)
def test_every_parameter_is_drawn(spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """None is left to the constructor, which may take it from torch's random state or make a branch vanish."""
    filled = []
    monkeypatch.setattr(random_weights, "_fill", lambda parameter, *_, **__: filled.append(id(parameter)))
    with torch.device("meta"):
        module = spec.build()
    random_weights._draw(module, 0)
    assert set(filled) == {id(parameter) for parameter in module.parameters()}
    assert len(filled) == len(set(filled))


@pytest.mark.parametrize("name", ["lenet5_1998", "capsnet_mnist_norecon", "aa_mobilenet_v2"])
def test_nothing_is_left_of_torchs_random_state(name: str) -> None:
    spec, states = registry.get(name), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        module = spec.build()
        random_weights._draw(module, 0)
        states.append(state_sha256(module))
    assert states[0] == states[1]


@pytest.mark.parametrize("residual", [0, 2])
def test_a_fault_in_one_block_of_convnext_shows(residual: int) -> None:
    """As its constructor leaves it, layer scale hides the blocks: no comparison could tell such a fault."""

    def effect(*, drawn: bool) -> float:
        torch.manual_seed(0)
        module = ConvNeXt(8, (1, 1, 3, 1), 0.0, num_classes=10, in_channels=3)
        if drawn:
            randomize(module, 0, (3, 64, 64))
        images = inputs((3, 64, 64))["noise"]
        block = module.features[5][residual].block
        with torch.no_grad():
            right = module(images)
            block[3].weight.mul_(1.5)
            return float((module(images) - right).abs().max() / right.std())

    assert effect(drawn=True) > 1e-2
    assert effect(drawn=False) < 1e-4


def test_lengths_of_capsules_lie_within_0_and_1_and_tell_inputs_apart() -> None:
    module = made("capsnet_mnist_norecon")
    for images in inputs((1, 28, 28)).values():
        with torch.no_grad():
            lengths = module(images)
        assert lengths.min() > 0.05
        assert lengths.max() < 0.8
        assert (lengths[0] - lengths[1]).abs().max() > 0.05
    # As the matrices' shape alone would have it, every capsule is all but certain.
    module.routing.predict.fan_in = None
    randomize(module, 0, (1, 28, 28))
    with torch.no_grad():
        assert module(images).min() > 0.9


def test_a_network_whose_features_never_move_does_not_explode() -> None:
    module = nn.Sequential(nn.Conv2d(1, 4, 1, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 3))
    dead = nn.Sequential(nn.Threshold(1e9, 0.0), module)
    randomize(dead, 0, (1, 4, 4))
    assert dead(torch.randn(2, 1, 4, 4)).isfinite().all()
    assert module[1].running_var.eq(1).all()
    assert module[3].weight.abs().max() < 1


class TwoStems(nn.Module):
    """Each input has a norm of its own, and then a layer that both pass."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.both = nn.BatchNorm2d(3), nn.BatchNorm2d(3), nn.Linear(48, 2)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        logits: Tensor = self.both(self.left(left).flatten(1)) - self.both(self.right(right).flatten(1))
        return logits


def test_several_inputs_are_calibrated_with_different_images() -> None:
    module, again = TwoStems(), TwoStems()
    randomize(module, 0, (3, 4, 4), 2)
    randomize(again, 0, (3, 4, 4), 2)
    assert state_sha256(module) == state_sha256(again)
    assert module.left.running_mean is not None
    assert module.right.running_mean is not None
    assert module.left.running_mean.ne(0).all()
    assert module.left.running_mean.ne(module.right.running_mean).all()


class Single(nn.Module):
    """Insists on float32, as networks do that normalise pictures themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(12, 3)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(images.flatten(1).to(torch.float32))
        return logits


def test_networks_that_insist_on_float32_are_served() -> None:
    module, again = Single(), Single()
    randomize(module, 0, (3, 2, 2))
    randomize(again, 0, (3, 2, 2))
    assert state_sha256(module) == state_sha256(again)
    assert module.head.weight.dtype == torch.float32


def test_an_input_that_the_network_cannot_process_is_named() -> None:
    with pytest.raises(
        ModelError, match=r"cannot run on 1x32x32 inputs: layer conv1 .* takes 3 channels, not 1"
    ):
        randomize(registry.get("resnet18").build(), 0, (1, 32, 32))
