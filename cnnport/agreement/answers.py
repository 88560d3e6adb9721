"""The reference's answers to sets of inputs, on disk, and a candidate's held against them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnport.agreement.inputs import InputSet
from cnnport.agreement.meter import Meter
from cnnport.agreement.metrics import Metrics, worst_of
from cnnport.agreement.opened import Opened
from cnnport.agreement.rows import Array, RowsWriter, read_rows
from cnnport.agreement.scales import Scale, ScaleMeter
from cnnport.agreement.tolerances import FLIPPED_SHARE, Tolerance, loosened


@dataclass(frozen=True)
class Answered:
    """A set of inputs with the reference's outputs.

    Attributes:
        inputs: The set.
        files: Where the rows of each output lie, by its name.
        scales: Of each output.
        rounding_in_std: How far float32 may be off in this set, where that is more than its tolerance.
    """

    inputs: InputSet
    files: Mapping[str, Path]
    scales: Mapping[str, Scale]
    rounding_in_std: float = 0.0

    def outputs(self, start: int, stop: int) -> dict[str, Array]:
        """Of some samples."""
        return {name: read_rows(path)[start:stop] for name, path in self.files.items()}


@dataclass(frozen=True)
class SetResult:
    """A candidate over one set of inputs.

    Attributes:
        inputs: The set.
        metrics: By output; empty where it could not be compared.
        failures: What is not as it should be, in sentences.
        is_rounding: Whether every failure is of single values being too far apart, which float64 may explain.
        note: What else to know.
        rounding_in_std: How far float32 may be off here, where that explains what would be failures; else 0.
    """

    inputs: InputSet
    metrics: Mapping[str, Metrics]
    failures: tuple[str, ...] = ()
    is_rounding: bool = False
    note: str = ""
    rounding_in_std: float = 0.0

    @property
    def worst(self) -> Metrics | None:
        """Over all outputs."""
        found: Metrics | None = None
        for each in self.metrics.values():
            found = each if found is None else worst_of(found, each)
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "name": self.inputs.name,
            "pass": not self.failures,
            "failures": list(self.failures),
            "note": self.note,
            "outputs": {name: each.to_json() for name, each in self.metrics.items()},
        }


def record(opened: Opened, inputs: InputSet, folder: Path) -> Answered:
    """Run the reference over a set and write down what it answers. Raises ``CandidateError``."""
    writers: dict[str, RowsWriter] = {}
    meters: dict[str, ScaleMeter] = {}
    files: dict[str, Path] = {}
    for start, stop in inputs.chunks(opened.chunk):
        for place, (name, rows) in enumerate(opened.run(inputs, start, stop).items()):
            if name not in writers:
                files[name] = folder / f"{inputs.name}.{place}.npy"
                writers[name] = RowsWriter(files[name], len(inputs))
                meters[name] = ScaleMeter()
            writers[name].add(rows)
            meters[name].add(rows)
    for writer in writers.values():
        with writer:
            pass
    return Answered(inputs, files, {name: meter.scale() for name, meter in meters.items()})


def scales_of(files: Mapping[str, Path], pieces: Iterable[tuple[int, int]]) -> dict[str, Scale]:
    """The scales of outputs that were written down before. Raises ``CnnportError``."""
    places = list(pieces)
    found = {}
    for name, path in files.items():
        rows, meter = read_rows(path), ScaleMeter()
        for start, stop in places:
            meter.add(rows[start:stop])
        found[name] = meter.scale()
    return found


def hold(opened: Opened, answered: Answered, tolerance: Tolerance) -> SetResult:
    """Run a candidate over a set, and compare. Raises ``CandidateError``."""
    inputs = answered.inputs
    tolerance = tolerance if inputs.is_usual else loosened(tolerance)
    meters = {
        name: Meter(name, scale, tolerance.allowed(scale, answered.rounding_in_std))
        for name, scale in answered.scales.items()
    }
    for start, stop in inputs.chunks(opened.chunk):
        found = matched(opened.run(inputs, start, stop), answered.files)
        for name, expected in answered.outputs(start, stop).items():
            if name not in found:
                return SetResult(inputs, {}, (f"it has no output {name!r}: {', '.join(found)}",))
            if found[name].shape != expected.shape:
                was, now = list(expected.shape[1:]), list(found[name].shape[1:])
                return SetResult(inputs, {}, (f"output {name!r} is {now} where the reference gives {was}",))
            meters[name].add(expected, found[name])
    metrics = {name: meter.metrics() for name, meter in meters.items()}
    return _judged(answered, metrics, tolerance)


def matched(found: dict[str, Array], names: Iterable[str]) -> dict[str, Array]:
    """Outputs under the reference's names: their own, or by position where as many have others."""
    wanted = list(names)
    if set(wanted) <= set(found) or len(found) != len(wanted):
        return found
    return dict(zip(wanted, found.values(), strict=True))


def _judged(answered: Answered, metrics: Mapping[str, Metrics], tolerance: Tolerance) -> SetResult:
    failures, notes = [], []
    is_rounding = True
    inputs = answered.inputs
    for name, each in metrics.items():
        scale = answered.scales[name]
        where = "" if each.worst is None else f"{inputs.titles[each.worst.sample]}: {each.worst}"
        if each.misplaced:
            odd = f"{each.nan} NaN and {each.inf} infinite values"
            if each.reference_nan or each.reference_inf:
                odd += f" (the reference {each.reference_nan} and {each.reference_inf}, elsewhere)"
            failures.append(f"{odd}; {where}")
            is_rounding = False
        elif each.nan or each.inf:
            notes.append(f"{name} holds {each.nan + each.inf} NaN or infinities, as the reference does")
        if not scale.is_float:
            if each.beyond > FLIPPED_SHARE * each.values:
                failures.append(f"{each.beyond} of {each.values} values of {name} are others; {where}")
                is_rounding = False
            continue
        if each.beyond and not each.misplaced:
            allowed = tolerance.allowed(scale, answered.rounding_in_std)
            assert allowed is not None
            share = f", {each.error_in_std:.1e} std" if scale.spread > 0 else ""
            limit = f"{allowed[0]:.2e}" + (f" + {allowed[1]:g} of the value" if allowed[1] else "")
            failures.append(
                f"{where}: {each.max_abs:.2e} apart{share}, allowed {limit}; {each.beyond} values"
            )
        if tolerance.sqnr_db is not None and not each.sqnr_db >= tolerance.sqnr_db:
            failures.append(
                f"SQNR {each.sqnr_db:.1f} dB, at least {tolerance.sqnr_db:.1f}; furthest at {where}"
            )
            is_rounding = False
    return SetResult(inputs, metrics, tuple(failures), bool(failures) and is_rounding, "; ".join(notes))
