"""What became of a graph: operators before and after, and which nodes came and went.

From three kinds of inputs: an optimisation, an export with its steps, and two ONNX files.
"""

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cnnport.measuring.page.charts import theme
from cnnport.measuring.page.charts.change import Change, changes
from cnnport.measuring.page.documents import GRAPH, Document, Fields, check_graph
from cnnport.measuring.page.figure import Figure, Key, Section, Table
from cnnport.measuring.page.words import clean, command, file_word, megabytes, number, plural, signed_percent

if TYPE_CHECKING:
    import onnx

NODES_AT_MOST = 400
"""As many nodes stand in a table of those that came or went; the rest is counted."""


@dataclass(frozen=True)
class GraphChange:
    """A graph before and after.

    Attributes:
        name: Of what.
        before: Nodes by operator.
        after: Likewise.
        facts: Further numbers: what, before, after.
        verified: How it was checked, in a sentence.
        doubts: What was refused or could not be checked, in sentences.
        command: Which makes it again.
        command_note: What to know before.
        gone: Nodes that only the first has: name, operator, first output; None where nodes are not known.
        come: Nodes that only the second has.
        other: Nodes of both that differ: name, and how.
        source: Name of the file that tells it.
    """

    name: str
    before: dict[str, int]
    after: dict[str, int]
    command: tuple[str, ...]
    source: str
    facts: tuple[tuple[str, str, str], ...] = ()
    verified: str = ""
    doubts: tuple[str, ...] = ()
    command_note: str = ""
    gone: tuple[tuple[str, str, str], ...] | None = None
    come: tuple[tuple[str, str, str], ...] | None = None
    other: tuple[tuple[str, str, str], ...] = field(default=())

    @property
    def nodes(self) -> tuple[int, int]:
        """How many before and after."""
        return sum(self.before.values()), sum(self.after.values())


def read_graph_changes(documents: Sequence[Document]) -> tuple[GraphChange, ...]:
    """What optimisations, exports and pairs of ONNX files tell. Raises ``DocumentError``."""
    files = [each for each in documents if each.kind == GRAPH]
    return (
        *(_optimized(each) for each in documents if each.kind == "optimize"),
        *(_exported(each) for each in documents if each.kind == "export"),
        *(_compared(before, after) for before, after in zip(files[::2], files[1::2], strict=True)),
    )


def graphs_section(found: Iterable[GraphChange]) -> Section | None:
    """A figure for each; None without any."""
    figures = tuple(map(_figure, found))
    if not figures:
        return None
    return Section(
        "Graphs before and after", "Nodes by operator: the open dot before, the full dot after.", figures
    )


def _figure(found: GraphChange) -> Figure:
    names = sorted({*found.before, *found.after})
    rows = [Change(name, found.before.get(name, 0), found.after.get(name, 0)) for name in names]
    rows.sort(key=lambda row: (row.before == row.after, -abs(row.before - row.after), row.label))
    before, after = found.nodes
    gone = [row.label for row in rows if row.before and not row.after]
    says = f"{before} nodes became {after}"
    says += f" ({signed_percent(after / before - 1)})" if before and before != after else ""
    says += (
        f"; {plural(len(gone), 'operator')} of {len(found.before)} {'is' if len(gone) == 1 else 'are'} gone."
        if gone
        else "."
    )
    for what, was, now in found.facts:
        says += f" {what}: {was} before, {now} after." if was else f" {what}: {now}."
    if found.verified:
        says += f" {found.verified}"
    cells = [(row.label, str(row.before), str(row.after), _signed(row.after - row.before)) for row in rows]
    cells.append(("all nodes", str(before), str(after), _signed(after - before)))
    tables = [Table("Nodes by operator", ("operator", "before", "after", "change"), tuple(cells))]
    if found.facts:
        tables.append(Table("Sizes and costs", ("of the file", "before", "after"), found.facts))
    tables += _node_tables(found)
    return Figure(
        title=f"Graph of {found.name}",
        says=says,
        tables=tuple(tables),
        drawing=(lambda narrow: changes(rows, narrow=narrow, title="nodes")) if rows else None,
        keys=tuple(
            Key(text, theme.SERIES[series], "circle")
            for text, series, there in (
                ("fewer", 0, any(row.after < row.before for row in rows)),
                ("more", 1, any(row.after > row.before for row in rows)),
                ("as many", 6, any(row.after == row.before for row in rows)),
            )
            if there
        ),
        command=found.command,
        command_note=found.command_note,
    )


def _node_tables(found: GraphChange) -> Iterator[Table]:
    for caption, nodes, head in (
        ("Nodes that are gone", found.gone, "output"),
        ("Nodes that are new", found.come, "output"),
        ("Nodes that are other ones", found.other, "what differs"),
    ):
        if nodes:
            more = (
                f" (the first {NODES_AT_MOST} of {len(nodes)})"
                if len(nodes) > NODES_AT_MOST
                else f" ({len(nodes)})"
            )
            text = frozenset({0, 1, 2})
            yield Table(caption + more, ("node", "operator", head), nodes[:NODES_AT_MOST], text)


def _signed(change: int) -> str:
    return f"{change:+d}".replace("-", "\N{MINUS SIGN}") if change else "0"


