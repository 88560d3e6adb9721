"""What GPUs do: ``python -m cnnport.measuring.studies.gpu --out FILE --files DIR`` writes one JSON document.

In this order, and each part in processes of its own: the conformance suite on the runtimes; for every network the
outputs of every variant of every runtime, held against PyTorch's and ONNX Runtime's on the CPU; the latency of every
variant at every batch size. What a runtime can be told (channels last, a recorded CUDA graph, compiled) makes a
variant of it; what takes long to prepare comes last.

DIR has the networks' files, ``NAME.onnx``, exported with random weights, so that PyTorch can make the same network
again without fetching anything; ``--export`` makes those that are missing. The document is written after each step,
and a second run goes on where the first one stopped: at the end, or where ``--budget-s`` was used up. It must be the
same machine and software. A machine where cnnport is not installed needs its four folders as one package on
PYTHONPATH, ``cp -r cnnport P/ && cp -r bench graphs runtimes P/cnnport/``, and ``python -P``.

The exit code is 1 if the suite fails, or outputs are further apart than float32 explains.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from cnnport.errors import ArtifactError, CnnportError
from cnnport.measuring.case import artifact_to_json, make_cases
from cnnport.measuring.command import cnnport_command
from cnnport.measuring.cpus import default_threads
from cnnport.measuring.record import Json
from cnnport.measuring.run import bench
from cnnport.measuring.studies.gpu_record import Record, Variant
from cnnport.process import Failure, ask, command_of

PARITY = "cnnport.measuring.studies.gpu_parity"

# A step that is not done by then has hung.
_STEP_S = 300.0
# What is left of the budget when nothing more is begun.
_LEAST_S = 10.0
_PARITY_BATCH = 3
_SEED = 7

_VARIANTS = (
    Variant("torch-cuda"),
    Variant("ort-cuda"),
    Variant("trt"),
    Variant("trt-rtx"),
    Variant("openvino"),
    Variant("torch-cpu"),
    Variant("ort-cpu"),
    Variant("torch-cuda", {"layout": "channels_last"}),
    Variant("torch-cpu", {"layout": "channels_last"}),
    Variant("ort-cuda", {"nhwc": "1"}),
    Variant("ort-cuda", {"cuda_graph": "1"}),
    Variant("trt", {"cuda_graph": "1"}),
    Variant("trt-rtx", {"cuda_graph": "1"}),
    Variant("torch-cuda", {"mode": "compile"}),
)


# Settings that make a process take a minute: their variants are timed only, and last.
_SLOW = {"mode"}


class OutOfTimeError(Exception):
    """The budget is used up."""


class Budget:
    """Seconds until this process is to have ended."""

    def __init__(self, seconds: float) -> None:
        """Begin to count."""
        self._end = time.monotonic() + seconds

    def step_s(self) -> float:
        """Seconds that the next step may take. Raises ``OutOfTimeError``."""
        left = self._end - time.monotonic()
        if left < _LEAST_S:
            raise OutOfTimeError
        return min(left, _STEP_S)

    def check(self) -> None:
        """Raises ``OutOfTimeError`` if a step that failed only had too little time."""
        if self._end - time.monotonic() < 1:
            raise OutOfTimeError


def conform(record: Record, budget: Budget, suite: Path, files: Path, runtimes: list[str]) -> None:
    """The conformance suite on these runtimes and on the files that there are, by pytest and its report in XML."""
    if record.document["conformance"] is not None:
        return
    record.document["problems"].pop("conformance", None)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        # Not the folder that this runs in: it has only a part of the package.
        command = [sys.executable, "-P", "-m", "pytest", str(suite), "-q", "-p", "no:cacheprovider"]
        command += ["-k", " or ".join(runtimes), f"--junitxml={report}"]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=False,
                timeout=budget.step_s(),
                env={**os.environ, "CNNPORT_TEST_FILES": str(files.resolve())},
            )
        except subprocess.TimeoutExpired:
            budget.check()
            record.document["problems"]["conformance"] = f"did not end within {_STEP_S:g} s"
            return
        cases = list(ET.parse(report).iter("testcase")) if report.exists() else []  # noqa: S314 - our own
    if not cases:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
        record.document["problems"]["conformance"] = said
        return
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = [case for case in cases if case.find("skipped") is not None]
    record.document["conformance"] = {
        "runtimes": runtimes,
        "passed": len(cases) - len(failed) - len(skipped),
        "skipped": [_told(case, "skipped") for case in skipped],
        "failures": [_told(case, "failure", "error") for case in failed],
    }


def compare(
    record: Record, budget: Budget, files: Mapping[str, Path], variants: list[Variant], device: int
) -> None:
    """The outputs of every variant against those of the references, one process a network."""
    # What everything is held against: PyTorch on the same device where it is there, and ONNX Runtime on the CPU.
    torch = "torch-cuda" if any(each.runtime == "torch-cuda" for each in variants) else "torch-cpu"
    references = [Variant(torch), Variant("ort-cpu")]
    asked = [*references, *(each for each in variants if each not in references)]
    for model, path in _told_of("parity", files):
        if record.has_parity(model):
            continue
        question = {
            "artifact": artifact_to_json(_artifact(path)),
            "variants": [asdict(each) for each in asked],
            "references": list(range(len(references))),
            "batch": _PARITY_BATCH,
            "seed": _SEED,
            "device": device,
            "threads": default_threads(),
        }
        record.document["problems"].pop(f"{model} parity", None)
        answer = ask(command_of(PARITY), question, threads=default_threads(), timeout_s=budget.step_s())
        if isinstance(answer, Failure):
            budget.check()
            record.document["problems"][f"{model} parity"] = answer.reason
        else:
            record.document["parity"] += [{"model": model, **row} for row in answer["rows"]]
        record.write()


def time_all(
    record: Record,
    budget: Budget,
    files: Mapping[str, Path],
    variants: list[Variant],
    batches: list[int],
    duration_s: float,
    device: int,
) -> None:
    """The latency of every variant, one process a case; the variants are the outermost loop."""
    for variant in variants:
        for model, path in _told_of(str(variant), files):
            for batch in batches:
                if record.has_latency(model, variant, batch):
                    continue
                cases = make_cases(
                    [_artifact(path)],
                    [variant.runtime],
                    [batch],
                    settings={variant.runtime: variant.settings},
                    device=device,
                )
                found = bench(cases, rounds=1, duration_s=duration_s, timeout_s=budget.step_s())
                if found.skipped:
                    budget.check()
                record.document["latency"] += [_short(row.to_json()) for row in found.results]
                record.document["skipped"] += [row.to_json() for row in found.skipped]
                record.write()


def export_missing(record: Record, budget: Budget, folder: Path, models: list[str]) -> None:
    """Export the networks that have no file."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = {name: folder / f"{name}.onnx" for name in models if not (folder / f"{name}.onnx").exists()}
    for model, path in _told_of("export", missing):
        budget.step_s()
        record.document["problems"].pop(f"{model} export", None)
        try:
            cnnport_command(["export", model, "-o", str(path), "--weights", "random"])
        except CnnportError as error:
            record.document["problems"][f"{model} export"] = str(error)
            record.write()


