"""What is done to a network on its way to 8 bits."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cnnport.calibration import PERCENTILE
from cnnport.graphs.quantize import ValueRange


@dataclass(frozen=True)
class Recipe:
    """How one candidate is made.

    Attributes:
        method: By which ranges follow from what was seen; a key of ``calibration.METHODS``.
        percentile: For the method of that name.
        equalized: Whether channels of neighbouring layers are scaled against each other first.
        corrected: Whether biases take up what the rounding of weights does to the mean of the sums.
        rounded: Whether weights are rounded so that sums, not weights, come out near.
        ranges: Of values whose range was chosen by its effect, by name, in place of the method's.
        keep: Names of the nodes that stay in float.
    """

    method: str
    percentile: float = PERCENTILE
    equalized: bool = False
    corrected: bool = False
    rounded: bool = False
    ranges: Mapping[str, ValueRange] = field(default_factory=dict)
    keep: frozenset[str] = frozenset()

    @property
    def steps(self) -> tuple[str, ...]:
        """In words, in the order in which they are done."""
        method = f"percentile {self.percentile:g}" if self.method == "percentile" else self.method
        given = {
            "equalized": self.equalized,
            method: True,
            f"{len(self.ranges)} ranges by effect": bool(self.ranges),
            "bias corrected": self.corrected,
            "rounded by reconstruction": self.rounded,
            f"{len(self.keep)} layers in float": bool(self.keep),
        }
        return tuple(name for name, is_done in given.items() if is_done)

    def __str__(self) -> str:
        """For people."""
        return ", ".join(self.steps)
