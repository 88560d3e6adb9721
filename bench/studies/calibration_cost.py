"""What calibrating costs beside running: ``python -m cnnport.measuring.studies.calibration_cost [FILE]``.

A network is run over a folder of pictures in float32, and calibrated on it for each target, with as many threads,
each case in a process of its own, in turn, in rounds. Both decode and prepare the same pictures, and run batches of
one size. From one calibration every method makes its ranges, which is timed beside it. Wants a quiet machine.
"""

import argparse
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np

from cnnport.answering import answer_with
from cnnport.artifact import Artifact
from cnnport.calibration import METHODS, Samples, calibrate, open_samples
from cnnport.errors import CnnportError
from cnnport.exporting import export
from cnnport.graphs.passes import passes_for
from cnnport.graphs.protos import read
from cnnport.graphs.quantize import wanted
from cnnport.measuring.environment import read_environment
from cnnport.measuring.record import Json
from cnnport.measuring.studies.pictures import write_pictures
from cnnport.measuring.studies.rows import write_document
from cnnport.memory import peak_memory_bytes
from cnnport.onnxfile import load_model, read_artifact
from cnnport.process import Failure, ask, command_of
from cnnport.runtimes import Options, require_runtime

_NETWORK = "resnet50"
_COUNT = 512
_ROUNDS = 3
_THREADS = (1, 2)
_CLASSES = 8
_LIMIT_S = 3600.0

# As ``calibrate`` runs pictures of this size.
_BATCH = 4


@dataclass(frozen=True)
class Case:
    """What one process does: run the network (``target`` is empty), or calibrate it for a target."""

    file: str
    pictures: str
    count: int
    target: str
    threads: int


def main(arguments: list[str] | None = None) -> int:
    """Measure, print a line for each case, and write the file."""
    parser = argparse.ArgumentParser(
        prog="python -m cnnport.measuring.studies.calibration_cost", description=__doc__
    )
    parser.add_argument("file", type=Path, nargs="?", default=Path("bench/results/calibration_cost.json"))
    parser.add_argument("--network", default=_NETWORK, help="of the zoo, for pictures")
    parser.add_argument("--count", type=int, default=_COUNT, help="pictures")
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help="processes for each case")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        answer_with(_work)
        return 0
    try:
        environment = read_environment().to_json()
        with tempfile.TemporaryDirectory(prefix="cnnport-", ignore_cleanup_errors=True) as name:
            folder = Path(name)
            file = folder / f"{options.network}.onnx"
            made = export(options.network, file, weights="random", target="ort", passes=passes_for("ort"))
            write_pictures(folder / "pictures", options.count, size=(500, 375), classes=_CLASSES)
            rows = measure(made.artifact.path, folder / "pictures", options.count, options.rounds)
        document = {
            "environment": environment,
            "network": options.network,
            "pictures": options.count,
            "rounds": options.rounds,
            "cases": rows,
        }
        write_document(options.file, document)
    except CnnportError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    for row in rows:
        print(line_of(row))  # noqa: T201
    return 0


def measure(
    file: Path, pictures: Path, count: int, rounds: int, targets: tuple[str, ...] = ("ort", "trt")
) -> list[Json]:
    """Run every case once a round.

    Args:
        file: The network.
        pictures: A folder of them.
        count: How many are run.
        rounds: Processes for each case.
        targets: For which it is calibrated.

    Returns:
        A row for each number of threads and target: ``ratio`` (of the time of calibrating to that of running, median
        of the rounds), ``ratios``, ``run_s`` and ``calibrate_s`` (medians), ``methods_s`` (what each method takes
        after that), ``values``, ``peak_bytes`` (the largest of any round).

    Raises:
        CnnportError: If a process gives no answer.
    """
    rows: list[Json] = []
    for threads in _THREADS:
        cases = [Case(str(file), str(pictures), count, target, threads) for target in ("", *targets)]
        answers: dict[str, list[Json]] = {case.target: [] for case in cases}
        for number in range(rounds):
            for case in cases[:: -1 if number % 2 else 1]:
                command = (*command_of("cnnport.measuring.studies.calibration_cost"), "--worker")
                answer = ask(command, asdict(case), threads=threads, timeout_s=_LIMIT_S)
                if isinstance(answer, Failure):
                    raise CnnportError(f"{case.target or 'running'}, {threads} threads: {answer.reason}")
                answers[case.target].append(answer)
        rows += [_row(threads, target, answers[""], answers[target]) for target in targets]
    return rows


def line_of(row: Json) -> str:
    """A row for people."""
    methods = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in row["methods_s"].items())
    return (
        f"{row['target']}, {row['threads']} threads: {row['ratio']:.2f} times the time of running "
        f"({row['calibrate_s']:.1f} s against {row['run_s']:.1f} s), "
        f"peak {row['peak_bytes'] / 2**20:.0f} MiB; {methods}"
    )


def _row(threads: int, target: str, ran: list[Json], found: list[Json]) -> Json:
    ratios = [own["seconds"] / base["seconds"] for own, base in zip(found, ran, strict=True)]
    return {
        "target": target,
        "threads": threads,
        "ratio": round(median(ratios), 4),
        "ratios": [round(each, 4) for each in ratios],
        "run_s": round(median(each["seconds"] for each in ran), 3),
        "calibrate_s": round(median(each["seconds"] for each in found), 3),
        "methods_s": {
            name: round(median(each["methods_s"][name] for each in found), 3)
            for name in found[0]["methods_s"]
        },
        "values": found[0]["values"],
        "peak_bytes": max(each["peak_bytes"] for each in found),
    }


def _running_s(artifact: Artifact, samples: Samples, threads: int) -> float:
    """Running alone: as many pictures at a time as ``calibrate`` takes, the next ones loaded beside it."""
    began = time.perf_counter()
    places = [range(start, min(start + _BATCH, len(samples))) for start in range(0, len(samples), _BATCH)]

    def loaded(batch: range) -> dict[str, np.ndarray]:
        feeds = [samples.load(place) for place in batch]
        return {name: np.concatenate([each[name] for each in feeds]) for name in feeds[0]}

    with (
        require_runtime("ort-cpu").open(artifact, Options(threads=threads)) as session,
        ThreadPoolExecutor(1) as executor,
    ):
        ahead = executor.submit(loaded, places[0])
        for following in [*places[1:], None]:
            feeds = ahead.result()
            if following is not None:
                ahead = executor.submit(loaded, following)
            session.run(feeds)
    return time.perf_counter() - began


def _work(question: Json) -> Json:
    case = Case(**question)
    artifact = read_artifact(Path(case.file))
    samples = open_samples(f"{case.pictures}:{case.count}", artifact)
    if not case.target:
        return {"seconds": _running_s(artifact, samples, case.threads)}
    names = wanted(read(load_model(artifact.path)), case.target)
    began = time.perf_counter()
    found = calibrate(artifact.path, samples, names, threads=case.threads, cache=False)
    seconds = time.perf_counter() - began
    methods = {}
    for method in METHODS:
        began = time.perf_counter()
        found.ranges(method, symmetric=case.target == "trt")
        methods[method] = time.perf_counter() - began
    return {
        "seconds": seconds,
        "methods_s": methods,
        "values": len(names),
        "peak_bytes": peak_memory_bytes(),
    }


if __name__ == "__main__":
    sys.exit(main())
