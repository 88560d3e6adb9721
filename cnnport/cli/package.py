"""``cnnport package``: a model in a folder that another application takes as it is."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnnport.cli import console
from cnnport.cli.options import Json, Model, Overwrite, Weights
from cnnport.cli.preparation import read_labels, stated_preprocess
from cnnport.errors import CnnportError

if TYPE_CHECKING:
    from cnnport.packaging import Packaged

_MODES = ("normalize", "full")

_FIRST_STEPS = {
    "python": "cd {folder} && pip install -r requirements.txt && python test_smoke.py",
    "node": "cd {folder} && npm ci && npm test",
    "web": "python -m http.server --directory {folder}",
    "triton": "see {folder}/README.md",
}


def package(
    model: Model,
    kind: Annotated[
        str,
        typer.Option(
            "--for", metavar="python|node|web|triton", help="Where it is to run.", show_default=False
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="DIR", help="The folder to make.", show_default=False),
    ],
    preprocess: Annotated[
        str | None,
        typer.Option(
            "--preprocess",
            metavar="normalize|full",
            help="What the model does to images itself: full takes them of any size, and is what an omitted option "
            "means; normalize wants them resized and cropped.",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            "--size",
            metavar="N|HxW",
            help="Of the network's input, where no file says how pictures are prepared.",
        ),
    ] = None,
    resize: Annotated[
        int | None,
        typer.Option(
            "--resize", metavar="N", help="Likewise: of the shorter side before the centre crop.", min=1
        ),
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(
            "--mean", metavar="R,G,B", help="Likewise: subtracted from values of 0 to 1; one for grey."
        ),
    ] = None,
    std: Annotated[
        str | None,
        typer.Option("--std", metavar="R,G,B", help="Likewise: what they are divided by after that."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels", metavar="FILE", help="The classes' names, a line each, if the file has none."
        ),
    ] = None,
    weights: Weights = "auto",
    precision: Annotated[
        str | None,
        typer.Option(
            "--precision", metavar="fp32|fp16|int8", help="What the model computes in; a file's own, or fp32."
        ),
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option(
            "--calibration",
            metavar="DIR|digits|random[:N]",
            help="Samples for int8; the digits for networks trained on them, else seeded noise.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="What the package is called; the model's own name."),
    ] = None,
    backend: Annotated[
        str,
        typer.Option(
            "--backend",
            metavar="onnxruntime|tensorrt",
            help="For triton: what runs the network in the server.",
        ),
    ] = "onnxruntime",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Put a model, and all that it takes to run it, into a folder for another application."""
    from cnnport.memory import return_large_blocks
    from cnnport.packaging import package as run_package

    if preprocess is not None and preprocess not in _MODES:
        raise CnnportError(f"--preprocess takes {' or '.join(_MODES)}, not {preprocess!r}")
    return_large_blocks()
    with console.progress() as progress:
        done = run_package(
            model,
            kind,
            output,
            preprocess=preprocess,  # type: ignore[arg-type]
            pictures=lambda file: stated_preprocess(file, size, resize, mean, std),
            labels=read_labels(labels),
            precision=precision,
            calibration=calibration,
            weights=weights,
            name=name,
            backend=backend,
            overwrite=overwrite,
            on_step=progress.step,
            on_warning=console.note,
            on_download=progress.download,
        )
    if json:
        console.print_json(_as_json(done))
    else:
        _print(done)


def _print(done: "Packaged") -> None:
    table = console.table("", "file", "size", numbers=("size",))
    for name, size in done.sizes.items():
        table.add_row(name.replace("[", r"\["), f"{size / 1000:,.1f} kB")
    console.results().print(table)
    model, preprocess = done.manifest["model"], done.manifest["picture"]["preprocess"]
    total = console.megabytes(sum(done.sizes.values()))
    console.say(f"model     {model['name']}, {model['precision']}, preprocessing: {preprocess}")
    console.say(f"written   {done.folder}  {len(done.sizes)} files, {total}")
    console.say(f"try it    {_FIRST_STEPS[done.kind].format(folder=done.folder)}")


def _as_json(done: "Packaged") -> dict[str, Any]:
    return {
        "kind": done.kind,
        "name": done.manifest["name"],
        "path": str(done.folder),
        "bytes": sum(done.sizes.values()),
        "files": dict(done.sizes),
        "manifest": dict(done.manifest),
    }
