"""The ``config.pbtxt`` of models in a Triton model repository: what may stand in one, and its text.

The text is protobuf's text format of the message ``inference.ModelConfig`` (triton-inference-server/common,
``model_config.proto``). Only what cnnport writes is here; writing it needs no protobuf library, and the tests read it
back with Triton's own definitions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, TypeAlias

from cnnport.artifact import TensorSpec
from cnnport.errors import ArtifactError

ANY = -1
"""A size that requests choose."""

# NumPy's names, and Triton's.
_TYPES = MappingProxyType(
    {
        "bool": "TYPE_BOOL",
        "uint8": "TYPE_UINT8",
        "int8": "TYPE_INT8",
        "int32": "TYPE_INT32",
        "int64": "TYPE_INT64",
        "float16": "TYPE_FP16",
        "float32": "TYPE_FP32",
        "float64": "TYPE_FP64",
    }
)


@dataclass(frozen=True)
class Tensor:
    """An input or output of a model as its configuration states it.

    Attributes:
        name: As in the model's file.
        data_type: Triton's name, such as ``TYPE_FP32``.
        dims: Without the batch where the model batches, with it where it does not; ``ANY`` is a free size.
        labels: Name of the file with the classes' names, beside the configuration; of outputs only.
    """

    name: str
    data_type: str
    dims: tuple[int, ...]
    labels: str | None = None


@dataclass(frozen=True)
class Batching:
    """How requests are put together by the server.

    Attributes:
        preferred: Batch sizes that go off without waiting; empty for as many as there are.
        delay_us: Microseconds that a request may wait for company.
    """

    preferred: tuple[int, ...] = ()
    delay_us: int = 0


@dataclass(frozen=True)
class Warmup:
    """A request that the server makes itself before it says that it is ready: zeros of one size.

    Attributes:
        name: What the server's log calls it.
        batch: How many requests at once, each of one picture; 1 where the model does not batch.
        inputs: One for each input, with no free size.
    """

    name: str
    batch: int
    inputs: tuple[Tensor, ...]


@dataclass(frozen=True)
class ServedModel:
    """A model with a file of its own.

    Attributes:
        name: Also that of its folder.
        platform: Who runs it: ``onnxruntime_onnx`` or ``tensorrt_plan``.
        file: The model's file in each folder of a version.
        max_batch: The largest batch, or 0 for a model whose file fixes it.
        inputs: All of them.
        outputs: Those that are offered.
        instances: How many at a time.
        device: Where: ``KIND_CPU``, ``KIND_GPU``, or ``KIND_AUTO`` for every GPU, or the CPU if there is none.
        batching: None for requests as they come.
        warmups: In this order.
        parameters: Of the backend.
        why: Lines of comment at the top.
    """

    name: str
    platform: Literal["onnxruntime_onnx", "tensorrt_plan"]
    file: str
    max_batch: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    instances: int
    device: Literal["KIND_AUTO", "KIND_CPU", "KIND_GPU"]
    batching: Batching | None = None
    warmups: tuple[Warmup, ...] = ()
    parameters: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    why: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """One model of an ensemble, and which tensors of the ensemble are its inputs and outputs.

    Attributes:
        model: Its name; the newest version is taken.
        inputs: Tensors of the ensemble by the model's names.
        outputs: Likewise.
    """

    model: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


@dataclass(frozen=True)
class Ensemble:
    """Models one after the other, for clients a single one.

    Attributes:
        name: Also that of its folder.
        max_batch: No larger than that of any model in it that batches.
        inputs: What a request brings.
        outputs: What it gets.
        steps: In the order in which tensors come about.
        why: Lines of comment at the top.
    """

    name: str
    max_batch: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    steps: tuple[Step, ...]
    why: tuple[str, ...] = ()


def tensor(spec: TensorSpec, *, batched: bool, labels: str | None = None) -> Tensor:
    """An input or output of a file as a configuration states it.

    Args:
        spec: Of the file.
        batched: Whether its first dimension is the batch that the server makes, which is left out then.
        labels: Name of the file with the classes' names.

    Raises:
        ArtifactError: If Triton has no such element type.
    """
    if spec.dtype not in _TYPES:
        raise ArtifactError(f"Triton takes no {spec.dtype}: {spec}")
    dims = tuple(size if isinstance(size, int) else ANY for size in spec.shape)
    return Tensor(spec.name, _TYPES[spec.dtype], dims[1:] if batched else dims, labels)


def config_text(config: ServedModel | Ensemble) -> str:
    """The ``config.pbtxt``."""
    fields = _ensemble(config) if isinstance(config, Ensemble) else _served(config)
    comment = "".join(f"# {line}\n" if line else "#\n" for line in config.why)
    return comment + "\n".join(_lines(fields)) + "\n"


class _Word(str):
    """The name of an enumeration's value, which has no quotes."""

    __slots__ = ()


