"""One question to one fresh process: JSON in, JSON out, and whatever goes wrong as data.

Several runtimes in one process would disturb each other (idle thread pools keep spinning, memory is shared, a
crash takes all), so everything that is measured runs in a process that does nothing else and then ends.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from cnnport.bench.record import Json

WORKER = "cnnport.bench.worker"

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


@dataclass(frozen=True)
class Failure:
    """A process that gave no result.

    Attributes:
        reason: In one line.
        exit_code: As of ``Skipped``.
    """

    reason: str
    exit_code: int = 1


def command_of(module: str) -> tuple[str, ...]:
    """The command that runs a module of ours in this interpreter, wherever the current folder is."""
    return (sys.executable, "-P", "-m", module)


def ask(command: Sequence[str], question: Json, *, threads: int, timeout_s: float) -> Json | Failure:
    """Start a process, hand it one JSON object on standard input and read one from its standard output.

    The process gets a group of its own, so that a terminal's Ctrl-C reaches only this process; when this call
    is interrupted or gives up, everything in the group is killed.

    Args:
        command: Program and arguments.
        question: Gets the field ``parent``, this process's id, so that the other can end with it.
        threads: What the thread pools of libraries are told by environment variables.
        timeout_s: Seconds until the process is given up.

    Returns:
        The answer, or the failure if the process was killed, gave up, hung, or said an ``error`` itself.
    """
    with tempfile.TemporaryFile() as last_words:
        # Standard error goes to a file: reading a pipe would wake this process while the other one measures.
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=last_words,
            env=_environment(threads),
            process_group=0,
        )
        try:
            output, _ = process.communicate(
                json.dumps({**question, "parent": os.getpid()}).encode(), timeout=timeout_s
            )
        except subprocess.TimeoutExpired:
            return Failure(f"no answer within {timeout_s:g} s, so the process was stopped")
        finally:
            _end(process)
        return _answer(output, process.returncode, last_words)


def _environment(threads: int) -> dict[str, str]:
    """This process's variables, its import path, and the sizes of thread pools."""
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)  # noqa: PTH109 - a string is wanted
    return {**os.environ, "PYTHONPATH": path, **dict.fromkeys(_THREAD_VARIABLES, str(threads))}


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
