"""One conformance suite for every runtime that computes, and the rules that hold for all of them.

The null runtime goes through it too: it computes nothing, so it shows that what compares results can fail.
"""

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from cnnport.artifact import Artifact, TensorSpec
from cnnport.compare import compare
from cnnport.errors import ArtifactError, CnnportError, FeedError, RuntimeMissingError, UnknownNameError
from cnnport.golden import seeded_input
from cnnport.runtimes import RUNTIMES, Options, Session, available, get_runtime, require_runtime
from cnnport.runtimes.feeds import check_feeds
from runtime_files import STEP, Made, image, make
from soak_runtimes import grow, growth_kib

Exported = Callable[[str], Artifact]

CONTRACT = ("torch-cpu", "torch-cuda", "ort-cpu", "ort-cuda", "trt", "trt-rtx", "openvino")

# An engine is built for a range of sizes, and nobody can guess the range that these tests want.
SIZES = {name: {"sizes": "height=6:8:12,width=6:8:12"} for name in ("trt", "trt-rtx")}

CONVOLUTIONS = ("Conv", "Conv2d", "Convolution")


@pytest.fixture(params=[name for name, runtime in RUNTIMES.items() if not runtime.missing()])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def session(name: str, exported: Exported) -> object:
    with get_runtime(name).open(exported("lenet5"), Options(threads=1)) as opened:
        yield opened


@pytest.fixture
def of_files(name: str) -> str:
    """A runtime that takes any ONNX file."""
    if name.startswith("torch"):
        pytest.skip(f"{name}: runs only networks that it can build again, and these files come from none")
    return name


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    folder = tmp_path_factory.mktemp("made")
    return lambda kind: make(kind, folder)


def opened(name: str, artifact: Artifact, **options: object) -> Session:
    """With the sizes that the runtime has to be told."""
    dynamic = any(isinstance(size, str) for spec in artifact.inputs for size in spec.shape[1:])
    return get_runtime(name).open(
        artifact, Options(settings=SIZES.get(name, {}) if dynamic else {}, **options)
    )


def feeds_of(session: Session, batch: int = 2, seed: int = 5) -> dict[str, np.ndarray]:
    return seeded_input(session.inputs, batch, seed)


def test_the_table_holds_every_name_of_the_contract() -> None:
    assert set(CONTRACT) <= set(RUNTIMES)
    assert all(runtime.name == name for name, runtime in RUNTIMES.items())
    assert "null" not in available()


@pytest.mark.parametrize("each", list(RUNTIMES))
def test_every_runtime_goes_through_this_suite_or_says_why(each: str) -> None:
    """One row for each that is not here, in the place of all the others."""
    if reason := RUNTIMES[each].missing():
        pytest.skip(f"{each}: {reason}")


def test_says_what_it_is(name: str) -> None:
    runtime = get_runtime(name)
    assert runtime.version()
    assert runtime.device()


def test_states_the_files_inputs_and_outputs(session: Session, exported: Exported) -> None:
    assert session.inputs == exported("lenet5").inputs
    assert session.outputs == exported("lenet5").outputs


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_takes_any_batch(session: Session, batch: int) -> None:
    outputs = session.run(feeds_of(session, batch))
    assert {name: (array.shape, array.dtype) for name, array in outputs.items()} == {
        "logits": ((batch, 10), np.float32)
    }


def test_computes_what_pytorch_computes(name: str, session: Session, exported: Exported) -> None:
    feeds = feeds_of(session)
    with get_runtime("torch-cpu").open(exported("lenet5"), Options()) as torch_session:
        expected = torch_session.run(feeds)["logits"]
    agreement = compare(expected, session.run(feeds)["logits"])
    # The null runtime shows that the comparison can fail.
    assert agreement.within() == (name != "null"), agreement


def test_a_launch_gives_what_run_gives(session: Session) -> None:
    feeds = feeds_of(session)
    launch = session.bind(feeds)
    for _ in range(3):
        launch()
        launch.wait()
    for output, array in session.run(feeds).items():
        np.testing.assert_array_equal(launch.outputs()[output], array)


def test_outputs_are_copies(session: Session) -> None:
    launch = session.bind(feeds_of(session))
    launch()
    launch.wait()
    kept = launch.outputs()["logits"]
    kept += 1
    np.testing.assert_array_equal(launch.outputs()["logits"] + 1, kept)


def test_the_same_input_gives_the_same_output(session: Session) -> None:
    feeds = feeds_of(session)
    first = session.run(feeds)["logits"]
    session.run(feeds_of(session, batch=4, seed=9))
    np.testing.assert_array_equal(session.run(feeds)["logits"], first)


