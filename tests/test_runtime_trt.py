"""TensorRT's adapter over a stand-in: the order of its calls, what it holds and frees, and every way to fail."""

import gc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from cnnport.artifact import Artifact
from cnnport.errors import ArtifactError, CnnportError, FeedError, RuntimeMissingError
from cnnport.runtimes import Options, get_runtime
from cnnport.runtimes.trt.engine import Engine
from cnnport.runtimes.trt.package import TENSORRT
from cnnport.runtimes.trt.profile import ProfiledRuns
from cnnport.runtimes.trt.session import TensorRtSession
from fake_cuda import FakeCuda
from fake_tensorrt import FakeTensorRt, stand_in
from trt_files import feeds, small

__all__ = ["stand_in"]

Stand = Callable[..., FakeTensorRt]
VERSIONS = ("10.12.0.36", "11.4.0.106")


def opened(artifact: Artifact, name: str = "trt", device: int = 0, **settings: str) -> TensorRtSession:
    session = get_runtime(name).open(artifact, Options(device=device, settings=settings))
    assert isinstance(session, TensorRtSession)
    return session


def test_the_order_of_calls(stand_in: Stand, tmp_path: Path) -> None:
    trt = stand_in()
    with opened(small(tmp_path), batch="1,1:4:8") as session:
        assert trt.calls == [
            "Builder",
            "create_network",
            "OnnxParser",
            "parse_from_file",
            "create_builder_config",
            "build_serialized_network",
            # The types of the layers are read back before anything runs.
            "Runtime",
            "deserialize_cuda_engine",
            "Runtime",
            "deserialize_cuda_engine",
        ]
        trt.calls.clear()
        launch = session.bind(feeds(2))
        assert trt.calls == [
            "create_execution_context",
            "set_optimization_profile_async 1",
            "set_input_shape",
            "infer_shapes",
            "set_tensor_address",
            "set_tensor_address",
        ]
        trt.calls.clear()
        for _ in range(3):
            launch()
            launch.wait()
        assert trt.calls == ["execute_async_v3"] * 3


def misuses(engine: Engine, stream: int) -> dict[str, Callable[[], object]]:
    """Ways of running an engine that end a process or give wrong numbers."""
    handle = engine.handle
    profiled, settled = handle.create_execution_context(), handle.create_execution_context()
    settled.set_input_shape("input", (1, 3, 8, 8))
    settled.infer_shapes()

    def without_engine() -> None:
        other = Engine(TENSORRT, handle.serialize(), "other")
        context = other.handle.create_execution_context()
        other.close()
        gc.collect()
        context.execute_async_v3(stream)

    def without_runtime() -> None:
        runtime = engine.trt.Runtime(engine.logger)
        alone = runtime.deserialize_cuda_engine(handle.serialize())
        del runtime
        gc.collect()
        alone.create_execution_context()

    return {
        "without shapes": lambda: profiled.execute_async_v3(stream),
        "without addresses": lambda: settled.execute_async_v3(stream),
        "a profile behind the shapes": lambda: settled.set_optimization_profile_async(0, stream),
        "the shape of an output before those of the inputs": lambda: profiled.get_tensor_shape("logits"),
        "without engine": without_engine,
        "without runtime": without_runtime,
    }


def test_the_stand_in_notices_what_tensorrt_would_not_forgive(stand_in: Stand, tmp_path: Path) -> None:
    trt = stand_in()
    with opened(small(tmp_path)) as session:
        launch = session.bind(feeds(1))
        (stream,) = trt.cuda.streams
        for name, misuse in misuses(session.engine, stream).items():
            noticed = False
            try:
                misuse()
            except AssertionError:
                noticed = True
            assert noticed, name
        with ThreadPoolExecutor(1) as pool, pytest.raises(AssertionError, match="a thread without a device"):
            pool.submit(session.engine.handle.create_execution_context).result()
        launch()
        launch.wait()


def test_a_forgotten_wait_would_show(stand_in: Stand, tmp_path: Path) -> None:
    trt = stand_in()
    with opened(small(tmp_path)) as session:
        launch = session.bind(feeds(1))
        launch()
        (stream,) = (stream for stream, work in trt.cuda.streams.items() if work)
        trt.cuda.streams[stream].clear()
        launch.wait()
        assert not launch.outputs()["logits"].any()


def test_the_narrowest_profile_is_taken(stand_in: Stand, tmp_path: Path) -> None:
    trt = stand_in()
    with opened(small(tmp_path), batch="1:4:16,1,4:4:8") as session:
        for batch, profile in ((1, 1), (4, 2), (2, 0), (16, 0)):
            trt.calls.clear()
            session.run(feeds(batch))
            taken = [call for call in trt.calls if call.startswith("set_optimization_profile")]
            assert taken == [f"set_optimization_profile_async {profile}"]
        with pytest.raises(FeedError, match=r"17x3x8x8 is outside .* 1x3x8x8 to 16x3x8x8 or .*--set batch="):
            session.run(feeds(17))


