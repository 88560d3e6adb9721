"""Some files against the first of them, for whoever decides whether a rewrite pays."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from cnnport.errors import CnnportError
from cnnport.measuring.paired import Ratio, measure_in_turn, ratio
from cnnport.measuring.record import Json
from cnnport.measuring.studies.graph_tools import perform
from cnnport.onnxfile import read_artifact

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Compared:
    """One file, held against the first.

    Attributes:
        path: The file.
        ops: Nodes by operator.
        difference: From the first file's outputs in their standard deviations, or why there is none, in words.
        agrees: Whether that is within an export's tolerance.
        turns_s: Median latency of every round.
        faster: How many times faster than the first; None where both hold the same graph, which is measured once.
    """

    path: Path
    ops: dict[str, int]
    difference: str
    agrees: bool
    turns_s: tuple[float, ...]
    faster: Ratio | None

    def to_json(self) -> Json:
        """All of it, in milliseconds."""
        return {
            "path": str(self.path),
            "ops": self.ops,
            "difference": self.difference,
            "agrees": self.agrees,
            "p50_ms": round(median(self.turns_s) * 1e3, 6),
            "turns_p50_ms": [round(each * 1e3, 6) for each in self.turns_s],
            "faster": None if self.faster is None else self.faster.to_json(),
        }


def compare(
    paths: Sequence[Path],
    *,
    batch: int,
    threads: int,
    rounds: int,
    duration_s: float,
    tell: Callable[[Path, int, int], None] | None = None,
) -> tuple[Compared, ...]:
    """Check and measure files.

    Args:
        paths: The first is what the others are held against. A file whose outputs differ is measured all the same.
        batch: As of ``measure_in_turn``.
        threads: As of ``measure_in_turn``.
        rounds: As of ``measure_in_turn``.
        duration_s: As of ``measure_in_turn``.
        tell: As of ``measure_in_turn``.

    Raises:
        CnnportError: If a file cannot be read or run.
    """
    from cnnport.graphs import count_ops
    from cnnport.measuring.studies.graph_digest import graph_digest
    from cnnport.onnxfile import load_model

    artifacts = [read_artifact(path) for path in paths]
    models = (load_model(path) for path in paths)
    facts = [(graph_digest(model), count_ops(model)) for model in models]
    differences = [_difference(paths[0], path, batch) for path in paths]
    once = list(dict.fromkeys(digest for digest, _ in facts))
    first_of = [next(place for place, (found, _) in enumerate(facts) if found == digest) for digest in once]
    measured = measure_in_turn(
        [artifacts[place] for place in first_of],
        batch=batch,
        threads=threads,
        rounds=rounds,
        duration_s=duration_s,
        tell=tell,
    )
    base_s = measured[0]
    rows = []
    for path, (digest, ops), (difference, agrees) in zip(paths, facts, differences, strict=True):
        turns_s = measured[once.index(digest)]
        faster = None if digest == once[0] else ratio(base_s, turns_s)
        rows.append(Compared(path, ops, difference, agrees, turns_s, faster))
    return tuple(rows)


def table(rows: Sequence[Compared], title: str) -> "Table":
    """The rows for people."""
    from rich import box
    from rich.table import Table

    drawn = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    drawn.add_column("file")
    for name in ("nodes", "p50 ms", "times faster (quartiles)", "difference in std"):
        drawn.add_column(name, justify="right")
    for place, row in enumerate(rows):
        same = "" if place == 0 else "the same graph"
        drawn.add_row(
            str(row.path),
            str(sum(row.ops.values())),
            f"{median(row.turns_s) * 1e3:.4f}",
            same if row.faster is None else str(row.faster),
            row.difference if row.agrees else f"DIFFERS: {row.difference}",
        )
    return drawn


def _difference(first: Path, other: Path, batch: int) -> tuple[str, bool]:
    try:
        answer = perform("inspect", first=str(first), other=str(other), batches=[batch])
    except CnnportError as error:
        return str(error), False
    error_in_std = answer["error_in_std"]
    return "not finite" if error_in_std is None else f"{error_in_std:.1e}", answer["agrees"]
