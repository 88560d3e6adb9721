"""Part of what a machine can do, measured in this process: ``python -m cnnport.measuring.machine.worker``.

The question comes as JSON on standard input: which part, on which CPUs, how long. Each part gets a process of its
own, pinned before any library starts a thread, since idle thread pools of one disturb the next.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cnnport.answering import answer_with
from cnnport.errors import CnnportError
from cnnport.measuring.machine.machine import Json, Product
from cnnport.measuring.machine.rates import Blocking, rates
from cnnport.measuring.worker import SEED, pin

if TYPE_CHECKING:
    from cnnport.measuring.machine.operations import Operation

# Precisions other than a file's own, that a runtime computes a float32 file in: by setting and name of the precision.
_COMPUTED_IN = {"openvino": (("f32", "fp32"), ("bf16", "bf16"), ("f16", "fp16"))}


def serve(question: Json) -> Json:
    """Measure a part.

    Args:
        question: ``part`` (``memory``, ``torch``, ``numpy`` or the name of a runtime), ``cpus``, ``threads``,
            ``duration_s`` of each operation.

    Returns:
        ``products``, ``streams`` and ``version``, as far as the part has them.

    Raises:
        CnnportError: If the part cannot be measured here.
    """
    pin(question["cpus"])
    part, threads, duration_s = question["part"], question["threads"], question["duration_s"]
    if part == "memory":
        from cnnport.measuring.machine.bandwidth import streams

        return {"streams": [asdict(each) for each in streams(threads, duration_s)]}
    if part == "torch":
        import torch

        found = list(_of_torch(threads, duration_s))
        return {"products": [asdict(each) for each in found], "version": f"torch {torch.__version__}"}
    if part == "numpy":
        import numpy as np

        found = list(_of_numpy(duration_s))
        return {"products": [asdict(each) for each in found], "version": f"numpy {np.__version__}"}
    from cnnport.runtimes.table import require_runtime

    version = require_runtime(part).version()
    found = list(_of_runtime(part, threads, duration_s))
    return {"products": [asdict(each) for each in found], "version": version}


def _of_runtime(name: str, threads: int, duration_s: float) -> Iterator[Product]:
    """What a runtime reaches, in each precision that it has."""
    from cnnport.measuring.machine.operations import SIZES, convolutions, products

    convolution = convolutions()
    for size in SIZES:
        each = products(size)
        yield from _of_files(name, (each["float"], each["quantized"]), threads, duration_s)
        if name == "ort-cpu":
            yield from _of_files(name, (each["integer"],), threads, duration_s)
    yield from _of_files(name, tuple(convolution.values()), threads, duration_s)


def _of_files(
    name: str, operations: "Sequence[Operation]", threads: int, duration_s: float
) -> Iterator[Product]:
    from cnnport.golden import seeded_input
    from cnnport.onnxfile import read_artifact, write_foreign
    from cnnport.runtimes import Options
    from cnnport.runtimes.table import require_runtime

    with tempfile.TemporaryDirectory(prefix="cnnport-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "operation.onnx"
        for operation in operations:
            write_foreign(operation.model, path)
            artifact = read_artifact(path)
            choices = _COMPUTED_IN.get(name, ()) if artifact.precision == "fp32" else ()
            for setting, precision in choices or ((None, artifact.precision),):
                settings = {} if setting is None else {"precision": setting}
                try:
                    session = require_runtime(name).open(
                        artifact, Options(threads=threads, settings=settings)
                    )
                except CnnportError:
                    # A precision that this CPU does not have; in the file's own, every runtime must open it.
                    if precision == artifact.precision:
                        raise
                    continue
                with session:
                    run = session.bind(seeded_input(artifact.inputs, 1, SEED))
                    best, usual = rates(run, operation.flops, duration_s)
                yield Product(operation.name, name, precision, best, usual)


def _of_torch(threads: int, duration_s: float) -> Iterator[Product]:
    """PyTorch's own matrix product, whatever library it was built with."""
    import torch

    from cnnport.measuring.machine.operations import SIZES

    torch.set_num_threads(threads)
    for size in SIZES:
        one, other, made = (torch.rand(size, size) for _ in range(3))
        multiply = Blocking(partial(torch.mm, one, other, out=made))
        best, usual = rates(multiply, 2 * size**3, duration_s)
        yield Product(f"mm {size}x{size}x{size}", "torch", "fp32", best, usual)


def _of_numpy(duration_s: float) -> Iterator[Product]:
    """NumPy's, which is OpenBLAS in its wheels: no network runs on it, it is there to be compared with."""
    import numpy as np

    from cnnport.measuring.machine.operations import SIZES

    rng = np.random.default_rng(SEED)
    for size in SIZES:
        one, other, made = (rng.random((size, size), np.float32) for _ in range(3))
        multiply = Blocking(partial(np.matmul, one, other, out=made))
        best, usual = rates(multiply, 2 * size**3, duration_s)
        yield Product(f"matmul {size}x{size}x{size}", "numpy", "fp32", best, usual)


if __name__ == "__main__":
    answer_with(serve)
