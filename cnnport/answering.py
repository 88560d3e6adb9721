"""The other end of ``process``: a question comes as JSON, the answer is one line of JSON, then the process ends.

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
from typing import IO, NoReturn

from cnnport.errors import CnnportError
from cnnport.process import Json

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
    answers.write(json.dumps(_answer(serve, question)) + "\n")
    _end(answers)


def answer_all_with(begin: Callable[[Json], Callable[[Json], Json]]) -> None:
    """Answer questions, one a line, until there are no more or one goes wrong, and end this process.

    Args:
        begin: Is given the first, which has lost its ``parent`` and is answered with an empty object; gives what
            answers the others. Whatever either raises becomes the last answer.
    """
    answers = take_stdout()
    question = json.loads(sys.stdin.readline())
    follow(question.pop("parent"))
    serve: list[Callable[[Json], Json]] = []

    def begun(first: Json) -> Json:
        serve.append(begin(first))
        return {}

    answer = _answer(begun, question)
    answers.write(json.dumps(answer) + "\n")
    answers.flush()
    while "error" not in answer and (line := sys.stdin.readline()):
        answer = _answer(serve[0], json.loads(line))
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    _end(answers)


def _answer(serve: Callable[[Json], Json], question: Json) -> Json:
    try:
        return serve(question)
    except CnnportError as error:
        return {"error": one_line(error), "exit_code": error.exit_code}
    except MemoryError:
        return {"error": "memory ran out", "exit_code": 1}
    except (
        Exception
    ) as error:  # a runtime or a tool may raise anything, and it is to be a row, not a traceback
        return {"error": f"{type(error).__name__}: {one_line(error)}", "exit_code": 1}


def _end(answers: IO[str]) -> NoReturn:
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