def chosen_variants(runtimes: list[str]) -> list[Variant]:
    """The variants of these runtimes that they offer, the slow ones last.

    Raises:
        UnknownNameError: If there is no runtime of a name.
        RuntimeMissingError: If one is not available here.
    """
    from cnnport.runtimes import require_runtime

    offered = {name: {setting.name for setting in require_runtime(name).settings} for name in runtimes}
    return [
        each for each in _VARIANTS if each.runtime in offered and set(each.settings) <= offered[each.runtime]
    ]


def main(arguments: list[str] | None = None) -> int:
    """Do what is not done yet, as far as the time goes; 1 if something does not pass."""
    options = _parser().parse_args(arguments)
    budget = Budget(options.budget_s)
    try:
        variants = chosen_variants(options.runtimes.split(","))
        record = Record(options.out)
        models = options.models.split(",") if options.models else list(_representatives())
        try:
            if options.export:
                export_missing(record, budget, options.files, models)
            files = {name: options.files / f"{name}.onnx" for name in models}
            files = {name: path for name, path in files.items() if path.exists()}
            if not files:
                raise ArtifactError(
                    f"{options.files} has none of the networks: export them, or give --export"
                )
            conform(record, budget, options.suite, options.files, options.runtimes.split(","))
            record.write()
            quick = [each for each in variants if not _SLOW & set(each.settings)]
            compare(record, budget, files, quick, options.device)
            batches = [int(each) for each in options.batches.split(",")]
            time_all(record, budget, files, variants, batches, options.duration, options.device)
            if not files:
                raise ArtifactError(
                    f"{options.files} has none of the networks: export them, or give --export"
                )
            ended = "done"
        except OutOfTimeError:
            ended = "the time is used up: run it again to go on"
        record.write()
    except CnnportError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    failures = record.failures()
    for line in failures:
        print(line, file=sys.stderr)  # noqa: T201
    rows = record.document
    print(  # noqa: T201
        f"{len(rows['parity'])} comparisons, {len(rows['latency'])} latencies, {len(rows['skipped'])} skipped, "
        f"{len(failures)} failures: {ended}"
    )
    return int(bool(failures))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cnnport.measuring.studies.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="the JSON document")
    parser.add_argument("--files", type=Path, default=Path("build/gpu"), help="where ONNX files lie")
    parser.add_argument("--export", action="store_true", help="export the networks that have no file")
    parser.add_argument("--runtimes", default="torch-cuda,ort-cuda", help="comma-separated")
    parser.add_argument("--models", help="comma-separated; the representatives if omitted")
    parser.add_argument("--batches", default="1,8", help="comma-separated")
    parser.add_argument("--duration", type=float, default=1.0, help="seconds of counted runs a case")
    parser.add_argument(
        "--budget-s", type=float, default=540.0, help="seconds until it ends with what it has"
    )
    parser.add_argument("--device", type=int, default=0, help="which GPU")
    parser.add_argument(
        "--suite", type=Path, default=Path("tests/test_runtimes.py"), help="the conformance suite"
    )
    return parser


