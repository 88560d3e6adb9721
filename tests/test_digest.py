"""Definitions against the digests that were written down, and that a changed one does not get by."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from cnnport import registry
from cnnport.digest import Digests, digests_of, outputs_sha256
from cnnport.errors import ModelError
from cnnport.models.densenet import DenseBlock

# What half a minute of one core suffices for. `make golden` checks all of them.
CHEAP_MACS = 150_000_000
CHEAP = [spec for spec in registry.specs() if spec.macs < CHEAP_MACS]


def _golden_outputs() -> ModuleType:
    path = Path(__file__).with_name("golden_outputs.py")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


golden_outputs = _golden_outputs()
GOLDEN: dict[str, Digests] = golden_outputs.read(golden_outputs.GOLDEN)


def test_every_network_has_digests_of_its_own() -> None:
    assert tuple(GOLDEN) == registry.names()
    shared = [name for name, digests in GOLDEN.items() if list(GOLDEN.values()).count(digests) > 1]
    # In inference, dropout on the shortcuts is no operation.
    assert shared == ["resnet110_cifar10", "resnet110_dropout_shortcut_cifar10"]


@pytest.mark.parametrize("spec", CHEAP, ids=lambda spec: spec.name)
def test_weights_and_outputs_are_those_of_the_golden_file(spec: registry.ModelSpec) -> None:
    assert digests_of(spec) == GOLDEN[spec.name]


def changed(name: str, change: Callable[[nn.Module], None]) -> Digests:
    spec = registry.get(name)

    def build(**arguments: int) -> nn.Module:
        module = spec.build(**arguments)
        change(module)
        return module

    return digests_of(replace(spec, builder=build))


def move_stride(module: nn.Module) -> None:
    block = module.get_submodule("layer2.0")
    block.conv1.stride, block.conv2.stride = (1, 1), (2, 2)


def change_last_eps(module: nn.Module) -> None:
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    norms[-1].eps = 1e-6


def leak(module: nn.Module) -> None:
    names = [name for name, layer in module.named_modules() if isinstance(layer, nn.ReLU)]
    module.set_submodule(names[-1], nn.LeakyReLU(1e-3))


def dilate(module: nn.Module) -> None:
    module[0].dilation, module[0].padding = (2, 2), (4, 4)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("resnet20_cifar10", move_stride),
        ("resnet20_cifar10", change_last_eps),
        ("mobilenet_v1_x0_25", leak),
        ("local_cifar11", dilate),
    ],
)
def test_a_changed_definition_is_noticed(name: str, change: Callable[[nn.Module], None]) -> None:
    assert golden_outputs.difference(GOLDEN[name], changed(name, change))


def test_a_change_behind_all_weights_shows_in_the_outputs_alone() -> None:
    found = changed("resnet20_cifar10", change_last_eps)
    assert found.weights == GOLDEN["resnet20_cifar10"].weights
    assert golden_outputs.difference(GOLDEN["resnet20_cifar10"], found) == "the outputs differ"


def newest_first(block: DenseBlock, features: torch.Tensor) -> torch.Tensor:
    maps = [features]
    for layer in block:
        maps.append(layer(*maps))
    return torch.cat(maps[::-1], dim=1)


def test_another_order_of_a_concatenation_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DenseBlock, "forward", newest_first)
    name = "densenet_b40_k12_cifar10"
    assert golden_outputs.difference(GOLDEN[name], digests_of(registry.get(name)))


def test_kernels_of_an_older_processor_give_the_same() -> None:
    program = """
import json, sys, torch
from dataclasses import asdict
from cnnport import registry
from cnnport.digest import digests_of
torch.set_num_threads(1)
print(json.dumps({name: asdict(digests_of(registry.get(name))) for name in sys.argv[1:]}))
"""
    names = ("resnet20_cifar10", "highway_mnist_16", "siamese_lenet", "hfs_concat_cifar10")
    older = {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE"}
    text = subprocess.check_output([sys.executable, "-c", program, *names], text=True, env=os.environ | older)
    assert {name: Digests(**row) for name, row in json.loads(text).items()} == {
        name: GOLDEN[name] for name in names
    }


MAPS = np.random.Generator(np.random.PCG64(1)).normal(size=(1, 21, 90, 91))
LOGITS = MAPS[0, :10, :1, 0].T


@pytest.mark.parametrize("values", [MAPS, LOGITS], ids=["maps", "logits"])
def test_rounding_does_not_change_a_digest_and_a_change_does(values: np.ndarray) -> None:
    digest = outputs_sha256({"y": values})
    noise = 1e-15 * np.random.Generator(np.random.PCG64(2)).normal(size=values.shape)
    assert outputs_sha256({"y": values + noise}) == digest
    one, exchanged = values.copy(), values.copy()
    one[0, 3] += 1e-3
    exchanged[0, 3], exchanged[0, 4] = values[0, 4], values[0, 3]
    others = [
        *({"y": other} for other in (one, exchanged, values * (1 + 1e-7), values.swapaxes(0, 1))),
        {"z": values},
        {"y": values, "z": values},
        {},
    ]
    found = {outputs_sha256(other) for other in others}
    assert len(found) == len(others)
    assert digest not in found


def test_outputs_of_zeros_and_of_nothing_have_digests_but_nan_has_none() -> None:
    assert outputs_sha256({"y": np.zeros((1, 3))}) != outputs_sha256({"y": np.zeros((0, 3))})
    with pytest.raises(ModelError, match="'y' holds NaN or infinity"):
        outputs_sha256({"y": np.array([1.0, np.inf])})


def test_the_golden_file_is_checked_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, name = tmp_path / "golden.json", "lenet_300_100"
    golden_outputs.write(path, {name: Digests(GOLDEN[name].weights, "0"), "lenet5": GOLDEN["lenet5"]})
    assert golden_outputs.main([name, "--file", str(path)]) == 1
    assert f"{name}: the outputs differ" in capsys.readouterr().out
    assert golden_outputs.main([name, "--write", "--file", str(path)]) == 0
    assert golden_outputs.read(path) == {each: GOLDEN[each] for each in ("lenet5", name)}
    other = replace(GOLDEN[name], weights="0")
    assert golden_outputs.difference(other, GOLDEN[name]) == "the seeded weights differ"
    assert golden_outputs.difference(None, GOLDEN[name]) == "not in the file"
    assert golden_outputs.main(["no_such*", "--file", str(path)]) == 1
