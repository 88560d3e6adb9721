"""PyTorch as a runtime: its variants on the CPU, and what can be held to account of CUDA without a GPU."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._inductor.exc import InvalidCxxCompiler

from cnnport import registry
from cnnport.artifact import Artifact, TensorSpec
from cnnport.compare import compare
from cnnport.errors import ArtifactError, CnnportError, RuntimeMissingError
from cnnport.golden import seeded_input
from cnnport.metadata import Origin, origin_to_metadata
from cnnport.runtimes import Options, eager, torch_switches
from cnnport.runtimes.driver import Device, Driver
from cnnport.runtimes.eager import TorchCudaRuntime, TorchRuntime
from cnnport.runtimes.torch_session import TorchLaunch, TorchSession
from cnnport.runtimes.torch_switches import Switches
from cnnport.weights import load_weights

DRIVER = Driver((13, 0), (Device(0, "NVIDIA H100", (9, 0), 80 << 30),))


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    """LeNet-5 as an exported file would state it; no session of PyTorch's reads the file itself."""
    spec = registry.get("lenet5")
    loaded = load_weights(spec.build(), spec, "random", seed=0, input_shape=spec.input_shape)
    origin = Origin("lenet5", "random", "0", loaded.sha256, 0, None, None)
    return Artifact(
        path=Path("lenet5.onnx"),
        sha256="",
        model="lenet5",
        opset=20,
        precision="fp32",
        target="portable",
        inputs=(TensorSpec("input", "float32", ("batch", *spec.input_shape)),),
        outputs=(TensorSpec("logits", "float32", ("batch", 10)),),
        metadata=origin_to_metadata(origin),
    )


@pytest.fixture(autouse=True)
def _put_back() -> object:
    """The process is left as PyTorch found it."""
    yield
    Switches().take_effect()
    torch.backends.cudnn.allow_tf32 = True
    torch_switches._State.now = None


def opened(artifact: Artifact, **settings: str) -> TorchSession:
    return TorchRuntime().open(artifact, Options(settings=settings))


def feeds_of(artifact: Artifact) -> dict[str, np.ndarray]:
    return seeded_input(artifact.inputs, 2, 5)


