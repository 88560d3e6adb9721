"""Public tools that say what a machine can do, as far as they are installed: run, and their figures read.

LIKWID (``likwid-bench``) and the HPC Challenge (``hpcc``, with ``mpirun``) are in the usual distributions:
``apt install likwid hpcc libopenblas0``. OpenBLAS comes with NumPy.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cnnport.errors import CnnportError
from cnnport.measuring.machine import Product, measure_part
from cnnport.process import Failure

_LIMIT_S = 150.0

# Four times a last cache of 32 MB, for each of three arrays; each thread works on its part of them.
_LIKWID_BYTES = "384MB"
_LIKWID_SMALL = "32kB"

# The order of the matrix that HPL solves decides the size of the others: vectors of 64 MB in each of two processes.
_HPCC_ORDER = 7000

# Of each process: its own library of matrix products would otherwise start more.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

_HPCC_INPUT = """HPLinpack benchmark input file
made by cnnport
HPL.out
8
1
{order}
1
128
0
1
1
{processes}
16.0
1
2
1
4
1
2
1
1
1
1
1
1
2
64
0
0
1
8
# (separator)
0
1200
0
40
"""


@dataclass(frozen=True)
class Figure:
    """What a tool found.

    Attributes:
        tool: Its name.
        what: Which of its kernels, in words.
        kind: ``fp32`` for arithmetic, ``copy``, ``scale``, ``add`` or ``triad`` for bandwidth.
        value: FLOP/s or bytes a second.
    """

    tool: str
    what: str
    kind: str
    value: float


def figures(threads: int, flags: Sequence[str], skip: Callable[[str, str], None]) -> Iterator[Figure]:
    """Run every tool that is here.

    Args:
        threads: That work together.
        flags: Instruction sets of the CPU, as its system names them.
        skip: Told of what is not here, or fails: the tool, and why.
    """
    for tool, run in (("likwid-bench", _likwid), ("hpcc", _hpcc), ("OpenBLAS", _openblas)):
        try:
            yield from run(threads, flags)
        except CnnportError as error:
            skip(tool, str(error))


def _likwid(threads: int, flags: Sequence[str]) -> Iterator[Figure]:
    width = next((name for name in ("avx512", "avx") if name in flags or f"{name}f" in flags), "sse")
    fma = "_fma" if "fma" in flags and width != "sse" else ""
    for kind, kernel, words in (
        ("copy", f"copy_{width}", "copy"),
        ("copy", f"copy_mem_{width}", "copy, past the caches"),
        ("triad", f"stream_{width}{fma}", "triad"),
        ("triad", f"stream_mem_{width}{'' if width == 'avx512' else fma}", "triad, past the caches"),
    ):
        said = _output(["likwid-bench", "-t", kernel, "-w", f"S0:{_LIKWID_BYTES}:{threads}"])
        yield Figure("LIKWID", f"{words} ({kernel})", kind, _number(said, r"MByte/s:\s+([\d.]+)") * 1e6)
    kernel = f"peakflops_sp_{width}{fma}"
    said = _output(["likwid-bench", "-t", kernel, "-w", f"S0:{_LIKWID_SMALL}:{threads}"])
    flops_s = _number(said, r"MFlops/s:\s+([\d.]+)") * 1e6
    yield Figure("LIKWID", f"multiply-adds in registers ({kernel})", "fp32", flops_s)


def _hpcc(threads: int, _flags: Sequence[str]) -> Iterator[Figure]:
    """One process for each thread; STREAM and DGEMM run in all at once, and the file has their mean."""
    grid = f"1\n{threads}"
    prefix = ["mpirun", "--allow-run-as-root", "--bind-to", "core", "-np", str(threads), "hpcc"]
    with tempfile.TemporaryDirectory(prefix="cnnport-") as name:
        order = round(_HPCC_ORDER * (threads / 2) ** 0.5)
        (Path(name) / "hpccinf.txt").write_text(_HPCC_INPUT.format(order=order, processes=grid))
        _output(prefix, folder=name)
        said = (Path(name) / "hpccoutf.txt").read_text(errors="replace")
    version = re.search(r"VersionMajor=(\d+)\s+VersionMinor=(\d+)", said)
    tool = "HPC Challenge" + (f" {version[1]}.{version[2]}" if version else "")
    for kind in ("Copy", "Scale", "Add", "Triad"):
        each = _number(said, rf"StarSTREAM_{kind}=([\d.]+)") * 1e9
        yield Figure(tool, f"STREAM {kind.lower()}", kind.lower(), threads * each)
    # Doubles are half as many to a register.
    flops_s = 2 * threads * _number(said, r"StarDGEMM_Gflops=([\d.]+)") * 1e9
    yield Figure(tool, "DGEMM, times two for the narrower numbers", "fp32", flops_s)


def _openblas(threads: int, _flags: Sequence[str]) -> Iterator[Figure]:
    import numpy as np

    answer = measure_part("numpy", threads)
    if isinstance(answer, Failure):
        raise CnnportError(answer.reason)
    found = max((Product(**each) for each in answer["products"]), key=lambda each: each.flops_s)
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    yield Figure(f"{blas['name']} {blas['version']}", f"SGEMM ({found.operation})", "fp32", found.flops_s)


def _output(command: Sequence[str], folder: str | None = None) -> str:
    if shutil.which(command[0]) is None:
        raise CnnportError(f"{command[0]} is not installed")
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **_ONE_THREAD},
            capture_output=True,
            text=True,
            check=False,
            timeout=_LIMIT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise CnnportError(f"{command[0]} took longer than {_LIMIT_S:.0f} s") from error
    if done.returncode:
        last = [line for line in done.stderr.splitlines() if line.strip()][-1:] or ["no word of why"]
        raise CnnportError(f"{command[0]} failed: {last[0]}")
    return done.stdout


def _number(text: str, pattern: str) -> float:
    found = re.search(pattern, text)
    if found is None:
        raise CnnportError(f"it printed nothing like {pattern}")
    return float(found[1])
