"""The record of the benchmark of halves and 8 bits: its networks, and a row for each."""

from collections.abc import Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from cnnport import registry
from cnnport._version import __version__
from cnnport.errors import CnnportError, UnknownNameError
from cnnport.measuring.environment import read_environment
from cnnport.measuring.progress import Tell
from cnnport.measuring.record import Json
from cnnport.measuring.studies.quantized_accuracy import accuracy_of
from cnnport.measuring.studies.quantized_page import markdown
from cnnport.measuring.studies.quantized_speed import are_there, make_candidates, measure_candidates
from cnnport.measuring.studies.rows import kept_rows, write_record
from cnnport.metadata import tool_versions

TRAINED = (
    "lenet5",
    "digits_inception",
    "digits_resnet",
    "digits_se_resnet",
    "digits_densenet",
    "digits_squeezenet",
    "digits_mobilenet_v1",
    "digits_mobilenet_v2",
    "digits_shufflenet_v1",
    "digits_shufflenet_v2",
)
"""Those that ship trained on the digits."""

REPRESENTATIVES = (
    "resnet50",
    "mobilenet_v1_x1_0",
    "shufflenet_v2_x1_0",
    "shufflenet_v1_g3",
    "densenet121",
    "se_resnet50",
    "inception_v3",
    "squeezenet1_1",
    "mobilenet_v2",
    "mobilenet_v3_large",
)
"""Those whose speed is measured."""

HALVES = {"accuracy": TRAINED, "speed": REPRESENTATIVES}


class QuantizedRows:
    """The rows of the networks that match, on disk after every one."""

    def __init__(
        self,
        record: Path,
        page: Path,
        files: Path,
        patterns: Sequence[str],
        halves: Sequence[str],
        tell: Tell,
    ) -> None:
        """Take up what an earlier run of the same versions left.

        Args:
            record: The file of rows; it need not exist.
            page: The same for people.
            files: Where ONNX files lie.
            patterns: Of names of networks.
            halves: Of ``HALVES``.
            tell: Is told how far it is.

        Raises:
            UnknownNameError: If no network matches.
            ArtifactError: If the record is a foreign file.
        """
        self._record, self._page, self._files, self._tell = record, page, files, tell
        self._chosen = [
            (name, half)
            for half in halves
            for name in HALVES[half]
            if any(fnmatchcase(name, pattern) for pattern in patterns)
        ]
        if not self._chosen:
            raise UnknownNameError(f"no network of this benchmark matches {' '.join(patterns)}")
        self._rows = kept_rows(record, _versions())

    def rows(self) -> list[Json]:
        """One row for each network that matches and was reached, in order."""
        return [self._rows[name] for name, _ in self._chosen if name in self._rows]

    def forget(self) -> None:
        """Drop the rows of the networks that match."""
        for name, _ in self._chosen:
            self._rows.pop(name, None)

    def make(self) -> None:
        """Make the files that are missing of networks that are not measured, and tell how accurate they are."""
        for number, (name, half) in enumerate(self._chosen):
            row = self._rows.setdefault(name, _empty(name, half))
            if row["measured"] or (row["made"] and are_there(name, self._files, row["made"])):
                continue
            tell = partial(self._told, number)
            row["problem"] = row["made"] = None
            try:
                if half == "accuracy":
                    date = datetime.now(UTC).isoformat(timespec="seconds")
                    row["measured"] = {"date_utc": date, "targets": accuracy_of(name, self._files, tell)}
                else:
                    row["made"] = make_candidates(name, self._files, tell)
            except CnnportError as error:
                row["problem"] = _one_line(error)
            self._write()

    def measure(self, rounds: int, duration_s: float) -> None:
        """Measure the speed of what is made and is not measured yet; arguments as of ``measure_in_turn``."""
        for number, (name, _) in enumerate(self._chosen):
            row = self._rows[name]
            if row["measured"] or not row["made"]:
                continue
            try:
                row["measured"] = measure_candidates(
                    name, self._files, row["made"], rounds, duration_s, partial(self._told, number)
                )
            except CnnportError as error:
                row["problem"] = _one_line(error)
            self._write()

    def _told(self, number: int, text: str) -> None:
        self._tell(text, number, len(self._chosen))

    def _write(self) -> None:
        names = [name for members in HALVES.values() for name in members]
        ordered = [self._rows[name] for name in names if name in self._rows]
        write_record(self._record, self._page, ordered, markdown(ordered))


def _empty(name: str, half: str) -> Json:
    """A row without anything: ``made`` is of speed alone, where files wait to be measured."""
    row = {"name": name, "half": half, "params": registry.get(name).params, "versions": _versions()}
    return row | {"problem": None, "made": None, "measured": None}


def _one_line(error: CnnportError) -> str:
    return " ".join(str(error).split())


def _versions() -> dict[str, str]:
    packages = read_environment().packages
    measuring = {name: packages[name] for name in ("onnxruntime", "openvino") if name in packages}
    return {"cnnport": __version__, **tool_versions(), **measuring}