def test_feeds_are_left_as_they_are(session: Session) -> None:
    feeds = feeds_of(session)
    before = feeds["input"].copy()
    session.run(feeds)
    np.testing.assert_array_equal(feeds["input"], before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda feeds: {}, "has no feed"),
        (lambda feeds: {**feeds, "mask": feeds["input"]}, "no input is called 'mask'"),
        (lambda feeds: {"input": feeds["input"].astype(np.float64)}, "does not fit"),
        (lambda feeds: {"input": feeds["input"][0]}, "does not fit"),
        (lambda feeds: {"input": feeds["input"][:, :, 1:]}, "does not fit"),
        (lambda feeds: {"input": feeds["input"][:0]}, "does not fit"),
    ],
)
def test_wrong_feeds_are_refused(session: Session, change: Callable, message: str) -> None:
    for call in (session.run, session.bind):
        with pytest.raises(FeedError, match=message):
            call(change(feeds_of(session)))


def test_feeds_of_any_memory_layout(name: str, session: Session) -> None:
    feeds = feeds_of(session)
    turned = np.asfortranarray(feeds["input"])
    assert not turned.flags.c_contiguous
    expected = session.run(feeds)["logits"]
    launch = session.bind({"input": turned})
    launch()
    launch.wait()
    for got in (session.run({"input": turned})["logits"], launch.outputs()["logits"]):
        assert name == "null" or compare(expected, got).within()


def test_sessions_do_not_disturb_each_other(name: str, exported: Exported) -> None:
    runtime = get_runtime(name)
    with (
        runtime.open(exported("lenet5"), Options()) as one,
        runtime.open(exported("lenet5"), Options()) as two,
    ):
        expected = one.run(feeds_of(one))["logits"]
        two.run(feeds_of(two, seed=7))
        two.close()
        np.testing.assert_array_equal(one.run(feeds_of(one))["logits"], expected)


def test_closing_twice_is_fine_and_using_afterwards_is_not(name: str, exported: Exported) -> None:
    session = get_runtime(name).open(exported("lenet5"), Options())
    feeds = feeds_of(session)
    session.close()
    session.close()
    if name != "null":
        with pytest.raises(ValueError, match="closed"):
            session.run(feeds)


def test_placement_names_operators(name: str, exported: Exported) -> None:
    placed = get_runtime(name).placement(exported("lenet5"), Options())
    if name == "null":
        assert placed == {}
    else:
        assert sum(counts.get(kind, 0) for counts in placed.values() for kind in CONVOLUTIONS) == 3


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_precisions_at_several_batches_and_sizes_in_one_session(
    of_files: str, made: Callable[[str], Made], precision: str
) -> None:
    file = made(precision)
    assert file.artifact.precision == precision
    with opened(of_files, file.artifact, threads=1) as session:
        for batch, height, width in ((2, 8, 8), (1, 8, 8), (3, 12, 6), (2, 8, 8)):
            feeds = image(batch, height, width, seed=batch)
            expected = file.expected(feeds)["y"]
            launch = session.bind(feeds)
            launch()
            launch.wait()
            for got in (session.run(feeds)["y"], launch.outputs()["y"]):
                agreement = compare(expected, got)
                if precision == "int8":
                    # A sum that lies on the border of two steps may go to either.
                    fits = agreement.max_abs <= 1.001 * STEP and agreement.mean_abs <= 0.02 * STEP
                else:
                    fits = agreement.within(1e-2) if precision == "fp16" else agreement.within()
                assert fits == (of_files != "null"), agreement


def test_several_inputs_and_outputs_go_by_name(of_files: str, made: Callable[[str], Made]) -> None:
    file = made("several")
    rng = np.random.default_rng(0)
    feeds = {name: rng.standard_normal((4, 5)).astype(np.float32) for name in ("a/x:0", "b")}
    with opened(of_files, file.artifact) as session:
        for given in (feeds, dict(reversed(feeds.items()))):
            got = session.run(given)
            assert list(got) == ["same sum", "best", "1", "sum"]
            assert {name: (array.shape, array.dtype.name) for name, array in got.items()} == {
                "same sum": ((4, 5), "float32"),
                "best": ((4,), "int64"),
                "1": ((4, 5), "float32"),
                "sum": ((4, 5), "float32"),
            }
            same = {
                output: np.array_equal(array, expected)
                for (output, expected), array in zip(file.expected(feeds).items(), got.values(), strict=True)
            }
            assert all(same.values()) == (of_files != "null"), same


def test_what_fails_in_a_run_is_the_feeds_fault(of_files: str, made: Callable[[str], Made]) -> None:
    if of_files in {"null", "trt", "trt-rtx"}:
        pytest.skip(f"{of_files}: sizes do not fail in a run")
    with opened(of_files, made("reshape").artifact) as session:
        assert session.run(image())["y"].shape == (2, 3, 64)
        with pytest.raises(FeedError, match=r"cannot run on these inputs: .*(square|shape)") as caught:
            session.run(image(2, 8, 9))
        assert len(str(caught.value).splitlines()) == 1
        assert session.run(image())["y"].shape == (2, 3, 64)


