"""The check of feeds that every session makes before it touches the runtime."""

from cnnport.artifact import TensorSpec
from cnnport.errors import FeedError
from cnnport.runtimes.protocol import Tensors


def check_feeds(inputs: tuple[TensorSpec, ...], feeds: Tensors) -> None:
    """Compare feeds with inputs.

    A dynamic dimension takes any size of at least one; one that stands in several places takes the same size.

    Raises:
        FeedError: Naming the first input that does not fit.
    """
    wanted = {spec.name for spec in inputs}
    if extra := sorted(set(feeds) - wanted):
        raise FeedError(f"no input is called {extra[0]!r}: the inputs are {', '.join(sorted(wanted))}")
    sizes: dict[str, int] = {}
    for spec in inputs:
        if spec.name not in feeds:
            raise FeedError(f"input {spec.name!r} has no feed: it wants {spec}")
        array = feeds[spec.name]
        fits = len(array.shape) == len(spec.shape) and array.dtype == spec.dtype
        if fits:
            for size, want in zip(array.shape, spec.shape, strict=True):
                expected = want if isinstance(want, int) else sizes.setdefault(want, size)
                fits &= size == expected and size > 0
        if not fits:
            got = f"{array.dtype}[{','.join(map(str, array.shape))}]"
            raise FeedError(f"feed {got} does not fit input {spec}")
