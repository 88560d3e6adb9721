"""A network of some source, with its weights, ready to be captured; and what a file of it is to compute."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnnport.errors import ModelError
from cnnport.metadata import Origin
from cnnport.source import Source, find_source
from cnnport.weights import LoadedWeights, load_weights

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from cnnport.reference import Reference

DEFAULT_OPSET = 20
"""Of a file, unless asked otherwise."""

# One alone, an odd number and a power of two: a batch that was fixed or mixed up on the way shows.
BATCHES = (1, 3, 8)
"""Batch sizes at which a file of a dynamic batch is verified."""

_SEEDS = (0, 1)


@dataclass(frozen=True)
class Prepared:
    """A network ready to be captured.

    Attributes:
        module: The network, or its fully convolutional form.
        original: The network, where ``module`` is another form of it.
        native_shape: Channels, height, width that ``original`` takes.
        input_shape: Those that the file is verified at first; its only ones unless ``any_size``.
        any_size: Whether the file leaves height and width open.
    """

    source: Source
    module: "nn.Module"
    original: "nn.Module | None"
    weights: LoadedWeights
    origin: Origin
    native_shape: tuple[int, int, int]
    input_shape: tuple[int, int, int]
    any_size: bool


def prepare(
    source: Source,
    weights: str,
    seed: int,
    image_size: tuple[int, int] | None,
    num_classes: int | None,
    in_channels: int | None,
    dense: bool,
    on_download: Callable[[int, int | None], None] | None,
) -> Prepared:
    """Build and fill a network. Arguments and errors as of ``export``."""
    if dense and source.any_size:
        raise ModelError(f"{source.name} takes images of any size as it is: export it without --dense")
    module = source.build(num_classes, in_channels)
    channels, *size = source.input_shape
    # What states nothing is told by --image-size what it was made for.
    is_told = dense and source.spec is None and image_size is not None
    native = (in_channels or channels, *(image_size if is_told and image_size else (size[0], size[1])))
    shape = (native[0], *(image_size or native[1:]))
    loaded = load_weights(
        module, source.spec, weights, seed=seed, input_shape=native if dense else shape, report=on_download
    )
    module.requires_grad_(False).eval()
    original = None
    if dense:
        from cnnport.dense import dense_form

        original, module = module, dense_form(module, native, output_name=source.output_name)
    origin = Origin(
        source.name, loaded.kind, loaded.origin, loaded.sha256, seed, num_classes, in_channels, dense
    )
    any_size = (dense or source.any_size) and (image_size is None or is_told)
    return Prepared(source, module, original, loaded, origin, native, shape, any_size)


def reference_of(prepared: Prepared, batches: tuple[int, ...]) -> "Reference":
    """What the file is to compute."""
    from cnnport.reference import Reference

    return Reference(
        prepared.module,
        prepared.input_shape,
        input_names=prepared.source.input_names,
        output_name=prepared.source.output_name,
        batches=batches,
        seeds=_SEEDS,
        any_size=prepared.any_size,
    )


def original_of(prepared: Prepared, batches: tuple[int, ...]) -> "Reference | None":
    """What another form of a network is to compute at its native size; None where there is no other form."""
    from cnnport.reference import Reference

    if prepared.original is None:
        return None
    return Reference(
        prepared.original,
        prepared.native_shape,
        input_names=prepared.source.input_names,
        output_name=prepared.source.output_name,
        batches=batches,
        seeds=_SEEDS[:1],
    )


def captured(
    prepared: Prepared, reference: "Reference", opset: int, batch: int | None, *, as_it_is: bool = False
) -> "onnx.ModelProto":
    """What torch.onnx makes of it. Arguments and errors as of ``export`` and ``capture.capture``."""
    import torch

    from cnnport import capture

    return capture.capture(
        prepared.module,
        {name: torch.from_numpy(values) for name, values in reference.example().items()},
        output_names=list(reference.outputs[0]),
        opset=min(max(opset, capture.OLDEST_OPSET), capture.NEWEST_OPSET),
        dynamic_batch=batch is None,
        any_size=prepared.any_size,
        as_it_is=as_it_is,
    )


def torch_graph(
    model: str, *, weights: str = "auto", seed: int = 0, opset: int = DEFAULT_OPSET
) -> "onnx.ModelProto":
    """The graph that ``export`` begins with: what torch.onnx makes of a network, as it is.

    Args:
        model: As of ``export``.
        weights: As of ``export``.
        seed: As of ``export``.
        opset: Version of the default operator set; what torch.onnx does not write becomes the nearest that it does.

    Raises:
        CnnportError: On wrong usage or input; each subclass says what.
    """
    prepared = prepare(find_source(model), weights, seed, None, None, None, dense=False, on_download=None)
    reference = reference_of(prepared, BATCHES[1:2])
    return captured(prepared, reference, opset, batch=None, as_it_is=True)
