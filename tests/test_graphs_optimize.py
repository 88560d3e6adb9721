"""The loop around the passes: what it keeps, what it checks, and that a faulty pass is undone and named."""

import gc
import re

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from cnnport.errors import CnnportError, FeedError, UnknownNameError
from cnnport.graphs import DEFAULT_PASSES, PASSES, count_ops, optimize, select_passes
from cnnport.graphs.cost import GraphCost
from cnnport.graphs.fold.fold_batchnorm import fold_batchnorm
from cnnport.graphs.journal import refused
from cnnport.graphs.passes import REGISTERED, TARGETS, named_in, needs_verifying
from cnnport.graphs.values import nested
from cnnport.offload import bring_back, set_aside

FOLD = (fold_batchnorm,)

TEXT = """<ir_version: 10, opset_import: ["" : 18, "acme" : 1, "local" : 1],
 producer_name: "somebody", producer_version: "3", model_version: 7, doc_string: "a net",
 metadata_props: ["license": "MIT", "author": "me"]>
net (float[batch,3,height,8] image, float[batch] unused) => (float[batch,5] logits, float[batch,c,h,w] map)
<float[8] scale, float[8] bias, float[8] mean, float[8] var> {
    c = Conv <pads=[1,1,1,1]> (image, kernel)
    map = BatchNormalization (c, scale, bias, mean, var)
    r = Relu (map)
    p = GlobalAveragePool (r)
    f = Flatten (p)
    z = local.twice (f)
    n = BatchNormalization (z, scale, bias, mean, var)
    logits = Gemm (n, matrix)
}
<domain: "local", opset_import: ["" : 18]>
twice (a) => (b) { b = Add (a, a) }
"""


def network():
    """Two BNs, one above and one below a linear neighbour, and a bit of everything that has to survive."""
    head, graph = TEXT.split("<float[8] scale")
    model = onnx.parser.parse_model(head + graph[graph.index("{") :])
    model.functions[0].node[0].ClearField("domain")  # said to be "" by the parser, which is not written
    model.graph.doc_string = "its graph"
    model.graph.metadata_props.add(key="scope", value="net")
    rng = np.random.default_rng(0)
    shapes = {
        "kernel": (8, 3, 3, 3),
        "matrix": (8, 5),
        "scale": (8,),
        "bias": (8,),
        "mean": (8,),
        "var": (8,),
    }
    for name, shape in shapes.items():
        array = rng.uniform(0.5, 2, shape) * (1 if name == "var" else rng.choice([-1, 1], shape))
        model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(1)
    feeds = {
        "image": rng.normal(size=(2, 3, 6, 8)).astype(np.float32),
        "unused": np.ones(2, np.float32),
    }
    return session.run(None, {each.name: feeds[each.name] for each in session.get_inputs()})


def verify_against(model):
    """A check that compares outputs with those of ``model``, and counts its calls."""
    expected = run(model)
    calls = []

    def verify(candidate):
        calls.append(candidate)
        worst = max(
            float(np.abs(found - wanted).max()) if found.shape == wanted.shape else np.inf
            for found, wanted in zip(run(candidate), expected, strict=True)
        )
        return None if worst < 1e-4 else f"the outputs differ by {worst:.3g}"

    return verify, calls


def test_folds_and_reports():
    """One report for each pass of the first round; the counts before and after are those of the graphs."""
    before = network()
    verify, calls = verify_against(before)
    after, (report,) = optimize(before, FOLD, verify=verify)
    assert (report.name, report.rewrites, report.refused) == ("fold_batchnorm", 2, None)
    assert report.ops_before == count_ops(before)
    assert report.ops_after == count_ops(after)
    assert "BatchNormalization" not in report.ops_after
    assert len(calls) == 1
    assert verify(after) is None


