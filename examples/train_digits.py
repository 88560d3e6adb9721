"""Train networks of the zoo on real handwritten digits: where the weights that ship with cnnport come from.

    python examples/train_digits.py                       # trains all of them, writes the packaged weights
    python examples/train_digits.py lenet5                # trains one
    python examples/train_digits.py lenet5 --validate     # five-fold cross-validation within the training scans
    python examples/train_digits.py --write-scans         # writes one held-out scan a class to examples/digits

Data and split are those of ``cnnport.digits``: 1,297 scans for training, 500 held out. ``digits_recipes`` says how
each network is trained, and how that was chosen; ``digits_training`` is the training.

One command gives the same files every time on one machine, whatever OMP_NUM_THREADS and ``--jobs`` say; another
processor or version of PyTorch rounds differently and gives other files of like quality.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from importlib import resources
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save
from torch import nn

from cnnport import registry
from cnnport.digits import load_digits
from cnnport.errors import CnnportError
from cnnport.files import check_writable, write_atomically
from digits_recipes import RECIPES
from digits_training import Recipe, accuracy, black, make_inputs, train

SCANS = Path(__file__).parent / "digits"
PACKAGED = Path(str(resources.files("cnnport.data"))) / "weights"
FOLDS = 5


def validate(name: str, seed: int, folds: int = FOLDS) -> None:
    """Train on four fifths of the training scans and test on the last, ``folds`` times; print the accuracies."""
    digits, spec = load_digits(), registry.get(name)
    assert spec.preprocess is not None
    inputs, labels = make_inputs(digits.train_images, spec.preprocess), torch.from_numpy(digits.train_labels)
    # The scans come in an order of no meaning, so every fifth makes a fair fold.
    fold_of = torch.arange(len(labels)) % FOLDS
    results = []
    for fold in range(folds):
        inside, outside = fold_of != fold, fold_of == fold
        model = train(
            spec.build,
            inputs[inside],
            labels[inside],
            background=black(spec.preprocess),
            recipe=RECIPES[name],
            seed=seed + fold,
        )
        results.append(accuracy(model, inputs[outside], labels[outside]))
        print(
            f"{name}: fold {fold + 1} of {FOLDS}: {results[-1]:.2f} % of {int(outside.sum())} scans",
            flush=True,
        )
    print(f"{name}: mean: {np.mean(results):.2f} %", flush=True)


def write_weights(name: str, folder: Path, seed: int) -> None:
    """Train on all training scans, write the state_dict as safetensors, print the held-out accuracy."""
    digits, spec = load_digits(), registry.get(name)
    assert spec.weights is not None
    assert spec.preprocess is not None
    output, recipe = folder / spec.weights.filename, RECIPES[name]
    check_writable(output, overwrite=True)
    inputs, labels = make_inputs(digits.train_images, spec.preprocess), torch.from_numpy(digits.train_labels)
    model = train(
        spec.build,
        inputs,
        labels,
        background=black(spec.preprocess),
        recipe=recipe,
        seed=seed,
        report=_progress(name, recipe.epochs),
    )
    data = packed(model, recipe, seed)
    write_atomically(output, data)
    held_out = make_inputs(digits.test_images, spec.preprocess)
    result = accuracy(model, held_out, torch.from_numpy(digits.test_labels))
    print(f"{name}: {result:.1f} % of {len(held_out)} held-out scans are classified right")
    print(f"{output}: {len(data):,} bytes, sha256 {hashlib.sha256(data).hexdigest()}", flush=True)


def packed(model: nn.Module, recipe: Recipe, seed: int) -> bytes:
    """The parameters and statistics of ``model`` as a safetensors file that tells how they were made.

    The counters of batches stay out: nothing depends on them, and their names make a tenth of a small file.
    """
    state = {
        name: value for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked")
    }
    return save(state, metadata={"recipe": described(recipe, seed)})


def described(recipe: Recipe, seed: int) -> str:
    """What a file of weights says of its making, as JSON: one key, for safetensors keeps no order of several."""
    return json.dumps({**asdict(recipe), "seed": seed})


def write_scans(folder: Path) -> None:
    """Write the first held-out scan of each class as an 8 x 8 grey PNG called LABEL_INDEX.png."""
    digits = load_digits()
    folder.mkdir(parents=True, exist_ok=True)
    for label in range(10):
        first = int(np.argmax(digits.test_labels == label))
        Image.fromarray(digits.test_images[first]).save(
            folder / f"{label}_{digits.test_indices[first]:04d}.png"
        )


def _progress(name: str, epochs: int) -> Callable[[int, float], None]:
    """Prints every twentieth epoch."""
    started = time.perf_counter()

    def report(epoch: int, loss: float) -> None:
        if epoch % 20 == 0:
            elapsed_s = time.perf_counter() - started
            print(f"{name}: epoch {epoch} of {epochs}: loss {loss:.4f}, {elapsed_s:.0f} s", flush=True)

    return report


def main() -> None:
    """Parse the command line and do the one thing that was asked for."""
    parser = argparse.ArgumentParser(
        description="Train networks of the zoo on the handwritten digits of scikit-learn."
    )
    parser.add_argument("name", nargs="*", help=f"one or more of {', '.join(RECIPES)}; all unless given")
    parser.add_argument(
        "--folder", type=Path, default=PACKAGED, help="where the weights go: into the package, unless given"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="networks at a time, each on one thread")
    other = parser.add_mutually_exclusive_group()
    other.add_argument(
        "--validate", action="store_true", help="cross-validate within the training scans instead"
    )
    other.add_argument("--write-scans", action="store_true", help="write examples/digits instead")
    options = parser.parse_args()
    names = list(dict.fromkeys(options.name)) or list(RECIPES)
    if unknown := [name for name in names if name not in RECIPES]:
        parser.error(f"there is no recipe for {unknown[0]}")
    try:
        if options.write_scans:
            write_scans(SCANS)
            return
        with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
            if options.validate:
                work = [pool.submit(validate, name, options.seed) for name in names]
            else:
                work = [pool.submit(write_weights, name, options.folder, options.seed) for name in names]
            for each in work:
                each.result()
    except CnnportError as error:
        parser.exit(error.exit_code, f"{error}\n")


if __name__ == "__main__":
    main()
