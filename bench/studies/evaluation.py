"""Whether decoding holds a runtime back: ``python -m cnnport.measuring.studies.evaluation [FILE]``.

Generated JPEGs of 224 x 224 pixels are evaluated with a network of the zoo, each case in a process of its own, in
turn, in rounds: decoding and preparing alone (with the runtime that computes nothing), running alone (over pictures
that are prepared already), and both. Alone, each has all CPUs, and then half of them, which is its part of the
machine where both work; decoding and running share CPUs here, so with all CPUs alone the sum of their times is the
least that both together can take, and the record says how near the evaluation comes.

Memory is read at every tenth of the evaluation. One evaluation is killed midway and taken up again, and has to give
what the others give. Wants a quiet machine.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from cnnport.answering import answer_with
from cnnport.errors import CheckFailedError, CnnportError
from cnnport.evaluation import Plan, Request, Status, document_of, evaluate
from cnnport.evaluation.data import open_pictures
from cnnport.evaluation.network import cpu_count, prepare_network
from cnnport.evaluation.scoring import Batch
from cnnport.evaluation.tally import Tally
from cnnport.measuring.environment import read_environment
from cnnport.measuring.record import Json
from cnnport.measuring.studies.pictures import write_pictures
from cnnport.measuring.studies.rows import write_document
from cnnport.onnxfile import read_artifact
from cnnport.process import Failure, ask, command_of
from cnnport.runtimes import Options, require_runtime

_NETWORK = "shufflenet_v2_x1_0"
_RUNTIME = "ort-cpu"
_COUNT = 10_000
_ROUNDS = 3
_SIDE = 224
_CLASSES = 10
_LIMIT_S = 3600.0
_KILL_AFTER = 0.4
# So many pictures are prepared before running alone; more would fill memory.
_PREPARED = 64
_NOT_COMPARED = ("resumed", "seconds", "pictures_per_s")


@dataclass(frozen=True)
class Case:
    """What one process does: ``decode``, ``run``, ``both``, or ``killed``, which ends itself midway."""

    what: str
    cpus: int
    file: str
    pictures: str
    count: int
    cache: str


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the record in short, and write the file."""
    parser = argparse.ArgumentParser(
        prog="python -m cnnport.measuring.studies.evaluation", description=__doc__.splitlines()[0]
    )
    parser.add_argument("file", type=Path, nargs="?", default=Path("bench/results/evaluation.json"))
    parser.add_argument("--network", default=_NETWORK, help="of the zoo, for pictures")
    parser.add_argument("--count", type=int, default=_COUNT, help="pictures")
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help="processes for each case")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        answer_with(_work)
        return 0
    # Not for the processes that are measured: it brings PyTorch.
    from cnnport.exporting import export

    try:
        environment = read_environment().to_json()
        with tempfile.TemporaryDirectory(prefix="cnnport-", ignore_cleanup_errors=True) as name:
            folder = Path(name)
            made = export(options.network, folder / "network.onnx", weights="random", target="ort")
            write_pictures(folder / "pictures", options.count, size=(_SIDE, _SIDE), classes=_CLASSES)
            found = measure(made.artifact.path, folder, options.count, options.rounds)
        write_document(options.file, {"environment": environment, "network": options.network, **found})
    except CnnportError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    print("\n".join(lines_of(found)))  # noqa: T201
    return 0