def test_interface_is_preserved():
    """Names, types, shapes, dynamic dimensions, opsets, metadata, texts, functions and producers stay."""
    before = network()
    after, _ = optimize(before, FOLD)
    assert after is not before
    for name in ("input", "output", "metadata_props"):
        assert list(getattr(after.graph, name)) == list(getattr(before.graph, name))
    for name in ("opset_import", "functions"):
        assert list(getattr(after, name)) == list(getattr(before, name))
    assert {each.key: each.value for each in after.metadata_props} == {"license": "MIT", "author": "me"}
    for name in ("ir_version", "producer_name", "producer_version", "model_version", "domain", "doc_string"):
        assert getattr(after, name) == getattr(before, name)
    assert (after.graph.name, after.graph.doc_string) == (before.graph.name, before.graph.doc_string)


def test_the_callers_model_stays():
    """The model that is given is not touched, and is what comes back where nothing was rewritten."""
    model = network()
    pristine = model.SerializeToString(deterministic=True)
    optimize(model, FOLD)
    assert model.SerializeToString(deterministic=True) == pristine
    assert optimize(model, ())[0] is model
    assert optimize(model, ()) == (model, ())


def wrong_epsilon(model):
    """Fold as if epsilon were 0.1."""
    for node in model.graph:
        if node.op_type == "BatchNormalization":
            node.attributes.add(ir.AttrFloat32("epsilon", 0.1))
    return fold_batchnorm(model)


def permuted_channel(model):
    """Swap two filters of the convolution."""
    if "permuted" in model.graph[0].metadata_props:
        return 0
    model.graph[0].metadata_props["permuted"] = ""
    value = model.graph.initializers["kernel"]
    array = value.const_value.numpy().copy()
    array[[0, 1]] = array[[1, 0]]
    value.const_value = ir.tensor(array, name="kernel")
    return 1


def raising(model):
    """Get half way, then raise."""
    model.graph.initializers["matrix"].name = "renamed"
    fold_batchnorm(model)
    raise ValueError("half way")


def dangling(model):
    """Drop the first node, whose output is still read."""
    model.graph.remove(model.graph[0])
    return 1


def unsorted(model):
    """Move the first node to the end."""
    node = model.graph[0]
    model.graph.remove(node)
    model.graph.append(node)
    return 1


def wrong_shape(model):
    """Promise another height than the graph computes."""
    next(node for node in model.graph if node.op_type == "Flatten").outputs[0].shape = ir.Shape(["batch", 9])
    return 1


def renamed_output(model):
    """Give the output another name."""
    model.graph.outputs[0].name = "scores"
    return 1


def lost_metadata(model):
    """Clear the metadata."""
    model.metadata_props.clear()
    return 1


def unknown_operator(model):
    """Use an operator that does not exist."""
    next(node for node in model.graph if node.op_type == "Relu").op_type = "ReluIsh"
    return 1


def wrong_rank(model):
    """Give the convolution of an image a kernel of one dimension."""
    value = model.graph.initializers["kernel"]
    value.const_value = ir.tensor(value.const_value.numpy()[..., 0].copy(), name="kernel")
    value.shape = ir.Shape([8, 3, 3])
    return 1


ONLY_NUMBERS = [wrong_epsilon, permuted_channel]
STRUCTURE = {
    raising: "raising raised ValueError: half way",
    dangling: "sorted",
    unsorted: "sorted",
    wrong_shape: "differ",
    renamed_output: "interface",
    lost_metadata: "interface",
    unknown_operator: "ReluIsh",
    wrong_rank: "inconsistent",
}


