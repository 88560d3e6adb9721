"""An export of a picture file: the network's own file first, verified, and the picture file made around it."""

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from cnnport.errors import CnnportError
from cnnport.exporting import Exported
from cnnport.files import check_writable
from cnnport.graphs.picture import check_opset
from cnnport.picture_file import picture_file
from cnnport.picture_source import check_wish
from cnnport.prepared import DEFAULT_OPSET
from cnnport.source import Source

if TYPE_CHECKING:
    from torch import nn

Make: TypeAlias = "Callable[[Path, Callable[[nn.Module], None]], Exported]"
"""Exports a network to a path; the callable is to be told the network in PyTorch."""


def export_picture(
    make: Make,
    source: Source,
    path: Path,
    *,
    mode: str,
    layout: str,
    options: Mapping[str, Any],
) -> Exported:
    """Export a network as a picture file.

    Args:
        make: As of ``Make``.
        source: The network.
        path: The file to write.
        mode: As of ``picture_file``.
        layout: As of ``picture_file``.
        options: Those of ``export`` that ``make`` passes on, with ``overwrite`` and ``on_step``, as far as they are
            not its defaults.

    Raises:
        CnnportError: As ``make`` and ``picture_file``. Nothing is written.
    """
    overwrite, on_step = bool(options.get("overwrite", False)), options.get("on_step", lambda _: None)
    wanted, order = check_wish(mode, layout)
    check_opset(wanted, int(options.get("opset", DEFAULT_OPSET)))
    check_writable(path, overwrite=overwrite)
    option = f"--preprocess {mode}"
    # What would be found after minutes of exporting is said before.
    if len(source.input_names) > 1:
        raise CnnportError(
            f"{source.name} takes {len(source.input_names)} inputs, and {option} is for one image"
        )
    if source.preprocess is None:
        raise CnnportError(
            f"{source.name} does not state how pictures are prepared for it, which {option} needs to know"
        )
    if (options.get("dense") or source.any_size) and options.get("image_size") is None:
        raise CnnportError(
            f"{source.name} would take images of any size, and {option} needs one: give it with --image-size"
        )
    started = time.perf_counter()
    modules: list[nn.Module] = []
    with tempfile.TemporaryDirectory(prefix="cnnport-", ignore_cleanup_errors=True) as name:
        own = Path(name) / path.name
        exported = make(own, modules.append)
        made = picture_file(
            own, path, mode=wanted, layout=order, module=modules[0], overwrite=overwrite, on_step=on_step
        )
    return replace(exported, artifact=made.artifact, picture=made, seconds=time.perf_counter() - started)
