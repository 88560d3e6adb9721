"""Keeping freed memory from adding up."""

import ctypes
import sys

# From glibc's malloc.h.
_M_MMAP_THRESHOLD = -3
_LARGE_BYTES = 256 * 1024


def return_large_blocks() -> None:
    """Have freed blocks of 256 KiB and more go back to the system at once, where the C library is glibc.

    By itself glibc raises that limit up to 32 MiB as blocks are freed, and then keeps what exporter, simplifier and
    runtime leave behind, each below the next one's peak. The setting is the process's own: a command makes it, the
    library never does.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
