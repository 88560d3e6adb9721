"""From a float32 ONNX file to one in 8 bits that is written for a target, judged, and repaired where that is needed.

The steps: the passes of the target, verified; those that 8 bits want, verified too; one run over the samples; the
search for a recipe; the check of what comes out, by samples that no range was found on; and the file.
"""

import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnport.artifact import Artifact
from cnnport.calibration import METHODS, Calibration, Samples, open_samples
from cnnport.errors import ArtifactError, CheckFailedError, CnnportError, UnknownNameError
from cnnport.files import check_writable
from cnnport.graphs.protos import read
from cnnport.graphs.quantize import Fault, faults, require_target
from cnnport.metadata import to_json
from cnnport.onnxfile import CHECKSUM_KEY, load_model, read_artifact, write_foreign, write_model
from cnnport.optimize_file import Optimized, optimize_file
from cnnport.picture_input import check_no_pictures
from cnnport.quantization.floats import write_prepared
from cnnport.quantization.judging import Judge, Judgement, runner_of
from cnnport.quantization.metadata import facts_of, restated
from cnnport.quantization.repair import Attempt, Found, Limits, Search
from cnnport.quantization.sensitivity import Sensitivity
from cnnport.quantization.workshop import Workshop
from cnnport.runtimes import require_runtime

# By which steps are chosen, and by which a candidate is good enough; of noise, by which it is only looked at.
_TRIAL_COUNT = 64
_JUDGED_COUNT = 500
_NOISE_COUNT = 64

# With fewer others than this, the samples of the calibration judge as well.
_FEWEST_OTHERS = 50


@dataclass(frozen=True)
class Quantized:
    """What was done to a file.

    Attributes:
        source: The file that was read.
        artifact: The file that was written.
        floats: What the passes of the target did before.
        calibration: What the samples showed.
        found: The search: the candidate that was taken, and what was tried.
        sensitivities: Of the layers, the most sensitive first; empty unless they were asked for.
        is_held_out: Whether it was judged on samples that no range was found on.
        runtime: What it was judged on, with ``exactly`` where nothing was fused.
        notes: What else to know, in sentences.
        seconds: From start to the file in place.
    """

    source: Path
    artifact: Artifact
    floats: Optimized
    calibration: Calibration
    found: Found
    sensitivities: tuple[Sensitivity, ...]
    is_held_out: bool
    runtime: str
    notes: tuple[str, ...]
    seconds: float

    @property
    def best(self) -> Attempt:
        """The candidate that was taken."""
        return self.found.best

    @property
    def judgement(self) -> Judgement:
        """How far it is from the float network."""
        assert self.best.judgement is not None
        return self.best.judgement


def default_path(source: Path) -> Path:
    """Where the int8 form of a file goes unless told otherwise: beside it, as ``NAME.int8.onnx``."""
    return source.with_name(f"{source.name.removesuffix('.onnx')}.int8.onnx")


