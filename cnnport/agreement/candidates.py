"""Who is compared: a file on a runtime with its options."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from cnnport.artifact import Artifact
from cnnport.errors import ArtifactError, UnknownNameError
from cnnport.metadata import origin_of
from cnnport.runtimes import Options
from cnnport.runtimes.engine_file import misfit

# Runtimes that run the PyTorch module and not the graph.
PYTORCH = ("torch-cpu", "torch-cuda")

# What settings of runtimes make of a float32 file.
_BY_SETTING = {
    ("precision", "bf16"): "bf16",
    ("precision", "f16"): "fp16",
    ("tf32", "1"): "tf32",
}


@dataclass(frozen=True)
class Candidate:
    """One side of a comparison.

    Attributes:
        name: Of the network or the file.
        artifact: The file.
        runtime: Name of the runtime.
        options: How it is opened.
    """

    name: str
    artifact: Artifact
    runtime: str
    options: Options = field(default_factory=Options)

    @property
    def precision(self) -> str:
        """What it computes in, settings of the runtime included."""
        if self.artifact.precision != "fp32":
            return self.artifact.precision
        known = (_BY_SETTING.get((key, value.lower())) for key, value in self.options.settings.items())
        return next((each for each in known if each), "fp32")

    @property
    def label(self) -> str:
        """For people and ``--reference``; the name is left out of it, see ``labels``."""
        exactly = "" if self.options.optimize else " unfused"
        settings = "".join(f" {name}={value}" for name, value in self.options.settings.items())
        return f"{self.runtime}{exactly} {self.artifact.precision}{settings}"

    def misfit(self) -> str | None:
        """Why this runtime cannot take this file at all, in one line; None if it may."""
        if reason := misfit(self.artifact, self.runtime):
            return reason
        if self.runtime not in PYTORCH:
            return None
        if self.artifact.precision == "int8":
            return "PyTorch runs the network in floating point: 8 bits are the file's alone"
        try:
            origin = origin_of(self.artifact)
        except ArtifactError as error:
            return str(error)
        if origin is None:
            return "the file was not exported by cnnport: its PyTorch module is not known"
        if origin.weights not in {"default", "random"} or ":" in origin.model:
            return f"its weights or its module ({origin.weights_origin or origin.model}) cannot be had again"
        return None

    def to_json(self) -> dict[str, Any]:
        """For another process."""
        return {
            "path": str(self.artifact.path),
            "sha256": self.artifact.sha256,
            "runtime": self.runtime,
            "options": asdict(self.options),
        }


@dataclass(frozen=True)
class Left:
    """Somebody who is not compared, and why."""

    label: str
    reason: str


def labels(candidates: Sequence[Candidate]) -> tuple[str, ...]:
    """What to call each: with its name where there are several, with a number where even that is not enough."""
    has_names = len({candidate.name for candidate in candidates}) > 1
    found: list[str] = []
    for candidate in candidates:
        label = f"{candidate.name} {candidate.label}" if has_names else candidate.label
        number = 1
        while (numbered := label if number == 1 else f"{label} ({number})") in found:
            number += 1
        found.append(numbered)
    return tuple(found)


def find_reference(candidates: Sequence[Candidate], wanted: str) -> Candidate:
    """The first one of this label, runtime, precision, name or file.

    Raises:
        UnknownNameError: If there is none.
    """
    names = labels(candidates)
    for candidate, label in zip(candidates, names, strict=True):
        path = candidate.artifact.path
        also = {candidate.runtime, candidate.precision, candidate.name, str(path), path.name}
        if wanted == label or wanted in also:
            return candidate
    raise UnknownNameError(f"no candidate is called {wanted!r}: there are {', '.join(names)}")


def cross(
    files: Sequence[tuple[str, Artifact]],
    precisions: Sequence[str],
    runtimes: Sequence[str],
    options: Mapping[str, Options],
    make: Callable[[Artifact, str, str], Artifact],
) -> tuple[tuple[Candidate, ...], tuple[Left, ...]]:
    """Every file in every precision on every runtime that can take it, in this order, and those that are left out.

    Args:
        files: Names and files.
        precisions: What is made of float32 files; none to take each file as it is.
        runtimes: Names of runtimes that are present.
        options: By runtime.
        make: Gives a file in a precision for a runtime, as ``making.file_in``.

    Raises:
        CnnportError: As ``make``.
    """
    candidates: list[Candidate] = []
    left: list[Left] = []
    for name, artifact in files:
        for precision in precisions or (artifact.precision,):
            for runtime in runtimes:
                chosen = options.get(runtime, Options())
                # Whether it fits at all is known before hours are spent on making it.
                planned = Candidate(name, replace(artifact, precision=precision), runtime, chosen)
                if reason := planned.misfit():
                    left.append(Left(f"{name} {planned.label}", reason))
                    continue
                candidates.append(Candidate(name, make(artifact, precision, runtime), runtime, chosen))
    return tuple(candidates), tuple(left)
