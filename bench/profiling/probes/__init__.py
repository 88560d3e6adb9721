"""How each runtime is asked what it does within a run: one file for each, and the table of them.

A probe is a launch whose runs the runtime notes; runs between ``begin`` and ``end`` are a turn.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from cnnport.measuring.profiling.probes import openvino, ort, torch, trt
from cnnport.measuring.profiling.probes.probe import Probe, Wish

if TYPE_CHECKING:
    from cnnport.artifact import Artifact

PROBES: Mapping[str, Callable[["Artifact", Wish], Probe]] = {
    "ort-cpu": ort.open_cpu,
    "ort-cuda": ort.open_cuda,
    "openvino": openvino.open_probe,
    "trt": trt.open_probe,
    "trt-rtx": trt.open_probe,
    "torch-cpu": torch.open_probe,
    "torch-cuda": torch.open_probe,
}
"""By runtime. Whoever opens one has seen that the runtime is available.

Raises:
    ArtifactError: If the runtime cannot load the file.
    CnnportError: If a setting is wrong.
"""

__all__ = ["PROBES", "Probe", "Wish"]
