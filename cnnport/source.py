"""From what a user calls a network to something that can be built: a zoo name, a library's, or a callable."""

import copy
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnport import libraries, registry
from cnnport.errors import CnnportError, ModelError, first_line
from cnnport.libraries import LibrarySpec
from cnnport.preprocess import Preprocess
from cnnport.registry import ModelSpec

if TYPE_CHECKING:
    from torch import nn

# What a network that states nothing is taken to want; --in-channels and --image-size say otherwise.
_DEFAULT_INPUT = (3, 224, 224)


@dataclass(frozen=True)
class Source:
    """A network that can be built.

    Attributes:
        name: The zoo name, or the library's or the callable as it was written.
        spec: The facts, for a network of the zoo or of a library.
        build: Takes ``num_classes`` and ``in_channels``, each a number or None.
        input_shape: Channels, height, width of its native input.
        preprocess: From a picture to the input, where known.
        labels: Class names by index, where known.
        output_name: What the output is called in the graph, where it is the only one.
        input_names: What the inputs are called, in the order of the network's arguments; all have the same shape.
        any_size: Whether it takes images of other sizes as well.
    """

    name: str
    spec: ModelSpec | LibrarySpec | None
    build: "Callable[[int | None, int | None], nn.Module]"
    input_shape: tuple[int, int, int]
    preprocess: Preprocess | None
    labels: tuple[str, ...] | None
    output_name: str
    input_names: tuple[str, ...] = ("input",)
    any_size: bool = False


def find_source(model: "str | nn.Module | Callable[..., nn.Module]") -> Source:
    """Look up ``model``.

    Args:
        model: A zoo name or alias, ``timm:NAME``, ``torchvision:NAME``, ``package.module:callable``,
            ``path/to/file.py:callable``, such a callable itself, or a network that it made, of which a copy is taken.

    Raises:
        UnknownNameError: If it is no name of the zoo, or of the library.
        ModelError: If the callable cannot be found, or the library is not installed.
    """
    if not isinstance(model, str):
        return _from_object(model)
    if found := libraries.split(model):
        return _from_library(*found)
    if ":" in model:
        return _from_callable(model)
    if model.endswith(".onnx"):
        raise ModelError(f"{model} is an ONNX file: a network to export is a zoo name or module:callable")
    spec = registry.get(model)
    return Source(
        name=spec.name,
        spec=spec,
        build=lambda classes, channels: spec.build(num_classes=classes, in_channels=channels),
        input_shape=spec.input_shape,
        preprocess=spec.preprocess,
        labels=registry.labels(spec.labels) if spec.labels else None,
        output_name=spec.output_name,
        input_names=spec.input_names,
        any_size=spec.any_size,
    )


def described(
    source: Source, *, labels: Sequence[str] | None = None, pictures: Preprocess | None = None
) -> Source:
    """The same network, with what else its file is to state.

    Args:
        source: A network.
        labels: Names of its classes by index; None for those that it has.
        pictures: How a picture becomes its input; None for what is known. Its size is the native input, for a network
            that does not state one.

    Raises:
        ModelError: If the size is not that of a network whose input is known.
    """
    if labels is not None:
        source = replace(source, labels=tuple(labels))
    if pictures is None:
        return source
    shape = (pictures.channels, *pictures.size)
    if source.spec is not None and not source.any_size and shape != source.input_shape:
        wanted, given = ("x".join(map(str, sizes)) for sizes in (source.input_shape, shape))
        raise ModelError(
            f"{source.name} takes {wanted} (channels, height, width), and pictures are to be {given}"
        )
    return replace(source, preprocess=pictures, input_shape=shape)


def _from_library(library: str, name: str) -> Source:
    spec = libraries.find(library, name)
    return Source(
        name=spec.name,
        spec=spec,
        build=lambda classes, channels: spec.build(num_classes=classes, in_channels=channels),
        input_shape=spec.input_shape,
        preprocess=spec.preprocess,
        labels=spec.labels,
        output_name="output" if spec.labels is None else "logits",
        input_names=spec.input_names,
    )


