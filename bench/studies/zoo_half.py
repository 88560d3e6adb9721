"""A float32 file as float16, in a process of its own: ``python -m cnnport.measuring.studies.zoo_half``."""

import tempfile
from pathlib import Path

from cnnport.answering import answer_with
from cnnport.measuring.record import Json
from cnnport.process import Failure, ask, command_of

# Networks of a thousand layers are run node by node, as a runtime that really rounds computes them.
_LIMIT_S = 7200.0


def in_half(path: Path) -> Json:
    """What becomes of a file in float16.

    Returns:
        ``problem``, which is None where the half file computes finite numbers close to what the file computes; then
        also ``error_in_std``, ``tolerance_in_std``, how many nodes compute in ``half`` and how many in ``float32``,
        the latter by reason in ``kept``, and how many ``casts`` there are.
    """
    answer = ask(
        command_of("cnnport.measuring.studies.zoo_half"), {"path": str(path)}, threads=1, timeout_s=_LIMIT_S
    )
    return {"problem": answer.reason} if isinstance(answer, Failure) else {"problem": None, **answer}


def _serve(question: Json) -> Json:
    from cnnport.half_file import half_file

    with tempfile.TemporaryDirectory(prefix="cnnport-", ignore_cleanup_errors=True) as name:
        halved = half_file(Path(question["path"]), Path(name) / "half.onnx", "fp16").halved
    done = halved.conversion
    return {
        "error_in_std": halved.difference.error,
        "tolerance_in_std": halved.tolerance,
        "half": done.half,
        "casts": done.casts,
        "float32": len(done.kept) + len(done.spared),
        "kept": halved.kept,
    }


if __name__ == "__main__":
    answer_with(_serve)