@pytest.mark.parametrize("fault", ONLY_NUMBERS)
def test_wrong_numbers_are_undone(fault):
    """A pass that changes the numbers is undone and named, the right one after it still runs.

    Without ``verify`` the fault goes through and the numbers are wrong: it is real, and ``verify`` is what
    finds it. The right pass alone satisfies the same ``verify``: it does not refuse everything.
    """
    before = network()
    verify, _ = verify_against(before)
    unchecked, (report,) = optimize(before, [fault])
    assert report.refused is None
    assert report.rewrites > 0
    assert "differ" in verify(unchecked)

    undone, (report,) = optimize(before, [fault], verify=verify)
    assert undone is before
    assert (report.name, report.rewrites) == (fault.__name__, 0)
    assert report.refused == verify(unchecked)
    assert report.ops_after == report.ops_before == count_ops(before)

    good, _ = optimize(before, [fold_batchnorm], verify=verify)
    for passes in ([fault, fold_batchnorm], [fold_batchnorm, fault, fold_batchnorm]):
        if fault is permuted_channel and passes[0] is fold_batchnorm:
            continue  # once folded, there is no weight of that name
        after, reports = optimize(before, passes, verify=verify)
        assert after.SerializeToString(deterministic=True) == good.SerializeToString(deterministic=True)
        named = [report.name for report in reports if report.refused]
        assert named == ([fault.__name__] if passes[0] is fault else [])


@pytest.mark.parametrize("fault", STRUCTURE, ids=lambda fault: fault.__name__)
def test_broken_graphs_are_undone(fault):
    """A pass that raises or breaks the graph is undone and named without ``verify``; the next one runs."""
    before = network()
    pristine = before.SerializeToString(deterministic=True)
    good, _ = optimize(before, FOLD)
    after, reports = optimize(before, [fault, fold_batchnorm])
    assert before.SerializeToString(deterministic=True) == pristine
    assert after.SerializeToString(deterministic=True) == good.SerializeToString(deterministic=True)
    assert [(report.name, report.rewrites) for report in reports] == [
        (fault.__name__, 0),
        ("fold_batchnorm", 2),
    ]
    assert reports[1].refused is None
    assert "\n" not in reports[0].refused
    assert re.search(STRUCTURE[fault], reports[0].refused)


def test_a_refused_pass_does_not_run_again():
    """Rounds go on without it; it is reported once."""
    calls = []

    def counted(model):
        calls.append(model)
        return wrong_epsilon(model)

    verify, _ = verify_against(network())
    _, reports = optimize(network(), [counted, fold_batchnorm], verify=verify)
    assert len(calls) == 1
    assert [report.name for report in reports] == ["counted", "fold_batchnorm"]


SMALL = """<ir_version: 10, opset_import: ["" : 18]>
small (float[2,3] x) => (float[2,3] y) <float[2,3] a> { a = Relu (x) y = Neg (a) }"""


def to_elu(model):
    """Make every Relu an Elu."""
    found = [node for node in model.graph if node.op_type == "Relu"]
    for node in found:
        node.op_type = "Elu"
    return len(found)


def to_abs(model):
    """Make every Neg an Abs."""
    found = [node for node in model.graph if node.op_type == "Neg"]
    for node in found:
        node.op_type = "Abs"
    return len(found)


@pytest.mark.parametrize("verify", [None, lambda candidate: None], ids=["unverified", "verified"])
@pytest.mark.parametrize("fault", STRUCTURE, ids=lambda fault: fault.__name__)
def test_what_was_right_before_a_fault_stays(fault, verify):
    """To undo one pass takes nothing back of those before it, and nothing of it is left to those after it."""
    want, _ = optimize(network(), [to_elu, fold_batchnorm])
    before = network()
    pristine = before.SerializeToString(deterministic=True)
    # Some of the faults look for a Relu.
    first = to_abs if fault is unknown_operator else to_elu
    passes = [first, fault, to_elu, fold_batchnorm]
    after, reports = optimize(before, passes, verify=verify)
    assert after.SerializeToString(deterministic=True) == want.SerializeToString(deterministic=True)
    assert before.SerializeToString(deterministic=True) == pristine
    assert [report.name for report in reports if report.refused] == [fault.__name__]
    assert sum(report.rewrites for report in reports) == 3