def _from_callable(model: str) -> Source:
    place, _, attribute = model.rpartition(":")
    module = _load_file(Path(place)) if place.endswith(".py") else _import(place)
    target: Any = module
    for part in attribute.split("."):
        target = getattr(target, part, None)
    if not callable(target):
        raise ModelError(f"{place} has no callable {attribute!r}")

    # A path names a machine, not a network: the file's metadata gets the last part of it.
    name = f"{Path(place).name}:{attribute}" if place.endswith(".py") else model
    return _of_callable(name, target, called=model)


def _from_object(model: Any) -> Source:
    """A network, or what makes one. Raises ``ModelError``."""
    from torch import nn

    if isinstance(model, nn.Module):
        return Source(_name_of(type(model)), None, _copies(model), _DEFAULT_INPUT, None, None, "output")
    if not callable(model):
        raise ModelError(f"a network is a name, a torch.nn.Module or a callable, not {type(model).__name__}")
    name = _name_of(model if hasattr(model, "__name__") else type(model))
    return _of_callable(name, model, called=name)


def _name_of(target: Any) -> str:
    """With its module, as on the command line, so that it is never taken for a network of the zoo."""
    return f"{target.__module__}:{target.__name__}"


def _copies(module: "nn.Module") -> "Callable[[int | None, int | None], nn.Module]":
    def build(classes: int | None, channels: int | None) -> "nn.Module":
        # Channels say what the input is, as with a callable that does not take them.
        if classes is not None:
            raise ModelError(
                f"{type(module).__name__} is built already: the number of classes is its own; give what makes it"
            )
        if channels is not None and channels < 1:
            raise ModelError("the number of input channels is at least 1")
        return copy.deepcopy(module)

    return build


def _of_callable(name: str, target: Callable[..., Any], *, called: str) -> Source:
    def build(classes: int | None, channels: int | None) -> "nn.Module":
        from torch import nn

        wanted = {"num_classes": classes, "in_channels": channels}
        given = {key: value for key, value in wanted.items() if value is not None}
        if any(value < 1 for value in given.values()):
            raise ModelError(f"{called}: the number of classes and of input channels is at least 1")
        if not _takes(target, "in_channels"):
            # It then says what the input is, as the size does, and the network has to cope with it.
            given.pop("in_channels", None)
        try:
            inspect.signature(target).bind(**given)
        except TypeError as error:
            raise ModelError(f"{called} cannot be called with {given or 'no arguments'}: {error}") from error
        try:
            built = target(**given)
        except CnnportError:
            raise
        except Exception as error:  # whatever a user's code raises is told as the network's fault
            raise ModelError(f"{called} failed with {type(error).__name__}: {first_line(error)}") from error
        if not isinstance(built, nn.Module):
            raise ModelError(f"{called} returned {type(built).__name__}, not a torch.nn.Module")
        return built

    return Source(name, None, build, _DEFAULT_INPUT, None, None, "output")


def _takes(target: Callable[..., Any], argument: str) -> bool:
    try:
        known = inspect.signature(target).parameters
    except (TypeError, ValueError):  # builtins may have none
        return False
    return argument in known or any(one.kind is inspect.Parameter.VAR_KEYWORD for one in known.values())


def _import(name: str) -> Any:
    # As `python -m` does: what lies in the current folder can be named.
    sys.path.insert(0, "")
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise ModelError(f"cannot import {name}: {first_line(error)}") from error
    finally:
        sys.path.remove("")


def _load_file(path: Path) -> Any:
    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and torch.export look a class's module up by name.
    sys.modules[path.stem] = module
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ModelError(f"{path} does not import: {first_line(error)}") from error
    finally:
        sys.path.remove(str(path.parent))
    return module
