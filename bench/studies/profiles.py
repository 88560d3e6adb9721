"""Whether profiles add up: ``python -m cnnport.measuring.studies.profiles [PATTERN]...``.

Every representative is profiled on ort-cpu and openvino: the sum of its layers' times against a run without the
profiler, and whether every layer names the module that it is of. The figures say something only on a machine where
nothing else runs. The record gets one row a network, written after each; a second run goes on where the first
stopped.
"""

import argparse
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from cnnport import registry
from cnnport._version import __version__
from cnnport.errors import CnnportError, UnknownNameError
from cnnport.measuring.case import make_cases
from cnnport.measuring.command import cnnport_command
from cnnport.measuring.environment import read_environment
from cnnport.measuring.fields import Json
from cnnport.measuring.profiling import Profile, profile
from cnnport.measuring.profiling.limits import AGREES
from cnnport.measuring.progress import Tell, progress
from cnnport.measuring.speed_contract import settings_of
from cnnport.measuring.studies.graphs_record import REPRESENTATIVES
from cnnport.measuring.studies.rows import kept_rows, write_document
from cnnport.onnxfile import read_artifact

RUNTIMES = ("ort-cpu", "openvino")
BATCH = 1
THREADS = 1
"""Unless told otherwise: one that is disturbed does not keep others waiting."""


def main(arguments: list[str] | None = None) -> int:
    """Profile what matches and is not in the record yet; 1 if a network fails."""
    options = _parser().parse_intermixed_args(arguments)
    try:
        names = [
            name
            for name in REPRESENTATIVES
            if any(fnmatchcase(name, pattern) for pattern in options.pattern or ["*"])
        ]
        if not names:
            raise UnknownNameError(f"no representative matches {' '.join(options.pattern)}")
        with progress() as tell:
            rows = _Rows(options.record, options.files, options.threads, tell)
            rows.make(names)
            if not options.no_measure:
                rows.measure(names, options.rounds, options.duration, again=options.again)
    except CnnportError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    found = rows.found(names)
    print(table(found))  # noqa: T201
    return int(any(row["problem"] for row in found))


def summary(found: Profile) -> Json:
    """What a row keeps of a profile."""
    return {
        "runtime_version": found.runtime_version,
        "end_to_end_ms": round(found.end_to_end_ms, 4),
        "profiled_ms": round(found.profiled_ms, 4),
        "layers_ms": round(found.layers_ms, 4),
        "noting_ms": round(found.noting_ms, 6),
        "ratio": round(found.layers_ms / found.end_to_end_ms, 4),
        "layers": len(found.layers),
        "without_module": [layer.name for layer in found.layers if not layer.modules],
        "turns_ms": [round(each, 4) for each in found.turns_ms],
    }


def table(rows: Sequence[Json]) -> str:
    """The rows for people; a star where the sum is further than ``AGREES`` from the run."""
    lines = [
        f"{'network':24}" + "".join(f"{name + ' ms':>16}{'layers':>9}{'ratio':>8} " for name in RUNTIMES)
    ]
    for row in rows:
        line = f"{row['name']:24}"
        for name in RUNTIMES:
            each = (row["profiles"] or {}).get(name)
            if each is None:
                line += f"{'':16}{'':9}{'':8} "
                continue
            star = "*" if abs(each["ratio"] - 1) > AGREES else " "
            star = "!" if each["without_module"] else star
            line += f"{each['end_to_end_ms']:16.3f}{each['layers_ms']:9.3f}{each['ratio']:8.3f}{star}"
        lines.append(line.rstrip() + (f"  {row['problem']}" if row["problem"] else ""))
    return "\n".join(lines)


class _Rows:
    """The record, on disk after every network."""

    def __init__(self, record: Path, files: Path, threads: int, tell: Tell) -> None:
        """Take up what an earlier run of the same versions left. Raises ``ArtifactError``."""
        self._record, self._files, self._threads, self._tell = record, files, threads, tell
        self._rows = kept_rows(record, _versions())

    def make(self, names: Sequence[str]) -> None:
        """Export what has no file. Raises ``CnnportError``."""
        self._files.mkdir(parents=True, exist_ok=True)
        for number, name in enumerate(names):
            path = self._path(name)
            if not path.exists():
                self._tell(f"export {name}", number, len(names))
                cnnport_command(["-q", "export", name, "--weights", "random", "-o", str(path)])

    def measure(self, names: Sequence[str], rounds: int, duration_s: float, *, again: bool) -> None:
        """Profile the networks that are not in the record, or all of them again."""
        for number, name in enumerate(names):
            if name in self._rows and not again:
                continue
            row: Json = {"name": name, "versions": _versions(), "problem": None, "profiles": {}}
            for runtime in RUNTIMES:
                self._tell(f"{name} on {runtime}", number, len(names))
                try:
                    row["profiles"][runtime] = summary(self._profile(name, runtime, rounds, duration_s))
                except CnnportError as error:
                    row["problem"] = " ".join(str(error).split())
            self._rows[name] = {**row, "threads": self._threads, "batch": BATCH, "rounds": rounds}
            ordered = [self._rows[each] for each in registry.names() if each in self._rows]
            write_document(self._record, {"environment": read_environment().to_json(), "networks": ordered})

    def found(self, names: Sequence[str]) -> list[Json]:
        """The rows that there are."""
        return [self._rows[name] for name in names if name in self._rows]

    def _profile(self, name: str, runtime: str, rounds: int, duration_s: float) -> Profile:
        artifact = read_artifact(self._path(name))
        (case,) = make_cases([artifact], [runtime], [BATCH], [self._threads], settings=settings_of(BATCH))
        return profile(case, rounds=rounds, duration_s=duration_s, machine=False)

    def _path(self, name: str) -> Path:
        return self._files / f"{name}.onnx"


def _versions() -> dict[str, str]:
    packages = read_environment().packages
    measuring = {name: packages[name] for name in ("onnxruntime", "openvino") if name in packages}
    return {"cnnport": __version__, **measuring}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cnnport.measuring.studies.profiles",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("pattern", nargs="*", help="names, with * and ?")
    parser.add_argument("--record", type=Path, default=Path("bench/results/profiles.json"))
    parser.add_argument("--files", type=Path, default=Path("build/profiles"), help="where ONNX files lie")
    parser.add_argument("--no-measure", action="store_true", help="make the files only")
    parser.add_argument("--again", action="store_true", help="profile anew what is in the record")
    parser.add_argument("--threads", type=int, default=THREADS, help="inside one run")
    parser.add_argument("--rounds", type=int, default=3, help="processes of either kind for each file")
    parser.add_argument("--duration", type=float, default=1.0, help="seconds of counted runs in each")
    return parser


if __name__ == "__main__":
    sys.exit(main())
