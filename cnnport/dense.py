"""A network that ends in pooling or flattening and linear layers, in its fully convolutional form.

A linear layer over C maps of k x k positions is a convolution with a k x k kernel: row r of its weights, reshaped to
C x k x k, is kernel r. Where the maps are just k x k, both compute the same; where they are larger, the convolution
gives what the linear layer would give for each k x k window of them, and computes what windows share once. A linear
layer behind that is a 1 x 1 convolution, and the average over whole maps an average over windows of their native
size at stride 1. Source: Sermanet et al., OverFeat, arXiv:1312.6229, section 3.5.

A window is one position of that head on the last feature maps. It is a window of the image exactly where the layers
in front of it do not pad: at the borders of an image they pad with zeros, within a larger image they see its pixels.
"""

import inspect
import logging
import operator
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from cnnport.errors import ModelError, first_line
from cnnport.models.convnext import LayerNorm2d
from cnnport.models.twn import TernaryConv2d, TernaryLinear

Side: TypeAlias = tuple[int, int]
"""How many rows and columns of the maps a value of one window stands for; 1 x 1 once it is one position."""

# More than any network's last step: a dense form has more windows there than at its native size.
_LARGER_PX = (37, 69)

_CONVOLUTIONS: dict[type[nn.Module], type[nn.Conv2d]] = {
    nn.Linear: nn.Conv2d,
    TernaryLinear: TernaryConv2d,
}
_POOLINGS: dict[object, type[nn.Module]] = {
    nn.AdaptiveAvgPool2d: nn.AvgPool2d,
    nn.AdaptiveMaxPool2d: nn.MaxPool2d,
    nn.AvgPool2d: nn.AvgPool2d,
    functional.adaptive_avg_pool2d: nn.AvgPool2d,
    torch.mean: nn.AvgPool2d,
    torch.amax: nn.MaxPool2d,
    "mean": nn.AvgPool2d,
    "amax": nn.MaxPool2d,
}
# What treats every value alike, or every value by its channel, which is the second dimension in both forms.
_ELEMENTWISE: frozenset[object] = frozenset(
    {
        *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.SiLU, nn.GELU, nn.Sigmoid, nn.Tanh),
        *(nn.Hardswish, nn.Hardsigmoid, nn.Softplus, nn.Dropout, nn.Dropout2d, nn.Identity),
        *(operator.add, operator.sub, operator.mul, operator.truediv, operator.neg),
        *(torch.add, torch.sub, torch.mul, torch.div, torch.neg),
        *(torch.relu, torch.sigmoid, torch.tanh, torch.abs, torch.square, torch.sqrt, torch.exp),
        *(functional.relu, functional.dropout, functional.hardswish, functional.gelu, functional.silu),
        *("relu", "sigmoid", "tanh", "abs", "square", "sqrt", "exp", "add", "sub", "mul", "div", "neg"),
    }
)


def dense_form(
    module: nn.Module, input_shape: tuple[int, int, int], *, output_name: str = "logits"
) -> nn.Module:
    """Turn a network into its fully convolutional form.

    Args:
        module: In evaluation mode; stays as it is, and shares its parameters with the result.
        input_shape: Channels, height, width of its native input, which one window stands for.
        output_name: What to call its output.

    Returns:
        A module that takes N x C x H x W images from the native size on and returns two outputs by name:
        ``output_name``, the average over all windows, of the shape that ``module`` gives; and ``map``, N x classes x
        rows x columns, what ``module``'s head gives for every window.

    Raises:
        ModelError: If the network has no such form, and why.
    """
    opened: set[str] = {""}
    while True:
        try:
            dense = _Conversion(module, input_shape, output_name, opened).result()
        except _OpenError as request:
            opened.add(request.name)
        else:
            break
    _require_growth(dense, input_shape)
    return dense


