"""What is worth trying on which runtime: a table, and the candidates that follow from it.

Passes of one target may pay on another runtime, so CPU runtimes get the graphs of each other. What cannot win is not
tried: halves on ONNX Runtime's CPU kernels, which compute them in float32 between conversions, and 8 bits as another
runtime wants them placed where its own have been measured to be faster on every network of the zoo.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cnnport.errors import CnnportError
from cnnport.measuring.cpus import default_threads
from cnnport.measuring.tuning.candidate import PRECISIONS, Candidate, Variant


@dataclass(frozen=True)
class Offer:
    """A runtime and what it is given.

    Attributes:
        runtime: Its name.
        graphs: Targets whose float32 graphs it runs.
        others: Forms of other precisions.
        modes: Precision of arithmetic and the settings for it, for float32 files, beside their own.
        is_compiled_for_batch: Whether it is faster on a network that it compiles for one batch size.
        on_cpu: Whether threads matter.
        by_default: Whether it is tried without being asked for.
    """

    runtime: str
    graphs: tuple[str, ...]
    others: tuple[Variant, ...] = ()
    modes: tuple[tuple[str, Mapping[str, str]], ...] = ()
    is_compiled_for_batch: bool = False
    on_cpu: bool = True
    by_default: bool = True


OFFERS = (
    Offer("ort-cpu", ("portable", "ort", "openvino"), (Variant("ort", "int8"),)),
    Offer(
        "openvino",
        ("portable", "ort", "openvino"),
        (Variant("openvino", "int8"), Variant("ort", "int8")),
        (("fp16", {"precision": "f16"}), ("bf16", {"precision": "bf16"})),
        is_compiled_for_batch=True,
    ),
    # It rebuilds the network of which the file is, and its answers come from there.
    Offer("torch-cpu", ("portable",), modes=(("fp32", {"mode": "compile"}),), by_default=False),
    Offer("ort-cuda", ("portable", "cuda"), (Variant("cuda", "fp16"),), on_cpu=False),
    Offer("trt", ("trt",), (Variant("trt", "fp16"), Variant("trt", "int8")), on_cpu=False),
    Offer("trt-rtx", ("trt",), (Variant("trt", "fp16"), Variant("trt", "int8")), on_cpu=False),
)
"""In the order of preference for what the others are measured against."""

BASE = Variant("portable", "fp32")
"""What ``cnnport export`` writes unless told otherwise, which everything is held against."""


def offers_of(runtimes: Sequence[str] | None) -> tuple[Offer, ...]:
    """The rows of some runtimes; of those that are here by default.

    Args:
        runtimes: Names; None for all that are here.

    Raises:
        UnknownNameError: If there is no such runtime.
        RuntimeMissingError: If one that was asked for is not here.
        CnnportError: If nothing is known of one, or none is here.
    """
    from cnnport.runtimes import get_runtime, require_runtime

    if runtimes is None:
        found = tuple(each for each in OFFERS if each.by_default and not get_runtime(each.runtime).missing())
        if not found:
            raise CnnportError("there is no runtime to tune for: see cnnport doctor")
        return found
    known = {each.runtime: each for each in OFFERS}
    for name in runtimes:
        require_runtime(name)
        if name not in known:
            raise CnnportError(f"tune does not try {name}: it tries {', '.join(known)}")
    return tuple(each for each in OFFERS if each.runtime in runtimes)


def variants_of(offers: Sequence[Offer]) -> tuple[Variant, ...]:
    """The files that are wanted, cheap ones first; the base is always among them."""
    found = [BASE]
    for offer in offers:
        found += [Variant(target, "fp32") for target in offer.graphs]
        found += offer.others
    return tuple(sorted(dict.fromkeys(found), key=lambda each: PRECISIONS.index(each.precision)))


def threads_of(threads: Sequence[int] | None) -> tuple[int, ...]:
    """Numbers of threads: those that were asked for, or one, all cores, and powers of two between."""
    if threads:
        return tuple(dict.fromkeys(threads))
    most = default_threads()
    return tuple(sorted({most, *(2**power for power in range(most.bit_length()) if 2**power <= most)}))


def candidates_of(
    offers: Sequence[Offer], made: Sequence[Variant], threads: Sequence[int], batch: int
) -> tuple[Candidate, ...]:
    """Everything that can be tried with some files.

    Args:
        offers: Rows of the table.
        made: The files that there are.
        threads: Numbers of threads for CPU runtimes; others get the largest.
        batch: Images a run.
    """
    found: list[Candidate] = []
    for offer in offers:
        counts = threads if offer.on_cpu else threads[-1:]
        plain = {"batch": str(batch)} if offer.is_compiled_for_batch else {}
        wanted = [*(Variant(target, "fp32") for target in offer.graphs), *offer.others]
        for variant in (each for each in dict.fromkeys(wanted) if each in made):
            modes = [(variant.precision, plain)]
            if variant.precision == "fp32":
                modes += [(computes, {**plain, **settings}) for computes, settings in offer.modes]
            found += [
                Candidate(variant, offer.runtime, count, computes, settings)
                for computes, settings in modes
                for count in counts
            ]
    return tuple(found)


def plain_of(offers: Sequence[Offer], threads: Sequence[int], batch: int) -> Candidate:
    """What everything is measured against: the base on the first runtime with the most threads."""
    first = offers[0]
    settings = {"batch": str(batch)} if first.is_compiled_for_batch else {}
    return Candidate(BASE, first.runtime, max(threads), "fp32", settings)
