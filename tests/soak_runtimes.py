"""Open, run and close, over and over: ``python tests/soak_runtimes.py --cycles 1000 --runtime R [--runtime R]``.

Standard error gets the resident set as it goes, standard output one JSON document: the machine and the versions, and
for each runtime the resident set on the way, its growth in all, and its steady growth, which is what a cycle adds
where no single step counts. Before each reading the allocator hands back what it keeps free, in which a small leak
would hide for hundreds of cycles. Each runtime runs in a process of its own. Exit code 1 if one grew steadily, or
beyond the bound in all. ``--leak BYTES`` keeps so much in every cycle, to see that it is found.
"""

import argparse
import ctypes
import gc
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil

from cnnport.artifact import Artifact
from cnnport.golden import seeded_input
from cnnport.measuring.environment import read_environment
from cnnport.runtimes import Options, get_runtime

WARM_CYCLES = 10
"""Until pools, caches and the allocator have what they keep."""

BOUND_KIB = 4096
"""That the resident set may grow after that, in all: less than three copies of the weights of the file."""

STEADY_BOUND_BYTES = 256
"""That a cycle may add steadily, which is less than the least thing that a session of ours holds.

It is not 0: onnxruntime 1.31 by itself, opened, run and freed in the same way, leaves some 100 bytes behind.
"""

PARTS = 10
"""Of the cycles: steady growth is what most of them show against the one before."""

_SHOWN = 20


def grow(
    runtime: str,
    artifact: Artifact,
    cycles: int,
    *,
    keep: list[object] | None = None,
    leak: int = 0,
    tell: Callable[[int, int], None] = lambda cycle, kib: None,
) -> list[int]:
    """Open, run, bind, run and close, over and over.

    Args:
        runtime: Its name.
        artifact: The file.
        cycles: How often, after the warming up.
        keep: Takes every session before it would be closed, which it then is not: a leak.
        leak: Bytes that every cycle allocates and never frees.
        tell: Is given the number of a cycle and the resident set.

    Returns:
        The resident set after each cycle, in KiB.
    """
    feeds = seeded_input(artifact.inputs, 2, 0)
    process = psutil.Process()
    # Filled in place: a list of numbers would itself be what grows.
    found, leaked = np.zeros(cycles, np.int64), []
    # What was there before need not be searched for garbage in every cycle.
    gc.collect()
    gc.freeze()
    for cycle in range(WARM_CYCLES + cycles):
        session = get_runtime(runtime).open(artifact, Options(threads=1))
        session.run(feeds)
        launch = session.bind(feeds)
        launch()
        launch.wait()
        if keep is None:
            session.close()
        else:
            keep += [session, launch]
        del session, launch
        if leak:
            # What is only reserved is not resident.
            leaked.append(b"\1" * leak)
        gc.collect()
        trim()
        if cycle >= WARM_CYCLES:
            number = cycle - WARM_CYCLES
            found[number] = process.memory_info().rss // 1024
            tell(number + 1, int(found[number]))
    gc.unfreeze()
    return [int(each) for each in found]


def trim() -> None:
    """Hand back what the C library's allocator keeps free; others than glibc's have no such call."""
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def growth_kib(found: Sequence[int]) -> int:
    """From the first fifth to the last one, by medians, so that one large moment decides nothing."""
    part = max(1, len(found) // 5)
    return int(np.median(found[-part:]) - np.median(found[:part]))


def steady_bytes(found: Sequence[int]) -> int:
    """What a cycle adds by most of the parts of a run, in bytes.

    Each part is its median. Something that every cycle leaves behind shows both in the median of the differences from
    part to part, which a single step does not, wherever it comes, and in the median of the slopes between any two
    parts, which what comes and goes does not.
    """
    parts = [np.median(part) for part in np.array_split(np.asarray(found), PARTS) if part.size]
    if len(parts) < 2:
        return 0
    places = range(len(parts))
    slopes = [(parts[later] - parts[at]) / (later - at) for at in places for later in places[at + 1 :]]
    steady = min(float(np.median(np.diff(parts))), float(np.median(slopes)), key=abs)
    return round(steady * 1024 * len(parts) / len(found))


def is_growth(found: Sequence[int]) -> bool:
    """Whether a run of so many KiB, cycle by cycle, is one that keeps something."""
    return growth_kib(found) > BOUND_KIB or steady_bytes(found) > STEADY_BOUND_BYTES


def artifact_for(runtime: str, folder: Path) -> Artifact:
    """A file with about two MiB of weights; for PyTorch, which runs only what can be rebuilt, one of the zoo."""
    if not runtime.startswith("torch"):
        from runtime_files import make

        made = make("plain", folder).artifact
        return made.with_shapes({"x": (1, 3, 8, 8)})
    from cnnport.exporting import export

    return export("lenet5", folder / "lenet5.onnx", weights="random").artifact


def soak(runtime: str, cycles: int, leak: int = 0) -> dict[str, object]:
    """The row of one runtime, in this process."""
    if reason := get_runtime(runtime).missing():
        return {"runtime": runtime, "skipped": reason}
    every = max(1, cycles // _SHOWN)

    def tell(cycle: int, kib: int) -> None:
        if cycle % every == 0:
            sys.stderr.write(f"{runtime}: cycle {cycle} of {cycles}, resident {kib} KiB\n")

    with tempfile.TemporaryDirectory() as folder:
        found = grow(runtime, artifact_for(runtime, Path(folder)), cycles, leak=leak, tell=tell)
    return {
        "runtime": runtime,
        "version": get_runtime(runtime).version(),
        "cycles": cycles,
        "resident_kib": [*found[::every], found[-1]],
        "largest_kib": max(found),
        "growth_kib": growth_kib(found),
        "steady_bytes_per_cycle": steady_bytes(found),
        "threads": psutil.Process().num_threads(),
        "files": psutil.Process().num_fds(),
        "ok": not is_growth(found),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the arguments, soak, write. Gives the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cycles", type=int, default=1000)
    parser.add_argument("--runtime", action="append", required=True)
    parser.add_argument("--leak", type=int, default=0, metavar="BYTES", help="keep so much in every cycle")
    parser.add_argument("--here", action="store_true", help="in this process, one runtime")
    options = parser.parse_args(arguments)
    if options.here:
        row = soak(options.runtime[0], options.cycles, options.leak)
        sys.stdout.write(json.dumps(row) + "\n")
        return 0
    rows, environment = [], read_environment()
    for runtime in options.runtime:
        numbers = ["--cycles", str(options.cycles), "--leak", str(options.leak)]
        command = [sys.executable, __file__, "--here", "--runtime", runtime, *numbers]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False, text=True)
        if done.returncode:
            rows.append({"runtime": runtime, "ok": False, "status": done.returncode})
        else:
            rows.append(json.loads(done.stdout))
    document = {
        "environment": environment.to_json(),
        "bound_kib": BOUND_KIB,
        "steady_bound_bytes_per_cycle": STEADY_BOUND_BYTES,
        "warm_cycles": WARM_CYCLES,
        "results": rows,
    }
    sys.stdout.write(json.dumps(document, indent=1) + "\n")
    return int(not all(row.get("ok", "skipped" in row) for row in rows))


if __name__ == "__main__":
    sys.exit(main())