@pytest.mark.parametrize("content", [b"junk", b"", None])
def test_a_damaged_file_is_refused(
    of_files: str, made: Callable[[str], Made], tmp_path: Path, content: bytes | None
) -> None:
    if of_files == "null":
        pytest.skip("null: reads no file")
    artifact = made("fp32").artifact
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(artifact.path.read_bytes()[:700] if content is None else content)
    with pytest.raises(ArtifactError, match=r"damaged\.onnx") as caught:
        opened(of_files, replace(artifact, path=damaged))
    assert len(str(caught.value).splitlines()) <= 2


def test_settings_are_checked(name: str, exported: Exported) -> None:
    runtime = get_runtime(name)
    wrong = [("no_such_setting", "1"), *((own.name, "nonsense") for own in runtime.settings if own.choices)]
    for setting, value in wrong:
        for call in (runtime.open, runtime.placement):
            with pytest.raises(CnnportError, match=setting) as caught:
                call(exported("lenet5"), Options(settings={setting: value}))
            assert caught.value.exit_code == 2


def test_read_only_feeds(session: Session) -> None:
    feeds = feeds_of(session)
    expected = session.run(feeds)["logits"]
    feeds["input"].flags.writeable = False
    launch = session.bind(feeds)
    launch()
    launch.wait()
    for got in (session.run(feeds)["logits"], launch.outputs()["logits"]):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_are_what_was_asked_for(name: str, exported: Exported, threads: int) -> None:
    if name not in {"torch-cpu", "ort-cpu", "openvino"}:
        pytest.skip(f"{name}: threads are the CPU's")
    if threads > len(os.sched_getaffinity(0)):
        pytest.skip("there are not that many CPUs")
    with get_runtime(name).open(exported("lenet5"), Options(threads=threads)) as session:
        launch = session.bind(feeds_of(session, batch=256))
        # Never more; and on a machine that others keep busy, a thread may come too late for its share now and then.
        found = 0
        for _ in range(8):
            found = max(found, busy_threads(launch))
            if found >= threads:
                break
    assert found == threads


def test_more_threads_than_asked_for_would_be_seen() -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("there is one CPU")

    with ThreadPoolExecutor(2) as pool:
        barrier = threading.Barrier(2)

        def together(_: int) -> None:
            barrier.wait()
            np.sort(np.random.default_rng(0).random(200_000))

        # And whatever else this process keeps busy just then.
        assert busy_threads(lambda: list(pool.map(together, range(2)))) >= 2


def busy_threads(call: Callable[[], object]) -> int:
    """How many threads of this process compute during ``call``: a twentieth of the busiest one's time or more."""

    def times() -> dict[int, float]:
        return {thread.id: thread.user_time + thread.system_time for thread in psutil.Process().threads()}

    call()
    before, begin = times(), time.process_time()
    # The system counts in hundredths of a second.
    while time.process_time() - begin < 0.5:
        call()
    spent = [after - before.get(thread, 0) for thread, after in times().items()]
    return sum(share >= 0.05 * max(spent) for share in spent)


def test_one_session_serves_many_threads(name: str, session: Session) -> None:
    """Each with inputs of its own, by ``run`` and by ``bind``, all at once."""
    cases = [feeds_of(session, batch=1 + seed % 3, seed=seed) for seed in range(8)]
    expected = [session.run(feeds)["logits"] for feeds in cases]
    start = threading.Barrier(len(cases))

    def serve(number: int) -> bool:
        launch = session.bind(cases[number])
        start.wait()
        right = True
        for _ in range(10):
            launch()
            launch.wait()
            right &= compare(expected[number], launch.outputs()["logits"]).within()
            right &= compare(expected[number], session.run(cases[number])["logits"]).within()
        return right

    with ThreadPoolExecutor(len(cases)) as pool:
        assert all(pool.map(serve, range(len(cases))))
    if name != "null":
        # The inputs differ by more than the comparison lets pass, so a mix-up would have been seen.
        assert not compare(expected[0], expected[3]).within()


def test_closing_while_others_run(name: str, exported: Exported) -> None:
    session = get_runtime(name).open(exported("lenet5"), Options(threads=1))
    feeds = feeds_of(session)
    running = threading.Barrier(4)

    def go_on() -> str:
        session.run(feeds)
        running.wait()
        end = time.monotonic() + 10
        try:
            while time.monotonic() < end and name != "null":
                session.run(feeds)
        except ValueError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(3) as pool:
        others = [pool.submit(go_on) for _ in range(3)]
        running.wait()
        time.sleep(0.05)
        session.close()
        said = {other.result() for other in others}
    assert said == ({""} if name == "null" else {"the session is closed"})


