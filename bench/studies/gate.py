"""Whether the gate keeps its word: ``python -m cnnport.measuring.studies.gate [FILE]``.

In turn, as often as asked: the same file under two names (A/A), which has to pass or be inconclusive, and a file with
some layers more that cost a tenth (planted), which has to be a regression, both at a limit of 5 %; and again while
something else keeps CPUs busy, where inconclusive is right too and only the opposite verdict is wrong. What the
planted layers really cost is measured before, on the quiet machine.

Every gate is that of ``cnnport bench --baseline``, with processes of its own. The record, ``gate.json``, is written
after each, and a second run goes on where the first one stopped.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import median

from cnnport.errors import CheckFailedError, CnnportError
from cnnport.files import write_atomically
from cnnport.measuring.case import make_cases
from cnnport.measuring.environment import read_environment
from cnnport.measuring.fields import Json
from cnnport.measuring.gate import MAX_ROUNDS, Baseline, bench_against, parse_limit
from cnnport.measuring.paired import measure_in_turn
from cnnport.measuring.progress import Tell, progress
from cnnport.measuring.run import Plan
from cnnport.onnxfile import load_model, read_artifact

RECORD = Path("bench/results/gate.json")
NETWORK = "shufflenet_v2_x0_5"
LIMIT = "p50+5%"

PLANTED = 0.10
"""What the layers more are to cost, of the whole network."""

# Between which the planted layers may turn out, so that the record is of a slowdown of a tenth.
_LEAST, _MOST = 0.09, 0.12

_PLAN = Plan(rounds=5, duration_s=0.75, warmup_s=0.1, warmup_max_s=0.1)
_TRIES = 8
# Of the planted layers.
_WIDTH = 64
# Ends with whoever started it, however that ends.
_BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the arguments, run, write; gives the exit code: 1 where more verdicts are wrong than may be."""
    parser = argparse.ArgumentParser(
        prog="python -m cnnport.measuring.studies.gate", description=__doc__.splitlines()[0]
    )
    parser.add_argument("file", type=Path, nargs="?", help=f"an .onnx file; {NETWORK} if omitted")
    parser.add_argument("--runs", type=int, default=50, help="of the A/A test and of the planted one")
    parser.add_argument("--loaded-runs", type=int, default=10, help="of both while the machine is busy")
    parser.add_argument("--busy", type=int, default=1, help="processes that keep it busy")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RECORD)
    parser.add_argument("--folder", type=Path, default=Path("build/gate"), help="where the files go")
    options = parser.parse_args(arguments)
    try:
        with progress() as tell:
            return _run(options, tell)
    except CnnportError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code


def _run(options: argparse.Namespace, tell: Tell) -> int:
    options.folder.mkdir(parents=True, exist_ok=True)
    record = _read(options.out)
    paths = _files(options, record, tell)
    wanted = [
        (scenario, number)
        for count, load in ((options.runs, ""), (options.loaded_runs, " under load"))
        for number in range(count)
        for scenario in (f"A/A{load}", f"planted{load}")
    ]
    for place, (scenario, number) in enumerate(wanted):
        done = record["runs"].setdefault(scenario, [])
        if number < len(done):
            continue
        tell(scenario, place, len(wanted))
        candidate = paths["A/A" if scenario.startswith("A/A") else "planted"]
        with _busy(options.busy if "load" in scenario else 0):
            done.append(_gate(paths["baseline"], candidate, options.threads, seed=number))
        record["counts"] = {name: _counted(runs) for name, runs in record["runs"].items()}
        write_atomically(options.out, (json.dumps(record, indent=1) + "\n").encode())
    sys.stdout.write(json.dumps(record["counts"]) + "\n")
    return int(is_wrong(record["counts"]))


