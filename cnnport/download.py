"""Fetch one file over HTTP so that it is in place only when it is whole and right.

Bytes go to ``NAME.part`` beside the target, which is locked, so that of two processes that want the same file one
fetches it and the other waits for it. A broken transfer goes on where it stopped, in the same call or the next one:

- ``NAME.part.json`` remembers the address and the server's validator (a strong ETag, else Last-Modified), and the
  request carries it in If-Range, so that a file that has changed meanwhile is sent from its start (RFC 9110, 13.1.5);
- without validator the part is continued only if a hash can tell afterwards whether the pieces fit;
- a server that knows no ranges answers with the whole file, which replaces the part.

The hash is checked before the file gets its name.
"""

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit, urlunsplit

from cnnport.connection import BrokenConnectionError, open_url
from cnnport.errors import WeightsError
from cnnport.files import has_sha256, sha256_of

if TYPE_CHECKING:
    import httpx

Report = Callable[[int, int | None], None]
"""Called with the number of bytes that are there and, where the server tells it, their number in the end."""

_RESUMPTIONS = 5

# torchvision, timm and others put the first digits of the hash into the name; eight digits may also be a date.
_HASH_IN_NAME = re.compile(r"-(?!(?:19|20)\d{6}\.)([0-9a-f]{8,64})\.\w+$")


