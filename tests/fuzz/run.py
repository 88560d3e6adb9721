"""Cases in numbers: a run over many of them, in processes side by side, and what it found."""

import importlib
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

import onnx
from onnx import ModelProto

from cnnport.graphs import PASSES, Pass
from cnnport.graphs.passes import OPPOSITES, compatible, name_of
from fuzz import backend
from fuzz.choices import Seeded
from fuzz.networks import feeds_of, network
from fuzz.properties import Broken, Subject, hold, idle_on
from fuzz.reduce import reduced

_CHUNK = 10


@dataclass(frozen=True)
class Finding:
    """A property that did not hold.

    Attributes:
        case: Which graph.
        passes: What ran on it, by name.
        kind: Which property, in a word or two.
        detail: What was seen.
    """

    case: str
    passes: tuple[str, ...]
    kind: str
    detail: str


@dataclass
class Tally:
    """What a run came upon; tallies of parts add up.

    Attributes:
        cases: Graphs.
        doubtful: How often float64 decided.
        not_run: Graphs that no runtime here runs, whose numbers nobody compared.
        changed: Graphs that some pass rewrote.
        alone: By pass, the graphs in which it rewrote something when it ran alone.
        together: The same, when all ran.
        operators: By operator, the graphs that have it.
        findings: What did not hold.
    """

    cases: int = 0
    doubtful: int = 0
    not_run: int = 0
    changed: int = 0
    alone: Counter[str] = field(default_factory=Counter)
    together: Counter[str] = field(default_factory=Counter)
    operators: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        self.cases += other.cases
        self.doubtful += other.doubtful
        self.not_run += other.not_run
        self.changed += other.changed
        self.alone += other.alone
        self.together += other.together
        self.operators += other.operators
        self.findings += other.findings


def passes_of(more: Sequence[str]) -> tuple[Pass, ...]:
    """Those of the table, and others that lie in ``cnnport.graphs`` already, by name."""
    others = [
        getattr(importlib.import_module(f"cnnport.graphs.{name}"), name.rpartition(".")[2]) for name in more
    ]
    return (*PASSES, *(each for each in others if each not in PASSES))


def sets_of(passes: Sequence[Pass]) -> tuple[tuple[Pass, ...], ...]:
    """The passes that may run in one go: of two that undo each other, once the one and once the other."""
    latter = {other for one, other in OPPOSITES if one in passes and other in passes}
    return tuple(dict.fromkeys((compatible(passes), tuple(each for each in passes if each not in latter))))


def model_of(seed: int, case: int) -> ModelProto:
    """The network of a number."""
    return network(Seeded(seed, case))


def subject_of(model: ModelProto) -> Subject:
    """The network with two batches, or two pictures where its batch is fixed."""
    return Subject(model, [feeds_of(model, 1, 0), feeds_of(model, 3, 1)])


def examine(name: str, subject: Subject, passes: Sequence[Pass]) -> Tally:
    """Each pass alone, and all of them together that may be."""
    tally = Tally(cases=1)
    tally.operators.update({node.op_type for node in subject.model.graph.node})
    alone, together = set[str](), set[str]()
    try:
        idle = idle_on(subject, passes)
    except Broken as broken:
        tally.findings.append(Finding(name, tuple(map(name_of, passes)), broken.kind, str(broken)))
        return tally
    passes_at_work = [each for each in passes if each not in idle]
    for group in (*([each] for each in passes_at_work), *sets_of(passes)):
        names = tuple(name_of(each) for each in group)
        try:
            rewrites = hold(subject, group)
        except Broken as broken:
            tally.findings.append(Finding(name, names, broken.kind, str(broken)))
            continue
        except Exception:  # a fault of the check itself is a finding too
            tally.findings.append(Finding(name, names, "check failed", traceback.format_exc(limit=-3)))
            continue
        (alone if len(group) == 1 else together).update(each for each, count in rewrites.items() if count)
    tally.alone.update(alone)
    tally.together.update(together)
    tally.changed = int(bool(alone | together))
    tally.doubtful = subject.doubtful
    tally.not_run = int(bool(tally.changed) and subject.outputs is None)
    return tally


def _random_part(seed: int, first: int, last: int, more: tuple[str, ...]) -> Tally:
    total, passes = Tally(), passes_of(more)
    for case in range(first, last):
        total.add(examine(f"{seed}:{case}", subject_of(model_of(seed, case)), passes))
    return total


def random_cases(seed: int, first: int, last: int, more: Sequence[str], jobs: int) -> Iterator[Tally]:
    """The networks of a seed from one number to another, in parts, in order."""
    starts = range(first, last, _CHUNK)
    parts = [(seed, start, min(start + _CHUNK, last), tuple(more)) for start in starts]
    if jobs == 1:
        for part in parts:
            yield _random_part(*part)
        return
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))
    try:
        yield from pool.map(_random_part, *zip(*parts, strict=True))
    finally:
        # Whoever has seen enough does not wait for the rest.
        pool.shutdown(cancel_futures=True)


def backend_cases(more: Sequence[str]) -> Iterator[Tally]:
    """Every case that the onnx package has, in its variants."""
    passes = passes_of(more)
    nodes = backend.from_nodes(backend.node_modules())
    for case in chain(backend.from_files(), nodes, backend.light()):
        for variant in (*backend.variants(case), *backend.neighbours(case)):
            feeds = [] if variant.feeds is None else [variant.feeds]
            yield examine(variant.name, Subject(variant.model, feeds), passes)


def worth_showing(findings: Sequence[Finding]) -> list[Finding]:
    """The first of each kind from each pass: the others tend to be the same once more."""
    first = {(finding.passes, finding.kind): finding for finding in reversed(findings)}
    return [finding for finding in findings if finding in first.values()]


def write_finding(finding: Finding, seed: int, more: Sequence[str], folder: Path) -> Path:
    """Leave a small graph that shows a finding of ``random_cases``: a file and a page of text."""
    passes = [each for each in passes_of(more) if name_of(each) in finding.passes]
    case = int(finding.case.partition(":")[2])

    def fails(model: ModelProto) -> bool:
        try:
            hold(subject_of(model), passes)
        except Broken as broken:
            return broken.kind == finding.kind
        except Exception:  # a graph on which the check itself does not work is none to show
            return False
        return False

    small = reduced(model_of(seed, case), fails)
    folder.mkdir(parents=True, exist_ok=True)
    group = finding.passes[0] if len(passes) == 1 else "together"
    path = folder / f"{group}_{finding.kind.replace(' ', '_')}_{seed}_{case}"
    onnx.save(small, path.with_suffix(".onnx"))
    bare = ModelProto()
    bare.CopyFrom(small)
    for tensor in bare.graph.initializer:
        if tensor.dims:
            tensor.ClearField("raw_data")
    text = f"{', '.join(finding.passes)}\n\n{finding.detail}\n\n```\n{onnx.printer.to_text(bare)}\n```\n"
    path.with_suffix(".md").write_text(text, encoding="utf-8")
    return path.with_suffix(".onnx")
