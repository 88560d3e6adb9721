"""cnnport's graphs against the other tools': ``python -m cnnport.measuring.studies.graphs [PATTERN]...``.

Four files hold each network, with the same seeded weights: what torch.onnx gives, what onnxsim and onnxslim make of
that, and cnnport's. First they are made, each in a process of its own, and every file is held against the first.
Then they are measured on ort-cpu at two batch sizes and two numbers of threads, each in a fresh process, in turn;
that stage says something only on a machine where nothing else runs, and ``--no-measure`` leaves it for later. Files
of the same graph are measured once.

The record gets one row a network, written after each; the page says the same for people. A second run goes on where
the first stopped: what the same versions made is kept. With other ``--passes`` or another ``--target`` than the
record's, or with ``--again``, cnnport's files are made again and everything is measured again.

``--compare FILE FILE...`` holds any files against the first of them, and leaves no record.
"""

import argparse
import json
import sys
from pathlib import Path

from cnnport.errors import CnnportError
from cnnport.measuring.cpus import default_threads
from cnnport.measuring.progress import progress
from cnnport.measuring.studies.alone import alone
from cnnport.measuring.studies.graphs_compare import compare, table
from cnnport.measuring.studies.graphs_record import Graphs, chosen

# Of a table that goes to a file, where paths are not to be cut.
_WIDTH = 160


def main(arguments: list[str] | None = None) -> int:
    """Make and measure what matches; 1 if a network lacks cnnport's file or a measurement."""
    options = _parser().parse_intermixed_args(arguments)
    try:
        if options.compare:
            return _compare(options)
        wanted = {"passes": options.passes, "target": options.target}
        names = chosen(options.pattern)
        with progress() as tell, alone(options.record):
            graphs = Graphs(options.record, options.page, options.files, names, wanted, tell)
            if options.again:
                graphs.forget()
            graphs.make()
            if not options.no_measure:
                graphs.measure(options.rounds, options.duration)
    except CnnportError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    rows = graphs.rows()
    done = sum(
        not row["candidates"]["cnnport"]["problem"] and (options.no_measure or row["measured"] is not None)
        for row in rows
    )
    print(f"{done} of {len(rows)} made{'' if options.no_measure else ' and measured'}")  # noqa: T201
    return int(done < len(rows))


def _compare(options: argparse.Namespace) -> int:
    from rich.console import Console

    threads = default_threads() if options.threads is None else options.threads
    with progress() as tell:
        rows = compare(
            options.compare,
            batch=options.batch,
            threads=threads,
            rounds=options.rounds,
            duration_s=options.duration,
            tell=lambda path, done, total: tell(f"measure {path.name}", done, total),
        )
    title = f"batch {options.batch} · threads {threads} · rounds {options.rounds}"
    Console(stderr=True, width=None if sys.stderr.isatty() else _WIDTH).print(table(rows, title))
    document = {"batch": options.batch, "threads": threads, "files": [row.to_json() for row in rows]}
    print(json.dumps(document))  # noqa: T201
    return int(not all(row.agrees for row in rows))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cnnport.measuring.studies.graphs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("pattern", nargs="*", default=["*"], help="names, with * and ?")
    parser.add_argument("--record", type=Path, default=Path("bench/results/graphs.json"))
    parser.add_argument("--page", type=Path, default=Path("docs/graphs.md"))
    parser.add_argument("--files", type=Path, default=Path("build/graphs"), help="where ONNX files lie")
    parser.add_argument("--passes", help="as of cnnport export")
    parser.add_argument("--target", help="as of cnnport export")
    parser.add_argument("--no-measure", action="store_true", help="make and check the files only")
    parser.add_argument("--again", action="store_true", help="make cnnport's files and measure anew")
    parser.add_argument("--rounds", type=int, default=7, help="processes for each file and case")
    parser.add_argument("--duration", type=float, default=1.0, help="seconds of counted runs in each")
    parser.add_argument(
        "--compare", type=Path, nargs="+", metavar="FILE", help="hold files against the first"
    )
    parser.add_argument("--batch", type=int, default=1, help="with --compare")
    parser.add_argument("--threads", type=int, help="with --compare; all cores if omitted")
    return parser


if __name__ == "__main__":
    sys.exit(main())
