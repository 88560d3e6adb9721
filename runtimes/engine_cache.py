"""Engines and what their builds learnt, kept between processes.

Every entry is one file that states what it is and the hash of what it holds, written beside its place and moved into
it, so that an entry is whole or absent. Who builds holds a lock on a file of the entry's own; the system lets go of
it when the process dies, in whatever way. An entry that is damaged, or states anything but what it was looked up for,
counts as absent and is replaced.
"""

import fcntl
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cnnport.errors import OutputError
from cnnport.files import cache_root, write_pieces_atomically

_MAGIC = b"cnnport cache entry 1\n"

# A header of more than this is none.
_HEADER_LIMIT = 2**26


@dataclass(frozen=True)
class Entry:
    """What was found.

    Attributes:
        data: As it was stored.
        notes: Beside it.
    """

    data: bytes
    notes: Mapping[str, str]


@dataclass(frozen=True)
class Slot:
    """The place of one entry.

    Attributes:
        folder: Where it lies; made when something is stored.
        stem: Beginning of the file's name, for people.
        key: Everything that the entry depends on, by name.
        suffix: End of the file's name.
    """

    folder: Path
    stem: str
    key: Mapping[str, str]
    suffix: str = ".engine"

    @property
    def path(self) -> Path:
        """The entry's file."""
        text = json.dumps(dict(self.key), sort_keys=True)
        return self.folder / f"{self.stem}-{hashlib.sha256(text.encode()).hexdigest()[:24]}{self.suffix}"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep every other process, and every other thread, out of this entry for as long as the block lasts.

        What a killed predecessor left half-written is swept away. Raises ``OutputError`` if there is no writing.
        """
        lock = self.path.with_name(self.path.name + ".lock")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = lock.open("ab")
        except OSError as error:
            raise OutputError(f"cannot write {lock}: {error.strerror or error}") from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # Only the holder of the lock writes, so whatever else lies here is nobody's.
            for left in self.folder.glob(f".{self.path.name}.*.part"):
                with suppress(OSError):
                    left.unlink()
            yield

    def read(self) -> Entry | None:
        """The entry; None if there is none, or none that is whole and for this key."""
        try:
            with self.path.open("rb") as file:
                if file.readline(len(_MAGIC)) != _MAGIC:
                    return None
                header = json.loads(file.readline(_HEADER_LIMIT))
                data = file.read()
        except (OSError, ValueError):
            return None
        if not isinstance(header, dict) or header.get("key") != dict(self.key):
            return None
        if header.get("sha256") != hashlib.sha256(data).hexdigest():
            return None
        notes = header.get("notes")
        return Entry(data, notes) if isinstance(notes, dict) else None

    def write(self, data: bytes | memoryview, notes: Mapping[str, str] | None = None) -> None:
        """Store an entry, whole or not at all; only within ``held()``. Raises ``OutputError``."""
        header = {
            "key": dict(self.key),
            "sha256": hashlib.sha256(data).hexdigest(),
            "notes": dict(notes or {}),
        }
        line = json.dumps(header).encode() + b"\n"
        write_pieces_atomically(self.path, (_MAGIC, line, bytes(data)))


def engines_folder() -> Path:
    """Where the engines of this user are kept: below ``$CNNPORT_CACHE``, or in the user's cache folder."""
    return cache_root() / "engines"
