"""In what manner a layer's value departs, as far as the numbers tell."""

import numpy as np

from cnnport.agreement.layers.graph import Array

# A value is explained by something if what is left is so small a share of the departure.
_EXPLAINED = 0.05
_MOST_CHANNELS = 4096
_LISTED = 6
_FURTHEST = 2

# In fewer numbers almost anything can be seen.
_LEAST_NUMBERS = 8
_HALF_MOST = 65504.0


def manner_of(expected: Array, found: Array) -> str:
    """One sentence.

    Args:
        expected: The reference's value.
        found: What the layer gives on the reference's inputs.
    """
    if expected.shape != found.shape:
        return f"its shape is {list(found.shape)} instead of {list(expected.shape)}"
    left, right = np.asarray(expected, np.float64), np.asarray(found, np.float64)
    if said := _not_finite(left, right):
        return said
    error = right - left
    if left.ndim < 2:
        return "everywhere"
    # Channels first; each with all of its samples and positions.
    before, after = _by_channel(left), _by_channel(right)
    off = _channels_off(before, after)
    said = relation(before, after) or _permuted_but_for_constants(before, after, off)
    said = said or _shifted(before, after, off) or _samples(left, error)
    said = said or _borders(left, error) or _moved(left, right)
    if not said:
        said = f"everywhere in {_told(off, len(before))}"
    return f"{said}; most {_place(error)}"


def relation(before: Array, after: Array, *, unit: str = "channel") -> str:
    """What makes rows of numbers of others: another order, or factors; empty where it is neither.

    Args:
        before: Rows.
        after: As many.
        unit: What a row is called.
    """
    off = _channels_off(before, after)
    said = _permuted(before, after, off) or _scaled(before, after, off)
    return said.replace("channel", unit)


def _not_finite(left: Array, right: Array) -> str:
    odd = ~np.isfinite(right) & np.isfinite(left)
    if not odd.any():
        return ""
    where = np.argwhere(odd)
    first = ", ".join(map(str, where[0]))
    kinds = "NaN" if np.isnan(right[odd]).any() else "infinity"
    channels = f", {_told(np.unique(where[:, 1]), right.shape[1])}" if right.ndim > 1 else ""
    largest = np.abs(left[np.isfinite(left)]).max(initial=0.0)
    over = (
        f": the reference reaches {largest:.3g}, beyond float16's {_HALF_MOST:.0f}"
        if largest > _HALF_MOST
        else ""
    )
    return f"{kinds} in {len(where)} of {right.size} numbers{channels}, the first at [{first}]{over}"


def _by_channel(value: Array) -> Array:
    return np.moveaxis(value, 1, 0).reshape(value.shape[1], -1)


def _channels_off(before: Array, after: Array) -> Array:
    """Those that are responsible for the departure."""
    error = np.sqrt(np.mean((after - before) ** 2, axis=1))
    found: Array = np.flatnonzero(error > _EXPLAINED * error.max())
    return found


def _permuted(before: Array, after: Array, off: Array) -> str:
    """Whether the channels that are off are those of the reference in another order."""
    if not 2 <= len(off) <= _MOST_CHANNELS or before.shape[1] < 2:
        return ""
    left, right = before[off], after[off]
    # Of every pair, the squared distance by way of the product.
    squares = (left**2).sum(1)[None, :] + (right**2).sum(1)[:, None] - 2 * right @ left.T
    source = squares.argmin(axis=1)
    rest = np.maximum(squares[np.arange(len(off)), source], 0.0)
    own = ((right - left) ** 2).sum(1)
    if (
        len(set(source)) < len(off)
        or rest.sum() > _EXPLAINED**2 * own.sum()
        or (source == np.arange(len(off))).all()
    ):
        return ""
    moved = [(int(off[place]), int(off[other])) for place, other in enumerate(source) if place != other]
    pairs = ", ".join(f"{to} is the reference's {origin}" for to, origin in moved[:_LISTED])
    return f"channels are in another order: {pairs}{' ...' if len(moved) > _LISTED else ''}"


def _permuted_but_for_constants(before: Array, after: Array, off: Array) -> str:
    """The same where each place has kept its bias."""
    if before.shape[1] < _LEAST_NUMBERS:
        return ""
    means = before.mean(axis=1, keepdims=True), after.mean(axis=1, keepdims=True)
    said = _permuted(before - means[0], after - means[1], off)
    return f"{said}, but for their biases" if said else ""