def test_sessions_open_and_run_at_once(name: str, exported: Exported) -> None:
    artifact = exported("lenet5")
    with get_runtime(name).open(artifact, Options(threads=1)) as session:
        feeds = feeds_of(session)
        expected = session.run(feeds)["logits"]

    def serve(_: int) -> bool:
        right = True
        for _ in range(3):
            with get_runtime(name).open(artifact, Options(threads=1)) as session:
                right &= compare(expected, session.run(feeds)["logits"]).within()
        return right

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(serve, range(4)))


def test_deterministic_means_the_same_bits(name: str, exported: Exported) -> None:
    found = set()
    for _ in range(3):
        with get_runtime(name).open(exported("lenet5"), Options(deterministic=True)) as session:
            feeds = feeds_of(session, batch=16)
            found |= {session.run(feeds)["logits"].tobytes() for _ in range(5)}
    assert len(found) == 1


def test_memory_is_kept_or_given_back_and_results_stay(name: str, exported: Exported) -> None:
    with (
        get_runtime(name).open(exported("lenet5"), Options(reuse_memory=False)) as frugal,
        get_runtime(name).open(exported("lenet5"), Options()) as session,
    ):
        feeds = feeds_of(session)
        launch = frugal.bind(feeds)
        for _ in range(3):
            launch()
            launch.wait()
        assert compare(session.run(feeds)["logits"], launch.outputs()["logits"]).within()


def test_the_graph_as_it_stands(name: str, exported: Exported) -> None:
    with (
        get_runtime(name).open(exported("lenet5"), Options(optimize=False)) as plain,
        get_runtime(name).open(exported("lenet5"), Options()) as session,
    ):
        feeds = feeds_of(session)
        assert compare(session.run(feeds)["logits"], plain.run(feeds)["logits"]).within()


@pytest.mark.parametrize("leak", [False, True])
def test_closing_gives_memory_back(
    name: str, exported: Exported, made: Callable[[str], Made], leak: bool
) -> None:
    if name == "null":
        pytest.skip("null: has no memory")
    artifact, cycles = made("plain").artifact.with_shapes({"x": (1, 3, 8, 8)}), 30
    if name.startswith("torch"):
        # Its weights are an eighth of the other's.
        artifact, cycles = exported("lenet5"), 120
    growth = growth_kib(grow(name, artifact, cycles, keep=[] if leak else None))
    # One copy of the weights, where a leak would add one in every cycle.
    assert (growth > 2048) == leak, f"{growth} KiB"


@pytest.mark.parametrize("missing", [name for name in RUNTIMES if RUNTIMES[name].missing()])
def test_a_runtime_that_is_not_here_says_so(missing: str, exported: Exported) -> None:
    runtime = get_runtime(missing)
    for call in (
        lambda: runtime.open(exported("lenet5"), Options()),
        lambda: runtime.placement(exported("lenet5"), Options()),
        lambda: require_runtime(missing),
        runtime.version,
        runtime.device,
    ):
        with pytest.raises(RuntimeMissingError, match=f"runtime {missing} is not available: ") as caught:
            call()
        assert caught.value.exit_code == 3


def test_an_unknown_runtime_gets_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean ort-cpu"):
        get_runtime("ort_cpu")
    with pytest.raises(UnknownNameError, match="cnnport doctor"):
        get_runtime("zzz")


def test_torch_refuses_a_file_that_it_cannot_trust(exported: Exported) -> None:
    """A file must not make cnnport import a module, nor pass for a network whose weights it does not hold."""
    artifact = exported("lenet5")
    for changes, message in (
        ({"cnnport.model": "os:abort"}, "not a network of the zoo"),
        ({"cnnport.weights": "url"}, "cannot be loaded again"),
        ({"cnnport.weights": "random"}, "other random weights today"),
        ({"cnnport.build": "{"}, "damaged at cnnport.build"),
        ({"cnnport.build": "{}"}, "damaged at cnnport.build"),
    ):
        forged = replace(artifact, metadata={**artifact.metadata, **changes})
        with pytest.raises(ArtifactError, match=message):
            get_runtime("torch-cpu").open(forged, Options())
    with pytest.raises(ArtifactError, match="not exported by cnnport"):
        get_runtime("torch-cpu").open(replace(artifact, metadata={}), Options())


def test_a_dynamic_size_in_two_places_is_one_size() -> None:
    specs = (TensorSpec("left", "float32", ("batch", 2)), TensorSpec("right", "float32", ("batch", 3)))
    fitting = {"left": np.zeros((4, 2), np.float32), "right": np.zeros((4, 3), np.float32)}
    check_feeds(specs, fitting)
    with pytest.raises(FeedError, match="right"):
        check_feeds(specs, {**fitting, "right": np.zeros((5, 3), np.float32)})
