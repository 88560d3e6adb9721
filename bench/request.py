"""A benchmark as it is asked for: which networks, in what, on what; and from that to a record.

The rest of this package takes artifacts; here is what makes them of names, with int8 placed for each runtime as is
fastest there, and what finds the baseline.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cnnport.artifact import Artifact
from cnnport.errors import CnnportError, RuntimeMissingError
from cnnport.measuring.case import Case, make_cases
from cnnport.measuring.gate import MAX_ROUNDS, ROUNDS, bench_against, find_baselines, parse_limit
from cnnport.measuring.journal import Journal
from cnnport.measuring.record import Results
from cnnport.measuring.run import Plan, Progress, bench
from cnnport.metadata import at_native_size
from cnnport.runtimes import available, get_runtime
from cnnport.runtimes.engine_file import is_engine
from cnnport.store import NOISE, artifact_of, default_calibration

DEFAULT_LIMIT = "p50+5%"
"""What is a regression where nothing else was said."""

_PRECISIONS = ("fp32", "fp16", "bf16", "int8")

# Whose placement of int8 is fastest on a runtime, where that is not ONNX Runtime's.
_TARGETS = {"openvino": "openvino", "trt": "trt", "trt-rtx": "trt"}


@dataclass(frozen=True)
class Request:
    """What is to be measured.

    Attributes:
        models: As of ``store.artifact_of``.
        runtimes: Names; empty for all that are present.
        precisions: Of zoo networks, which are exported in each; empty for float32, and files as they are.
        calibration: Samples for int8; None for ``store.default_calibration``.
        weights: Of zoo networks, as of ``export``.
        batches: Batch sizes; None for a file's own where it is fixed, otherwise 1.
        threads: Numbers of threads; None for ``default_threads()``.
        concurrency: Numbers of requests in flight.
        shapes: Of inputs of dynamic size, whole, by input name.
        settings: By runtime, as of ``runtimes.settings_for``.
        device: Which of several devices of a kind.
        deterministic: As of ``Options``.
        transfers: Whether, on a GPU, copies of inputs and outputs count.
        plan: How long and how often: arguments of ``Plan``; what is missing has its default, or that of the gate.
        baseline: A record or a file to hold the cases against; None for nothing.
        limits: What is a regression, such as ``p50+5%``.
        max_rounds: With a baseline, rounds until a case is inconclusive; None for the gate's own number.
        command: That makes the record again.
    """

    models: tuple[str, ...]
    runtimes: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    calibration: str | None = None
    weights: str = "auto"
    batches: tuple[int, ...] | None = None
    threads: tuple[int, ...] | None = None
    concurrency: tuple[int, ...] = (1,)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    device: int = 0
    deterministic: bool = False
    transfers: bool = False
    plan: Mapping[str, Any] = field(default_factory=dict)
    baseline: Path | None = None
    limits: tuple[str, ...] = (DEFAULT_LIMIT,)
    max_rounds: int | None = None
    command: str = ""


@dataclass(frozen=True)
class Told:
    """Who is told what on the way.

    Attributes:
        step: The name of each step of an export when it begins.
        note: Sentences that a user should read.
        download: Bytes so far and in all while weights are fetched.
        progress: As of ``bench``.
    """

    step: Callable[[str], None] = lambda _: None
    note: Callable[[str], None] = lambda _: None
    download: Callable[[int, int | None], None] | None = None
    progress: Progress | None = None


def measure_request(request: Request, *, told: Told | None = None, journal: Journal | None = None) -> Results:
    """Make the files that are missing, measure, and hold against the baseline if there is one.

    Args:
        request: What.
        told: Who is told what.
        journal: As of ``bench``.

    Raises:
        RuntimeMissingError: If none of the runtimes that were asked for is available.
        CnnportError: On wrong usage or input; each subclass says what.
    """
    told = told or Told()
    reasons = missing_of(request.runtimes)
    if reasons and len(reasons) == len(request.runtimes):
        name, reason = next(iter(reasons.items()))
        raise RuntimeMissingError(f"runtime {name} is not available: {reason}")
    cases = cases_of(request, told)
    run: dict[str, Any] = {"on_progress": told.progress, "journal": journal, "command": request.command}
    if request.baseline is None:
        return bench(cases, **request.plan, **run)
    return _against(request, request.baseline, cases, told, run)


def missing_of(runtimes: tuple[str, ...]) -> dict[str, str]:
    """Why each of some runtimes is not available, for those that are not. Raises ``UnknownNameError``."""
    reasons = {name: get_runtime(name).missing() for name in runtimes}
    return {name: reason for name, reason in reasons.items() if reason}


def cases_of(request: Request, told: Told) -> tuple[Case, ...]:
    """Every model in every precision on every runtime, which each take int8 as it is fastest there.

    Raises:
        CnnportError: As ``measure_request``.
    """
    if wrong := [each for each in request.precisions if each not in _PRECISIONS]:
        raise CnnportError(f"--precision is one of {', '.join(_PRECISIONS)}, not {wrong[0]!r}")
    runtimes = request.runtimes or available()
    batches = request.batches
    if batches is None and request.shapes:
        batches = tuple(dict.fromkeys(sizes[0] for sizes in request.shapes.values()))
    found: list[Case] = []
    wanted: tuple[str | None, ...] = request.precisions or (None,)
    for model in request.models:
        is_file = model.endswith(".onnx") or is_engine(model)
        for precision in wanted:
            is_placed = precision == "int8" and not is_file
            if is_placed:
                _tell_calibration(model, request.calibration, told)
            for group in [(name,) for name in runtimes] if is_placed else [tuple(runtimes)]:
                target = _TARGETS.get(group[0], "ort") if is_placed else None
                found += make_cases(
                    [_artifact(request, model, precision, target, told)],
                    group,
                    batches,
                    request.threads,
                    settings=request.settings,
                    device=request.device,
                    deterministic=request.deterministic,
                    concurrency=request.concurrency,
                    transfers=request.transfers,
                )
    return tuple(found)


def _artifact(
    request: Request, model: str, precision: str | None, target: str | None, told: Told
) -> Artifact:
    made = artifact_of(
        model,
        weights=request.weights,
        precision=precision,
        calibration=request.calibration,
        target=target,
        on_step=told.step,
        on_warning=told.note,
        on_download=told.download,
    )
    return made.with_shapes(request.shapes)


def _tell_calibration(model: str, calibration: str | None, told: Told) -> None:
    samples = calibration or default_calibration(model)
    claim = ", which is for its speed and says nothing of its accuracy" if samples == NOISE else ""
    told.note(f"note: {model} in int8: ranges are found on {samples}{claim}")


def _against(
    request: Request, baseline: Path, cases: tuple[Case, ...], told: Told, run: dict[str, Any]
) -> Results:
    allowed = [parse_limit(limit) for limit in request.limits]
    settled = Plan(**{"rounds": ROUNDS, **request.plan})
    found = find_baselines(
        cases, baseline, prepare=lambda artifact: at_native_size(artifact.with_shapes(request.shapes))
    )
    for case, each in zip(cases, found, strict=True):
        if each is None:
            told.note(f"warning: {baseline} has nothing to hold {case.title} against")
    most = max(MAX_ROUNDS, settled.rounds) if request.max_rounds is None else request.max_rounds
    return bench_against(cases, found, allowed, settled, max_rounds=most, **run)
