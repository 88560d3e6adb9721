"""What a model in halves is, how it was found right, and what its file says of that."""

from collections.abc import Mapping
from dataclasses import dataclass

from cnnport.difference import Difference
from cnnport.errors import CnnportError
from cnnport.graphs.half import FORMATS, Conversion, HalfFormat
from cnnport.metadata import to_json


@dataclass(frozen=True)
class Halved:
    """What a model in halves is, and how it was found right.

    Attributes:
        half: The format.
        half_io: Whether its inputs and outputs are halves.
        conversion: What became of the nodes.
        difference: From the float32 model, over all inputs, computed as a runtime does that holds halves.
        weights_error: What rounding the weights alone does, in standard deviations of the output.
        tolerance: What was allowed, likewise.
        spreads: Standard deviation of each output in float32, on the first input.
        count: How many inputs were run.
        measured: How many nodes stay in float32 because of their measured effect.
        note: Set where ONNX Runtime on the CPU does not run the file.
    """

    half: HalfFormat
    half_io: bool
    conversion: Conversion
    difference: Difference
    weights_error: float
    tolerance: float
    spreads: Mapping[str, float]
    count: int
    measured: int
    note: str = ""

    @property
    def kept(self) -> dict[str, int]:
        """How many nodes have to stay in float32, by the kind of reason."""
        counts: dict[str, int] = {}
        for reason in self.conversion.kept.values():
            kind = reason.partition(":")[0]
            counts[kind] = counts.get(kind, 0) + 1
        return counts

    def __str__(self) -> str:
        """One line for people."""
        done = self.conversion
        stays = "; ".join(f"{count} {kind}" for kind, count in self.kept.items())
        if done.spared:
            stays = (
                f"{stays}; {len(done.spared)} sparing casts" if stays else f"{len(done.spared)} sparing casts"
            )
        return f"{done.half} nodes in {self.half.name}, {done.casts} casts, in float32: {stays or 'nothing'}"


def metadata_of(halved: Halved) -> dict[str, str]:
    """What a file in halves says of itself."""
    done = halved.conversion
    facts: dict[str, int | float | str] = {
        "half": done.half,
        "casts": done.casts,
        "float32": len(done.kept) + len(done.spared),
        "spared": len(done.spared),
        "error_in_std": float(f"{halved.difference.error:.2g}"),
        "tolerance_in_std": float(f"{halved.tolerance:.2g}"),
    }
    if halved.kept:
        facts["because"] = "; ".join(f"{count} {kind}" for kind, count in halved.kept.items())
    return {
        "cnnport.precision": halved.half.name,
        "cnnport.io_dtype": halved.half.name if halved.half_io else "fp32",
        "cnnport.half": to_json(facts),
    }


def format_of(precision: str, io_dtype: str = "fp32") -> HalfFormat | None:
    """What ``--precision`` and ``--io-dtype`` mean together; None for float32.

    Raises:
        CnnportError: If one of them is unknown, or they do not go together.
    """
    if precision not in {"fp32", *FORMATS}:
        raise CnnportError(f"no precision is called {precision!r}: it is fp32, {', '.join(FORMATS)}")
    if io_dtype not in {"fp32", "fp16"}:
        raise CnnportError(f"inputs and outputs are fp32 or fp16, not {io_dtype!r}")
    if io_dtype == "fp16" and precision != "fp16":
        raise CnnportError(f"--io-dtype fp16 goes with --precision fp16, not {precision}")
    return FORMATS.get(precision)
