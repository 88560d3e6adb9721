"""Halves and 8 bits over the zoo: ``python -m cnnport.measuring.studies.quantized FOLDER [PATTERN]...``.

Two halves. Accuracy: the networks that ship trained on the digits, as float32, float16 and int8 for every target,
held against the 500 held-out digits and against float32. Speed: some networks of ImageNet's size with random weights,
in 8 bits and in float32 on ONNX Runtime and OpenVINO, and what onnxruntime's own quantizer makes of them, measured in
turn; that stage says something only on a machine where nothing else runs, and ``--no-measure`` leaves it for later.

The record gets one row a network, written after each; FOLDER gets ``quantization_results.md``, the same for people. A
second run goes on where the first stopped: rows of the same versions are kept, unless ``--again`` says otherwise.
"""

import argparse
import sys
from pathlib import Path

from cnnport.errors import CnnportError
from cnnport.measuring.progress import progress
from cnnport.measuring.studies.alone import alone
from cnnport.measuring.studies.quantized_record import HALVES, QuantizedRows

PAGE = "quantization_results.md"


def main(arguments: list[str] | None = None) -> int:
    """Make and measure what matches; 1 if a row is not complete."""
    options = _parser().parse_intermixed_args(arguments)
    halves = [half for half in HALVES if getattr(options, half)] or list(HALVES)
    try:
        with progress() as tell, alone(options.record):
            rows = QuantizedRows(
                options.record, options.folder / PAGE, options.files, options.pattern, halves, tell
            )
            if options.again:
                rows.forget()
            rows.make()
            if not options.no_measure:
                rows.measure(options.rounds, options.duration)
    except CnnportError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    done = [row for row in rows.rows() if not row["problem"] and (options.no_measure or row["measured"])]
    print(f"{len(done)} of {len(rows.rows())} made{'' if options.no_measure else ' and measured'}")  # noqa: T201
    for row in rows.rows():
        if row["problem"]:
            print(f"{row['name']}: {row['problem']}")  # noqa: T201
    return int(len(done) < len(rows.rows()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cnnport.measuring.studies.quantized",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help=f"where {PAGE} is")
    parser.add_argument("pattern", nargs="*", default=["*"], help="names, with * and ?")
    parser.add_argument("--record", type=Path, default=Path("bench/results/quantized.json"))
    parser.add_argument("--files", type=Path, default=Path("build/quantized"), help="where ONNX files lie")
    parser.add_argument("--accuracy", action="store_true", help="this half; both without either")
    parser.add_argument("--speed", action="store_true", help="this half; both without either")
    parser.add_argument("--no-measure", action="store_true", help="of speed: make the files only")
    parser.add_argument("--again", action="store_true", help="make and measure anew")
    parser.add_argument("--rounds", type=int, default=7, help="processes for each file and number of threads")
    parser.add_argument("--duration", type=float, default=1.0, help="seconds of counted runs in each")
    return parser


if __name__ == "__main__":
    sys.exit(main())
