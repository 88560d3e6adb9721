"""Files are written whole or not at all, and nothing is left behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cnnport.errors import OutputError
from cnnport.files import atomic_path, check_writable, write_atomically


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_writes_and_replaces(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    write_atomically(target, b"one")
    write_atomically(target, b"two")
    assert target.read_bytes() == b"two"
    assert names(tmp_path) == ["a.bin"]


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_atomically(tmp_path / "a", b"")
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, MemoryError])
def test_a_failure_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")

    def fail() -> None:
        with atomic_path(target) as temporary:
            temporary.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_a_killed_process_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    program = f"""
import time
from pathlib import Path
from cnnport.files import atomic_path
with atomic_path(Path({str(target)!r})) as temporary:
    temporary.write_bytes(b"half")
    print("writing", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    assert target.read_bytes() == b"old"


def test_refuses_early(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("")
    with pytest.raises(OutputError, match="--overwrite"):
        check_writable(tmp_path / "there", overwrite=False)
    check_writable(tmp_path / "there", overwrite=True)
    check_writable(tmp_path / "new", overwrite=False)
    with pytest.raises(OutputError, match="is a folder"):
        check_writable(tmp_path, overwrite=True)
    with pytest.raises(OutputError, match="no folder"):
        check_writable(tmp_path / "no" / "a", overwrite=True)
    with pytest.raises(OutputError, match="cannot write"):
        check_writable(Path("/proc/a.onnx"), overwrite=True)
    assert names(tmp_path) == ["there"]


def test_an_error_of_the_file_system_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No space left"), atomic_path(tmp_path / "a"):
        raise OSError(28, "No space left on device")
    assert names(tmp_path) == []
