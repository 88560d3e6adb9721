"""Read a checkpoint file without running anything in it, and load it into a network or say what does not fit."""

import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor, nn

from cnnport.errors import WeightsError, first_line

# Training scripts keep the weights beside the optimizer, wrappers put their own name before every key.
_WRAPPING_KEYS = ("state_dict", "model", "model_state_dict")
_WRAPPING_PREFIXES = ("module.", "_orig_mod.")
_COUNTER = "num_batches_tracked"
_NAMES_SHOWN = 3

State = dict[str, Tensor]


def read_checkpoint(path: Path) -> State:
    """Read the tensors of a .safetensors file or of anything that ``torch.save`` wrote, by content, on the CPU.

    Raises:
        WeightsError: If the file cannot be read, is damaged, holds no state dict, or could only be read by running
            code that it names.
    """
    try:
        with path.open("rb") as file:
            start = file.read(512)
        if len(start) > 8 and start[8:9] == b"{":
            return _unwrap(path, _read_safetensors(path))
        if start.startswith((b"PK\x03\x04", b"\x80")):
            return _unwrap(path, _read_torch(path, is_zip=start.startswith(b"PK")))
    except FileNotFoundError as error:
        raise WeightsError(f"there is no weights file {path}") from error
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from error
    raise WeightsError(f"{path} is no checkpoint: {_what_it_is(start)}")


def load_state(
    module: nn.Module, state: Mapping[str, object], shown: str, rename: Callable[[State], State] | None = None
) -> None:
    """Copy a state dict into ``module``, all of it or nothing.

    Wrappers' prefixes are removed, floating-point types converted to the module's, and the weights of a linear layer
    reshaped where the module has the convolution that computes the same. Missing counters of batches, which no output
    depends on, are set to 0, superfluous ones ignored.

    Args:
        module: The network.
        state: Its parameters and buffers by name.
        shown: What to call the state's origin in messages.
        rename: From the names of older checkpoints to the module's.

    Raises:
        WeightsError: If names, shapes or types differ, or a value is not finite.
    """
    expected = {name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)}
    given = _strip_prefixes(
        {name: value for name, value in state.items() if isinstance(value, Tensor)}, expected
    )
    if rename is not None:
        given = rename(given)
    given = {name: _as_kernels(value, expected.get(name)) for name, value in given.items()}
    given = {name: value for name, value in given.items() if name in expected or not name.endswith(_COUNTER)}
    missing = [name for name in expected if name not in given and not name.endswith(_COUNTER)]
    unexpected = [name for name in given if name not in expected]
    wrong = [
        f"{name} ({_describe(given[name])} instead of {_describe(value)})"
        for name, value in expected.items()
        if name in given and not _fits(given[name], value)
    ]
    if missing or unexpected or wrong:
        kinds = {"missing": missing, "unexpected": unexpected, "of another shape or type": wrong}
        found = [(kind, names) for kind, names in kinds.items() if names]
        counts = ", ".join(f"{len(names)} {kind}" for kind, names in found)
        named = "; ".join(f"{kind}: {_some(names)}" for kind, names in found)
        raise WeightsError(f"{shown} does not fit the network: of {len(expected)} tensors {counts}\n{named}")
    loaded = {
        name: given[name].to(value.dtype) if name in given else torch.zeros_like(value)
        for name, value in expected.items()
    }
    for name, value in loaded.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise WeightsError(f"{shown}: {name} holds values that are infinite or not numbers")
    with torch.no_grad():
        for name, value in expected.items():
            value.copy_(loaded[name])


def _read_safetensors(path: Path) -> State:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state: State = load_file(path)
    except SafetensorError as error:
        raise WeightsError(f"{path} is damaged or incomplete: {first_line(error)}") from error
    return state


def _read_torch(path: Path, *, is_zip: bool) -> object:
    try:
        if is_zip:
            _check_archive(path)
        with warnings.catch_warnings():
            # About pickle protocols and deprecated storage classes; nothing that a user of the file could act on.
            warnings.simplefilter("ignore")
            # An open file, as torch would go by the ending of a name.
            with path.open("rb") as file:
                return torch.load(file, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        # torch advises to switch the protection off, on many lines. What is of use is the name of the object.
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused is None:
            raise WeightsError(f"{path} is damaged, or was not written by torch.save") from error
        raise WeightsError(
            f"{path} holds more than tensors ({refused[1]}), and reading that could run any code\n"
            "save the tensors alone: torch.save(model.state_dict(), ...) or a .safetensors file"
        ) from error
    except (WeightsError, OSError):
        raise
    except Exception as error:  # damaged pickles and archives raise nearly everything
        raise WeightsError(f"{path} is damaged or incomplete: {first_line(error)}") from error


def _check_archive(path: Path) -> None:
    # torch itself does not look at the checksums of the archive's records.
    with zipfile.ZipFile(path) as archive:
        if any(name.endswith("/constants.pkl") for name in archive.namelist()):
            raise WeightsError(
                f"{path} is a TorchScript program, not a checkpoint: save its state_dict() instead"
            )
        if (damaged := archive.testzip()) is not None:
            raise WeightsError(f"{path} is damaged: the checksum of its record {damaged} is wrong")


def _unwrap(path: Path, content: object) -> State:
    while isinstance(content, Mapping) and not any(isinstance(value, Tensor) for value in content.values()):
        inner = [content[key] for key in _WRAPPING_KEYS if isinstance(content.get(key), Mapping)]
        if not inner:
            break
        content = inner[0]
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path} holds no state dict but a {type(content).__name__}")
    state = {
        name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)
    }
    if not state:
        raise WeightsError(
            f"{path} holds no tensors by name; its keys are {_some([*map(str, content)]) or 'none'}"
        )
    return state


def _strip_prefixes(state: State, expected: Mapping[str, Tensor]) -> State:
    for _ in range(len(_WRAPPING_PREFIXES)):
        for prefix in _WRAPPING_PREFIXES:
            own = any(name.startswith(prefix) for name in expected)
            if state and not own and all(name.startswith(prefix) for name in state):
                state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _as_kernels(given: Tensor, expected: Tensor | None) -> Tensor:
    """Rows of a linear layer as the kernels of a convolution over all of C x k x k: the same numbers in order."""
    if expected is None or (given.dim(), expected.dim()) != (2, 4):
        return given
    is_same = given.layout == torch.strided and given.shape == (len(expected), expected[0].numel())
    return given.reshape(expected.shape) if is_same else given


def _fits(given: Tensor, expected: Tensor) -> bool:
    if given.shape != expected.shape or given.layout != torch.strided:
        return False
    if given.is_quantized or given.is_meta:
        return False
    return given.dtype == expected.dtype or (given.is_floating_point() and expected.is_floating_point())


def _describe(value: Tensor) -> str:
    shape = "x".join(str(size) for size in value.shape) or "one number"
    return shape if value.is_floating_point() else f"{shape}, {str(value.dtype).removeprefix('torch.')}"


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _NAMES_SHOWN} more" if len(listed) > _NAMES_SHOWN else ""
    return ", ".join(listed[:_NAMES_SHOWN]) + more


def _what_it_is(start: bytes) -> str:
    text = start.lstrip().lower()
    if not start:
        return "it is empty"
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page, such as a server sends instead of a file that it does not have"
    if text.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer: fetch the file itself with git lfs pull"
    return "neither safetensors nor written by torch.save"
