"""What an engine is made of, read from what TensorRT says of it, in each of its three forms.

- JSON of TensorRT 10: tensors carry ``Format/Datatype``, one text for both, and the engine ends in ``Bindings``.
- JSON of TensorRT 11: tensors carry ``Datatype`` and ``Format``, and the engine ends in ``I/O Tensors``.
- The listing that a builder logs, one line a layer, which is all that there is on a machine without a GPU.

The first two come of an engine on a device, through the inspector. An engine that was built without details lists
its layers as plain names.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from cnnport.errors import ArtifactError
from cnnport.runtimes.build import Layer

# Layers that take part in scheduling and compute nothing.
_SCHEDULING = {"signal", "wait", "shape_call"}

# Between two nodes stands a control character, or nothing.
_NODE = re.compile(r"\[ONNX Layer: (.*?)\](?=[\x00-\x20]*(?:\[|$))", re.DOTALL)
_LINE = re.compile(r"^Name: (?P<name>.*?), LayerType: (?P<kind>[^,]*), Inputs: \[(?P<rest>.*)$", re.DOTALL)
_TYPE = re.compile(r"(?:Datatype|DataType|Format/Datatype): (?P<type>[^,}\n]+)")

# TensorRT 10 puts the type into a sentence on the format: ``Row major linear FP16 format``.
_SPELLINGS = {
    "FP32": "Float",
    "FLOAT": "Float",
    "FP16": "Half",
    "HALF": "Half",
    "BF16": "BFloat16",
    "BFLOAT16": "BFloat16",
    "INT8": "Int8",
    "UINT8": "UInt8",
    "INT32": "Int32",
    "INT64": "Int64",
    "INT4": "Int4",
    "FP8": "FP8",
    "FP4": "FP4",
    "BOOL": "Bool",
}


def read_information(text: str) -> tuple[Layer, ...]:
    """The layers in an inspector's JSON, of either form.

    Raises:
        ArtifactError: If it is no such JSON, or an engine that was built without details.
    """
    try:
        rows = json.loads(text)["Layers"]
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError("TensorRT's inspector answers in a form that cnnport does not know") from error
    if any(isinstance(row, str) for row in rows):
        raise ArtifactError("the engine was built without details of its layers: build it with cnnport build")
    return tuple(_from_json(row) for row in rows if row.get("LayerType") not in _SCHEDULING)


def read_listing(text: str) -> tuple[Layer, ...]:
    """The layers in a builder's listing; none where there is no listing."""
    found = []
    for chunk in re.split(r"\n(?=Name: )", text)[1:]:
        line = chunk.split("\n\n", 1)[0]
        if layer := _from_line(line):
            found.append(layer)
    return tuple(found)


def spelled(text: str) -> str:
    """The element type in a text on it, as TensorRT 11 writes it; empty where it says none."""
    if text.startswith("N/A"):
        return ""
    for word in re.findall(r"\w+", text):
        if known := _SPELLINGS.get(word.upper()):
            return known
    return ""


def _from_json(row: Mapping[str, Any]) -> Layer:
    weights = [row.get(name, {}).get("Type", "") for name in ("Weights",) if isinstance(row.get(name), dict)]
    read = [*_tensor_types(row, "Inputs"), *_tensor_types(row, "Constants"), *map(spelled, weights)]
    return Layer(
        name=str(row.get("Name", "")),
        kind=str(row.get("LayerType", "")),
        nodes=_nodes(str(row.get("Metadata", ""))),
        reads=_each_once(read),
        writes=_each_once(_tensor_types(row, "Outputs")),
        kernel=str(row.get("TacticName", "")),
    )


def _tensor_types(row: Mapping[str, Any], key: str) -> list[str]:
    found = []
    for tensor in row.get(key, ()):
        if isinstance(tensor, dict):
            stated = next(
                (tensor[name] for name in ("Datatype", "DataType", "Format/Datatype") if name in tensor), ""
            )
            found.append(spelled(str(stated)))
    return found


def _from_line(line: str) -> Layer | None:
    start = _LINE.match(line)
    if start is None or start["kind"] in _SCHEDULING:
        return None
    body, _, metadata = start["rest"].rpartition(", Metadata: ")
    reads, _, rest = body.partition(", Outputs: [")
    writes, _, tail = rest.partition(", TacticName: ")
    return Layer(
        name=start["name"],
        kind=start["kind"],
        nodes=_nodes(metadata),
        reads=_each_once(spelled(found["type"]) for found in _TYPE.finditer(reads)),
        writes=_each_once(spelled(found["type"]) for found in _TYPE.finditer(writes)),
        kernel=tail.partition(",")[0],
    )


def _nodes(metadata: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_NODE.findall(metadata)))


def _each_once(types: "Sequence[str] | Any") -> tuple[str, ...]:
    return tuple(dict.fromkeys(each for each in types if each))