def test_runs_of_one_shape_share_their_buffers(stand_in: Stand, tmp_path: Path) -> None:
    trt = stand_in()
    with opened(small(tmp_path)) as session:
        first = session.run(feeds(2))["logits"]
        trt.calls.clear()
        assert not np.array_equal(session.run(feeds(2, seed=3))["logits"], first)
        assert trt.calls == ["execute_async_v3"]
        session.run(feeds(3))
        assert trt.calls.count("create_execution_context") == 1
        assert len(trt.cuda.memory) == 2


@pytest.mark.parametrize("close", [True, False])
def test_nothing_is_left_behind(stand_in: Stand, tmp_path: Path, close: bool) -> None:
    """And a session that is not closed would be seen."""
    trt = stand_in()
    session = opened(small(tmp_path), cuda_graph="1")
    launch = session.bind(feeds(2))
    session.run(feeds(2))
    assert trt.cuda.held() == {"memory": 4, "streams": 2, "graphs": 1, "contexts": 1}
    if close:
        session.close()
    gc.collect()
    assert bool(trt.cuda.held()) != close
    assert bool(len(trt.alive)) != close
    if close:
        for call in (launch, launch.outputs):
            with pytest.raises(ValueError, match="closed"):
                call()
    session.close()


def test_a_launch_that_nobody_holds_gives_its_memory_back(stand_in: Stand, tmp_path: Path) -> None:
    trt = stand_in()
    with opened(small(tmp_path)) as session:
        launch = session.bind(feeds(2))
        assert trt.cuda.held()["memory"] == 2
        del launch
        gc.collect()
        assert trt.cuda.held() == {"contexts": 1}


def test_a_recorded_run_is_replayed(stand_in: Stand, tmp_path: Path) -> None:
    trt = stand_in()
    artifact = small(tmp_path)
    with opened(artifact) as session:
        expected = session.run(feeds(2))["logits"]
    with opened(artifact, cuda_graph="1") as session:
        trt.calls.clear()
        launch = session.bind(feeds(2))
        for _ in range(5):
            launch()
            launch.wait()
        # Once before the recording, and once in it.
        assert trt.calls.count("execute_async_v3") == 2
        assert trt.cuda.calls["cuGraphLaunch"] == 5
        np.testing.assert_array_equal(launch.outputs()["logits"], expected)


def test_what_cannot_be_recorded_is_an_error(stand_in: Stand, tmp_path: Path) -> None:
    trt = stand_in(FakeCuda(codes={"cuGraphInstantiateWithFlags": 1}))
    with opened(small(tmp_path), cuda_graph="1") as session:
        with pytest.raises(
            CnnportError, match=r"cannot be recorded .*what 1 means.*leave out --set cuda_graph=1"
        ):
            session.bind(feeds(2))
        assert trt.cuda.held() == {"contexts": 1}
        trt.cuda.codes.clear()
        trt.faults["record"] = "no luck"
        with pytest.raises(CnnportError, match=r"cannot be recorded \(TensorRT cannot run: no luck\)"):
            session.bind(feeds(2))
        assert trt.cuda.held() == {"contexts": 1}
        session.run(feeds(2))


def test_rtx_records_and_compiles_by_its_own_means(stand_in: Stand, tmp_path: Path) -> None:
    trt = stand_in(rtx=True)
    for round_number in range(2):
        with opened(small(tmp_path), "trt-rtx", cuda_graph="1", specialize="none") as session:
            launch = session.bind(feeds(2))
            launch()
            launch.wait()
        assert trt.cuda.calls["cuGraphLaunch"] == 0
        # The second session has the kernels of the first.
        assert trt.kernels_compiled == 1, round_number


def test_times_of_layers(stand_in: Stand, tmp_path: Path) -> None:
    trt = stand_in()
    with opened(small(tmp_path), cuda_graph="1") as session:
        trt.calls.clear()
        runs = ProfiledRuns(session, feeds(2))
        for _ in range(3):
            runs()
            runs.wait()
        times = runs.layers()
        runs.close()
        assert trt.cuda.calls["cuGraphLaunch"] == 0
        assert trt.calls.count("report_to_profiler") == 3
        assert [(each.layer.nodes, each.samples_ms) for each in times[:2]] == [
            (("first/Conv",), (0.5,) * 3),
            (("act/Relu",), (1.5,) * 3),
        ]
        assert "memory" not in trt.cuda.held()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("rtx", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_an_engine_of_another_type_is_refused(
    stand_in: Stand, tmp_path: Path, version: str, rtx: bool, precision: str
) -> None:
    trt, name = stand_in(version="1.7.1.116" if rtx else version, rtx=rtx), "trt-rtx" if rtx else "trt"
    artifact = small(tmp_path, precision)
    with opened(artifact, name) as session:
        assert session.run(feeds(2, dtype=artifact.inputs[0].dtype))
    trt.faults["engine type"] = "Half" if precision == "fp32" else "Float"
    with pytest.raises(
        ArtifactError, match=r"first/Conv: asked for in \w+, but layer first/Conv_0 computes it in"
    ):
        opened(artifact, name, cache="0")
    with opened(artifact, name, cache="0", check_precision="0"):
        pass


def test_tf32_is_off_unless_asked_for(stand_in: Stand, tmp_path: Path) -> None:
    trt = stand_in()
    with opened(small(tmp_path), tf32="1"):
        pass
    trt.faults["tf32"] = ""
    with pytest.raises(
        ArtifactError, match="first/Conv: asked for in Float, but kernel kernel_tf32 computes it in TF32"
    ):
        opened(small(tmp_path))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("build", r"TensorRT cannot build .*small\.onnx: no luck"),
        ("deserialize", r"cannot load the engine of .*small\.onnx: no luck: build it again"),
    ],
)
def test_what_tensorrt_refuses_is_an_error_of_the_file(
    stand_in: Stand, tmp_path: Path, fault: str, message: str
) -> None:
    trt = stand_in()
    trt.faults[fault] = "no luck"
    with pytest.raises(ArtifactError, match=message) as caught:
        opened(small(tmp_path))
    assert len(str(caught.value).splitlines()) == 1
    assert trt.cuda.held() == {}