def _scaled(before: Array, after: Array, off: Array) -> str:
    """Whether the channels that are off are multiples of the reference's."""
    left, right = before[off], after[off]
    power = np.einsum("ci,ci->c", left, left)
    if not (power > 0).all():
        return ""
    factors = np.einsum("ci,ci->c", left, right) / power
    rest = right - factors[:, None] * left
    if np.sum(rest**2) > (4 * _EXPLAINED) ** 2 * np.sum((right - left) ** 2):
        return ""
    where = _told(off, len(before))
    if factors.max() - factors.min() <= 0.1 * np.abs(factors).max():
        return f"{where}: the reference times {np.median(factors):.4g}"
    return f"{where}: the reference times factors from {factors.min():.4g} to {factors.max():.4g}"


def _shifted(before: Array, after: Array, off: Array) -> str:
    """Whether the channels that are off are scaled and have a constant added, as a wrong normalization does."""
    left, right = before[off], after[off]
    if left.shape[1] < _LEAST_NUMBERS:
        return ""
    means = left.mean(axis=1, keepdims=True), right.mean(axis=1, keepdims=True)
    centred = left - means[0], right - means[1]
    power = np.maximum(np.einsum("ci,ci->c", centred[0], centred[0]), 1e-300)
    factors = np.einsum("ci,ci->c", *centred) / power
    rest = centred[1] - factors[:, None] * centred[0]
    if np.sum(rest**2) > (4 * _EXPLAINED) ** 2 * np.sum((right - left) ** 2):
        return ""
    where, offsets = _told(off, len(before)), (means[1] - factors[:, None] * means[0]).reshape(-1)
    return (
        f"{where}: the reference times {factors.min():.4g} to {factors.max():.4g}, "
        f"plus {offsets.min():.3g} to {offsets.max():.3g}"
    )


def _samples(left: Array, error: Array) -> str:
    """Whether only some samples are off."""
    by_sample = np.sqrt(np.mean(error.reshape(len(error), -1) ** 2, axis=1))
    off = np.flatnonzero(by_sample > _EXPLAINED * by_sample.max())
    if len(off) == len(left):
        return ""
    return f"only samples {', '.join(map(str, off[:_LISTED]))} of {len(left)}"


def _borders(left: Array, error: Array) -> str:
    """Whether the inside is right."""
    if left.ndim != 4 or min(left.shape[2:]) < 3:
        return ""
    squares = np.mean(error**2, axis=(0, 1))
    inside = squares[1:-1, 1:-1].mean()
    edges = {
        "top": squares[0].mean(),
        "bottom": squares[-1].mean(),
        "left": squares[:, 0].mean(),
        "right": squares[:, -1].mean(),
    }
    off = [name for name, value in edges.items() if value > 0.25 * max(edges.values())]
    if inside > _EXPLAINED**2 * max(edges.values()):
        return ""
    return f"only at the borders ({', '.join(off)}): the padding is another"


def _moved(left: Array, right: Array) -> str:
    """Whether the picture is the same some rows or columns further."""
    if left.ndim != 4 or min(left.shape[2:]) < 4 * _FURTHEST:
        return ""
    edge = _FURTHEST
    inner = right[:, :, edge:-edge, edge:-edge]
    total = np.sum((inner - left[:, :, edge:-edge, edge:-edge]) ** 2)
    for down in range(-edge, edge + 1):
        for across in range(-edge, edge + 1):
            rows = slice(edge - down, left.shape[2] - edge - down)
            columns = slice(edge - across, left.shape[3] - edge - across)
            if np.sum((inner - left[:, :, rows, columns]) ** 2) <= _EXPLAINED**2 * total:
                return f"the picture is moved by {down} rows and {across} columns: the padding is another"
    return ""


def _told(channels: Array, count: int) -> str:
    if len(channels) == count:
        return f"all {count} channels" if count > 1 else "the only channel"
    if len(channels) == 1:
        return f"channel {channels[0]} of {count}"
    listed = ", ".join(map(str, channels[:_LISTED]))
    return f"{len(channels)} of {count} channels ({listed}{' ...' if len(channels) > _LISTED else ''})"


def _place(error: Array) -> str:
    place = np.unravel_index(int(np.abs(error).argmax()), error.shape)
    names = ["sample", "channel", "row", "column"]
    told = [f"{names[axis] if axis < 4 else f'axis {axis}'} {index}" for axis, index in enumerate(place)]
    return f"at {', '.join(told)}"
