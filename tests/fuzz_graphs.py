"""Random CNNs, and the onnx package's own test cases, through every graph pass, each alone and all together.

    python tests/fuzz_graphs.py --cases 10000 --seed 1      10,000 networks; 1 if a property does not hold
    python tests/fuzz_graphs.py --seed 1 --first 4711 --cases 1    one of them again
    python tests/fuzz_graphs.py --backend                   the onnx package's cases

A run stops at the first mismatch unless told to count all of them; ``--found`` takes the first of
each kind down to a small graph.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cnnport.files import write_atomically
from cnnport.graphs.passes import name_of
from cnnport.measuring.environment import read_environment
from fuzz.run import Tally, backend_cases, passes_of, random_cases, worth_showing, write_finding


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=1000, help="how many networks")
    parser.add_argument("--seed", type=int, default=0, help="which run of networks")
    parser.add_argument("--first", type=int, default=0, help="the number of the first network of the run")
    parser.add_argument("--backend", action="store_true", help="the onnx package's cases, not networks")
    parser.add_argument(
        "--also",
        nargs="*",
        default=[],
        help="modules of cnnport.graphs that are in no table yet, as fold.fold_x",
    )
    parser.add_argument("--count-all", action="store_true", help="go on after a mismatch")
    parser.add_argument("--found", type=Path, help="folder for small graphs that show the mismatches")
    parser.add_argument("--write", type=Path, help="JSON file that takes the record of this run")
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side")
    options = parser.parse_args(arguments)
    print(f"seed {options.seed}")  # noqa: T201
    started = time.monotonic()
    if options.backend:
        total = _watched(backend_cases(options.also), None, count_all=options.count_all)
    else:
        last = options.first + options.cases
        parts = random_cases(options.seed, options.first, last, options.also, options.jobs)
        total = _watched(parts, options.cases, count_all=options.count_all)
    if options.found and not options.backend:
        for finding in worth_showing(total.findings):
            print(f"left {write_finding(finding, options.seed, options.also, options.found)}")  # noqa: T201
    if options.write:
        kind = "backend" if options.backend else "networks"
        _write(options.write, kind, _record(total, options, round(time.monotonic() - started)))
    print(_summary(total, options.also))  # noqa: T201
    return 1 if total.findings else 0


def _watched(parts: Iterable[Tally], cases: int | None, *, count_all: bool) -> Tally:
    """Add the parts up and show how far it is; to the first finding, or to the end."""
    total, shown = Tally(), set()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not sys.stdout.isatty()) as progress:
        task = progress.add_task("0 mismatches", total=cases)
        for part in parts:
            total.add(part)
            for finding in part.findings:
                progress.console.print(
                    f"{finding.case}: {finding.detail}", markup=False, soft_wrap=True, highlight=False
                )
            progress.update(task, completed=total.cases, description=f"{len(total.findings)} mismatches")
            # Output that goes to a file shows a line for every thousand.
            if progress.disable and total.cases // 1000 not in shown:
                shown.add(total.cases // 1000)
                print(f"{total.cases} cases, {len(total.findings)} mismatches", flush=True)  # noqa: T201
            if total.findings and not count_all:
                break
    return total


def _record(total: Tally, options: argparse.Namespace, seconds: int) -> dict[str, object]:
    names = [name_of(each) for each in passes_of(options.also)]
    own = {} if options.backend else {"seed": options.seed, "first": options.first}
    return own | {
        "cases": total.cases,
        "mismatches": len(total.findings),
        "changed": total.changed,
        "decided_in_float64": total.doubtful,
        "changed_and_not_run": total.not_run,
        "seconds": seconds,
        "passes": {name: {"alone": total.alone[name], "together": total.together[name]} for name in names},
        "operators": dict(sorted(total.operators.items())),
        "findings": [asdict(finding) for finding in total.findings],
    }


def _write(path: Path, kind: str, record: dict[str, object]) -> None:
    """Put the record into the file, next to that of the other kind of run."""
    records = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    environment = asdict(read_environment())
    kept = ("cpu_model", "cores_logical", "os", "python", "packages")
    where = {key: environment[key] for key in kept} | {"date": datetime.now(UTC).date().isoformat()}
    records[kind] = where | record
    write_atomically(path, (json.dumps(records, indent=1) + "\n").encode())


def _summary(total: Tally, more: list[str]) -> str:
    lines = [
        f"{total.cases} cases, {total.changed} of them rewritten, {len(total.findings)} mismatches",
        f"float64 decided {total.doubtful} comparisons; {total.not_run} rewritten graphs could not be run",
    ]
    for each in passes_of(more):
        name = name_of(each)
        lines.append(f"  {name}: rewrote {total.alone[name]} alone, {total.together[name]} with the others")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
