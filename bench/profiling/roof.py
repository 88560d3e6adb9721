"""Layers held against the machine: arithmetic at its peak, or memory at its bandwidth, whichever takes longer."""

from collections.abc import Mapping
from dataclasses import dataclass

from cnnport.measuring.fields import Json

LEAST_MS = 1e-3
"""Shorter times are not judged: runtimes count whole microseconds."""

LEAST_SHARE = 0.1
"""Of the time that arithmetic or memory have to explain; below it, something else takes the time."""


@dataclass(frozen=True)
class Roof:
    """What a machine can do at most.

    Attributes:
        peak_flops: FLOP/s by precision.
        bandwidth_bytes_s: From and to memory.
    """

    peak_flops: Mapping[str, float]
    bandwidth_bytes_s: float

    @classmethod
    def of(cls, machine: Json | None) -> "Roof | None":
        """Of the machine in a record; None where nothing is known of it."""
        if machine is None or not machine.get("bandwidth_bytes_s") or not machine.get("peak_flops"):
            return None
        return cls(machine["peak_flops"], machine["bandwidth_bytes_s"])

    def peak(self, precision: str) -> float:
        """FLOP/s in a precision; in one that was not measured, those of float32."""
        return self.peak_flops.get(precision) or self.peak_flops.get("fp32", 0.0)

    def judge(
        self, flops: int | None, moved_bytes: int | None, precision: str, ms: float
    ) -> tuple[str | None, float | None]:
        """What bounds a layer, and how much of its time that explains: as ``ProfiledLayer`` has them.

        Args:
            flops: Operations.
            moved_bytes: That cross its border.
            precision: Of its arithmetic.
            ms: That it takes.
        """
        peak = self.peak(precision)
        if ms < LEAST_MS or moved_bytes is None or (flops and not peak):
            return None, None
        computing_ms = flops / peak * 1e3 if flops else 0.0
        moving_ms = moved_bytes / self.bandwidth_bytes_s * 1e3
        share = max(computing_ms, moving_ms) / ms
        if share < LEAST_SHARE:
            return "overhead", share
        return ("compute" if computing_ms >= moving_ms else "memory"), share
