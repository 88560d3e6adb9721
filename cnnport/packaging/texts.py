"""What packages say for people, in the same words whatever they are for."""

import textwrap

from cnnport.metadata import Origin, origin_of
from cnnport.packaging.subject import Subject

_WIDTH = 116

_WEIGHTS = {
    "default": "its publisher's weights",
    "random": "random weights: its answers mean nothing, it is here to be tried",
    "file": "weights from a file of whoever made this package",
    "url": "weights that whoever made this package had fetched",
    "own": "the weights of whoever made this package",
}


def values_of(subject: Subject) -> dict[str, str]:
    """Words by the names under which templates ask for them."""
    return {
        "name": subject.name,
        "what": paragraphs(what(subject)),
        "takes": paragraphs(takes(subject)),
        "gives": paragraphs(gives(subject)),
        "model_file": model_file(subject),
        "sizes": " of any sizes" if subject.picture.preprocess == "full" else "",
        "labels_row": ""
        if labels_file(subject) is None
        else "| `labels.txt` | the classes' names, a line each |\n",
        "licence": paragraphs(subject.licence),
        "height": str(subject.preprocess.size[0]),
        "width": str(subject.preprocess.size[1]),
    }


def paragraphs(text: str) -> str:
    """Text in lines of a length that is read well; an empty line parts paragraphs."""
    return "\n\n".join(
        textwrap.fill(each, _WIDTH, break_long_words=False, break_on_hyphens=False)
        for each in text.split("\n\n")
    )


def what(subject: Subject) -> str:
    """What the package holds, in a sentence or two."""
    origin = origin_of(subject.artifact)
    weights = "" if origin is None else f", with {_weights(origin)}"
    sha256 = subject.artifact.sha256[:16]
    return (
        f"{subject.artifact.model} as an ONNX file in {subject.artifact.precision}{weights}. Packaged by cnnport; "
        f"the file's SHA-256 begins with {sha256}."
    )


def takes(subject: Subject) -> str:
    """What images the model takes, and what it does to them."""
    preprocess, (height, width) = subject.preprocess, subject.preprocess.size
    colours = "grey levels" if preprocess.channels == 1 else "red, green and blue"
    if subject.picture.preprocess == "normalize":
        return (
            f"Images of exactly {height} x {width} (height x width) pixels in {colours}, from 0 to 255: whoever "
            f"calls it resizes ({preprocess.interpolation}, with antialias{_shorter_side(subject)}) and crops. The "
            "model normalises."
        )
    how = (
        f"scales both sides to {height} x {width} pixels"
        if preprocess.resize is None
        else f"scales the shorter side to {preprocess.resize} pixels and cuts {height} x {width} from the centre"
    )
    return (
        f"Images of any size in {colours}, from 0 to 255. The model {how} ({preprocess.interpolation}, with "
        "antialias), and normalises, so that its answer does not depend on who resized."
    )


def gives(subject: Subject) -> str:
    """What the model answers."""
    classes = next(spec.shape[-1] for spec in subject.artifact.outputs if spec.name == "probabilities")
    if subject.labels is None:
        names = "which have no names in this package"
    else:
        names = f"from {subject.labels[0]!r} to {subject.labels[-1]!r}"
    return f"The probability of each of {classes} classes, {names}."


def model_file(subject: Subject) -> str:
    """What the model's file is, as a cell of a table."""
    artifact = subject.artifact
    resizes = "resizing" if subject.preprocess.resize is None else "resizing, cropping"
    done = f"{resizes} and normalising" if subject.picture.preprocess == "full" else "normalising"
    return f"the network, opset {artifact.opset}, with {done} before it and softmax behind it"


def labels_file(subject: Subject) -> bytes | None:
    """Class names, a line each; None where there are none, or one has a line break in it."""
    if subject.labels is None or any(len(name.splitlines()) > 1 for name in subject.labels):
        return None
    return "".join(f"{name}\n" for name in subject.labels).encode()


def _weights(origin: Origin) -> str:
    if origin.weights == "default" and "://" not in origin.weights_origin:
        return "weights that were trained for cnnport"
    return _WEIGHTS.get(origin.weights, "weights of its own")


def _shorter_side(subject: Subject) -> str:
    resize = subject.preprocess.resize
    return "" if resize is None else f", the shorter side to {resize}"
