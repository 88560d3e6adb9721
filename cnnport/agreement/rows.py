"""Arrays on disk, one row a sample: written as they come, read without being loaded."""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from cnnport.errors import CnnportError, OutputError, first_line

Array = NDArray[Any]

_PIECE_ROWS = 64


class RowsWriter:
    """Writes a .npy file row by row; what is not filled in the end is cut off."""

    def __init__(self, path: Path, count: int) -> None:
        """Begin.

        Args:
            path: Its folder is made.
            count: The most rows that there will be.
        """
        self._path, self._count, self._filled = path, count, 0
        self._rows: Array | None = None
        path.parent.mkdir(parents=True, exist_ok=True)

    @property
    def filled(self) -> int:
        """How many rows there are so far."""
        return self._filled

    def add(self, rows: Array) -> None:
        """Write some more, of the shape and type of the first.

        Raises:
            CnnportError: If they are of another shape.
            OutputError: If the disk is full.
        """
        try:
            if self._rows is None:
                shape = (self._count, *rows.shape[1:])
                self._rows = npy.open_memmap(self._path, mode="w+", dtype=rows.dtype, shape=shape)
            if rows.shape[1:] != self._rows.shape[1:]:
                raise CnnportError(
                    f"samples differ in shape: {list(rows.shape[1:])} and {list(self._rows.shape[1:])}"
                )
            self._rows[self._filled : self._filled + len(rows)] = rows
        except OSError as error:
            raise OutputError(f"cannot write {self._path}: {error.strerror or error}") from error
        self._filled += len(rows)

    def __enter__(self) -> Self:
        """The writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the file."""
        if self._rows is None:
            return
        rows, self._rows = self._rows, None
        if kind is None and self._filled < self._count:
            whole = self._path.with_name(f"{self._path.name}.cut")
            shape = (self._filled, *rows.shape[1:])
            kept = npy.open_memmap(whole, mode="w+", dtype=rows.dtype, shape=shape)
            for start in range(0, self._filled, _PIECE_ROWS):
                kept[start : start + _PIECE_ROWS] = rows[start : min(start + _PIECE_ROWS, self._filled)]
            whole.replace(self._path)


def read_rows(path: Path) -> Array:
    """The rows of a file, which stay on disk until they are used; nothing is unpickled.

    Raises:
        CnnportError: If it is no such file.
    """
    try:
        rows: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise CnnportError(f"cannot read {path}: {first_line(error)}") from error
    return rows
