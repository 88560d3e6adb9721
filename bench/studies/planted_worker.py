"""One planted fault in one network, looked for in a process of its own; see ``layers``."""

import tempfile
import time
from pathlib import Path

import numpy as np
import onnx

from cnnport.agreement.layers import Side, localise
from cnnport.answering import answer_with
from cnnport.artifact import Artifact
from cnnport.measuring.studies.planted import IN_8_BITS, SOUND, planted
from cnnport.memory import peak_memory_bytes
from cnnport.onnxfile import load_model, read_artifact
from cnnport.process import Json
from cnnport.runtimes import Options

_MIB = 2**20


def _serve(question: Json) -> Json:
    """One fault in one network."""
    options = Options(threads=question["threads"])
    source = read_artifact(Path(question["file"]))
    with tempfile.TemporaryDirectory(prefix="cnnport-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        made = planted(question["fault"], load_model(Path(question["file"])))
        right = source
        if made.right is not None:
            right = _saved(made.right, folder / "right.onnx")
        wrong = _saved(made.model, folder / "candidate.onnx")
        count = len(made.model.graph.node)
        # The planting's own memory is not the search's.
        node, alone, emulated = made.node, made.alone, made.emulated
        del made
        if question["fault"] in IN_8_BITS:
            right = read_artifact(Path(question["file"].replace(".int8.", ".fp32.")))
        rng = np.random.default_rng(0)
        feeds = {
            spec.name: rng.normal(size=spec.fixed(question["samples"])).astype(np.float32)
            for spec in wrong.inputs
        }
        began = time.perf_counter()
        found = localise(
            Side(wrong if alone else right, options=options, alone=alone),
            Side(wrong, options=options, emulated=emulated),
            feeds,
            write=folder / "piece",
        )
        seconds = time.perf_counter() - began
        named = found.culprit.layer.nodes[-1] if found.culprit else None
        ok = named is None if question["fault"] in SOUND else bool(named and named.startswith(node))
        return {
            "ok": ok,
            "node": node,
            "named": named,
            "module": found.culprit.layer.module if found.culprit else None,
            "manner": found.culprit.manner if found.culprit else None,
            "nodes": count,
            "sites": found.effort.sites,
            "kernels": found.fusions.kernels,
            "fusions_kept": found.fusions.kept,
            "runs": found.effort.runs,
            "seconds": round(seconds, 1),
            "peak_mib": round(peak_memory_bytes() / _MIB),
        }


def _saved(model: onnx.ModelProto, path: Path) -> Artifact:
    path.write_bytes(model.SerializeToString())
    return read_artifact(path)


if __name__ == "__main__":
    answer_with(_serve)
