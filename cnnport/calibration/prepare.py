"""A model made ready to be calibrated: with sizes, and with outputs that tell of its values."""

import gc
import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cnnport.artifact import Artifact
from cnnport.calibration.samples import Feeds, Samples
from cnnport.calibration.taps import Tap, add_taps, float_values
from cnnport.errors import ArtifactError, CnnportError, FeedError, ImageError, first_line
from cnnport.graphs import protos
from cnnport.offload import compact, set_aside
from cnnport.onnxfile import initializers_sha256, load_model, read_artifact

if TYPE_CHECKING:
    import onnx

_WEIGHTS = "weights.data"

# One run takes so many numbers as input, those of four ImageNet pictures: a few samples make the weights' way through
# the caches worth it, many cost memory. Of small ones there are not so many that loading could not keep up.
_INPUT = 4 * 3 * 224 * 224
_LARGEST_BATCH = 16

_QUANTIZED = frozenset(
    "QuantizeLinear DequantizeLinear DynamicQuantizeLinear ConvInteger MatMulInteger".split()  # noqa: SIM905
)


@dataclass(frozen=True)
class Prepared:
    """A model that tells of its values.

    Attributes:
        artifact: The file with the taps.
        taps: In the order of the graph.
        key: Hash of what the model computes, as it was given.
        batch: Of each run.
        is_fixed: Whether it takes no other batch.
    """

    artifact: Artifact
    taps: tuple[Tap, ...]
    key: str
    batch: int
    is_fixed: bool


def prepare(
    model: "Path | onnx.ModelProto", samples: Samples, values: Collection[str] | None, folder: Path
) -> Prepared:
    """Write a model that tells of its values.

    Args:
        model: A file, or a model with all its weights, which is not changed.
        samples: Their sizes settle what its inputs leave open.
        values: Names of values; None for all.
        folder: Where it is written, and its weights beside it.

    Raises:
        CnnportError: As ``calibrate``.
    """
    import onnx

    if isinstance(model, Path):
        shell = load_model(model)
    else:
        shell = onnx.ModelProto()
        shell.CopyFrom(model)
    if found := next((node.op_type for node in shell.graph.node if _is_quantized(node.op_type)), None):
        raise ArtifactError(f"the model is quantized already, it has {found}: calibrate the float32 file")
    set_aside(shell, folder, _WEIGHTS)
    shell = compact(shell)
    key = _key_of(shell, folder)
    inputs = {value.name: value for value in shell.graph.input}
    fixed = set()
    first = _first(samples)
    for name, array in first.items():
        if name not in inputs:
            raise FeedError(f"no input is called {name!r}: the inputs are {', '.join(inputs)}")
        dims = inputs[name].type.tensor_type.shape.dim
        if dims and dims[0].dim_value > 0:
            fixed.add(dims[0].dim_value)
        # Taps depend on the sizes of maps. What does not fit is left for the session to say.
        if len(dims) == array.ndim:
            for dim, size in zip(dims[1:], array.shape[1:], strict=True):
                if dim.dim_value <= 0:
                    dim.dim_value = size
    try:
        graph = protos.read(shell, folder)
    except Exception as error:  # readers raise nearly anything for models that they cannot carry
        raise ArtifactError(f"the model cannot be calibrated: {first_line(error)}") from error
    known = float_values(graph)
    wanted = set(known if values is None else values)
    taps = add_taps(graph, [*(name for name in known if name in wanted), *sorted(wanted - set(known))])
    path = folder / "calibrated.onnx"
    path.write_bytes(protos.write(graph).SerializeToString())
    del graph, shell
    # The IR refers to itself; until it is collected, the weights stay mapped.
    gc.collect()
    likely = min(_LARGEST_BATCH, max(1, _INPUT // max(array.size for array in first.values())))
    return Prepared(read_artifact(path), tuple(taps), key, max(fixed, default=likely), bool(fixed))


def _is_quantized(op_type: str) -> bool:
    return op_type in _QUANTIZED or op_type.startswith(("QLinear", "QGemm"))


def _key_of(shell: "onnx.ModelProto", folder: Path) -> str:
    """A hash of what a model computes: its metadata and documentation are no part of it."""
    import onnx

    bare = onnx.ModelProto()
    bare.CopyFrom(shell)
    for field in ("initializer", "doc_string", "value_info", "metadata_props"):
        bare.graph.ClearField(field)
    for field in ("doc_string", "metadata_props", "producer_name", "producer_version"):
        bare.ClearField(field)
    for node in bare.graph.node:
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
    text = bare.SerializeToString(deterministic=True)
    return hashlib.sha256(text + initializers_sha256(shell, folder).encode()).hexdigest()


def _first(samples: Samples) -> Feeds:
    """The first sample that can be read. Raises ``CnnportError``."""
    reason = "there are none"
    for place in range(len(samples)):
        try:
            return samples.load(place)
        except ImageError as error:
            reason = str(error)
    raise CnnportError(f"none of the {len(samples)} samples can be read: {reason}")
