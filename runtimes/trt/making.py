"""Where an engine comes from: built, taken from the cache, or another one with new weights; checked in each case."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from cnnport.artifact import Artifact
from cnnport.errors import ArtifactError
from cnnport.files import sha256_of
from cnnport.onnxfile import load_model
from cnnport.runtimes.build import BuildError, Layer
from cnnport.runtimes.compiling import compiling
from cnnport.runtimes.driver import Device
from cnnport.runtimes.engine_cache import Entry, Slot, engines_folder
from cnnport.runtimes.engine_file import engine_facts
from cnnport.runtimes.trt.builder import Outcome, build
from cnnport.runtimes.trt.engine import Engine
from cnnport.runtimes.trt.package import Package
from cnnport.runtimes.trt.precision import departures, unchecked, wanted_types
from cnnport.runtimes.trt.quantized import misread
from cnnport.runtimes.trt.refit import refit, structure_sha256
from cnnport.runtimes.trt.wishes import Wishes

_SHOWN = 3


@dataclass(frozen=True)
class Made:
    """An engine, or why there is none.

    Attributes:
        parsed: Whether the file was understood.
        data: The serialized engine; None where there is none.
        layers: Of the engine.
        errors: Why there is none, or in what it departs from the file.
        warnings: What the builder warned of.
        structure: Hash of the file without its weights.
    """

    parsed: bool
    data: bytes | None
    layers: tuple[Layer, ...] = ()
    errors: tuple[BuildError, ...] = ()
    warnings: tuple[str, ...] = ()
    structure: str = ""

    def bytes_or_raise(self, package: Package, artifact: Artifact) -> bytes:
        """The engine. Raises ``ArtifactError`` if there is none, or it is not what was asked for."""
        if self.data is not None and not self.errors:
            return self.data
        more = len(self.errors) - _SHOWN
        reasons = "; ".join(map(str, self.errors[:_SHOWN])) + (f"; and {more} more" if more > 0 else "")
        raise ArtifactError(f"{package.title} cannot build {artifact.path}: {reasons}")


@dataclass(frozen=True)
class Maker:
    """All that an engine depends on beside the file and the wishes.

    Attributes:
        package: Which of the two, usable for building.
        device: That it is for; None where it is built without a GPU.
        threads: Of the builder; None leaves it to it.
    """

    package: Package
    device: Device | None
    threads: int | None = None
    place: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        where = {"package": self.package.module, "version": self.package.version()}
        # One release of TensorRT comes for several of CUDA.
        if cuda := self.package.cuda():
            where["cuda"] = cuda
        if self.device is not None:
            where |= {
                "gpu": self.device.name,
                "compute": f"{self.device.compute[0]}.{self.device.compute[1]}",
            }
        object.__setattr__(self, "place", where)

    def make(self, artifact: Artifact, wishes: Wishes, source: Artifact | None = None) -> Made:
        """From the cache, or built and kept; without a word of what is wrong only where nothing is.

        Args:
            artifact: The ONNX file.
            wishes: How.
            source: An engine that is taken with the file's weights in the place of its own, and nothing is built.

        Raises:
            ArtifactError: If the file has changed, or new weights are for an engine that does not take them.
            CnnportError: If a setting does not fit.
            OutputError: If the cache cannot be written.
        """
        _check_unchanged(artifact)
        if source is not None:
            return self._refitted(artifact, source)
        if not wishes.cache:
            return self.built(artifact, wishes)
        slot = self.engine_slot(artifact, wishes)
        with slot.held():
            if (entry := slot.read()) and (made := _from_entry(entry)):
                return made
            made = self.built(artifact, wishes)
            if made.data is not None and not made.errors:
                slot.write(made.data, _notes(made))
            return made

    @compiling()
    def built(self, artifact: Artifact, wishes: Wishes) -> Made:
        """Built now; the cache of engines is neither read nor written. Raises ``CnnportError``."""
        if self.package.rtx or not wishes.cache:
            return self._checked(
                artifact, wishes, build(self.package, artifact, wishes, threads=self.threads)
            )
        # Two builds at once would time their kernels on a device that the other one keeps busy.
        slot = Slot(engines_folder(), "timing", dict(self.place), ".timing")
        with slot.held():
            entry = slot.read()
            learnt = entry.data if entry else b""
            outcome = build(self.package, artifact, wishes, learnt=learnt, threads=self.threads)
            if outcome.learnt and outcome.learnt != learnt:
                slot.write(outcome.learnt)
        return self._checked(artifact, wishes, outcome)

    def engine_slot(self, artifact: Artifact, wishes: Wishes) -> Slot:
        """Where the engine of a file is kept: by its hash, the release, the GPU, and what shapes a build."""
        checked = str(int(wishes.check_precision))
        key = {
            **self.place,
            "file": artifact.sha256,
            "inputs": " ".join(map(str, artifact.inputs)),
            "wishes": wishes.engine_key(),
            "checked": checked,
        }
        return Slot(engines_folder(), _stem(artifact), key)

    def kernel_slot(self, artifact: Artifact, data: bytes) -> Slot:
        """Where the kernels that RTX compiles for an engine on this device are kept."""
        key = {**self.place, "engine": hashlib.sha256(data).hexdigest()}
        return Slot(engines_folder(), _stem(artifact), key, ".kernels")

    def _checked(self, artifact: Artifact, wishes: Wishes, outcome: Outcome) -> Made:
        errors, layers, structure = list(outcome.errors), outcome.layers, ""
        warnings = list(outcome.warnings)
        if outcome.model is not None:
            structure = structure_sha256(outcome.model)
            errors += misread(outcome.model)
        if outcome.data is not None and outcome.model is not None:
            if not self.package.rtx:
                hosted = wishes.version_compatible
                with Engine(self.package, outcome.data, str(artifact.path), hosted=hosted) as engine:
                    layers = engine.layers()
            if wishes.check_precision:
                wanted = wanted_types(outcome.model)
                errors += departures(wanted, layers, tf32=wishes.tf32)
                warnings += [told] if (told := unchecked(wanted, layers)) else []
        return Made(outcome.parsed, outcome.data, layers, tuple(errors), tuple(warnings), structure)

    def _refitted(self, artifact: Artifact, source: Artifact) -> Made:
        facts = engine_facts(source)
        assert facts is not None
        hosted = facts.settings.get("version_compatible") == "1"
        with Engine(self.package, source.path.read_bytes(), str(source.path), hosted=hosted) as engine:
            data = refit(engine, artifact.path, facts.facts.get("structure", ""))
            layers = engine.layers() if not self.package.rtx else ()
        model = load_model(artifact.path, external_data=False)
        errors = tuple(misread(model))
        return Made(True, data, layers, errors, structure=structure_sha256(model))


def _check_unchanged(artifact: Artifact) -> None:
    """The engine is found by the file's hash, so the file has to be the one that was hashed."""
    try:
        same = sha256_of(artifact.path) == artifact.sha256
    except OSError as error:
        raise ArtifactError(f"cannot read {artifact.path}: {error.strerror or error}") from error
    if not same:
        raise ArtifactError(f"{artifact.path} has changed since it was read")


def _stem(artifact: Artifact) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in artifact.model)[:60]


def _notes(made: Made) -> dict[str, str]:
    return {
        "layers": json.dumps([asdict(layer) for layer in made.layers]),
        "warnings": json.dumps(made.warnings),
        "structure": made.structure,
    }


def _from_entry(entry: Entry) -> Made | None:
    try:
        layers = tuple(
            Layer(
                row["name"],
                row["kind"],
                tuple(row["nodes"]),
                tuple(row["reads"]),
                tuple(row["writes"]),
                row["kernel"],
            )
            for row in json.loads(entry.notes["layers"])
        )
        warnings = tuple(json.loads(entry.notes["warnings"]))
        return Made(True, entry.data, layers, (), warnings, entry.notes["structure"])
    except (KeyError, TypeError, ValueError):
        return None
