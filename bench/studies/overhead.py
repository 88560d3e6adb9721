"""What harness and adapter add: ``python -m cnnport.measuring.studies.overhead FILE``.

The same file on the same CPUs with the same threads and input values is timed by the harness, as ``bench --baseline``
does it, and by ``bare``: each round a fresh process of either, which take turns of some hundredths of a second;
which of the two goes first alternates. Standard error gets a table, standard output one JSON document.

The figures are medians over the rounds, of the ratio harness / bare of a round's p50s and of their difference. The
turns take out what the machine does to both; that each process has its own place in memory, some per cent faster or
slower than the next, only more rounds do. The smaller the network, the sharper the difference: it is some
microseconds at most.

``--call same`` takes one process for both, and one session, so that nothing but the loops and the adapter's launch
differs, see ``same_session``; that is the sharpest. ``--call profile`` holds our clock against onnxruntime's own
instead: what its profile says that the same runs took, see ``profiled``. ``--out`` adds what was found to a record,
``overhead.json``.
"""

import argparse
import json
import math
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from cnnport.errors import CheckFailedError, CnnportError
from cnnport.files import write_atomically
from cnnport.measuring.case import Case, make_cases
from cnnport.measuring.cpus import allowed_cpus, choose_cpus, cores_of
from cnnport.measuring.environment import read_environment
from cnnport.measuring.record import Json
from cnnport.measuring.run import question_of
from cnnport.measuring.studies.bare import RUNTIMES
from cnnport.measuring.studies.same_session import SIDES
from cnnport.measuring.worker import SEED
from cnnport.process import Conversation, Failure, ask, command_of

_BARE = "cnnport.measuring.studies.bare"
_TIMEOUT_BASE_S = 300.0

# Of a side in a round: short, so that both see the same machine.
_TURN_S = 0.06


