"""From a float32 model to one in halves: what running shows, what a departure leads to, and the file that comes."""

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cnnport import half_precision
from cnnport.artifact import Artifact
from cnnport.difference import difference
from cnnport.errors import CheckFailedError, CnnportError
from cnnport.graphs.half import BF16, FP16, HalfFormat, convert
from cnnport.graphs.half.emulate import emulate
from cnnport.graphs.protos import read, write
from cnnport.half_file import half_file
from cnnport.half_precision import to_half
from cnnport.halved import Halved, format_of
from cnnport.metadata import golden_of
from cnnport.onnxfile import CHECKSUM_KEY, load_model, read_artifact
from cnnport.runtimes import Options, get_runtime
from cnnport.verifying import verify

Run = Callable[..., tuple[int, str, str]]


def network(body: str, *, size: int = 8, opset: int = 20, channels: int = 8, **weights: np.ndarray):
    """A model in ONNX's text, of one image ``x`` of 3 channels and kernels ``u`` (3x3) and ``w`` (1x1)."""
    rng = np.random.default_rng(0)
    weights = {
        "u": rng.normal(size=(channels, 3, 3, 3)) / 5,
        "w": rng.normal(size=(channels, channels, 1, 1)) / 3,
        "b": rng.normal(size=channels) / 3,
        **weights,
    }
    io = f"(float[N,3,{size},{size}] x) => (float[N,C,H,W] y)"
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : {opset}]> g {io} {{ c = Conv <pads = [1, 1, 1, 1]> (x, u, b) {body} }}'
    )
    for name, array in weights.items():
        if name in {value for node in model.graph.node for value in node.input}:
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(array, np.float32), name))
    return model


def images(size: int = 8, scale: float = 1.0) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    return [{"x": (scale * rng.normal(size=(n, 3, size, size))).astype(np.float32)} for n in (1, 2)]


def done(
    model, folder: Path, feeds, half: HalfFormat = FP16, **options: bool
) -> tuple[onnx.ModelProto, Halved]:
    folder.mkdir(exist_ok=True)
    made, found = to_half(model, folder, half, feeds, **options)
    assert found.difference.ok
    assert found.difference.error <= found.tolerance
    return made, found


def unguarded(model, feeds) -> np.ndarray:
    """The output with everything in halves that can be, whatever the numbers."""
    graph = read(model)
    convert(graph, FP16)
    made = onnx.ModelProto()
    made.CopyFrom(emulate(read(write(graph))))
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


# Sixteen thousand pixels of about 20: their mean is nothing special, and their sum out of range.
POOL = "s = Mul (c, k) r = Abs (s) p = GlobalAveragePool (r) y = Conv (p, w)"


def test_a_pool_whose_sum_overflows_is_found_and_kept(tmp_path: Path) -> None:
    model, feeds = network(POOL, size=128, k=np.array(20.0)), images(128)
    assert not np.isfinite(unguarded(model, feeds[0])).any()
    _, found = done(model, tmp_path, feeds)
    (reason,) = found.conversion.kept.values()
    assert list(found.conversion.kept) == ["p"]
    assert reason.startswith("sums near the largest number: it adds up to")
    assert (found.measured, found.conversion.casts) == (0, 4)
    # The same over few pixels is as good in halves as anything.
    _, found = done(network(POOL, k=np.array(20.0)), tmp_path / "small", images())
    assert not found.conversion.kept


@pytest.mark.parametrize(
    ("body", "weights", "kept"),
    [
        # x*x, and everything that reads it.
        (
            "s = Mul (c, k) q = Mul (s, s) m = ReduceMean <keepdims = 1> (q) y = Div (m, k)",
            {"k": np.array(300.0)},
            {"q": "values near the largest", "m": "values near the largest", "y": "values near the largest"},
        ),
        ("s = Mul (c, k) e = Exp (s) l = Log (e) y = Conv (l, w)", {"k": np.array(6.0)}, None),
        (
            "s = Mul (c, k) t = Mul (s, k) y = Div (t, l)",
            {"k": np.array(1e-4), "l": np.array(1e-7)},
            None,
        ),
        (
            "s = Mul (c, k) a = Abs (s) d = Div (c, a) y = Conv (d, w)",
            {"k": np.array(0.1)},
            {"d": "divisors and logarithms near zero"},
        ),
        (
            "s = Mul (c, k) y = LRN <size = 5, alpha = 0.0001, beta = 0.75, bias = 1.0> (s)",
            {"k": np.array(100.0)},
            {"y": "sums near the largest number"},
        ),
        (
            "s = Mul (c, k) n = InstanceNormalization (s, g, b) y = Conv (n, w)",
            {"k": np.array(20.0), "g": np.ones(8)},
            {"n": "sums near the largest number"},
        ),
    ],
    ids=["squares", "exp", "tiny", "divisor", "lrn", "instancenorm"],
)
def test_numbers_that_halves_do_not_hold_are_found(tmp_path: Path, body, weights, kept) -> None:
    _, found = done(network(body, **weights), tmp_path, images())
    assert found.measured == 0
    if kept is not None:
        assert {
            key: reason.partition(":")[0][: len(kept[key])] for key, reason in found.conversion.kept.items()
        } == kept
    assert found.conversion.kept