def is_wrong(counts: Json) -> bool:
    """Whether more than one in fifty A/A tests is a regression, or fewer than nine in ten planted ones are.

    Under load no planted slowdown may pass either, nor more than one in fifty A/A tests be a regression.
    """
    for scenario, found in counts.items():
        total = sum(found[verdict] for verdict in ("pass", "regression", "inconclusive"))
        if scenario.startswith("A/A"):
            if found["regression"] > max(1, total // 50):
                return True
        elif "load" in scenario:
            if found["pass"] > max(1, total // 50):
                return True
        elif found["regression"] < 0.9 * total:
            return True
    return False


def _files(options: argparse.Namespace, record: Json, tell: Tell) -> dict[str, Path]:
    """The baseline, its copy, and the file with layers more, of which the record says what they cost."""
    source = options.file or _exported(options.folder / f"{NETWORK}.onnx")
    # What is no network is said before anything is copied.
    read_artifact(source)
    paths = {name: options.folder / f"{name}.onnx" for name in ("baseline", "copy", "planted")}
    shutil.copy(source, paths["baseline"])
    shutil.copy(source, paths["copy"])
    if record["planted"]:
        plant(paths["baseline"], paths["planted"], record["planted"]["layers"])
    else:
        record["planted"] = _planted(paths["baseline"], paths["planted"], options.threads, tell)
    record |= {
        "environment": read_environment().to_json(),
        "model": read_artifact(paths["baseline"]).model,
        "threads": options.threads,
        "limit": LIMIT,
        "plan": asdict(_PLAN),
        "max_rounds": MAX_ROUNDS,
        "busy": options.busy,
    }
    return {"baseline": paths["baseline"], "A/A": paths["copy"], "planted": paths["planted"]}


def _planted(baseline: Path, target: Path, threads: int, tell: Tell) -> Json:
    """Find how many layers cost a tenth. Raises ``CheckFailedError`` if no number does."""
    layers = 16
    for place in range(_TRIES):
        tell(f"{layers} layers more", place, _TRIES)
        plant(baseline, target, layers)
        base_s, other_s = measure_in_turn(
            [read_artifact(path) for path in (baseline, target)],
            batch=1,
            threads=threads,
            rounds=6,
            duration_s=1.0,
        )
        # What others take of the machine only ever makes a turn longer.
        cost = min(other_s) / min(base_s) - 1
        tell(f"{layers} layers more cost {cost:.1%}", place, _TRIES)
        if _LEAST <= cost <= _MOST:
            return {"layers": layers, "cost": round(cost, 4), "baseline_ms": round(min(base_s) * 1e3, 4)}
        layers = max(1, min(1000, round(layers * PLANTED / max(cost, PLANTED / 10))))
    raise CheckFailedError(f"no number of layers costs a tenth: {layers} cost {cost:.1%}")


def plant(source: Path, target: Path, layers: int) -> None:
    """Write a network with so many small layers more, which add next to nothing to its scores.

    They are small so that their number can be chosen finely.
    """
    import numpy as np
    import onnx
    from onnx import helper, numpy_helper

    model = load_model(source)
    graph = model.graph
    name = graph.output[0].name
    classes = graph.output[0].type.tensor_type.shape.dim[1].dim_value
    generator = np.random.default_rng(0)
    for node in graph.node:
        node.output[:] = ["planted_scores" if each == name else each for each in node.output]
    last = "planted_scores"
    sizes = [(classes, _WIDTH), *[(_WIDTH, _WIDTH)] * layers, (_WIDTH, classes)]
    for place, size in enumerate(sizes):
        weights = (generator.standard_normal(size) / _WIDTH).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(weights, f"planted_w{place}"))
        # Of two products in a row a runtime might make one.
        graph.node.append(helper.make_node("MatMul", [last, f"planted_w{place}"], [f"planted_m{place}"]))
        graph.node.append(helper.make_node("Relu", [f"planted_m{place}"], [f"planted_r{place}"]))
        last = f"planted_r{place}"
    graph.node.append(helper.make_node("Add", ["planted_scores", last], [name]))
    onnx.save(model, target)


def _exported(path: Path) -> Path:
    if not path.exists():
        from cnnport.exporting import export

        export(NETWORK, path, weights="random")
    return path


def _gate(baseline: Path, candidate: Path, threads: int, *, seed: int) -> Json:
    """One gate, in short. Raises ``CheckFailedError`` if it does not come to an end."""
    began = time.monotonic()
    (base,) = make_cases([read_artifact(baseline)], ["ort-cpu"], [1], [threads])
    (new,) = make_cases([read_artifact(candidate)], ["ort-cpu"], [1], [threads])
    plan = Plan(**{**asdict(_PLAN), "seed": seed})
    results = bench_against([new], [Baseline(base, None)], [parse_limit(LIMIT)], plan)
    if results.skipped:
        raise CheckFailedError(results.skipped[0].reason)
    (found,) = results.comparisons
    loads = [each.other_load for each in results.results[0].rounds if each.other_load is not None]
    return {
        "verdict": str(found.verdict),
        "ratio": round(found.ratio, 4),
        "low": round(found.low, 4),
        "high": round(found.high, 4),
        "rounds": found.rounds,
        "other_load": round(max(loads), 3) if loads else None,
        "seconds": round(time.monotonic() - began, 1),
    }


def _counted(runs: Sequence[Json]) -> Json:
    counts = Counter(run["verdict"] for run in runs)
    return {
        **{verdict: counts[verdict] for verdict in ("pass", "regression", "inconclusive")},
        "median_rounds": median(run["rounds"] for run in runs),
        "median_seconds": median(run["seconds"] for run in runs),
    }


def _read(path: Path) -> Json:
    if not path.exists():
        return {"planted": None, "counts": {}, "runs": {}}
    found: Json = json.loads(path.read_text(encoding="utf-8"))
    return found


@contextmanager
def _busy(count: int) -> Iterator[None]:
    """So many processes that do nothing but keep a CPU busy, while the block lasts."""
    started = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
