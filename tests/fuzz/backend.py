"""The test cases that the onnx package brings for backends, as graphs for the passes.

A case as it is has its weights as inputs, so that no pass may touch them. Variants of it tell more: all inputs but
the first become initializers, or all of them do; and with that, the operator gets neighbours on both sides that
passes would like to move through it: batch norms, 1 x 1 convolutions, and transpositions to channels last and back.
"""

import importlib
import pkgutil
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper
from onnx.backend.test import case as cases
from onnx.backend.test.case import node as node_cases

KINDS = ("simple", "pytorch-converted", "pytorch-operator")
_DATA = Path(cases.__file__).parents[1] / "data"


@dataclass(frozen=True)
class Case:
    """A graph and what it is run on.

    Attributes:
        name: The package's, with the variant.
        model: The graph.
        feeds: By input; None where the case brings no tensors.
    """

    name: str
    model: ModelProto
    feeds: Mapping[str, Any] | None


def node_modules() -> list[str]:
    """The operators that have cases, by the names of their modules."""
    return [each.name for each in pkgutil.iter_modules(node_cases.__path__) if each.name != "__init__"]


def from_nodes(modules: Iterable[str]) -> Iterator[Case]:
    """The cases of some operators, which the package makes when their modules are imported."""
    for name in modules:
        yield from _cases_of(name)


@cache
def _cases_of(module: str) -> tuple[Case, ...]:
    before = len(node_cases._NodeTestCases)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module(f"{node_cases.__name__}.{module}")
    made = node_cases._NodeTestCases[before:]
    return tuple(Case(each.name, each.model, _named(each.model, each.data_sets[0][0])) for each in made)


def from_files(kinds: Sequence[str] = KINDS) -> Iterator[Case]:
    """The cases that lie in the package as files."""
    for kind in kinds:
        for path in sorted((_DATA / kind).glob("*/model.onnx")):
            model = onnx.load(path)
            stored = sorted((path.parent / "test_data_set_0").glob("input_*.pb"), key=_number)
            try:
                inputs = [numpy_helper.to_array(TensorProto.FromString(each.read_bytes())) for each in stored]
            except Exception:  # sequences and optionals are other messages
                inputs = None
            yield Case(f"{kind}/{path.parent.name}", model, None if inputs is None else _named(model, inputs))


def light() -> Iterator[Case]:
    """Nine published networks, their weights made by operators."""
    for path in sorted((_DATA / "light").glob("*.onnx")):
        model = onnx.load(path)
        given = {tensor.name for tensor in model.graph.initializer}
        (image,) = [each for each in model.graph.input if each.name not in given]
        shape = [dim.dim_value or 1 for dim in image.type.tensor_type.shape.dim]
        pixels = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        yield Case(f"light/{path.stem}", model, {image.name: pixels})


def _number(path: Path) -> int:
    return int(path.stem.rpartition("_")[2])


def _named(model: ModelProto, inputs: Sequence[Any]) -> dict[str, Any] | None:
    """Inputs by name. A sequence, a map, or an optional is fed as it is."""
    arrays = [numpy_helper.to_array(each) if isinstance(each, TensorProto) else each for each in inputs]
    given = {tensor.name for tensor in model.graph.initializer}
    names = [value.name for value in model.graph.input if value.name not in given]
    return dict(zip(names, arrays, strict=False)) if len(arrays) <= len(names) else None


def variants(case: Case) -> Iterator[Case]:
    """The case as it is, with all inputs but the first as constants, and with all."""
    yield case
    if case.feeds is None or not all(isinstance(each, np.ndarray) for each in case.feeds.values()):
        return
    names = list(case.feeds)
    overridable = bool(case.model.graph.initializer) and case.model.ir_version < 4
    for kept, label in ((names[:1], "weights"), ([], "constant")):
        fixed = [name for name in names if name not in kept]
        if fixed or overridable:
            try:
                model = _with_constants(case, fixed)
            except Exception:  # numbers that no tensor holds
                continue
            yield Case(f"{case.name}/{label}", model, {name: case.feeds[name] for name in kept})


