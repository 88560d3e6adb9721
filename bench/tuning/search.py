"""The search: files are made, all candidates race for a moment, those that are accurate enough and fast go on."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cnnport.artifact import Artifact
from cnnport.errors import ArtifactError, CnnportError
from cnnport.files import sha256_of, write_atomically
from cnnport.measuring.record import Json
from cnnport.measuring.tuning.accuracy import Accuracy, AccuracyCheck
from cnnport.measuring.tuning.building import (
    Source,
    build_float,
    build_half,
    build_int8,
    check_source,
    graph_hash,
)
from cnnport.measuring.tuning.candidate import PRECISIONS, Candidate, Variant
from cnnport.measuring.tuning.deciding import winner_of
from cnnport.measuring.tuning.identity import identity_of
from cnnport.measuring.tuning.notes import notes_of
from cnnport.measuring.tuning.offers import (
    BASE,
    Offer,
    candidates_of,
    offers_of,
    plain_of,
    threads_of,
    variants_of,
)
from cnnport.measuring.tuning.racing import MOST_ROUNDS, STAGES, Race, Stage, groups_of, race, why_not
from cnnport.measuring.tuning.state import State
from cnnport.measuring.tuning.tuned import Tuned, Wishes
from cnnport.onnxfile import read_artifact


class _TimeUsedUpError(Exception):
    """The budget does not allow another step."""


def tune(
    wishes: Wishes,
    base: Artifact,
    folder: Path,
    *,
    on_step: Callable[[str], None] = lambda _: None,
    on_progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Tuned:
    """Search; a search that was killed goes on where its folder says that it was.

    Args:
        wishes: What to find.
        base: The float32 file for any runtime.
        folder: Keeps the files and every finished step.
        on_step: Told the name of each step when it begins.
        on_progress: Told how far a step is, and how far it goes.

    Raises:
        CnnportError: On wrong usage or input; each subclass says what.
        RuntimeMissingError: If a runtime that was asked for is not here.
        CheckFailedError: If the plain file cannot be measured.
    """
    return _Search(wishes, base, folder, on_step, on_progress).run()


class _Search:
    """One search."""

    def __init__(
        self,
        wishes: Wishes,
        base: Artifact,
        folder: Path,
        on_step: Callable[[str], None],
        on_progress: Callable[[int, int], None],
    ) -> None:
        check_source(base)
        if not (math.isfinite(wishes.budget_s) and wishes.budget_s > 0):
            raise CnnportError(f"--budget is in seconds and more than 0, not {wishes.budget_s:g}")
        self._wishes, self._base = wishes, base
        self._on_step, self._on_progress = on_step, on_progress
        self._offers: tuple[Offer, ...] = offers_of(wishes.runtimes)
        self._threads = threads_of(wishes.threads)
        self._plain = plain_of(self._offers, self._threads, wishes.batch)
        kind = base.metadata.get("cnnport.weights", wishes.weights)
        weights = kind if wishes.weights == "auto" else wishes.weights
        self._source = Source(wishes.model, base, weights)
        on_step("float answers")
        self._check = AccuracyCheck(base, wishes.calibration, wishes.max_drop)
        self._state = State(folder, identity_of(wishes, self._source, self._check.key, self._plain))
        self._candidates: dict[str, Candidate] = {}
        self._outcomes: dict[str, str] = {}
        self._files: dict[str, Artifact] = {}

    def run(self) -> Tuned:
        is_complete = True
        try:
            self._take_base()
            for precisions in self._groups():
                self._search(precisions)
                if self._reaches_target():
                    break
        except _TimeUsedUpError:
            is_complete = False
        return self._decided(is_complete)

    def _groups(self) -> tuple[tuple[str, ...], ...]:
        """What is searched before the next is looked at: with a latency to reach, the most accurate first."""
        if self._wishes.target_ms is None:
            return (PRECISIONS,)
        return tuple(PRECISIONS[: number + 1] for number in range(len(PRECISIONS)))

    def _search(self, precisions: Sequence[str]) -> None:
        """Make and race everything that computes in some precisions."""
        for variant in variants_of(self._offers):
            if variant.precision in precisions:
                self._build(variant)
        made = [Variant(*name.split(".")) for name in self._files]
        every = candidates_of(self._offers, made, self._threads, self._wishes.batch)
        tried = [each for each in every if each.computes in precisions]
        self._candidates |= {each.name: each for each in (self._plain, *tried)}
        for each in tried:
            self._probe(each)
        left = [each for each in self._candidates.values() if each.name != self._plain.name]
        # The plain one runs in every race; here it gets figures even if nothing else can be tried.
        self._race([self._plain], STAGES[0])
        for stage in STAGES:
            self._race(left, stage)
            if stage is not STAGES[-1]:
                left = self._going_on(left, stage)
        self._settle(left)

    def _build(self, variant: Variant) -> None:
        """Make a file, or note why it cannot be made; once."""
        name = variant.name
        if not self._state.is_built(name):
            with self._step(f"make {name}"):
                self._state.built[name] = self._built(variant)
        row = self._state.built[name]
        if "sha256" in row and "same_as" not in row:
            self._files[name] = read_artifact(self._state.path_of(name))

    def _built(self, variant: Variant) -> Json:
        path = self._state.path_of(variant.name)
        floats = self._state.path_of(Variant(variant.target, "fp32").name)
        if variant.precision == "int8" and self._wishes.calibration is None:
            return {"problem": "8 bits need samples: --calibration DIR, digits, or random:N"}
        try:
            if variant.precision != "fp32" and not floats.is_file():
                build_float(self._source, Variant(variant.target, "fp32"), floats, on_step=self._on_step)
            if variant.precision == "fp32":
                build_float(self._source, variant, path, on_step=self._on_step)
            elif variant.precision == "int8":
                assert self._wishes.calibration is not None
                budget = self._wishes.max_drop if self._check.counts_classes else None
                build_int8(
                    floats,
                    variant,
                    path,
                    self._wishes.calibration,
                    budget,
                    on_step=self._on_step,
                    on_progress=self._on_progress,
                )
            else:
                build_half(floats, variant, path, on_step=self._on_step)
        except CnnportError as error:
            return {"problem": " ".join(str(error).split())}
        row: Json = {"sha256": sha256_of(path), "graph": graph_hash(path)}
        for other, known in self._state.built.items():
            if known.get("graph") == row["graph"] and "same_as" not in known and other != variant.name:
                row["same_as"] = other
        return row

    def _take_base(self) -> None:
        """The base is what was given, not made again, so that what wins is at worst that."""
        name = BASE.name
        if not self._state.is_built(name):
            with self._step(f"make {name}"):
                path = self._state.path_of(name)
                write_atomically(path, self._base.path.read_bytes())
                if data := _data_of(self._base.path):
                    raise ArtifactError(
                        f"{self._base.path} has its weights in {data}: files of one part are tuned"
                    )
                self._state.built[name] = {"sha256": sha256_of(path), "graph": graph_hash(path)}
        self._files[name] = read_artifact(self._state.path_of(name))

    def _probe(self, candidate: Candidate) -> None:
        """Find out what a runtime refuses, such as a precision that the CPU has not, before it is raced."""
        known = self._state.probed.get(candidate.run)
        if known is None:
            with self._step(f"open {candidate.run}"):
                known = why_not(candidate, self._files[candidate.variant.name])
                self._state.probed[candidate.run] = known
        if known:
            self._state.failed[candidate.name] = known

    def _race(self, candidates: Sequence[Candidate], stage: Stage) -> None:
        """Measure those that this stage does not know yet."""
        done = self._state.raced.setdefault(stage.name, {})
        left = [each for each in candidates if each.name not in done and each.name not in self._state.failed]
        # Finalists are held against each other, so they run side by side or not at all.
        if stage is STAGES[-1] and left:
            left = [each for each in candidates if each.name not in self._state.failed]
        groups = groups_of(left)
        for number, group in enumerate(groups):
            with self._step(f"{stage.name}, {', '.join(each.name for each in group)}"):
                self._on_progress(number, len(groups))
                found = race(self._plain, group, self._files, stage, batch=self._wishes.batch)
                for name, each in found.items():
                    if isinstance(each, str):
                        self._state.failed[name] = " ".join(each.split())
                    else:
                        done[name] = each.to_json()

    def _settle(self, finalists: Sequence[Candidate]) -> None:
        """Race on while one of them looks faster than the winner, and noise does not let it be told."""
        stage = STAGES[-1]
        done = self._state.raced[stage.name]
        while self._is_open(finalists):
            left = [each for each in finalists if each.name not in self._state.failed]
            with self._step(f"{stage.name} goes on, {', '.join(each.name for each in left)}"):
                found = race(self._plain, left, self._files, stage, batch=self._wishes.batch)
                for name, each in found.items():
                    if isinstance(each, str):
                        self._state.failed[name] = " ".join(each.split())
                    else:
                        done[name] = Race.from_json(stage.name, done[name]).plus(each).to_json()

    def _is_open(self, finalists: Sequence[Candidate]) -> bool:
        races, winner = self._races(), self._winner()[0]
        held = races[winner.name]
        # Each stage begins with the plain one's turns, so its record is as long as the final was.
        if len(races[self._plain.name].plain_s) >= MOST_ROUNDS or held.stage != STAGES[-1].name:
            return False
        return any(
            races[each.name].against(held)[0] > 1
            for each in finalists
            if each.name != winner.name and each.name not in self._state.failed
        )

    def _going_on(self, raced: Sequence[Candidate], stage: Stage) -> list[Candidate]:
        """The fastest that are accurate enough: half of them, and no fewer than the stage says."""
        races = self._races()
        order = sorted(
            (each for each in raced if each.name in races), key=lambda each: -races[each.name].speedup
        )
        quota = max(stage.kept, math.ceil(len(order) / 2)) if stage is STAGES[0] else stage.kept
        kept: list[Candidate] = []
        for each in order:
            if len(kept) == quota:
                fastest = races[kept[0].name].latency_s * 1e3
                own = races[each.name].latency_s * 1e3
                self._outcomes[each.name] = (
                    f"too slow in the {stage.name}: {own:.3g} ms, the best {fastest:.3g} ms"
                )
            elif problem := self._judged(each).problem:
                self._outcomes[each.name] = problem
            else:
                kept.append(each)
        return kept

    def _judged(self, candidate: Candidate) -> Accuracy:
        if candidate.run not in self._state.judged:
            with self._step(f"judge {candidate.run}"):
                found = self._check.check(candidate, self._state.path_of(candidate.variant.name))
                self._state.judged[candidate.run] = found.to_json()
        return Accuracy(**self._state.judged[candidate.run])

    def _races(self) -> dict[str, Race]:
        """The longest race of each candidate."""
        return {
            name: Race.from_json(stage.name, row)
            for stage in STAGES
            for name, row in self._state.raced.get(stage.name, {}).items()
        }

    def _accuracies(self) -> dict[str, Accuracy]:
        return {run: Accuracy(**row) for run, row in self._state.judged.items()}

    def _winner(self) -> tuple[Candidate, str]:
        races, accuracies = self._races(), self._accuracies()
        fit = [
            each
            for each in self._candidates.values()
            if each.name in races and each.run in accuracies and not accuracies[each.run].problem
        ]
        # Those that came furthest: what was left behind on the way was slower already.
        for stage in reversed(STAGES):
            if last := [each for each in fit if races[each.name].stage == stage.name]:
                return winner_of(self._plain, last, races, accuracies)
        return self._plain, "nothing else was measured and found accurate enough"

    def _reaches_target(self) -> bool:
        wanted = self._wishes.target_ms
        found = self._races().get(self._winner()[0].name)
        return wanted is not None and found is not None and found.latency_s * 1e3 <= wanted

    def _decided(self, is_complete: bool) -> Tuned:
        self._candidates.setdefault(self._plain.name, self._plain)
        winner, why = self._winner()
        outcomes = {}
        for name in self._candidates:
            if name == winner.name:
                outcomes[name] = f"won: {why}"
            else:
                outcomes[name] = (
                    self._state.failed.get(name) or self._outcomes.get(name) or self._left_over(name)
                )
        if winner.name != self._plain.name:
            outcomes[self._plain.name] = "what the others were held against"
        return Tuned(
            wishes=self._wishes,
            winner=winner,
            why=why,
            file=self._state.path_of(winner.variant.name),
            plain=self._plain,
            candidates=tuple(self._candidates.values()),
            races=self._races(),
            accuracies=self._accuracies(),
            outcomes=outcomes,
            built=dict(self._state.built),
            is_noise=self._check.is_noise,
            counts_classes=self._check.counts_classes,
            is_complete=is_complete,
            is_resumed=self._state.is_resumed,
            spent_s=self._state.spent_s,
            notes=tuple(notes_of(self._wishes, self._check, self._state, is_complete=is_complete)),
        )

    def _left_over(self, name: str) -> str:
        """What is to be said of a candidate that nothing spoke against."""
        found = self._races().get(name)
        if found is None:
            return "not tried: the time was used up"
        if found.stage == STAGES[-1].name:
            return "not faster than the winner by more than noise, or slower"
        return "left behind when the time was used up"

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        """One step: begun only while there is time, saved when it is finished."""
        if self._state.spent_s >= self._wishes.budget_s:
            raise _TimeUsedUpError
        self._on_step(name)
        started = time.monotonic()
        yield
        self._state.spent_s += time.monotonic() - started
        self._state.save()


def _data_of(path: Path) -> str:
    from cnnport.onnxfile import data_files, load_model

    return ", ".join(sorted(data_files(load_model(path, external_data=False))))
