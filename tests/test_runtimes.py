"""One conformance suite for every runtime that computes, and the rules that hold for all of them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cnnport.artifact import Artifact, TensorSpec
from cnnport.compare import compare
from cnnport.errors import ArtifactError, FeedError, RuntimeMissingError, UnknownNameError
from cnnport.golden import seeded_input
from cnnport.runtimes import RUNTIMES, Options, Session, available, get_runtime, require_runtime
from cnnport.runtimes.feeds import check_feeds

Exported = Callable[[str], Artifact]

CONTRACT = ("torch-cpu", "torch-cuda", "ort-cpu", "ort-cuda", "trt", "trt-rtx", "openvino")


@pytest.fixture(params=[name for name, runtime in RUNTIMES.items() if not runtime.missing()])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def session(name: str, exported: Exported) -> object:
    with get_runtime(name).open(exported("lenet5"), Options(threads=1)) as opened:
        yield opened


def feeds_of(session: Session, batch: int = 2, seed: int = 5) -> dict[str, np.ndarray]:
    return seeded_input(session.inputs, batch, seed)


def test_the_table_holds_every_name_of_the_contract() -> None:
    assert set(CONTRACT) <= set(RUNTIMES)
    assert all(runtime.name == name for name, runtime in RUNTIMES.items())
    assert "null" not in available()


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
    placed = get_runtime(name).placement(exported("lenet5"))
    if name == "null":
        assert placed == {}
    else:
        (counts,) = placed.values()
        assert counts.get("Conv", counts.get("Conv2d")) == 3


@pytest.mark.parametrize("missing", [name for name in RUNTIMES if RUNTIMES[name].missing()])
def test_a_runtime_that_is_not_here_says_so(missing: str, exported: Exported) -> None:
    runtime = get_runtime(missing)
    for call in (
        lambda: runtime.open(exported("lenet5"), Options()),
        lambda: runtime.placement(exported("lenet5")),
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


def test_ort_refuses_what_it_cannot_load(tmp_path: Path, exported: Exported) -> None:
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(exported("lenet5").path.read_bytes()[:5000])
    with pytest.raises(ArtifactError, match="cannot load"):
        get_runtime("ort-cpu").open(replace(exported("lenet5"), path=damaged), Options())


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
