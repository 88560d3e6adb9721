"""The whole zoo through the product: ``python -m cnnport.measuring.studies.zoo FOLDER [PATTERN]...``.

First every network is exported with seeded weights, its file verified by itself, and made float16, each in processes
of its own, so that the peak is that of one network. Then the files are measured on ort-cpu, two fresh processes each;
that stage says something only on a machine where nothing else runs, and ``--no-measure`` leaves it for later. FOLDER
gets ``zoo.json``, with one row a network, written after each, and ``zoo.md``, the same for people. A second run goes
on where the first stopped: rows of the same versions are kept.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path

from cnnport import registry
from cnnport._version import __version__
from cnnport.errors import ArtifactError, CnnportError
from cnnport.measuring.case import make_cases
from cnnport.measuring.command import cnnport_command
from cnnport.measuring.progress import Tell, progress
from cnnport.measuring.record import Json
from cnnport.measuring.run import bench
from cnnport.measuring.studies.alone import alone
from cnnport.measuring.studies.rows import kept_rows, write_rows
from cnnport.measuring.studies.zoo_half import in_half
from cnnport.measuring.studies.zoo_page import markdown
from cnnport.metadata import tool_versions
from cnnport.onnxfile import read_artifact
from cnnport.registry import ModelSpec


def main(arguments: list[str] | None = None) -> int:
    """Run the part of the zoo that matches; 1 if a network is not exported, verified, made half and measured."""
    parser = argparse.ArgumentParser(prog="python -m cnnport.measuring.studies.zoo", description=__doc__)
    parser.add_argument("folder", type=Path, help="where zoo.json and zoo.md are")
    parser.add_argument("pattern", nargs="*", default=["*"], help="names, with * and ?")
    parser.add_argument("--files", type=Path, default=Path("build/zoo"), help="where exported files wait")
    parser.add_argument("--no-measure", action="store_true", help="export and verify only")
    options = parser.parse_intermixed_args(arguments)
    try:
        with progress() as tell, alone(options.folder / "zoo.json"):
            zoo = Zoo(options.folder, options.files, options.pattern, tell)
            zoo.export()
            if not options.no_measure:
                zoo.measure()
    except CnnportError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    rows = zoo.rows()
    failed = [row["name"] for row in rows if row["problem"]]
    print(f"{len(rows) - len(failed)} of {len(rows)} exported, verified and made float16")  # noqa: T201
    return 1 if failed else 0


class Zoo:
    """The rows of the networks that match, on disk after every one."""

    def __init__(self, folder: Path, files: Path, patterns: Sequence[str], tell: Tell) -> None:
        """Take up the rows of an earlier run of the same versions. Raises ``ArtifactError`` for a foreign file."""
        self._folder, self._files, self._tell = folder, files, tell
        kept = kept_rows(folder / "zoo.json", _versions())
        self._rows = {name: row for name, row in kept.items() if "fp16" in row}
        self._chosen = [
            spec for spec in registry.specs() if any(fnmatchcase(spec.name, each) for each in patterns)
        ]

    def rows(self) -> list[Json]:
        """One row for each network that matches, in the order of the catalogue."""
        return [self._rows[spec.name] for spec in self._chosen]

    def export(self) -> None:
        """Export and verify what has no row, or neither a latency nor the file to measure."""
        self._files.mkdir(parents=True, exist_ok=True)
        for number, spec in enumerate(self._chosen):
            row = self._rows.get(spec.name)
            if row is None or (row["p50_ms"] is None and not self._file(spec.name).exists()):
                self._tell(f"export {spec.name}", number, len(self._chosen))
                self._rows[spec.name] = self._exported(spec)
                self._write()

    def measure(self) -> None:
        """Measure what has no latency yet; files go when they are measured."""
        for number, spec in enumerate(self._chosen):
            row, path = self._rows[spec.name], self._file(spec.name)
            if row["p50_ms"] is None and not row["problem"]:
                self._tell(f"measure {spec.name}", number, len(self._chosen))
                try:
                    row["p50_ms"] = _p50_ms(path)
                except CnnportError as error:
                    row["problem"] = str(error)
                self._write()
                path.unlink()

    def _exported(self, spec: ModelSpec) -> Json:
        row: Json = {
            "name": spec.name,
            "family": spec.family,
            "params": spec.params,
            "macs": spec.macs,
            "problem": None,
            "p50_ms": None,
            "versions": _versions(),
            "date": datetime.now(UTC).date().isoformat(),
        }
        path = self._file(spec.name)
        export = ["-q", "export", spec.name, "--weights", "random", "--overwrite", "-o", str(path), "--json"]
        try:
            done = json.loads(cnnport_command(export))
            cnnport_command(["verify", str(path)])
        except CnnportError as error:
            return row | {"problem": str(error)}
        fp16 = in_half(path)
        return row | {
            "problem": fp16["problem"] and f"in float16: {fp16['problem']}",
            "fp16": fp16,
            "bytes": done["bytes"],
            "weights_sha256": done["weights"]["sha256"],
            "ops_before": done["steps"][0]["ops"],
            "ops": done["steps"][-1]["ops"],
            "max_abs": done["parity"]["max_abs"],
            "error_in_std": done["parity"]["error_in_std"],
            "note": done["parity"]["note"],
            "peak_bytes": done["peak_memory_bytes"],
        }

    def _file(self, name: str) -> Path:
        return self._files / f"{name}.onnx"

    def _write(self) -> None:
        ordered = [self._rows[spec.name] for spec in registry.specs() if spec.name in self._rows]
        write_rows(self._folder, "zoo", ordered, markdown(ordered))


def _p50_ms(path: Path) -> float:
    results = bench(make_cases([read_artifact(path)], ["ort-cpu"]), rounds=2, warmup_s=0.25, duration_s=1.0)
    if results.skipped:
        raise ArtifactError(results.skipped[0].reason)
    return results.results[0].p50_s * 1e3


def _versions() -> dict[str, str]:
    return {"cnnport": __version__, **tool_versions()}


if __name__ == "__main__":
    sys.exit(main())
