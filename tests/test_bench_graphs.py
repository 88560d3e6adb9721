"""The benchmark of graphs: what counts as the same graph, pairs, rows, going on, and tools that fail."""

import json
import re
import sys
from pathlib import Path
from statistics import median

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from cnnport.errors import CheckFailedError, CnnportError
from cnnport.exporting import export
from cnnport.measuring import paired
from cnnport.measuring.paired import measure_in_turn, ratio
from cnnport.measuring.studies import graph_tools, graphs, graphs_compare, graphs_record
from cnnport.measuring.studies.graph_digest import graph_digest
from cnnport.onnxfile import load_model, read_artifact
from cnnport.prepared import torch_graph
from cnnport.process import Conversation, Failure

pytest.importorskip("onnxruntime")

TWO_BRANCHES = """
<ir_version: 10, opset_import: ["" : 20]>
g (float[batch,2,4,4] x) => (float[batch,2,4,4] y)
<float[2,2,1,1] w = {1.0, 2.0, 3.0, 4.0}>
{
  a = Conv(x, w)
  b = Relu(x)
  y = Sub(a, b)
}
"""


REORDERED = TWO_BRANCHES.replace("a = Conv(x, w)\n  b = Relu(x)", "b = Relu(x)\n  a = Conv(x, w)")


def parsed(text: str = TWO_BRANCHES) -> onnx.ModelProto:
    return onnx.parser.parse_model(text)


@pytest.fixture
def saved(tmp_path: Path):
    def save(name: str, model: onnx.ModelProto | None = None) -> Path:
        path = tmp_path / f"{name}.onnx"
        onnx.save(model or parsed(), path)
        return path

    return save


def changed(old: str, new: str) -> onnx.ModelProto:
    assert old in TWO_BRANCHES
    return parsed(TWO_BRANCHES.replace(old, new))


# What counts as the same graph.


def test_names_notes_and_storage_do_not_count() -> None:
    plain = graph_digest(parsed())
    other = changed("a = Conv(x, w)", "other = Conv(x, w)")
    other.graph.node[2].input[0] = "other"
    other.graph.node[0].name = "first"
    other.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    other.metadata_props.add(key="made", value="today")
    other.graph.value_info.append(onnx.helper.make_tensor_value_info("other", 1, ["n", 2, 4, 4]))
    weight = numpy_helper.to_array(other.graph.initializer[0])
    other.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "w"))
    other.graph.initializer.append(numpy_helper.from_array(weight, "unread"))
    assert graph_digest(other) == plain


def test_the_order_counts_where_it_is_asked_for() -> None:
    first, other = parsed(), parsed(REORDERED)
    assert graph_digest(first) != graph_digest(other)
    assert graph_digest(first, ordered=False) == graph_digest(other, ordered=False)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("4.0}", "5.0}"),
        ("Relu(x)", "Sigmoid(x)"),
        ("Sub(a, b)", "Sub(b, a)"),
        ("Conv(x, w)", "Conv <strides = [1, 1]> (x, w)"),
        ('"" : 20', '"" : 21'),
        ("float[batch,2,4,4] x", "float[1,2,4,4] x"),
    ],
)
def test_what_is_computed_counts(old: str, new: str) -> None:
    assert graph_digest(parsed(), ordered=False) != graph_digest(changed(old, new), ordered=False)


def test_two_operators_alike_are_two() -> None:
    twice = "a = Relu(x)\n  b = Relu(x)\n  y = Sub(a, {})"
    one, two = (changed("a = Conv(x, w)\n  b = Relu(x)\n  y = Sub(a, b)", twice.format(n)) for n in "ab")
    assert graph_digest(one, ordered=False) != graph_digest(two, ordered=False)


