"""Results as plain values, for a file or standard output."""

from collections.abc import Sequence
from typing import Any

from cnnport.evaluation.evaluate import Evaluated
from cnnport.runtimes import get_runtime

_ESSENTIAL = ("model", "runtime", "top1", "top5", "count", "skipped", "precision", "file", "sha256", "data")


def document_of(results: Sequence[Evaluated]) -> dict[str, Any]:
    """One document of all results.

    Args:
        results: Of which at least one has no problem.

    Returns:
        The essentials of the first result; under ``evaluations`` all of every one, under ``not_evaluated`` why others
        have none.
    """
    rows = [_row(each) for each in results if each.problem is None]
    missing = [
        {
            "model": each.request.artifact.model,
            "file": each.request.artifact.path.name,
            "runtime": each.request.runtime,
            "reason": str(each.problem),
        }
        for each in results
        if each.problem is not None
    ]
    first = {name: rows[0][name] for name in _ESSENTIAL}
    return {"cnnport_evaluation": 1, **first, "evaluations": rows, "not_evaluated": missing}


def _row(result: Evaluated) -> dict[str, Any]:
    network, tally, metrics = result.network, result.tally, result.metrics
    assert network is not None
    assert tally is not None
    assert metrics is not None
    artifact = network.artifact
    done = metrics.count + tally.unreadable - result.resumed
    found = metrics.to_json()
    return {
        "model": artifact.model,
        "runtime": network.runtime,
        "top1": found.pop("top1"),
        "top5": found.pop("top5"),
        "count": found.pop("count"),
        "skipped": tally.unreadable,
        "precision": artifact.precision,
        "file": artifact.path.name,
        "sha256": artifact.sha256,
        "weights": artifact.metadata.get("cnnport.weights"),
        "runtime_version": get_runtime(network.runtime).version(),
        "threads": network.options.threads,
        "batch": result.batch,
        "data": result.data,
        "protocol": network.protocol.to_json(),
        "preprocess": network.preprocess.to_json(),
        "unreadable": [
            {"image": name, "error": reason} for _, (name, reason) in sorted(tally.reasons.items())
        ],
        **found,
        "resumed": result.resumed,
        "seconds": round(result.seconds, 3),
        "pictures_per_s": round(done / result.seconds, 2) if done > 0 and result.seconds > 0 else None,
    }
