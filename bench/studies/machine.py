"""The machine's peaks beside public tools: ``python -m cnnport.measuring.studies.machine [--record F] [--page F]``.

Three minutes on two cores, with nothing else running. What public tools are on PATH is run after cnnport's own
measurement, with the same numbers of threads; the record and the page say which were not.
"""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from cnnport.errors import CnnportError
from cnnport.files import write_atomically
from cnnport.measuring.cpus import default_threads
from cnnport.measuring.environment import read_environment
from cnnport.measuring.machine import measure_machine
from cnnport.measuring.progress import Tell, progress
from cnnport.measuring.record import Json
from cnnport.measuring.studies.machine_page import page
from cnnport.measuring.studies.machine_tools import figures
from cnnport.measuring.studies.rows import write_document


def main(arguments: list[str] | None = None) -> int:
    """Measure, and write record and page."""
    parser = argparse.ArgumentParser(prog="python -m cnnport.measuring.studies.machine", description=__doc__)
    parser.add_argument("--record", type=Path, default=Path("bench/results/machine.json"))
    parser.add_argument("--page", type=Path, default=Path("docs/machine.md"))
    options = parser.parse_args(arguments)
    try:
        with progress() as tell:
            record = study(sorted({1, default_threads()}), tell)
        write_document(options.record, record)
        options.page.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(options.page, page(record).encode())
    except CnnportError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


def study(threads: list[int], tell: Tell) -> Json:
    """The record: for each number of threads the machine, what the tools found, and what was not run."""
    environment = read_environment()
    machines: list[Json] = []
    versions: dict[str, str] = {}
    for done, count in enumerate(threads):
        tell(f"{count} threads: cnnport", 2 * done, 2 * len(threads))
        machine = measure_machine(count)
        versions = dict(machine.versions)
        tell(f"{count} threads: public tools", 2 * done + 1, 2 * len(threads))
        skipped: dict[str, str] = {}
        found = [asdict(each) for each in figures(count, environment.cpu_flags, skipped.__setitem__)]
        machines.append({"machine": machine.to_json(), "tools": found, "skipped": skipped})
    return {"environment": environment.to_json(), "versions": versions, "machines": machines}


if __name__ == "__main__":
    sys.exit(main())
