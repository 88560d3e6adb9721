"""The process's own memory: how much it was at most, and keeping freed blocks from adding up."""

import ctypes
import sys
from pathlib import Path

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


def peak_memory_bytes() -> int:
    """The largest resident set of this process so far; 0 where the system does not tell.

    Not ``ru_maxrss`` on Linux: that one is inherited through fork and exec, so that a large parent's memory
    would be reported as the runtime's.
    """
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return 0
