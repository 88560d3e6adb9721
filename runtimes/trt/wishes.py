"""What a user asks of a build and of a session: the settings, read once and checked."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cnnport.artifact import Artifact, TensorSpec
from cnnport.errors import CnnportError
from cnnport.metadata import at_native_size
from cnnport.runtimes.build import for_batch
from cnnport.runtimes.engine_file import is_engine
from cnnport.runtimes.protocol import Options
from cnnport.runtimes.settings import Setting, settle

_HARDWARE = ("none", "ampere_plus", "same_compute_capability")
_SPECIALIZE = ("eager", "lazy", "none")

OF_A_SESSION = frozenset({"cache", "cuda_graph", "specialize"})
"""The settings that can be chosen anew for an engine that was built; all others are in it."""

_BATCH = "batch sizes of a dynamic engine, as N or MIN:OPT:MAX, several by commas"

_SHARED = (
    Setting("sizes", "", "other dynamic sizes by name, height=160:224:320,width=224; the file's native ones"),
    Setting("workspace_mb", "", "device memory that the build may plan with, in MiB", ("N",)),
    Setting("tf32", "0", "whether float32 may be computed with ten bits of fraction", ("0", "1")),
    Setting(
        "check_precision", "1", "refuse an engine that computes in another type than the file", ("0", "1")
    ),
    Setting("cache", "1", "keep engines and what their builds learnt for the next time", ("0", "1")),
    Setting("cuda_graph", "0", "replay one recorded run", ("0", "1")),
    Setting("refit", "0", "build an engine whose weights can be replaced", ("0", "1")),
    Setting("refit_from", "", "take this engine and replace its weights by the file's, instead of building"),
)
TRT_SETTINGS = (
    Setting("batch", "1,1:8:32", _BATCH),
    *_SHARED,
    Setting("optimization_level", "", "how long the build searches, from 0 to 5", tuple("012345")),
    Setting("version_compatible", "0", "build an engine for later TensorRT of the same major", ("0", "1")),
    Setting("hardware", "none", "other GPUs that the engine is to run on", _HARDWARE),
)
RTX_SETTINGS = (
    # One range is enough: RTX compiles for the very shapes on the device.
    Setting("batch", "1:8:32", _BATCH),
    *_SHARED,
    Setting(
        "compute_capability", "", "GPUs that the engine is for, such as 8.9 or 8.6,12.0; all from 8.0 on"
    ),
    Setting("specialize", "eager", "when kernels are compiled for the very shapes of a run", _SPECIALIZE),
)


@dataclass(frozen=True)
class Range:
    """The sizes of one dynamic dimension: smallest, the one that is tuned for, largest."""

    least: int
    best: int
    most: int

    def __contains__(self, size: int) -> bool:
        return self.least <= size <= self.most


@dataclass(frozen=True)
class Wishes:
    """Settings as the adapter needs them.

    Attributes:
        batches: One optimisation profile for each.
        sizes: Of other dynamic dimensions, by name.
        workspace_bytes: None leaves it to TensorRT.
        level: Of optimisation, 0 to 5; None leaves it to TensorRT.
        tf32: Whether float32 may be computed in TF32.
        check_precision: Whether an engine that departs from the file's types is an error.
        cache: Whether engines are kept.
        cuda_graph: Whether runs are recorded and replayed.
        refit: Whether the engine's weights can be replaced.
        version_compatible: Whether later releases of the same major run the engine.
        hardware: Which other GPUs run it.
        computes: Compute capabilities, as ``8.9``, that RTX builds for; empty for its own choice.
        specialize: When RTX compiles for the shapes of a run.
    """

    batches: tuple[Range, ...]
    sizes: Mapping[str, Range]
    workspace_bytes: int | None
    level: int | None
    tf32: bool
    check_precision: bool
    cache: bool
    cuda_graph: bool
    refit: bool
    version_compatible: bool
    hardware: str
    computes: tuple[str, ...]
    specialize: str

    def settled(self, artifact: Artifact) -> Artifact:
        """The file with those sizes fixed of which an engine is to take one alone."""
        first = self.batches[0]
        batch = first.least if len(self.batches) == 1 and first.least == first.most else None
        sizes = {name: each.least for name, each in self.sizes.items() if each.least == each.most}
        return for_batch(artifact, batch).with_sizes(sizes)

    def engine_key(self) -> str:
        """The part that decides what engine comes of a file, as text."""
        shaping = {
            "batches": [[each.least, each.best, each.most] for each in self.batches],
            "sizes": {name: [each.least, each.best, each.most] for name, each in self.sizes.items()},
            "workspace": self.workspace_bytes,
            "level": self.level,
            "tf32": self.tf32,
            "refit": self.refit,
            "version_compatible": self.version_compatible,
            "hardware": self.hardware,
            "computes": self.computes,
        }
        return json.dumps(shaping, sort_keys=True)

    def shapes(self, spec: TensorSpec, batch: Range) -> tuple[list[int], list[int], list[int]]:
        """Smallest, best and largest shape of an input in the profile of a range of batches.

        Raises:
            CnnportError: If a dynamic size is stated nowhere.
        """
        ranges = [self._range(spec, axis, batch) for axis in range(len(spec.shape))]
        return [each.least for each in ranges], [each.best for each in ranges], [each.most for each in ranges]

    def _range(self, spec: TensorSpec, axis: int, batch: Range) -> Range:
        size = spec.shape[axis]
        if isinstance(size, int):
            return Range(size, size, size)
        if axis == 0:
            return batch
        if size not in self.sizes:
            raise CnnportError(f"{size} of {spec} is left open: give it as --set sizes={size}=MIN:OPT:MAX")
        return self.sizes[size]


def read_wishes(runtime: str, declared: Sequence[Setting], artifact: Artifact, options: Options) -> Wishes:
    """Check what was asked for; dynamic sizes that nothing is said of are the native ones that the file states.

    Raises:
        CnnportError: If a setting is unknown or has a value that it does not take.
    """
    given = settle(runtime, declared, options.settings)
    names = {setting.name for setting in declared}

    def text(name: str, absent: str) -> str:
        return given.text(name) if name in names else absent

    sizes = _sizes(given.text("sizes"))
    native = at_native_size(artifact)
    for own, settled in zip(artifact.inputs, native.inputs, strict=True):
        for name, size in zip(own.shape[1:], settled.shape[1:], strict=True):
            if isinstance(name, str) and isinstance(size, int):
                sizes.setdefault(name, Range(size, size, size))
    level = text("optimization_level", "")
    wishes = Wishes(
        batches=_batches(given.text("batch")),
        sizes=sizes,
        workspace_bytes=None if (mib := given.number("workspace_mb")) is None else mib * 2**20,
        # Fusion cannot be switched off; the lowest level searches for the fewest.
        level=int(level) if level else None if options.optimize else 0,
        tf32=given.flag("tf32"),
        check_precision=given.flag("check_precision"),
        cache=given.flag("cache"),
        cuda_graph=given.flag("cuda_graph"),
        refit=given.flag("refit"),
        version_compatible=text("version_compatible", "0") == "1",
        hardware=text("hardware", "none"),
        computes=_computes(text("compute_capability", "")),
        specialize=text("specialize", ""),
    )
    _check_deterministic(runtime, wishes, artifact, options)
    return wishes


def _check_deterministic(runtime: str, wishes: Wishes, artifact: Artifact, options: Options) -> None:
    if not options.deterministic:
        return
    if wishes.specialize == "lazy":
        raise CnnportError(f"{runtime} changes its kernels between runs with specialize=lazy: take eager")
    if not wishes.cache and not is_engine(artifact.path):
        raise CnnportError(
            f"two builds of {runtime} may choose different kernels: leave the cache on, or run an engine file"
        )


def _batches(text: str) -> tuple[Range, ...]:
    return tuple(_range("batch", part) for part in text.split(","))


def _sizes(text: str) -> dict[str, Range]:
    found = {}
    for part in filter(None, text.split(",")):
        name, sign, value = part.partition("=")
        if not sign or not name:
            raise CnnportError(f"setting sizes takes NAME=MIN:OPT:MAX, several by commas, not {part!r}")
        found[name] = _range("sizes", value)
    return found


def _range(setting: str, text: str) -> Range:
    numbers = [int(part) for part in text.split(":") if part.isdecimal() and len(part) < 8]
    if len(numbers) not in {1, 3} or len(numbers) != text.count(":") + 1:
        raise CnnportError(f"setting {setting} takes N or MIN:OPT:MAX, several by commas, not {text!r}")
    least, best, most = numbers * (4 - len(numbers)) if len(numbers) == 1 else numbers
    if not 1 <= least <= best <= most:
        raise CnnportError(f"setting {setting} wants 1 <= MIN <= OPT <= MAX, not {text!r}")
    return Range(least, best, most)


def _computes(text: str) -> tuple[str, ...]:
    parts = tuple(filter(None, text.split(",")))
    if wrong := [part for part in parts if not re.fullmatch(r"\d{1,2}\.\d", part)]:
        raise CnnportError(f"setting compute_capability takes 8.9 or 8.6,12.0, not {wrong[0]!r}")
    return parts
