"""Arguments and options that several commands share, and how their values are read."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from cnnport.cli import console
from cnnport.errors import CnnportError

if TYPE_CHECKING:
    from cnnport.artifact import Artifact
    from cnnport.runtimes import Options


def complete_model(incomplete: str) -> list[str]:
    """Zoo names for the shell's completion."""
    from cnnport import registry

    return [name for name in registry.names() if name.startswith(incomplete)]


def complete_runtime(incomplete: str) -> list[str]:
    """Runtime names for the shell's completion."""
    from cnnport.runtimes import RUNTIMES

    return [name for name in RUNTIMES if name.startswith(incomplete)]


def complete_target(incomplete: str) -> list[str]:
    """Targets of graph passes for the shell's completion."""
    from cnnport.graphs.passes import TARGETS

    return [name for name in TARGETS if name.startswith(incomplete)]


Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Overwrite: TypeAlias = Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")]
Model: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A zoo name, timm:NAME, torchvision:NAME, module:callable, or an .onnx file.",
        autocompletion=complete_model,
        show_default=False,
    ),
]
Weights: TypeAlias = Annotated[
    str,
    typer.Option("--weights", metavar="auto|default|random|PATH|URL", help="Where the weights come from."),
]
Passes: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--passes", metavar="none|+name,-name", help="Graph passes beside or instead of the target's."
    ),
]
Target: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--target",
        metavar="ort|cuda|trt|openvino",
        help="The runtime that the file is for; any if omitted.",
        autocompletion=complete_target,
    ),
]
Runtimes: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--runtime",
        metavar="R",
        help="Repeatable; all that are present.",
        autocompletion=complete_runtime,
    ),
]
Shapes: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--shape", metavar="NAME:1x3x224x224", help="Shape of an input of dynamic size; repeatable."
    ),
]
Settings: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="What the runtime offers, as docs/runtimes.md lists it; repeatable.",
    ),
]
Device: TypeAlias = Annotated[
    int, typer.Option("--device", metavar="N", help="Which of several devices of a kind.", min=0)
]
Deterministic: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--deterministic",
        help="The same bits in every run, at the price of speed; an error where the runtime cannot.",
    ),
]
Seed: TypeAlias = Annotated[int, typer.Option("--seed", metavar="N", help="Seed of random weights.", min=0)]


def artifact_for(
    model: str,
    progress: console.Progress,
    *,
    weights: str = "auto",
    precision: str | None = None,
    calibration: str | None = None,
    target: str | None = None,
) -> "Artifact":
    """The file that a MODEL is or becomes; what is told on the way goes to standard error.

    Raises:
        CnnportError: As ``store.artifact_of``.
    """
    from cnnport.store import artifact_of

    return artifact_of(
        model,
        weights=weights,
        precision=precision,
        calibration=calibration,
        target=target,
        on_step=progress.step,
        on_warning=console.note,
        on_download=progress.download,
    )


def options_for(
    runtime: str, settings: Sequence[str] | None, *, device: int, deterministic: bool = False
) -> "Options":
    """How a session on one runtime is to be opened.

    Raises:
        CnnportError: As ``settings_for``.
    """
    from cnnport.runtimes import Options, settings_for

    chosen = settings_for([runtime], settings or [])[runtime]
    return Options(device=device, deterministic=deterministic, settings=chosen)


def split_list(values: list[str] | None) -> list[str]:
    """The items of an option that may be repeated or comma-separated, in order, each once."""
    items = [item.strip() for value in values or [] for item in value.split(",")]
    return list(dict.fromkeys(item for item in items if item))


def parse_size(text: str | None) -> tuple[int, int] | None:
    """``224`` or ``224x320`` (height x width) in pixels.

    Raises:
        CnnportError: If it is neither.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)(?:[x,](\d+))?", text.strip())
    if found is None or len(text) > 16:
        raise CnnportError(f"an image size is N or HxW in pixels, such as 224 or 256x320, not {text!r}")
    height = int(found[1])
    return height, int(found[2] or height)


def parse_shapes(values: list[str] | None) -> dict[str, tuple[int, ...]]:
    """Input shapes in any dialect of the field: ``x:1x3x224x224``, ``x:1,3,224,224`` or ``x:[1,3,224,224]``.

    Raises:
        CnnportError: If one is of no dialect.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for value in values or []:
        name, _, text = value.rpartition(":")
        found = re.fullmatch(r"\[(.*)\]|(.*)", text.strip())
        sizes = re.split(r"[x,]", (found[1] or found[2] or "").replace(" ", "")) if found else []
        if not name or not all(size.isdecimal() and 0 < int(size) < 2**31 for size in sizes):
            raise CnnportError(f"a shape is NAME:1x3x224x224, with , or [] if you like, not {value!r}")
        shapes[name] = tuple(int(size) for size in sizes)
    return shapes


def parse_percent(option: str, text: str | None) -> float | None:
    """``0.5`` or ``0.5%``, in per cent.

    Raises:
        CnnportError: If it is neither, or not from 0 to 100.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,3}(?:\.\d{1,9})?)\s*%?", text.strip())
    if found is None or float(found[1]) > 100:
        raise CnnportError(f"{option} is in per cent, such as 0.5%, not {text!r}")
    return float(found[1])


def parse_batch(text: str) -> int | None:
    """``dynamic`` (None) or a number of at least 1.

    Raises:
        CnnportError: If it is neither.
    """
    if text == "dynamic":
        return None
    if not text.isdecimal() or not 1 <= int(text) <= 2**20:
        raise CnnportError(f"a batch is a number from 1, or dynamic, not {text!r}")
    return int(text)
