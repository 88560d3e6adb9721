"""Whether a file is what it should be: by itself, beside others, and on labelled pictures."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cnnport.api.models import Model, OnDownload, OnStep, ignore, names_of
from cnnport.artifact import Artifact
from cnnport.errors import CnnportError
from cnnport.preprocess import Preprocess

if TYPE_CHECKING:
    from cnnport.agreement import Matrix
    from cnnport.evaluation import Evaluated, Status
    from cnnport.verifying import Check


def verify(file: str | Path) -> "tuple[Check, ...]":
    """Check a file that cnnport exported: checksums, validity, metadata, golden output; needs no PyTorch.

    Raises:
        ArtifactError: If the file is not ONNX, or says nothing of itself that could be checked.
        RuntimeMissingError: If onnxruntime is not installed.
    """
    from cnnport.verifying import verify as check_file

    return check_file(file)


def parity(
    models: Model | Sequence[Model],
    *,
    runtimes: Sequence[str] = (),
    precisions: Sequence[str] = (),
    reference: str | None = None,
    samples: int | None = None,
    data: str | Path | None = None,
    seed: int = 0,
    atol: float | None = None,
    rtol: float | None = None,
    extremes: bool = True,
    checks: bool = True,
    calibration: str | None = None,
    threads: int | None = None,
    settings: Sequence[str] = (),
    device: int = 0,
    deterministic: bool = False,
    weights: str = "auto",
    save: str | Path | None = None,
    against: str | Path | None = None,
    layers: bool = False,
    write: str | Path | None = None,
    overwrite: bool = False,
    on_step: OnStep = ignore,
    on_note: OnStep = ignore,
    on_download: OnDownload | None = None,
) -> "Matrix":
    """Compare runtimes, precisions and files with one reference; ``matrix.ok`` says whether all agree.

    Args:
        models: One or several; of a network by name, the PyTorch original is the reference.
        runtimes: By name; empty for all that are present.
        precisions: What is made of float32 files; empty to take each as it is.
        reference: A candidate, by runtime, precision, file or label; None for the first.
        samples: How many inputs; None for 32.
        data: A folder of pictures or arrays, ``digits`` or ``random:N``; None for noise, or digits for networks
            that were trained on them.
        seed: Of what is drawn.
        atol: Allowed difference, instead of that by precision.
        rtol: Beside it, as a share of each value.
        extremes: Whether zeros, constants, large values, spikes and near-ties are tried.
        checks: Whether candidates are held against themselves: over batches, repetitions and threads.
        calibration: Samples for int8.
        threads: Of a run; None for the runtime's own.
        settings: As of ``bench``.
        device: Which of several devices of a kind.
        deterministic: As of ``load``.
        weights: Of networks, as of ``export``.
        save: A folder in which inputs and the reference's answers are kept, if all agree.
        against: Such a folder to compare with, which needs no PyTorch.
        layers: Whether to look for the first layer that departs.
        write: A folder for the smallest piece that shows what ``layers`` found.
        overwrite: Whether ``save`` may replace an older one.
        on_step: Told the name of each step when it begins.
        on_note: Told sentences that a user should read.
        on_download: Told the bytes so far and in all while weights are fetched.

    Raises:
        CnnportError: On wrong usage or input.
        RuntimeMissingError: If a runtime that was asked for is not available.
    """
    from cnnport.agreement import Plan, Request
    from cnnport.agreement import parity as compare
    from cnnport.runtimes import Options, available, require_runtime, settings_for
    from cnnport.runtimes.engine_file import is_engine
    from cnnport.store import artifact_of

    for name in runtimes:
        require_runtime(name)
    used = list(runtimes) or list(available())
    chosen = settings_for(used, settings)
    options = {
        name: Options(
            threads=threads, device=device, deterministic=deterministic, settings=chosen.get(name, {})
        )
        for name in dict.fromkeys((*used, "torch-cpu"))
    }
    files: list[tuple[str, Artifact]] = []
    networks = []
    for model in names_of(models):
        artifact = artifact_of(
            model, weights=weights, on_step=on_step, on_warning=on_note, on_download=on_download
        )
        is_file = model.endswith(".onnx") or is_engine(model)
        files.append((Path(model).name if is_file else artifact.model, artifact))
        if not is_file:
            networks.append(artifact.model)
    request = Request(
        files=tuple(files),
        named=frozenset(networks),
        runtimes=tuple(runtimes),
        precisions=tuple(precisions),
        reference=reference,
        data=None if data is None else str(data),
        count=samples,
        calibration=calibration,
        options=options,
        plan=Plan(seed=seed, extremes=extremes, checks=checks, atol=atol, rtol=rtol),
        save=None if save is None else Path(save),
        against=None if against is None else Path(against),
        overwrite=overwrite,
        layers=layers,
        write=None if write is None else Path(write),
    )
    return compare(request, on_step=on_step)


def evaluate(
    models: Model | Sequence[Model],
    data: str | Path,
    *,
    runtimes: Sequence[str] = (),
    precisions: Sequence[str] = (),
    crops: str = "1",
    scales: Sequence[int] | str = (),
    flips: bool = True,
    labels: str | Path | None = None,
    count: int | None = None,
    pictures: Preprocess | Callable[[Artifact], Preprocess | None] | None = None,
    calibration: str | None = None,
    weights: str = "auto",
    batch: int | None = None,
    threads: int | None = None,
    workers: int | None = None,
    engine: str = "local",
    ray_address: str | None = None,
    fresh: bool = False,
    settings: Sequence[str] = (),
    device: int = 0,
    deterministic: bool = False,
    on_step: OnStep = ignore,
    on_note: OnStep = ignore,
    on_status: "Callable[[Status], None]" = ignore,
    on_download: OnDownload | None = None,
) -> "list[Evaluated]":
    """Evaluate networks over pictures whose classes are known: top-1, top-5, each class, calibration.

    Args:
        models: One or several.
        data: A folder with one folder for each class, or ``digits``.
        runtimes: By name; empty for all that are present.
        precisions: Of networks, which are exported in each; empty for float32.
        crops: ``1``, ``5``, ``10``, ``144``, ``dense``, or a number and ``+dense``.
        scales: Lengths in pixels that the shorter side is scaled to; empty for the network's own.
        flips: Whether the dense form sees the mirror image too.
        labels: A list of classes for folders of one picture each; None where folders tell.
        count: So many pictures, as many of each class.
        pictures: How a picture becomes the input, whatever files say; or what tells it of the first file.
        calibration: Samples for int8.
        weights: Of networks, as of ``export``.
        batch: Views that are run at once.
        threads: Inside one run.
        workers: Threads that decode and run.
        engine: ``local`` or ``ray``.
        ray_address: Of a cluster that this machine is not part of.
        fresh: Whether what an earlier run found is left aside.
        settings: As of ``bench``.
        device: Which of several devices of a kind.
        deterministic: As of ``load``.
        on_step: Told the name of each step when it begins.
        on_note: Told sentences that a user should read.
        on_status: Told how far it is, after every batch.
        on_download: Told the bytes so far and in all while weights are fetched.

    Returns:
        One result for each model in each precision on each runtime, in that order.

    Raises:
        CnnportError: On wrong usage or input.
        RuntimeMissingError: If a runtime or the engine is not available.
    """
    from cnnport.classify import states_preprocess
    from cnnport.evaluation import Plan, Request, parse_protocol
    from cnnport.evaluation import evaluate as run
    from cnnport.runtimes import Options, available, require_runtime, settings_for
    from cnnport.runtimes.engine_file import is_engine
    from cnnport.store import artifact_of

    for name in runtimes:
        require_runtime(name)
    used = list(runtimes) or list(available())
    chosen = settings_for(used, settings)
    lengths = scales if isinstance(scales, str) else ",".join(map(str, scales))
    protocol = parse_protocol(crops, lengths or None, flips=flips)
    names = dict.fromkeys(names_of(models))
    networks = [name for name in names if not name.endswith(".onnx") and not is_engine(name)]
    if protocol.dense and networks:
        raise CnnportError(
            f"--crops dense is for the fully convolutional form of {networks[0]}: "
            f"cnnport export {networks[0]} --dense -o dense.onnx makes it"
        )
    artifacts = [
        artifact_of(
            name,
            weights=weights,
            precision=precision,
            calibration=calibration,
            on_step=on_step,
            on_warning=on_note,
            on_download=on_download,
        )
        for name in names
        for precision in (tuple(precisions) or (None,))
    ]
    preprocess = pictures(artifacts[0]) if callable(pictures) else pictures
    if preprocess is None:
        for artifact in artifacts:
            if not states_preprocess(artifact):
                on_note(f"note: {artifact.path} does not state its preprocessing: taking ImageNet's")
    plan = Plan(
        data=str(data),
        labels=None if labels is None else Path(labels),
        count=count,
        protocol=protocol,
        preprocess=preprocess,
        batch=batch,
        workers=workers,
        engine=engine,
        ray_address=ray_address,
        fresh=fresh,
    )
    requests = [
        Request(
            artifact,
            name,
            Options(threads=threads, device=device, deterministic=deterministic, settings=chosen[name]),
        )
        for artifact in artifacts
        for name in used
    ]
    return run(requests, plan, on_status=on_status)
