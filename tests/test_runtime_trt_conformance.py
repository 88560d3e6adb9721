"""The conformance suite over TensorRT's stand-in: the adapter's buffers, streams, profiles, locks and caches.

What the stand-in computes is ONNX Runtime's; on a machine with a GPU the suite itself runs over TensorRT.
"""

import inspect
from collections.abc import Callable, Iterator

import pytest

import test_runtimes as suite
from fake_cuda import FakeCuda
from fake_tensorrt import FakeTensorRt, stand_in
from test_runtimes import made, of_files, session

__all__ = ["made", "of_files", "session", "stand_in"]

# These are on the memory and the threads of the process, which are the stand-in's own.
_LEFT_OUT = {"test_closing_gives_memory_back", "test_threads_are_what_was_asked_for"}


@pytest.fixture(params=["trt", "trt-rtx"])
def name(request: pytest.FixtureRequest, stand_in: Callable[..., FakeTensorRt]) -> Iterator[str]:
    cuda = FakeCuda()
    stand_in(cuda, rtx=request.param == "trt-rtx")
    yield str(request.param)
    assert cuda.held() == {}, "a session that was closed has left something on the device"
    assert cuda.misused == []


for _name, _test in vars(suite).items():
    _wanted = _name.startswith("test_") and _name not in _LEFT_OUT
    if _wanted and {"name", "session", "of_files"} & set(inspect.signature(_test).parameters):
        globals()[_name] = _test


def test_the_suite_was_found() -> None:
    assert sum(each.startswith("test_") for each in globals()) > 20