def test_one_check_for_all(monkeypatch):
    """Where nothing is verified in between, the last graph is checked for all passes; a fault is found as well."""
    checked = []
    original = onnx.checker.check_model
    monkeypatch.setattr(onnx.checker, "check_model", lambda model: (checked.append(model), original(model)))
    model = onnx.parser.parse_model(SMALL)
    after, _ = optimize(model, [to_elu, to_abs])
    assert [node.op_type for node in after.graph.node] == ["Elu", "Abs"]
    assert len(checked) == 1

    told = []
    verified, _ = optimize(model, [to_elu, to_abs], verify=told.append)
    assert verified == after
    assert len(checked) == 1 + len(told) == 3

    undone, reports = optimize(model, [to_elu, unsorted, to_abs])
    assert undone == after
    assert [bool(report.refused) for report in reports] == [False, True, False]


def test_subgraphs_that_a_pass_brings_in_are_seen():
    """The engine remembers that a graph has none only until something changes."""

    def choosing(model):
        if any(node.op_type == "If" for node in model.graph):
            return 0
        node, value = model.graph[1], model.graph[0].outputs[0]
        branches = []
        for name in ("then_branch", "else_branch"):
            inner = ir.node("Neg", [value], name=name)
            inner.outputs[0].name = f"{name}_y"
            branches.append(ir.AttrGraph(name, ir.Graph([], inner.outputs, nodes=[inner], name=name)))
        cond = ir.tensor(np.array(True), name="yes")
        yes = ir.Value(name="yes", type=ir.TensorType(ir.DataType.BOOL), shape=ir.Shape([]), const_value=cond)
        model.graph.register_initializer(yes)
        choice = ir.Node("", "If", [yes], branches, name="choice")
        choice.outputs[0].name, choice.outputs[0].type = "chosen", value.type
        choice.outputs[0].shape = value.shape
        model.graph.insert_before(node, choice)
        node.replace_input_with(0, choice.outputs[0])
        return 1

    def looking(model):
        seen.append(len(list(nested(model.graph))))
        return 0

    seen = []
    _, reports = optimize(onnx.parser.parse_model(SMALL), [looking, choosing, looking])
    assert [report.refused for report in reports] == [None] * 3
    assert seen[0] == 0
    assert set(seen[1:]) == {2}


@pytest.mark.parametrize("is_on", [True, False])
def test_the_collector_is_left_as_it_was(is_on):
    """Also by a model that cannot be read."""
    was_on = gc.isenabled()
    (gc.enable if is_on else gc.disable)()
    try:
        optimize(network(), FOLD)
        assert gc.isenabled() == is_on
        twice = onnx.parser.parse_model(SMALL)
        twice.graph.node.add().CopyFrom(twice.graph.node[0])
        _, (report,) = optimize(twice, FOLD)
        assert report.fault == "unreadable"
        assert gc.isenabled() == is_on
    finally:
        (gc.enable if was_on else gc.disable)()


def test_the_collector_passes_over_what_was_there_before():
    """And looks at everything again afterwards, also where a pass raised."""

    def raising(_: ir.Model) -> int:
        counts.append(gc.get_freeze_count())
        raise ValueError

    counts: list[int] = []
    assert gc.get_freeze_count() == 0
    optimize(network(), [raising])
    assert all(counts)
    assert gc.get_freeze_count() == 0
    gc.freeze()
    try:
        optimize(network(), FOLD)
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_rounds():
    """A pass that does a little at a time is run until it finds nothing, and reported each time."""

    def rename_one_relu(model):
        for node in model.graph:
            if node.op_type == "Relu" and not (node.name or "").startswith("seen"):
                node.name = f"seen_{node.name}"
                return 1
        return 0

    model = network()
    model.graph.node.append(helper.make_node("Relu", ["logits"], ["again"]))
    after, reports = optimize(model, [rename_one_relu])
    assert [report.rewrites for report in reports] == [1, 1]
    assert [node.name for node in after.graph.node if node.op_type == "Relu"] == [
        "seen_",
        "seen_",
    ]


def test_passes_that_never_end():
    """Two passes that undo each other are a bug, and are named instead of running for ever."""

    def there(model):
        return 1

    def back(model):
        return 1

    with pytest.raises(RuntimeError, match=r"still rewrite after \d+ rounds: there, back"):
        optimize(network(), [there, back])


