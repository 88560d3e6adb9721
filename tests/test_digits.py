"""The handwritten digits, the weights trained on them, and the training."""

import dataclasses
import hashlib
import importlib.util
import re
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from cnnport import registry
from cnnport.digits import load_digits
from cnnport.errors import CnnportError
from cnnport.images import load_batch, preprocess_image

EXAMPLES = Path(__file__).parent.parent / "examples"
SPEC = registry.get("lenet5")


@pytest.fixture(scope="module")
def digits():
    return load_digits()


@pytest.fixture(scope="module")
def training():
    """The example script as a module; importing it trains nothing."""
    spec = importlib.util.spec_from_file_location("train_digits", EXAMPLES / "train_digits.py")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def packaged():
    return Path(str(resources.files("cnnport.data") / "weights" / SPEC.weights.filename))


@pytest.fixture(scope="module")
def trained(packaged):
    model = SPEC.build()
    model.load_state_dict(load_file(packaged), strict=True)
    return model.eval()


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


# ---- The packaged weights


def test_packaged_file_is_small_and_the_catalogues(packaged):
    data = packaged.read_bytes()
    assert len(data) < 300_000
    assert hashlib.sha256(data).hexdigest() == SPEC.weights.sha256


def test_held_out_accuracy_is_the_catalogues(digits, training, trained):
    inputs = training.make_inputs(digits.test_images, SPEC.preprocess)
    reached = training.accuracy(trained, inputs, torch.from_numpy(digits.test_labels))
    assert reached >= 98.5
    assert reached == pytest.approx(SPEC.weights.top1)


def test_accuracy_of_an_untrained_network_is_chance(digits, training):
    torch.manual_seed(0)
    inputs = training.make_inputs(digits.test_images, SPEC.preprocess)
    assert training.accuracy(SPEC.build(), inputs, torch.from_numpy(digits.test_labels)) < 30


def test_shipped_scans(digits, trained):
    paths = sorted((EXAMPLES / "digits").glob("*.png"))
    labels, indices = zip(*(map(int, path.stem.split("_")) for path in paths), strict=True)
    assert labels == tuple(range(10))
    for path, label, index in zip(paths, labels, indices, strict=True):
        (place,) = np.flatnonzero(digits.test_indices == index)
        assert digits.test_labels[place] == label
        with Image.open(path) as image:
            assert image.mode == "L"
            np.testing.assert_array_equal(np.asarray(image), digits.test_images[place])
    with torch.inference_mode():
        logits = trained(torch.from_numpy(load_batch(paths, SPEC.preprocess)))
    assert logits.argmax(1).tolist() == list(labels)


def test_shipped_scans_are_what_the_example_writes(tmp_path, training):
    training.write_scans(tmp_path)
    written = sorted(path.name for path in tmp_path.iterdir())
    assert written == sorted(path.name for path in (EXAMPLES / "digits").glob("*.png"))


# ---- The training


def short(training, **changes):
    return dataclasses.replace(training.LENET5, epochs=1, **changes)


def run(digits, training, seed=0, recipe=None):
    return training.train(
        SPEC.build,
        training.make_inputs(digits.train_images[:300], SPEC.preprocess),
        torch.from_numpy(digits.train_labels[:300]),
        background=training.black(SPEC.preprocess),
        recipe=recipe or short(training),
        seed=seed,
    ).state_dict()


def test_training_is_reproducible_whatever_the_threads(digits, training):
    before = torch.get_num_threads()
    states = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            torch.manual_seed(threads)
            states.append(run(digits, training))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert not torch.are_deterministic_algorithms_enabled()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    other = run(digits, training, seed=1)
    assert not any(torch.equal(states[0][key], other[key]) for key in other)


def test_training_learns(digits, training):
    inputs = training.make_inputs(digits.train_images, SPEC.preprocess)
    labels = torch.from_numpy(digits.train_labels)
    losses = []
    model = training.train(
        SPEC.build,
        inputs,
        labels,
        background=training.black(SPEC.preprocess),
        recipe=dataclasses.replace(training.LENET5, epochs=8),
        seed=0,
        report=lambda _, loss: losses.append(loss),
    )
    assert len(losses) == 8
    assert losses[-1] < 0.7 * losses[0]
    assert training.accuracy(model, inputs, labels) > 60
    assert not model.training


def test_augmentation_moves_ink_and_fills_with_paper(digits, training):
    inputs = training.make_inputs(digits.train_images[:50], SPEC.preprocess)
    background = training.black(SPEC.preprocess)
    none = short(training, rotation_degrees=0, scale=0, shear=0, shift=0, elastic=0)
    torch.testing.assert_close(training.augment(inputs, background, none), inputs, atol=1e-4, rtol=0)
    moved = training.augment(inputs, background, short(training))
    assert moved.shape == inputs.shape
    assert (moved - inputs).abs().mean() > 0.1
    assert moved.min() >= background - 1e-4
    far = training.augment(inputs, background, short(training, shift=1.0)).flatten(1)
    # Some are out of sight: what is left is paper.
    assert (far.amax(1) <= background + 1e-4).any()


def test_black_is_what_an_empty_scan_becomes(training):
    empty = preprocess_image(Image.new("L", (8, 8)), SPEC.preprocess)
    np.testing.assert_allclose(empty, training.black(SPEC.preprocess), rtol=1e-6)