def quantize_file(
    source: Path,
    path: Path,
    calibration: str,
    *,
    target: str = "ort",
    method: str | None = None,
    percentile: float | None = None,
    max_drop: float | None = None,
    repair: bool = True,
    reduce_range: bool = False,
    layers: bool = False,
    overwrite: bool = False,
    check: Callable[[Path, Path, tuple[Path, ...]], None] = lambda _floats, _written, _attempts: None,
    on_step: Callable[[str], None] = lambda _: None,
    on_progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Quantized:
    """Quantize a file.

    Args:
        source: Any float32 ONNX file that ONNX Runtime runs.
        path: The file to write.
        calibration: A folder of pictures or arrays, ``digits`` or ``random``, with ``:N`` for so many samples.
        target: ``ort``, ``trt`` or ``openvino``.
        method: By which ranges are found; None for the one whose outputs are nearest.
        percentile: For that method.
        max_drop: Points of accuracy that may be lost, for which layers may stay in float; None for half a point
            where that can be had without.
        repair: Whether anything is tried where the plain form is not good enough.
        reduce_range: Whether weights get one bit less, for CPUs that saturate.
        layers: Whether the sensitivity of every layer is measured even if nothing needs it.
        overwrite: Whether an existing file may be replaced.
        check: Called with the float file that has the passes of the target, the file in 8 bits, and the files of all
            attempts, before the second is put in place; what it raises prevents that.
        on_step: Told the name of each step when it begins.
        on_progress: Told how many samples or layers are done, and how many there are.

    Raises:
        CnnportError: On wrong usage or input; each subclass says what.
        RuntimeMissingError: If onnxruntime is not installed.
        CheckFailedError: If no candidate keeps to ``max_drop``, or the file is not what it has to be for its target.
            Nothing is written.
    """
    started = time.perf_counter()
    check_writable(path, overwrite=overwrite)
    _check_wishes(target, method, percentile, max_drop)
    require_runtime("ort-cpu")
    artifact = read_artifact(source)
    _check_floats(artifact)
    samples = open_samples(calibration, artifact)
    judged, is_held_out = judged_samples(samples)
    with tempfile.TemporaryDirectory(prefix="cnnport-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        # Under the name of the file that comes of it, which is what notes call it.
        named = folder / "float" / path.name
        named.parent.mkdir()
        floats = optimize_file(source, named, target=target, freeze_initializers=True, on_step=on_step)
        on_step("prepare")
        prepared = folder / "prepared.onnx"
        write_prepared(floats.artifact, target, folder, prepared)
        workshop = Workshop(
            prepared, target, samples, reduce_range=reduce_range, on_step=on_step, on_progress=on_progress
        )
        on_step("float answers")
        runner = runner_of(target)
        judge = Judge(floats.artifact.path, judged, count=_JUDGED_COUNT)
        if max_drop is not None and judge.classes < 2:
            why = "puts all samples into one class" if judge.classes else "gives no scores of classes"
            raise CnnportError(f"--max-drop counts classes, and the network {why}: leave it out")
        is_noise = samples.is_random and max_drop is None
        search = Search(
            workshop,
            Judge(floats.artifact.path, samples, count=_TRIAL_COUNT),
            judge,
            runner,
            Limits(
                drop=0.5 if max_drop is None else max_drop,
                floats=max_drop is not None and repair,
                repair=repair and not is_noise,
            ),
            on_step=on_step,
            on_progress=on_progress,
        )
        found = search.run((method,) if method else tuple(METHODS), percentile)
        _check_found(found, max_drop)
        best = found.best
        sensitivities = search.sensitivities(best.recipe) if layers else ()
        seen = workshop.calibration(best.recipe.equalized, ())
        on_step("write")
        facts = facts_of(best, seen, target, is_held_out)
        is_own = CHECKSUM_KEY in floats.artifact.metadata
        metadata = restated(floats.artifact, best.made.path, facts) if is_own else None
        written = folder / "int8.onnx"
        _write(best.made.path, written, folder, metadata, facts)
        if target == "trt" and (wrong := faults(read(load_model(written)))):
            raise CheckFailedError(_not_for_trt(wrong))
        check(
            floats.artifact.path, written, tuple(each.made.path for each in found.attempts if each.judgement)
        )
        _write(best.made.path, path, folder, metadata, facts)
    notes = (*floats.notes, *_notes(found, seen, judge, is_held_out, max_drop))
    runtime = f"{runner[0]}{'' if runner[1].optimize else ', exactly'}"
    return Quantized(
        source,
        read_artifact(path),
        floats,
        seen,
        found,
        sensitivities,
        is_held_out,
        runtime,
        notes,
        time.perf_counter() - started,
    )


def _check_wishes(target: str, method: str | None, percentile: float | None, max_drop: float | None) -> None:
    require_target(target)
    if method is not None and method not in METHODS:
        raise UnknownNameError(f"no calibration method is called {method!r}: there are {', '.join(METHODS)}")
    if percentile is not None and method != "percentile":
        raise CnnportError("--percentile goes with --method percentile")
    if max_drop is not None and not (math.isfinite(max_drop) and 0 <= max_drop <= 100):
        raise CnnportError(f"--max-drop is in points of accuracy, from 0 to 100, not {max_drop:g}")


def _check_floats(artifact: Artifact) -> None:
    if artifact.precision == "int8":
        raise ArtifactError(f"{artifact.path} is quantized already: start from its float32 file")
    if artifact.precision != "fp32":
        raise ArtifactError(f"{artifact.path} is in {artifact.precision}: int8 starts from the float32 file")
    check_no_pictures(artifact, "is quantized")


def judged_samples(samples: Samples) -> tuple[Samples, bool]:
    """Those that decide, and whether they are others than those that ranges are found on."""
    others = samples.others(_NOISE_COUNT if samples.is_random else _JUDGED_COUNT)
    if others is not None and len(others) >= min(_FEWEST_OTHERS, len(samples)):
        return others, True
    return samples, False


def _check_found(found: Found, max_drop: float | None) -> None:
    best = found.best
    assert best.judgement is not None
    if not math.isfinite(best.judgement.sqnr_db) and best.judgement.sqnr_db < 0:
        raise CheckFailedError(
            "in 8 bits the outputs hold NaN or infinity, or nothing of the float network's"
        )
    if max_drop is not None and not found.is_enough:
        raise CheckFailedError(
            f"no form in 8 bits keeps within {max_drop:g} points of accuracy; the best: {best.judgement}\n"
            f"it had {best.recipe}; nothing was written"
        )


def _write(
    made: Path, path: Path, folder: Path, metadata: dict[str, str] | None, facts: dict[str, Any]
) -> None:
    """A file of ours says what it is; one of others, without metadata, gets what was done beside what it says."""
    model = load_model(made, external_data=False)
    if metadata is not None:
        write_model(model, path, metadata, folder)
        return
    kept = [entry for entry in model.metadata_props if entry.key != "cnnport.quantization"]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    model.metadata_props.add(key="cnnport.quantization", value=to_json(facts))
    write_foreign(model, path, folder)


def _not_for_trt(wrong: tuple[Fault, ...]) -> str:
    first = wrong[0]
    more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    return f"the file breaks a rule of TensorRT at {first}{more}; nothing was written"


def _notes(
    found: Found, seen: Calibration, judge: Judge, is_held_out: bool, max_drop: float | None
) -> list[str]:
    notes = []
    if seen.skipped:
        first = seen.skipped[0]
        more = f" and {len(seen.skipped) - 1} more" if len(seen.skipped) > 1 else ""
        were = "were" if more else "was"
        notes.append(f"{first.name}{more} could not be read and {were} left out: {first.reason}")
    if seen.is_random:
        notes.append("calibrated with random inputs: nothing follows from it about accuracy")
    elif not is_held_out:
        notes.append("there are too few other samples: it was judged on those that it was calibrated with")
    judgement = found.best.judgement
    if not found.is_enough and max_drop is None and judgement is not None and not seen.is_random:
        lost = f"{judgement.drop:.2f} points are lost" if judgement.drop is not None else "the outputs differ"
        more = ": --max-drop P leaves the worst layers in float" if judge.classes > 1 else ""
        notes.append(f"{lost}{more}")
    return notes
