"""``cnnport parity`` as a function: who is compared with whom, over what, and what is kept of it."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cnnport.agreement.candidates import Candidate, Left, cross, find_reference
from cnnport.agreement.goldens import (
    Goldens,
    check_target,
    compare_with_goldens,
    read_goldens,
    save_goldens,
)
from cnnport.agreement.inputs import COUNT
from cnnport.agreement.layers.rows import look_into
from cnnport.agreement.making import file_in, is_of_digits
from cnnport.agreement.matrix import Matrix, Plan, compare
from cnnport.artifact import Artifact
from cnnport.calibration import Samples, open_samples
from cnnport.calibration.samples import RandomSamples
from cnnport.errors import CnnportError
from cnnport.runtimes import Options, available, get_runtime, require_runtime

_ORIGINAL = "torch-cpu"
_PLAIN = "ort-cpu"


@dataclass(frozen=True)
class Request:
    """What is to be compared.

    Attributes:
        files: Names and files.
        named: Names of those that were given as networks, whose PyTorch original is taken as reference.
        runtimes: Names; empty for all that are present.
        precisions: What is made of float32 files; empty to take each file as it is.
        reference: A label, runtime, precision, name or file; None for the first candidate.
        data: As of ``open_samples``; None for digits where the network ships trained on them, else noise.
        count: How many samples.
        calibration: For 8 bits, as of ``making.file_in``.
        options: By runtime.
        plan: How.
        save: Folder to write goldens to.
        against: Folder of goldens to compare with.
        overwrite: Whether ``save`` may replace an older one.
        layers: Whether to look for the layer that departs, in every row that failed, or in all if none did.
        write: Folder for the smallest piece of each network that shows it; None for none.
    """

    files: tuple[tuple[str, Artifact], ...]
    named: frozenset[str] = frozenset()
    runtimes: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    reference: str | None = None
    data: str | None = None
    count: int | None = None
    calibration: str | None = None
    options: Mapping[str, Options] = field(default_factory=dict)
    plan: Plan = field(default_factory=Plan)
    save: Path | None = None
    against: Path | None = None
    overwrite: bool = False
    layers: bool = False
    write: Path | None = None


def parity(request: Request, *, on_step: Callable[[str], None] = lambda _: None) -> Matrix:
    """Compare, and save goldens if everything agrees and that is asked for.

    Args:
        request: What.
        on_step: Told the name of each step when it begins.

    Raises:
        CnnportError: On wrong usage or input; each subclass says what.
        RuntimeMissingError: If a runtime that was asked for is not available.
        CheckFailedError: If goldens are damaged.
    """
    for name in request.runtimes:
        require_runtime(name)
    if request.save is not None and request.against is not None:
        raise CnnportError(
            "--save and --against do not go together: save what was compared with PyTorch or a file"
        )
    if request.count is not None and request.count < 1:
        raise CnnportError(f"--samples is a number from 1, not {request.count}")
    if request.layers and request.against is not None:
        raise CnnportError("goldens have no layers: --layers compares with a file or a network")
    if request.write is not None and not request.layers:
        raise CnnportError("--write is where --layers puts what it finds: give both")
    if request.against is not None:
        return _against(request, read_goldens(request.against), on_step)
    if request.save is not None:
        check_target(request.save, overwrite=request.overwrite)
    runtimes = request.runtimes or available()
    candidates, left = _candidates(request, runtimes, on_step)
    reference = _reference(request, candidates, runtimes)
    if reference not in candidates and request.reference is None and not candidates:
        raise CnnportError(_nothing(left))
    samples = _samples(request, reference.artifact)
    with tempfile.TemporaryDirectory(prefix="cnnport-", ignore_cleanup_errors=True) as name:
        matrix = compare(candidates, reference, samples, Path(name), request.plan, on_step=on_step)
        matrix = replace(matrix, left=left)
        if request.layers:
            layers = look_into(matrix, reference, write=request.write, on_step=on_step)
            matrix = replace(matrix, layers=layers)
        if request.save is not None and matrix.ok:
            own = request.plan.tolerance(reference, is_random=samples.is_random)
            on_step(f"saving {request.save}")
            save_goldens(
                matrix,
                reference,
                own,
                request.save,
                is_random=samples.is_random,
                overwrite=request.overwrite,
            )
        return matrix


def _against(request: Request, goldens: Goldens, on_step: Callable[[str], None]) -> Matrix:
    # They are there so that nobody needs PyTorch.
    runtimes = request.runtimes or tuple(name for name in available() if not name.startswith("torch"))
    candidates, left = _candidates(request, runtimes, on_step)
    if not candidates:
        raise CnnportError(_nothing(left))
    with tempfile.TemporaryDirectory(prefix="cnnport-", ignore_cleanup_errors=True) as name:
        matrix = compare_with_goldens(goldens, candidates, Path(name), request.plan, on_step=on_step)
        return replace(matrix, left=left)


def _candidates(
    request: Request, runtimes: Sequence[str], on_step: Callable[[str], None]
) -> tuple[tuple[Candidate, ...], tuple[Left, ...]]:
    def make(artifact: Artifact, precision: str, runtime: str) -> Artifact:
        return file_in(artifact, precision, runtime, calibration=request.calibration, on_step=on_step)

    return cross(request.files, request.precisions, runtimes, request.options, make)


def _reference(request: Request, candidates: Sequence[Candidate], runtimes: Sequence[str]) -> Candidate:
    """The one that was asked for, the PyTorch original, or the first; the file by itself if there is only one."""
    if request.reference is not None:
        return find_reference(candidates, request.reference)
    name, source = request.files[0]
    original = Candidate(name, source, _ORIGINAL, request.options.get(_ORIGINAL, Options()))
    if name in request.named and original.misfit() is None and get_runtime(_ORIGINAL).missing() is None:
        return next((each for each in candidates if each == original), original)
    if len(candidates) == 1 and source.path.suffix == ".onnx":
        require_runtime(_PLAIN)
        return Candidate(name, source, _PLAIN, Options(optimize=False))
    if request.precisions and source.precision not in request.precisions and candidates:
        runtime = next((each for each in runtimes if not each.startswith("torch")), runtimes[0])
        return Candidate(name, source, runtime, request.options.get(runtime, Options()))
    if not candidates:
        return original
    return candidates[0]


def _samples(request: Request, artifact: Artifact) -> Samples:
    if request.data is not None:
        return open_samples(request.data, artifact, count=request.count or COUNT)
    if is_of_digits(artifact):
        try:
            return open_samples("digits", artifact, count=request.count or COUNT)
        except CnnportError:
            # They come with scikit-learn, which need not be here.
            pass
    return RandomSamples(artifact, request.count or COUNT, first=request.plan.seed)


def _nothing(left: Sequence[Left]) -> str:
    reason = f": {left[0].label}: {left[0].reason}" if left else ""
    return f"nothing is left to compare{reason}"
