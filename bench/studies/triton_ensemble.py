"""A package for Triton, run as its server would: each step of the ensemble by its configuration, with ONNX Runtime.

The configurations are read with Triton's own protobuf definitions, from its client package, and every tensor that is
handed on is held to what they say: names, element types, sizes, the largest batch. What is not here is the server:
its scheduling, its batches made of several requests, its backends other than ONNX Runtime.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cnnport.errors import CheckFailedError, CnnportError
from cnnport.onnxfile import read_artifact
from cnnport.packaging.triton_texts import REPOSITORY
from cnnport.runtimes import Options, Session, require_runtime

Array = NDArray[Any]

_DTYPES = {
    "TYPE_UINT8": "uint8",
    "TYPE_INT64": "int64",
    "TYPE_FP16": "float16",
    "TYPE_FP32": "float32",
}


def probabilities(package: Path, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """What the ensemble of a package says of pictures, each asked by itself.

    Args:
        package: The folder that ``cnnport package --for triton`` wrote.
        pictures: height x width x channels each, as the package's preprocessing wants them.

    Returns:
        A row of probabilities for each.
    """
    with Repository(package / REPOSITORY) as repository:
        name = next(name for name in repository.configs if name.endswith("_pipeline"))
        tensor = repository.configs[name].input[0]
        rows = [repository.run(name, {tensor.name: picture[None]})["probabilities"] for picture in pictures]
    return np.concatenate(rows).astype(np.float64)


def read_config(path: Path) -> Any:
    """A ``config.pbtxt`` as Triton's message ``inference.ModelConfig``.

    Raises:
        CnnportError: If Triton's client package is not installed, or the file is not such a message.
    """
    try:
        from google.protobuf import text_format
        from tritonclient.grpc.model_config_pb2 import ModelConfig
    except ImportError as error:
        raise CnnportError("this takes Triton's definitions: pip install 'tritonclient[grpc]'") from error
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), ModelConfig())
    except text_format.ParseError as error:
        raise CnnportError(f"{path} is no configuration of Triton: {error}") from error


class Repository:
    """The models of a repository, opened when they are first run.

    Attributes:
        configs: As Triton reads them, by the model's name.
    """

    def __init__(self, folder: Path) -> None:
        self.configs = {path.parent.name: read_config(path) for path in sorted(folder.glob("*/config.pbtxt"))}
        self._folder = folder
        self._sessions: dict[str, Session] = {}
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def run(self, name: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """One request for a model or an ensemble.

        Args:
            name: Of the model.
            feeds: Every input, with the batch.

        Raises:
            CheckFailedError: If a tensor is not what a configuration says, where a server would answer with an error.
        """
        config = self.configs[name]
        _check(f"input of {name}", feeds, config.input, config.max_batch_size)
        if config.HasField("ensemble_scheduling"):
            answer = self._steps(config, feeds)
        else:
            # What a model's file has beside its configured outputs, a server does not give.
            stated = {each.name for each in config.output}
            got = self._session(config).run(feeds)
            answer = {key: value for key, value in got.items() if key in stated}
        _check(f"output of {name}", answer, config.output, config.max_batch_size)
        return answer

    def _steps(self, config: Any, feeds: Mapping[str, Array]) -> dict[str, Array]:
        tensors = dict(feeds)
        for step in config.ensemble_scheduling.step:
            given = {name: tensors[tensor] for name, tensor in step.input_map.items()}
            got = self.run(step.model_name, given)
            tensors |= {tensor: got[name] for name, tensor in step.output_map.items()}
        return {each.name: tensors[each.name] for each in config.output}

    def _session(self, config: Any) -> Session:
        if config.name not in self._sessions:
            if config.platform != "onnxruntime_onnx":
                raise CnnportError(f"{config.name} is for {config.platform}, which is not run here")
            folder = self._folder / config.name
            newest = max(int(path.name) for path in folder.iterdir() if path.name.isdecimal())
            artifact = read_artifact(folder / str(newest) / config.default_model_filename)
            threads = int(config.parameters["intra_op_thread_count"].string_value) or None
            session = require_runtime("ort-cpu").open(artifact, Options(threads=threads))
            self._sessions[config.name] = self._open.enter_context(session)
        return self._sessions[config.name]


def _check(what: str, tensors: Mapping[str, Array], stated: Any, max_batch: int) -> None:
    """Raises ``CheckFailedError`` unless the tensors are those that a configuration states."""
    from tritonclient.grpc.model_config_pb2 import DataType

    if set(tensors) != {each.name for each in stated}:
        raise CheckFailedError(f"{what}: {sorted(tensors)}, not {sorted(each.name for each in stated)}")
    for each in stated:
        array = tensors[each.name]
        dtype = _DTYPES[DataType.Name(each.data_type)]
        if array.dtype != dtype:
            raise CheckFailedError(f"{what} {each.name}: {array.dtype}, not {dtype}")
        dims = list(each.dims)
        shape = list(array.shape[1:] if max_batch else array.shape)
        fits = len(shape) == len(dims) and all(
            size in {-1, real} for size, real in zip(dims, shape, strict=True)
        )
        if not fits or (max_batch and not 1 <= array.shape[0] <= max_batch):
            raise CheckFailedError(f"{what} {each.name}: {array.shape} does not fit {dims}")