def test_errors_of_verify():
    """An error of the runtime counts against the candidate; cnnport's own are about usage and go through."""

    def cannot_run(candidate):
        raise RuntimeError("no kernel\nfor it")

    after, (report,) = optimize(network(), FOLD, verify=cannot_run)
    assert count_ops(after)["BatchNormalization"] == 2
    assert report.refused == "the result could not be run: RuntimeError: no kernel"

    def misused(candidate):
        raise FeedError("wrong input")

    with pytest.raises(FeedError):
        optimize(network(), FOLD, verify=misused)


def test_a_fault_that_the_file_came_with():
    """A model that is inconsistent from the start is optimised all the same; the pass is not to blame."""
    model = network()
    model.graph.value_info.append(helper.make_tensor_value_info("f", TensorProto.FLOAT, ["batch", 9]))
    with pytest.raises(onnx.shape_inference.InferenceError):
        onnx.checker.check_model(model, full_check=True)
    after, (report,) = optimize(model, FOLD)
    assert (report.rewrites, report.refused) == (2, None)
    assert "BatchNormalization" not in count_ops(after)


def test_what_onnx_ir_would_lose():
    """Models with parts that onnx-ir does not carry come back as they are, and the reports say why."""
    sparse, training = network(), network()
    values = helper.make_tensor("s", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    sparse.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))
    training.training_info.add()
    for model, reason in ((sparse, "sparse"), (training, "training")):
        after, (report,) = optimize(model, FOLD)
        assert after is model
        assert report.rewrites == 0
        assert reason in report.refused


def test_external_data_that_is_not_there():
    """Weights that were not loaded cannot be folded: refused in a sentence, and the model is as it was."""
    model = network()
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "kernel")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="nowhere.data")
    after, (report,) = optimize(model, FOLD)
    assert after is model
    assert "nowhere.data" in report.refused


def test_weights_stay_out_of_the_checks(monkeypatch):
    """The graph is checked without its weights, or models near 2 GB could not be checked at all."""
    sizes = []
    for module, name in ((onnx.checker, "check_model"), (onnx.shape_inference, "infer_shapes")):
        original = getattr(module, name)

        def measured(model, *args, original=original, **kwargs):
            sizes.append(model.ByteSize())
            return original(model, *args, **kwargs)

        monkeypatch.setattr(module, name, measured)
    model = network()
    model.graph.initializer.append(numpy_helper.from_array(np.ones((8, 5 * 2**18), np.float32), "large"))
    model.graph.node.append(helper.make_node("Gemm", ["n", "large"], ["wide"]))
    after, (report,) = optimize(model, FOLD)
    assert report.rewrites == 2
    assert {tensor.dims[1] for tensor in after.graph.initializer if "large" in tensor.name} == {5 * 2**18}
    assert len(sizes) >= 2
    assert max(sizes) < 20_000


def test_custom_operators_and_subgraphs_stay():
    """Nodes that no pass knows are what they were, attributes, names and subgraphs included."""
    model = network()
    branch = {
        name: helper.make_graph(
            [helper.make_node(op, ["p"], ["t"], name=op)],
            name,
            [],
            [helper.make_tensor_value_info("t", TensorProto.FLOAT, None)],
        )
        for name, op in (("then_branch", "Neg"), ("else_branch", "Abs"))
    }
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.append(helper.make_node("If", ["yes"], ["chosen"], name="choice", **branch))
    model.graph.node.append(
        helper.make_node(
            "Roll", ["p", "", "f"], ["rolled"], name="roll", domain="acme", shifts=[1, 2], mode="wrap"
        )
    )
    before = list(model.graph.node[-2:])
    after, (report,) = optimize(model, FOLD)
    assert report.rewrites == 2
    assert list(after.graph.node[-2:]) == before


