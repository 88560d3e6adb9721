"""The timing loop, exactly: a clock that only moves when a launch says so."""

import gc

import pytest

from cnnport.measuring.measure import measure


class Machine:
    """A clock, and a launch that moves it: by ``enqueue_ns`` when called, by the next time in wait."""

    def __init__(self, times_ns, enqueue_ns=0):
        self.now = 1_000
        self.times_ns = times_ns
        self.enqueue_ns = enqueue_ns
        self.waits = 0
        self.calls = 0

    def clock(self):
        return self.now

    def __call__(self):
        assert self.calls == self.waits, "the last run has to be waited for before the next one starts"
        self.calls += 1
        self.now += self.enqueue_ns

    def wait(self):
        self.now += self.times_ns[self.waits % len(self.times_ns)]
        self.waits += 1


def run(machine, **settings):
    settings = {"warmup_s": 0, "duration_s": 0, "min_iterations": 1, **settings}
    return measure(machine, clock=machine.clock, **settings)


def test_a_sample_is_call_and_wait():
    assert run(Machine([30], enqueue_ns=12), min_iterations=3) == (42, 42, 42)


def test_samples_are_raw_and_in_order_and_the_warmup_is_not_among_them():
    machine = Machine([500_000_000, 400_000_000, 3, 1, 2])
    # The warm-up of 0.9 s takes the first two runs.
    assert run(machine, warmup_s=0.9, min_iterations=3) == (3, 1, 2)


def test_one_run_is_never_counted():
    assert run(Machine([900, 5, 6]), min_iterations=2) == (5, 6)


def test_duration_ends_the_loop_after_the_run_that_passes_it():
    machine = Machine([250_000_000])
    assert len(run(machine, duration_s=1.0)) == 4
    assert len(run(machine, duration_s=1.1)) == 5


def test_min_iterations_outlast_the_duration():
    assert len(run(Machine([10**9]), duration_s=2, min_iterations=10)) == 10


def test_max_iterations_end_the_loop_early():
    assert len(run(Machine([1]), duration_s=1, max_iterations=50)) == 50


def test_a_clock_that_stands_still_ends_too():
    assert run(Machine([0]), duration_s=1, warmup_s=0, max_iterations=5) == (0,) * 5


@pytest.mark.parametrize(
    "wrong",
    [
        {"warmup_s": -1},
        {"duration_s": -0.1},
        {"min_iterations": 0},
        {"min_iterations": 6, "max_iterations": 5},
    ],
)
def test_settings_out_of_range(wrong):
    with pytest.raises(ValueError, match="must"):
        run(Machine([1]), **wrong)


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_collection_is_off_inside_and_as_before_outside(enabled):
    seen = []

    class Watching(Machine):
        def __call__(self):
            seen.append(gc.isenabled())
            if len(seen) == 4:
                raise RuntimeError("the runtime failed")

    try:
        gc.enable() if enabled else gc.disable()
        with pytest.raises(RuntimeError, match="the runtime failed"):
            run(Watching([1]), min_iterations=10)
        assert gc.isenabled() == enabled
    finally:
        gc.enable()
    assert seen == [False] * 4
