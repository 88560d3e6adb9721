"""The whole zoo through the product: ``python -m cnnport.bench.zoo FOLDER [PATTERN]...``.

Every network is exported with seeded weights, verified by itself, and measured on ort-cpu, each in processes
of its own, so that the peak is that of one network. FOLDER gets ``zoo.json``, with one row a network, written
after each, and ``zoo.md``, the same for people. A second run goes on where the first stopped: rows of the same
versions are kept.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path

from cnnport import registry
from cnnport._version import __version__
from cnnport.bench.case import make_cases
from cnnport.bench.environment import read_environment
from cnnport.bench.record import Json
from cnnport.bench.run import bench
from cnnport.errors import ArtifactError, CnnportError
from cnnport.files import write_atomically
from cnnport.metadata import tool_versions
from cnnport.onnxfile import read_artifact
from cnnport.registry import ModelSpec

# A net of 1,202 layers takes torch.onnx many minutes; what takes longer has gone wrong.
_EXPORT_LIMIT_S = 3600.0

_COLUMNS = (
    "network",
    "parameters",
    "MACs",
    "MB",
    "nodes",
    "max error",
    "in std",
    "p50 ms",
    "export s",
    "peak GB",
)


def main(arguments: list[str] | None = None) -> int:
    """Run the part of the zoo that matches; 1 if a network is not exported and verified."""
    parser = argparse.ArgumentParser(prog="python -m cnnport.bench.zoo", description=__doc__)
    parser.add_argument("folder", type=Path, help="where zoo.json and zoo.md are")
    parser.add_argument("pattern", nargs="*", default=["*"], help="names, with * and ?")
    options = parser.parse_args(arguments)
    try:
        rows = run_zoo(options.folder, options.pattern)
    except CnnportError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    failed = [row["name"] for row in rows if row["problem"]]
    print(f"{len(rows) - len(failed)} of {len(rows)} exported and verified")  # noqa: T201
    return 1 if failed else 0


def run_zoo(folder: Path, patterns: Sequence[str]) -> list[Json]:
    """Export, verify and measure, and write both files after each network.

    Returns:
        The rows of the networks that match, in the order of the catalogue.
    """
    kept = _kept(folder / "zoo.json")
    chosen = [spec for spec in registry.specs() if any(fnmatchcase(spec.name, each) for each in patterns)]
    for number, spec in enumerate(chosen, start=1):
        if spec.name in kept:
            continue
        print(f"[{number}/{len(chosen)}] {spec.name}", file=sys.stderr, flush=True)  # noqa: T201
        kept[spec.name] = _row(spec)
        ordered = [kept[each.name] for each in registry.specs() if each.name in kept]
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "zoo.json", (json.dumps(_document(ordered), indent=1) + "\n").encode())
        write_atomically(folder / "zoo.md", markdown(ordered).encode())
    return [kept[spec.name] for spec in chosen]


def markdown(rows: Sequence[Json]) -> str:
    """The table for people; networks that failed stand below it with their reasons."""
    lines = [
        "# The zoo",
        "",
        "Each network exported with seeded weights at opset 20, held against PyTorch at batch sizes 1, 3 and 8",
        "with two seeds, verified by itself, and measured on ONNX Runtime (batch 1). `max error` is absolute,",
        "`in std` the same in standard deviations of the output. Made by `make zoo`; machine and versions are in",
        "zoo.json.",
        "",
        "| " + " | ".join(_COLUMNS) + " |",
        "|---" + "|--:" * (len(_COLUMNS) - 1) + "|",
    ]
    for row in rows:
        if row["problem"]:
            continue
        nodes = f"{row['nodes_before']} → {row['nodes']}"
        figures = (
            f"{row['params']:,}",
            f"{row['macs']:,}",
            f"{row['bytes'] / 1e6:.2f}",
            nodes,
            f"{row['max_abs']:.1e}",
            f"{row['error_in_std']:.1e}",
            f"{row['p50_ms']:.3f}",
            f"{row['export_s']:.1f}",
            f"{row['peak_bytes'] / 1e9:.2f}",
        )
        lines.append(f"| {row['name']} | " + " | ".join(figures) + " |")
    if noted := [row for row in rows if not row["problem"] and row["note"]]:
        lines += [
            "",
            "Where float32 itself is no closer to float64 in PyTorch, both were held against float64:",
            "",
        ]
        lines += [f"- {row['name']}: {row['note']}" for row in noted]
    if failed := [row for row in rows if row["problem"]]:
        lines += ["", "Not exported:", ""] + [f"- {row['name']}: {row['problem']}" for row in failed]
    return "\n".join(lines) + "\n"


def _row(spec: ModelSpec) -> Json:
    row: Json = {
        "name": spec.name,
        "family": spec.family,
        "params": spec.params,
        "macs": spec.macs,
        "problem": None,
        "versions": _versions(),
        "date": datetime.now(UTC).date().isoformat(),
    }
    with tempfile.TemporaryDirectory(prefix="cnnport-zoo-") as folder:
        path = Path(folder) / f"{spec.name}.onnx"
        try:
            row |= _exported(spec.name, path)
            _command(["verify", str(path)])
            row["p50_ms"] = _p50_ms(path)
        except CnnportError as error:
            row["problem"] = str(error)
    return row


def _exported(name: str, path: Path) -> Json:
    done = json.loads(_command(["-q", "export", name, "--weights", "random", "-o", str(path), "--json"]))
    return {
        "bytes": done["bytes"],
        "nodes_before": sum(done["steps"][0]["ops"].values()),
        "nodes": sum(done["steps"][-1]["ops"].values()),
        "max_abs": done["parity"]["max_abs"],
        "error_in_std": done["parity"]["error_in_std"],
        "note": done["parity"]["note"],
        "export_s": done["seconds"],
        "peak_bytes": done["peak_memory_bytes"],
    }


def _p50_ms(path: Path) -> float:
    results = bench(make_cases([read_artifact(path)], ["ort-cpu"]), rounds=1, duration_s=1.0)
    if results.skipped:
        raise ArtifactError(results.skipped[0].reason)
    return results.results[0].p50_s * 1e3


def _command(arguments: list[str]) -> str:
    """Standard output of a command in a process of its own; its error is raised. Raises ``CnnportError``."""
    command = [sys.executable, "-m", "cnnport", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_EXPORT_LIMIT_S)
    except subprocess.TimeoutExpired as error:
        raise CnnportError(f"{arguments[0]} took longer than {_EXPORT_LIMIT_S:.0f} s") from error
    if done.returncode != 0:
        raise CnnportError(done.stderr.strip().removeprefix("error: ") or f"exit code {done.returncode}")
    return done.stdout


def _versions() -> dict[str, str]:
    return {"cnnport": __version__, **tool_versions()}


def _document(rows: Sequence[Json]) -> Json:
    return {"environment": read_environment().to_json(), "networks": list(rows)}


def _kept(path: Path) -> dict[str, Json]:
    """The rows of an earlier run by name: those of the same versions that succeeded."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["networks"]
        return {row["name"]: row for row in rows if row["versions"] == _versions() and not row["problem"]}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} is not a record of this command: move it away") from error


if __name__ == "__main__":
    sys.exit(main())