def _representatives() -> tuple[str, ...]:
    from cnnport.measuring.studies.graphs_record import REPRESENTATIVES

    return REPRESENTATIVES


def _artifact(path: Path) -> Any:
    from cnnport.metadata import at_native_size
    from cnnport.onnxfile import read_artifact

    return at_native_size(read_artifact(path))


def _short(row: Json) -> Json:
    """A measurement without its raw samples, which would be megabytes."""
    samples = row.pop("samples_s")
    row.pop("rounds")
    return {**row, "samples": len(samples)}


def _told(case: ET.Element, *kinds: str) -> str:
    """A test's name and what was said of it."""
    found = next(entry for kind in kinds if (entry := case.find(kind)) is not None)
    said = " ".join(str(found.get("message")).split())
    # A file that does not import has its reason only in pytest's long text.
    errors = [line[1:].strip() for line in (found.text or "").splitlines() if line.startswith("E ")]
    return f"{case.get('name')}: {errors[-1] if 'collection' in said and errors else said}"[:400]


def _told_of(what: str, files: Mapping[str, Path]) -> Iterator[tuple[str, Path]]:
    """Names and paths in turn, each announced on standard error: ``rich`` need not be there."""
    for number, (name, path) in enumerate(files.items(), 1):
        print(f"[{number}/{len(files)}] {what} {name}", file=sys.stderr)  # noqa: T201
        yield name, path


if __name__ == "__main__":
    sys.exit(main())