def test_what_a_subgraph_computes_counts() -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 20]>
    g (bool c, float[2] x) => (float[2] y)
    {
      y = If (c) <then_branch = t () => (float[2] p) { p = Relu(x) },
                  else_branch = e () => (float[2] q) { q = OP(x) }>
    }
    """
    digests = {graph_digest(parsed(text.replace("OP", op))) for op in ("Relu", "Neg")}
    assert len(digests) == 2
    assert graph_digest(parsed(text.replace("OP", "Neg").replace("q", "z"))) in digests


# Pairs.


def test_a_ratio_is_of_rounds_and_has_quartiles() -> None:
    found = ratio((4.0, 1.0, 3.0), (2.0, 1.0, 3.0))
    assert (found.low, found.median, found.high) == (1.0, 1.0, 1.5)


def test_rounds_and_turns_go_there_and_back(saved, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    class Noted(paired.Conversation):
        def ask(self, question):
            self.name = question["artifact"]["model"].upper() if "artifact" in question else self.name.lower()
            order.append(self.name)
            return super().ask(question)

    monkeypatch.setattr(paired, "Conversation", Noted)
    monkeypatch.setattr(paired, "TURNS", 2)
    told: list[tuple[int, int]] = []
    artifacts = [read_artifact(saved(name)) for name in "ab"]
    options = {"batch": 2, "threads": 1, "rounds": 2, "duration_s": 0.0, "warmup_s": 0.0}
    first, second = measure_in_turn(artifacts, **options, tell=lambda _, *place: told.append(place))
    assert "".join(order) == "ABabba" + "BAbaab"
    assert told == [(0, 4), (1, 4), (2, 4), (3, 4)]
    assert len(first) == len(second) == 4
    assert min(first + second) > 0
    artifacts[1].path.unlink()
    with pytest.raises(CnnportError, match=r"b\.onnx: cannot read"):
        measure_in_turn(artifacts, **options)


def test_a_slower_file_is_seen_in_every_turn(saved) -> None:
    """Planted: the same network with a hundred convolutions in front."""
    chain = " ".join(f"c{number + 1} = Conv(c{number}, w)" for number in range(100))
    longer = changed("a = Conv(x, w)", f"c0 = Conv(x, w) {chain} a = Conv(c100, w)")
    fast, slow = read_artifact(saved("fast")), read_artifact(saved("slow", longer))
    first, second = measure_in_turn([fast, slow], batch=1, threads=1, rounds=1, duration_s=0.02, warmup_s=0.0)
    assert ratio(first, second).high < 0.9


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import sys; sys.stdin.readline(); print('{}', flush=True); sys.exit('gone')", "status 1.*gone"),
        (
            "import sys, time; sys.stdin.readline(); print('{}', flush=True); time.sleep(60)",
            "no answer within",
        ),
        (
            "import os, sys; sys.stdin.readline(); print('{}', flush=True); os.kill(os.getpid(), 11)",
            "SIGSEGV",
        ),
    ],
)
def test_conversations_that_break_off(program: str, reason: str) -> None:
    command = (sys.executable, "-c", program)
    with Conversation(command, threads=1, timeout_s=1.0 if "sleep" in program else 30.0) as conversation:
        assert conversation.ask({}) == {}
        failure = conversation.ask({})
    assert isinstance(failure, Failure)
    assert re.search(reason, failure.reason)


# Files against the first.


def test_compare(saved, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs_compare, "perform", in_process)
    same = parsed()
    same.producer_name = "another"
    paths = [saved("first"), saved("same", same), saved("wrong", changed("4.0}", "4.1}"))]
    arguments = ["--batch", "1", "--threads", "1", "--rounds", "1", "--duration", "0"]
    assert graphs.main(["--compare", *map(str, paths), *arguments]) == 1
    out, err = capsys.readouterr()
    first, same_row, wrong = json.loads(out)["files"]
    assert (first["agrees"], same_row["agrees"], wrong["agrees"]) == (True, True, False)
    assert same_row["turns_p50_ms"] == first["turns_p50_ms"]
    ratios = [base / other for base, other in zip(first["turns_p50_ms"], wrong["turns_p50_ms"], strict=True)]
    assert wrong["faster"]["median"] == pytest.approx(median(ratios), rel=1e-3)
    assert "the same graph" in err
    assert "DIFFERS" in err
    assert graphs.main(["--compare", str(paths[0]), "--rounds", "0"]) == 2


# The benchmark itself.


def in_process(task: str, **arguments):
    try:
        return graph_tools.TASKS[task](**arguments)
    except CnnportError:
        raise
    except Exception as error:
        raise CnnportError(str(error)) from error


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The command over networks that are all the same small graph, with latencies by the name of the file."""
    seconds = {"raw": 4.0, "onnxslim": 3.0, "cnnport": 2.0}
    made: list[str] = []

    def torch_onnx(network: str, target: str):
        made.append(f"{network} raw")
        onnx.save(parsed(), target)
        return {"seconds": 1.0}

    def exported(arguments, *, threads):
        made.append(" ".join([arguments[2], *arguments[arguments.index("--json") + 1 :]]))
        weights = changed("a = Conv(x, w)", "a = Conv <pads = [0, 0, 0, 0]> (x, w)")
        onnx.save(weights, arguments[arguments.index("-o") + 1])
        return json.dumps({"steps": [{"seconds": 5.0}, {"seconds": 0.5}, {"seconds": 0.25}]})

    def measured(artifacts, *, batch, threads, rounds, duration_s):
        return tuple((seconds[each.path.name.split(".")[1]] / threads,) * rounds for each in artifacts)

    def reorder(source: str, target: str):
        onnx.save(parsed(REORDERED), target)
        return {"seconds": 0.0}

    monkeypatch.setitem(graph_tools.TASKS, "torch_onnx", torch_onnx)
    monkeypatch.setitem(graph_tools.TASKS, "onnxslim", reorder)
    monkeypatch.setattr(graphs_record, "perform", in_process)
    monkeypatch.setattr(graphs_record, "cnnport_command", exported)
    monkeypatch.setattr(graphs_record, "measure_in_turn", measured)
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str) -> tuple[int, list, str]:
        made.clear()
        code = graphs.main([*arguments, "--rounds", "3"])
        record, page = Path("bench/results/graphs.json"), Path("docs/graphs.md")
        return code, json.loads(record.read_text())["networks"], page.read_text()

    command.made, command.seconds = made, seconds
    return command


