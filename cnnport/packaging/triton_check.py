"""Whether the configurations of a Triton model repository fit its ONNX files, and one another.

The rules are those by which a server refuses to load: of a model with a file, that every tensor of the file has the
name, element type and sizes that the configuration states, and that the batch is open where the server is to make
batches (its ONNX Runtime backend); of an ensemble, those of ``ensemble_scheduler/ensemble_utils.cc`` in
triton-inference-server/core.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from cnnport.artifact import TensorSpec
from cnnport.errors import CheckFailedError
from cnnport.packaging.triton_config import ANY, Ensemble, ServedModel, Step, Tensor, tensor


@dataclass(frozen=True)
class Interface:
    """Inputs and outputs of an ONNX file."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def check(configs: Sequence[ServedModel | Ensemble], files: Mapping[str, Interface]) -> None:
    """Hold configurations against the files.

    Args:
        configs: All models of a repository.
        files: What the ONNX file of each model with a file takes and gives, by the model's name.

    Raises:
        CheckFailedError: If a server would not load them, or would run something else.
    """
    if problems := list(find_problems(configs, files)):
        raise CheckFailedError("the Triton configurations do not fit the files\n" + "; ".join(problems))


def find_problems(configs: Sequence[ServedModel | Ensemble], files: Mapping[str, Interface]) -> Iterator[str]:
    """What does not fit, in sentences that begin with the model's name."""
    served = {config.name: config for config in configs if isinstance(config, ServedModel)}
    for config in configs:
        if isinstance(config, Ensemble):
            yield from (f"{config.name}: {problem}" for problem in _ensemble(config, served))
        elif config.name not in files:
            yield f"{config.name}: there is no file for it"
        else:
            yield from (f"{config.name}: {problem}" for problem in _served(config, files[config.name]))


def _served(config: ServedModel, file: Interface) -> Iterator[str]:
    batched = config.max_batch > 0
    if batched:
        fixed = [spec for spec in (*file.inputs, *file.outputs) if not spec.dynamic_batch]
        yield from (f"the server is to make batches, but the file fixes that of {spec}" for spec in fixed)
    if missing := {spec.name for spec in file.inputs} - {each.name for each in config.inputs}:
        yield f"the file's input {', '.join(sorted(missing))} is not configured"
    for kind, stated, there in (
        ("input", config.inputs, file.inputs),
        ("output", config.outputs, file.outputs),
    ):
        known = {spec.name: spec for spec in there}
        for each in stated:
            if each.name not in known:
                yield f"the file has no {kind} {each.name}"
            else:
                yield from _difference(f"{kind} {each.name}", each, tensor(known[each.name], batched=batched))
    if config.batching is not None:
        if not batched:
            yield "batches are to be made, but max_batch_size is 0"
        too_large = [size for size in config.batching.preferred if not 0 < size <= config.max_batch]
        yield from (f"preferred batch size {size} is not within 1..{config.max_batch}" for size in too_large)
    yield from _warmups(config)


def _warmups(config: ServedModel) -> Iterator[str]:
    inputs = {each.name: each for each in config.inputs}
    for warmup in config.warmups:
        if not 1 <= warmup.batch <= max(config.max_batch, 1):
            yield f"warm-up {warmup.name} has {warmup.batch} pictures, of at most {max(config.max_batch, 1)}"
        if {each.name for each in warmup.inputs} != set(inputs):
            yield f"warm-up {warmup.name} does not feed every input, or another"
            continue
        for each in warmup.inputs:
            what = f"warm-up {warmup.name}, input {each.name}"
            yield from _difference(what, each, inputs[each.name])
            if ANY in each.dims:
                yield f"{what} leaves a size open"


# A tensor of an ensemble as one side states it, and whether its sizes are without the batch.
_End: TypeAlias = "tuple[Tensor, bool]"


def _ensemble(config: Ensemble, served: Mapping[str, ServedModel]) -> Iterator[str]:
    known: dict[str, _End] = {each.name: (each, config.max_batch > 0) for each in config.inputs}
    for step in config.steps:
        model = served.get(step.model)
        if model is None:
            yield f"there is no model {step.model}"
            continue
        if model.max_batch and model.max_batch < config.max_batch:
            yield f"batches of {config.max_batch} are too many for {step.model}: {model.max_batch}"
        yield from _step(step, model, known)
    for each in config.outputs:
        if each.name not in known:
            yield f"no step gives {each.name}"
        else:
            yield from _mismatch(f"output {each.name}", known[each.name], (each, config.max_batch > 0))


def _step(step: Step, model: ServedModel, known: dict[str, _End]) -> Iterator[str]:
    """What is wrong with one step; what it gives is known afterwards."""
    batched = model.max_batch > 0
    inputs, outputs = ({each.name: each for each in side} for side in (model.inputs, model.outputs))
    if set(step.inputs) != set(inputs):
        yield f"step {step.model} is to be given {sorted(inputs)}, not {sorted(step.inputs)}"
    for name, source in step.inputs.items():
        if source not in known:
            yield f"step {step.model} wants {source}, which nothing before it gives"
        elif name in inputs:
            taken = (inputs[name], batched)
            yield from _mismatch(f"{source} as {step.model}'s {name}", known[source], taken)
    for name, target in step.outputs.items():
        if name not in outputs:
            yield f"step {step.model} has no output {name}"
        elif target in known:
            yield f"{target} comes about twice"
        else:
            known[target] = (outputs[name], batched)


def _mismatch(what: str, given: _End, taken: _End) -> Iterator[str]:
    """How two ends of a connection differ; sizes with the batch, for one end may batch and the other not."""
    (one, one_batched), (other, other_batched) = given, taken
    if one.data_type != other.data_type:
        yield f"{what} is {one.data_type} and should be {other.data_type}"
    sizes = [
        (ANY, *each.dims) if batched else each.dims
        for each, batched in ((one, one_batched), (other, other_batched))
    ]
    if not _agree(*sizes):
        yield f"{what} has sizes {list(sizes[0])} and should have {list(sizes[1])}"


def _difference(what: str, stated: Tensor, there: Tensor) -> Iterator[str]:
    """How a stated tensor departs from what is there, of which it may narrow open sizes."""
    if stated.data_type != there.data_type:
        yield f"{what} is {there.data_type}, not {stated.data_type}"
    fits = len(stated.dims) == len(there.dims) and all(
        real in {ANY, size} for size, real in zip(stated.dims, there.dims, strict=True)
    )
    if not fits:
        yield f"{what} has sizes {list(there.dims)}, not {list(stated.dims)}"


def _agree(one: Sequence[int], other: Sequence[int]) -> bool:
    return len(one) == len(other) and all(
        ANY in {left, right} or left == right for left, right in zip(one, other, strict=True)
    )
