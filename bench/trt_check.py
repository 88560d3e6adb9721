"""The TensorRT build check over the zoo, without a GPU: ``python -m cnnport.bench.trt_check FOLDER [PATTERN]...``.

Every network of ImageNet's size that matches is exported with seeded weights, unless its file waits in ``--files``,
and parsed and built by TensorRT-RTX, which shares TensorRT's parser and messages; each in processes of its own.
FOLDER gets ``trt_check.json``, with one row a network, written after each, and ``trt_check.md``, the same for people.
A second run goes on where the first stopped: rows of the same versions are kept, whether they built or not.
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
from cnnport.bench.command import cnnport_command
from cnnport.bench.progress import Tell, progress
from cnnport.bench.record import Json
from cnnport.bench.rows import kept_rows, write_rows
from cnnport.errors import CnnportError
from cnnport.metadata import tool_versions
from cnnport.registry import ModelSpec

RUNTIME = "trt-rtx"
SMALLEST_PIXELS = 200
"""Height from which a network counts as one of ImageNet's size."""

WANTED_SHARE = 0.95
"""Of the networks that build; the rest are named with the cause."""

# What keeps the check from saying anything, apart from its verdict.
_CHECKED = (0, 1)


def main(arguments: list[str] | None = None) -> int:
    """Check the part of the zoo that matches; 1 if too few build, or a network could not be checked at all."""
    parser = argparse.ArgumentParser(prog="python -m cnnport.bench.trt_check", description=__doc__)
    parser.add_argument("folder", type=Path, help="where trt_check.json and trt_check.md are")
    parser.add_argument("pattern", nargs="*", default=["*"], help="names, with * and ?")
    parser.add_argument("--files", type=Path, default=Path("build/zoo"), help="where exported files wait")
    parser.add_argument("--keep-files", action="store_true", help="leave the files that this run exported")
    options = parser.parse_intermixed_args(arguments)
    try:
        with progress() as tell:
            check = TrtCheck(options.folder, options.files, options.pattern, tell, keep=options.keep_files)
            check.run()
    except CnnportError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    rows = check.rows()
    built, tried = sum(row["ok"] for row in rows), sum(not row["problem"] for row in rows)
    print(f"{built} of {len(rows)} build for {RUNTIME}")  # noqa: T201
    for row in rows:
        if not row["ok"]:
            print(f"{row['name']}: {reason_of(row)}")  # noqa: T201
    return 0 if tried == len(rows) and built >= WANTED_SHARE * len(rows) else 1


class TrtCheck:
    """The rows of the networks that match, on disk after every one."""

    def __init__(self, folder: Path, files: Path, patterns: Sequence[str], tell: Tell, *, keep: bool) -> None:
        """Take up the rows of an earlier run of the same versions. Raises ``ArtifactError`` for a foreign file."""
        self._folder, self._files, self._tell, self._keep = folder, files, tell, keep
        self._rows = kept_rows(folder / "trt_check.json", _versions())
        self._chosen = [
            spec
            for spec in registry.specs()
            if spec.input_shape[1] >= SMALLEST_PIXELS
            and any(fnmatchcase(spec.name, each) for each in patterns)
        ]

    def rows(self) -> list[Json]:
        """One row for each network that matches and was reached, in the order of the catalogue."""
        return [self._rows[spec.name] for spec in self._chosen if spec.name in self._rows]

    def run(self) -> None:
        """Check what has no row; the light networks first, so that faults of the check itself show early."""
        self._files.mkdir(parents=True, exist_ok=True)
        waiting = sorted(self._chosen, key=lambda spec: spec.macs)
        for number, spec in enumerate(waiting):
            if spec.name not in self._rows:
                self._tell(f"check {spec.name}", number, len(waiting))
                self._rows[spec.name] = self._checked(spec)
                self._write()

    def _checked(self, spec: ModelSpec) -> Json:
        row: Json = {
            "name": spec.name,
            "family": spec.family,
            "params": spec.params,
            "macs": spec.macs,
            "problem": None,
            "ok": False,
            "versions": _versions(),
            "date": datetime.now(UTC).date().isoformat(),
        }
        path = self._files / f"{spec.name}.onnx"
        ours = not path.exists()
        export = ["-q", "export", spec.name, "--weights", "random", "-o", str(path), "--overwrite", "--json"]
        try:
            if ours:
                cnnport_command(export)
            answer = cnnport_command(
                ["-q", "build", str(path), "--runtime", RUNTIME, "--check", "--json"], accepted=_CHECKED
            )
            done = json.loads(answer)
        except (CnnportError, ValueError) as error:
            return row | {"problem": str(error)}
        finally:
            if ours and not self._keep:
                path.unlink(missing_ok=True)
        facts = ("parsed", "built", "ok", "layers", "fused", "errors", "warnings", "bytes")
        return row | {name: done[name] for name in facts} | {"kinds": _kinds(done["kernels"])}

    def _write(self) -> None:
        ordered = [self._rows[spec.name] for spec in registry.specs() if spec.name in self._rows]
        write_rows(self._folder, "trt_check", ordered, markdown(ordered), runtime=RUNTIME)


def reason_of(row: Json) -> str:
    """Why a network does not build, by node, in one line."""
    if row["problem"]:
        return f"not checked: {' '.join(row['problem'].split())}"
    stage = "parsed, not built" if row["parsed"] and not row["built"] else "not parsed"
    if row["built"]:
        stage = "built otherwise than the file asks"
    errors = (
        f"{error['node']}: {error['message']}" if error["node"] else error["message"]
        for error in row["errors"]
    )
    return f"{stage}: {'; '.join(errors)}"


def markdown(rows: Sequence[Json]) -> str:
    """The rows as a page; networks that do not build stand below the table with their reasons."""
    built = [row for row in rows if row["ok"]]
    version = next((row["versions"].get("tensorrt-rtx-cu13", "unknown") for row in rows), "unknown")
    lines = [
        "# The TensorRT build check",
        "",
        f"{len(built)} of {len(rows)} networks are parsed and built in fp32 by TensorRT-RTX {version} without a GPU,",
        "strongly typed, TF32 off, for batches 1 to 32 on GPUs from Ampere on. `layers` are what the engine",
        "launches, `fused` those that compute more than one node of the file. Made by `make trt-check`; versions",
        "and kinds of layers are in trt_check.json.",
        "",
        "| network | parameters | parsed | built | layers | fused | engine MB |",
        "|---|--:|---|---|--:|--:|--:|",
    ]
    for row in rows:
        if not row["problem"]:
            cells = (
                row["name"],
                f"{row['params']:,}",
                "yes" if row["parsed"] else "no",
                "yes" if row["ok"] else "no",
                str(row["layers"]) if row["built"] else "",
                str(row["fused"]) if row["built"] else "",
                f"{row['bytes'] / 1e6:.1f}" if row["built"] else "",
            )
            lines.append("| " + " | ".join(cells) + " |")
    if failed := [row for row in rows if not row["ok"]]:
        lines += ["", "Not built:", ""] + [f"- {row['name']}: {reason_of(row)}" for row in failed]
    return "\n".join(lines) + "\n"


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
