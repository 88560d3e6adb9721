"""From a PyTorch module to an ONNX graph: the only caller of torch.onnx."""

import ast
import logging
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from cnnport.errors import ModelError, first_line

if TYPE_CHECKING:
    import onnx

# What torch.onnx implements; other versions are reached by conversion afterwards.
OLDEST_OPSET, NEWEST_OPSET = 18, 23

_SCOPES_KEY = "pkg.torch.onnx.name_scopes"
# In the place of a module where a node computes sizes and belongs to none.
_NO_MODULE = "_empty_nn_module_stack_from_metadata_hook"


def named_outputs(result: Any, only: str) -> dict[str, torch.Tensor]:
    """Give the outputs of a forward pass names.

    Args:
        result: A tensor, or a flat tuple, list or dictionary of tensors.
        only: The name of an output that is the only one; several are ``output_0`` and so on, or their keys.

    Raises:
        ModelError: If the result is of another form.
    """
    if isinstance(result, torch.Tensor):
        return {only: result}
    if isinstance(result, Mapping):
        found = {str(key): value for key, value in result.items()}
    elif isinstance(result, tuple | list):
        found = {f"output_{index}": value for index, value in enumerate(result)}
    else:
        found = {}
    if not found or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise ModelError(
            "the network returns neither a tensor nor a flat tuple, list or dictionary of tensors"
        )
    return found


def capture(
    module: nn.Module,
    examples: Mapping[str, torch.Tensor],
    *,
    output_names: list[str],
    opset: int,
    dynamic_batch: bool,
    any_size: bool = False,
    as_it_is: bool = False,
) -> "onnx.ModelProto":
    """Export a module with torch.onnx's dynamo exporter.

    Nodes and values are named after the module that they came from (``layer1.0.conv1/Conv``), and the exporter's
    own notes, which hold paths of the machine, are removed.

    Args:
        module: In evaluation mode.
        examples: The inputs by name, in the order of the module's arguments, each N x C x H x W; N is 2 or more
            where the batch is dynamic, since 1 is taken for a constant. Where the size is dynamic, all sizes differ
            and are large enough that none is 1 anywhere within the network.
        output_names: One for each output.
        opset: From ``OLDEST_OPSET`` to ``NEWEST_OPSET``.
        dynamic_batch: Whether the first dimension, the same of all inputs, is left open, as ``batch``.
        any_size: Whether height and width are left open too, as ``height`` and ``width``.
        as_it_is: Whether names and notes, those of open sizes included, stay the exporter's.

    Raises:
        ModelError: If torch cannot export the module, or only for one batch size or one image size.
    """
    dynamic: dict[int, Any] = {0: torch.export.Dim("batch")} if dynamic_batch else {}
    if any_size:
        # A range of sizes would have to be known before; what the network turns out to fix is refused below.
        dynamic |= {2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    with _quiet(), torch.no_grad():
        try:
            program = torch.onnx.export(
                module,
                tuple(examples.values()),
                dynamo=True,
                opset_version=opset,
                input_names=list(examples),
                output_names=output_names,
                dynamic_shapes=(dynamic or None,) * len(examples),
                verbose=False,
            )
        except Exception as error:  # the exporter lets through whatever its stages raise
            raise ModelError(f"torch.onnx cannot export the network: {_root_cause(error)}") from error
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    # Kept alive, the program would hold every weight a second time.
    del program
    _require_dynamic_batch(model, dynamic_batch)
    if not as_it_is:
        if any_size:
            _name_sizes(model)
        name_after_modules(model)
    return model


def name_after_modules(model: "onnx.ModelProto") -> None:
    """Rename nodes and values after the modules they came from, and drop the exporter's notes, in place.

    A convolution or matrix product is named after the module whose weight it holds, which outlives the folding of
    a batch norm into it; other nodes after the module in whose forward they stand.
    """
    graph = model.graph
    fixed = {value.name for value in (*graph.input, *graph.output)} | {
        item.name for item in graph.initializer
    }
    counts: Counter[str] = Counter()
    renamed: dict[str, str] = {}
    for node in graph.node:
        node.name = _unique(f"{_module_of(node, fixed)}/{node.op_type}".lstrip("/"), counts)
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
        for index, name in enumerate(node.output):
            if name and name not in fixed:
                renamed[name] = f"{node.name}:{index}"
                node.output[index] = renamed[name]
        del node.metadata_props[:]
        node.doc_string = ""
    for owner in (model, graph, *graph.input, *graph.output, *graph.initializer):
        del owner.metadata_props[:]
        owner.doc_string = ""
    # Shapes between input and output follow from the graph; stated, they outlive the rewrites that change them.
    del graph.value_info[:]


def _module_of(node: "onnx.NodeProto", fixed: set[str]) -> str:
    if len(node.input) > 1 and node.input[1] in fixed and node.input[1].endswith(".weight"):
        return str(node.input[1]).removesuffix(".weight")
    for entry in node.metadata_props:
        if entry.key == _SCOPES_KEY:
            scopes: list[str] = [name for name in ast.literal_eval(entry.value) if name != _NO_MODULE]
            # The last scope is the operator; the one before it is the innermost module.
            return str(scopes[-2]) if len(scopes) > 1 else ""
    return ""


def _unique(name: str, counts: Counter[str]) -> str:
    counts[name] += 1
    return name if counts[name] == 1 else f"{name}_{counts[name] - 1}"


def _require_dynamic_batch(model: "onnx.ModelProto", dynamic_batch: bool) -> None:
    """The exporter may fix the batch to the example's without a word (pytorch issue 148886): refuse."""
    if not dynamic_batch:
        return
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        if not dims or dims[0].WhichOneof("value") != "dim_param":
            raise ModelError(
                f"the network's {value.name!r} has no dynamic batch after export: its forward fixes the size\n"
                "export it for one batch size with --batch N"
            )


def _name_sizes(model: "onnx.ModelProto") -> None:
    """Call the open sizes of all inputs ``height`` and ``width``, those of outputs alike or after the output.

    The exporter names them after its symbols, and those of outputs by formulas over them.

    Raises:
        ModelError: If a size of an input, or of an output that is a map, is not open.
    """
    symbols: dict[str, str] = {}
    for value in model.graph.input:
        for size, dim in zip(("height", "width"), _sizes(value), strict=True):
            if dim.WhichOneof("value") != "dim_param" or symbols.setdefault(dim.dim_param, size) != size:
                raise ModelError(
                    f"the network's {size} is not dynamic after export: its forward fixes the size\n"
                    "export it for one size with --image-size"
                )
            dim.dim_param = size
    for value in model.graph.output:
        for size, dim in zip(("height", "width"), _sizes(value), strict=False):
            if dim.WhichOneof("value") != "dim_param":
                raise ModelError(
                    f"the {size} of the network's {value.name!r} does not follow the image's after export\n"
                    "export it for one size with --image-size"
                )
            dim.dim_param = symbols.get(dim.dim_param, f"{value.name}_{size}")


def _sizes(value: "onnx.ValueInfoProto") -> "list[onnx.TensorShapeProto.Dimension]":
    """The third dimension and what follows it: height and width of images and maps."""
    return list(value.type.tensor_type.shape.dim)[2:]


def _root_cause(error: BaseException) -> str:
    """The line that says what went wrong: the exporter wraps it in advice of many lines."""
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    text = re.sub(r"\x1b\[[0-9;]*m", "", first_line(cause))
    return f"{type(cause).__name__}: {text}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep away from users: warnings about optional packages and deprecations, inequalities left unsolved."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.fx.experimental.symbolic_shapes")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
