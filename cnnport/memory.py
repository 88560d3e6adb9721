"""Giving freed memory back to the system."""

import ctypes
import sys


def trim() -> None:
    """Return what the C allocator holds of freed blocks, where it is glibc's; elsewhere do nothing.

    Exporter and simplifier leave many small freed blocks behind, which the allocator keeps; without this, the peak
    of what comes after lies on top of them.
    """
    if sys.platform == "linux":
        release = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if release is not None:
            release(0)
