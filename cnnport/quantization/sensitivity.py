"""Which layers lose most: each is put into 8 bits by itself, and the network's outputs tell."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from cnnport.quantization.recipe import Recipe


@dataclass(frozen=True)
class Sensitivity:
    """What one layer does to the outputs.

    Attributes:
        node: Its name.
        sqnr_db: Of the network's outputs, where this layer alone is in 8 bits; see ``Judgement``.
    """

    node: str
    sqnr_db: float

    @property
    def noise(self) -> float:
        """Power of the difference over that of the outputs. Of independent layers, these add up."""
        return 10.0 ** (-self.sqnr_db / 10.0) if self.sqnr_db > -math.inf else math.inf


def sensitivities(
    recipe: Recipe,
    layers: tuple[str, ...],
    sqnr_of: Callable[[Recipe], float],
    on_progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> tuple[Sensitivity, ...]:
    """Measure every layer.

    Args:
        recipe: By which it is put into 8 bits.
        layers: Names of the nodes that the recipe puts there.
        sqnr_of: Makes a candidate and measures it, in dB.
        on_progress: Told how many layers are done and how many there are.

    Returns:
        The most sensitive first.
    """
    found = []
    for done, layer in enumerate(layers):
        others = frozenset(layers) - {layer}
        found.append(Sensitivity(layer, sqnr_of(replace(recipe, keep=recipe.keep | others))))
        on_progress(done + 1, len(layers))
    return tuple(sorted(found, key=lambda each: (each.sqnr_db, each.node)))