def test_bfloat16_has_the_range_and_not_the_digits(tmp_path: Path) -> None:
    model, feeds = network(POOL, size=128, opset=22, k=np.array(20.0)), images(128)
    _, found = done(model, tmp_path, feeds, BF16)
    assert not found.conversion.kept
    assert found.note
    assert found.difference.error > 1e-3


def test_without_the_guards_the_check_finds_what_has_to_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong choice is found by its effect, and put right."""
    monkeypatch.setattr(half_precision, "guards", lambda *_: {})
    model, feeds = network(POOL, size=128, k=np.array(20.0)), images(128)
    steps: list[str] = []
    _, found = to_half(model, tmp_path, FP16, feeds, on_step=steps.append)
    assert steps == ["ranges", "fp16", "verify", "effects", "fp16", "verify"]
    assert found.measured == 1
    assert found.conversion.kept["p"].startswith("measured effect: inf")
    # What a file in halves loses to cancellation comes back with the nodes that lose it.
    body = "s = Add (c, k) t = Sub (s, k) y = Conv (t, w)"
    _, found = done(network(body, k=np.full((8, 1, 1), 3e3)), tmp_path, images())
    assert set(found.conversion.kept) | set(found.conversion.spared) >= {"s", "t"}
    assert "c" not in found.conversion.kept


def test_what_cannot_be_right_fails(tmp_path: Path) -> None:
    """With halves as inputs nothing helps where what counts lies in the last digits of those."""
    model = network("s = Sub (x, k) y = Conv (s, v)", k=np.full((3, 1, 1), 1e3), v=np.ones((8, 3, 1, 1)))
    feeds = [{"x": each["x"] * 0.1 + 1000} for each in images()]
    feeds = [{"x": each["x"].astype(np.float32)} for each in feeds]
    with pytest.raises(
        CheckFailedError, match=r"departs from float32, whatever stays.*\nallowed are 2.5e-01; largest"
    ):
        to_half(model, tmp_path, FP16, feeds, half_io=True)


def test_a_graph_that_was_converted_wrongly_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file itself is held to account, not the plan: one weight off is found."""

    def wrong(model, *arguments, **options):
        result = convert(model, *arguments, **options)
        value = model.graph.initializers["w"]
        array = value.const_value.numpy().copy()
        array.flat[0] += 1
        value.const_value = type(value.const_value)(array, name="w")
        return result

    monkeypatch.setattr(half_precision, "convert", wrong)
    monkeypatch.setattr(half_precision, "_ROUNDS", 1)
    with pytest.raises(CheckFailedError, match="departs from float32"):
        to_half(network("r = Relu (c) y = Conv (r, w)"), tmp_path, FP16, images())


def test_models_that_give_nothing_to_hold_to(tmp_path: Path) -> None:
    with pytest.raises(CheckFailedError, match="y holds NaN or infinity in float32"):
        to_half(network("s = Sub (c, c) y = Div (s, s)"), tmp_path, FP16, images())
    with pytest.raises(CnnportError, match="no precision is called 'fp8'"):
        format_of("fp8")
    with pytest.raises(CnnportError, match="goes with --precision fp16, not bf16"):
        format_of("bf16", "fp16")
    assert format_of("fp32") is None


@pytest.fixture(scope="module")
def lenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("half")