@dataclass(frozen=True)
class Overhead:
    """Median latency of every round, by the harness and by the bare loop.

    Attributes:
        harness_s: One figure a round.
        bare_s: Of the same rounds.
    """

    harness_s: tuple[float, ...]
    bare_s: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Median over the rounds of harness over bare; 1 is no overhead."""
        return median(ours / bare for ours, bare in zip(self.harness_s, self.bare_s, strict=True))

    @property
    def extra_s(self) -> float:
        """Median over the rounds of harness minus bare: what one run takes longer."""
        return median(ours - bare for ours, bare in zip(self.harness_s, self.bare_s, strict=True))

    def to_json(self) -> Json:
        """All of it, in milliseconds but for what a run takes longer."""
        return {
            "harness_p50_ms": round(median(self.harness_s) * 1e3, 6),
            "bare_p50_ms": round(median(self.bare_s) * 1e3, 6),
            "ratio": round(self.ratio, 6),
            "extra_us": round(self.extra_s * 1e6, 3),
            "rounds": [
                {
                    "harness_p50_ms": round(ours * 1e3, 6),
                    "bare_p50_ms": round(bare * 1e3, 6),
                    "ratio": round(ours / bare, 6),
                }
                for ours, bare in zip(self.harness_s, self.bare_s, strict=True)
            ],
        }


def measure_overhead(
    case: Case, *, rounds: int, warmup_s: float, duration_s: float, call: str = "run"
) -> Overhead:
    """Time a case both ways.

    Args:
        case: Its runtime is one of ``bare.RUNTIMES``.
        rounds: How often each side gets a process.
        warmup_s: Of every process.
        duration_s: Of every process, all of its turns together.
        call: What the bare loop calls, ``run`` or ``bound``, see ``bare``; ``same``, see ``same_session``; or
            ``profile``, see ``profiled``.

    Raises:
        CheckFailedError: If either side fails.
    """
    harness_s: list[float] = []
    bare_s: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        feeds = Path(folder) / "feeds.npz"
        _write_feeds(case, feeds)
        for number in range(rounds):
            if call == "profile":
                ours_s, theirs_s = _profiled(case, feeds, warmup_s, duration_s)
                harness_s.append(ours_s)
                bare_s.append(theirs_s)
                continue
            if call == "same":
                ours_s, theirs_s = _in_one(case, warmup_s, duration_s, is_first=number % 2 == 0)
            else:
                ours_s, theirs_s = _in_turn(case, feeds, warmup_s, duration_s, call, is_first=number % 2 == 0)
            harness_s.append(ours_s)
            bare_s.append(theirs_s)
    return Overhead(tuple(harness_s), tuple(bare_s))


def main(arguments: list[str] | None = None) -> int:
    """Read the arguments, measure, write. Gives the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m cnnport.measuring.studies.overhead", description=__doc__.splitlines()[0]
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--runtime", choices=tuple(RUNTIMES), default="ort-cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--warmup", type=float, default=0.5, help="seconds in every process")
    parser.add_argument("--duration", type=float, default=2.0, help="seconds in every process")
    parser.add_argument(
        "--limit", type=float, help="exit with 1 if p50 is further than this fraction from bare"
    )
    parser.add_argument(
        "--limit-us",
        type=float,
        help="exit with 1 if a run takes longer than bare by more microseconds than this",
    )
    parser.add_argument(
        "--call", choices=("run", "bound", "same", "profile"), default="run", help="what it is held against"
    )
    parser.add_argument("--out", type=Path, help="a record to which this is added")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    if options.call == "profile" and options.runtime != "ort-cpu":
        parser.error("--call profile is for ort-cpu: no other runtime has such a profile")

    from rich.console import Console

    from cnnport.onnxfile import read_artifact

    try:
        (case,) = make_cases(
            [read_artifact(options.file)],
            [options.runtime],
            None if options.batch is None else [options.batch],
            None if options.threads is None else [options.threads],
        )
        overhead = measure_overhead(
            case,
            rounds=options.rounds,
            warmup_s=options.warmup,
            duration_s=options.duration,
            call=options.call,
        )
    except CnnportError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    Console(stderr=True).print(_table(case, overhead))
    row = {
        "model": case.artifact.model,
        "runtime": case.runtime,
        "batch": case.batch,
        "threads": case.threads,
        "call": options.call,
        **overhead.to_json(),
    }
    sys.stdout.write(json.dumps(row) + "\n")
    if options.out is not None:
        _add(row, options.out)
    far = options.limit is not None and not math.fabs(overhead.ratio - 1) <= options.limit
    late = options.limit_us is not None and not overhead.extra_s * 1e6 <= options.limit_us
    return int(far or late)


def _write_feeds(case: Case, target: Path) -> None:
    import numpy as np

    from cnnport.golden import seeded_input

    # The values of the worker's own input: speed may depend on them (denormals, zeros).
    np.savez(target, **seeded_input(case.artifact.inputs, case.batch, SEED))  # type: ignore[arg-type]


def _profiled(case: Case, feeds: Path, warmup_s: float, duration_s: float) -> tuple[float, float]:
    """Median of the same runs by our clock and by onnxruntime's."""
    timeout_s = _TIMEOUT_BASE_S + 10 * (warmup_s + duration_s)
    question = _question(case, feeds, warmup_s, duration_s, "")
    command = command_of("cnnport.measuring.studies.profiled")
    answer = _checked("profiled run", ask(command, question, threads=case.threads, timeout_s=timeout_s))
    return float(median(answer["samples_ns"])) / 1e9, float(median(answer["profiler_ns"])) / 1e9


