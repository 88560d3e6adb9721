"""Whose a package is: the programs are under cnnport's licence, and the weights under that of who made them."""

from cnnport.artifact import Artifact
from cnnport.metadata import origin_of

_PROGRAMS = (
    "The programs and texts of this package were written by cnnport and are under the Apache License 2.0, whose "
    "text is in LICENSE."
)

_OURS = (
    "The weights were trained for cnnport and are under the Apache License 2.0 as well. They were trained on the "
    'handwritten digits that scikit-learn ships, the test part of "Optical Recognition of Handwritten Digits" by '
    "E. Alpaydin and C. Kaynak (UCI Machine Learning Repository, 1998, CC BY 4.0)."
)


def licence_note(network: Artifact) -> str:
    """Whose the programs and the weights of a package are, as sentences. Raises ``ArtifactError``."""
    return f"{_PROGRAMS}\n\n{_weights(network)}"


def _weights(network: Artifact) -> str:
    origin = origin_of(network)
    if origin is None:
        return (
            "The model was made by others than cnnport: it is under the licence of whoever made it, of which the "
            "file says nothing that cnnport could pass on."
        )
    if origin.weights == "random":
        return "The weights are random numbers from a seed: nobody has rights in them, and they know nothing."
    if origin.weights == "default" and "://" not in origin.weights_origin:
        return _OURS
    if origin.weights == "default":
        return (
            f"The weights were published at {origin.weights_origin}: they are under their publisher's licence, and "
            "so may be what they were trained on."
        )
    if origin.weights == "url":
        return f"The weights come from {origin.weights_origin}: they are under the licence of whoever published them."
    return "The weights are those of whoever made this package: they are under the licence that is given them there."