def fetch(
    url: str, target: Path, *, sha256: str = "", connect_timeout_s: float, report: Report | None = None
) -> Path:
    """Fetch ``url`` into ``target``, which is replaced if it exists; folders are made.

    Args:
        url: An http or https address. Redirects are followed, proxies taken from the environment.
        target: Where the file goes when it is whole.
        sha256: Its hash in hexadecimal, or the first digits; empty if it is not known.
        connect_timeout_s: Limit for name resolution, connecting and TLS together, over all redirects.
        report: Is told about the progress.

    Returns:
        ``target``.

    Raises:
        WeightsError: If the file cannot be had, is not the one with that hash, or cannot be written. What has
            arrived by then is kept for the next call, unless it is known to be wrong or the disk is full.
    """
    sha256 = sha256.lower()
    if not re.fullmatch(r"[0-9a-f]{0,64}", sha256):
        raise WeightsError(f"{sha256!r} is not the beginning of a SHA-256 in hexadecimal")
    source = _Source(url, sha256, connect_timeout_s)
    try:
        before = _identity(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked_part(target) as part:
            if _identity(target) != before and has_sha256(target, sha256):
                return target  # another process has just finished
            _receive_right(source, part, report)
            part.publish(target)
    except OSError as error:
        raise WeightsError(f"cannot write {target}: {error.strerror or error}") from error
    return target


def public_url(url: str) -> str:
    """The address without user, password, query and fragment, which may be secret."""
    try:
        parts = urlsplit(url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    except ValueError:
        return url.partition("?")[0].partition("#")[0]


def hash_in_name(filename: str) -> str:
    """The first digits of the SHA-256 that a publisher put into a file's name; empty if there are none."""
    found = _HASH_IN_NAME.search(filename)
    return found[1] if found else ""


@dataclass(frozen=True)
class _Source:
    """What is fetched."""

    url: str
    sha256: str
    connect_timeout_s: float

    @property
    def shown(self) -> str:
        return public_url(self.url)


@dataclass(frozen=True)
class _Note:
    """Where a part comes from: hash of the address, the server's validator or "", the size of the whole."""

    address: str
    validator: str
    total: int | None

    def tells_changes(self, source: _Source) -> bool:
        """Whether it will come out if the file behind the address is another one now."""
        return bool(self.validator or source.sha256)


@dataclass(frozen=True)
class _Part:
    """The open, locked ``.part`` file and the note beside it."""

    path: Path
    file: BinaryIO

    @property
    def note(self) -> Path:
        return self.path.with_name(self.path.name + ".json")

    def size(self) -> int:
        """Number of bytes that have arrived."""
        return os.fstat(self.file.fileno()).st_size

    def restart(self, note: _Note) -> None:
        """Empty the file and note where the next bytes come from."""
        self.file.truncate(0)
        self.note.write_text(json.dumps(asdict(note)))

    def write(self, chunk: bytes) -> None:
        """Append ``chunk``, in the file when this returns."""
        self.file.write(chunk)
        self.file.flush()

    def note_of(self, source: _Source) -> _Note | None:
        """The note, if there is one and it is about this source."""
        try:
            note = _Note(**json.loads(self.note.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None
        return note if note.address == _digest_of(source.url) else None

    def publish(self, target: Path) -> None:
        """Give the file its final name."""
        os.fsync(self.file.fileno())
        self.path.replace(target)
        self.note.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove the file and the note."""
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


@contextmanager
def _locked_part(target: Path) -> Iterator[_Part]:
    """Open and lock the ``.part`` file of ``target``, waiting for a process that has it."""
    path = target.with_name(target.name + ".part")
    while True:
        # Appending never destroys what another process has written.
        with path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # Whoever had the lock before has moved the file away or removed it: this one has no name any more.
            if _identity(path) != _identity(file.fileno()):
                continue
            part = _Part(path, file)
            try:
                yield part
            except OSError:
                # A full disk is not helped by half a file.
                part.discard()
                raise
            finally:
                if _identity(path) == _identity(file.fileno()) and part.size() == 0:
                    part.discard()
            return


def _identity(file: Path | int) -> tuple[int, int] | None:
    try:
        status = os.stat(file)  # noqa: PTH116 - a descriptor has no Path
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _digest_of(url: str) -> str:
    # The address may hold a password or a signature, which has no place in a file.
    return hashlib.sha256(url.encode()).hexdigest()


def _receive_right(source: _Source, part: _Part, report: Report | None) -> None:
    """Complete the part and check its hash; pieces that do not fit are fetched once more in one go."""
    in_pieces = _receive(source, part, report)
    if in_pieces and not has_sha256(part.path, source.sha256):
        part.file.truncate(0)
        _receive(source, part, report)
    if not has_sha256(part.path, source.sha256):
        got = sha256_of(part.path)
        part.discard()
        raise WeightsError(
            f"{source.shown} is not the expected file\nexpected SHA-256 {source.sha256}, got {got}"
        )


def _receive(source: _Source, part: _Part, report: Report | None) -> bool:
    """Fetch what is missing, going on after interruptions. Returns whether the last response was a later piece."""
    for _ in range(_RESUMPTIONS + 1):
        before = part.size()
        try:
            return _receive_once(source, part, report)
        except BrokenConnectionError as error:
            reason = str(error)
        if part.size() == before:
            break
    size, note = part.size(), part.note_of(source)
    message = f"cannot fetch {source.shown}: {reason}"
    if note is not None and size > 0:
        message += f"\n{size}{'' if note.total is None else f' of {note.total}'} bytes arrived"
        if note.tells_changes(source):
            raise WeightsError(f"{message}; the next attempt goes on from there")
    part.discard()
    raise WeightsError(message)


def _receive_once(source: _Source, part: _Part, report: Report | None) -> bool:
    """Make one request and append its body. Returns whether it continued what was there."""
    have = part.size()
    note = part.note_of(source) if have else None
    if note is not None and not note.tells_changes(source):
        note = None
    headers: dict[str, str] = {}
    if note is not None:
        headers["Range"] = f"bytes={have}-"
        if note.validator:
            headers["If-Range"] = note.validator
    with open_url(source.url, headers, source.connect_timeout_s) as (response, body):
        status = response.status_code
        if note is not None and status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            if response.headers.get("Content-Range") == f"bytes */{have}":
                return True  # all of it had arrived before
        elif note is not None and status == HTTPStatus.PARTIAL_CONTENT:
            if _continues(response, have, note):
                _append(part, body, have, note.total, report)
                return True
        elif status == HTTPStatus.OK:
            _refuse_encoded(source, response)
            total = _length(response)
            part.restart(_Note(_digest_of(source.url), _validator(response), total))
            _append(part, body, 0, total, report)
            return False
        else:
            reason = f"{status} {response.reason_phrase}".strip()
            raise WeightsError(f"cannot fetch {source.shown}: the server answers {reason}")
    # The server has another file now, or does not do what it says: no piece of the old one is of use.
    part.file.truncate(0)
    return _receive_once(source, part, report)


def _append(part: _Part, body: Iterator[bytes], have: int, total: int | None, report: Report | None) -> None:
    if report is not None:
        report(have, total)
    for chunk in body:
        part.write(chunk)
        have += len(chunk)
        if report is not None:
            report(have, total)
    if total is not None and have != total:
        raise BrokenConnectionError("the server sent less than it had announced")


def _continues(response: "httpx.Response", have: int, note: _Note) -> bool:
    """Whether a partial response begins at byte ``have`` of the file that the first bytes are from."""
    piece = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if piece is None or int(piece[1]) != have:
        return False
    if note.total is not None and piece[2] not in {"*", str(note.total)}:
        return False
    # A server that knows no If-Range sends the range of whatever file it has now.
    validator = _validator(response)
    return not (note.validator and validator) or validator == note.validator


def _validator(response: "httpx.Response") -> str:
    """What identifies this version of the file; empty if the server gives nothing that If-Range accepts."""
    etag: str = response.headers.get("ETag", "")
    if etag and not etag.startswith("W/"):
        return etag
    modified: str = response.headers.get("Last-Modified", "")
    return modified


def _length(response: "httpx.Response") -> int | None:
    length: str = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _refuse_encoded(source: _Source, response: "httpx.Response") -> None:
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise WeightsError(f"cannot fetch {source.shown}: the server sends it only in {encoding} encoding")
