"""Parity over networks of the zoo: ``python -m cnnport.measuring.studies.parity FOLDER [PATTERN]...``.

``cnnport parity`` for each network that ships trained and for those that speed is measured of, in float32, float16
and 8 bits, on every runtime that is present, against the PyTorch original. The trained ones get scans of digits, the
others have random weights and get seeded noise.

The record gets one row a network, written after each; FOLDER gets ``parity.md``, the same for people. A second run
goes on where the first stopped: rows of the same versions are kept, unless ``--again`` says otherwise.
"""

import argparse
import json
import sys
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path

from cnnport._version import __version__
from cnnport.errors import CnnportError, UnknownNameError
from cnnport.measuring.command import cnnport_command
from cnnport.measuring.environment import read_environment
from cnnport.measuring.progress import Tell, progress
from cnnport.measuring.record import Json
from cnnport.measuring.studies.alone import alone
from cnnport.measuring.studies.parity_page import markdown
from cnnport.measuring.studies.quantized_record import REPRESENTATIVES, TRAINED
from cnnport.measuring.studies.rows import kept_rows, write_record
from cnnport.metadata import tool_versions

PAGE = "parity.md"
PRECISIONS = "fp32,fp16,int8"

NETWORKS = {**dict.fromkeys(TRAINED, "digits:200"), **dict.fromkeys(REPRESENTATIVES, "random:32")}
"""What each network is fed."""

# Of a set of inputs, per output; the rest can be had again by the command.
_KEPT = (
    "error_in_std",
    "max_abs",
    "sqnr_db",
    "top1_agreement",
    "widest_flip_in_std",
    "kl_mean",
    "nan",
    "inf",
)


def parity_of(name: str) -> Json:
    """What ``cnnport parity`` finds of a network, without the details of each set of inputs.

    Raises:
        CnnportError: If it cannot be compared at all.
    """
    weights = "default" if name in TRAINED else "random"
    arguments = [
        "parity",
        name,
        "--weights",
        weights,
        "--precision",
        PRECISIONS,
        "--data",
        NETWORKS[name],
        "--json",
    ]
    # A candidate that departs is a finding and no failure of the study.
    document: Json = json.loads(cnnport_command(arguments, accepted=(0, 1)))
    for row in document["rows"]:
        for each in row["sets"]:
            each["outputs"] = {
                output: {key: facts[key] for key in _KEPT} for output, facts in each["outputs"].items()
            }
    return {"command": f"cnnport {' '.join(arguments)}", **document}


class ParityRows:
    """The rows of the networks that match, on disk after every one."""

    def __init__(self, record: Path, page: Path, patterns: list[str], *, again: bool) -> None:
        """Take up what an earlier run of the same versions left.

        Args:
            record: The file of rows; it need not exist.
            page: The same for people.
            patterns: Of names of networks.
            again: Whether rows that match are made anew.

        Raises:
            UnknownNameError: If no network matches.
            ArtifactError: If the record is a foreign file.
        """
        self._record, self._page = record, page
        self.chosen = [name for name in NETWORKS if any(fnmatchcase(name, each) for each in patterns)]
        if not self.chosen:
            raise UnknownNameError(f"no network of this study matches {' '.join(patterns)}")
        self._rows = kept_rows(record, _versions())
        for name in self.chosen if again else ():
            self._rows.pop(name, None)

    def make(self, tell: Tell) -> None:
        """Compare what has no row yet."""
        for number, name in enumerate(self.chosen):
            tell(name, number, len(self.chosen))
            if name in self._rows:
                continue
            row: Json = {"name": name, "versions": _versions(), "problem": None, "parity": None}
            try:
                row["parity"] = parity_of(name)
            except CnnportError as error:
                row["problem"] = " ".join(str(error).split())
            row["date_utc"] = datetime.now(UTC).isoformat(timespec="seconds")
            self._rows[name] = row
            ordered = [self._rows[each] for each in NETWORKS if each in self._rows]
            write_record(self._record, self._page, ordered, markdown(ordered))

    def rows(self) -> list[Json]:
        """Of the networks that match and were reached, in order."""
        return [self._rows[name] for name in self.chosen if name in self._rows]


def main(arguments: list[str] | None = None) -> int:
    """Compare what matches; 1 if anything departs."""
    options = _parser().parse_intermixed_args(arguments)
    try:
        with progress() as tell, alone(options.record):
            rows = ParityRows(options.record, options.folder / PAGE, options.pattern, again=options.again)
            rows.make(tell)
    except CnnportError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    good = [row for row in rows.rows() if not row["problem"] and row["parity"]["pass"]]
    print(f"{len(good)} of {len(rows.rows())} networks say the same everywhere")  # noqa: T201
    return int(len(good) < len(rows.rows()))


def _versions() -> dict[str, str]:
    packages = read_environment().packages
    running = {name: packages[name] for name in ("onnxruntime", "openvino") if name in packages}
    return {"cnnport": __version__, **tool_versions(), **running}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cnnport.measuring.studies.parity",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help=f"where {PAGE} is")
    parser.add_argument("pattern", nargs="*", default=["*"], help="names, with * and ?")
    parser.add_argument("--record", type=Path, default=Path("bench/results/parity.json"))
    parser.add_argument("--again", action="store_true", help="compare anew")
    return parser


if __name__ == "__main__":
    sys.exit(main())
