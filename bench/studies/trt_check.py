"""The TensorRT build check, without a GPU: ``python -m cnnport.measuring.studies.trt_check FOLDER [PATTERN]...``.

In float32, every network of ImageNet's size that matches is exported with seeded weights, unless its file waits in
``--files``, and parsed and built by TensorRT-RTX, which shares TensorRT's parser and messages; each in processes of
its own. ``--precision fp16`` and ``--precision int8`` do so for the representatives of ``graphs``, whose files
for TensorRT are made of one export; int8 files are also held to ``graphs.quantize.trt_rules``.
FOLDER gets ``trt_check.json``, with one row for each network and precision, written after each, and ``trt_check.md``,
the same for people. A second run goes on where the first stopped: rows of the same versions are kept, whether they
built or not.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from importlib import metadata
from pathlib import Path

from cnnport import registry
from cnnport._version import __version__
from cnnport.errors import CnnportError
from cnnport.measuring.command import cnnport_command
from cnnport.measuring.progress import Tell, progress
from cnnport.measuring.record import Json
from cnnport.measuring.studies.alone import alone
from cnnport.measuring.studies.graphs_record import REPRESENTATIVES
from cnnport.measuring.studies.rows import kept_rows, write_rows
from cnnport.measuring.studies.trt_page import markdown, reason_of
from cnnport.measuring.studies.trt_precisions import PRECISIONS, CheckedFiles, precision_facts
from cnnport.metadata import tool_versions
from cnnport.registry import ModelSpec

RUNTIME = "trt-rtx"
SMALLEST_PIXELS = 200
"""Height from which a network counts as one of ImageNet's size."""

WANTED_SHARE = {"fp32": 0.95, "fp16": 1.0, "int8": 1.0}
"""Of the networks that build; the rest are named with the cause."""

# What keeps the check from saying anything, apart from its verdict.
_CHECKED = (0, 1)


def main(arguments: list[str] | None = None) -> int:
    """Check the part of the zoo that matches; 1 if too few build, or a network could not be checked at all."""
    parser = argparse.ArgumentParser(
        prog="python -m cnnport.measuring.studies.trt_check", description=__doc__
    )
    parser.add_argument("folder", type=Path, help="where trt_check.json and trt_check.md are")
    parser.add_argument("pattern", nargs="*", default=["*"], help="names, with * and ?")
    parser.add_argument(
        "--precision",
        action="append",
        choices=PRECISIONS,
        help="of the files; once for each, fp32 without any",
    )
    parser.add_argument("--files", type=Path, default=Path("build/zoo"), help="where exported files wait")
    parser.add_argument("--keep-files", action="store_true", help="leave the files that this run exported")
    options = parser.parse_intermixed_args(arguments)
    wanted = [each for each in PRECISIONS if each in (options.precision or PRECISIONS[:1])]
    files = CheckedFiles(options.files, keep=options.keep_files)
    try:
        with progress() as tell, alone(options.folder / "trt_check.json"):
            check = TrtCheck(options.folder, files, options.pattern, wanted, tell)
            check.run()
    except CnnportError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    return max(_verdict(precision, check.rows(precision)) for precision in wanted)


def _verdict(precision: str, rows: Sequence[Json]) -> int:
    """Say how many build, and why the others do not."""
    built, tried = sum(row["ok"] for row in rows), sum(not row["problem"] for row in rows)
    print(f"{built} of {len(rows)} build for {RUNTIME} in {precision}")  # noqa: T201
    for row in rows:
        if not row["ok"]:
            print(f"{row['name']}: {reason_of(row)}")  # noqa: T201
    return 0 if tried == len(rows) and built >= WANTED_SHARE[precision] * len(rows) else 1


class TrtCheck:
    """The rows of the networks that match, on disk after every one."""

    def __init__(
        self,
        folder: Path,
        files: CheckedFiles,
        patterns: Sequence[str],
        precisions: Sequence[str],
        tell: Tell,
    ) -> None:
        """Take up the rows of an earlier run of the same versions. Raises ``ArtifactError`` for a foreign file."""
        self._folder, self._files, self._tell = folder, files, tell
        self._rows = kept_rows(folder / "trt_check.json", _versions(), key=_key_of)
        self._chosen = [
            (spec, precision)
            for spec in registry.specs()
            for precision in precisions
            if _is_meant(spec, precision) and any(fnmatchcase(spec.name, each) for each in patterns)
        ]

    def rows(self, precision: str) -> list[Json]:
        """One row for each network that matches and was reached, in the order of the catalogue."""
        keys = (_key(spec.name, each) for spec, each in self._chosen if each == precision)
        return [self._rows[key] for key in keys if key in self._rows]

    def run(self) -> None:
        """Check what has no row; the light networks first, so that faults of the check itself show early."""
        waiting = sorted(self._chosen, key=lambda each: each[0].macs)
        for number, (spec, precision) in enumerate(waiting):
            if _key(spec.name, precision) not in self._rows:
                self._tell(f"check {spec.name} {precision}", number, len(waiting))
                self._rows[_key(spec.name, precision)] = self._checked(spec, precision)
                self._write()
            # Precisions of a network lie side by side, and are made of one file.
            if number + 1 == len(waiting) or waiting[number + 1][0] is not spec:
                self._files.clear()

    def _checked(self, spec: ModelSpec, precision: str) -> Json:
        row: Json = {
            "name": spec.name,
            "precision": precision,
            "family": spec.family,
            "params": spec.params,
            "macs": spec.macs,
            "problem": None,
            "ok": False,
            "versions": _versions(),
            "date": datetime.now(UTC).date().isoformat(),
        }
        try:
            path = self._files.file(spec.name, precision)
            build = ["-q", "build", str(path), "--runtime", RUNTIME, "--check", "--json"]
            done = json.loads(cnnport_command(build, accepted=_CHECKED))
            if precision != "fp32":
                row |= precision_facts(path, precision, done["kernels"])
        except (CnnportError, ValueError) as error:
            return row | {"problem": str(error)}
        facts = ("parsed", "built", "ok", "layers", "fused", "errors", "warnings", "bytes")
        row |= {name: done[name] for name in facts} | {"kinds": _kinds(done["kernels"])}
        if precision != "fp32":
            row["ok"] = row["ok"] and row["asked"] > 0 and not row["faults"]
        return row

    def _write(self) -> None:
        keys = (_key(spec.name, precision) for precision in PRECISIONS for spec in registry.specs())
        ordered = [self._rows[key] for key in keys if key in self._rows]
        write_rows(self._folder, "trt_check", ordered, markdown(ordered), runtime=RUNTIME)


def _is_meant(spec: ModelSpec, precision: str) -> bool:
    if precision == "fp32":
        return spec.input_shape[1] >= SMALLEST_PIXELS
    return spec.name in REPRESENTATIVES


def _key(name: str, precision: str) -> str:
    return f"{name} {precision}"


def _key_of(row: Json) -> str:
    return _key(row["name"], row["precision"])


def _kinds(kernels: Sequence[Json]) -> dict[str, int]:
    names = sorted({kernel["kind"] for kernel in kernels})
    return {name: sum(kernel["kind"] == name for kernel in kernels) for name in names}


def _versions() -> dict[str, str]:
    try:
        own = metadata.version("tensorrt-rtx-cu13")
    except metadata.PackageNotFoundError:
        own = "unknown"
    return {"cnnport": __version__, **tool_versions(), "tensorrt-rtx-cu13": own}


if __name__ == "__main__":
    sys.exit(main())
