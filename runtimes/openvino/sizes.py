"""Which sizes a network takes and what sizes it gives, worked out before anything runs.

Given an image that a network of open sizes cannot take, openvino's CPU plugin may compute something all the same,
give an empty output in this run and in later ones, or end the process. So a network whose sizes are open is kept once
more without its weights, and every new size goes through that one first: some milliseconds, once for each size.
"""

import base64
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from threading import Lock
from typing import Any

from cnnport.errors import FeedError
from cnnport.runtimes.openvino import package
from cnnport.runtimes.openvino.choices import NAME

Shapes = tuple[tuple[int, ...], ...]

# Constants up to here may decide sizes; weights are larger, and the few that are not cost nothing.
_SMALL_BYTES = 1024


def without_weights(model: Any) -> Any:
    """A copy of openvino's model in which a further input stands for each weight."""
    openvino = package.load()
    copy = model.clone()
    stand_ins = []
    for node in copy.get_ops():
        if node.get_type_name() == "Constant" and node.get_byte_size() > _SMALL_BYTES:
            shape = node.get_output_partial_shape(0)
            stand_ins.append(openvino.op.Parameter(node.get_output_element_type(0), shape))
            node.output(0).replace(stand_ins[-1].output(0))
    copy.add_parameters(stand_ins)
    copy.validate_nodes_and_infer_types()
    return copy


def to_text(model: Any) -> str:
    """A model without weights, to be kept beside what was compiled of the one with them."""
    with tempfile.TemporaryDirectory() as folder:
        graph, constants = Path(folder) / "graph.xml", Path(folder) / "graph.bin"
        package.load().serialize(model, graph, constants)
        parts = (graph.read_bytes(), constants.read_bytes())
    return " ".join(base64.b85encode(zlib.compress(part)).decode() for part in parts)


def from_text(text: str) -> Any:
    """The other end of ``to_text``. Raises ``ValueError`` if the text is none of its."""
    try:
        graph, constants = (zlib.decompress(base64.b85decode(part)) for part in text.split(" "))
        return package.core().read_model(model=graph, weights=constants)
    except (ValueError, zlib.error, RuntimeError) as error:
        raise ValueError("not a network without weights") from error


def settle(model: Any, shapes: Mapping[int, Sequence[int]]) -> None:
    """Give inputs of a model their shapes, by position; -1 leaves a size open. Raises whatever openvino raises.

    Its own ``reshape`` would also rewrite what does not fit the new sizes, so that it does.
    """
    openvino = package.load()
    parameters = model.get_parameters()
    wanted = {place: openvino.PartialShape(list(shape)) for place, shape in shapes.items()}
    if all(parameters[place].get_partial_shape() == shape for place, shape in wanted.items()):
        return
    for place, shape in wanted.items():
        parameters[place].set_partial_shape(shape)
    model.validate_nodes_and_infer_types()


def misshapen(model: Any) -> tuple[str, str] | None:
    """A Reshape that would have to drop or invent numbers, and how; None if there is none.

    Openvino does not look, and runs all the same.
    """
    for node in model.get_ops():
        if node.get_type_name() != "Reshape":
            continue
        before, after = node.input(0).get_partial_shape(), node.output(0).get_partial_shape()
        if before.is_static and after.is_static and prod(before.to_shape()) != prod(after.to_shape()):
            return node.get_friendly_name(), f"a shape of {before} cannot become one of {after}"
    return None


class Sizes:
    """A network without its weights, and the sizes that went through it."""

    def __init__(self, model: Any, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> None:
        """Take a model.

        Args:
            model: As ``without_weights`` gives it; is this object's from now on.
            inputs: Position among its inputs of each input of the file.
            outputs: Likewise of outputs.
        """
        self.model = model
        self._inputs = inputs
        self._outputs = outputs
        self._alone = Lock()
        self._known: dict[Shapes, tuple[Any, ...] | str] = {}

    def check(self, shapes: Shapes) -> tuple[Any, ...]:
        """What the outputs will be, as openvino's partial shapes, in the file's order.

        Args:
            shapes: Of the inputs, in the file's order.

        Raises:
            FeedError: If the network does not take such inputs.
        """
        with self._alone:
            found = self._known.get(shapes)
            if found is None:
                found = self._known[shapes] = self._work_out(shapes)
        if isinstance(found, str):
            raise FeedError(found)
        return found

    def _work_out(self, shapes: Shapes) -> tuple[Any, ...] | str:
        """Output shapes, or why there are none."""
        try:
            settle(self.model, dict(zip(self._inputs, shapes, strict=True)))
        except Exception as error:  # openvino's exceptions share no base but this
            return package.refusal(NAME, error)
        if found := misshapen(self.model):
            node, cause = found
            return f"{NAME} cannot run on these inputs: {node}: {cause}"
        return tuple(self.model.outputs[place].get_partial_shape() for place in self._outputs)
