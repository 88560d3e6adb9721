"""One file on several runtimes, here: ``python -m cnnport.measuring.studies.gpu_parity`` reads which as JSON.

The question has ``artifact``, ``variants`` (a list of ``runtime`` and ``settings``), ``references`` (places in that
list), ``batch``, ``seed``, ``device`` and ``threads``. The answer has one row for each variant: how far its outputs
are from those of each reference, whether two sessions that are to be deterministic give the same bits, and where the
graph's nodes were placed; or the reason why there is none of it. See ``answering``.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from cnnport.answering import answer_with, one_line
from cnnport.errors import CnnportError
from cnnport.measuring.case import artifact_from_json
from cnnport.measuring.record import Json

if TYPE_CHECKING:
    from cnnport.artifact import Artifact
    from cnnport.runtimes import Options
    from cnnport.runtimes.protocol import Array


def serve(question: Json) -> Json:
    """Run a file everywhere and compare. Raises ``FeedError`` where no input can be made for it."""
    from cnnport.golden import seeded_input
    from cnnport.runtimes import Options

    artifact = artifact_from_json(question["artifact"])
    feeds = seeded_input(artifact.inputs, question["batch"], question["seed"])
    options = Options(threads=question["threads"], device=question["device"])
    rows: list[Json] = []
    outputs: list[dict[str, Array]] = []
    for variant in question["variants"]:
        chosen = replace(options, settings=variant["settings"])
        row: Json = {**variant, "problem": None, "placement": None, "deterministic": None}
        found: dict[str, Array] = {}
        try:
            found = _outputs(artifact, variant["runtime"], chosen, feeds)
            if not variant["settings"]:
                row |= _character(artifact, variant["runtime"], chosen, feeds)
        except CnnportError as error:
            row["problem"] = one_line(error)
        rows.append(row)
        outputs.append(found)
    for row, found in zip(rows, outputs, strict=True):
        row["against"] = [
            {"reference": rows[place]["runtime"], **_distance(outputs[place], found)}
            for place in question["references"]
            if found and outputs[place]
        ]
    return {"rows": rows}


def _character(artifact: "Artifact", runtime: str, options: "Options", feeds: "dict[str, Array]") -> Json:
    """What is asked of a runtime as it is by itself: whether it can be deterministic, and where nodes are placed."""
    from cnnport.runtimes import require_runtime

    exact = replace(options, deterministic=True)
    try:
        first, second = (_outputs(artifact, runtime, exact, feeds) for _ in range(2))
        same: bool | str = all((first[name] == second[name]).all() for name in first)
    except CnnportError as error:
        same = one_line(error)
    return {"deterministic": same, "placement": require_runtime(runtime).placement(artifact, options)}


def _outputs(
    artifact: "Artifact", runtime: str, options: "Options", feeds: "dict[str, Array]"
) -> "dict[str, Array]":
    """Of the launch and not of ``run``: what is measured is to be what is compared."""
    from cnnport.runtimes import require_runtime

    with require_runtime(runtime).open(artifact, options) as session:
        launch = session.bind(feeds)
        # The third run of a recorded one is replayed for certain.
        for _ in range(3):
            launch()
            launch.wait()
        return launch.outputs()


def _distance(reference: "dict[str, Array]", candidate: "dict[str, Array]") -> Json:
    """Of the output that is furthest."""
    from cnnport.compare import compare

    worst = max(
        (compare(reference[name], candidate[name]) for name in reference), key=lambda found: found.error
    )
    return {
        "max_abs": worst.max_abs,
        "error": worst.error,
        "cosine": worst.cosine,
        "top1": worst.top1,
        "within": bool(worst.within()),
    }


if __name__ == "__main__":
    answer_with(serve)
