"""Writing and hashing files so that a reader never sees half of one."""

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cnnport.errors import OutputError


def cache_root() -> Path:
    """The folder below which everything lies that can be made again: ``$CNNPORT_CACHE``, or the user's own."""
    if chosen := os.environ.get("CNNPORT_CACHE"):
        return Path(chosen)
    from platformdirs import user_cache_path

    return user_cache_path("cnnport")


def check_writable(target: Path, *, overwrite: bool) -> None:
    """Refuse a target early, before the work that would be lost.

    Args:
        target: The file that is to be written.
        overwrite: Whether an existing file may be replaced.

    Raises:
        OutputError: If the target exists and may not be replaced, or its folder cannot be written to.
    """
    if target.is_dir():
        raise OutputError(f"{target} is a folder: name a file in it")
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists: pass --overwrite to replace it, or -o to write elsewhere")
    folder = target.parent
    if not folder.is_dir():
        raise OutputError(f"cannot write {target}: there is no folder {folder}")
    try:
        # Asking the file system beats os.access, which says yes to root on a read-only mount.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from error


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Give a temporary path beside ``target`` and move it into place when the block succeeds.

    A block that fails or is interrupted leaves the old file, or none, and no temporary one.

    Raises:
        OutputError: If the file system refuses (no space, no permission, no folder).
    """
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
        os.close(handle)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from error
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files private; a result gets what any new file of this user gets.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(target)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def write_atomically(target: Path, data: bytes) -> None:
    """Write ``data`` to ``target`` whole or not at all. Raises ``OutputError``."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)


def write_pieces_atomically(target: Path, pieces: Iterable[bytes]) -> None:
    """Write ``pieces`` one after the other to ``target``, whole or not at all. Raises ``OutputError``."""
    with atomic_path(target) as temporary, temporary.open("wb") as file:
        file.writelines(pieces)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes in hexadecimal, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def has_sha256(path: Path, sha256: str) -> bool:
    """Whether a file's SHA-256 begins with these hexadecimal digits; none of them fit every file, unread."""
    return not sha256 or sha256_of(path).startswith(sha256.lower())
