"""The device's clock over a stand-in of the driver, in which every copy and every run takes a millisecond."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from cnnport.measuring.loop import Loop
from cnnport.measuring.worker import _compile_times
from cnnport.runtimes import Options, cuda, get_runtime, ort_cuda, torch_session
from cnnport.runtimes.compiling import compiling
from cnnport.runtimes.cuda import CudaError, Gpu
from cnnport.runtimes.device_clock import DeviceClock, DeviceTimed
from cnnport.runtimes.ort_cuda import OrtCudaLaunch
from cnnport.runtimes.torch_session import TorchLaunch
from cnnport.runtimes.torch_switches import Switches
from fake_cuda import FakeCuda
from fake_tensorrt import FakeTensorRt, stand_in
from trt_files import feeds, small

__all__ = ["stand_in"]

MS = 10**6


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda()
    monkeypatch.setattr(cuda, "_load", lambda: fake)
    return fake


def filled(gpu: Gpu, stream: int, *numbers: int) -> tuple[int, int]:
    array = np.array(numbers, np.uint8)
    address = gpu.allocate(array.nbytes)
    gpu.to_device(address, array, stream)
    return address, array.nbytes


@pytest.mark.parametrize("cuda_graph", ["0", "1"])
@pytest.mark.parametrize("transfers", [False, True])
def test_tensorrt(
    stand_in: Callable[..., FakeTensorRt], tmp_path: Path, transfers: bool, cuda_graph: str
) -> None:
    trt = stand_in()
    settings = {"cuda_graph": cuda_graph}
    with get_runtime("trt").open(small(tmp_path), Options(settings=settings)) as session:
        launch = session.bind(feeds(1))
        wanted = launch.outputs() if cuda_graph == "1" else None
        held = trt.cuda.held()
        with Loop([launch], transfers=transfers) as loop:
            loop.warm_up(0.0, 0.0)
            taken = loop.take(0.0, 3)
            assert trt.cuda.held()["events"] == 4
        assert taken.samples_ns == ((3 if transfers else 1) * MS,) * 3
        assert taken.transfer_share == (pytest.approx(2 / 3) if transfers else None)
        assert (taken.clock, taken.transfers) == ("cuda-events", transfers)
        assert trt.cuda.held() == held
        if wanted is not None:
            for name, array in launch.outputs().items():
                np.testing.assert_array_equal(array, wanted[name])
    assert trt.cuda.misused == []


def test_copies_are_of_what_the_launch_reads_and_writes(library: FakeCuda) -> None:
    gpu = Gpu(0)
    stream = gpu.stream()
    source, target = filled(gpu, stream, 1, 2, 3), filled(gpu, stream, 0, 0)
    with DeviceClock(gpu, [source], lambda: [target], stream=stream) as clock:
        # Whatever the launch has made of its input, the next upload puts it right.
        library.memory[source[0]][:] = b"\x09\x09\x09"
        library.memory[target[0]][:] = b"\x07\x08"
        clock.upload()
        clock.download()
        clock.wait()
        assert bytes(library.memory[source[0]]) == b"\x01\x02\x03"
        landed = [bytes(buffer.raw) for buffer in library.locked.values()]
        assert landed == [b"\x01\x02\x03", b"\x07\x08"]
        clock.mark(0)
        with pytest.raises(CudaError, match="cuEventElapsedTime"):
            clock.between_ns(0, 3)
    clock.close()
    assert "events" not in library.held()
    assert "page-locked" not in library.held()
    # The GPU is the session's own.
    gpu.wait(stream)


def test_a_clock_that_cannot_be_made_leaves_nothing_behind(library: FakeCuda) -> None:
    gpu = Gpu(0)
    stream = gpu.stream()
    held = library.held()
    library.codes["cuMemAllocHost_v2"] = 2
    with pytest.raises(CudaError, match="cuMemAllocHost_v2"):
        DeviceClock(gpu, [(1, 1)], list, stream=stream)
    assert library.held() == held


def test_onnxruntime_has_a_stream_of_its_own_so_every_step_is_waited_for(
    library: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = Gpu(0)
    stream = gpu.stream()
    places = [filled(gpu, stream, 1, 2), filled(gpu, stream, 3)]
    values = [
        SimpleNamespace(
            data_ptr=lambda place=place: place[0], tensor_size_in_bytes=lambda place=place: place[1]
        )
        for place in places
    ]
    launch: Any = OrtCudaLaunch.__new__(OrtCudaLaunch)
    launch._device, launch._inputs = 0, values[:1]
    launch._binding = SimpleNamespace(get_outputs=lambda: values[1:])
    assert isinstance(launch, DeviceTimed)
    held = library.held()
    with launch.device_clock() as clock:
        assert clock.is_apart
        clock.mark(0)
        clock.upload()
        # The copy has been made before the run starts.
        assert not any(library.streams.values())
        clock.mark(3)
        clock.wait()
        assert clock.between_ns(0, 3) == MS
    assert library.held() == held
    assert ort_cuda.Gpu is Gpu


def test_torch_is_timed_on_its_stream_and_on_a_gpu_only(
    library: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = Gpu(0)
    stream = gpu.stream()
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=stream))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    tensor, result = torch.arange(3.0), torch.zeros(2)
    for each in (tensor, result):
        library.memory[each.data_ptr()] = bytearray(each.numel() * 4)
    on_cpu = TorchLaunch(lambda x: x, [tensor], {"y": "float32"}, torch.device("cpu"), Switches())
    assert on_cpu.device_clock() is None
    forward = lambda x: library.enqueue(stream, lambda: None) or result  # noqa: E731
    launch = TorchLaunch(forward, [tensor], {"y": "float32"}, torch.device("cuda", 0), Switches())
    with Loop([launch], transfers=True) as loop:
        loop.warm_up(0.0, 0.0)
        gpu.wait(stream)
        taken = loop.take(0.0, 2)
    assert taken.samples_ns == (3 * MS,) * 2
    assert torch_session.Gpu is Gpu


def test_what_a_runtime_compiles_is_told_apart_from_loading() -> None:
    with _compile_times() as found:
        with compiling(), compiling():
            pass
        assert len(found) == 1
        with pytest.raises(ValueError, match="no"), compiling():
            raise ValueError("no")
        assert len(found) == 2
    with compiling():
        pass
    assert len(found) == 2


def test_openvino_says_what_it_compiles(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    with _compile_times() as found:
        get_runtime("openvino").open(small(tmp_path), Options(threads=1)).close()
    assert len(found) == 1
    assert found[0] > 0
