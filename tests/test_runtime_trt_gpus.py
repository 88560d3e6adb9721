"""TensorRT's adapter on several GPUs over the stand-ins: a session keeps to its own, whatever the thread does."""

import gc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cnnport.runtimes import Options, get_runtime
from fake_cuda import FakeCuda
from fake_tensorrt import FakeTensorRt, stand_in
from trt_files import feeds, small

__all__ = ["stand_in"]

Stand = Callable[..., FakeTensorRt]


@pytest.mark.parametrize("settings", [{}, {"cuda_graph": "1"}])
def test_sessions_on_two_gpus_in_one_thread(
    stand_in: Stand, tmp_path: Path, settings: dict[str, str]
) -> None:
    trt = stand_in(FakeCuda(devices=2))
    artifact = small(tmp_path)
    sessions = [
        get_runtime("trt").open(artifact, Options(device=device, settings=settings)) for device in (0, 1)
    ]
    launches = [session.bind(feeds(2)) for session in sessions]
    for launch in launches:
        launch()
    found = []
    for launch in launches:
        launch.wait()
        found.append(launch.outputs()["logits"])
    np.testing.assert_array_equal(*found)
    assert {trt.cuda.owners[launch._stream] for launch in launches} == {0x1000 + 70, 0x1000 + 71}
    for session in sessions:
        np.testing.assert_array_equal(session.run(feeds(2))["logits"], found[0])
        session.close()
    assert trt.cuda.held() == {}
    assert trt.cuda.misused == []


def test_a_thread_on_the_wrong_gpu_would_be_noticed(stand_in: Stand, tmp_path: Path) -> None:
    trt = stand_in(FakeCuda(devices=2))
    with (
        get_runtime("trt").open(small(tmp_path), Options()) as one,
        get_runtime("trt").open(small(tmp_path), Options(device=1)),
    ):
        launch = one.bind(feeds(2))
        context, stream = launch._context, launch._stream
        get_runtime("trt").open(small(tmp_path), Options(device=1)).close()
        trt.cuda.cuCtxSetCurrent(0x1000 + 71)
        with pytest.raises(AssertionError, match="another device than the engine"):
            context.execute_async_v3(stream)
        assert trt.cuda.cuStreamSynchronize(stream) == 400
        launch()
        launch.wait()
        trt.cuda.misused.clear()


def test_what_is_freed_meanwhile_leaves_a_thread_on_its_gpu(stand_in: Stand, tmp_path: Path) -> None:
    """Python frees what nobody holds wherever it likes, in the middle of a build on another GPU too."""
    trt = stand_in(FakeCuda(devices=2))
    with get_runtime("trt").open(small(tmp_path), Options()) as one:
        kept = [one.bind(feeds(2))]
        other = small(tmp_path, seed=1, name="other")

        def free() -> None:
            assert trt.cuda.current() == 0x1000 + 71
            kept.clear()
            gc.collect()
            assert trt.cuda.current() == 0x1000 + 71

        trt.during_build = free
        with get_runtime("trt").open(other, Options(device=1)) as two:
            assert two.run(feeds(2))["logits"].any()
        assert one.run(feeds(2))["logits"].any()
    assert trt.cuda.held() == {}
