"""What it costs ONNX Runtime to take note of a kernel, which it counts as time of the kernel.

It writes down shapes and sizes before it reads the clock a second time, some microseconds for every kernel, which in
a network of many small kernels is as much as the network itself. So a row of small convolutions is run with notes and
without: what a kernel takes longer by its notes than it does in a run without them is the cost. The convolutions are
of many sizes, so that what the trace cuts off of microseconds is in it as it is for any network: half of one on the
average.
"""

from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING

from cnnport.measuring.measure import measure
from cnnport.measuring.profiling.probes.probe import Probe, Wish

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

    from cnnport.artifact import Artifact
    from cnnport.runtimes.protocol import Array

_KERNELS = 65
_RUNS = 100
_TURNS = 3

# Input channels of the convolutions: all from the first to the last, far apart in turn.
_LEAST, _MOST, _STEP = 3, 40, 11


def noting_ms(open_probe: "Callable[[Artifact, Wish], Probe]", wish: Wish, folder: Path) -> float:
    """Milliseconds for a kernel.

    Args:
        open_probe: Opens a file with notes.
        wish: How the file is run of which the notes are.
        folder: Where files can be written.
    """
    from cnnport.onnxfile import read_artifact
    from cnnport.runtimes import get_runtime

    artifacts = []
    for count in (1, _KERNELS):
        path = folder / f"row_{count}.onnx"
        path.write_bytes(_row(count).SerializeToString())
        artifacts.append(read_artifact(path))
    probe = open_probe(artifacts[1], wish)
    runtime = get_runtime(wish.runtime)
    with runtime.open(artifacts[0], wish.options) as one, runtime.open(artifacts[1], wish.options) as row:
        launches = [session.bind(_feeds()) for session in (one, row)]
        plain: list[list[float]] = [[], []]
        measure(probe, warmup_s=0.0, duration_s=0, min_iterations=_RUNS)
        for _ in range(_TURNS):
            for launch, found in zip(launches, plain, strict=True):
                samples = measure(launch, warmup_s=0.0, duration_s=0, min_iterations=_RUNS)
                found.append(median(samples) / 1e6)
            probe.begin()
            measure(probe, warmup_s=None, duration_s=0, min_iterations=_RUNS, max_iterations=_RUNS)
            probe.end()
    kernels = probe.kernels()
    probe.close()
    noted_ms = fmean(each.kernel.ms for each in kernels)
    run_ms = (median(plain[1]) - median(plain[0])) / (len(kernels) - 1)
    return max(0.0, noted_ms - run_ms)


def _feeds() -> "dict[str, Array]":
    import numpy as np

    return {"v0": np.ones((1, _LEAST, 1, 1), np.float32)}


def _row(count: int) -> "onnx.ModelProto":
    """Convolutions one behind another."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    sizes = [_LEAST + (_STEP * place) % (_MOST - _LEAST) for place in range(count + 1)]
    nodes, weights = [], []
    for place in range(count):
        nodes.append(
            helper.make_node(
                "Conv", [f"v{place}", f"w{place}", f"b{place}"], [f"v{place + 1}"], name=f"row/{place}"
            )
        )
        kernel = np.full((sizes[place + 1], sizes[place], 1, 1), 1 / sizes[place], np.float32)
        weights += [
            numpy_helper.from_array(kernel, f"w{place}"),
            numpy_helper.from_array(np.zeros(sizes[place + 1], np.float32), f"b{place}"),
        ]
    graph = helper.make_graph(
        nodes,
        "row",
        [helper.make_tensor_value_info("v0", TensorProto.FLOAT, [1, sizes[0], 1, 1])],
        [helper.make_tensor_value_info(f"v{count}", TensorProto.FLOAT, [1, sizes[count], 1, 1])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
