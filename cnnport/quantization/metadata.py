"""What a file in 8 bits says of itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cnnport.artifact import Artifact
from cnnport.calibration import Calibration
from cnnport.compare import spread_of
from cnnport.golden import seeded_input
from cnnport.metadata import (
    Golden,
    at_native_size,
    golden_of,
    golden_sample,
    golden_to_metadata,
    to_json,
)
from cnnport.onnxfile import CHECKSUM_KEY, INITIALIZERS_KEY, read_artifact
from cnnport.quantization.repair import Attempt
from cnnport.runtimes import Options, require_runtime

# Of integer kernels and float arithmetic with the same quantizers, either may round a sum up where the other rounds
# it down; a level more or less travels on.
_SLACK = 10.0
_LEAST_SLACK = 0.02

NO_CLAIM = "none: calibrated with random inputs"
"""What stands in the metadata where ranges are those of noise."""


def facts_of(best: Attempt, calibration: Calibration, target: str, is_held_out: bool) -> dict[str, Any]:
    """What was done, as plain JSON values."""
    judgement = best.judgement
    assert judgement is not None
    facts: dict[str, Any] = {
        "target": target,
        "steps": list(best.recipe.steps),
        "calibration": calibration.to_metadata(),
        "layers": dict(best.made.report.quantized),
        "float_layers": sorted(best.recipe.keep),
        "judged": {**judgement.to_json(), "held_out": is_held_out},
    }
    if calibration.is_random:
        facts["accuracy_claim"] = NO_CLAIM
    return facts


def restated(floats: Artifact, candidate: Path, facts: Mapping[str, Any]) -> dict[str, str]:
    """The metadata of the float file, with what is otherwise now.

    Args:
        floats: A file of ours.
        candidate: The graph in 8 bits, which gives the golden output: no runtime gives that of the float network.
        facts: As of ``facts_of``.
    """
    metadata = {
        key: value for key, value in floats.metadata.items() if key not in {CHECKSUM_KEY, INITIALIZERS_KEY}
    }
    golden = golden_of(floats)
    if golden is not None:
        metadata |= golden_to_metadata(_golden(floats, golden, candidate))
    return metadata | {
        "cnnport.precision": "int8",
        "cnnport.target": str(facts["target"]),
        "cnnport.quantization": to_json(dict(facts)),
    }


def _golden(floats: Artifact, golden: Golden, candidate: Path) -> Golden:
    """What the file answers in float arithmetic with its quantizers, and how far its integer kernels are off."""
    feeds = seeded_input(at_native_size(floats).inputs, golden.batch, golden.seed)
    answers = []
    for optimize in (False, True):
        with require_runtime("ort-cpu").open(read_artifact(candidate), Options(optimize=optimize)) as session:
            answers.append(session.run(feeds))
    exact, integer = answers
    outputs = {name: golden_sample(exact[name]) for name in golden.outputs}
    tolerance = {}
    for name, values in exact.items():
        if name in outputs:
            apart = float(np.abs(np.subtract(integer[name], values, dtype=np.float64)).max(initial=0.0))
            slack = max(_SLACK * apart, _LEAST_SLACK * spread_of(values), golden.tolerance[name])
            tolerance[name] = float(f"{slack:.3g}")
    return Golden(golden.seed, golden.batch, outputs, tolerance)
