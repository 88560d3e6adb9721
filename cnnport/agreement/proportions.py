"""How far a share that was counted can be trusted."""

import math

# Of the normal distribution, for 95 %.
_QUANTILE = 1.959963984540054


def wilson_interval(hits: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a proportion, which is right for shares near 0 and 1 and for few samples.

    Args:
        hits: From 0 to ``count``.
        count: At least 1.
    """
    square = _QUANTILE**2 / count
    share = hits / count
    middle = share + square / 2
    half = _QUANTILE * math.sqrt(share * (1 - share) / count + square / (4 * count))
    low, high = (middle - half) / (1 + square), (middle + half) / (1 + square)
    return (0.0 if hits == 0 else low), (1.0 if hits == count else high)