def test_count_ops():
    """Sorted by name, subgraphs included, other domains by name; of a proto and of the IR alike."""
    body = helper.make_graph(
        [helper.make_node("Neg", ["p"], ["t"])], "b", [], [helper.make_empty_tensor_value_info("t")]
    )
    model = network()
    model.graph.node.append(helper.make_node("If", ["p"], ["q"], then_branch=body, else_branch=body))
    expected = [
        "BatchNormalization",
        "Conv",
        "Flatten",
        "Gemm",
        "GlobalAveragePool",
        "If",
        "Neg",
        "Relu",
        "local.twice",
    ]
    counts = count_ops(model)
    assert list(counts) == expected
    assert (counts["BatchNormalization"], counts["Neg"], counts["local.twice"]) == (2, 2, 1)
    assert count_ops(ir.from_proto(model)) == counts


def test_passes_with_nothing_to_do_are_not_asked_again():
    """One that found nothing runs again only after another has changed the graph, and then is not reported again."""
    calls = []

    def named(name, changes):
        def each(model):
            calls.append(name)
            return int(calls.count(name) <= changes)

        each.__name__ = name
        return each

    _, reports = optimize(network(), [named("a", 0), named("b", 2), named("c", 0)])
    # b changes the graph, c sees that; then a and b again, c after b's second change; at last a and b are sure.
    assert calls == ["a", "b", "c", "a", "b", "c", "a", "b"]
    assert [(report.name, report.rewrites) for report in reports] == [("a", 0), ("b", 1), ("c", 0), ("b", 1)]


def test_what_is_left_is_told_of_the_last_run():
    """A candidate that was left at first and rewritten later is not among those that stay."""

    def reluctant(model):
        found = [node for node in model.graph if node.op_type == "Relu"]
        for node in found:
            refused(node, "it may be of use")
        return 0

    def renaming(model):
        found = [node for node in model.graph if node.op_type == "Relu"]
        for node in found:
            node.op_type = "Elu"
        return len(found)

    _, reports = optimize(network(), [reluctant])
    assert [(left.candidate, left.reason) for left in reports[0].left] == [("Relu r", "it may be of use")]
    _, reports = optimize(network(), [reluctant, renaming])
    assert [report.left for report in reports] == [(), ()]


def test_costs_are_those_before_and_after():
    """Asked for once for the model, and once for each result."""
    asked = []

    def cost(model):
        asked.append(count_ops(model))
        return GraphCost(len(asked), 0)

    _, (first, second) = optimize(network(), [lambda model: 0, fold_batchnorm], cost=cost)
    assert (first.cost_before, first.cost_after) == (GraphCost(1, 0), GraphCost(1, 0))
    assert (second.cost_before, second.cost_after) == (GraphCost(1, 0), GraphCost(2, 0))
    assert asked == [second.ops_before, second.ops_after]
    assert optimize(network(), FOLD)[1][0].cost_after is None


def test_a_default_that_a_caller_may_override_is_part_of_the_interface():
    """A pass that changes it, or takes it away, is undone."""
    model = network()
    model.graph.input.append(helper.make_tensor_value_info("kernel", TensorProto.FLOAT, [8, 3, 3, 3]))

    def forgetting(candidate):
        del candidate.graph.initializers["kernel"]
        return 1

    for fault in (permuted_channel, forgetting):
        _, (report,) = optimize(model, [fault])
        assert "interface" in report.refused
        assert report.fault == "inconsistent"


def test_faults_have_kinds():
    """A report says how a pass failed, and whoever asks is given the pass and the model that it failed on."""
    verify, _ = verify_against(network())
    told = []
    passes = [raising, dangling, wrong_epsilon]
    _, reports = optimize(
        network(), passes, verify=verify, on_refused=lambda *arguments: told.append(arguments)
    )
    assert [report.fault for report in reports] == ["raised", "inconsistent", "mismatch"]
    assert [(report, each) for report, each, _ in told] == list(zip(reports, passes, strict=True))
    assert all(count_ops(before) == count_ops(network()) for _, _, before in told)


