"""All ways to run a network of the zoo, in turn: ``python -m cnnport.measuring.studies.benchmarks [PATTERN]...``.

PyTorch by itself and compiled, what torch.onnx writes on ONNX Runtime and on OpenVINO, the same after onnxsim, and
cnnport's files in float32 and int8 on both; all of one network in turn, so that a machine that slows down does so for
all of them. Weights are random: the figures are of speed alone. That says something only on a machine where nothing
else runs; ``--no-measure`` makes the files and leaves it for later. The record gets one row a network, written after
each number of threads, and so does the page; a second run goes on where the first stopped.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import median

from cnnport import registry
from cnnport._version import __version__
from cnnport.errors import CnnportError, UnknownNameError
from cnnport.measuring.case import Case, make_cases
from cnnport.measuring.environment import read_environment
from cnnport.measuring.paired import circumstances, measure_cases_in_turn
from cnnport.measuring.progress import Tell, progress
from cnnport.measuring.record import Json
from cnnport.measuring.run import unfit
from cnnport.measuring.studies.alone import alone
from cnnport.measuring.studies.benchmarks_page import markdown
from cnnport.measuring.studies.graph_tools import perform
from cnnport.measuring.studies.graphs_record import REPRESENTATIVES
from cnnport.measuring.studies.quantized_accuracy import make_file
from cnnport.measuring.studies.quantized_speed import CALIBRATION
from cnnport.measuring.studies.rows import kept_rows, write_record
from cnnport.metadata import tool_versions
from cnnport.onnxfile import read_artifact

BATCH = 1
THREADS = (2, 1)

# One batch size compiled in: OpenVINO is faster so, and it is what a user of one picture at a time would do.
_OPENVINO = {"batch": str(BATCH)}


@dataclass(frozen=True)
class Variant:
    """One way to run a network.

    Attributes:
        name: As the page has it.
        file: Which of a network's files it runs: what stands between its name and ``.onnx``.
        runtime: On what.
        settings: Of the runtime.
    """

    name: str
    file: str
    runtime: str
    settings: Mapping[str, str] = field(default_factory=dict)


VARIANTS = (
    Variant("torch", "ort.fp32", "torch-cpu"),
    Variant("torch.compile", "ort.fp32", "torch-cpu", {"mode": "compile"}),
    Variant("torch.onnx", "raw", "ort-cpu"),
    Variant("onnxsim", "onnxsim", "ort-cpu"),
    Variant("openvino", "raw", "openvino", _OPENVINO),
    Variant("cnnport", "ort.fp32", "ort-cpu"),
    Variant("cnnport openvino", "openvino.fp32", "openvino", _OPENVINO),
    Variant("cnnport int8", "ort.int8", "ort-cpu"),
    Variant("cnnport int8 openvino", "openvino.int8", "openvino", _OPENVINO),
)


def main(arguments: list[str] | None = None) -> int:
    """Make and measure what matches; 1 if a row is not complete."""
    options = _parser().parse_intermixed_args(arguments)
    try:
        with progress() as tell, alone(options.record):
            benchmarks = Benchmarks(options.record, options.page, options.files, options.pattern, tell)
            benchmarks.make()
            if not options.no_measure:
                benchmarks.measure(options.rounds, options.duration)
    except CnnportError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    rows = benchmarks.rows()
    wanted = 0 if options.no_measure else len(THREADS)
    done = [row for row in rows if not row["problem"] and len(row["cases"]) >= wanted]
    print(f"{len(done)} of {len(rows)} complete")  # noqa: T201
    return int(len(done) < len(rows))


class Benchmarks:
    """The rows of the networks that match, on disk after every step."""

    def __init__(self, record: Path, page: Path, files: Path, patterns: Sequence[str], tell: Tell) -> None:
        """Take up the rows of an earlier run of the same versions.

        Raises:
            UnknownNameError: If no network matches.
            ArtifactError: If the record is a foreign file.
        """
        self._record, self._page, self._files, self._tell = record, page, files, tell
        self._names = [
            name for name in REPRESENTATIVES if any(fnmatchcase(name, pattern) for pattern in patterns)
        ]
        if not self._names:
            raise UnknownNameError(f"no network of this benchmark matches {' '.join(patterns)}")
        self._rows = kept_rows(record, _versions())

    def rows(self) -> list[Json]:
        """One row for each network that matches, in order."""
        return [self._rows[name] for name in self._names]

    def make(self) -> None:
        """Make the files that are missing of networks that are not measured."""
        self._files.mkdir(parents=True, exist_ok=True)
        for number, name in enumerate(self._names):
            row = self._rows.setdefault(name, _empty(name))
            if len(row["cases"]) == len(THREADS):
                continue
            for file in dict.fromkeys(variant.file for variant in VARIANTS):
                if not self._file(name, file).exists():
                    self._tell(f"{file} of {name}", number, len(self._names))
                    try:
                        self._make(name, file)
                    except CnnportError as error:
                        row["problem"] = f"{file}: {' '.join(str(error).split())}"
                        break
            self._write()

    def measure(self, rounds: int, duration_s: float) -> None:
        """Measure what is not yet; arguments as of ``measure_in_turn``."""
        for number, name in enumerate(self._names):
            row = self._rows[name]
            done = {case["threads"] for case in row["cases"]}
            for threads in THREADS:
                if row["problem"] or threads in done:
                    continue
                self._tell(f"measure {name} threads {threads}", number, len(self._names))
                try:
                    row["cases"].append(self._case(name, threads, rounds, duration_s))
                except CnnportError as error:
                    row["problem"] = f"threads {threads}: {' '.join(str(error).split())}"
                self._write()

    def _case(self, name: str, threads: int, rounds: int, duration_s: float) -> Json:
        facts = circumstances(rounds, duration_s)
        cases = {variant.name: self._variant(name, variant, threads) for variant in VARIANTS}
        skipped = {each: row.reason for each, case in cases.items() if (row := unfit(case))}
        present = {each: case for each, case in cases.items() if each not in skipped}
        measured = measure_cases_in_turn(list(present.values()), rounds=rounds, duration_s=duration_s)
        turns_s = dict(zip(present, measured, strict=True))
        return {
            **facts,
            "threads": threads,
            "batch": BATCH,
            "skipped": skipped,
            "p50_ms": {each: round(median(values) * 1e3, 4) for each, values in turns_s.items()},
            "turns_p50_ms": {
                each: [round(value * 1e3, 4) for value in values] for each, values in turns_s.items()
            },
        }

    def _variant(self, name: str, variant: Variant, threads: int) -> Case:
        artifact = read_artifact(self._file(name, variant.file))
        settings = {variant.runtime: variant.settings}
        (case,) = make_cases([artifact], [variant.runtime], [BATCH], [threads], settings=settings)
        return case

    def _make(self, name: str, file: str) -> None:
        """Write a file. Raises ``CnnportError``."""
        path = self._file(name, file)
        if file == "raw":
            perform("torch_onnx", network=name, target=str(path))
        elif file == "onnxsim":
            perform(file, source=str(self._file(name, "raw")), target=str(path))
        else:
            target, precision = file.split(".")
            make_file(name, target, precision, path, "random", CALIBRATION)

    def _file(self, name: str, file: str) -> Path:
        return self._files / f"{name}.{file}.onnx"

    def _write(self) -> None:
        ordered = [self._rows[name] for name in REPRESENTATIVES if name in self._rows]
        write_record(self._record, self._page, ordered, markdown(ordered, [each.name for each in VARIANTS]))


def _empty(name: str) -> Json:
    spec = registry.get(name)
    return {
        "name": name,
        "params": spec.params,
        "macs": spec.macs,
        "versions": _versions(),
        "problem": None,
        "cases": [],
    }


def _versions() -> dict[str, str]:
    packages = read_environment().packages
    measuring = {name: packages[name] for name in ("onnxruntime", "openvino") if name in packages}
    return {"cnnport": __version__, **tool_versions(), **measuring}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cnnport.measuring.studies.benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("pattern", nargs="*", default=["*"], help="names, with * and ?")
    parser.add_argument("--record", type=Path, default=Path("bench/results/benchmarks.json"))
    parser.add_argument("--page", type=Path, default=Path("docs/benchmarks.md"))
    parser.add_argument("--files", type=Path, default=Path("build/benchmarks"), help="where ONNX files lie")
    parser.add_argument("--no-measure", action="store_true", help="make the files only")
    parser.add_argument(
        "--rounds", type=int, default=3, help="processes for each variant and number of threads"
    )
    parser.add_argument("--duration", type=float, default=1.0, help="seconds of counted runs in each")
    return parser


if __name__ == "__main__":
    sys.exit(main())
