"""Open, run and close, over and over: ``python tests/soak_runtimes.py --cycles 1000 --runtime R [--runtime R]``.

Standard error gets the resident set as it goes, standard output one JSON document: for each runtime the resident set
after warming up and at the end, the growth, and what a cycle adds by the straight line through all of them. Each
runtime runs in a process of its own. Exit code 1 if one grew beyond the bound.
"""

import argparse
import gc
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import psutil

from cnnport.artifact import Artifact
from cnnport.golden import seeded_input
from cnnport.runtimes import Options, get_runtime

WARM_CYCLES = 10
"""Until pools, caches and the allocator have what they keep."""

BOUND_KIB = 4096
"""That the resident set may grow after that, in all: less than three copies of the weights of the file."""


def grow(
    runtime: str,
    artifact: Artifact,
    cycles: int,
    *,
    keep: list[object] | None = None,
    tell: Callable[[int, int], None] = lambda cycle, kib: None,
) -> list[int]:
    """Open, run, bind, run and close, over and over.

    Args:
        runtime: Its name.
        artifact: The file.
        cycles: How often, after the warming up.
        keep: Takes every session before it would be closed, which it then is not: a leak.
        tell: Is given the number of a cycle and the resident set.

    Returns:
        The resident set after each cycle, in KiB.
    """
    feeds = seeded_input(artifact.inputs, 2, 0)
    process = psutil.Process()
    found = []
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
        gc.collect()
        if cycle >= WARM_CYCLES:
            found.append(process.memory_info().rss // 1024)
            tell(cycle - WARM_CYCLES + 1, found[-1])
    gc.unfreeze()
    return found


def growth_kib(found: Sequence[int]) -> int:
    """From the first fifth to the last one, by medians, so that one large moment decides nothing."""
    part = max(1, len(found) // 5)
    return int(np.median(found[-part:]) - np.median(found[:part]))


def artifact_for(runtime: str, folder: Path) -> Artifact:
    """A file with about two MiB of weights; for PyTorch, which runs only what can be rebuilt, one of the zoo."""
    if not runtime.startswith("torch"):
        from runtime_files import make

        made = make("plain", folder).artifact
        return made.with_shapes({"x": (1, 3, 8, 8)})
    from cnnport.export import export

    return export("lenet5", folder / "lenet5.onnx", weights="random").artifact


def soak(runtime: str, cycles: int) -> dict[str, object]:
    """The row of one runtime, in this process."""
    if reason := get_runtime(runtime).missing():
        return {"runtime": runtime, "skipped": reason}
    every = max(1, cycles // 20)

    def tell(cycle: int, kib: int) -> None:
        if cycle % every == 0:
            sys.stderr.write(f"{runtime}: cycle {cycle} of {cycles}, resident {kib} KiB\n")

    with tempfile.TemporaryDirectory() as folder:
        found = grow(runtime, artifact_for(runtime, Path(folder)), cycles, tell=tell)
    slope = float(np.polyfit(range(len(found)), found, 1)[0]) if len(found) > 1 else 0.0
    return {
        "runtime": runtime,
        "version": get_runtime(runtime).version(),
        "cycles": cycles,
        "warm_kib": found[0],
        "end_kib": found[-1],
        "largest_kib": max(found),
        "growth_kib": growth_kib(found),
        "bytes_per_cycle": round(slope * 1024, 1),
        "threads": psutil.Process().num_threads(),
        "files": psutil.Process().num_fds(),
        "ok": growth_kib(found) <= BOUND_KIB,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the arguments, soak, write. Gives the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cycles", type=int, default=1000)
    parser.add_argument("--runtime", action="append", required=True)
    parser.add_argument("--here", action="store_true", help="in this process, one runtime")
    options = parser.parse_args(arguments)
    if options.here:
        row = soak(options.runtime[0], options.cycles)
        sys.stdout.write(json.dumps(row) + "\n")
        return 0
    rows = []
    for runtime in options.runtime:
        command = [sys.executable, __file__, "--here", "--runtime", runtime, "--cycles", str(options.cycles)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False, text=True)
        if done.returncode:
            rows.append({"runtime": runtime, "ok": False, "status": done.returncode})
        else:
            rows.append(json.loads(done.stdout))
    document = {"bound_kib": BOUND_KIB, "warm_cycles": WARM_CYCLES, "results": rows}
    sys.stdout.write(json.dumps(document, indent=1) + "\n")
    return int(not all(row.get("ok", "skipped" in row) for row in rows))


if __name__ == "__main__":
    sys.exit(main())