def test_weights_in_a_folder_stay_there(tmp_path):
    """What no pass touches is referred to, in candidates and result, and what passes write is in the model."""
    want, _ = optimize(network(), FOLD)
    model = network()
    model.graph.initializer.append(numpy_helper.from_array(np.ones((8, 512), np.float32), "large"))
    model.graph.node.append(helper.make_node("Gemm", ["f", "large"], ["wide"]))
    set_aside(model, tmp_path, "weights.data")
    seen = []
    after, (report,) = optimize(model, FOLD, folder=tmp_path, verify=seen.append)
    assert report.rewrites == 2
    for candidate in (*seen, after):
        places = {tensor.name: tensor.data_location for tensor in candidate.graph.initializer}
        assert [name for name, place in places.items() if place == TensorProto.EXTERNAL] == ["large"]
    bring_back(after, tmp_path)
    same = {tensor.name: tensor for tensor in after.graph.initializer}
    assert same.keys() == {"large", *(tensor.name for tensor in want.graph.initializer)}
    for tensor in want.graph.initializer:
        np.testing.assert_array_equal(numpy_helper.to_array(same[tensor.name]), numpy_helper.to_array(tensor))


def test_types_of_initializers_are_not_written_twice():
    """onnx-ir states them beside the tensors; a note that the file holds on one stays."""
    model = network()
    noted = helper.make_tensor_value_info("matrix", TensorProto.FLOAT, [8, 5])
    noted.doc_string = "the head"
    model.graph.value_info.append(noted)
    after, _ = optimize(model, FOLD)
    held = {tensor.name for tensor in after.graph.initializer}
    assert not [value.name for value in after.graph.value_info if value.name in held and not value.doc_string]


