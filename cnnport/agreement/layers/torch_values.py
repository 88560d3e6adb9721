"""What the modules of the PyTorch original give, while it runs.

Exported nodes are named after their modules (``layer1.0.conv1/Conv``, the second of a kind
``layer1.0.relu/Relu_1``), so a node's value is what that module gives, or, where it has taken in what follows it,
one of the modules called next.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnport.agreement.layers.graph import Array, Arrays, Graph
from cnnport.agreement.layers.reference_values import Counterpart
from cnnport.agreement.layers.side import Side, joined
from cnnport.agreement.layers.sites import Site

if TYPE_CHECKING:
    import torch

# So many calls behind a module's own may have been taken in: a batch norm, an activation, the modules around them.
_FURTHER = 5

_NAME = re.compile(r"(.*)/[A-Za-z0-9]+?(?:_(\d+))?([:_][a-z].*)?")


class TorchValues:
    """Of the module that a file was exported from; a call is named ``path#0``, ``path#1``."""

    def __init__(self, side: Side, feeds: Mapping[str, Array]) -> None:
        """Build the module and run it once to see what it calls.

        Args:
            side: Its artifact says which module it is.
            feeds: By input name, in the order of the module's arguments.

        Raises:
            ArtifactError: If the file does not say which module it is.
        """
        from cnnport.rebuild import module_of

        self._module = module_of(side.artifact)
        self._names = {module: name for name, module in self._module.named_modules() if name}
        self._outputs = tuple(spec.name for spec in side.artifact.outputs)
        inputs = [spec.name for spec in side.artifact.inputs]
        self._feeds = [feeds[name] for name in inputs]
        self._size = 1 if side.alone else len(self._feeds[0])
        self._sizes: dict[str, int] = {}
        self._run(0, self._size, self._note)
        self._order = list(self._sizes)
        self._place = {name: place for place, name in enumerate(self._order)}

    def counterparts(self, graph: Graph, site: Site) -> list[Counterpart]:
        """What the module of a node gives, and what is called next."""
        if site.value in graph.outputs and len(graph.outputs) == len(self._outputs):
            return [Counterpart(self._outputs[graph.outputs.index(site.value)])]
        found = _NAME.fullmatch(graph.nodes[site.place].name)
        if found is None:
            return []
        call = f"{found[1]}#{found[2] or 0}"
        start = self._place.get(call, self._place.get(f"{found[1]}#0"))
        if start is None:
            return []
        # What passes have changed may have its channels in another order.
        own = graph.nodes[site.place].name
        changed = found[3] is not None or not re.fullmatch(rf"{re.escape(own)}:\d+", site.value)
        return [
            Counterpart(name, surely=place == 0 and not changed)
            for place, name in enumerate(self._order[start : start + 1 + _FURTHER])
        ]

    def bytes_of(self, name: str) -> int:
        """As it was in the first run."""
        return self._sizes[name]

    def read(self, names: Iterable[str]) -> Arrays:
        """Run, and keep what was asked for."""
        wanted = set(names)
        pieces: list[Arrays] = []
        total = len(self._feeds[0])
        for start in range(0, total, self._size):
            kept: Arrays = {}

            def keep(name: str, tensor: "torch.Tensor", kept: Arrays = kept) -> None:
                if name in wanted:
                    # Modules that work in place change what they were given.
                    kept[name] = np.array(tensor.numpy())

            self._run(start, start + self._size, keep)
            pieces.append(kept)
        return joined(pieces, self._size, total)

    def _note(self, name: str, tensor: "torch.Tensor") -> None:
        self._sizes[name] = tensor.numel() * 4 * (len(self._feeds[0]) // self._size)

    def _run(self, start: int, stop: int, see: "Callable[[str, torch.Tensor], None]") -> None:
        import torch

        from cnnport.capture import named_outputs

        calls: Counter[str] = Counter()

        def hook(module: "torch.nn.Module", _: Any, result: Any) -> None:
            name = self._names[module]
            if isinstance(result, torch.Tensor) and result.is_floating_point():
                see(f"{name}#{calls[name]}", result)
            calls[name] += 1

        handles = [module.register_forward_hook(hook) for module in self._names]
        try:
            with torch.inference_mode():
                result = self._module(*(torch.from_numpy(np.array(feed[start:stop])) for feed in self._feeds))
        finally:
            for handle in handles:
                handle.remove()
        for name, tensor in named_outputs(result, self._outputs[0]).items():
            see(name, tensor)
