"""How fast memory is: STREAM's four kernels, each one pass of PyTorch's vectorised loops over all threads.

Every kernel writes into an array that is there already, so nothing is allocated and nothing goes through a temporary
(NumPy has no triad in one pass, and one thread). Bytes are counted as STREAM counts them: each array that a kernel
names, once. What a cache fetches before it is overwritten is not counted, here as there.
"""

from collections.abc import Iterator
from pathlib import Path

import torch

from cnnport.measuring.cpus import read_line
from cnnport.measuring.environment import read_environment
from cnnport.measuring.machine.machine import Stream
from cnnport.measuring.machine.rates import Blocking, rates

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}

# STREAM's own rule asks for four times the last cache in each array.
_BEYOND = 4
_LEAST_BYTES = 2**26
_SHARE_OF_MEMORY = 16

_FACTOR = 3.0
_ELEMENT_BYTES = 8


def streams(threads: int, duration_s: float) -> Iterator[Stream]:
    """Measure the bandwidth of memory, and of the last cache where its size is known.

    Args:
        threads: That work.
        duration_s: Seconds of each kernel.
    """
    torch.set_num_threads(threads)
    cache = last_cache_bytes()
    for level, size in (("memory", array_bytes(cache)), ("cache", None if cache is None else cache // 6)):
        if size is None:
            continue
        elements = size // _ELEMENT_BYTES
        for name, arrays, run in _kernels(elements):
            best, usual = rates(run, arrays * elements * _ELEMENT_BYTES, duration_s)
            yield Stream(name, level, size, best, usual)


def array_bytes(cache: int | None) -> int:
    """Bytes of each array, well beyond a cache, and no more than a share of what memory is free."""
    wanted = max(_LEAST_BYTES, _BEYOND * (cache or 0))
    free = read_environment().memory_available_bytes
    return wanted if free is None else min(wanted, free // _SHARE_OF_MEMORY)


def last_cache_bytes(folder: Path = _CACHES) -> int | None:
    """Size of the first CPU's last cache; None where the system does not tell.

    Args:
        folder: With a folder ``indexN`` for each cache, as Linux has it.
    """
    found = [
        int(size[:-1]) * _UNITS[size[-1]]
        for place in folder.glob("index*")
        if (size := read_line(place / "size")) and size[-1] in _UNITS and size[:-1].isdigit()
    ]
    return max(found, default=None)


def _kernels(elements: int) -> tuple[tuple[str, int, Blocking], ...]:
    """Name, arrays that are read or written, and run, over three arrays of doubles, as STREAM's."""
    # Filled by all threads: a page lies near the thread that touches it first.
    a, b, c = (torch.empty(elements, dtype=torch.float64).fill_(value) for value in (1.0, 2.0, 0.0))
    return (
        ("copy", 2, Blocking(lambda: c.copy_(a))),
        ("scale", 2, Blocking(lambda: torch.mul(c, _FACTOR, out=b))),
        ("add", 3, Blocking(lambda: torch.add(a, b, out=c))),
        ("triad", 3, Blocking(lambda: torch.add(b, c, alpha=_FACTOR, out=a))),
    )
