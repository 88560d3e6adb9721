"""A plan carried out: operators in their new orders of axes, and the Transposes that this needs between them."""

from collections.abc import Sequence

import onnx_ir as ir

from cnnport.graphs.channel.rechannel import Scope
from cnnport.graphs.layout.permutations import Permutation, is_identity, permutation_of, permuted_shape
from cnnport.graphs.layout.plan import Plan, Request, Source
from cnnport.graphs.layout.site import Editor


class Rewriter:
    """Used once for a plan."""

    def __init__(self, plan: Plan, transposes: Sequence[ir.Node], scope: Scope) -> None:
        """``transposes``: those that the graph has and the plan accounts for."""
        self._plan = plan
        self._transposes = transposes
        self._scope = scope
        self._graph = scope.graph
        self._editor = Editor(scope)
        # What the file gives out, by place: the values themselves are replaced one after the other.
        self._outputs = tuple(scope.graph.outputs)
        self._shapes = tuple(value.shape for value in self._outputs)

    def carry_out(self) -> None:
        """Change the graph into what the plan says."""
        for site, label in sorted(self._plan.labels.items(), key=lambda item: not item[0].is_early):
            if not is_identity(label):
                site.change(label, self._editor)
        for source in self._plan.sources:
            self._connect(source)
        for node in reversed(self._transposes):
            if not node.outputs[0].uses() and not node.outputs[0].is_graph_output():
                self._graph.remove(node, safe=True)
        self._editor.finish()
        if not _is_sorted(self._graph):
            self._graph.sort()

    def _connect(self, source: Source) -> None:
        """Let everyone read a source in the order that the plan gives them."""
        value = source.value
        label = self._plan.labels[source.maker] if source.maker else None
        groups: dict[Permutation, list[Request]] = {}
        for request, order in self._plan.orders(source):
            # What reads it as it is and goes on so is left alone: constants may have been replaced there.
            if not (is_identity(order) and request.is_direct):
                groups.setdefault(order, []).append(request)
        given = value.shape
        if label is not None and not is_identity(label):
            # It holds its numbers in another order from now on; an output keeps its description for its successor.
            if not value.is_graph_output():
                value.name = self._scope.fresh(f"{value.name}_perm")
            value.shape = permuted_shape(given, label)
            existing: list[ir.Node] = []
        else:
            existing = [node for node in self._transposes if node.inputs[0] is value]
        for order, requests in groups.items():
            if is_identity(order):
                self._read_directly(value, requests)
            elif source.is_constant:
                made = self._editor.permuted(value, len(order), order)
                for request in requests:
                    assert request.node is not None
                    request.node.replace_input_with(request.index, made)
                self._editor.release(value)
            else:
                same = [node for node in existing if permutation_of(node, len(order)) == order]
                self._read_transposed(value, order, requests, same)

    def _read_directly(self, value: ir.Value, requests: Sequence[Request]) -> None:
        for request in requests:
            if request.node is not None and request.node.inputs[request.index] is not value:
                request.node.replace_input_with(request.index, value)
        for request in requests:
            if request.node is not None or self._outputs[request.index] is value:
                continue
            if value.producer() is None or value.is_graph_output():
                copy = ir.node("Identity", [value], name=self._scope.fresh(f"{value.name}_copy"))
                self._place(copy, value)
                self._give_out(request.index, copy.outputs[0])
            else:
                self._give_out(request.index, value)

    def _read_transposed(
        self,
        value: ir.Value,
        order: Permutation,
        requests: Sequence[Request],
        existing: Sequence[ir.Node],
    ) -> None:
        made: list[ir.Value] = []
        for request in requests:
            if request.node is None:
                kept = [
                    node.outputs[0] for node in existing if node.outputs[0] is self._outputs[request.index]
                ]
                result = kept[0] if kept else self._transposed(value, order)
                if not kept:
                    self._give_out(request.index, result)
                made.append(result)
        if not made:
            made = [node.outputs[0] for node in existing[:1]] or [self._transposed(value, order)]
        for request in requests:
            if request.node is not None and request.node.inputs[request.index] is not made[0]:
                request.node.replace_input_with(request.index, made[0])

    def _transposed(self, value: ir.Value, order: Permutation) -> ir.Value:
        base = self._scope.fresh(f"{value.name}_transposed")
        node = ir.node("Transpose", [value], {"perm": list(order)}, name=base)
        result = node.outputs[0]
        result.name, result.type, result.shape = base, value.type, permuted_shape(value.shape, order)
        result.meta.update(value.meta)
        self._place(node, value)
        return result

    def _place(self, node: ir.Node, value: ir.Value) -> None:
        """Put a new node right behind the maker of what it reads."""
        maker = value.producer()
        if maker is None:
            self._graph.insert_before(self._graph[0], node)
        else:
            self._graph.insert_after(maker, node)

    def _give_out(self, index: int, value: ir.Value) -> None:
        """Make a value an output of the graph, in the place and by the name of what was given out there."""
        old, shape = self._outputs[index], self._shapes[index]
        self._graph.outputs[index] = value
        name = old.name
        old.name = self._scope.fresh(f"{name}_perm")
        value.name, value.type, value.shape = name, old.type or value.type, shape
        value.doc_string = old.doc_string
        value.metadata_props.clear()
        value.metadata_props.update(old.metadata_props)
        value.meta.clear()


def _is_sorted(graph: ir.Graph) -> bool:
    """Whether every value is made before it is read; False where subgraphs may read some, too."""
    if any(True for _ in graph.subgraphs()):
        return False
    seen: set[ir.Node] = set()
    for node in graph:
        makers = (value.producer() for value in node.inputs if value is not None)
        if any(maker is not None and maker.graph is graph and maker not in seen for maker in makers):
            return False
        seen.add(node)
    return True
