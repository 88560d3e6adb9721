"""One network on one runtime, as an evaluation needs it."""

import os
from dataclasses import dataclass, replace
from typing import Any

from cnnport.artifact import Artifact, TensorSpec
from cnnport.calibration.pictures import picture_input
from cnnport.classify import scores_output
from cnnport.errors import ArtifactError
from cnnport.evaluation.labels import Classes
from cnnport.evaluation.protocol import Protocol
from cnnport.metadata import Picture, labels_of, picture_of, preprocess_of
from cnnport.preprocess import Preprocess
from cnnport.runtimes import Options, require_runtime
from cnnport.runtimes.engine_file import misfit

_OWN_PREPARATION = "say how with --size, --mean and --std, one number a channel, 1 or 3"

# Runs of one thread each, side by side, waste no CPU in waiting for each other, nor while pictures are decoded. Which
# sessions take several runs at once, their adapters say.
_SIDE_BY_SIDE = frozenset({"ort-cpu"})

_ON_GPU = frozenset({"ort-cuda", "torch-cuda", "trt", "trt-rtx"})
_GPU_BATCH = 32
# With one thread larger ones are not faster, and take more memory.
_CPU_BATCH = 4


@dataclass(frozen=True)
class Network:
    """What is evaluated.

    Attributes:
        artifact: The file.
        runtime: What runs it.
        options: How its session is opened.
        lanes: So many runs go side by side.
        input_name: Of its one input.
        input_dtype: Of it.
        preprocess: What it wants done to pictures.
        output: The one with a score for each class; of a dense form the average over its windows.
        window_map: The output with the scores of every window; None if the protocol has no use for it.
        classes: That it tells apart.
        fixed_batch: The one batch that it takes; None for any.
        protocol: What it is shown, settled.
        picture: What it takes, if it is a picture file.
    """

    artifact: Artifact
    runtime: str
    options: Options
    lanes: int
    input_name: str
    input_dtype: str
    preprocess: Preprocess
    output: str
    window_map: str | None
    classes: Classes
    fixed_batch: int | None
    protocol: Protocol
    picture: Picture | None = None

    def batch(self, wanted: int | None) -> int:
        """How many views are run at once: what the file fixes, what is wanted, or what suits the runtime."""
        return self.fixed_batch or wanted or (_GPU_BATCH if is_on_gpu(self.runtime) else _CPU_BATCH)

    def to_json(self) -> dict[str, Any]:
        """Everything that the answers depend on, as plain values."""
        return {
            "sha256": self.artifact.sha256,
            "runtime": self.runtime,
            "runtime_version": require_runtime(self.runtime).version(),
            "threads": self.options.threads,
            "deterministic": self.options.deterministic,
            "device": self.options.device,
            "settings": dict(sorted(self.options.settings.items())),
            "preprocess": self.preprocess.to_json(),
            "protocol": self.protocol.to_json(),
        }


def is_on_gpu(runtime: str) -> bool:
    """Whether a runtime's batches had better be large, and its tasks need a GPU."""
    return runtime in _ON_GPU


def cpu_count() -> int:
    """CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def prepare_network(
    artifact: Artifact,
    runtime: str,
    options: Options,
    protocol: Protocol,
    preprocess: Preprocess | None = None,
) -> Network:
    """Settle how a file is evaluated; nothing is loaded.

    Args:
        artifact: The file.
        runtime: Name of a runtime.
        options: How its session is to be opened; where threads are left open and the runtime takes several runs at
            once, each gets one thread and every CPU a run.
        protocol: What the network is shown.
        preprocess: What is done to pictures, whatever the file says.

    Raises:
        ArtifactError: If it is no classifier of pictures, or has no fully convolutional form and needs one.
        CnnportError: If the protocol does not fit it.
        RuntimeMissingError: If the runtime is not available here.
    """
    require_runtime(runtime)
    if reason := misfit(artifact, runtime):
        raise ArtifactError(reason)
    picture = picture_of(artifact)
    if picture is None:
        (input_name, dtype), wanted = picture_input(artifact, preprocess, otherwise=_OWN_PREPARATION)
    else:
        wanted = _prepared_inside(artifact, protocol, preprocess)
        input_name, dtype = artifact.inputs[0].name, artifact.inputs[0].dtype
    settled = protocol.settled(wanted)
    window_map = _window_map(artifact) if settled.dense else None
    # A form that gives nothing but a map is averaged here.
    output = window_map if len(artifact.outputs) == 1 and window_map else scores_output(artifact)
    spec = next(each for each in artifact.outputs if each.name == output)
    classes = _classes(artifact, spec)
    batch = artifact.inputs[0].shape[0]
    lanes = 1
    if runtime in _SIDE_BY_SIDE:
        options = replace(options, threads=options.threads or 1)
        lanes = max(1, cpu_count() // (options.threads or 1))
    return Network(
        artifact=artifact,
        runtime=runtime,
        options=options,
        lanes=lanes,
        input_name=input_name,
        input_dtype=dtype,
        preprocess=wanted,
        output=output,
        window_map=window_map,
        classes=classes,
        fixed_batch=batch if isinstance(batch, int) else None,
        protocol=settled,
        picture=picture,
    )


def _prepared_inside(artifact: Artifact, protocol: Protocol, given: Preprocess | None) -> Preprocess:
    """What a picture file does to pictures, and nobody can change. Raises ``ArtifactError``."""
    preprocess = preprocess_of(artifact)
    if preprocess is None:
        raise ArtifactError(f"{artifact.path}: its metadata is damaged at cnnport.preprocess")
    if given is not None or protocol != Protocol():
        raise ArtifactError(
            f"{artifact.path} prepares pictures itself, one centre crop of each: other crops, scales, sizes and "
            "means are for the network's own file"
        )
    return preprocess


def _window_map(artifact: Artifact) -> str:
    """The output with a score for each window and class. Raises ``ArtifactError``."""
    maps = [
        spec
        for spec in artifact.outputs
        if len(spec.shape) == 4 and any(size != 1 for size in spec.shape[2:])
    ]
    sides = artifact.inputs[0].shape[2:]
    if len(maps) != 1 or any(isinstance(side, int) for side in sides):
        raise ArtifactError(
            f"{artifact.path} is not the fully convolutional form of a classifier: it takes one size, or gives no "
            "map of scores\nmake it with cnnport export NETWORK --dense"
        )
    return maps[0].name


def _classes(artifact: Artifact, spec: TensorSpec) -> Classes:
    count = spec.shape[1] if len(spec.shape) > 1 else None
    labels = labels_of(artifact)
    if isinstance(count, str) and labels:
        count = len(labels)
    if not isinstance(count, int) or count < 2 or not spec.dtype.startswith("float"):
        raise ArtifactError(
            f"{artifact.path} is no classifier: it gives {spec}, not a number for each of several classes"
        )
    return Classes(count, labels if labels and len(labels) == count else None)
