"""Networks at work: opened on a runtime, and measured."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnport.api.models import Model, OnStep, ignore, names_of
from cnnport.artifact import Artifact

if TYPE_CHECKING:
    from cnnport.measuring import Journal, Results
    from cnnport.measuring.request import Told
    from cnnport.runtimes import Session


def load(
    model: Model,
    runtime: str = "ort-cpu",
    *,
    threads: int | None = None,
    device: int = 0,
    deterministic: bool = False,
    settings: Sequence[str] = (),
    weights: str = "auto",
    precision: str | None = None,
    on_step: OnStep = ignore,
) -> "Session":
    """Open a network on a runtime, which then runs arrays: ``session.run({"input": array})["logits"]``.

    Args:
        model: A network, which is exported if it is not in the cache, or a file.
        runtime: ``ort-cpu``, ``ort-cuda``, ``openvino``, ``trt``, ``trt-rtx``, ``torch-cpu`` or ``torch-cuda``; it
            runs there or fails, and never falls back to another.
        threads: Inside one run; None leaves it to the runtime.
        device: Which of several devices of a kind.
        deterministic: Whether the same input has to give the same bits in every run.
        settings: What the runtime offers beside these, each as ``NAME=VALUE``.
        weights: As of ``export``, for networks.
        precision: As of ``export``, for networks; None for float32, and for what a file has.
        on_step: Told the name of each step of an export when it begins.

    Returns:
        A context manager that owns its memory until it is closed; ``inputs`` and ``outputs`` say what it takes.

    Raises:
        CnnportError: On wrong usage or input.
        RuntimeMissingError: If the runtime is not available here.
    """
    from cnnport.runtimes import Options, require_runtime, settings_for
    from cnnport.store import artifact_of

    adapter = require_runtime(runtime)
    chosen = settings_for([runtime], settings)[runtime]
    artifact = (
        model
        if isinstance(model, Artifact)
        else artifact_of(str(model), weights=weights, precision=precision, on_step=on_step)
    )
    options = Options(threads=threads, device=device, deterministic=deterministic, settings=chosen)
    return adapter.open(artifact, options)


def bench(
    models: Model | Sequence[Model] = "shufflenet_v2",
    *,
    runtimes: Sequence[str] = (),
    precisions: Sequence[str] = (),
    calibration: str | None = None,
    weights: str = "auto",
    batches: Sequence[int] | None = None,
    threads: Sequence[int] | None = None,
    concurrency: Sequence[int] = (1,),
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    settings: Sequence[str] = (),
    device: int = 0,
    deterministic: bool = False,
    transfers: bool = False,
    duration_s: float = 3.0,
    warmup_s: float = 0.5,
    warmup_max_s: float | None = None,
    rounds: int | None = None,
    seed: int = 0,
    baseline: str | Path | None = None,
    fail_if: Sequence[str] | None = None,
    max_rounds: int | None = None,
    command: str = "",
    journal: "Journal | None" = None,
    told: "Told | None" = None,
) -> "Results":
    """Measure latency and throughput: one process a case, cases in turn over several rounds.

    A case that cannot run is a row with its reason in ``skipped``.

    Args:
        models: One or several.
        runtimes: By name; empty for all that are present.
        precisions: Of networks, which are exported in each; empty for float32. Files are measured as they are.
        calibration: Samples for int8; None for digits where the weights were trained on them, else noise.
        weights: Of networks, as of ``export``.
        batches: Sizes; None for a file's own where it is fixed, otherwise 1.
        threads: Numbers of threads, each pinned; None for all cores.
        concurrency: Numbers of requests in flight, in one process.
        shapes: Of inputs of open size, whole, by input name.
        settings: As of ``load``; ``RUNTIME.NAME=VALUE`` for one of several.
        device: Which of several devices of a kind.
        deterministic: As of ``load``.
        transfers: Whether, on a GPU, copies of inputs and outputs count.
        duration_s: Seconds of counted runs for each case, all rounds together.
        warmup_s: Least seconds of uncounted runs in every process.
        warmup_max_s: Most; None for four times the least.
        rounds: Over all cases; None for 3, and with a baseline for 5.
        seed: Of the order of the cases in each round.
        baseline: An earlier record (.json) or an .onnx file; both sides are measured in turn where that can be done.
        fail_if: What is a regression, such as ``p50+5%``, which is what None means.
        max_rounds: With a baseline, rounds until it is inconclusive; None for 40.
        command: That makes the record again, for the record.
        journal: Keeps what was measured, so that a killed run goes on.
        told: Who is told what on the way.

    Returns:
        Measurements with their raw samples, what was skipped, and with a baseline one verdict for each case.

    Raises:
        CnnportError: On wrong usage or input.
        RuntimeMissingError: If none of the runtimes that were asked for is available.
    """
    from cnnport.measuring.request import DEFAULT_LIMIT, Request, measure_request
    from cnnport.runtimes import available, settings_for

    plan: dict[str, Any] = {
        "warmup_s": warmup_s,
        "warmup_max_s": warmup_max_s,
        "duration_s": duration_s,
        "seed": seed,
    }
    request = Request(
        models=names_of(models),
        runtimes=tuple(runtimes),
        precisions=tuple(precisions),
        calibration=calibration,
        weights=weights,
        batches=None if batches is None else tuple(batches),
        threads=None if threads is None else tuple(threads),
        concurrency=tuple(concurrency),
        shapes=dict(shapes or {}),
        settings=settings_for(runtimes or available(), settings),
        device=device,
        deterministic=deterministic,
        transfers=transfers,
        plan=plan if rounds is None else {**plan, "rounds": rounds},
        baseline=None if baseline is None else Path(baseline),
        limits=tuple(fail_if or (DEFAULT_LIMIT,)),
        max_rounds=max_rounds,
        command=command,
    )
    return measure_request(request, told=told, journal=journal)