def test_makes_measures_and_goes_on(run) -> None:
    code, (row,), page = run("lenet5", "--no-measure")
    assert code == 0
    assert row["measured"] is None
    assert "## Speed" not in page
    assert row["candidates"]["cnnport"]["seconds"] == 0.75
    assert row["candidates"]["raw"]["ops"] == {"Conv": 1, "Relu": 1, "Sub": 1}

    code, (row,), page = run("lenet5")
    assert (code, run.made) == (0, [])
    cases = row["measured"]["cases"]
    assert [(case["batch"], case["threads"]) for case in cases] == [(1, 1), (1, 2), (8, 1), (8, 2)]
    # onnxsim leaves the graph as it is, so that it has raw's figures; the ratios are of the fastest peer.
    assert cases[1]["p50_ms"]["onnxsim"] == cases[1]["p50_ms"]["raw"] == 2000.0
    assert cases[0]["over_raw"]["cnnport"]["median"] == 2.0
    assert cases[0]["best_peer"] == "onnxslim"
    assert cases[0]["over_best_peer"] == {"low": 1.5, "median": 1.5, "high": 1.5}
    assert "| raw = onnxsim ~ onnxslim |" in page
    assert "| 1.500 (1.500 to 1.500) onnxslim |" in page
    assert "| geometric mean, representatives |" in page
    assert "Under 0.98 times the best of the others:\n\nnone." in page
    assert run("lenet5")[1][0] == row

    # Other passes are other files of cnnport's, and nobody else's.
    _, (row,), page = run("lenet5", "--passes", "none")
    assert row["wanted"] == {"passes": "none", "target": None}
    assert "`cnnport export --passes none`" in page
    assert run.made == ["lenet5 --passes none"]
    run("lenet5", "--passes", "none", "--again")
    assert run.made == ["lenet5 --passes none"]


def test_what_is_slower_is_named_and_the_shuffle_nets_are_stated(run) -> None:
    run.seconds["cnnport"] = 4.2
    _, rows, page = run("shufflenet_v2_x1_0")
    assert [row["name"] for row in rows] == ["shufflenet_v2_x1_0"]
    assert "- shufflenet_v2_x1_0, batch 8, 2 threads: 0.714 (0.714 to 0.714) onnxslim" in page
    stated = page.partition("The shuffle nets over raw at 2 threads:")[2]
    assert stated.count("- shufflenet_v2_x1_0, batch") == 2
    assert "0.952" in stated


def test_a_graph_of_ours_that_a_peer_has_too_is_no_faster(run, monkeypatch: pytest.MonkeyPatch) -> None:
    exported = graphs_record.cnnport_command

    def like_slim(arguments, **options):
        steps = exported(arguments, **options)
        onnx.save(parsed(REORDERED), arguments[arguments.index("-o") + 1])
        return steps

    monkeypatch.setattr(graphs_record, "cnnport_command", like_slim)
    _, (row,), page = run("lenet5")
    assert "| lenet5 | = onnxslim | = onnxslim | = onnxslim | = onnxslim |" in page
    assert row["measured"]["cases"][0]["over_best_peer"]["median"] == 1.0
    assert "Under 0.98 times the best of the others:\n\nnone." in page
    # The order alone differs from the fastest peer's: measured, and marked.
    run.seconds["raw"] = 2.5
    _, _, page = run("lenet5", "--again")
    assert "| lenet5 | 0.833 (0.833 to 0.833) ~ raw |" in page


