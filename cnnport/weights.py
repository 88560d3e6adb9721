"""Where a network's weights come from: its publisher, a seed, a file, an address, or its own constructor."""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module, resources
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from cnnport.checkpoint import State, load_state, read_checkpoint
from cnnport.download import Report, fetch, hash_in_name, public_url
from cnnport.errors import WeightsError, first_line
from cnnport.files import cache_root, has_sha256
from cnnport.libraries import LibrarySpec
from cnnport.random_weights import randomize
from cnnport.registry import ModelSpec, OfficialWeights

# auto must not keep a machine without a network waiting; who asks for an address accepts a slow one.
_AUTO_CONNECT_S = 2.0
_CONNECT_S = 10.0

AnySpec = ModelSpec | LibrarySpec


@dataclass(frozen=True)
class LoadedWeights:
    """What a network was given.

    Attributes:
        kind: ``own`` means the parameters that a user's callable made.
        origin: The address, the file's name without its folder, or the seed.
        sha256: ``state_sha256`` of the network afterwards.
        warning: What the user should know, in one sentence: why random weights were taken, what was not checked.
    """

    kind: Literal["default", "random", "file", "url", "own"]
    origin: str
    sha256: str
    warning: str | None = None


def load_weights(
    module: nn.Module,
    spec: AnySpec | None,
    source: str,
    *,
    seed: int = 0,
    input_shape: tuple[int, int, int],
    report: Report | None = None,
) -> LoadedWeights:
    """Give ``module`` its weights, in place, and leave it in evaluation mode.

    Args:
        module: The network, as its builder made it.
        spec: Its facts, from the zoo or from a library; None for a user's own network.
        source: ``auto`` (official weights where they can be had at once, else random ones with a warning; a user's
            own network keeps its parameters), ``default`` (official weights or an error), ``random``, the path of a
            checkpoint, or its http or https address, which may end in ``#sha256=...``.
        seed: Of random weights. They depend on the network and the seed alone, not on the image size of the export.
        input_shape: Channels, height, width of each input.
        report: Is told bytes so far and in all while a file is fetched.

    Raises:
        WeightsError: If the weights cannot be had, are damaged, or do not fit the network.
        ModelError: If random weights were asked for and the network cannot process such an input.
    """
    if source == "random":
        return _random(module, spec, seed, input_shape, None)
    if source in {"auto", "default"}:
        if spec is None and source == "auto":
            return _loaded(module, "own", "the callable's own")
        return _official_or_random(module, spec, source == "auto", seed, input_shape, report)
    if "://" in source:
        return _from_url(module, spec, source, report)
    path = Path(source)
    if not path.exists():
        raise WeightsError(
            f"there is no weights file {source}: give auto, default, random, a file or an address"
        )
    load_state(module, read_checkpoint(path), source, _renames(spec))
    return _loaded(module, "file", path.name)


def obtain_official(spec: ModelSpec, report: Report | None = None) -> None:
    """Have the official weights at hand: packaged, in the cache, or fetched now if that can be done at once.

    Raises:
        WeightsError: If there are none, or they cannot be had at once.
    """
    if spec.weights is None:
        raise WeightsError(f"{spec.name} has no official weights")
    with _official_file(spec.weights, _AUTO_CONNECT_S, report):
        pass


def state_sha256(module: nn.Module) -> str:
    """SHA-256 over name, dtype, shape and little-endian values of every parameter and buffer, sorted by name.

    It does not depend on the format of the file that they came from, nor on the machine.
    """
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        if not isinstance(value, Tensor):
            continue
        dtype = str(value.dtype).removeprefix("torch.")
        digest.update(json.dumps([name, dtype, list(value.shape)]).encode() + b"\n")
        data = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        if sys.byteorder == "big":
            data = data.reshape(-1, value.element_size())[:, ::-1].copy()
        digest.update(data.data)
    return digest.hexdigest()


def cache_folder() -> Path:
    """The folder of fetched weights: below ``$CNNPORT_CACHE``, or the user's cache folder."""
    return cache_root() / "weights"


def _loaded(
    module: nn.Module,
    kind: Literal["default", "random", "file", "url", "own"],
    origin: str,
    warning: str | None = None,
) -> LoadedWeights:
    module.eval()
    return LoadedWeights(kind, origin, state_sha256(module), warning)


def _random(
    module: nn.Module,
    spec: AnySpec | None,
    seed: int,
    input_shape: tuple[int, int, int],
    warning: str | None,
) -> LoadedWeights:
    # The native size of a known network: the same seed then gives the same weights at every image size.
    shape = input_shape if spec is None else (input_shape[0], *spec.input_shape[1:])
    randomize(module, seed, shape, 1 if spec is None else len(spec.input_names))
    return _loaded(module, "random", f"seed {seed}", warning)


