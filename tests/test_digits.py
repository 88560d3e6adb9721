"""The handwritten digits, and the training on them. What came of it is in test_digits_weights.py."""

import dataclasses
import hashlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import digits_training as training
import train_digits
from cnnport import registry
from cnnport.digits import load_digits
from cnnport.errors import CnnportError
from cnnport.images import preprocess_image
from digits_recipes import RECIPES

EXAMPLES = Path(__file__).parent.parent / "examples"
SPEC = registry.get("lenet5")


@pytest.fixture(scope="module")
def digits():
    return load_digits()


# ---- The data


def test_split(digits):
    assert digits.train_images.shape == (1297, 8, 8)
    assert digits.test_images.shape == (500, 8, 8)
    assert digits.train_images.dtype == digits.test_images.dtype == np.uint8
    assert np.bincount(digits.test_labels).tolist() == [50] * 10
    assert np.bincount(digits.train_labels).tolist() == [128, 132, 127, 133, 131, 132, 131, 129, 124, 130]
    indices = np.concatenate([digits.train_indices, digits.test_indices])
    assert sorted(indices) == list(range(1797))
    # No scan has a twin on the other side.
    train = {scan.tobytes() for scan in digits.train_images}
    assert not any(scan.tobytes() in train for scan in digits.test_images)


def test_split_never_changes(digits):
    digest = hashlib.sha256()
    for array, kind in (
        (digits.train_indices, "<i8"),
        (digits.test_indices, "<i8"),
        (digits.train_labels, "<i8"),
        (digits.test_labels, "<i8"),
        (digits.train_images, "u1"),
        (digits.test_images, "u1"),
    ):
        digest.update(array.astype(kind).tobytes())
    assert digest.hexdigest() == "f2f7cf8eb0fee20c68e300af8586e49f58982183e8932e0be127c65efd463bd7"


def test_scans_are_scikit_learns(digits):
    from sklearn import datasets

    bunch = datasets.load_digits()
    for indices, images, labels in (
        (digits.train_indices, digits.train_images, digits.train_labels),
        (digits.test_indices, digits.test_images, digits.test_labels),
    ):
        np.testing.assert_array_equal(labels, bunch.target[indices])
        np.testing.assert_allclose(images, bunch.images[indices] * 255 / 16, atol=0.5)
    assert set(np.unique(digits.train_images)) >= {0, 128, 255}


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(CnnportError, match=re.escape("pip install 'cnnport[digits]'")):
        load_digits()


def test_other_data_is_refused(monkeypatch):
    from sklearn import datasets
    from sklearn.utils import Bunch

    monkeypatch.setattr(datasets, "load_digits", lambda: Bunch(images=np.ones((9, 8, 8)), target=np.ones(9)))
    with pytest.raises(CnnportError, match="1,797"):
        load_digits()


def test_normalisation_is_the_training_splits(digits):
    pixels = [
        np.asarray(Image.fromarray(scan).resize((32, 32), Image.Resampling.BILINEAR)) / 255
        for scan in digits.train_images
    ]
    assert SPEC.preprocess.mean == (round(float(np.mean(pixels)), 4),)
    assert SPEC.preprocess.std == (round(float(np.std(pixels)), 4),)


def test_shipped_scans_are_what_the_example_writes(tmp_path):
    train_digits.write_scans(tmp_path)
    shipped = sorted((EXAMPLES / "digits").glob("*.png"))
    assert sorted(path.name for path in tmp_path.iterdir()) == [path.name for path in shipped]
    for path in shipped:
        np.testing.assert_array_equal(
            np.asarray(Image.open(tmp_path / path.name)), np.asarray(Image.open(path))
        )


# ---- The training


def short(**changes):
    return dataclasses.replace(RECIPES["lenet5"], epochs=1, **changes)


def run(digits, seed=0, recipe=None):
    return training.train(
        SPEC.build,
        training.make_inputs(digits.train_images[:300], SPEC.preprocess),
        torch.from_numpy(digits.train_labels[:300]),
        background=training.black(SPEC.preprocess),
        recipe=recipe or short(),
        seed=seed,
    ).state_dict()


