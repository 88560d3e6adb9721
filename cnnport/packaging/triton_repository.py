"""A package for Triton: a model repository with preprocessing, network and scores, and an ensemble of the three.

The three are models of their own because a server batches each by itself: images of different sizes cannot share a
batch, but what preprocessing makes of them can. A picture file without its network is served as the one model it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from cnnport.artifact import Artifact, TensorSpec
from cnnport.classify import scores_output
from cnnport.errors import ArtifactError
from cnnport.packaging.common_files import common_files
from cnnport.packaging.kinds import Content
from cnnport.packaging.subject import Subject
from cnnport.packaging.templates import filled, template_files
from cnnport.packaging.triton_check import Interface, check
from cnnport.packaging.triton_config import (
    ANY,
    Batching,
    Ensemble,
    ServedModel,
    Step,
    Tensor,
    Warmup,
    config_text,
    tensor,
)
from cnnport.packaging.triton_texts import (
    ENGINE_SOURCE,
    ENSEMBLE_NOTE,
    ONNX,
    PLAN,
    REPOSITORY,
    VERSION,
    WHY_ENGINE,
    WHY_ENSEMBLE,
    WHY_FULL,
    WHY_NETWORK,
    WHY_NORMALIZE,
    WHY_SCORES,
    WHY_WHOLE,
    values,
)
from cnnport.packaging.triton_trial import try_example

if TYPE_CHECKING:
    import onnx

# Of pictures at once. More gains little on a CPU; on a GPU it is the first thing to try.
_MAX_BATCH = 8

# Half a millisecond is little beside a network's run, and enough for requests that come together to meet.
_DELAY_US = 500

_LABELS = "labels.txt"


@dataclass(frozen=True)
class Repository:
    """What lies in a model repository.

    Attributes:
        configs: One for each model.
        models: The file of each model that has one here, by the model's name.
        interfaces: What the ONNX file of each model takes and gives, likewise.
        others: Further files by their names in the repository.
    """

    configs: Sequence[ServedModel | Ensemble]
    models: Mapping[str, Content]
    interfaces: Mapping[str, Interface]
    others: Mapping[str, Content] = field(default_factory=lambda: MappingProxyType({}))

    def files(self) -> dict[str, Content]:
        """All of them by their names in the repository."""
        found: dict[str, Content] = dict(self.others)
        for config in self.configs:
            found[f"{config.name}/config.pbtxt"] = config_text(config).encode()
            if isinstance(config, ServedModel) and config.name in self.models:
                found[f"{config.name}/{VERSION}/{config.file}"] = self.models[config.name]
            elif isinstance(config, Ensemble):
                # A model without a folder of a version is not served, even if there is nothing to lie in it.
                found[f"{config.name}/{VERSION}/README.md"] = ENSEMBLE_NOTE
        return found


def files(subject: Subject) -> Mapping[str, Content]:
    """The package's files by their names in it.

    Raises:
        ArtifactError: If the model cannot be served so.
        CheckFailedError: If the configurations did not fit the files, or these gave the example another answer.
    """
    made = whole(subject) if subject.network is None else pipeline(subject, subject.network)
    check(made.configs, made.interfaces)
    for config in made.configs:
        if isinstance(config, Ensemble) and subject.network is not None:
            try_example(subject, config, {**made.models, subject.name: subject.network.path})
    package = common_files(subject)
    package |= {f"{REPOSITORY}/{name}": content for name, content in made.files().items()}
    engine = subject.backend == "tensorrt"
    if engine and subject.network is not None:
        package[f"{ENGINE_SOURCE}/{subject.name}.onnx"] = subject.network.path
    known = values(subject, made.configs, _batch(subject.network or subject.artifact).most)
    for name, text in template_files("triton").items():
        if name == "engine.md":
            if engine:
                place = f"{REPOSITORY}/{subject.name}/{VERSION}"
                package[f"{place}/README.md"] = filled(text, known)
        else:
            # Programs are the same for all models; prose and manifests name theirs.
            package[name] = text if name.endswith((".py", ".txt")) else filled(text, known)
    return package


def pipeline(subject: Subject, network: Artifact) -> Repository:
    """Preprocessing, network and scores, and the ensemble that clients ask."""
    from cnnport.packaging.triton_graphs import interface, preprocess_graph, scores_graph

    name = subject.name
    answer = next(spec for spec in network.outputs if spec.name == scores_output(network))
    before = preprocess_graph(subject.preprocess, subject.picture, network)
    after = scores_graph(answer, subject.picture.top, network)
    spec = network.inputs[0]
    batch = _batch(network)
    interfaces = {
        f"{name}_preprocess": interface(before),
        name: Interface(network.inputs, network.outputs),
        f"{name}_scores": interface(after),
    }
    first, last = interfaces[f"{name}_preprocess"], interfaces[f"{name}_scores"]
    image = _image(subject, first.inputs[0], batch)
    made = _tensor(first.outputs[0], batch)
    results = tuple(_tensor(each, batch, _labels(subject, each)) for each in last.outputs)
    scored = _tensor(last.inputs[0], batch)
    taken = _narrowed(_tensor(spec, batch), made)
    configs: list[ServedModel | Ensemble] = [
        ServedModel(
            name=f"{name}_preprocess",
            platform="onnxruntime_onnx",
            file=ONNX,
            max_batch=batch.most,
            inputs=(image,),
            outputs=(made,),
            instances=2,
            device="KIND_CPU",
            batching=Batching() if batch.most else None,
            warmups=_warmups((_example_sized(subject, image),), (1,)),
            parameters={"intra_op_thread_count": "1"},
            why=WHY_FULL if subject.picture.preprocess == "full" else WHY_NORMALIZE,
        ),
        _network_config(subject, network, taken, batch),
        ServedModel(
            name=f"{name}_scores",
            platform="onnxruntime_onnx",
            file=ONNX,
            max_batch=batch.most,
            inputs=(scored,),
            outputs=results,
            instances=1,
            device="KIND_CPU",
            batching=Batching() if batch.most else None,
            warmups=_warmups((scored,), (1,)),
            parameters={"intra_op_thread_count": "1"},
            why=WHY_SCORES,
        ),
        Ensemble(
            name=f"{name}_pipeline",
            max_batch=batch.most,
            inputs=(image,),
            outputs=results,
            steps=(
                Step(f"{name}_preprocess", {image.name: image.name}, {made.name: "prepared"}),
                Step(name, {spec.name: "prepared"}, {answer.name: "scores"}),
                Step(f"{name}_scores", {scored.name: "scores"}, {each.name: each.name for each in results}),
            ),
            why=WHY_ENSEMBLE,
        ),
    ]
    models: dict[str, Content] = {f"{name}_preprocess": _bytes(before), f"{name}_scores": _bytes(after)}
    if subject.backend == "onnxruntime":
        models[name] = network.path
    labels = _label_files(subject, f"{name}_scores", f"{name}_pipeline")
    return Repository(configs, models, interfaces, labels)


def whole(subject: Subject) -> Repository:
    """A picture file as one model, called as the ensemble would be.

    Raises:
        ArtifactError: If TensorRT is to run it.
    """
    artifact = subject.artifact
    if subject.backend == "tensorrt":
        raise ArtifactError(
            f"{artifact.path} prepares images itself, which TensorRT cannot: name the network, or the file that was "
            "exported without --preprocess"
        )
    name, batch = f"{subject.name}_pipeline", _batch(artifact)
    image = _image(subject, artifact.inputs[0], batch)
    config = ServedModel(
        name=name,
        platform="onnxruntime_onnx",
        file=ONNX,
        max_batch=batch.most,
        inputs=(image,),
        outputs=tuple(_tensor(each, batch, _labels(subject, each)) for each in artifact.outputs),
        instances=1,
        device="KIND_AUTO",
        batching=Batching(delay_us=_DELAY_US) if batch.most else None,
        warmups=_warmups((_example_sized(subject, image),), batch.warm),
        parameters={"intra_op_thread_count": "0"},
        why=WHY_WHOLE if subject.picture.preprocess == "full" else (),
    )
    return Repository(
        (config,),
        {name: artifact.path},
        {name: Interface(artifact.inputs, artifact.outputs)},
        _label_files(subject, name),
    )


@dataclass(frozen=True)
class _Batch:
    """How a file takes batches: up to ``most`` that the server makes, or 0 and always ``fixed``."""

    most: int
    fixed: int | None

    @property
    def warm(self) -> tuple[int, ...]:
        """Batches that are tried before the server is ready."""
        return (1, self.most) if self.most > 1 else (1,)


def _batch(artifact: Artifact) -> _Batch:
    if artifact.inputs[0].dynamic_batch:
        return _Batch(_MAX_BATCH, None)
    return _Batch(0, int(artifact.inputs[0].shape[0]))


def _network_config(subject: Subject, network: Artifact, taken: Tensor, batch: _Batch) -> ServedModel:
    engine = subject.backend == "tensorrt"
    # An engine is fastest at the size that it was built for.
    preferred = (batch.most,) if engine and batch.most else ()
    return ServedModel(
        name=subject.name,
        platform="tensorrt_plan" if engine else "onnxruntime_onnx",
        file=PLAN if engine else ONNX,
        max_batch=batch.most,
        inputs=(taken,),
        outputs=tuple(_tensor(each, batch) for each in network.outputs),
        instances=1,
        device="KIND_GPU" if engine else "KIND_AUTO",
        batching=Batching(preferred, _DELAY_US) if batch.most else None,
        warmups=_warmups((taken,), batch.warm),
        parameters={} if engine else {"intra_op_thread_count": "0"},
        why=WHY_ENGINE if engine else WHY_NETWORK,
    )


def _tensor(spec: TensorSpec, batch: _Batch, labels: str | None = None) -> Tensor:
    """As the configuration states it; where the batch is fixed for one model it is for all."""
    stated = tensor(spec, batched=batch.most > 0, labels=labels)
    return stated if batch.fixed is None else replace(stated, dims=(batch.fixed, *stated.dims[1:]))


def _image(subject: Subject, spec: TensorSpec, batch: _Batch) -> Tensor:
    """The input of images; prepared ones are of one size even if the file leaves it open."""
    stated = _tensor(spec, batch)
    if subject.picture.preprocess == "full":
        return stated
    return _example_sized(subject, stated)


def _example_sized(subject: Subject, image: Tensor) -> Tensor:
    """The input of images at the size of the example."""
    height, width, channels = subject.example.pixels.shape
    size = (height, width, channels) if subject.picture.layout == "nhwc" else (channels, height, width)
    return replace(image, dims=(*image.dims[:-3], *size))


def _narrowed(taken: Tensor, given: Tensor) -> Tensor:
    """An input whose open sizes are those of what it will be given."""
    sizes = zip(taken.dims, given.dims, strict=True)
    return replace(taken, dims=tuple(there if size == ANY else size for size, there in sizes))


def _warmups(inputs: tuple[Tensor, ...], batches: tuple[int, ...]) -> tuple[Warmup, ...]:
    return tuple(Warmup(f"batch_{batch}", batch, inputs) for batch in batches)


def _labels(subject: Subject, spec: TensorSpec) -> str | None:
    return _LABELS if subject.labels and spec.name == "probabilities" else None


def _label_files(subject: Subject, *names: str) -> dict[str, Content]:
    if not subject.labels:
        return {}
    # One line for each class, in order: a label of two lines would move all that come after it.
    lines = "".join(" ".join(label.split()) + "\n" for label in subject.labels)
    return {f"{name}/{_LABELS}": lines.encode() for name in names}


def _bytes(model: "onnx.ModelProto") -> bytes:
    encoded: bytes = model.SerializeToString(deterministic=True)
    return encoded
