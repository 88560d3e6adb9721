"""Whether planted faults are found, how fast, and in how much memory: ``python -m cnnport.measuring.studies.layers``.

Every fault of ``planted`` in every network, at its native size, each in a process of its own, whose largest memory
and time are taken; beside them the same networks without a fault, in float32, in 8 bits and in halves, where
nothing may be found. The record, ``layers.json``, is written after each, and a second run goes on where the first
one stopped.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from cnnport.errors import CnnportError
from cnnport.files import write_atomically
from cnnport.measuring.environment import read_environment
from cnnport.measuring.studies.planted import FAULTS, IN_8_BITS, SOUND
from cnnport.process import Failure, ask, command_of

NETWORKS = ("resnet50", "densenet121")
RECORD = Path("bench/results/layers.json")
_TIMEOUT_S = 900.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the arguments, run, write; gives the exit code: 1 where a fault was not found, or one where none is."""
    parser = argparse.ArgumentParser(
        prog="python -m cnnport.measuring.studies.layers", description=str(__doc__).splitlines()[0]
    )
    parser.add_argument("networks", nargs="*", help=f"of the zoo; {', '.join(NETWORKS)} if omitted")
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RECORD)
    parser.add_argument("--folder", type=Path, default=Path("build/layers"), help="where the files go")
    options = parser.parse_args(arguments)
    try:
        return _run(options)
    except CnnportError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code


def _run(options: argparse.Namespace) -> int:
    rows = json.loads(options.out.read_text())["rows"] if options.out.exists() else []
    done = {(row["network"], row["fault"]) for row in rows}
    for network in options.networks or NETWORKS:
        for fault in (*FAULTS, *SOUND):
            if (network, fault) in done:
                continue
            needs = "int8" if fault in IN_8_BITS or SOUND.get(fault) == "int8" else "fp32"
            question = {
                "file": str(_file(network, needs, options.folder)),
                "fault": fault,
                "samples": options.samples,
                "threads": options.threads,
            }
            answer = ask(
                command_of("cnnport.measuring.studies.planted_worker"),
                question,
                threads=options.threads,
                timeout_s=_TIMEOUT_S,
            )
            row = {"ok": False, "problem": answer.reason} if isinstance(answer, Failure) else answer
            rows.append({"network": network, "fault": fault, **row})
            sys.stderr.write(f"{network}, {fault}: {json.dumps(row)}\n")
            document = {"environment": read_environment().to_json(), "rows": rows}
            options.out.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(options.out, (json.dumps(document, indent=1) + "\n").encode())
    return 0 if all(row["ok"] for row in rows) else 1


def _file(network: str, precision: str, folder: Path) -> Path:
    """The network with seeded weights, exported if it is not there."""
    from cnnport.export_calibrated import export_calibrated
    from cnnport.exporting import export

    path = folder / f"{network}.{precision}.onnx"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        if precision == "int8":
            export_calibrated(network, path, "int8", "random:64", target="ort", weights="random")
        else:
            export(network, path, target="ort", weights="random")
    return path


if __name__ == "__main__":
    sys.exit(main())