def test_an_export_in_halves_describes_and_verifies_itself(lenet: Path, cli: Run) -> None:
    path = lenet / "lenet5.onnx"
    code, out, err = cli("export", "lenet5", "--precision", "fp16", "-o", path, "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert (facts["precision"], facts["half"]["casts"], facts["half"]["io_dtype"]) == ("fp16", 2, "fp32")
    assert facts["half"]["kept"] == {}
    assert 0 < facts["half"]["error_in_std"] < facts["half"]["tolerance_in_std"] == 0.02
    artifact = read_artifact(path)
    assert (artifact.precision, artifact.metadata["cnnport.io_dtype"]) == ("fp16", "fp32")
    assert {spec.dtype for spec in (*artifact.inputs, *artifact.outputs)} == {"float32"}
    assert [check.name for check in verify(path) if not check.ok] == []
    code, out, _ = cli("info", path)
    assert code == 0
    assert "casts 2" in out
    # The golden output is held as tightly as halves allow.
    golden = golden_of(artifact)
    assert golden is not None
    (name,) = golden.outputs
    assert golden.tolerance[name] < 0.05 * golden.outputs[name].std()


def test_float16_inputs_and_outputs(lenet: Path, cli: Run, digit_scans: list[Path]) -> None:
    path = lenet / "lenet5_io.onnx"
    assert cli("export", "lenet5", "--precision", "fp16", "--io-dtype", "fp16", "-o", path)[0] == 0
    artifact = read_artifact(path)
    assert {spec.dtype for spec in (*artifact.inputs, *artifact.outputs)} == {"float16"}
    assert not any(node.op_type == "Cast" for node in load_model(path).graph.node)
    assert all(check.ok for check in verify(path))
    code, out, err = cli("run", path, digit_scans[0], "--json")
    assert code == 0, err
    assert json.loads(out)["results"][0]["top"][0]["probability"] > 0.5


def test_bfloat16_exports_verify_without_a_runtime_that_knows_it(lenet: Path, cli: Run) -> None:
    path = lenet / "lenet5_bf16.onnx"
    code, _, err = cli("export", "lenet5", "--precision", "bf16", "-o", path)
    assert (code, "from opset 22 on it does" in err) == (2, True)
    assert not path.exists()
    code, _, err = cli("export", "lenet5", "--precision", "bf16", "--opset", 22, "-o", path)
    assert code == 0, err
    assert "checked in emulation alone" in err
    assert read_artifact(path).precision == "bf16"
    assert all(check.ok for check in verify(path))
    # A weight that is another one shows in the golden output, not only in the checksums.
    model = load_model(path)
    kernel = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
    data = bytearray(kernel.raw_data)
    data[1::2] = bytes(each ^ 0x80 for each in data[1::2])
    kernel.raw_data = bytes(data)
    onnx.save(model, path)
    golden = golden_of(read_artifact(path))
    assert golden is not None
    from cnnport.golden import seeded_input

    with half_precision.emulated(read_artifact(path)) as session:
        answer = session.run(seeded_input(session.inputs, golden.batch, golden.seed))
    (name,) = golden.outputs
    assert np.abs(answer[name].reshape(-1) - golden.outputs[name]).max() > golden.tolerance[name]


def test_files_of_others_and_our_own(
    lenet: Path, tmp_path: Path, exported: Callable[[str], Artifact]
) -> None:
    # Of IR version 3, where all initializers are inputs too.
    model = network("r = Relu (c) p = GlobalAveragePool (r) y = Conv (p, w)", opset=9)
    model.ir_version = 3
    model.graph.input.extend(
        helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, list(tensor.dims))
        for tensor in model.graph.initializer
    )
    model.metadata_props.add(key="mine", value="kept")
    onnx.save(model, tmp_path / "theirs.onnx")
    made = half_file(tmp_path / "theirs.onnx", tmp_path / "half.onnx", "fp16")
    assert dict(made.artifact.metadata) == {"mine": "kept"}
    assert (made.artifact.precision, len(made.artifact.inputs), made.halved.conversion.casts) == (
        "fp16",
        1,
        2,
    )
    with pytest.raises(CnnportError, match="in float16 already"):
        half_file(made.artifact.path, tmp_path / "again.onnx", "fp16")
    with pytest.raises(CnnportError, match="fp16 or bf16, not fp32"):
        half_file(tmp_path / "theirs.onnx", tmp_path / "again.onnx", "fp32")
    own = half_file(exported("lenet5").path, tmp_path / "own.onnx", "fp16")
    assert own.artifact.metadata[CHECKSUM_KEY] != exported("lenet5").metadata[CHECKSUM_KEY]
    assert own.artifact.precision == "fp16"
    assert all(check.ok for check in verify(own.artifact.path))


@pytest.mark.parametrize("name", ["ort-cpu", "openvino"])
def test_runtimes_run_it(name: str, tmp_path: Path, exported: Callable[[str], Artifact]) -> None:
    if reason := get_runtime(name).missing():
        pytest.skip(reason)
    before = exported("lenet5")
    made = half_file(before.path, tmp_path / "half.onnx", "fp16")
    from cnnport.golden import seeded_input

    feeds = seeded_input(before.inputs, 4, 3)
    with get_runtime("ort-cpu").open(before, Options()) as session:
        expected = session.run(feeds)
    with get_runtime(name).open(made.artifact, Options()) as session:
        assert difference(expected, session.run(feeds), made.halved.tolerance).ok


@pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")
def test_tensorrt_builds_it(tmp_path: Path, exported: Callable[[str], Artifact]) -> None:
    """Strongly typed, with a node in float32 between halves."""
    runtime = get_runtime("trt-rtx")
    made = half_file(exported("lenet5").path, tmp_path / "half.onnx", "fp16")
    assert runtime.check(made.artifact, Options()).ok  # type: ignore[attr-defined]
    model, _ = done(network(POOL + " z = Relu (y)", size=128, k=np.array(20.0)), tmp_path, images(128))
    from cnnport.offload import bring_back

    bring_back(model, tmp_path)
    onnx.save(model, tmp_path / "pool.onnx")
    built = runtime.check(read_artifact(tmp_path / "pool.onnx"), Options())  # type: ignore[attr-defined]
    assert built.ok, built.errors
