"""Warming up, several callers, and the device's clock, exactly: clocks that only move when a launch says so."""

import threading
from statistics import median

import pytest

from cnnport.measuring.loop import Loop
from cnnport.measuring.measure import measure_concurrently, measure_on_device, warm_up
from cnnport.measuring.measurement import Warmup

MS = 10**6


class Machine:
    """A clock, and a launch that moves it by one time after another, the last of them for ever."""

    def __init__(self, *times_ms: float) -> None:
        self.now = 5
        self.times_ms = times_ms
        self.calls = 0

    def clock(self) -> int:
        return self.now

    def __call__(self) -> None:
        self.now += round(self.times_ms[min(self.calls, len(self.times_ms) - 1)] * MS)
        self.calls += 1

    def wait(self) -> None:
        pass


def warmed(machine: Machine, least_s: float = 0.0, most_s: float = 10.0) -> Warmup:
    return warm_up(machine, least_s=least_s, most_s=most_s, clock=machine.clock)


def test_it_ends_when_three_medians_agree() -> None:
    # Windows of 100 ms: medians 50, 20, 10, 10, 10; the last three agree after 100+100+100+100+100 ms.
    machine = Machine(*[50] * 2, *[20] * 5, *[10] * 100)
    assert warmed(machine) == Warmup(0.5, 2 + 5 + 30, True)


def test_two_that_agree_are_not_three() -> None:
    machine = Machine(*[10] * 20, *[20] * 5, *[10] * 20, 10)
    assert warmed(machine).seconds == 0.6


@pytest.mark.parametrize(("last_ms", "seconds"), [(10.3, 0.3), (10.4, 0.5)])
def test_within_three_per_cent(last_ms: float, seconds: float) -> None:
    machine = Machine(*[10] * 20, *[last_ms] * 10, *[last_ms] * 100)
    assert warmed(machine).seconds == pytest.approx(seconds, abs=0.02)


def test_not_before_the_least_and_not_beyond_the_most() -> None:
    assert warmed(Machine(10), least_s=0.9) == Warmup(0.9, 90, True)
    growing = Machine(*range(10, 500))
    found = warmed(growing, most_s=2.0)
    assert found.settled is False
    assert found.seconds == pytest.approx(2.0, abs=0.08)


def test_a_window_is_one_run_at_least() -> None:
    assert warmed(Machine(900, 400, 400, 401)) == Warmup(2.101, 4, True)


def test_settling_is_not_looked_at_where_there_is_no_room() -> None:
    assert warmed(Machine(10), least_s=0.5, most_s=0.5) == Warmup(0.5, 50, None)
    assert warmed(Machine(10), most_s=0.0) == Warmup(0.01, 1, None)
    with pytest.raises(ValueError, match="must not be negative"):
        warmed(Machine(10), least_s=-1)


def test_a_clock_that_stands_still_ends() -> None:
    assert warmed(Machine(0)).runs == 100_000


class Caller:
    """A launch with a clock of its own, shared through ``now``: all callers' runs take the same time."""

    def __init__(self, shared: "Shared", fails_at: int = 0) -> None:
        self.shared, self.fails_at, self.runs = shared, fails_at, 0

    def __call__(self) -> None:
        self.runs += 1
        self.shared.begin()
        if self.runs == self.fails_at:
            raise RuntimeError("the runtime failed")

    def wait(self) -> None:
        self.shared.end()


class Shared:
    """Counts runs in flight; every thread has a clock of its own, which a run moves by 10 ms."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.together = threading.Barrier(3, timeout=20)
        self.in_flight = self.most = 0
        self.local = threading.local()

    def clock(self) -> int:
        return getattr(self.local, "now", 0)

    def begin(self) -> None:
        with self.lock:
            self.in_flight += 1
            self.most = max(self.most, self.in_flight)

    def end(self) -> None:
        # Nobody comes back before all are under way.
        self.together.wait()
        with self.lock:
            self.in_flight -= 1
        self.local.now = self.clock() + 10 * MS


def test_so_many_requests_are_in_flight() -> None:
    shared = Shared()
    found = measure_concurrently([Caller(shared) for _ in range(3)], duration_s=0.05, clock=shared.clock)
    assert shared.most == 3
    assert found.samples_ns == (10 * MS,) * 15
    assert found.elapsed_ns == 50 * MS


def test_iterations_are_of_all_callers_together() -> None:
    shared = Shared()
    callers = [Caller(shared) for _ in range(3)]
    assert (
        len(measure_concurrently(callers, duration_s=0, min_iterations=10, clock=shared.clock).samples_ns)
        == 12
    )
    found = measure_concurrently(
        callers, duration_s=9, min_iterations=1, max_iterations=6, clock=shared.clock
    )
    assert len(found.samples_ns) == 6


def test_a_caller_that_fails_ends_the_others() -> None:
    class Failing(Machine):
        def __call__(self) -> None:
            raise RuntimeError("the runtime failed")

    with pytest.raises(RuntimeError, match="the runtime failed"):
        measure_concurrently([Machine(0.001), Failing(1)], duration_s=60.0, max_iterations=10**9)


class Device:
    """A clock of a device: marks fall where the work before them ends."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.marks: dict[int, int] = {}
        self.said: list[str] = []
        self.closed = False

    def mark(self, number: int) -> None:
        self.marks[number] = self.machine.now
        self.said.append(f"mark {number}")

    def upload(self) -> None:
        self.machine.now += 3 * MS
        self.said.append("upload")

    def download(self) -> None:
        self.machine.now += 1 * MS
        self.said.append("download")

    def wait(self) -> None:
        self.said.append("wait")

    def between_ns(self, first: int, last: int) -> int:
        return self.marks[last] - self.marks[first]

    def __enter__(self) -> "Device":
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True


class OnDevice(Machine):
    def device_clock(self) -> Device:
        self.device = Device(self)
        return self.device


@pytest.mark.parametrize("transfers", [False, True])
def test_the_device_keeps_the_time(transfers: bool) -> None:
    machine = Machine(6)
    device = Device(machine)
    found = measure_on_device(
        machine, device, transfers=transfers, duration_s=0, min_iterations=2, clock=machine.clock
    )
    assert found.samples_ns == ((10 if transfers else 6) * MS,) * 2
    assert found.runs_ns == (6 * MS,) * 2
    steps = ["mark 0", "upload", "mark 1", "mark 2", "download", "mark 3", "wait"]
    assert device.said[: len(device.said) // 2] == (steps if transfers else ["mark 0", "mark 3", "wait"])


def test_a_loop_takes_the_devices_clock_where_there_is_one_and_lets_go_of_it() -> None:
    launch = OnDevice(6)
    with Loop([launch], transfers=True) as loop:
        loop.warm_up(0.0, 0.0)
        taken = loop.take(0.0, 3)
    assert (taken.clock, taken.transfers) == ("cuda-events", True)
    assert taken.transfer_share == pytest.approx(0.4)
    assert taken.samples_ns == (10 * MS,) * 3
    assert launch.device.closed


def test_on_a_cpu_there_is_nothing_to_transfer() -> None:
    with Loop([Machine(0)], transfers=True) as loop:
        loop.warm_up(0.0, 0.0)
        taken = loop.take(0.0, 3)
    assert (taken.clock, taken.transfers, taken.transfer_share) == ("wall", False, None)
    with Loop([Machine(0), Machine(0)]) as loop:
        assert loop.warm_up(0.0, 0.0).runs == 1
        taken = loop.take(0.0, 4)
    assert len(taken.samples_ns) == 4
    assert taken.elapsed_ns is not None
    assert median(taken.samples_ns) < 10 * MS
