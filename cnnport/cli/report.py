"""``cnnport report``: results of any kind as one HTML page."""

from pathlib import Path
from typing import Annotated

import typer

from cnnport.cli import console
from cnnport.cli.options import Overwrite
from cnnport.errors import CnnportError


def report(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULTS...",
            help="JSON files of bench, profile, tune, quantize, optimize, export, parity and evaluate; .onnx "
            "files in pairs, before and after.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="FILE.html", help="Where to write the page.", show_default=False
        ),
    ],
    title: Annotated[
        str | None,
        typer.Option("--title", metavar="TEXT", help="Its heading; the networks' names if omitted."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Put results into one HTML page with charts, which needs no network and runs no script."""
    from cnnport.files import check_writable

    if output.suffix.lower() not in {".html", ".htm"}:
        raise CnnportError(f"-o {output}: a page is a file that ends in .html")
    check_writable(output, overwrite=overwrite)
    with console.progress() as progress:
        progress.step("drawing")
        from cnnport.measuring.page import write_page

        write_page(results, output, title=title)
    console.say(f"written   {output}  {console.megabytes(output.stat().st_size)}")
