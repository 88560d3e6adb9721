"""Whole networks: layers one after the other and side by side, and what a file may say about them or leave out."""

from collections.abc import Callable

import numpy as np
from onnx import ModelProto, TensorProto, helper

from fuzz import blocks, linear, movers, pointwise
from fuzz.choices import Choices
from fuzz.draft import Draft, Tensor

Layer = Callable[[Draft, Tensor], Tensor]

_LAYERS: tuple[Layer, ...] = (
    *(
        linear.conv,
        linear.conv,
        linear.conv,
        blocks.norm_of_conv,
        blocks.norm_of_conv,
        blocks.norm_before_conv,
    ),
    *(linear.batch_norm, linear.batch_norm, linear.arithmetic, linear.arithmetic, linear.pool, linear.pool),
    *(linear.transposed_conv, linear.pad, blocks.padded_conv, blocks.linear_chain, blocks.parallel_sum),
    *(blocks.parallel_sum, blocks.parallel_concat, blocks.parallel_concat, blocks.residual, blocks.residual),
    *(
        pointwise.activation,
        pointwise.activation,
        pointwise.operator,
        pointwise.other_norm,
        pointwise.nothing,
    ),
    *(pointwise.half_and_back, blocks.shuffle_unit, blocks.grouped_shuffle, movers.shuffle, movers.concat),
    *(movers.part, movers.transposed, movers.depth_and_space, movers.resized, blocks.squeeze_excite),
    *(blocks.twice, blocks.branch, blocks.constants_only, blocks.blocked_groups, movers.nested),
    *(pointwise.other_norm, pointwise.activation, movers.transposed, blocks.same_pools, blocks.padded_conv),
)


def network(choices: Choices, *, most: int = 12) -> ModelProto:
    """A random CNN.

    Args:
        choices: Who decides.
        most: The largest number of layers and blocks.
    """
    draft = Draft(choices)
    for _ in range(draft.pick(*range(2, most + 1))):
        draft.pick(*_LAYERS)(draft, draft.any_image())
    if len(draft.nodes) == 0:
        draft.add("Relu", ["x"], draft.inputs[0].shape)
    if draft.maybe():
        blocks.head(draft, draft.images[-1])
    return _file(draft)


def _file(draft: Draft) -> ModelProto:
    outputs = _outputs(draft)
    names = {tensor.name for tensor in outputs}
    graph = draft.graph([draft.declared(tensor) for tensor in outputs])
    told = draft.pick("none", "all", "some")
    if told != "none" and not draft.open_sides:
        known = [tensor for tensor in draft.images if tensor.name not in names | {"x"}]
        graph.value_info.extend(draft.declared(each) for each in known if told == "all" or draft.maybe())
    _declare_initializers(draft, graph.input.append, graph.initializer)
    imports = [
        helper.make_opsetid("", draft.opset),
        *(helper.make_opsetid(each, 1) for each in draft.domains),
    ]
    model = helper.make_model(graph, opset_imports=imports, ir_version=draft.ir_version, producer_name="fuzz")
    helper.set_model_props(model, {"author": "fuzz"})
    return model


def _outputs(draft: Draft) -> list[Tensor]:
    """What the network ends with, and now and then values from within it, a constant, or the input itself."""
    last = (draft.others or draft.images)[-1]
    if last.name == "x":
        last = draft.add("Identity", ["x"], last.shape)
    chosen = {last.name: last}
    for _ in range(draft.pick(0, 0, 1, 2)):
        more = draft.pick(*draft.images)
        if more.name != "x":
            chosen[more.name] = more
    if draft.maybe(20):
        same = draft.add("Identity", ["x"], draft.inputs[0].shape)
        chosen[same.name] = same
    return list(chosen.values())


def _declare_initializers(
    draft: Draft, declare: Callable[[object], None], initializers: "list[TensorProto]"
) -> None:
    """Initializers as inputs, whose numbers a caller may override: all of them before IR 4, else few."""
    for tensor in initializers:
        if draft.ir_version < 4 or draft.maybe(40):
            declare(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))


def feeds_of(model: ModelProto, batch: int, seed: int) -> dict[str, np.ndarray]:
    """Pictures for the inputs that have no default.

    Args:
        model: A model of ``network``.
        batch: The size where the file leaves it open.
        seed: Of the numbers.
    """
    defaults = {tensor.name for tensor in model.graph.initializer}
    rng = np.random.default_rng(seed)
    feeds = {}
    for value in model.graph.input:
        if value.name in defaults:
            continue
        dims = value.type.tensor_type.shape.dim
        # Where ``Draft`` leaves the sides open, the network is made for 6 x 6.
        shape = [dim.dim_value if dim.HasField("dim_value") else 6 for dim in dims]
        shape[0] = dims[0].dim_value or batch
        dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        feeds[value.name] = rng.normal(size=shape).astype(dtype)
    return feeds