def neighbours(case: Case) -> Iterator[Case]:
    """A case of one operator with its weights as constants, between others that are the same before and after it."""
    if (
        case.feeds is None
        or len(case.model.graph.node) != 1
        or not isinstance(next(iter(case.feeds.values()), None), np.ndarray)
    ):
        return
    first, *rest = case.feeds
    try:
        model = _with_constants(case, rest)
    except Exception:  # numbers that no tensor holds
        return
    given, made = model.graph.input[0], model.graph.output[0]
    before, after = (_sizes(each) for each in (given, made))
    (node,) = model.graph.node
    if node.input[0] != first or node.output[0] != made.name or min(len(before), len(after)) < 2:
        return
    for label, around in (("norms", _norm), ("convolutions", _convolution), ("transposes", _transposed)):
        if label != "norms" and (len(before) != 4 or len(after) != 4):
            continue
        wrapped = ModelProto()
        wrapped.CopyFrom(model)
        feeds = {first: case.feeds[first]}
        around(wrapped, before, after)
        if label == "transposes":
            feeds = {first: np.ascontiguousarray(case.feeds[first].transpose(0, 2, 3, 1))}
        yield Case(f"{case.name}/{label}", wrapped, feeds)


def _sizes(value: ValueInfoProto) -> list[int]:
    """The dimensions of a float32 tensor; none for anything else, and where one is open or 0."""
    kind = value.type.tensor_type
    sizes = [dim.dim_value for dim in kind.shape.dim]
    return sizes if kind.elem_type == TensorProto.FLOAT and 0 not in sizes else []


def _wrap(model: ModelProto, first: NodeProto, last: NodeProto) -> None:
    """``first`` makes what the operator read first, and ``last`` reads what it made; the outputs keep their names."""
    (node,), given, made = model.graph.node, model.graph.input[0], model.graph.output[0]
    first.input[0], first.output[0] = given.name, "given_changed"
    node.input[0], node.output[0] = "given_changed", "made_before"
    last.input[0], last.output[0] = "made_before", made.name
    inner = NodeProto()
    inner.CopyFrom(node)
    del model.graph.node[:]
    model.graph.node.extend([first, inner, last])


def _constant(model: ModelProto, name: str, array: np.ndarray[Any, Any]) -> str:
    model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    return name


def _norm(model: ModelProto, before: list[int], after: list[int]) -> None:
    nodes = []
    for label, sizes in (("before", before), ("after", after)):
        names = [
            _constant(model, f"{label}_{part}", np.linspace(low, high, sizes[1]))
            for part, low, high in (
                ("scale", 0.5, 1.5),
                ("shift", 0.1, 0.4),
                ("mean", -0.3, 0.0),
                ("var", 0.5, 2.0),
            )
        ]
        nodes.append(helper.make_node("BatchNormalization", ["", *names], [""], epsilon=1e-3))
    _wrap(model, *nodes)


def _convolution(model: ModelProto, before: list[int], after: list[int]) -> None:
    nodes = []
    for label, (_, channels, *_) in (("before", before), ("after", after)):
        mixed = np.eye(channels) + np.linspace(0.0, 0.2, channels**2).reshape(channels, channels)
        weight = _constant(model, f"{label}_weight", mixed[:, :, None, None])
        bias = _constant(model, f"{label}_bias", np.linspace(0.1, 0.4, channels))
        nodes.append(helper.make_node("Conv", ["", weight, bias], [""]))
    _wrap(model, *nodes)


def _transposed(model: ModelProto, before: list[int], after: list[int]) -> None:
    first, last = [
        helper.make_node("Transpose", [""], [""], perm=perm) for perm in ([0, 3, 1, 2], [0, 2, 3, 1])
    ]
    _wrap(model, first, last)
    for value, sizes in ((model.graph.input[0], before), (model.graph.output[0], after)):
        del value.type.tensor_type.shape.dim[:]
        for place in (0, 2, 3, 1):
            value.type.tensor_type.shape.dim.add().dim_value = sizes[place]


def _with_constants(case: Case, fixed: Sequence[str]) -> ModelProto:
    assert case.feeds is not None
    model = ModelProto()
    model.CopyFrom(case.model)
    model.ir_version = max(model.ir_version, 4)
    gone = {*fixed, *(tensor.name for tensor in model.graph.initializer)}
    values = [each for each in model.graph.input if each.name not in gone]
    types = {each.name: each.type.tensor_type.elem_type for each in model.graph.input}
    for name in fixed:
        tensor = numpy_helper.from_array(case.feeds[name], name)
        if tensor.data_type != types[name]:
            raise ValueError(f"{name} is of another type")
        model.graph.initializer.append(tensor)
    del model.graph.input[:]
    model.graph.input.extend(values)
    return model
