"""What the files of a Triton package say in words: comments of configurations, and what fills the templates."""

from collections.abc import Sequence
from dataclasses import replace

from cnnport.packaging.subject import Subject
from cnnport.packaging.texts import what
from cnnport.packaging.triton_config import Ensemble, ServedModel

REPOSITORY = "model_repository"
"""The folder of the models within a package."""

ENGINE_SOURCE = "tensorrt"
"""The folder of the file that an engine is built from."""

VERSION = 1
ONNX, PLAN = "model.onnx", "model.plan"

_TRTEXEC = "/usr/src/tensorrt/bin/trtexec"

WHY_FULL = (
    "Resize, crop, normalise. The two sizes of an image are open (-1), and the server puts only images of the",
    "same size into one batch; the others go alone. allow_ragged_batch would not help: the backend would hand on",
    "all pixels as one row. Nothing waits here, for company of the same size is rare; it is the network behind",
    "this that gets full batches, since what comes out of here is of one size.",
)
WHY_NORMALIZE = ("Scale and normalise. The caller has resized and cropped the images.",)
WHY_NETWORK = (
    "The network. KIND_AUTO: one instance on every GPU, or on the CPU if the server has none.",
    "On a CPU, intra_op_thread_count 0 lets one instance use all cores; who raises count divides them.",
    "ONNX Runtime applies all of its graph optimisations as it is (optimization.graph.level 0).",
)
WHY_SCORES = ("Softmax and the best classes. What is here takes microseconds: it waits for nobody.",)
WHY_ENGINE = (
    "The network as a TensorRT engine, which fits one kind of GPU and one version of TensorRT.",
    "Its profile has to take batches of 1 to max_batch_size; the README beside model.plan has the command.",
)
WHY_ENSEMBLE = (
    "Images in, classes out. An ensemble neither batches nor computes: each step does by its own configuration.",
)
WHY_WHOLE = (
    "Images to classes in one file. Only images of the same size share a batch; with a package that is made of",
    "the network instead, all of them do.",
)

ENSEMBLE_NOTE = b"An ensemble has no file of its own; the folder says that there is a version 1.\n"


def values(subject: Subject, configs: Sequence[ServedModel | Ensemble], max_batch: int) -> dict[str, str]:
    """What the templates have to know of a model.

    Args:
        subject: What the package is made of.
        configs: Of its models.
        max_batch: The largest batch that the server makes, or 0.
    """
    network = subject.network or subject.artifact
    engine = subject.backend == "tensorrt"
    return {
        "name": subject.name,
        # Names in Kubernetes have no underscores, and at most 63 characters; ours adds a suffix.
        "host": subject.name.replace("_", "-")[:_LONGEST_HOST].rstrip("-"),
        # The picture file is not in the package, unless it is all that there is.
        "what": what(replace(subject, artifact=network)),
        "rows": "\n".join(f"| `{config.name}` | {_role(config)} |" for config in configs),
        "image": _image(subject),
        "build": _build(subject, max_batch),
        "trtexec": _trtexec(subject, max_batch),
        "engine": _ENGINE_FIRST if engine else "",
        "engine_section": _ENGINE_SECTION.format(build=_build(subject, max_batch)) if engine else "",
        "gpu": 'nvidia.com/gpu: "1"' if engine else '# nvidia.com/gpu: "1"',
        "docker_gpu": "--gpus=1 " if engine else "",
        "opset": str(max(subject.artifact.opset, network.opset)),
        "device": _ON_GPU if engine else _ON_EITHER,
    }


def _build(subject: Subject, max_batch: int) -> str:
    shapes = f" --batch 1:{max_batch}:{max_batch}" if max_batch else ""
    return f"cnnport build {ENGINE_SOURCE}/{subject.name}.onnx --runtime trt{shapes} -o {_plan(subject)}"


def _trtexec(subject: Subject, max_batch: int) -> str:
    """The same by TensorRT's own tool, with the package at ``/package``."""
    network = subject.network or subject.artifact
    spec = network.inputs[0]
    options = [f"--onnx=/package/{ENGINE_SOURCE}/{subject.name}.onnx"]
    if max_batch:
        rest = "x".join(map(str, (subject.preprocess.channels, *subject.preprocess.size)))
        options += [
            f"--{bound}Shapes={spec.name}:{batch}x{rest}"
            for bound, batch in (("min", 1), ("opt", max_batch), ("max", max_batch))
        ]
    return " ".join([_TRTEXEC, *options, "--stronglyTyped", f"--saveEngine=/package/{_plan(subject)}"])


def _plan(subject: Subject) -> str:
    return f"{REPOSITORY}/{subject.name}/{VERSION}/{PLAN}"


def _role(config: ServedModel | Ensemble) -> str:
    if isinstance(config, Ensemble):
        return "the three in a row: what clients ask"
    if config.name.endswith("_preprocess"):
        return "uint8 images to the network's input, on the CPU"
    if config.name.endswith("_scores"):
        return "softmax and the best classes, on the CPU"
    if config.name.endswith("_pipeline"):
        return "images to the best classes in one file: what clients ask"
    where = "the GPU by TensorRT" if config.file == PLAN else "GPU or CPU by ONNX Runtime"
    return f"the network, on {where}"


def _image(subject: Subject) -> str:
    spec = subject.artifact.inputs[0]
    height, width = subject.preprocess.size
    size = (
        "of any size"
        if subject.picture.preprocess == "full"
        else f"resized and cropped to {height} x {width}"
    )
    return f"`{spec.name}`: uint8 [{', '.join(map(str, spec.shape))}], pictures {size}"


_LONGEST_HOST = 50

_ON_GPU = "It takes a GPU."
_ON_EITHER = "With `--gpus=1` the network runs on a GPU, without it on the CPU."

_ENGINE_FIRST = "\nTensorRT runs the network. Its engine has to be built first: see **The engine** below.\n"

_ENGINE_SECTION = """
## The engine

An engine fits one kind of GPU and one version of TensorRT, that of the server's container, so it is built where it
will run. In this folder, with a TensorRT of that version:

```bash
{build}
```

`model_repository/` says beside the engine's place how the container's own tool does it.
"""
