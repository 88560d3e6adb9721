"""Asking the process in which a file runs under its runtime's profiler."""

from dataclasses import dataclass
from types import TracebackType
from typing import Self

from cnnport.errors import CnnportError
from cnnport.measuring.case import Case
from cnnport.measuring.fields import Json
from cnnport.measuring.paired import refusal
from cnnport.measuring.profiling.kernels import Kernel, Timed, merged
from cnnport.measuring.run import question_of, unfit
from cnnport.process import Conversation, Failure, command_of

# Who has a probe; the table of probes itself brings what must not be imported here.
PROFILED = ("ort-cpu", "ort-cuda", "openvino", "trt", "trt-rtx", "torch-cpu", "torch-cuda")

# Settings with which a runtime says nothing: what their value has to be, and why.
_COMPILED = ("mode", "eager", "a compiled module has no modules within to profile: leave out --set mode")
_UNTOLD = {
    "torch-cpu": _COMPILED,
    "torch-cuda": _COMPILED,
    "ort-cuda": (
        "cuda_graph",
        "0",
        "a replayed CUDA graph does not tell of its kernels: leave out --set cuda_graph=1",
    ),
}

# Of one answer: loading is the longest, and on a GPU an engine may be built.
_TIMEOUT_S = 900.0

# For a look at where time goes, and no figure.
_GLANCE_RUNS = 15


@dataclass(frozen=True)
class Told:
    """What a process says at its end.

    Attributes:
        kernels: With their times in each turn.
        runtime_version: Name and version of the package behind the runtime.
        device: What it ran on.
        noting_ms: That taking note of a kernel adds to its time.
    """

    kernels: tuple[Timed, ...]
    runtime_version: str
    device: str
    noting_ms: float = 0.0


class Profiling:
    """A process with one case under its profiler."""

    def __init__(self, case: Case, warmup_s: float) -> None:
        """Start it, and wait until it has warmed up.

        Args:
            case: Of a runtime that is available.
            warmup_s: Seconds of runs that do not count.

        Raises:
            CnnportError: As ``refusal``.
        """
        self._case = case
        self._process = Conversation(
            command_of("cnnport.measuring.profiling.worker"), threads=case.threads, timeout_s=_TIMEOUT_S
        )
        try:
            self._ask(question_of(case, warmup_s, 0.0, 1))
        except BaseException:
            self._process.__exit__(None, None, None)
            raise

    def turn(self, duration_s: float, *, least_runs: int = 1, most_runs: int) -> float:
        """Run for a while; the median of the runs in seconds, with what noting costs."""
        question = {"duration_s": duration_s, "least_runs": least_runs, "most_runs": most_runs}
        return float(self._ask(question)["p50_s"])

    def told(self, *, noting: bool = True) -> Told:
        """The kernels; the last that can be asked.

        Args:
            noting: Whether what taking note of them costs is measured.

        Raises:
            CnnportError: As the constructor.
        """
        answer = self._ask({"kernels": True, "noting": noting})
        kernels = tuple(Timed.from_json(row) for row in answer["kernels"])
        return Told(kernels, answer["runtime_version"], answer["device"], answer["noting_ms"])

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        self._process.__exit__(kind, error, trace)

    def _ask(self, question: Json) -> Json:
        answer = self._process.ask(question)
        if isinstance(answer, Failure):
            raise refusal(self._case, answer.reason, answer.exit_code)
        return answer


def require_profiled(case: Case) -> None:
    """See that a case can be profiled.

    Raises:
        CnnportError: If the runtime says nothing of its kernels, or not with these settings, or the file does not
            take the batch.
        RuntimeMissingError: If the runtime is not available.
    """
    if case.runtime not in PROFILED:
        raise CnnportError(f"{case.runtime} does not say how long its kernels take: {', '.join(PROFILED)} do")
    if untold := _UNTOLD.get(case.runtime):
        name, value, why = untold
        if case.settings.get(name, value) != value:
            raise CnnportError(why)
    if skipped := unfit(case):
        raise refusal(case, skipped.reason, skipped.exit_code)


def glance(case: Case) -> tuple[Kernel, ...]:
    """The kernels of a file after a few runs, in the order in which they run first.

    Raises:
        CnnportError: As ``require_profiled``.
        RuntimeMissingError: If the runtime is not available.
        CheckFailedError: If the process fails.
    """
    require_profiled(case)
    with Profiling(case, 0.0) as process:
        process.turn(0.0, least_runs=_GLANCE_RUNS, most_runs=_GLANCE_RUNS)
        return merged([process.told(noting=False).kernels])
