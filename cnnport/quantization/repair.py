"""The search for a recipe that is good enough: the plain one first, then what costs more.

In this order, each step on top of what has helped so far:

1. the method of ranges, if none was asked for: all answer from one calibration, and the outputs decide;
2. cross-layer equalisation, which evens out channels before anything is rounded;
3. bias correction, which takes the mean of the error away;
4. ranges chosen value by value, of the layers that lose most, by what they do to the outputs;
5. adaptive rounding of the weights, layer by layer;
6. layers in float, those that lose most first, as few as the budget asks for.

What each step is worth is measured on a few of the samples that ranges were found on; whether a candidate is good
enough, on others.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from cnnport.calibration import METHODS
from cnnport.quantization.judging import Judge, Judgement
from cnnport.quantization.recipe import Recipe
from cnnport.quantization.sensitivity import Sensitivity, sensitivities
from cnnport.quantization.workshop import Made, Workshop
from cnnport.runtimes import Options

# A step that gains less than this is not worth a thing that has to be believed.
_GAIN_DB = 0.1

# Layers whose ranges are looked at one by one: these have most of the noise.
_SEARCHED_LAYERS = 8
_PERCENTILES = (99.9, 99.99, 99.999)


@dataclass(frozen=True)
class Limits:
    """When a candidate is good enough.

    Attributes:
        drop: Points of accuracy that may be lost; see ``Judgement.drop``.
        sqnr_db: What suffices for networks whose outputs are no classes.
        floats: Whether layers may stay in float for it.
        repair: Whether anything is tried beyond the method of ranges.
    """

    drop: float = 0.5
    sqnr_db: float = 20.0
    floats: bool = False
    repair: bool = True

    def are_met(self, judgement: Judgement) -> bool:
        """Whether a candidate is good enough."""
        if judgement.drop is not None:
            return judgement.drop <= self.drop + 1e-9
        return judgement.sqnr_db >= self.sqnr_db


@dataclass(frozen=True)
class Attempt:
    """A candidate that was tried, and what came of it.

    Attributes:
        recipe: How it was made.
        made: The candidate; its file stays only if it was judged.
        trial_db: SQNR on the few samples by which steps are chosen.
        judgement: On the samples that decide; None where a step gained nothing and was not looked at further.
        verdict: What followed, in words.
    """

    recipe: Recipe
    made: Made
    trial_db: float
    judgement: Judgement | None
    verdict: str


@dataclass(frozen=True)
class Found:
    """What the search came to.

    Attributes:
        best: The candidate that is taken.
        is_enough: Whether it is good enough.
        attempts: Everything that was tried, in order.
    """

    best: Attempt
    is_enough: bool
    attempts: tuple[Attempt, ...]


class Search:
    """One search.

    Args:
        workshop: Makes candidates.
        trial: Few samples, for the choice of steps.
        judge: The samples that decide.
        runtime: What candidates run on.
        options: How it is opened.
        limits: What is good enough.
        on_step: Told the name of each step when it begins.
        on_progress: Told how many layers are done, and how many there are.
    """

    def __init__(
        self,
        workshop: Workshop,
        trial: Judge,
        judge: Judge,
        runner: tuple[str, Options],
        limits: Limits,
        *,
        on_step: Callable[[str], None] = lambda _: None,
        on_progress: Callable[[int, int], None] = lambda _done, _all: None,
    ) -> None:
        self._workshop, self._trial, self._judge = workshop, trial, judge
        self._runner, self._limits = runner, limits
        self._on_step, self._on_progress = on_step, on_progress
        self._methods: tuple[str, ...] = ()
        self._attempts: list[Attempt] = []
        self._sensitivities: tuple[Sensitivity, ...] = ()

    def run(self, methods: tuple[str, ...] = tuple(METHODS), percentile: float | None = None) -> Found:
        """Search.

        Args:
            methods: Those that may be taken.
            percentile: For that method; None for the usual one.

        Raises:
            CnnportError: If the graph cannot be quantized.
        """
        self._methods = methods
        best = self._plain(percentile)
        steps = self._steps if self._limits.repair else ()
        for step in steps:
            if self._is_enough(best):
                break
            best = step(best)
        if not self._is_enough(best) and self._limits.floats:
            best = self._with_floats(best)
        return Found(best, self._is_enough(best), tuple(self._attempts))

    def sensitivities(self, recipe: Recipe) -> tuple[Sensitivity, ...]:
        """Of the layers that a recipe puts into 8 bits, the most sensitive first; measured once."""
        if not self._sensitivities:
            self._on_step("sensitivity of layers")
            every = self._attempts[0].made.products
            self._sensitivities = sensitivities(
                replace(recipe, keep=frozenset()),
                every,
                self._measure,
                self._on_progress,
            )
        return self._sensitivities

    @property
    def _steps(self) -> tuple[Callable[[Attempt], Attempt], ...]:
        return (self._equalized, self._corrected, self._searched, self._rounded)

    def _plain(self, percentile: float | None) -> Attempt:
        recipe = Recipe(self._methods[0])
        if percentile is not None:
            recipe = replace(recipe, percentile=percentile)
        return self._judged(*self._by_every_method(recipe), "the plain form")

    def _by_every_method(self, recipe: Recipe) -> tuple[Recipe, Made, float]:
        """The nearest candidate; the others are noted."""
        tried: list[tuple[Recipe, Made, float]] = []
        for method in self._methods:
            self._on_step(f"quantize, {method}")
            candidate = replace(recipe, method=method)
            tried.append((candidate, *self._try(candidate)))
        best = max(tried, key=lambda each: each[2])
        for candidate, made, reached in tried:
            if made is not best[1]:
                self._put_aside(Attempt(candidate, made, reached, None, f"{best[0].method} is nearer"))
        return best

    def _equalized(self, best: Attempt) -> Attempt:
        if not self._workshop.can_equalize():
            return best
        self._on_step("equalize")
        # Other channels, other outliers: what was the best method need not be it any more.
        return self._stepped(best, *self._by_every_method(replace(best.recipe, equalized=True)))

    def _corrected(self, best: Attempt) -> Attempt:
        self._on_step("correct biases")
        recipe = replace(best.recipe, corrected=True)
        return self._stepped(best, recipe, *self._try(recipe))

    def _rounded(self, best: Attempt) -> Attempt:
        self._on_step("round weights")
        recipe = replace(best.recipe, corrected=True, rounded=True)
        return self._stepped(best, recipe, *self._try(recipe))

    def _searched(self, best: Attempt) -> Attempt:
        """Try other ranges for what the most sensitive layers read, one after the other."""
        layers = {each.node for each in self.sensitivities(best.recipe)[:_SEARCHED_LAYERS]}
        self._on_step("search ranges")
        recipe, reached = best.recipe, best.trial_db
        values = self._workshop.inputs_of(recipe, layers)
        for done, value in enumerate(values):
            for each in self._ranges(recipe, value):
                found = self._measure(each)
                if found > reached:
                    recipe, reached = each, found
            self._on_progress(done + 1, len(values))
        if recipe is best.recipe:
            return best
        return self._stepped(best, recipe, *self._try(recipe))

    def _ranges(self, recipe: Recipe, value: str) -> Iterator[Recipe]:
        seen = set()
        for method in METHODS:
            for percentile in _PERCENTILES if method == "percentile" else _PERCENTILES[:1]:
                found = self._workshop.range_of(recipe.equalized, value, method, percentile)
                if found not in seen:
                    seen.add(found)
                    yield replace(recipe, ranges={**recipe.ranges, value: found})

    def _with_floats(self, best: Attempt) -> Attempt:
        """Leave the fewest of the most sensitive layers in float with which it is good enough."""
        order = [each.node for each in self.sensitivities(best.recipe)]

        def keeping(count: int) -> Attempt:
            self._on_step(f"{count} layers in float")
            recipe = replace(best.recipe, keep=frozenset(order[:count]))
            return self._judged(recipe, *self._try(recipe), "")

        # Twice as many each time until it is enough, and then as few as halving finds.
        too_few, count, enough = 0, 1, None
        while enough is None and count < len(order):
            attempt = keeping(count)
            if self._is_enough(attempt):
                enough = attempt
            else:
                too_few, count = count, min(2 * count, max(len(order) - 1, count + 1))
        while enough is not None and count - too_few > 1:
            middle = (too_few + count) // 2
            attempt = keeping(middle)
            if self._is_enough(attempt):
                count, enough = middle, attempt
            else:
                too_few = middle
        return enough or max((each for each in self._attempts if each.judgement), key=_quality)

    def _stepped(self, best: Attempt, recipe: Recipe, made: Made, reached: float) -> Attempt:
        """The candidate with one more step, if that is worth anything."""
        if reached < best.trial_db + _GAIN_DB:
            gained = reached - best.trial_db
            self._put_aside(Attempt(recipe, made, reached, None, f"left: {gained:+.1f} dB"))
            return best
        return self._judged(recipe, made, reached, f"{reached - best.trial_db:+.1f} dB")

    def _put_aside(self, attempt: Attempt) -> None:
        """Note what is not judged; a dozen files of a large network would fill a disk."""
        attempt.made.path.unlink()
        self._attempts.append(attempt)

    def _judged(self, recipe: Recipe, made: Made, reached: float, why: str) -> Attempt:
        self._on_step("judge")
        judgement = self._judge.judge(made.path, *self._runner)
        attempt = Attempt(recipe, made, reached, judgement, why)
        enough = "good enough" if self._is_enough(attempt) else "not good enough"
        attempt = replace(attempt, verdict=f"{why}: {enough}" if why else enough)
        self._attempts.append(attempt)
        return attempt

    def _try(self, recipe: Recipe) -> tuple[Made, float]:
        made = self._workshop.make(recipe)
        return made, self._trial.judge(made.path, *self._runner).sqnr_db

    def _measure(self, recipe: Recipe) -> float:
        """SQNR of a candidate that is not kept."""
        made, found = self._try(recipe)
        made.path.unlink()
        return found

    def _is_enough(self, attempt: Attempt) -> bool:
        return attempt.judgement is not None and self._limits.are_met(attempt.judgement)


def _quality(attempt: Attempt) -> tuple[float, float]:
    judgement = attempt.judgement
    assert judgement is not None
    return (-(judgement.drop or 0.0), judgement.sqnr_db)
