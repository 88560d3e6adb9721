"""The functions of the driver that are called, by their types, and what happens when they fail."""

import ctypes

import numpy as np
import pytest

from cnnport.runtimes import cuda as module
from cnnport.runtimes.cuda import SIGNATURES, CudaError, Gpu
from fake_cuda import FakeCuda


def gpu_over(monkeypatch: pytest.MonkeyPatch, library: FakeCuda) -> Gpu:
    monkeypatch.setattr(module, "_load", lambda: library)
    return Gpu(0)


def test_addresses_are_not_cut_to_32_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    library = FakeCuda()
    gpu = gpu_over(monkeypatch, library)
    for name, parameters in SIGNATURES.items():
        function = getattr(library, name)
        assert (function.argtypes, function.restype) == (parameters, ctypes.c_int)
    address = gpu.allocate(12)
    assert address > 2**32
    assert SIGNATURES["cuMemFree_v2"][0](address).value == address


def test_there_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    library = FakeCuda()
    gpu = gpu_over(monkeypatch, library)
    array = np.arange(6, dtype=np.float16).reshape(2, 3)
    stream, address = gpu.stream(), gpu.allocate(array.nbytes)
    gpu.to_device(address, array, stream)
    np.testing.assert_array_equal(gpu.to_host(address, (2, 3), "float16", stream), array)
    gpu.free(address)
    gpu.end_stream(stream)
    assert library.held() == {"contexts": 1}
    gpu.close()
    gpu.close()
    assert library.held() == {}


def test_what_the_driver_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = gpu_over(monkeypatch, FakeCuda(memory=2**20))
    with pytest.raises(CudaError, match=r"out of memory on GPU 0: 2 MiB are needed, 1 of 1 MiB are free"):
        gpu.allocate(2**21)
    with pytest.raises(CudaError, match=r"GPU 0 fails in cuStreamSynchronize: what 400 means \(error 400\)"):
        gpu.wait(12)
    gpu.free(12)
    with pytest.raises(CudaError, match="GPU 0 fails in cuDevicePrimaryCtxRetain: what 2 means"):
        gpu_over(monkeypatch, FakeCuda(codes={"cuDevicePrimaryCtxRetain": 2}))
