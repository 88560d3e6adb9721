"""Ask a Triton server what is in pictures: the other end of the model repository beside this file.

    python client.py cat.jpg dog.png
    python client.py --url triton.example.org:80 --top 3 cat.jpg
    python client.py --example            # is the server's answer to example.png the expected one?

Every picture is a request of its own, and none waits for the answer to another: making batches is the server's work.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.http as triton
from numpy.typing import NDArray
from PIL import Image, ImageOps

FOLDER = Path(__file__).resolve().parent

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def read_manifest() -> dict[str, Any]:
    """What the package says of its model."""
    manifest: dict[str, Any] = json.loads((FOLDER / "cnnport.json").read_text(encoding="utf-8"))
    return manifest


def read_picture(path: Path, manifest: dict[str, Any]) -> NDArray[Any]:
    """Decode a picture as the model wants it: upright, opaque, RGB or grey.

    Returns:
        uint8, height x width x channels or channels x height x width, as the manifest says. For a model that
        prepares no sizes itself it is resized and cropped.

    Raises:
        ValueError: If its samples have more than 8 bits.
        OSError: If the file is not a picture.
    """
    preprocess = manifest["preprocess"]
    with Image.open(path) as file:
        image = ImageOps.exif_transpose(file)
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"{path} has samples of more than 8 bits: convert it first")
    if image.has_transparency_data:
        pixels = image.convert("RGBA")
        image = Image.new("RGB", pixels.size, (preprocess["background"],) * 3)
        image.paste(pixels, mask=pixels)
    image = image.convert("L" if preprocess["channels"] == 1 else "RGB")
    if manifest["picture"]["preprocess"] == "normalize":
        image = resize_and_crop(image, preprocess)
    array = np.asarray(image, dtype=np.uint8).reshape(image.height, image.width, -1)
    return array if manifest["picture"]["layout"] == "nhwc" else array.transpose(2, 0, 1)


def resize_and_crop(image: Image.Image, preprocess: dict[str, Any]) -> Image.Image:
    """Scale the shorter side and take the centre, as the network was trained to see pictures."""
    height, width = preprocess["size"]
    size = (width, height)
    if preprocess["resize"] is not None:
        short = min(image.size)
        size = (
            int(preprocess["resize"] * image.width / short),
            int(preprocess["resize"] * image.height / short),
        )
    image = image.resize(size, _FILTERS[preprocess["interpolation"]])
    left, top = start(image.width, width), start(image.height, height)
    return image.crop((left, top, left + width, top + height))


def start(side: int, crop: int) -> int:
    """Where a centre crop begins; below zero where the picture is smaller."""
    return -((crop - side) // 2) if crop > side else round((side - crop) / 2)


def batches(pictures: Sequence[NDArray[Any]], size: int) -> Iterator[tuple[list[int], NDArray[Any]]]:
    """Pictures in requests of ``size``, each of one shape, with the places that they had; the last is filled up."""
    shapes: dict[tuple[int, ...], list[int]] = {}
    for place, picture in enumerate(pictures):
        shapes.setdefault(picture.shape, []).append(place)
    for places in shapes.values():
        for first in range(0, len(places), size):
            own = places[first : first + size]
            filled = own + [own[-1]] * (size - len(own))
            yield own, np.stack([pictures[place] for place in filled])


def classify(
    client: triton.InferenceServerClient, model: str, pictures: Sequence[NDArray[Any]]
) -> NDArray[Any]:
    """Probabilities of every class, a row for each picture, in their order."""
    stated = client.get_model_metadata(model)["inputs"][0]
    # -1 where the server makes batches, a number where the model's file has a fixed one.
    size = max(int(stated["shape"][0]), 1)
    wanted = [triton.InferRequestedOutput("probabilities", binary_data=True)]
    pending = []
    for places, images in batches(pictures, size):
        tensor = triton.InferInput(stated["name"], list(images.shape), stated["datatype"])
        tensor.set_data_from_numpy(images, binary_data=True)
        pending.append((places, client.async_infer(model, [tensor], outputs=wanted)))
    rows: dict[int, NDArray[Any]] = {}
    for places, request in pending:
        # A request that was filled up has more rows than places.
        rows.update(zip(places, request.get_result().as_numpy("probabilities"), strict=False))
    return np.stack([rows[place] for place in range(len(pictures))])


def wait(client: triton.InferenceServerClient, model: str, seconds: float) -> bool:
    """Wait until the server has loaded the model."""
    end = time.monotonic() + seconds
    while True:
        try:
            if client.is_model_ready(model):
                return True
        except OSError:  # not listening yet
            pass
        if time.monotonic() >= end:
            return False
        time.sleep(0.5)


def main() -> int:
    """Exit code 0, 1 if the example's answer is not the expected one, 2 if there is no server or picture."""
    manifest = read_manifest()
    parser = argparse.ArgumentParser(description="Ask a Triton server what is in pictures.")
    parser.add_argument("pictures", nargs="*", type=Path, metavar="PICTURE")
    parser.add_argument("--url", default="localhost:8000", help="host and port of the server's HTTP endpoint")
    parser.add_argument("--model", default=f"{manifest['name']}_pipeline")
    parser.add_argument("--top", type=int, default=manifest["picture"]["top"], help="classes to show")
    parser.add_argument("--wait", type=float, default=0, metavar="SECONDS", help="for the model to be loaded")
    parser.add_argument("--example", action="store_true", help="compare the answer to example.png")
    options = parser.parse_args()
    paths = [FOLDER / manifest["example"]["file"]] if options.example else options.pictures
    if not paths:
        parser.error("name at least one picture, or --example")
    client = triton.InferenceServerClient(options.url, concurrency=min(len(paths), 16))
    try:
        if not wait(client, options.model, options.wait):
            print(f"{options.model} is not ready at {options.url}", file=sys.stderr)
            return 2
        pictures = [read_picture(path, manifest) for path in paths]
        answers = classify(client, options.model, pictures)
    except (OSError, ValueError, triton.InferenceServerException) as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        client.close()
    labels = manifest["labels"]
    for path, row in zip(paths, answers, strict=True):
        print(path)
        for index in np.argsort(-row, kind="stable")[: options.top]:
            print(f"  {row[index]:7.2%}  {labels[index] if labels else index}")
    return as_expected(answers[0], manifest["example"]) if options.example else 0


def as_expected(row: NDArray[Any], example: dict[str, Any]) -> int:
    """Whether the answer to the example is that of ONNX Runtime on the CPU, within the stated tolerance."""
    wrong = [
        each
        for each in example["top"]
        if abs(row[each["index"]] - each["probability"]) > example["tolerance"]
    ]
    best = int(np.argmax(row)) == example["top"][0]["index"]
    print("as expected" if best and not wrong else f"NOT as expected: {example['top']}")
    return 0 if best and not wrong else 1


if __name__ == "__main__":
    sys.exit(main())
