"""One run at a time for a record: two would each write only what they found themselves."""

import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cnnport.errors import CnnportError, OutputError
from cnnport.files import cache_root


@contextmanager
def alone(record: Path) -> Iterator[None]:
    """Keep every other run off a record for as long as the block lasts; the system lets go when the process dies.

    The lock lies in the user's cache, since what lies beside a record is committed with it.

    Raises:
        CnnportError: If another run has the record.
        OutputError: If there is no writing in the cache.
    """
    folder = cache_root() / "locks"
    lock = folder / f"{hashlib.sha256(str(record.resolve()).encode()).hexdigest()[:24]}.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = lock.open("ab")
    except OSError as error:
        raise OutputError(f"cannot write {lock}: {error.strerror or error}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CnnportError(f"another run is writing {record}: wait until it is done") from error
        yield
