"""Writing a folder whole or not at all, and replacing none that is not ours."""

import ctypes
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from cnnport.errors import OutputError
from cnnport.packaging.kinds import Content
from cnnport.packaging.manifest import MANIFEST, files_of_package

# What installing and trying a package leaves in it; it goes with the package that it was made for.
_BY_TOOLS = {"node_modules", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache"}

_SHOWN = 3

# Linux, <linux/fs.h> and <fcntl.h>.
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Refuse a target early, before the work that would be lost.

    Args:
        folder: Where a package is to be.
        overwrite: Whether a package that lies there may be replaced.

    Raises:
        OutputError: If something else lies there, or what lies there may not be replaced, or there is no writing.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise OutputError(f"{folder} is not a folder: name another one with -o")
    if folder.resolve() == Path.cwd():
        raise OutputError(f"{folder} is the current folder, which cannot be moved into place: name one in it")
    if folder.is_dir() and any(folder.iterdir()):
        _check_ours(folder, overwrite=overwrite)
    if not folder.parent.is_dir():
        raise OutputError(f"cannot write {folder}: there is no folder {folder.parent}")
    try:
        with tempfile.TemporaryFile(dir=folder.parent):
            pass
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}") from error


def write_folder(folder: Path, files: Mapping[str, Content], *, overwrite: bool) -> None:
    """Write a package beside its place and move it there.

    A command that is killed leaves the old folder or the new one, and at worst a hidden one beside it.

    Args:
        folder: Where the package is to be.
        files: Contents by name, with ``/`` between folders.
        overwrite: Whether a package that lies there may be replaced.

    Raises:
        OutputError: As ``check_folder``, or if the file system refuses.
    """
    check_folder(folder, overwrite=overwrite)
    try:
        made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".part"))
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}") from error
    try:
        for name, content in files.items():
            _write(made / name, content)
        # mkdtemp makes folders private; a result gets what any new folder of this user gets.
        mask = os.umask(0)
        os.umask(mask)
        made.chmod(0o777 & ~mask)
        _put(made, folder)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _check_ours(folder: Path, *, overwrite: bool) -> None:
    """Raises ``OutputError`` unless the folder is a package of ours that may go."""
    stated = files_of_package(folder)
    if stated is None:
        raise OutputError(
            f"{folder} is not empty and no package of cnnport (it holds no {MANIFEST}): name another folder"
        )
    if not overwrite:
        raise OutputError(f"{folder} exists: pass --overwrite to replace it, or -o to write elsewhere")
    strange = sorted(name for name in _names(folder) if name not in stated)
    if strange:
        more = f" and {len(strange) - _SHOWN} more" if len(strange) > _SHOWN else ""
        raise OutputError(
            f"{folder} also holds what is not of the package: {', '.join(strange[:_SHOWN])}{more}\n"
            "move it away, or write the package elsewhere"
        )


def _names(folder: Path) -> list[str]:
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in _BY_TOOLS]
        found += [(Path(place) / name).relative_to(folder).as_posix() for name in files]
    return found


def _write(path: Path, content: Content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as target:
        if isinstance(content, Path):
            with content.open("rb") as source:
                shutil.copyfileobj(source, target)
        else:
            target.write(content)
        target.flush()
        os.fsync(target.fileno())


def _put(made: Path, folder: Path) -> None:
    """Move a folder to its place; what is there comes to lie where the new one was."""
    try:
        # An empty folder is replaced in one step, as a file would be.
        made.replace(folder)
    except OSError:
        if not folder.is_dir():
            raise
    else:
        return
    if _exchange(made, folder):
        return
    # Where two folders cannot change places in one step there is a moment without either; a failure undoes it.
    old = made.with_suffix(".old")
    folder.replace(old)
    try:
        made.replace(folder)
    except BaseException:
        with suppress(OSError):
            old.replace(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change places in one step, where the system can."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename is None:
        return False
    names = os.fsencode(one), os.fsencode(other)
    return bool(rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0)
