"""OpenVINO: that it does what was asked for, or says that it does not."""

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cnnport.compare import compare
from cnnport.errors import ArtifactError, CnnportError, FeedError, RuntimeMissingError
from cnnport.onnxfile import read_artifact
from cnnport.runtimes import Options
from cnnport.runtimes.build import Layer
from cnnport.runtimes.engine_file import EngineFacts, engine_facts, read_engine, write_engine
from cnnport.runtimes.openvino import OpenVinoRuntime, blobs, choices, package
from cnnport.runtimes.openvino.layers import check_precision
from runtime_files import Made, image, make

pytest.importorskip("openvino")

RUNTIME = OpenVinoRuntime()
FLOAT = TensorProto.FLOAT

Save = Callable[..., object]


@pytest.fixture(scope="module")
def fp32(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make("fp32", tmp_path_factory.mktemp("made"))


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Save a graph of nodes, inputs, outputs and constants, and read its artifact."""

    def write(nodes: list, inputs: list, outputs: list, **constants: np.ndarray) -> object:
        values = [[helper.make_tensor_value_info(*value) for value in some] for some in (inputs, outputs)]
        held = [numpy_helper.from_array(array, name) for name, array in constants.items()]
        graph = helper.make_graph(
            [helper.make_node(*node[0], **node[1]) for node in nodes], "g", *values, held
        )
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid("my.domain", 1)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), tmp_path / "file.onnx")
        return read_artifact(tmp_path / "file.onnx")

    return write


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CNNPORT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "engines"


def capabilities() -> list[str]:
    return list(package.core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def with_settings(**settings: str) -> Options:
    return Options(settings=settings)


def run(artifact: object, feeds: dict | None = None, **options: object) -> np.ndarray:
    with RUNTIME.open(artifact, Options(**options)) as session:
        return session.run(feeds or image())["y"]


# What is asked for and what is done.


def test_f32_is_f32_even_where_bf16_is_faster(fp32: Made) -> None:
    expected = fp32.expected(image())["y"]
    assert compare(expected, run(fp32.artifact)).within()
    if "BF16" in capabilities():
        # Left to itself openvino would have computed this.
        rough = run(fp32.artifact, settings={"precision": "bf16"})
        assert not compare(expected, rough).within()
        assert compare(expected, rough).within(0.05)


@pytest.mark.parametrize(("precision", "capability"), [("bf16", "BF16"), ("f16", "FP16")])
def test_a_precision_that_the_cpu_lacks_is_an_error(fp32: Made, precision: str, capability: str) -> None:
    if capability in capabilities():
        with RUNTIME.open(fp32.artifact, with_settings(precision=precision)) as session:
            session.run(image())
        return
    with pytest.raises(
        CnnportError, match=f"openvino computes in .*, not {precision} as asked for"
    ) as caught:
        RUNTIME.open(fp32.artifact, with_settings(precision=precision))
    assert caught.value.exit_code == 2


def test_a_layer_in_another_precision_is_an_error() -> None:
    def layers(*types: str) -> tuple[Layer, ...]:
        return tuple(Layer(f"conv{place}", "Convolution", reads=(own,)) for place, own in enumerate(types))

    f32, bf16 = (choices.choose(with_settings(precision=precision)) for precision in ("f32", "bf16"))
    check_precision(layers("f32", "i8", "u8"), f32)
    check_precision((*layers("f32"), Layer("cast", "Convert", reads=("f16",))), f32)
    check_precision(layers("bf16", "f32"), bf16)
    with pytest.raises(
        CnnportError, match=r"computes conv1 \(Convolution\) in bf16, not in f32 as asked for"
    ):
        check_precision(layers("f32", "bf16"), f32)
    with pytest.raises(CnnportError, match=r"computes conv0 \(Convolution\) in f32, not in bf16"):
        check_precision(layers("f32", "f32"), bf16)


def test_threads_and_streams_beyond_the_machine_are_errors(fp32: Made) -> None:
    many = 4 * (os.cpu_count() or 1)
    with pytest.raises(CnnportError, match=f"openvino uses \\d+ threads, not {many} as asked for") as caught:
        RUNTIME.open(fp32.artifact, Options(threads=many))
    assert caught.value.exit_code == 2
    with pytest.raises(CnnportError, match=f"openvino makes \\d+ streams, not {many} as asked for"):
        RUNTIME.open(fp32.artifact, with_settings(streams=str(many)))
    with pytest.raises(CnnportError, match="streams must be at least 1"):
        RUNTIME.open(fp32.artifact, with_settings(streams="0"))


def test_what_openvino_says_it_does_is_held_against_what_was_asked_for() -> None:
    asked = choices.choose(Options(threads=1, deterministic=True, settings={"streams": "1"}))
    said = {
        "INFERENCE_PRECISION_HINT": SimpleNamespace(get_type_name=lambda: "f32"),
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "TBB_PARTITIONER": SimpleNamespace(name="STATIC"),
    }
    choices.check(SimpleNamespace(get_property=said.__getitem__), asked)
    for name in said:
        other = {**said, name: SimpleNamespace(name="something else")}
        with pytest.raises(CnnportError, match=r"something else.*as asked for"):
            choices.check(SimpleNamespace(get_property=other.__getitem__), asked)


@pytest.mark.parametrize(
    "settings",
    [{"hint": "throughput"}, {"streams": "1"}, {"pinning": "1"}, {"hint": "throughput", "streams": "1"}],
)
def test_settings_change_no_result(fp32: Made, settings: dict[str, str]) -> None:
    assert compare(fp32.expected(image())["y"], run(fp32.artifact, settings=settings)).within()


def test_quantized_layers_compute_in_8_bits(tmp_path: Path, save: Save) -> None:
    def counts(artifact: object) -> list[str]:
        (placed,) = RUNTIME.placement(artifact, Options()).values()
        return [kind for kind in placed if kind.startswith("Convolution")]

    assert counts(make("int8", tmp_path).artifact) in (["Convolution i8"], ["Convolution u8"])
    assert counts(make("fp32", tmp_path).artifact) == ["Convolution"]
    # Asymmetric uint8, as it is made for CPUs.
    rng = np.random.default_rng(0)
    weights = rng.integers(-127, 128, (16, 3, 3, 3)).astype(np.int8)
    artifact = save(
        [
            (("QuantizeLinear", ["x", "s", "z"], ["q"]), {}),
            (("DequantizeLinear", ["q", "s", "z"], ["d"]), {}),
            (("DequantizeLinear", ["w", "ws", "wz"], ["v"]), {"axis": 0}),
            (("Conv", ["d", "v"], ["y"]), {}),
        ],
        [("x", FLOAT, ["n", 3, 8, 8])],
        [("y", FLOAT, ["n", 16, 6, 6])],
        s=np.array(0.03, np.float32),
        z=np.array(110, np.uint8),
        w=weights,
        ws=np.full(16, 0.01, np.float32),
        wz=np.zeros(16, np.int8),
    )
    from onnx.reference import ReferenceEvaluator

    (expected,) = ReferenceEvaluator(str(artifact.path)).run(None, image())
    assert compare(expected, run(artifact)).within()
    assert counts(artifact) in (["Convolution i8"], ["Convolution u8"])


# Devices.


def test_devices_that_are_not_here(fp32: Made) -> None:
    for options, message in (
        (Options(device=1), "openvino has no CPU number 1 here: 0 is "),
        (Options(device=7, settings={"device": "GPU"}), "openvino (finds no GPU here|has no GPU number 7)"),
    ):
        with pytest.raises(RuntimeMissingError, match=message) as caught:
            RUNTIME.open(fp32.artifact, options)
        assert caught.value.exit_code == 3


def test_the_command_line_says_so_too(fp32: Made, cli: Callable[..., tuple[int, str, str]]) -> None:
    if package.devices("GPU"):
        pytest.skip("there is a GPU of Intel's")
    bench = ("bench", fp32.artifact.path, "--shape", "x:1x3x8x8", "--rounds", "1", "--duration", "0.01")
    for options, expected, message in (
        (("--set", "device=GPU"), 3, "openvino finds no GPU here"),
        (("--threads", "64"), 2, "openvino uses "),
        (("--set", "nothing=1"), 2, "no setting called 'nothing'"),
        ((), 0, ""),
    ):
        code, _, err = cli(*bench, "--runtime", "openvino", *options)
        assert (code, message in err) == (expected, True), err


def test_what_a_gpu_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "devices", lambda kind: {"CPU": ("CPU",), "GPU": ("GPU.0", "GPU.1")}[kind])
    asked = choices.choose(Options(threads=2, device=1, settings={"device": "GPU", "precision": "f16"}))
    assert asked.device == "GPU.1"
    assert asked.properties == {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f16",
        "EXECUTION_MODE_HINT": "PERFORMANCE",
    }
    with pytest.raises(CnnportError, match="does not promise the same bits on a GPU"):
        choices.choose(Options(deterministic=True, settings={"device": "GPU"}))


def test_what_is_missing_and_what_would_change_that(monkeypatch: pytest.MonkeyPatch) -> None:
    assert RUNTIME.missing() is None
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "openvino", None)
        assert RUNTIME.missing() == "openvino is not installed: pip install 'cnnport[openvino]'"
        with pytest.raises(RuntimeMissingError, match="runtime openvino is not available"):
            RUNTIME.version()

    def broken() -> object:
        raise ImportError("libtbb.so.12: cannot open shared object file")

    monkeypatch.setattr(package, "core", broken)
    reason = RUNTIME.missing() or ""
    assert "libtbb.so.12" in reason
    assert reason.endswith("pip install --force-reinstall openvino")


# Names, types and feeds.


@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [
        ([(("Relu", ["x"], ["y"]), {}), (("Relu", ["x"], ["z"]), {})], ["z", "y"]),
        ([(("Relu", ["x"], ["y"]), {}), (("Identity", ["y"], ["z"]), {})], ["z", "y"]),
        ([(("Relu", ["x"], ["y"]), {})], ["x", "y"]),
        ([(("Relu", ["x"], ["y"]), {})], ["w", "y"]),
    ],
    ids=["twins", "identity", "an input", "a constant"],
)
def test_outputs_that_openvino_could_merge(save: Save, nodes: list, outputs: list[str]) -> None:
    given = [(name, FLOAT, [3] if name == "w" else ["n", 3]) for name in outputs]
    inputs = [("x", FLOAT, ["n", 3]), ("unused", TensorProto.INT64, [2])]
    artifact = save(nodes, inputs, given, w=np.arange(3, dtype=np.float32))
    x = np.array([[-1, 0, 2]], np.float32)
    values = {"x": x, "w": np.arange(3, dtype=np.float32)}
    with RUNTIME.open(artifact, Options()) as session:
        got = session.run({"x": x, "unused": np.zeros(2, np.int64)})
    assert list(got) == outputs
    for name, array in got.items():
        np.testing.assert_array_equal(array, values.get(name, np.maximum(x, 0)))


def test_integers_beyond_32_bits_are_refused(save: Save) -> None:
    """Openvino would cut them off without a word."""
    artifact = save(
        [(("Concat", ["x", "x"], ["y"]), {"axis": 0})],
        [("x", TensorProto.INT64, ["n"])],
        [("y", TensorProto.INT64, ["m"])],
    )
    edge = np.array([2**31 - 1, -(2**31)])
    np.testing.assert_array_equal(run(artifact, {"x": edge}), np.concatenate([edge, edge]))
    for value in (2**31, -(2**31) - 1):
        with pytest.raises(FeedError, match="holds integers beyond 32 bits"):
            run(artifact, {"x": np.array([1, value])})


@pytest.mark.parametrize("kind", [TensorProto.DOUBLE, TensorProto.BFLOAT16])
def test_types_that_it_would_compute_as_others_are_refused(save: Save, kind: int) -> None:
    artifact = save([(("Relu", ["x"], ["y"]), {})], [("x", kind, ["n"])], [("y", kind, ["n"])])
    with pytest.raises(ArtifactError, match=r"openvino does not compute (float64|bfloat16)"):
        RUNTIME.open(artifact, Options())


def test_feeds_are_not_copied(fp32: Made) -> None:
    feeds = image()
    with RUNTIME.open(fp32.artifact, Options()) as session:
        launch = session.bind(feeds)
        feeds["x"] *= 2
        launch()
        np.testing.assert_array_equal(launch.outputs()["y"], session.run(feeds)["y"])


def test_memory_is_given_back_while_many_threads_run(fp32: Made) -> None:
    """Openvino refuses to give memory back while a request runs, so runs have to take turns."""
    expected = fp32.expected(image())["y"]
    with RUNTIME.open(fp32.artifact, Options(reuse_memory=False)) as session, ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: session.run(image())["y"], range(40)))
    assert all(compare(expected, array).within() for array in found)


def test_sizes_that_the_artifact_settles_are_fixed(fp32: Made) -> None:
    settled = fp32.artifact.with_shapes({"x": (1, 3, 8, 8)})
    with RUNTIME.open(settled, Options()) as session:
        assert str(session._network.compiled.inputs[0].get_partial_shape()) == "[?,3,8,8]"
        session.run(image(5, 8, 8))
        with pytest.raises(FeedError):
            session.run(image(1, 9, 8))


def test_one_batch_alone(fp32: Made, cache: Path, tmp_path: Path) -> None:
    """Openvino is faster at sizes that it knows."""
    settled = fp32.artifact.with_shapes({"x": (1, 3, 8, 8)})
    expected = fp32.expected(image(4))["y"]
    for options in (with_settings(batch="4"), with_settings(batch="4", cache="1")):
        with RUNTIME.open(settled, options) as session:
            assert (session.inputs[0].shape, session.outputs[0].shape[:1]) == ((4, 3, 8, 8), (4,))
            assert session._network.sizes is None
            assert compare(expected, session.run(image(4))["y"]).within()
            with pytest.raises(FeedError, match="does not fit input"):
                session.run(image(2))
    # What is kept for one batch is not taken for any.
    assert run(settled, image(2), settings={"cache": "1"}).shape[0] == 2
    RUNTIME.build(settled, tmp_path / "net.blob", with_settings(batch="4"))
    engine = read_engine(tmp_path / "net.blob")
    assert engine.inputs[0].shape == (4, 3, 8, 8)
    assert compare(expected, run(engine, image(4))).within()
    with pytest.raises(ArtifactError, match="was built for another batch"):
        RUNTIME.open(engine, with_settings(batch="2"))
    with pytest.raises(CnnportError, match="batch must be at least 1"):
        RUNTIME.open(settled, with_settings(batch="0"))


@pytest.mark.parametrize("kind", ["file", "engine", "cache"])
def test_sizes_that_do_not_fit_are_refused_before_the_run(
    save: Save, tmp_path: Path, cache: Path, kind: str
) -> None:
    """Openvino itself would compute something, give an empty output, or end the process."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((192, 5)).astype(np.float32)
    opened = [("x", FLOAT, ["n", 3, "h", "w"])]
    flat = [(("Flatten", ["x"], ["f"]), {}), (("Gemm", ["f", "w"], ["y"]), {})]
    pooled = [
        (("Conv", ["x", "v"], ["c"]), {}),
        (("MaxPool", ["c"], ["p"]), {"kernel_shape": [3, 3]}),
        (("Conv", ["p", "u"], ["y"]), {}),
    ]
    batch = [(("Reshape", ["x", "one"], ["r"]), {}), (("Gemm", ["r", "w"], ["y"]), {})]
    held = {
        "w": weights,
        "v": rng.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "u": rng.standard_normal((4, 4, 3, 3)).astype(np.float32),
        "one": np.array([1, -1]),
    }
    for nodes, sizes, wrong in (
        (flat, (2, 8, 8), (2, 8, 9)),
        (pooled, (2, 9, 9), (2, 3, 3)),
        (batch, (1, 8, 8), (2, 8, 8)),
    ):
        artifact = save(nodes, opened, [("y", FLOAT, None)], **held)
        options = Options(threads=1, settings={"cache": "1"} if kind == "cache" else {})
        if kind == "engine":
            RUNTIME.build(artifact, tmp_path / "net.blob", Options())
            artifact = read_engine(tmp_path / "net.blob")
        elif kind == "cache":
            RUNTIME.open(artifact, options).close()
        with RUNTIME.open(artifact, options) as session:
            before = session.run(image(*sizes))["y"]
            for call in (session.run, session.bind):
                with pytest.raises(FeedError, match="cannot run on these inputs: "):
                    call(image(*wrong))
            np.testing.assert_array_equal(session.run(image(*sizes))["y"], before)


def test_fixed_sizes_that_do_not_fit_are_the_files_fault(save: Save) -> None:
    nodes = [(("Relu", ["x"], ["r"]), {}), (("Reshape", ["r", "s"], ["y"], "square"), {})]
    artifact = save(nodes, [("x", FLOAT, ["n", 3, 8, "w"])], [("y", FLOAT, None)], s=np.array([0, 3, 64]))
    with RUNTIME.open(artifact.with_shapes({"x": (2, 3, 8, 8)}), with_settings(batch="2")) as session:
        assert session.run(image())["y"].shape == (2, 3, 64)
    with pytest.raises(
        ArtifactError, match=r"square: a shape of \[2,3,8,9\] cannot become one of \[2,3,64\]"
    ):
        RUNTIME.open(artifact.with_shapes({"x": (2, 3, 8, 9)}), with_settings(batch="2"))


def test_an_output_of_another_size_than_worked_out_is_an_error(fp32: Made) -> None:
    with RUNTIME.open(fp32.artifact, Options()) as session:
        launch = session.bind(image())
        launch()
        right = launch._expected
        assert list(map(str, right)) == ["[2,8,8,8]"]
        launch._expected = session._network.sizes.check(((3, 3, 8, 8),))
        with pytest.raises(
            FeedError, match=r"gave 'y' in the shape \(2, 8, 8, 8\), where \[3,8,8,8\] was to come"
        ):
            launch.outputs()


def test_a_session_that_failed_is_done_with(fp32: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an error inside a run leaves behind, nobody knows."""
    with RUNTIME.open(fp32.artifact, Options()) as session:
        with monkeypatch.context() as patch:
            patch.setattr("cnnport.runtimes.openvino.session.OpenVinoLaunch.__call__", fail)
            with pytest.raises(FeedError, match="cannot run on these inputs: out of luck"):
                session.run(image())
        with pytest.raises(FeedError, match="may compute wrongly since: open another"):
            session.run(image())


def fail(_: object) -> None:
    raise RuntimeError("Exception from a.cpp:1:\nout of luck")


# Errors.


def test_errors_name_operator_and_node(save: Save, capfd: pytest.CaptureFixture[str]) -> None:
    image_of = [("x", FLOAT, ["n", 3, 8, 8])]
    for nodes, message in (
        ([(("Odd", ["x"], ["y"]), {"domain": "my.domain"})], "No conversion rule found for .*my.domain.Odd"),
        ([(("Conv", ["x", "w"], ["y"], "first"), {})], r"first: .*channel count \(3\) does not match"),
    ):
        artifact = save(nodes, image_of, [("y", FLOAT, None)], w=np.ones((4, 2, 3, 3), np.float32))
        with pytest.raises(ArtifactError, match=message) as caught:
            RUNTIME.open(artifact, Options())
        assert len(str(caught.value).splitlines()) == 1
        built = RUNTIME.check(artifact, Options())
        assert (built.parsed, built.built, len(built.errors)) == (False, False, 1)
    assert built.errors[0].node == "first"
    # A damaged file is not offered to the readers of other formats, which would all complain.
    artifact.path.write_bytes(b"junk")
    with pytest.raises(ArtifactError, match="cannot load"):
        RUNTIME.open(artifact, Options())
    assert capfd.readouterr() == ("", "")


def test_the_reason_of_an_error_that_says_nothing() -> None:
    assert package.reason(RuntimeError("")) == "RuntimeError"
    assert package.reason(RuntimeError("Exception from a.cpp:1:\n")) == "Exception from a.cpp:1:"


# Importing.


@pytest.mark.parametrize("ours", [True, False])
def test_importing_sends_no_usage_report(tmp_path: Path, ours: bool) -> None:
    """A package in the place of the one that reports leaves a mark when it is imported."""
    mark = tmp_path / "imported"
    (tmp_path / "openvino_telemetry.py").write_text(f"open({str(mark)!r}, 'w')\nraise ImportError\n")
    line = "from cnnport.runtimes.openvino.package import load; load()" if ours else "import openvino"
    program = f"{line}\nimport sys, openvino; sys.exit(not openvino.convert_model)"
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, "PYTHONPATH": path})
    assert mark.exists() != ours


# Engines and the cache of them.


def test_an_engine_is_the_file(fp32: Made, tmp_path: Path) -> None:
    target = tmp_path / "net.blob"
    built = RUNTIME.build(fp32.artifact, target, Options())
    assert (built.ok, built.path, built.bytes) == (True, target, target.stat().st_size)
    assert any(layer.nodes[:1] == ("first",) for layer in built.layers)
    engine = read_engine(target)
    assert engine.inputs == fp32.artifact.inputs
    with RUNTIME.open(engine, Options()) as session, RUNTIME.open(fp32.artifact, Options()) as other:
        for feeds in (image(), image(3, 12, 6)):
            np.testing.assert_array_equal(session.run(feeds)["y"], other.run(feeds)["y"])
    with pytest.raises(ArtifactError, match="is an engine of openvino already"):
        RUNTIME.build(engine, tmp_path / "again.blob", Options())


def test_an_engine_keeps_its_settings(fp32: Made, tmp_path: Path) -> None:
    if "BF16" not in capabilities():
        pytest.skip("this CPU has no bf16")
    target = tmp_path / "net.blob"
    RUNTIME.build(fp32.artifact, target, with_settings(precision="bf16"))
    engine = read_engine(target)
    (placed,) = RUNTIME.placement(engine, Options()).values()
    assert placed["Convolution bf16"] == 2
    np.testing.assert_array_equal(run(engine), run(fp32.artifact, settings={"precision": "bf16"}))


def test_an_engine_that_was_changed_is_refused(fp32: Made, tmp_path: Path) -> None:
    target = tmp_path / "net.blob"
    RUNTIME.build(fp32.artifact, target, Options())
    engine = read_engine(target)
    data = bytearray(target.read_bytes())
    # In the weights: openvino itself would take it, and compute something else.
    data[len(data) - 200] ^= 255
    target.write_bytes(data)
    with pytest.raises(ArtifactError, match="damaged or has changed"):
        RUNTIME.open(engine, Options())
    facts = engine_facts(engine)
    assert facts is not None
    write_engine(target, b"of another version", fp32.artifact, facts)
    with pytest.raises(ArtifactError, match="openvino cannot load"):
        RUNTIME.open(read_engine(target), Options())
    write_engine(target, bytes(data), fp32.artifact, EngineFacts("trt", fp32.artifact.sha256))
    with pytest.raises(ArtifactError, match="is an engine of trt: pass --runtime trt"):
        RUNTIME.open(read_engine(target), Options())


def test_the_cache_is_used_and_repaired(fp32: Made, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    true_compile = blobs.compile_network
    monkeypatch.setattr(blobs, "compile_network", lambda *args: compiled.append(1) or true_compile(*args))
    expected = fp32.expected(image())["y"]

    def compiles(**options: object) -> int:
        compiled.clear()
        settings = {"cache": "1", **options.pop("settings", {})}
        assert compare(expected, run(fp32.artifact, settings=settings, **options)).within()
        return len(compiled)

    assert [compiles(), compiles()] == [1, 0]
    (entry,) = cache.glob("*.openvino")
    good = entry.read_bytes()
    flipped = bytearray(good)
    flipped[-200] ^= 255
    for damage in (
        lambda: entry.write_bytes(flipped),
        lambda: entry.write_bytes(good[: len(good) // 2]),
        lambda: entry.write_bytes(b""),
        entry.unlink,
    ):
        damage()
        assert [compiles(), compiles()] == [1, 0]
    # What another openvino wrote there is whole, but of no use.
    bring_back = blobs.bring_back
    monkeypatch.setattr(
        blobs, "bring_back", lambda artifact, data, *rest: bring_back(artifact, b"x" * 99, *rest)
    )
    assert compiles() == 1
    monkeypatch.setattr(blobs, "bring_back", bring_back)
    # What is compiled differently lies apart.
    assert compiles(threads=1) == 1
    assert compiles(settings={"hint": "throughput"}) == 1
    assert len(list(cache.glob("*.openvino"))) == 3


def test_a_file_that_changed_finds_no_entry(fp32: Made, cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(fp32.artifact.path.read_bytes())
    artifact = read_artifact(path)
    run(artifact, settings={"cache": "1"})
    model = onnx.load(path)
    onnx.save_model(model, path, save_as_external_data=True, location="other.data", size_threshold=0)
    with pytest.raises(ArtifactError, match="has changed since it was read"):
        run(artifact, settings={"cache": "1"})
    artifact = read_artifact(path)
    before = run(artifact, settings={"cache": "1"})
    data = tmp_path / "other.data"
    # The weights lie in another file, and only that one changes.
    data.write_bytes((np.frombuffer(data.read_bytes(), np.float32) * 2).tobytes())
    assert not np.array_equal(run(artifact, settings={"cache": "1"}), before)


def test_two_processes_and_a_killed_one_leave_one_entry(fp32: Made, cache: Path, tmp_path: Path) -> None:
    program = """
import os, signal, sys
from pathlib import Path
import numpy as np
from cnnport.onnxfile import read_artifact
from cnnport.runtimes import Options
from cnnport.runtimes.openvino import OpenVinoRuntime
from runtime_files import image
if sys.argv[2] == "die":
    # When the entry is written and not yet in its place.
    Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
with OpenVinoRuntime().open(read_artifact(Path(sys.argv[1])), Options(settings={"cache": "1"})) as session:
    print(session.run(image())["y"].sum())
"""
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])

    def start(fate: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", program, str(fp32.artifact.path), fate],
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            text=True,
        )

    killed = start("die")
    killed.communicate(timeout=60)
    assert killed.returncode == -9
    assert not list(cache.glob("*.openvino"))
    others = [start("live"), start("live")]
    said = {other.communicate(timeout=60)[0] for other in others}
    assert [other.returncode for other in others] == [0, 0]
    assert len(said) == 1
    (entry,) = cache.glob("*.openvino")
    assert {file.name for file in cache.iterdir()} == {entry.name, f"{entry.name}.lock"}
    written = entry.stat().st_mtime_ns
    assert compare(fp32.expected(image())["y"], run(fp32.artifact, settings={"cache": "1"})).within()
    assert entry.stat().st_mtime_ns == written


def test_a_cache_that_cannot_be_written(fp32: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CNNPORT_CACHE", str(tmp_path / "file"))
    with pytest.raises(CnnportError, match="cannot write ") as caught:
        run(fp32.artifact, settings={"cache": "1"})
    assert caught.value.exit_code == 2
    assert compare(fp32.expected(image())["y"], run(replace(fp32.artifact))).within()