def _in_turn(
    case: Case, feeds: Path, warmup_s: float, duration_s: float, call: str, *, is_first: bool
) -> tuple[float, float]:
    """Median of a round by the harness, which may have the first turn, and by the bare loop."""
    commands = {"harness": command_of("cnnport.measuring.turns"), "bare loop": command_of(_BARE)}
    questions = {
        "harness": question_of(case, warmup_s, 0.0, 1, warmup_max_s=warmup_s),
        "bare loop": _question(case, feeds, warmup_s, duration_s, call),
    }
    timeout_s = _TIMEOUT_BASE_S + 10 * (warmup_s + duration_s)
    order = ("harness", "bare loop") if is_first else ("bare loop", "harness")
    turns = max(1, round(duration_s / _TURN_S))
    slice_ = {"duration_s": duration_s / turns, "samples": True}
    samples_ns: dict[str, list[int]] = {side: [] for side in order}
    with ExitStack() as stack:
        asked = {
            side: stack.enter_context(Conversation(commands[side], threads=case.threads, timeout_s=timeout_s))
            for side in order
        }
        for side in order:
            _checked(side, asked[side].ask(questions[side]))
        for turn in range(turns):
            for side in order[:: -1 if turn % 2 else 1]:
                samples_ns[side] += _checked(side, asked[side].ask(slice_))["samples_ns"]
    return median(samples_ns["harness"]) / 1e9, median(samples_ns["bare loop"]) / 1e9


def _in_one(case: Case, warmup_s: float, duration_s: float, *, is_first: bool) -> tuple[float, float]:
    """The same of one session, in one process."""
    question = {
        **question_of(case, warmup_s, duration_s, 1, warmup_max_s=warmup_s),
        "turns": max(1, round(duration_s / _TURN_S)),
        "first": SIDES[0] if is_first else SIDES[1],
    }
    timeout_s = _TIMEOUT_BASE_S + 10 * (warmup_s + duration_s)
    command = command_of("cnnport.measuring.studies.same_session")
    answer = _checked("session", ask(command, question, threads=case.threads, timeout_s=timeout_s))
    return median(answer["harness_ns"]) / 1e9, median(answer["bare_ns"]) / 1e9


def _checked(side: str, answer: Json | Failure) -> Json:
    if isinstance(answer, Failure):
        raise CheckFailedError(f"the {side} gave no result: {answer.reason}")
    return answer


def _question(case: Case, feeds: Path, warmup_s: float, duration_s: float, call: str) -> Json:
    return {
        "runtime": case.runtime,
        "path": str(case.artifact.path),
        "feeds": str(feeds),
        "call": call,
        "threads": case.threads,
        "cpus": choose_cpus(case.threads, cores_of(allowed_cpus())),
        "warmup_s": warmup_s,
        "duration_s": duration_s,
    }


def _add(row: Json, path: Path) -> None:
    """Put a row into a record, in the place of one of the same circumstances. Raises ``OutputError``."""
    named = ("model", "runtime", "batch", "threads", "call")
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    others = [each for each in rows if any(each[name] != row[name] for name in named)]
    document = {"environment": read_environment().to_json(), "rows": [*others, row]}
    write_atomically(path, (json.dumps(document, indent=1) + "\n").encode())


def _table(case: Case, overhead: Overhead) -> object:
    from rich import box
    from rich.table import Table

    title = (
        f"p50 (ms)  {case.artifact.model} · {case.runtime} · batch {case.batch} · threads {case.threads}"
        f"\na run takes {overhead.extra_s * 1e6:.1f} µs longer"
    )
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("round", "harness", "bare loop", "ratio"):
        table.add_column(name, justify="right")
    for number, (ours, bare) in enumerate(zip(overhead.harness_s, overhead.bare_s, strict=True), 1):
        table.add_row(str(number), f"{ours * 1e3:.4f}", f"{bare * 1e3:.4f}", f"{ours / bare:.4f}")
    table.add_section()
    harness, bare = median(overhead.harness_s), median(overhead.bare_s)
    table.add_row("median", f"{harness * 1e3:.4f}", f"{bare * 1e3:.4f}", f"{overhead.ratio:.4f}")
    return table


if __name__ == "__main__":
    sys.exit(main())
