"""How fast 8 bits are: our files against their float files, onnxruntime's own quantizer and OpenVINO, in turn."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from cnnport.errors import CheckFailedError, CnnportError, first_line
from cnnport.measuring.paired import circumstances, measure_in_turn, ratio
from cnnport.measuring.record import Json
from cnnport.measuring.speed_contract import compare_layers, settings_of
from cnnport.measuring.studies.quantized_accuracy import make_file
from cnnport.onnxfile import read_artifact

if TYPE_CHECKING:
    from cnnport.calibration import Samples

# Random numbers: speed does not depend on them, and nothing else is claimed.
CALIBRATION = "random:8"

THREADS = (1, 2)
BATCH = 1

CANDIDATES = ("fp32", "int8", "ort_static", "openvino_fp32", "openvino_int8")
"""Our float32 and int8 files for ONNX Runtime; what onnxruntime's quantizer makes of the former; and our files for
OpenVINO, on OpenVINO."""

COMPARED = (
    ("int8", "fp32"),
    ("ort_static", "fp32"),
    ("int8", "ort_static"),
    ("openvino_int8", "openvino_fp32"),
    ("openvino_fp32", "fp32"),
    ("int8", "openvino_int8"),
)
"""Pairs of which the page says how much faster the first is than the second."""

EIGHT_BITS = (("int8", "fp32"), ("openvino_int8", "openvino_fp32"))
"""Pairs of which the layers are looked at where the first is not faster."""

# Of the layers that take longer, where int8 is not faster.
_NAMED = 5


def make_candidates(name: str, files: Path, tell: Callable[[str], None]) -> Json:
    """Make the files of a network.

    Args:
        name: Of the zoo; its weights are random.
        files: Where ONNX files lie.
        tell: Is told what is done.

    Returns:
        For each candidate its ``problem``, or None for one and its ``bytes``.

    Raises:
        CnnportError: If one of our own files for ONNX Runtime cannot be made.
    """
    made: Json = {}
    for candidate in CANDIDATES:
        tell(f"{candidate} of {name}")
        try:
            path = _make(name, candidate, files)
        except CnnportError as error:
            if candidate in {"fp32", "int8"}:
                raise
            made[candidate] = {"problem": str(error)}
        else:
            made[candidate] = {"problem": None, "bytes": path.stat().st_size}
    return made


def are_there(name: str, files: Path, made: Json) -> bool:
    """Whether the files that were made still lie there."""
    return all(_path(name, each, files).exists() for each, facts in made.items() if not facts["problem"])


def measure_candidates(
    name: str, files: Path, made: Json, rounds: int, duration_s: float, tell: Callable[[str], None]
) -> Json:
    """Measure what was made, all of it in turn in each round.

    Args:
        name: Of the zoo.
        files: Where ONNX files lie.
        made: As ``make_candidates`` gives it.
        rounds: Processes for each file and number of threads.
        duration_s: Seconds of counted runs in each.
        tell: Is told what is done.

    Returns:
        The circumstances, and one entry in ``cases`` for each number of threads: medians, ratios of ``COMPARED``,
            and the layers that take longer where int8 is not faster.

    Raises:
        CnnportError: If a process fails.
    """
    facts = circumstances(rounds, duration_s)
    present = [candidate for candidate in CANDIDATES if not made[candidate]["problem"]]
    cases = []
    for threads in THREADS:
        tell(f"measure {name} threads {threads}")
        cases.append(_case(name, files, present, threads, rounds, duration_s))
    return {**facts, "batch": BATCH, "cases": cases}


def _case(
    name: str, files: Path, present: Sequence[str], threads: int, rounds: int, duration_s: float
) -> Json:
    measured = measure_in_turn(
        [read_artifact(_path(name, candidate, files)) for candidate in present],
        batch=BATCH,
        threads=threads,
        rounds=rounds,
        duration_s=duration_s,
        runtimes=[_runtime(candidate) for candidate in present],
        settings=settings_of(BATCH),
    )
    turns_s = dict(zip(present, measured, strict=True))
    ratios = {
        f"{one} over {other}": ratio(turns_s[other], turns_s[one])
        for one, other in COMPARED
        if one in turns_s and other in turns_s
    }
    case: Json = {
        "threads": threads,
        "p50_ms": {each: round(median(values) * 1e3, 4) for each, values in turns_s.items()},
        "ratios": {pair: found.to_json() for pair, found in ratios.items()},
        "slower": {},
        "turns_p50_ms": {
            each: [round(value * 1e3, 4) for value in values] for each, values in turns_s.items()
        },
    }
    for one, other in EIGHT_BITS:
        found = ratios.get(f"{one} over {other}")
        if found is not None and found.median <= 1:
            paths = [_path(name, each, files) for each in (other, one)]
            times = compare_layers(*paths, runtime=_runtime(one), batch=BATCH, threads=threads)
            case["slower"][one] = [
                *map(str, times.slower[:_NAMED]),
                *(str(each) for each in times.conversions if each.count),
            ]
    return case


def _runtime(candidate: str) -> str:
    return "openvino" if candidate.startswith("openvino") else "ort-cpu"


def _path(name: str, candidate: str, files: Path) -> Path:
    if candidate == "ort_static":
        return files / f"{name}.static.onnx"
    target, _, precision = candidate.rpartition("_")
    return files / f"{name}.{target or 'ort'}.{precision}.onnx"


def _make(name: str, candidate: str, files: Path) -> Path:
    """Write a candidate's file. Raises ``CnnportError``."""
    path = _path(name, candidate, files)
    if candidate == "ort_static":
        quantize_static(_path(name, "fp32", files), path)
        return path
    _, target, precision, _ = path.name.rsplit(".", 3)
    if target == "openvino":
        from cnnport.runtimes import require_runtime

        require_runtime(target)
    make_file(name, target, precision, path, "random", CALIBRATION)
    return path


def quantize_static(source: Path, path: Path) -> None:
    """What onnxruntime's own quantizer makes of a file, as its documentation has it for x86 with VNNI.

    Its preparation, then Q/DQ with uint8 activations and int8 weights with a scale for each channel, ranges by least
    and greatest numbers of the same samples that our file is calibrated with.

    Raises:
        CheckFailedError: If it fails.
    """
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    from cnnport.calibration import open_samples

    reader = _reader(open_samples(CALIBRATION, read_artifact(source)), quantization.CalibrationDataReader)
    with tempfile.TemporaryDirectory(prefix="cnnport-", ignore_cleanup_errors=True) as folder:
        prepared = Path(folder) / "prepared.onnx"
        try:
            quant_pre_process(str(source), str(prepared))
            quantization.quantize_static(
                str(prepared),
                str(path),
                reader,
                quant_format=quantization.QuantFormat.QDQ,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                per_channel=True,
                calibrate_method=quantization.CalibrationMethod.MinMax,
            )
        except Exception as error:  # it raises nearly anything
            raise CheckFailedError(f"onnxruntime's quantizer fails: {first_line(error)}") from error


def _reader(samples: "Samples", base: Any) -> Any:
    """The samples as onnxruntime's quantizer takes them."""

    class Reader(base):  # type: ignore[misc]
        def __init__(self) -> None:
            self._places = iter(range(len(samples)))

        def get_next(self) -> Any:
            place = next(self._places, None)
            return None if place is None else samples.load(place)

    return Reader()