def _optimized(document: Document) -> GraphChange:
    fields = Fields(document.body, document.path)
    source, path = fields.text("source", ""), fields.text("path", "")
    size, cost = fields.one("bytes"), fields.one_or_none("cost")
    facts = [("Size", megabytes(size.number("before")), megabytes(size.number("after")))]
    old, new = (cost and cost.one_or_none(side) for side in ("before", "after"))
    if old and new:
        facts.append(("GFLOP", number(old.number("flops") / 1e9), number(new.number("flops") / 1e9)))
        moved = [megabytes(side.number("bytes_moved")) for side in (old, new)]
        facts.append(("Bytes moved", moved[0], moved[1]))
    doubts = [
        f"pass {each.text('name')} was rolled back: {each.text('refused')}" for each in _refused(fields)
    ]
    if not fields.flag("verified", default=True):
        doubts.append(f"not verified: {fields.text('unverified_reason', 'no reason is stated')}")
    ops = fields.one("ops")
    return GraphChange(
        name=_last(path) or document.label,
        before=ops.counts("before"),
        after=ops.counts("after"),
        facts=tuple(facts),
        verified=_verified(fields, "the original"),
        doubts=tuple(doubts),
        command=(
            command(
                [
                    "cnnport",
                    "optimize",
                    file_word(_last(source) or "IN.onnx"),
                    "-o",
                    file_word(_last(path) or "OUT.onnx"),
                    "--json",
                ]
            )
            + f" > {command([file_word(document.label)])}",
        ),
        source=document.label,
    )


def _exported(document: Document) -> GraphChange:
    fields = Fields(document.body, document.path)
    steps = fields.many("steps")
    counts = [step.counts("ops") for step in steps] or [{}]
    model, path = fields.text("model"), fields.text("path", "")
    weights = fields.one_or_none("weights")
    doubts = [
        f"pass {each.text('name')} was rolled back: {each.text('refused')}" for each in _refused(fields)
    ]
    words = ["cnnport", "export", file_word(model)]
    if weights is not None:
        if warning := weights.text("warning", ""):
            doubts.append(warning)
        if weights.text("kind", "") == "random":
            words += ["--weights", "random"]
    words += ["--opset", str(fields.count("opset"))]
    precision = fields.text("precision", "fp32")
    if precision != "fp32":
        words += ["--precision", precision]
    names = [step.text("name") for step in steps]
    return GraphChange(
        name=f"{model}, exported",
        before=counts[0],
        after=counts[-1],
        facts=(("Size", "", megabytes(fields.number_or_none("bytes"))),)
        if fields.number_or_none("bytes")
        else (),
        verified=_verified(fields, "PyTorch"),
        doubts=tuple(doubts),
        command=(
            command([*words, "-o", file_word(_last(path) or "OUT.onnx"), "--json"])
            + f" > {command([file_word(document.label)])}",
        ),
        command_note=f"Before is what {names[0]} gives, after the file that was written." if names else "",
        source=document.label,
    )


def _compared(before: Document, after: Document) -> GraphChange:
    from cnnport.graphs.operators import count_ops

    old, new = check_graph(before.path), check_graph(after.path)
    old_nodes, new_nodes = _nodes(old), _nodes(new)

    def only(nodes: dict[str, "onnx.NodeProto"], others: Container[str]) -> tuple[tuple[str, str, str], ...]:
        return tuple(_node_row(name, node) for name, node in nodes.items() if name not in others)

    return GraphChange(
        name=f"{after.label} against {before.label}",
        before={clean(name): count for name, count in count_ops(old).items()},
        after={clean(name): count for name, count in count_ops(new).items()},
        facts=(
            (
                "Size of the ONNX file",
                megabytes(before.path.stat().st_size),
                megabytes(after.path.stat().st_size),
            ),
        ),
        gone=only(old_nodes, new_nodes),
        come=only(new_nodes, old_nodes),
        other=tuple(
            (clean(name), clean(new_nodes[name].op_type), said)
            for name, node in old_nodes.items()
            if name in new_nodes and (said := _difference(node, new_nodes[name]))
        ),
        command=(
            command(
                [
                    "cnnport",
                    "report",
                    *(file_word(each.label) for each in (before, after)),
                    "-o",
                    "report.html",
                ]
            ),
        ),
        source=f"{before.label} and {after.label}",
    )


def _nodes(model: "onnx.ModelProto") -> dict[str, "onnx.NodeProto"]:
    """Nodes by name; one without a name of its own is known by its first output, which is its alone."""
    counts = Counter(node.name for node in model.graph.node)
    return {
        node.name if node.name and counts[node.name] == 1 else next(iter(node.output), ""): node
        for node in model.graph.node
    }


def _node_row(name: str, node: "onnx.NodeProto") -> tuple[str, str, str]:
    return clean(name), clean(node.op_type), clean(next(iter(node.output), ""))


def _difference(old: "onnx.NodeProto", new: "onnx.NodeProto") -> str:
    """How two nodes of one name differ, in words; empty where they do not."""
    if old.op_type != new.op_type:
        return clean(f"was {old.op_type}")
    was, now = (
        {each.name: each.SerializeToString(deterministic=True) for each in node.attribute}
        for node in (old, new)
    )
    said = [f"attribute {name}" for name in sorted(was.keys() | now.keys()) if was.get(name) != now.get(name)]
    if list(old.input) != list(new.input):
        said.append("inputs")
    return clean(", ".join(said))


def _refused(fields: Fields) -> list[Fields]:
    return [each for each in fields.many("passes") if each.text("refused", "")]


def _verified(fields: Fields, reference: str) -> str:
    parity = fields.one_or_none("parity")
    error = parity.number_or_none("max_abs") if parity else None
    return "" if error is None else f"Checked against {reference}: largest difference {number(error)}."


def _last(path: str) -> str:
    """The last part of a path of any system."""
    return path.replace("\\", "/").rsplit("/", 1)[-1]