def test_what_fails_in_a_run(stand_in: Stand, tmp_path: Path) -> None:
    trt = stand_in()
    with opened(small(tmp_path)) as session:
        trt.faults["execute"] = "no luck"
        with pytest.raises(CnnportError, match="TensorRT cannot run: no luck"):
            session.run(feeds(1))
        trt.faults.clear()
        trt.faults["unsettled"] = "shape"
        with pytest.raises(FeedError, match="cannot tell the shapes of shape"):
            session.bind(feeds(2))
        trt.faults.clear()
        assert session.run(feeds(1))["logits"].shape == (1, 4)
        trt.cuda.codes["cuStreamSynchronize"] = 700
        with pytest.raises(
            CnnportError, match=r"GPU 0 fails in cuStreamSynchronize: what 700 means \(error 700\)"
        ):
            session.run(feeds(1))
        trt.cuda.codes.clear()


def test_memory_that_runs_out(stand_in: Stand, tmp_path: Path) -> None:
    trt = stand_in(FakeCuda(memory=2**14))
    with opened(small(tmp_path), batch="1:8:64") as session:
        with pytest.raises(
            CnnportError, match=r"out of memory on GPU 0: .*MiB are free: try a smaller batch"
        ) as caught:
            session.bind(feeds(64))
        assert caught.value.exit_code == 2
        assert "memory" not in trt.cuda.held()
        assert session.run(feeds(1))["logits"].shape == (1, 4)


def test_a_context_that_finds_no_room(stand_in: Stand, tmp_path: Path) -> None:
    trt = stand_in()
    with opened(small(tmp_path)) as session:
        trt.faults["context"] = "Out of memory: 9 GiB for activations"
        with pytest.raises(CnnportError, match="Out of memory: 9 GiB for activations") as caught:
            session.bind(feeds(2))
        assert (caught.value.exit_code, len(str(caught.value).splitlines())) == (2, 1)
        assert trt.cuda.held() == {"contexts": 1}
        trt.faults.clear()
        assert session.run(feeds(2))["logits"].any()


def test_a_batch_that_is_the_only_one_is_stated(stand_in: Stand, tmp_path: Path) -> None:
    """So that a command pads to it, and does not find out in the run."""
    stand_in()
    with opened(small(tmp_path), batch="4") as session:
        assert (session.inputs[0].shape, session.outputs[0].shape) == ((4, 3, 8, 8), (4, 4))
        assert session.run(feeds(4))["logits"].shape == (4, 4)
        with pytest.raises(FeedError, match=r"does not fit input input:float32\[4,3,8,8\]"):
            session.run(feeds(2))
    for several in ("4,8", "1:4:8"):
        with opened(small(tmp_path), batch=several) as session:
            assert session.inputs[0].shape == ("batch", 3, 8, 8)


def test_tensors_that_cannot_be_fed(stand_in: Stand, tmp_path: Path) -> None:
    trt = stand_in()
    trt.faults["host"] = "input"
    with pytest.raises(ArtifactError, match="tensor 'input' decides on shapes"):
        opened(small(tmp_path))
    assert trt.cuda.held() == {}


def test_a_device_that_is_not_there(stand_in: Stand, tmp_path: Path) -> None:
    stand_in()
    with pytest.raises(RuntimeMissingError, match="there is no GPU number 1"):
        opened(small(tmp_path), device=1)


def test_deterministic_needs_one_engine(stand_in: Stand, tmp_path: Path) -> None:
    stand_in()
    stand_in(rtx=True)
    for name, settings, message in (
        ("trt", {"cache": "0"}, "leave the cache on"),
        ("trt-rtx", {"specialize": "lazy"}, "take eager"),
    ):
        with pytest.raises(CnnportError, match=message):
            get_runtime(name).open(small(tmp_path), Options(deterministic=True, settings=settings))