def test_tools_that_fail_are_rows(run, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(source: str, target: str):
        onnx.save(changed("4.0}", "9.0}"), target)
        return {"seconds": 0.0}

    def crashing(source: str, target: str):
        raise ValueError("fell over\nbadly")

    monkeypatch.setitem(graph_tools.TASKS, "onnxsim", wrong)
    monkeypatch.setitem(graph_tools.TASKS, "onnxslim", crashing)
    code, (row,), page = run("lenet5")
    assert code == 0
    assert set(row["measured"]["cases"][0]["p50_ms"]) == {"raw", "cnnport"}
    assert "- lenet5, onnxslim: fell over badly" in page
    assert "standard deviations from raw's" in row["candidates"]["onnxsim"]["problem"]
    assert "| 3 | failed | failed | 3 |" in page


def test_without_a_raw_file_nothing_is_measured(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(graph_tools.TASKS, "torch_onnx", lambda **_: 1 / 0)
    code, (row,), page = run("lenet5")
    assert code == 1
    assert row["measured"] is None
    assert "- lenet5, cnnport: there is no raw file to hold it against" in page


def test_a_measurement_that_fails_is_told_and_tried_again(run, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:

        def failing(*_, **__):
            raise CheckFailedError("lenet5.raw.onnx: killed")

        patched.setattr(graphs_record, "measure_in_turn", failing)
        code, (row,), page = run("lenet5")
        assert (code, row["measured"]) == (1, None)
        assert "- lenet5, measuring: lenet5.raw.onnx: killed" in page
    code, (row,), page = run("lenet5")
    assert (code, row["problem"]) == (0, None)
    assert "killed" not in page


def test_foreign_records_and_unknown_names(run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = tmp_path / "bench/results/graphs.json"
    record.parent.mkdir(parents=True)
    record.write_text("[1]")
    assert graphs.main(["lenet5"]) == 2
    assert "not a record of this command" in capsys.readouterr().err
    assert record.read_text() == "[1]"
    assert graphs.main(["nothing"]) == 2
    assert "no network of this benchmark matches nothing" in capsys.readouterr().err


def test_every_representative_is_in_the_zoo() -> None:
    names = graphs_record.chosen(["*"])
    assert set(graphs_record.REPRESENTATIVES) <= set(names)
    assert sum(name.startswith("shufflenet_") for name in names) == 18


# The tools themselves.


def test_a_process_tells_what_went_wrong(tmp_path: Path) -> None:
    with pytest.raises(CnnportError, match=r"absent\.onnx: no such file"):
        graph_tools.perform("onnxsim", source=str(tmp_path / "absent.onnx"), target="")


def test_float32_that_rounds_worse_than_the_tolerance_is_judged_in_float64(saved) -> None:
    # Of x, float32 loses what it cannot hold beside the large number; float64 keeps it.
    text = """
    <ir_version: 10, opset_import: ["" : 20]>
    g (float[batch,8] x) => (float[batch,8] y)
    <float large = {1.0e4}>
    { a = Add(x, large)  b = Sub(a, large)  y = Mul(b, b) }
    """
    plain = text[: text.index("<float large")] + "{ y = Mul(x, x) }"
    first, other = saved("first", parsed(text)), saved("other", parsed(plain))
    answer = graph_tools.inspect(str(first), str(other), [2])
    assert 1e-4 < answer["error_in_std"] < 1e-2
    assert answer["agrees"]
    wrong = saved(
        "wrong",
        parsed(
            text.replace("y = Mul(b, b)", "c = Mul(b, b)  y = Mul(c, k)").replace(
                "<float large = {1.0e4}>", "<float large = {1.0e4}, float k = {1.001}>"
            )
        ),
    )
    answer = graph_tools.inspect(str(first), str(wrong), [2])
    assert 1e-4 < answer["error_in_std"] < 1e-2
    assert not answer["agrees"]
    # So far apart, nobody could tell rounding from a mistake.
    rough = saved("rough", parsed(text.replace("1.0e4", "1.0e6")))
    assert not graph_tools.inspect(str(rough), str(other), [2])["agrees"]


@pytest.mark.parametrize("tool", ["onnxsim", "onnxslim"])
def test_peers(saved, tool: str) -> None:
    pytest.importorskip(tool)
    first = saved("first", changed("b = Relu(x)", "i = Identity(x)  b = Relu(i)"))
    other = first.with_name("other.onnx")
    assert graph_tools.TASKS[tool](str(first), str(other))["seconds"] > 0
    answer = graph_tools.inspect(str(first), str(other), [1, 2])
    assert answer["agrees"]
    assert answer["ops"] == {"Conv": 1, "Relu": 1, "Sub": 1}


def test_the_raw_graph_is_what_an_export_begins_with(tmp_path: Path) -> None:
    raw = torch_graph("lenet_300_100", weights="random")
    # Its own names and notes are the exporter's.
    assert any(node.metadata_props for node in raw.graph.node)
    export("lenet_300_100", tmp_path / "ours.onnx", weights="random", passes=())
    ours = load_model(tmp_path / "ours.onnx")
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in ours.graph.initializer}
    for tensor in raw.graph.initializer:
        if tensor.name.endswith("weight"):
            assert np.array_equal(numpy_helper.to_array(tensor), weights[tensor.name])
    assert graph_digest(raw) == graph_digest(ours)
