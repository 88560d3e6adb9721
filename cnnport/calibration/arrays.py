"""Arrays in .npy and .npz files as samples, for networks that take anything but pictures.

Files come from anywhere: nothing in them is ever unpickled, and sizes are looked at before anything is read.
"""

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self, TypeVar

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from cnnport.artifact import Artifact, TensorSpec
from cnnport.calibration.samples import COUNT, SEED, Feeds, balanced, check_finite, digest
from cnnport.errors import CnnportError, FeedError, first_line
from cnnport.files import sha256_of
from cnnport.metadata import at_native_size

SUFFIXES = frozenset({".npy", ".npz"})

_LIMIT_BYTES = 2**29

_T = TypeVar("_T")


@dataclass(frozen=True)
class _Header:
    """Of an array in a file."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]

    def fits(self, spec: TensorSpec) -> bool:
        """Whether it holds samples for an input; floating point of any width is taken for any."""
        wanted = np.dtype(spec.dtype)
        alike = self.dtype == wanted or self.dtype.kind == wanted.kind == "f"
        sizes = zip(self.shape[1:], spec.shape[1:], strict=False)
        return (
            alike
            and len(self.shape) == len(spec.shape) > 0
            and all(size == want or isinstance(want, str) for size, want in sizes)
        )

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


class ArrayFiles:
    """Samples out of files that hold any number of them, one behind the other in the first dimension.

    A .npy file feeds a network of one input; its values stay on disk until they are used. A .npz file has an array
    for each input under the input's name, or any one array for a network of one input.
    """

    is_random = False

    def __init__(self, path: Path, artifact: Artifact, count: int = COUNT, *, skip: int = 0) -> None:
        """Look into the files and choose evenly among their samples.

        Args:
            path: A file, or a folder with some.
            artifact: The network.
            count: How many samples.
            skip: How many of those that would be chosen first are left to somebody else.

        Raises:
            CnnportError: If there is no such file, or it is not one of arrays.
            FeedError: If arrays do not fit the network's inputs.
        """
        self._path, self._artifact, self._skip = path, artifact, skip
        self._inputs = at_native_size(artifact).inputs
        files = (
            [path] if path.is_file() else sorted(item for item in path.iterdir() if item.suffix in SUFFIXES)
        )
        self._open: tuple[Path, Mapping[str, NDArray[np.generic]]] | None = None
        places = [(file, row) for file in files for row in range(self._count(file))]
        if not places:
            raise CnnportError(f"{path} holds no samples")
        # Files one after the other, each opened once.
        self._chosen = sorted(
            balanced(
                places, lambda place: place[0], lambda item: digest([SEED, item]).encode(), skip + count
            )[skip:]
        )
        plural = "s" * (len(files) != 1)
        self.description = f"{len(self._chosen)} of {len(places)} samples in {len(files)} file{plural}"

    @property
    def key(self) -> str:
        """Of the bytes of all files that are used; reads them all."""
        files = sorted({file for file, _ in self._chosen})
        rows = ",".join(f"{files.index(file)}:{row}" for file, row in self._chosen)
        return digest(["arrays", *map(str, self._inputs), *map(sha256_of, files), rows])

    def __len__(self) -> int:
        return len(self._chosen)

    def name(self, place: int) -> str:
        """The file, and the sample's place in it."""
        file, row = self._chosen[place]
        return f"sample {row} of {file}"

    def load(self, place: int) -> Feeds:
        """In the types of the inputs. Raises ``FeedError`` for numbers that are not finite."""
        file, row = self._chosen[place]
        arrays = self._arrays(file)
        feeds = {spec.name: np.array(arrays[spec.name][row : row + 1], spec.dtype) for spec in self._inputs}
        check_finite(self.name(place), feeds)
        return feeds

    def label(self, _place: int) -> None:
        """Arrays have none."""

    def others(self, count: int) -> Self | None:
        """Further samples of the same files, if there are any."""
        found = type(self)(self._path, self._artifact, count, skip=self._skip + len(self))
        return found if len(found) else None

    def _count(self, file: Path) -> int:
        """How many samples a file holds. Raises as the constructor."""
        found = self._by_input(file, _headers(file))
        for spec in self._inputs:
            if not found[spec.name].fits(spec):
                raise FeedError(f"{file} has {found[spec.name]}, which does not fit input {spec}")
        rows = {header.shape[0] for header in found.values()}
        if len(rows) != 1:
            raise FeedError(f"{file} has different numbers of samples for different inputs")
        return rows.pop()

    def _by_input(self, file: Path, found: Mapping[str, _T]) -> dict[str, _T]:
        """What a file has for each input; a single one takes a single array whatever that is called."""
        names = [spec.name for spec in self._inputs]
        if len(names) == len(found) == 1:
            return {names[0]: next(iter(found.values()))}
        if missing := sorted(set(names) - set(found)):
            if file.suffix == ".npy":
                raise FeedError(
                    f"{file} is one array, and the network has {len(names)} inputs: take .npz files with an array "
                    f"for each, {', '.join(names)}"
                )
            raise FeedError(
                f"{file} has no array for input {missing[0]!r}: it has {', '.join(found) or 'none'}"
            )
        return {name: found[name] for name in names}

    def _arrays(self, file: Path) -> Mapping[str, NDArray[np.generic]]:
        """All arrays of a file by input; the last file's are kept."""
        if self._open is None or self._open[0] != file:
            self._open = None
            with _reading(file):
                loaded = np.load(file, mmap_mode="r" if file.suffix == ".npy" else None, allow_pickle=False)
                found = {"": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
            self._open = file, self._by_input(file, found)
        return self._open[1]


def _headers(file: Path) -> dict[str, _Header]:
    """Shapes and types of a file's arrays by their names; that of a .npy file has none."""
    with _reading(file):
        if file.suffix == ".npy":
            with file.open("rb") as stream:
                return {"": _header(stream)}
        headers = {}
        with zipfile.ZipFile(file) as archive:
            for entry in archive.infolist():
                # A few bytes can claim any size: what is said here is the most that is ever read.
                if entry.file_size > _LIMIT_BYTES:
                    raise ValueError(f"{entry.filename} in it has {entry.file_size:,} bytes: use .npy files")
                with archive.open(entry) as stream:
                    headers[entry.filename.removesuffix(".npy")] = _header(stream)
        return headers


def _header(stream: IO[bytes]) -> _Header:
    version = npy.read_magic(stream)
    if version not in {(1, 0), (2, 0)}:
        raise ValueError(f"its format is version {'.'.join(map(str, version))}")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(stream)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are never unpickled")
    return _Header(shape, dtype)


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise CnnportError(f"cannot read {file}: {first_line(error)}") from error
