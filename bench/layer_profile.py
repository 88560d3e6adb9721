"""What a runtime says of its own kernels, in a process of its own: ``python -m cnnport.bench.layer_profile``.

Two runtimes say it: ONNX Runtime writes a trace of every kernel of every run, OpenVINO counts within a request.
Noting it takes time of its own for every kernel, so that these figures are for telling where time goes and never for
how much of it there is.
"""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from cnnport.bench.answering import answer_with
from cnnport.bench.case import Case, artifact_from_json
from cnnport.bench.paired import refusal
from cnnport.bench.process import Failure, ask, command_of
from cnnport.bench.record import Json
from cnnport.bench.run import question_of, unfit
from cnnport.bench.worker import SEED, pin
from cnnport.errors import CnnportError

if TYPE_CHECKING:
    from cnnport.artifact import Artifact

WARMUP = 3
"""Runs that do not count: the first allocate and fill caches."""

RUNS = 15
"""Runs that count."""

_TIMEOUT_S = 600.0

_EIGHT_BITS = frozenset({"i8", "int8", "u8", "uint8"})

# Behind the name of a node in ONNX Runtime's trace; older versions also noted waits before and after.
_KERNEL = "_kernel_time"
_RUN = "model_run"


@dataclass(frozen=True)
class Kernel:
    """Something that a runtime runs as one, which may be several nodes of the file or none.

    Attributes:
        names: Of nodes, or of values that they write, as the runtime calls them.
        operator: What the runtime calls what it computes.
        ms: In one run, the median.
        integer: Whether it reads 8-bit integers.
    """

    names: tuple[str, ...]
    operator: str
    ms: float
    integer: bool


def profile(case: Case) -> tuple[Kernel, ...]:
    """The kernels of a file, in the order in which they run first.

    Raises:
        CnnportError: If the runtime says nothing of its kernels, or the file does not take the batch.
        RuntimeMissingError: If the runtime is not available.
        CheckFailedError: If the process fails.
    """
    if case.runtime not in _PROFILES:
        raise CnnportError(
            f"{case.runtime} does not say how long its kernels take: {', '.join(_PROFILES)} do"
        )
    if skipped := unfit(case):
        raise refusal(case, skipped.reason, skipped.exit_code)
    question = question_of(case, 0.0, 0.0, RUNS)
    command = command_of("cnnport.bench.layer_profile")
    answer = ask(command, question, threads=case.threads, timeout_s=_TIMEOUT_S)
    if isinstance(answer, Failure):
        raise refusal(case, answer.reason, answer.exit_code)
    return tuple(
        Kernel(tuple(row["names"]), row["operator"], row["ms"], row["integer"]) for row in answer["kernels"]
    )


def ort_kernels(events: Sequence[Json], warmup: int = WARMUP) -> tuple[Kernel, ...]:
    """The kernels in a trace of ONNX Runtime's.

    Args:
        events: As its JSON has them, times in microseconds.
        warmup: How many of the first runs do not count.
    """
    runs = sorted((event["ts"], event["ts"] + event["dur"]) for event in events if event["name"] == _RUN)[
        warmup:
    ]
    totals: list[dict[tuple[str, str, str], float]] = [{} for _ in runs]
    integer: dict[tuple[str, str, str], bool] = {}
    kernels = (event for event in events if event.get("cat") == "Node" and event["name"].endswith(_KERNEL))
    place = 0
    for event in sorted(kernels, key=lambda event: event["ts"]):
        while place < len(runs) and event["ts"] > runs[place][1]:
            place += 1
        if place == len(runs) or event["ts"] < runs[place][0]:
            continue
        facts = event["args"]
        key = event["name"].removesuffix(_KERNEL), facts["op_name"], str(facts.get("node_index"))
        # What stands in a loop runs several times.
        totals[place][key] = totals[place].get(key, 0.0) + event["dur"]
        integer.setdefault(key, _reads_eight_bits(facts.get("input_type_shape", ())))
    return tuple(
        Kernel((key[0],), key[1], median(run.get(key, 0.0) for run in totals) / 1e3, reads)
        for key, reads in integer.items()
    )


def _reads_eight_bits(inputs: Sequence[Mapping[str, Any]]) -> bool:
    return bool(inputs) and not _EIGHT_BITS.isdisjoint(inputs[0])


def _named(artifact: "Artifact", folder: Path) -> "Artifact":
    """The file, or a copy in which every node bears its own name or that of what it writes: a trace has no other."""
    from cnnport.onnxfile import load_model

    if all(node.name for node in load_model(artifact.path, external_data=False).graph.node):
        return artifact
    model = load_model(artifact.path)
    for node in model.graph.node:
        node.name = node.name or next(filter(None, node.output), "")
    path = folder / "named.onnx"
    path.write_bytes(model.SerializeToString())
    return replace(artifact, path=path)


def _profile_ort(artifact: "Artifact", question: Json) -> tuple[Kernel, ...]:
    from cnnport.golden import seeded_input
    from cnnport.runtimes import Options
    from cnnport.runtimes.ort import CPU, load, session_options

    settings = session_options(Options(threads=question["threads"]))
    settings.enable_profiling = True
    with tempfile.TemporaryDirectory(prefix="cnnport-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        settings.profile_file_prefix = str(folder / "profile")
        session = load(_named(artifact, folder), settings, [CPU])
        feeds = seeded_input(artifact.inputs, question["batch"], SEED)
        for _ in range(WARMUP + RUNS):
            session.run(None, feeds)
        return ort_kernels(json.loads(Path(session.end_profiling()).read_text(encoding="utf-8")))


def _profile_openvino(artifact: "Artifact", question: Json) -> tuple[Kernel, ...]:
    from cnnport.golden import seeded_input
    from cnnport.runtimes import Options
    from cnnport.runtimes.build import for_batch
    from cnnport.runtimes.openvino.choices import choose
    from cnnport.runtimes.openvino.network import compile_network, read

    choices = choose(Options(threads=question["threads"], settings=question["settings"]))
    choices = replace(choices, properties={**choices.properties, "PERF_COUNT": True})
    artifact = for_batch(artifact, choices.batch)
    network = compile_network(artifact, read(artifact), choices)
    feeds = seeded_input(artifact.inputs, question["batch"], SEED)
    arrays = {place: feeds[spec.name] for place, spec in zip(network.inputs, artifact.inputs, strict=True)}
    request = network.compiled.create_infer_request()
    unit = timedelta(milliseconds=1)
    seen: list[dict[str, float]] = []
    for _ in range(WARMUP + RUNS):
        request.infer(arrays)
        seen.append({entry.node_name: entry.real_time / unit for entry in request.profiling_info})
    return tuple(
        Kernel(
            layer.nodes or (layer.name,),
            layer.kind,
            median(run.get(layer.name, 0.0) for run in seen[WARMUP:]),
            bool(layer.reads) and layer.reads[0] in _EIGHT_BITS,
        )
        for layer in network.layers
    )


_PROFILES: Mapping[str, Callable[["Artifact", Json], tuple[Kernel, ...]]] = {
    "ort-cpu": _profile_ort,
    "openvino": _profile_openvino,
}


def _serve(question: Json) -> Json:
    pin(question["cpus"])

    from cnnport.runtimes import require_runtime

    require_runtime(question["runtime"])
    kernels = _PROFILES[question["runtime"]](artifact_from_json(question["artifact"]), question)
    return {"kernels": [asdict(kernel) for kernel in kernels]}


if __name__ == "__main__":
    answer_with(_serve)