def test_channels_last_is_another_order_and_the_same_result(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    feeds, orders = feeds_of(artifact), []
    plain, session = opened(artifact).run(feeds)["logits"], opened(artifact, layout="channels_last")
    convolve = torch.nn.functional.conv2d

    def watched(image: torch.Tensor, weight: torch.Tensor, *rest: Any) -> torch.Tensor:
        orders.append((image, weight))
        return convolve(image, weight, *rest)

    monkeypatch.setattr("torch.nn.modules.conv.F.conv2d", watched)
    assert compare(plain, session.run(feeds)["logits"]).within()
    # The first image has one channel, and so both orders at once.
    last = [tensor.is_contiguous(memory_format=torch.channels_last) for pair in orders for tensor in pair]
    assert len(last) == 6
    assert all(last)
    assert session._placed(np.zeros((1, 3, 4, 4), np.float32)).is_contiguous(
        memory_format=torch.channels_last
    )


def test_feeds_may_run_backwards(artifact: Artifact) -> None:
    session, feeds = opened(artifact), feeds_of(artifact)
    backwards = {"input": feeds["input"][:, :, ::-1]}
    dense = {"input": backwards["input"].copy()}
    np.testing.assert_array_equal(session.run(backwards)["logits"], session.run(dense)["logits"])


def test_halves_are_computed_and_come_out_as_the_file_says(artifact: Artifact) -> None:
    feeds = feeds_of(artifact)
    exact = opened(artifact).run(feeds)["logits"]
    half = opened(replace(artifact, precision="bf16")).run(feeds)["logits"]
    assert half.dtype == np.float32
    assert 1e-4 < compare(exact, half).error < 0.1
    halves = replace(artifact, precision="fp16", outputs=(TensorSpec("logits", "float16", ("batch", 10)),))
    assert opened(halves).run(feeds)["logits"].dtype == np.float16


def test_integers_are_not_computed_as_if_they_were_floats(artifact: Artifact) -> None:
    with pytest.raises(ArtifactError, match="is int8, and the PyTorch module that it was made from is not"):
        opened(replace(artifact, precision="int8"))


class Compiler:
    """Stands for ``torch.compile``: says what it was asked, and gives the module, or fails when it is first run."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked: list[dict[str, Any]] = []
        self.runs = 0
        self._error = error

    def __call__(self, module: torch.nn.Module, **how: Any) -> Callable[..., Any]:
        self.asked.append(how)

        def run(*inputs: torch.Tensor) -> Any:
            self.runs += 1
            if self._error is not None:
                raise self._error
            return module(*inputs)

        return run


def test_a_module_is_compiled_whole_before_it_is_timed(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = Compiler()
    monkeypatch.setattr(torch, "compile", compiler)
    with opened(artifact, mode="compile") as session:
        launch = session.bind(feeds_of(artifact))
        assert compiler.runs == 1
        launch()
        assert compiler.runs == 2
        assert launch.outputs()["logits"].shape == (2, 10)
    assert compiler.asked == [{"fullgraph": True, "dynamic": False, "mode": None}]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (InvalidCxxCompiler(), r"cannot compile lenet5: No working C\+\+ compiler found .*: install g\+\+"),
        (
            torch._dynamo.exc.Unsupported("Data-dependent branching\n  Explanation: ..."),
            "lenet5: Data-dependent",
        ),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB. GPU 0 has"),
            "out of memory): take",
        ),
    ],
)
def test_what_cannot_be_compiled_is_said_in_one_line(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    monkeypatch.setattr(torch, "compile", Compiler(error))
    with opened(artifact, mode="compile") as session, pytest.raises(CnnportError) as caught:
        session.run(feeds_of(artifact))
    assert re.search(message.replace("memory):", r"memory\):"), str(caught.value))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_memory_that_runs_out_is_said_in_one_line(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB. GPU 0 has 1 GiB left")

    session = opened(artifact)
    monkeypatch.setattr(torch.nn.Conv2d, "forward", refuse)
    with pytest.raises(
        CnnportError, match=r"has too little memory \(CUDA out of memory\): take a smaller batch"
    ):
        session.run(feeds_of(artifact))


def test_what_fails_in_a_launch_is_told_as_in_a_run(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A benchmark calls nothing but the launch."""
    session = opened(artifact)
    launch = session.bind(feeds_of(artifact))
    for error, kind, message in (
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to"),
            CnnportError,
            r"memory \(CUDA out of memory\)",
        ),
        (
            RuntimeError("cuDNN error: CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH"),
            RuntimeMissingError,
            r"cuDNN fails on cpu .*MISMATCH\): take the version that torch was built with, pip install",
        ),
        (
            RuntimeError("cuDNN version incompatibility: PyTorch was compiled  against (9, 1, 0). But"),
            RuntimeMissingError,
            "cuDNN fails on cpu",
        ),
    ):

        def refuse(*_: Any, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(torch.nn.Conv2d, "forward", refuse)
        with pytest.raises(CnnportError, match=message) as caught:
            launch()
        assert type(caught.value) is kind
        assert "\n" not in str(caught.value)
        with pytest.raises(kind, match=message):
            session.run(feeds_of(artifact))


def test_memory_of_the_machine_that_runs_out(artifact: Artifact) -> None:
    """As the real allocator of PyTorch says it."""
    huge = torch.zeros(1).expand(2**50)
    launch = TorchLaunch(lambda x: x.contiguous(), [huge], {"y": "float32"}, torch.device("cpu"), Switches())
    with pytest.raises(CnnportError, match="device cpu has too little memory") as caught:
        launch()
    assert "alloc_cpu.cpp" not in str(caught.value)


def test_a_launch_on_a_gpu_has_finished_when_it_has_been_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    device = torch.device("cuda", 1)
    launch = TorchLaunch(lambda x: x + 1, [torch.zeros(2)], {"y": "float32"}, device, Switches())
    launch()
    assert waited == []
    launch.wait()
    assert waited == [device]
    np.testing.assert_array_equal(launch.outputs()["y"], [1, 1])


def test_sessions_take_turns_with_what_the_process_has_only_once() -> None:
    seen: list[tuple[int, bool, bool, bool, bool]] = []

    def look(x: torch.Tensor) -> torch.Tensor:
        seen.append(
            (
                torch.get_num_threads(),
                torch.are_deterministic_algorithms_enabled(),
                torch.backends.cudnn.allow_tf32,
                torch.backends.cuda.matmul.allow_tf32,
                torch.backends.cudnn.benchmark,
            )
        )
        return x

    own = torch.get_num_threads()
    cpu = torch.device("cpu")
    one, two = (
        TorchLaunch(look, [torch.zeros(1)], {"y": "float32"}, cpu, switches)
        for switches in (
            Switches(threads=own + 1, tf32=True, cudnn_benchmark=True),
            Switches(deterministic=True),
        )
    )
    for launch in (one, two, one, one, two):
        launch()
    first, second = (own + 1, False, True, True, True), (own, True, False, False, False)
    assert seen == [first, second, first, first, second]


def test_tf32_is_off_unless_it_is_asked_for() -> None:
    runtime = TorchCudaRuntime()
    chosen = eager.settle(runtime.name, runtime.settings, {})
    assert runtime._switches(Options(), chosen) == Switches()
    assert not Switches().tf32
    chosen = eager.settle(runtime.name, runtime.settings, {"tf32": "1", "cudnn_benchmark": "1"})
    assert runtime._switches(Options(threads=3), chosen) == Switches(3, False, True, True)
    with pytest.raises(CnnportError, match="leave out one of the two"):
        runtime._switches(Options(deterministic=True), chosen)


@pytest.mark.parametrize(
    ("versions", "driver", "reason"),
    [
        (("2.13.0+cpu", None), DRIVER, r"^torch 2\.13\.0\+cpu is built without CUDA: pip install .* torch$"),
        (("2.13.0+cpu", None), "no driver", r"built without CUDA: .*; and no driver$"),
        (("2.13.0", "13.0"), "no driver", "^no driver$"),
        (
            ("2.13.0", "13.0"),
            Driver((12, 4), DRIVER.devices),
            "serves CUDA 12.4 at most, and this needs CUDA 13",
        ),
    ],
)
def test_what_is_missing_is_said_with_what_would_change_it(
    artifact: Artifact,
    monkeypatch: pytest.MonkeyPatch,
    versions: tuple[str, str | None],
    driver: Driver | str,
    reason: str,
) -> None:
    monkeypatch.setattr(eager, "_stated_versions", lambda: versions)
    monkeypatch.setattr(eager, "driver", lambda: driver)
    runtime = TorchCudaRuntime()
    assert re.search(reason, runtime.missing() or "")
    for call in (lambda: runtime.open(artifact, Options()), runtime.version, runtime.device):
        with pytest.raises(RuntimeMissingError, match="runtime torch-cuda is not available: "):
            call()


def test_a_gpu_that_is_not_there_or_does_not_start_is_named(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eager, "_stated_versions", lambda: ("2.13.0", "13.0"))
    monkeypatch.setattr(eager, "driver", lambda: DRIVER)
    assert TorchCudaRuntime().missing() is None
    with pytest.raises(RuntimeMissingError, match="there is no GPU number 3: 0 is NVIDIA H100"):
        TorchCudaRuntime().open(artifact, Options(device=3))

    def refuse() -> None:
        raise RuntimeError("CUDA driver initialization failed, you might not have a CUDA gpu.")

    monkeypatch.setattr(torch.cuda, "init", refuse)
    with pytest.raises(
        RuntimeMissingError, match=r"torch cannot use the GPU \(CUDA driver initialization failed"
    ):
        TorchCudaRuntime().open(artifact, Options())


def test_torchs_own_versions_are_read_without_importing_it() -> None:
    assert eager._stated_versions() == (torch.__version__, torch.version.cuda)
