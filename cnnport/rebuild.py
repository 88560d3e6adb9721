"""From an exported file back to its PyTorch module, for comparisons with the original."""

from typing import TYPE_CHECKING

from cnnport import registry
from cnnport.artifact import Artifact
from cnnport.errors import ArtifactError, UnknownNameError, WeightsError
from cnnport.metadata import origin_of
from cnnport.weights import load_weights

if TYPE_CHECKING:
    from torch import nn


def module_of(artifact: Artifact) -> "nn.Module":
    """Build the network that a file was exported from, in the same form and with the same weights, for evaluation.

    Only what the file may be trusted with is done: networks of the zoo, with official or seeded weights. A file
    cannot make cnnport import a module, open a path or fetch from an address that it names.

    Raises:
        ArtifactError: If the file states no such origin, or the weights are not the same today.
    """
    origin = origin_of(artifact)
    if origin is None:
        raise ArtifactError(f"{artifact.path} was not exported by cnnport: its PyTorch module is not known")
    try:
        spec = registry.get(origin.model)
    except UnknownNameError as error:
        raise ArtifactError(f"{artifact.path}: {origin.model} is not a network of the zoo") from error
    if origin.weights not in {"default", "random"}:
        raise ArtifactError(
            f"{artifact.path}: its weights came from a {origin.weights} ({origin.weights_origin}), "
            "which cannot be loaded again from here"
        )
    module = spec.build(num_classes=origin.num_classes, in_channels=origin.in_channels)
    shape = (origin.in_channels or spec.input_shape[0], *spec.input_shape[1:])
    try:
        loaded = load_weights(module, spec, origin.weights, seed=origin.seed, input_shape=shape)
    except WeightsError as error:
        raise ArtifactError(f"{artifact.path}: its weights cannot be loaded again: {error}") from error
    if loaded.sha256 != origin.weights_sha256:
        raise ArtifactError(
            f"{artifact.path}: {spec.name} has other {origin.weights} weights today than in the file"
        )
    module.eval()
    if not origin.dense:
        return module
    from cnnport.dense import dense_form

    return dense_form(module, shape, output_name=spec.output_name)