def test_training_is_reproducible_whatever_the_threads(digits):
    before = torch.get_num_threads()
    states = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            torch.manual_seed(threads)
            states.append(run(digits))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert not torch.are_deterministic_algorithms_enabled()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    other = run(digits, seed=1)
    assert not any(torch.equal(states[0][key], other[key]) for key in other)


def test_training_learns(digits):
    inputs = training.make_inputs(digits.train_images, SPEC.preprocess)
    labels = torch.from_numpy(digits.train_labels)
    losses = []
    model = training.train(
        SPEC.build,
        inputs,
        labels,
        background=training.black(SPEC.preprocess),
        recipe=dataclasses.replace(RECIPES["lenet5"], epochs=8),
        seed=0,
        report=lambda _, loss: losses.append(loss),
    )
    assert len(losses) == 8
    assert losses[-1] < 0.7 * losses[0]
    assert training.accuracy(model, inputs, labels) > 60
    assert not model.training


def test_augmentation_moves_ink_and_fills_with_paper(digits):
    inputs = training.make_inputs(digits.train_images[:50], SPEC.preprocess)
    background = training.black(SPEC.preprocess)
    none = short(rotation_degrees=0, scale=0, shear=0, shift=0, elastic=0)
    torch.testing.assert_close(training.augment(inputs, background, none), inputs, atol=1e-4, rtol=0)
    moved = training.augment(inputs, background, short())
    assert moved.shape == inputs.shape
    assert (moved - inputs).abs().mean() > 0.1
    assert moved.min() >= background - 1e-4
    far = training.augment(inputs, background, short(shift=1.0)).flatten(1)
    # Some are out of sight: what is left is paper.
    assert (far.amax(1) <= background + 1e-4).any()


def test_black_is_what_an_empty_scan_becomes():
    empty = preprocess_image(Image.new("L", (8, 8)), SPEC.preprocess)
    np.testing.assert_allclose(empty, training.black(SPEC.preprocess), rtol=1e-6)


def test_initializations_keep_what_they_are_for():
    """He's variance is 2 / fan_in; Glorot's, of a layer with as many outputs as inputs, half of that; no bias."""
    layer = torch.nn.Conv2d(256, 256, 1)
    for how, variance in (("he", 2 / 256), ("glorot", 1 / 256)):
        torch.manual_seed(0)
        training.initialize(layer, how)
        assert layer.weight.var().item() == pytest.approx(variance, rel=0.05)
        assert not layer.bias.any()


# ---- The command


def run_command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["train_digits.py", *map(str, arguments)])
    train_digits.main()


def test_the_file_holds_the_recipe_and_loads(tmp_path, digits, monkeypatch, capsys):
    """The whole way of the command, but for the length of the training."""
    from safetensors import safe_open

    from cnnport.weights import load_weights

    monkeypatch.setitem(RECIPES, "digits_mobilenet_v1", dataclasses.replace(RECIPES["lenet5"], epochs=1))
    train_digits.write_weights("digits_mobilenet_v1", tmp_path, seed=3)
    (path,) = tmp_path.iterdir()
    printed = capsys.readouterr().out
    assert hashlib.sha256(path.read_bytes()).hexdigest() in printed
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"recipe": train_digits.described(RECIPES["digits_mobilenet_v1"], 3)}
        names = list(file.keys())
    assert names
    assert not any("num_batches_tracked" in each for each in names)
    spec = registry.get("digits_mobilenet_v1")
    module = spec.build()
    loaded = load_weights(module, spec, str(path), input_shape=spec.input_shape)
    assert (loaded.kind, loaded.warning) == ("file", None)
    inputs = training.make_inputs(digits.test_images, spec.preprocess)
    reached = training.accuracy(module, inputs, torch.from_numpy(digits.test_labels))
    assert f"{reached:.1f} % of 500 held-out scans" in printed


def test_a_network_without_recipe_is_refused(monkeypatch, capsys):
    with pytest.raises(SystemExit) as caught:
        run_command(monkeypatch, "resnet18")
    assert caught.value.code == 2
    assert "there is no recipe for resnet18" in capsys.readouterr().err