def _official_or_random(
    module: nn.Module,
    spec: AnySpec | None,
    is_auto: bool,
    seed: int,
    input_shape: tuple[int, int, int],
    report: Report | None,
) -> LoadedWeights:
    with ExitStack() as stack:
        try:
            weights = _fitting_weights(module, spec)
            limit_s = _AUTO_CONNECT_S if is_auto else _CONNECT_S
            # A library may have the file already, in a cache of its own.
            local = spec.local if isinstance(spec, LibrarySpec) else None
            path = local or stack.enter_context(_official_file(weights, limit_s, report))
        except WeightsError as error:
            if not is_auto:
                raise
            reason = first_line(error)
            return _random(module, spec, seed, input_shape, f"the weights are random (seed {seed}): {reason}")
        load_state(module, _translated(read_checkpoint(path), spec), weights.filename, _renames(spec))
        return _loaded(module, "default", public_url(weights.location))


def _translated(state: State, spec: AnySpec | None) -> State:
    """A library's published checkpoint, in the names and shapes of its networks today."""
    if not isinstance(spec, LibrarySpec) or spec.translate is None:
        return state
    try:
        with torch.random.fork_rng(devices=[]):
            return spec.translate(state)
    except Exception as error:  # whatever the library raises is told as the checkpoint's fault
        raise WeightsError(f"{spec.name} does not load its own weights: {first_line(error)}") from error


def _fitting_weights(module: nn.Module, spec: AnySpec | None) -> OfficialWeights:
    """The official weights, if there are any and the network still has their shapes. Raises ``WeightsError``."""
    advice = "\nuse --weights random, or a file or address of your own"
    if spec is None:
        raise WeightsError(f"a network of your own has no official weights{advice}")
    if spec.weights is None:
        unread = "" if isinstance(spec, ModelSpec) else " that are tensors in a file"
        raise WeightsError(f"{spec.name} has no official weights{unread}{advice}")
    # Without memory and time for values, except where a builder from outside may need them.
    is_own = isinstance(spec, ModelSpec) and spec.builder is None
    with torch.random.fork_rng(devices=[]), torch.device("meta" if is_own else "cpu"):
        official = spec.build().state_dict()
    own = module.state_dict()
    for name in official | own:
        if name not in own or name not in official or own[name].shape != official[name].shape:
            raise WeightsError(
                f"the official weights of {spec.name} do not fit it as changed: see {name}{advice}"
            )
    return spec.weights


@contextmanager
def _official_file(
    weights: OfficialWeights, connect_timeout_s: float, report: Report | None
) -> Iterator[Path]:
    """Give the path of the official checkpoint, its hash checked: packaged, cached, torchvision's, or fetched."""
    if weights.is_packaged:
        packaged = resources.files("cnnport.data").joinpath("weights", weights.filename)
        if not packaged.is_file():
            raise WeightsError(
                f"{weights.filename} is missing from this installation of cnnport: reinstall it"
            )
        with resources.as_file(packaged) as path:
            if not has_sha256(path, weights.sha256):
                raise WeightsError(
                    f"{weights.filename} in this installation of cnnport is damaged: reinstall it"
                )
            yield path
        return
    # Without a hash in it a name is as common as model.safetensors.
    target = cache_folder() / (weights.filename if weights.sha256 else _name_of(weights.location))
    shared = Path(torch.hub.get_dir()) / "checkpoints" / weights.filename
    for path in (target, shared) if weights.sha256 else (target,):
        if path.is_file() and has_sha256(path, weights.sha256):
            yield path
            return
    yield _fetch_to_cache(weights.location, target, weights.sha256, connect_timeout_s, report)


def _name_of(url: str) -> str:
    """What a file from some address is called in the cache."""
    name = public_url(url).rsplit("/", 1)[-1] or "weights"
    return f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{name[-100:]}"


def _fetch_to_cache(
    url: str, target: Path, sha256: str, connect_timeout_s: float, report: Report | None
) -> Path:
    try:
        return fetch(url, target, sha256=sha256, connect_timeout_s=connect_timeout_s, report=report)
    except WeightsError as error:
        reason = str(error).replace("\n", "; ")
        found = (
            "the file there has another hash: replace it"
            if target.is_file()
            else "it can be put there by hand"
        )
        raise WeightsError(f"{reason}\nit belongs at {target}; {found}") from error


def _from_url(module: nn.Module, spec: AnySpec | None, source: str, report: Report | None) -> LoadedWeights:
    url, _, fragment = source.partition("#")
    name = public_url(url).rsplit("/", 1)[-1] or "weights"
    sha256 = fragment.removeprefix("sha256=") if fragment.startswith("sha256=") else hash_in_name(name)
    target = cache_folder() / _name_of(url)
    warning = None
    if not sha256:
        # What lies in the cache may not be what the address serves today.
        try:
            fetch(url, target, connect_timeout_s=_CONNECT_S, report=report)
        except WeightsError as error:
            if not target.is_file():
                raise
            reason = first_line(error)
            warning = f"the weights are those fetched earlier: {reason}"
    elif not (target.is_file() and has_sha256(target, sha256)):
        _fetch_to_cache(url, target, sha256, _CONNECT_S, report)
    load_state(module, read_checkpoint(target), public_url(url), _renames(spec))
    return _loaded(module, "url", public_url(url), warning)


def _renames(spec: AnySpec | None) -> Callable[[State], State] | None:
    """The family's translation of older checkpoints' names, if it has one."""
    if not isinstance(spec, ModelSpec) or spec.builder is not None:
        return None
    found: Callable[[State], State] | None = getattr(
        import_module(f"cnnport.models.{spec.family}"), "rename_keys", None
    )
    return found