def measure(file: Path, folder: Path, count: int, rounds: int) -> Json:
    """Run every case once a round, and one that is killed.

    Args:
        file: The network.
        folder: With ``pictures`` in it; states are kept there too.
        count: How many pictures.
        rounds: Processes for each case.

    Returns:
        ``rates`` (pictures a second by case: ``decode``, ``run`` and ``both`` with all CPUs, ``decode_half`` and
        ``run_half``; all rounds and their median), ``of_slower`` (both over the slower alone with half of the CPUs),
        ``of_slower_all`` (with all CPUs), ``of_possible`` (over what sharing the CPUs leaves), ``memory_bytes`` (at
        every tenth), ``growth`` (of memory from the second tenth on), ``resumed`` (pictures) and ``identical``.

    Raises:
        CnnportError: If a process gives no answer.
        CheckFailedError: If two evaluations differ.
    """
    cpus = cpu_count()
    half = max(1, cpus // 2)
    cases = {
        "decode": ("decode", cpus),
        "run": ("run", cpus),
        "both": ("both", cpus),
        "decode_half": ("decode", half),
        "run_half": ("run", half),
    }
    answers: dict[str, list[Json]] = {name: [] for name in cases}

    def asked(what: str, allowed: int, cache: str) -> Json | Failure:
        case = Case(what, allowed, str(file), str(folder / "pictures"), count, str(folder / cache))
        command = (*command_of("cnnport.measuring.studies.evaluation"), "--worker")
        return ask(command, asdict(case), threads=allowed, timeout_s=_LIMIT_S)

    for number in range(rounds):
        for name in list(cases)[:: -1 if number % 2 else 1]:
            answer = asked(*cases[name], f"round{number}")
            if isinstance(answer, Failure):
                raise CnnportError(f"{name}: {answer.reason}")
            answers[name].append(answer)
    broken = asked("killed", cpus, "killed")
    if not isinstance(broken, Failure):
        raise CnnportError("the evaluation that was to be killed came to its end")
    resumed = asked("resume", cpus, "killed")
    if isinstance(resumed, Failure):
        raise CnnportError(f"after the kill: {resumed.reason}")
    results = [each["result"] for each in answers["both"]]
    if any(each != results[0] for each in results):
        raise CheckFailedError("two evaluations of the same pictures differ")
    rates = {
        name: [round(count / each["seconds"], 2) for each in own] for name, own in answers.items() if own
    }
    middle = {name: median(own) for name, own in rates.items()}
    memory = answers["both"][-1]["memory_bytes"]
    return {
        "runtime": _RUNTIME,
        "pictures": count,
        "cpus": cpus,
        "rounds": rounds,
        "rates": {name: {"median": middle[name], "rounds": own} for name, own in rates.items()},
        "of_slower": round(middle["both"] / min(middle["decode_half"], middle["run_half"]), 4),
        "of_slower_all": round(middle["both"] / min(middle["decode"], middle["run"]), 4),
        "of_possible": round(middle["both"] * (1 / middle["decode"] + 1 / middle["run"]), 4),
        "memory_bytes": memory,
        "growth": round(max(memory[2:]) / memory[1] - 1, 4) if len(memory) > 2 else None,
        "resumed": resumed["resumed"],
        "identical": resumed["result"] == results[0] and 0 < resumed["resumed"] < count,
    }


def lines_of(found: Json) -> list[str]:
    """A record for people."""
    rates = {name: each["median"] for name, each in found["rates"].items()}
    growth = found["growth"]
    return [
        f"all {found['cpus']} CPUs: decoding {rates['decode']:.1f}/s, running {rates['run']:.1f}/s, "
        f"both {rates['both']:.1f}/s: {100 * found['of_slower_all']:.1f} % of the slower alone, "
        f"{100 * found['of_possible']:.1f} % of what sharing leaves",
        f"half of them: decoding {rates['decode_half']:.1f}/s, running {rates['run_half']:.1f}/s: "
        f"both have {100 * found['of_slower']:.1f} % of the slower",
        f"memory {found['memory_bytes'][-1] / 2**20:.0f} MiB"
        + (f", {100 * growth:+.1f} % from the second tenth on" if growth is not None else ""),
        f"killed and resumed at {found['resumed']} of {found['pictures']}: "
        + ("identical" if found["identical"] else "DIFFERENT"),
    ]


def _work(question: Json) -> Json:
    case = Case(**question)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: case.cpus])
    os.environ["CNNPORT_CACHE"] = case.cache
    return _run_alone(case) if case.what == "run" else _evaluate(case)


def _evaluate(case: Case) -> Json:
    """The whole, or without a runtime; ``killed`` does not come back."""
    memory: list[int] = []

    def watch(status: Status) -> None:
        if case.what == "killed" and status.done >= _KILL_AFTER * status.total:
            os.kill(os.getpid(), 9)
        while len(memory) < 10 * status.done // status.total:
            memory.append(_resident_bytes())

    runtime = "null" if case.what == "decode" else _RUNTIME
    request = Request(read_artifact(Path(case.file)), runtime, Options())
    plan = Plan(case.pictures, fresh=case.what in {"decode", "both"})
    began = time.perf_counter()
    (found,) = evaluate([request], plan, on_status=watch)
    seconds = time.perf_counter() - began
    row = document_of([found])["evaluations"][0]
    result = json.dumps({name: value for name, value in row.items() if name not in _NOT_COMPARED})
    return {"seconds": seconds, "memory_bytes": memory, "result": result, "resumed": found.resumed}


def _run_alone(case: Case) -> Json:
    """As many runs as an evaluation makes, side by side as there, over a few batches that are prepared before."""
    artifact = read_artifact(Path(case.file))
    network = prepare_network(artifact, _RUNTIME, Options(), Plan("").protocol)
    rows = network.batch(None)
    pictures = open_pictures(case.pictures, network.classes)
    ready = [
        Batch(pictures, range(start, start + rows), network.protocol, network.preprocess)
        for start in range(0, min(_PREPARED, case.count - rows + 1), rows)
    ]
    with (
        require_runtime(_RUNTIME).open(artifact, network.options) as session,
        ThreadPoolExecutor(network.lanes) as executor,
    ):

        def run(number: int) -> Tally:
            return ready[number % len(ready)].tally(session, network, rows)

        began = time.perf_counter()
        for _ in executor.map(run, range(-(-case.count // rows))):
            pass
        return {"seconds": time.perf_counter() - began}


def _resident_bytes() -> int:
    """Of this process now; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    sys.exit(main())