_Value: TypeAlias = "str | int | bool | Sequence[int] | _Message | Sequence[_Message]"
_Message: TypeAlias = "Mapping[str, _Value]"


def _served(config: ServedModel) -> _Message:
    fields: dict[str, _Value] = {
        "name": config.name,
        "backend": "tensorrt" if config.platform == "tensorrt_plan" else "onnxruntime",
        "platform": config.platform,
        "default_model_filename": config.file,
        "max_batch_size": config.max_batch,
        "input": [_tensor(each) for each in config.inputs],
        "output": [_tensor(each) for each in config.outputs],
        **_VERSIONS,
        "instance_group": [{"count": config.instances, "kind": _Word(config.device)}],
    }
    if config.batching is not None:
        batching: dict[str, _Value] = {}
        if config.batching.preferred:
            batching["preferred_batch_size"] = list(config.batching.preferred)
        if config.batching.delay_us:
            batching["max_queue_delay_microseconds"] = config.batching.delay_us
        fields["dynamic_batching"] = batching
    if config.warmups:
        fields["model_warmup"] = [_warmup(each) for each in config.warmups]
    if config.parameters:
        fields["parameters"] = [
            {"key": key, "value": {"string_value": value}} for key, value in sorted(config.parameters.items())
        ]
    return fields


def _ensemble(config: Ensemble) -> _Message:
    steps: list[_Message] = [
        {
            "model_name": step.model,
            "model_version": -1,
            "input_map": _entries(step.inputs),
            "output_map": _entries(step.outputs),
        }
        for step in config.steps
    ]
    return {
        "name": config.name,
        "platform": "ensemble",
        "max_batch_size": config.max_batch,
        "input": [_tensor(each) for each in config.inputs],
        "output": [_tensor(each) for each in config.outputs],
        **_VERSIONS,
        "ensemble_scheduling": {"step": steps},
    }


# Written out although it is what Triton does of itself: who wants two versions side by side finds the place.
_VERSIONS: _Message = {"version_policy": {"latest": {"num_versions": 1}}}


def _tensor(each: Tensor) -> _Message:
    fields: _Message = {
        "name": each.name,
        "data_type": _Word(each.data_type),
        "dims": list(each.dims),
    }
    return {**fields, "label_filename": each.labels} if each.labels else fields


def _warmup(each: Warmup) -> _Message:
    inputs: list[_Message] = [
        {
            "key": given.name,
            "value": {"data_type": _Word(given.data_type), "dims": list(given.dims), "zero_data": True},
        }
        for given in each.inputs
    ]
    return {"name": each.name, "batch_size": each.batch, "inputs": inputs}


def _entries(mapping: Mapping[str, str]) -> list[_Message]:
    return [{"key": key, "value": value} for key, value in mapping.items()]


def _lines(message: _Message, indent: str = "") -> list[str]:
    lines: list[str] = []
    inner = indent + "  "
    for name, value in message.items():
        if isinstance(value, dict):
            lines += [f"{indent}{name} {{", *_lines(value, inner), f"{indent}}}"]
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            lines.append(f"{indent}{name} [")
            for position, each in enumerate(value):
                assert isinstance(each, dict)
                comma = "," if position < len(value) - 1 else ""
                lines += [f"{inner}{{", *_lines(each, inner + "  "), f"{inner}}}{comma}"]
            lines.append(f"{indent}]")
        else:
            lines.append(f"{indent}{name}: {_scalar(value)}")
    return lines


def _scalar(value: _Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[ {', '.join(map(str, value))} ]"
    if isinstance(value, _Word) or not isinstance(value, str):
        return str(value)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
