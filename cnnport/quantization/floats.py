"""The float graph that is quantized: with the passes of its target, and then with those that 8 bits want."""

from pathlib import Path

from cnnport.artifact import Artifact
from cnnport.graphs.quantize import PREPARATION
from cnnport.offload import compact, set_aside
from cnnport.onnxfile import load_model
from cnnport.verified_passes import VerifiedPasses


def write_prepared(floats: Artifact, target: str, folder: Path, path: Path) -> None:
    """Write the graph whose values are calibrated.

    Args:
        floats: A file with the passes of the target.
        target: A key of ``PREPARATION``.
        folder: Gets the weights.
        path: In that folder; where to write.

    Raises:
        CheckFailedError: If the passes change what the graph computes.
    """
    model = load_model(floats.path)
    set_aside(model, folder, "prepared.data")
    model = compact(model)
    if PREPARATION[target]:
        passes = VerifiedPasses(folder, path, floats, costs=False, on_step=lambda _: None)
        model = passes.optimize(model, PREPARATION[target], frozenset())
    path.write_bytes(model.SerializeToString())