def test_sums_of_columns_and_rows_of_integers():
    """onnx's inference of values takes them for vectors of unequal length; nothing is wrong with them."""
    model = onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["" : 19]>
        g (float[4, 6] x) => (float[4, 6] y) {
            zero = Constant <value = int64 {0}> ()
            one = Constant <value = int64 {1}> ()
            axis0 = Constant <value = int64[1] {0}> ()
            axis1 = Constant <value = int64[1] {1}> ()
            shape = Shape (x)
            h = Gather (shape, zero)
            w = Gather (shape, one)
            rows = Range (zero, h, one)
            columns = Range (zero, w, one)
            r = Unsqueeze (rows, axis1)
            c = Unsqueeze (columns, axis0)
            d = Sub (r, c)
            f = Cast <to = 1> (d)
            e = Add (f, x)
            y = Relu (e)
        }"""
    )
    after, reports = optimize(model)
    assert [report.refused for report in reports if report.refused] == []
    assert "Shape" not in count_ops(after)


SHUFFLED_AND_ADDED = """
<ir_version: 9, opset_import: ["" : 19]>
g (float[N, 12, 5, 5] x) => (float[N, 12, 5, 5] y)
<int64[5] apart = {-1, 3, 4, 5, 5}, int64[4] together = {-1, 12, 5, 5}>
{
    s = Constant <value = int64[4] {12, 4, 1, 1}> ()
    w = ConstantOfShape <value = float[1] {0.5}> (s)
    a = Conv <group = 3> (x, w)
    b = Relu (a)
    c = Reshape (b, apart)
    d = Transpose <perm = [0, 2, 1, 3, 4]> (c)
    e = Reshape (d, together)
    f = Conv <group = 3> (e, w)
    h = Add (f, x)
    y = Relu (h)
}
"""


def test_names_of_sizes_that_inference_makes_up_are_not_written():
    """They hold for one inference, and ONNX Runtime leaves an Add of N and unk__3 images on its own."""
    before = onnx.parser.parse_model(SHUFFLED_AND_ADDED)
    after, _ = optimize(before)
    assert count_ops(after)["Gather"] == 1
    assert "Reshape" not in count_ops(after)
    assert "unk__" not in str(after.graph.value_info)
    # One that the file states, after an inference of somebody else's, goes as well.
    stated = onnx.shape_inference.infer_shapes(before)
    assert "unk__" in str(stated.graph.value_info)
    assert "unk__" not in str(optimize(stated)[0].graph.value_info)
    # Names of the file's own stay.
    shape = [dim.dim_param or dim.dim_value for dim in after.graph.output[0].type.tensor_type.shape.dim]
    assert shape == ["N", 12, 5, 5]


def test_sizes_that_the_file_leaves_open_are_filled_in():
    """A pass finds what follows from the graph; names of sizes stay, and what the file has not is not written."""
    model = network()
    model.graph.value_info.append(
        helper.make_tensor_value_info("r", TensorProto.FLOAT, ["batch", None, None, 8])
    )
    found = {}

    def looking(candidate):
        found.update({value.name: value.shape for node in candidate.graph for value in node.outputs})
        return 0

    optimize(model, [looking])
    assert [str(size) for size in found["r"]][:2] == ["batch", "8"]
    assert list(found["p"])[1:] == [8, 1, 1]
    after, _ = optimize(model, FOLD)
    assert [value.name for value in after.graph.value_info] == ["r"]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (None, DEFAULT_PASSES),
        ("none", ()),
        ("fold_batchnorm", (fold_batchnorm,)),
        ("+fold_batchnorm", DEFAULT_PASSES),
        ("-fold_batchnorm", tuple(each for each in DEFAULT_PASSES if each is not fold_batchnorm)),
        (
            "+fold_batchnorm, -fold_batchnorm",
            tuple(each for each in DEFAULT_PASSES if each is not fold_batchnorm),
        ),
        (" fold_batchnorm,fold_batchnorm ", (fold_batchnorm,)),
    ],
)
def test_select_passes(spec, expected):
    """The ``--passes`` option: nothing, none, signed, and plain lists."""
    assert select_passes(spec) == expected


@pytest.mark.parametrize("spec", ["fold_batchnrom", "+fold_batch_norm", "-fold-batchnorm"])
def test_select_passes_suggests(spec):
    """A mistyped name comes with the nearest one."""
    with pytest.raises(UnknownNameError, match=r"did you mean fold_batchnorm\?"):
        select_passes(spec)


@pytest.mark.parametrize(
    "spec", ["", "+", "fold_batchnorm,", "fold_batchnorm,-fold_batchnorm", "none,fold_batchnorm"]
)
def test_select_passes_refuses(spec):
    """Empty names, and names with and without a sign together, are wrong usage."""
    with pytest.raises(CnnportError):
        select_passes(spec)


def test_passes_describe_themselves():
    """A pass's name and help come from its function; the defaults are among all, in the same order."""
    assert [each for each in PASSES if each in DEFAULT_PASSES] == list(DEFAULT_PASSES)
    for each in PASSES:
        assert each.__name__.isidentifier()
        assert each.__doc__.splitlines()[0].endswith(".")
    assert len(set(PASSES)) == len(PASSES)
    for each in REGISTERED:
        assert each.targets <= set(TARGETS)
        assert each.why
        assert not each.why.endswith(".")


def test_targets_have_passes_of_their_own():
    """Without a choice the target's passes run; with signs the choice is made from those."""
    for target in TARGETS:
        chosen = select_passes(None, target)
        assert chosen == tuple(each.run for each in REGISTERED if target in each.targets)
        assert select_passes("-fold_batchnorm", target) == tuple(
            each for each in chosen if each is not fold_batchnorm
        )
        assert select_passes("none", target) == ()
    assert len({select_passes(None, target) for target in TARGETS}) > 1
    with pytest.raises(UnknownNameError, match=r"no target is called 'tensorrt'"):
        select_passes(None, "tensorrt")


def test_what_was_asked_for_by_name():
    """Those names run even where nothing can verify them; of a pass that is not in the table nothing is known."""
    assert named_in(None) == named_in("none") == named_in("-fold_batchnorm") == frozenset()
    assert named_in(" +fold_batchnorm") == named_in("fold_batchnorm") == {fold_batchnorm}
    assert needs_verifying(fold_batchnorm)
    assert needs_verifying(raising)
    assert not all(needs_verifying(each) for each in PASSES)
