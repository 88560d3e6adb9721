"""What limits a model, in sentences that the figures carry."""

from collections.abc import Iterator, Sequence

from cnnport.measuring.profiling.kernels import INTEGER
from cnnport.measuring.profiling.layers import is_conversion
from cnnport.measuring.profiling.record import Profile, ProfiledLayer

# Layers that are named; shares of the whole below the second are not worth a sentence.
_NAMED = 3
_WORTH = 0.03

# Beyond this, the sum of the layers and the run are not the same thing.
AGREES = 0.1

# How far the median turn may lie above the quickest one.
_STEADY = 0.1

# Of a run, that whole microseconds may swallow before it is said.
_CUT_OFF = 0.01
_CUT_OFF_MS = 0.5e-3

# Times of these are cut off to whole microseconds.
_COARSE = frozenset({"ort-cuda", "openvino"})

_BY = {
    "compute": ("bound by arithmetic", "of the measured peak"),
    "memory": ("bound by memory", "of the measured bandwidth"),
}


def limits(profile: Profile) -> tuple[str, ...]:
    """What limits a model; nothing where it has no layers."""
    return tuple(_sentences(profile)) if profile.layers and profile.layers_ms else ()


def notes(profile: Profile) -> tuple[str, ...]:
    """What has to be known of a profile's figures."""
    return tuple(_notes(profile))


def title_of(layer: ProfiledLayer) -> str:
    """A layer for people: its modules and operator, or its name where it has no modules."""
    return f"{'+'.join(layer.modules)} ({layer.operator})" if layer.modules else layer.name


def _sentences(profile: Profile) -> Iterator[str]:
    # Of a run as it is without the profiler; where the layers add up to more, of their sum.
    whole_ms = max(profile.end_to_end_ms, profile.layers_ms)
    known = any(layer.bound for layer in profile.layers)
    groups = {bound: [each for each in profile.layers if each.bound == bound] for bound in _BY}
    for bound, layers in sorted(groups.items(), key=lambda item: -_ms(item[1])):
        if _ms(layers) >= _WORTH * whole_ms:
            words, of_what = _BY[bound]
            yield (
                f"{_ms(layers) / whole_ms:.0%} of the time goes to {_counted(layers)} {words}, at "
                f"{_explained(layers):.0%} {of_what}{_caches(bound, layers)}"
            )
    slow = [layer for layer in profile.layers if layer.bound == "overhead"]
    if _ms(slow) >= _WORTH * whole_ms:
        why = "too small, or its kernel is slow" if len(slow) == 1 else "too small, or their kernels are slow"
        yield (
            f"{_ms(slow) / whole_ms:.0%} goes to {_counted(slow)} of which neither arithmetic nor memory explains a "
            f"tenth of the time: {why}"
        )
    moved = [layer for layer in profile.layers if not layer.nodes and is_conversion(layer.operator)]
    if _ms(moved) >= _WORTH * whole_ms:
        yield (
            f"{_ms(moved) / whole_ms:.0%} goes to {len(moved)} conversion{'s' * (len(moved) != 1)} of layout or type "
            "that the runtime put in"
        )
    rest_ms = whole_ms - profile.layers_ms
    if rest_ms >= _WORTH * whole_ms:
        yield f"{rest_ms / whole_ms:.0%} is between the layers: starting and ending the run, and each of its kernels"
    costliest = sorted(profile.layers, key=lambda each: -each.ms)[:_NAMED]
    share = _ms(costliest) / whole_ms
    subject = (
        "the costliest layer is" if len(costliest) == 1 else f"the {len(costliest)} costliest layers are"
    )
    yield (
        f"{subject} {', '.join(f'{title_of(each)} {each.ms:.3g} ms' for each in costliest)}: {share:.0%} of the time"
    )
    if profile.precision == INTEGER:
        floats = [each for each in profile.layers if each.precision not in {INTEGER, ""} and each.flops]
        if _ms(floats) >= _WORTH * whole_ms:
            yield f"{_ms(floats) / whole_ms:.0%} of the time computes in floating point, in {_counted(floats)}"
    if not known:
        yield "what bounds the layers is not known: the peak of this device was not measured"


def _notes(profile: Profile) -> Iterator[str]:
    end_ms, sum_ms = profile.end_to_end_ms, profile.layers_ms
    least_ms = min(profile.turns_ms, default=0.0)
    if least_ms and end_ms > (1 + _STEADY) * least_ms:
        yield (
            f"the machine was not quiet: without the profiler, the quickest turn's run took {least_ms:.4g} ms, the "
            f"median turn's {end_ms:.4g} ms; stop other work, or give more --rounds"
        )
    if profile.noting_ms:
        yield (
            f"taking note of a kernel costs {profile.noting_ms * 1e3:.2g} µs, measured on a row of small ones, which "
            f"is taken off every layer's time: {profile.noting_ms * len(profile.layers):.3g} ms in all"
        )
    if end_ms and abs(sum_ms / end_ms - 1) > AGREES:
        yield (
            f"the layers add up to {sum_ms:.4g} ms, a run without the profiler takes {end_ms:.4g} ms "
            f"({sum_ms / end_ms - 1:+.0%}), and one with it {profile.profiled_ms:.4g} ms; nothing is scaled"
        )
    lost_ms = _CUT_OFF_MS * sum(1 for layer in profile.layers if layer.ms)
    if profile.runtime in _COARSE and end_ms and lost_ms > _CUT_OFF * end_ms:
        yield (
            "the runtime counts whole microseconds and cuts off the rest: half of one for each layer, about "
            f"{lost_ms:.2g} ms ({lost_ms / end_ms:.0%} of a run), is missing in the sum"
        )
    if profile.runtime == "ort-cuda":
        yield "every kernel is waited for, so that its time has the time to start it in it"
    elif profile.runtime in {"trt", "trt-rtx"}:
        yield "layers may overlap on the device, and the events between them cost time of their own"
    elif profile.runtime.startswith("torch"):
        yield "a module's time is what it computes itself, without its submodules"
        if any(layer.flops is None for layer in profile.layers):
            yield "modules that the export folded into others have no nodes in the file, and so no FLOPs"


def _ms(layers: Sequence[ProfiledLayer]) -> float:
    return sum(layer.ms for layer in layers)


def _counted(layers: Sequence[ProfiledLayer]) -> str:
    return f"{len(layers)} layer{'s' * (len(layers) != 1)}"


def _explained(layers: Sequence[ProfiledLayer]) -> float:
    """How much of their time the bound explains, all together."""
    return sum((layer.of_peak or 0.0) * layer.ms for layer in layers) / _ms(layers)


def _caches(bound: str, layers: Sequence[ProfiledLayer]) -> str:
    return ", out of caches that are faster" if bound == "memory" and _explained(layers) > 1 else ""