class _OpenError(Exception):
    """A module has to be traced through, as what has to change lies within it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class _Tracer(fx.Tracer):
    """Follows the forward of the modules that are opened only: what lies within others does not change."""

    def __init__(self, opened: set[str]) -> None:
        super().__init__()
        self._opened = opened

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002
        return module_qualified_name not in self._opened


class _Shapes(fx.Interpreter):
    """Runs a graph without values and keeps the shape of every tensor."""

    def __init__(self, graph_module: fx.GraphModule) -> None:
        super().__init__(graph_module)
        self.of: dict[fx.Node, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.of[n] = tuple(result.shape)
        return result


class _Conversion:
    """One traced graph, and the dense one that is written beside it, node by node."""

    def __init__(
        self, module: nn.Module, input_shape: tuple[int, int, int], output_name: str, opened: set[str]
    ) -> None:
        self._module = module
        self._output_name = output_name
        try:
            self._old = _Tracer(opened).trace(module, _defaults(module))
        except Exception as error:  # a forward may do anything with what it is traced with
            raise _refused(f"its forward cannot be followed: {first_line(error)}") from error
        if len(_required(module)) != 1:
            raise _refused("it takes several images at once")
        self._shapes = self._run(input_shape)
        self._new = fx.Graph()
        self._parts: dict[str, Any] = {}
        # By node of the old graph: the new one, and for values of one window the window's side.
        self._made: dict[fx.Node, fx.Node] = {}
        self._sides: dict[fx.Node, Side] = {}

    def result(self) -> fx.GraphModule:
        """The dense network. Raises ``ModelError`` and ``_OpenError``."""
        for node in self._old.nodes:
            if node.op == "output":
                self._write_outputs(node)
            elif any(each in self._sides for each in node.all_input_nodes):
                self._write_head(node)
            else:
                self._write_trunk(node)
        return fx.GraphModule(self._parts, self._new, class_name=type(self._module).__name__).eval()

    def _run(self, input_shape: tuple[int, int, int]) -> dict[fx.Node, tuple[int, ...]]:
        shapes = _Shapes(fx.GraphModule(self._module, self._old))
        try:
            _run_without_values(shapes.run, self._module, input_shape)
        except Exception as error:  # as above
            size = "x".join(map(str, input_shape))
            raise _refused(f"it cannot run on {size} inputs: {first_line(error)}") from error
        return shapes.of

    # ------------------------------------------------------------ in front of the end of the maps

    def _write_trunk(self, node: fx.Node) -> None:
        """Copy, until the maps end: there a value of one window begins."""
        before = self._side_of(node.all_input_nodes[0]) if node.all_input_nodes else None
        shape = self._shapes.get(node)
        if before is None or shape is None:
            self._copy(node)
            return
        after = self._side_of(node)
        if self._is_flatten(node):
            self._pass_on(node, before)
        elif after in {(1, 1), None} and self._pools_all(node, before) and self._is_behind_maps(node):
            pooling = _POOLINGS[self._what(node)]
            self._replace(node, pooling(before, stride=1) if before != (1, 1) else nn.Identity())
        elif self._what(node) is nn.AdaptiveAvgPool2d and after != (1, 1):
            if after != before:
                raise _refused(f"{self._called(node)} pools to a size that is not its native input's")
            self._made[node] = self._made[node.all_input_nodes[0]]
        elif self._may_open(node) and (after is None or (after == (1, 1) and before != (1, 1))):
            raise _OpenError(str(node.target))
        elif after is None:
            raise _refused(f"its maps end in {self._called(node)}, not in pooling or flattening")
        else:
            self._copy(node)

    def _pools_all(self, node: fx.Node, side: Side) -> bool:
        """Whether a node is the average or maximum over whole maps of that side."""
        what = self._what(node)
        if what not in _POOLINGS:
            return False
        if what is nn.AvgPool2d:
            layer = self._module.get_submodule(str(node.target))
            kernel = layer.kernel_size
            return ((kernel, kernel) if isinstance(kernel, int) else kernel) == side and layer.padding in {
                0,
                (0, 0),
            }
        if node.op == "call_module" or what is functional.adaptive_avg_pool2d:
            return self._side_of(node) == (1, 1)
        dims = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
        return isinstance(dims, tuple | list) and {dim % 4 for dim in dims if isinstance(dim, int)} == {2, 3}

    def _is_behind_maps(self, node: fx.Node) -> bool:
        """Whether nothing that depends on a node is a map: else its value is one for a map to be weighted with."""
        reached, waiting = set(), list(node.users)
        while waiting:
            each = waiting.pop()
            if each in reached:
                continue
            reached.add(each)
            if self._side_of(each) not in {None, (1, 1)}:
                return False
            waiting += each.users
        return True

    # ------------------------------------------------------------ behind it

    def _write_head(self, node: fx.Node) -> None:
        """Write what does for every window what a node does for the one."""
        tensors = [each for each in node.all_input_nodes if each in self._shapes]
        sides = dict.fromkeys(self._sides.get(each) for each in tensors)
        side = next(iter(sides))
        if len(sides) > 1 or side is None:
            which = " and ".join("x".join(map(str, each)) if each else "other" for each in sides)
            raise _refused(f"it joins values of {which} positions of its maps by {self._called(node)}")
        what = self._what(node)
        is_point = side == (1, 1)
        layer = self._module.get_submodule(str(node.target)) if node.op == "call_module" else None
        if self._is_flatten(node) or (what is nn.AdaptiveAvgPool2d and is_point):
            self._pass_on(node, side)
        elif isinstance(layer, nn.Linear) and type(layer) in _CONVOLUTIONS:
            self._replace(node, _convolution(layer, side))
        elif isinstance(layer, nn.BatchNorm1d) and is_point:
            self._replace(node, _batch_norm(layer))
        elif type(layer) is nn.LayerNorm and is_point and len(self._shapes[node]) == 2:
            self._replace(node, _layer_norm(layer))
        elif what in _ELEMENTWISE or (is_point and self._keeps_positions(what, layer, node)):
            self._copy(node)
            self._sides[node] = side
        elif self._may_open(node):
            raise _OpenError(str(node.target))
        else:
            raise _refused(f"it ends in {self._called(node)}, which has no counterpart for maps")

    def _keeps_positions(self, what: object, layer: nn.Module | None, node: fx.Node) -> bool:
        """Whether an operation on the dimensions behind the batch leaves those behind them alone."""
        if isinstance(layer, nn.Conv2d):
            return layer.kernel_size == (1, 1) and layer.stride == (1, 1) and layer.padding == (0, 0)
        if what in {nn.BatchNorm2d, nn.PReLU, LayerNorm2d}:
            return True
        dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
        return what in {"unflatten", "amax", torch.amax, torch.cat} and isinstance(dim, int) and dim > 0

    def _write_outputs(self, node: fx.Node) -> None:
        result = node.args[0]
        if not isinstance(result, fx.Node):
            raise _refused("it has several outputs")
        if result not in self._sides:
            raise _refused("its output is a map already")
        if self._sides[result] != (1, 1):
            raise _refused("it has no linear layer behind its flattened maps")
        windows = self._made[result]
        keepdim = len(self._shapes[result]) > 2
        average = self._new.call_method("mean", (windows, (2, 3), keepdim))
        self._new.output({self._output_name: average, "map": windows})

    # ------------------------------------------------------------ writing

    def _copy(self, node: fx.Node) -> None:
        if node.op in {"call_module", "get_attr"}:
            target = str(node.target)
            self._parts[target] = operator.attrgetter(target)(self._module)
        self._made[node] = self._new.node_copy(node, lambda each: self._made[each])

    def _pass_on(self, node: fx.Node, side: Side) -> None:
        """In the dense form the value stays the maps that it comes from."""
        self._made[node] = self._made[node.all_input_nodes[0]]
        self._sides[node] = side

    def _replace(self, node: fx.Node, layer: nn.Module) -> None:
        """Write a layer in place of a node; what comes out is one position for each window."""
        name = str(node.target) if node.op == "call_module" else str(node.name)
        while name in self._parts:
            name += "_"
        self._parts[name] = layer
        self._made[node] = self._new.call_module(name, (self._made[node.all_input_nodes[0]],))
        self._sides[node] = (1, 1)

    # ------------------------------------------------------------ reading

    def _side_of(self, node: fx.Node) -> Side | None:
        """Rows and columns of a map at native size; None of what is none."""
        shape = self._shapes.get(node, ())
        return (shape[2], shape[3]) if len(shape) == 4 else None

    def _what(self, node: fx.Node) -> object:
        """What a node does: a module's class, a function, or the name of a method."""
        if node.op == "call_module":
            return type(self._module.get_submodule(str(node.target)))
        return node.target

    def _is_flatten(self, node: fx.Node) -> bool:
        """Whether a node makes N x values of N x C x H x W."""
        if node.op == "call_module":
            layer = self._module.get_submodule(str(node.target))
            return isinstance(layer, nn.Flatten) and (layer.start_dim, layer.end_dim) == (1, -1)
        rest = (*node.args[1:], *node.kwargs.values())
        return node.target in {"flatten", torch.flatten} and rest in {(1,), (1, -1)}

    def _may_open(self, node: fx.Node) -> bool:
        """Whether a module is made of others, or has a forward that is not torch's."""
        if node.op != "call_module":
            return False
        layer = self._module.get_submodule(str(node.target))
        own_forward = not type(layer).__module__.startswith("torch.nn.")
        return isinstance(layer, nn.Sequential) or own_forward

    def _called(self, node: fx.Node) -> str:
        if node.op == "call_module":
            kind = type(self._module.get_submodule(str(node.target))).__name__
            return f"layer {node.target} ({kind})"
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node))
        within = [path for path, _ in node.meta.get("nn_module_stack", {}).values() if path]
        if not within:
            return name
        return f"{name} in layer {within[-1]} ({type(self._module.get_submodule(within[-1])).__name__})"


