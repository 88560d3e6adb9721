"""Whether the model answers as it did when it was packaged: ``python test_smoke.py``, or pytest."""

import hashlib
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from model import Model

FOLDER = Path(__file__).parent
MANIFEST: dict[str, Any] = json.loads((FOLDER / "cnnport.json").read_bytes())
EXAMPLE = np.load(FOLDER / "example.npy", allow_pickle=False)


def test_the_files_are_those_that_were_packaged() -> None:
    for name, sha256 in MANIFEST["files"].items():
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == sha256, f"{name} was changed"


def test_the_example_gets_the_expected_answer() -> None:
    expected, slack = MANIFEST["example"]["top"], MANIFEST["example"]["tolerance"]
    (row,) = Model().probabilities([EXAMPLE])
    assert abs(row.sum() - 1) < 1e-2, f"the probabilities sum to {row.sum()}"
    for guess in expected:
        found = row[guess["index"]]
        off = abs(found - guess["probability"])
        assert off <= slack, f"class {guess['index']}: {found:.6f}, expected {guess['probability']:.6f}"
    # Where the two best are nearer to each other than the tolerance, either may win.
    if expected[0]["probability"] - expected[min(1, len(expected) - 1)]["probability"] > 2 * slack:
        assert int(row.argmax()) == expected[0]["index"], f"class {row.argmax()} is the best"


def test_several_pictures_get_the_answers_of_each_alone() -> None:
    model = Model(threads=1)
    mirrored = np.ascontiguousarray(EXAMPLE[:, ::-1])
    smaller = EXAMPLE if model.size else np.ascontiguousarray(EXAMPLE[:-1, :-1])
    pictures = [EXAMPLE, mirrored, smaller, EXAMPLE]
    together = model.probabilities(pictures)
    for picture, row in zip(pictures, together, strict=True):
        (alone,) = model.probabilities([picture])
        assert np.abs(alone - row).max() <= MANIFEST["example"]["tolerance"]


def test_grey_and_transparent_pictures_are_taken() -> None:
    model = Model()
    grey = EXAMPLE[:, :, 0]
    colour = np.repeat(grey[:, :, None], 3, axis=2)
    alpha = np.concatenate([colour, np.full_like(colour[:, :, :1], 255)], axis=2)
    assert np.array_equal(model.probabilities([grey]), model.probabilities([colour]))
    assert np.array_equal(model.probabilities([alpha]), model.probabilities([colour]))


def test_what_is_no_picture_is_refused() -> None:
    model = Model()
    for wrong in (EXAMPLE.astype(np.float32), np.zeros((0, 4, 3), np.uint8), np.zeros((4, 4, 7), np.uint8)):
        try:
            model.classify(wrong)
        except ValueError as error:
            assert "image 0" in str(error)
        else:
            raise AssertionError(f"{wrong.dtype} of {wrong.shape} was taken for a picture")


def test_a_damaged_model_is_refused() -> None:
    with tempfile.TemporaryDirectory() as name:
        for file in ("cnnport.json", MANIFEST["model"]["file"]):
            shutil.copy(FOLDER / file, Path(name) / file)
        path = Path(name) / MANIFEST["model"]["file"]
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        try:
            Model(name)
        except ValueError as error:
            assert "SHA-256" in str(error)
        else:
            raise AssertionError("a model with a flipped bit was loaded")


def main() -> int:
    """Run every test of this file; gives the exit code."""
    tests = {name: test for name, test in globals().items() if name.startswith("test_")}
    failed = 0
    for name, test in tests.items():
        try:
            test()
        except AssertionError as error:
            failed += 1
            print(f"FAILED  {name}: {error}")
        else:
            print(f"ok      {name}")
    print(f"{len(tests) - failed} of {len(tests)} passed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
