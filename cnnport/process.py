"""Questions to a fresh process, one or a conversation: JSON in, JSON out, and whatever goes wrong as data.

Several runtimes in one process would disturb each other (idle thread pools keep spinning, memory is shared, a
crash takes all), so everything that is measured, and everything that is held against something else, runs in a
process that does nothing else and then ends.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Any, Self, TypeAlias

Json: TypeAlias = dict[str, Any]
"""An object as JSON has it."""

# What the thread pools under the runtimes and under NumPy ask for their size.
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)

# A library that dies says why last, and seldom at length.
_LAST_WORDS_BYTES = 4096
_PIPE_BYTES = 65536


@dataclass(frozen=True)
class Failure:
    """A process that gave no result.

    Attributes:
        reason: In one line.
        exit_code: What a command ends with that asked for this alone.
    """

    reason: str
    exit_code: int = 1


def command_of(module: str) -> tuple[str, ...]:
    """The command that runs a module of ours in this interpreter, wherever the current folder is."""
    return (sys.executable, "-P", "-m", module)


def ask(command: Sequence[str], question: Json, *, threads: int | None, timeout_s: float) -> Json | Failure:
    """Start a process, hand it one JSON object on standard input and read one from its standard output.

    The process gets a group of its own, so that a terminal's Ctrl-C reaches only this process; when this call
    is interrupted or gives up, everything in the group is killed.

    Args:
        command: Program and arguments.
        question: Gets the field ``parent``, this process's id, so that the other can end with it.
        threads: What the thread pools of libraries are told by environment variables; None leaves these as they
            are.
        timeout_s: Seconds until the process is given up.

    Returns:
        The answer, or the failure if the process was killed, gave up, hung, or said an ``error`` itself.
    """
    with tempfile.TemporaryFile() as last_words:
        process = _start(command, threads, last_words)
        try:
            output, _ = process.communicate(
                json.dumps({**question, "parent": os.getpid()}).encode(), timeout=timeout_s
            )
        except subprocess.TimeoutExpired:
            return _late(timeout_s)
        finally:
            _end(process)
        return _answer(output, process.returncode, last_words)


class Conversation:
    """A process that is asked one thing after another, a line each way; see ``answering.answer_all_with``."""

    def __init__(self, command: Sequence[str], *, threads: int | None, timeout_s: float) -> None:
        """Start the process; arguments as of ``ask``, the time being that of each answer."""
        self._timeout_s = timeout_s
        self._last_words = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the conversation
        self._process = _start(command, threads, self._last_words)
        self._is_new = True
        self._read = b""

    def ask(self, question: Json) -> Json | Failure:
        """The answer to a question; after a failure there is no other."""
        if self._is_new:
            question, self._is_new = {**question, "parent": os.getpid()}, False
        assert self._process.stdin is not None
        # Who has ended already has said why, or its status does.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            self._process.stdin.flush()
        line = self._line()
        if line is None:
            return _late(self._timeout_s)
        if not line:
            self._process.wait()
        return _answer(line, self._process.returncode or 0, self._last_words)

    def _line(self) -> bytes | None:
        """The next line; empty when the process has ended, None when time is up."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + self._timeout_s
        while b"\n" not in self._read:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                return None
            piece = os.read(self._process.stdout.fileno(), _PIPE_BYTES)
            if not piece:
                return b""
            self._read += piece
        line, _, self._read = self._read.partition(b"\n")
        return line

    def __enter__(self) -> Self:
        """The conversation itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        _end(self._process)
        self._last_words.close()


def _start(command: Sequence[str], threads: int | None, last_words: IO[bytes]) -> "subprocess.Popen[bytes]":
    # Standard error goes to a file: reading a pipe would wake this process while the other one measures.
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=last_words,
        env=_environment(threads),
        process_group=0,
    )


def _late(timeout_s: float) -> Failure:
    return Failure(f"no answer within {timeout_s:g} s, so the process was stopped")


def _environment(threads: int | None) -> dict[str, str]:
    """This process's variables, its import path, and the sizes of thread pools."""
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)  # noqa: PTH109 - a string is wanted
    sizes = {} if threads is None else dict.fromkeys(_THREAD_VARIABLES, str(threads))
    return {**os.environ, "PYTHONPATH": path, **sizes}


def _end(process: subprocess.Popen[bytes]) -> None:
    # Only while the leader has not been waited for is its number sure to be still its own.
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def _answer(output: bytes, status: int, last_words: IO[bytes]) -> Json | Failure:
    try:
        answer = json.loads(output)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        return Failure(_how_it_ended(status) + _quoted(last_words))
    if "error" in answer:
        return Failure(str(answer["error"]), int(answer["exit_code"]))
    return answer


def _how_it_ended(status: int) -> str:
    if status >= 0:
        return f"the process ended with status {status} and no answer"
    try:
        name = f"signal {-status} ({signal.Signals(-status).name})"
    except ValueError:
        name = f"signal {-status}"
    advice = ", which is what the kernel does when memory runs out" if -status == signal.SIGKILL else ""
    return f"the process was killed by {name}{advice}"


def _quoted(last_words: IO[bytes]) -> str:
    """The last line that the process wrote to standard error, if any."""
    size = last_words.seek(0, os.SEEK_END)
    last_words.seek(max(0, size - _LAST_WORDS_BYTES))
    lines = last_words.read().decode(errors="replace").split("\n")
    said = [line.strip() for line in lines if line.strip()]
    return f": {said[-1]}" if said else ""
