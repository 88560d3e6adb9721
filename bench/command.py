"""A command of cnnport's in a process of its own, so that its peak of memory and its death are its own."""

import os
import subprocess
import sys
from collections.abc import Sequence

from cnnport.errors import CnnportError

# A net of 1,202 layers takes torch.onnx many minutes; what takes longer has gone wrong.
_LIMIT_S = 7200.0


def cnnport_command(
    arguments: Sequence[str], *, threads: int | None = None, accepted: Sequence[int] = (0,)
) -> str:
    """Standard output of a command.

    Args:
        arguments: Of ``cnnport``.
        threads: What the thread pools of libraries are told; None leaves it as it is.
        accepted: Exit codes that are no failure.

    Raises:
        CnnportError: If it fails, with what it says, or takes too long.
    """
    command = [sys.executable, "-m", "cnnport", *arguments]
    environment = dict(os.environ) if threads is None else {**os.environ, "OMP_NUM_THREADS": str(threads)}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_LIMIT_S, env=environment
        )
    except subprocess.TimeoutExpired as error:
        raise CnnportError(f"{arguments[0]} took longer than {_LIMIT_S:.0f} s") from error
    if done.returncode not in accepted:
        raise CnnportError(done.stderr.strip().removeprefix("error: ") or f"exit code {done.returncode}")
    return done.stdout
