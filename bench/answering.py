"""A process that is asked one thing: it reads the question as JSON, answers with one line of JSON, and ends at once.

The question is on standard input, the answer goes to the real standard output. What libraries print goes to standard
error, because file descriptor 1 is moved away before any of them is imported. Errors are answers too: ``{"error",
"exit_code"}``.
"""

import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import IO

from cnnport.bench.record import Json
from cnnport.errors import CnnportError

_PR_SET_PDEATHSIG = 1
_REASON_LENGTH = 300


def answer_with(serve: Callable[[Json], Json]) -> None:
    """Read a question, answer it, and end this process.

    Args:
        serve: Gives the answer to a question, which has lost its ``parent``; whatever it raises becomes the answer.
    """
    answers = take_stdout()
    question = json.load(sys.stdin)
    follow(question.pop("parent"))
    try:
        answer = serve(question)
    except CnnportError as error:
        answer = {"error": one_line(error), "exit_code": error.exit_code}
    except MemoryError:
        answer = {"error": "memory ran out", "exit_code": 1}
    except (
        Exception
    ) as error:  # a runtime or a tool may raise anything, and it is to be a row, not a traceback
        answer = {"error": f"{type(error).__name__}: {one_line(error)}", "exit_code": 1}
    answers.write(json.dumps(answer) + "\n")
    answers.close()
    sys.stderr.flush()
    # Some runtimes crash or hang when the interpreter takes them down; the answer is complete by now.
    os._exit(0)


def one_line(error: Exception) -> str:
    """The text of an error without its line breaks, cut where it gets long."""
    text = " ".join(str(error).split())
    return text if len(text) <= _REASON_LENGTH else text[: _REASON_LENGTH - 1] + "…"


def take_stdout() -> IO[str]:
    """Move standard output to where nobody else writes; descriptor 1 becomes standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def follow(parent: int) -> None:
    """End when the process that started this one ends, however that happens; only Linux can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        # It may have ended before the call.
        if os.getppid() != parent:
            os._exit(1)