def _convolution(layer: nn.Linear, side: Side) -> nn.Conv2d:
    channels = layer.in_features // (side[0] * side[1])
    conv = _CONVOLUTIONS[type(layer)](
        channels, layer.out_features, side, bias=layer.bias is not None, device="meta"
    )
    # The same numbers in another shape, not a copy of them.
    kernels = layer.weight.detach().reshape(conv.weight.shape)
    conv.weight = nn.Parameter(kernels, layer.weight.requires_grad)
    conv.bias = layer.bias
    return conv.eval()


def _batch_norm(layer: nn.BatchNorm1d) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(layer.num_features, layer.eps, layer.momentum, layer.affine, device="meta")
    _take_tensors(norm, layer)
    return norm.eval()


def _layer_norm(layer: nn.LayerNorm) -> LayerNorm2d:
    norm = LayerNorm2d(layer.normalized_shape, layer.eps, layer.elementwise_affine, device="meta")
    _take_tensors(norm, layer)
    return norm.eval()


def _take_tensors(layer: nn.Module, other: nn.Module) -> None:
    """Give a layer the parameters and buffers of another that are called alike; they are not copied."""
    for name, value in (*other.named_parameters(), *other.named_buffers()):
        setattr(layer, name, value)


def _require_growth(dense: nn.Module, input_shape: tuple[int, int, int]) -> None:
    """Refuse a network that has another reason to take one size only, such as weights for each position."""
    channels, height, width = input_shape
    larger = (channels, height + _LARGER_PX[0], width + _LARGER_PX[1])
    try:
        rows, columns = _run_without_values(dense, dense, larger)["map"].shape[2:]
    except Exception as error:  # whatever layers raise on a size that they cannot take
        raise _refused(f"it does not take larger images: {first_line(error)}") from error
    if rows < 2 or columns < 2:
        raise _refused("it sees no more of a larger image")


def _run_without_values(run: Callable[..., Any], module: nn.Module, shape: Iterable[int]) -> Any:
    device = next((value.device for value in module.parameters()), torch.device("cpu"))
    # What fails here is told as an error; torch would tell it in a log as well.
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            if device.type != "meta":
                stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
            return run(torch.empty(2, *shape, device=device))
    finally:
        logger.setLevel(level)


def _required(module: nn.Module) -> list[str]:
    parameters = inspect.signature(module.forward).parameters.values()
    return [each.name for each in parameters if each.default is inspect.Parameter.empty]


def _defaults(module: nn.Module) -> dict[str, Any]:
    """Arguments that an image alone leaves at their defaults, which a forward may branch on."""
    parameters = inspect.signature(module.forward).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not inspect.Parameter.empty}


def _refused(reason: str) -> ModelError:
    return ModelError(f"the network has no fully convolutional form: {reason}")
