"""What all of these functions take."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from cnnport.artifact import Artifact

Model: TypeAlias = str | Path | Artifact
"""What the command line calls MODEL, or a file that was read."""

OnStep: TypeAlias = Callable[[str], None]
"""Told the name of each step when it begins."""

OnDownload: TypeAlias = Callable[[int, int | None], None]
"""Told the bytes so far and in all while weights are fetched."""

OnProgress: TypeAlias = Callable[[int, int], None]
"""Told how many are done, and how many there are."""


def names_of(models: Model | Sequence[Model]) -> tuple[str, ...]:
    """One or several models as the command line has them."""
    some = [models] if isinstance(models, str | Path | Artifact) else models
    return tuple(str(each.path if isinstance(each, Artifact) else each) for each in some)


def ignore(*_: object) -> None:
    """Nobody is told."""
