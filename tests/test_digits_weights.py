"""The networks that ship trained on the handwritten digits: files, recipes, accuracy on the 500 held-out scans."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor, nn

import train_digits
from cnnport import registry
from cnnport.artifact import Artifact
from cnnport.digits import load_digits
from cnnport.images import load_batch
from cnnport.models import tasks
from cnnport.runtimes import Options, get_runtime
from cnnport.weights import load_weights
from digits_recipes import RECIPES
from digits_training import accuracy, make_inputs

EXAMPLES = Path(__file__).parents[1] / "examples"
FOLDER = Path(train_digits.PACKAGED)
PREPROCESS = tasks.DIGITS.preprocess

LEAST_PERCENT = 98
# Layers with weights: no network here is a toy of its family, but LeNet-5 never had more.
LEAST_LAYERS = {
    "lenet5": 5,
    "digits_squeezenet": 26,
    "digits_inception": 58,
    "digits_resnet": 32,
    "digits_densenet": 40,
    "digits_mobilenet_v1": 28,
    "digits_mobilenet_v2": 53,
    "digits_shufflenet_v1": 50,
    "digits_shufflenet_v2": 57,
    "digits_se_resnet": 64,
}

each_network = pytest.mark.parametrize("name", RECIPES)


@pytest.fixture(scope="module")
def held_out() -> tuple[Tensor, Tensor]:
    digits = load_digits()
    assert PREPROCESS is not None
    return make_inputs(digits.test_images, PREPROCESS), torch.from_numpy(digits.test_labels)


@cache
def trained(name: str) -> nn.Module:
    """By the way that export takes, which checks the file's hash."""
    spec = registry.get(name)
    module = spec.build()
    loaded = load_weights(module, spec, "default", input_shape=spec.input_shape)
    assert (loaded.kind, loaded.warning) == ("default", None)
    return module


def test_the_networks_with_packaged_weights_are_those_with_recipes() -> None:
    shipped = {spec.name for spec in registry.specs() if spec.weights and spec.weights.is_packaged}
    assert shipped == set(RECIPES) == set(LEAST_LAYERS)
    files = {registry.get(name).weights.filename for name in RECIPES}
    assert files == {path.name for path in FOLDER.iterdir() if path.suffix == ".safetensors"}
    assert len({registry.get(name).family for name in RECIPES}) >= 8


@each_network
def test_the_task_is_the_digits(name: str) -> None:
    spec = registry.get(name)
    assert (spec.input_shape, spec.classes, spec.labels) == ((1, 32, 32), 10, "digits")
    assert spec.preprocess == PREPROCESS


@each_network
def test_it_is_as_deep_as_its_family(name: str) -> None:
    with torch.device("meta"):
        modules = list(registry.get(name).build().modules())
    assert sum(isinstance(module, nn.Conv2d | nn.Linear) for module in modules) >= LEAST_LAYERS[name]


@each_network
def test_the_file_is_the_catalogues_and_small(name: str) -> None:
    data = (FOLDER / registry.get(name).weights.filename).read_bytes()
    assert hashlib.sha256(data).hexdigest() == registry.get(name).weights.sha256
    assert len(data) < 300 * 1024


def test_the_files_are_small_together() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 2_200_000


@each_network
def test_the_file_was_made_by_the_recipe_of_today(name: str) -> None:
    """A recipe that is changed without training anew is noticed."""
    with safe_open(FOLDER / registry.get(name).weights.filename, "pt") as file:
        recorded = file.metadata()["recipe"]
    assert recorded == train_digits.described(RECIPES[name], 0)
    longer = replace(RECIPES[name], epochs=RECIPES[name].epochs + 1)
    assert recorded != train_digits.described(longer, 0)
    assert recorded != train_digits.described(RECIPES[name], 1)


@each_network
def test_held_out_accuracy_is_the_catalogues(name: str, held_out: tuple[Tensor, Tensor]) -> None:
    reached = accuracy(trained(name), *held_out)
    assert reached >= LEAST_PERCENT
    assert reached == pytest.approx(registry.get(name).weights.top1)


@each_network
def test_accuracy_without_the_training_is_chance(name: str, held_out: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(0)
    assert accuracy(registry.get(name).build().eval(), *held_out) < 40


@each_network
def test_accuracy_notices_permuted_channels(name: str, held_out: tuple[Tensor, Tensor]) -> None:
    """The outputs of one convolution in the middle, each in its neighbour's place."""
    module = registry.get(name).build().eval()
    module.load_state_dict(trained(name).state_dict())
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d) and layer.groups == 1]
    middle = layers[len(layers) // 2]
    middle.weight.data = middle.weight.data.roll(1, 0)
    assert accuracy(module, *held_out) < LEAST_PERCENT


@pytest.mark.parametrize("name", ["digits_shufflenet_v1", "digits_se_resnet"])
def test_the_exported_file_gives_the_same_answers(
    name: str, exported: Callable[[str], Artifact], held_out: tuple[Tensor, Tensor]
) -> None:
    inputs, labels = held_out
    with get_runtime("ort-cpu").open(exported(name), Options(threads=1)) as session:
        answers = session.run({"input": inputs.numpy()})["logits"].argmax(1)
    with torch.inference_mode():
        np.testing.assert_array_equal(answers, trained(name)(inputs).argmax(1).numpy())
    assert 100 * np.mean(answers == labels.numpy()) == pytest.approx(registry.get(name).weights.top1)


def test_shipped_scans_are_held_out_and_lenet5_reads_them() -> None:
    digits = load_digits()
    paths = sorted((EXAMPLES / "digits").glob("*.png"))
    labels, indices = zip(*(map(int, path.stem.split("_")) for path in paths), strict=True)
    assert labels == tuple(range(10))
    for path, label, index in zip(paths, labels, indices, strict=True):
        (place,) = np.flatnonzero(digits.test_indices == index)
        assert digits.test_labels[place] == label
        with Image.open(path) as image:
            assert image.mode == "L"
            np.testing.assert_array_equal(np.asarray(image), digits.test_images[place])
    assert PREPROCESS is not None
    with torch.inference_mode():
        logits = trained("lenet5")(torch.from_numpy(load_batch(paths, PREPROCESS)))
    assert logits.argmax(1).tolist() == list(labels)
