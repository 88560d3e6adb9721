"""From what runtimes note to kernels: traces whole and not, processes that agree and that do not."""

import json

import pytest

from cnnport.errors import CheckFailedError
from cnnport.measuring.profiling.kernels import Kernel, Timed, merged, middle_mean, precision_of, timed
from cnnport.measuring.profiling.ort_trace import Ran, ort_kernels

GRAPH = {
    "a": Ran((), ("blocked",)),
    "ReorderOutput_token_7": Ran(("a",), ("a:0",)),
    "b_token_1": Ran(("ReorderOutput_token_7",), ("b:0",)),
    "l": Ran(("b_token_1",), ("l:0",)),
}


def node(name: str, operator: str, ts: int, dur: int, reads: str = "float", index: int = 0) -> dict:
    facts = {"op_name": operator, "node_index": str(index), "input_type_shape": [{reads: [1, 8]}]}
    facts |= {"activation_size": "32", "parameter_size": "8", "output_size": "16"}
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur, "args": facts}


def trace() -> list[dict]:
    events = [{"cat": "Session", "name": "session_initialization", "ts": 0, "dur": 50, "args": {}}]
    for number, dur in enumerate((900, 30, 10, 20)):
        start = 100 + 1000 * number
        events += [
            node("a", "Conv", start + 1, dur),
            node("ReorderOutput_token_7", "ReorderOutput", start + 940, 4, index=3),
            node("b_token_1", "QLinearConv", start + 950, 7, reads="uint8", index=1),
            # In a loop.
            node("l", "Relu", start + 960, 2, index=2),
            node("l", "Relu", start + 970, 3, index=2),
            {"cat": "Session", "name": "model_run", "ts": start, "dur": 990, "args": {}},
        ]
    return events


def test_turns_are_counted_by_the_last_runs() -> None:
    found = ort_kernels(trace(), [range(1), range(1, 3)], GRAPH)
    assert [(each.kernel.name, each.kernel.operator, each.kernel.precision) for each in found] == [
        ("a", "Conv", "fp32"),
        ("ReorderOutput behind a", "ReorderOutput", "fp32"),
        ("b", "QLinearConv", "int8"),
        ("l", "Relu", "fp32"),
    ]
    # The trace has one run more than was counted, which binding may have made: it is the first.
    assert [each.turns_ms for each in found] == [(0.03, 0.015), (0.004,) * 2, (0.007,) * 2, (0.005,) * 2]
    assert [each.kernel.sources for each in found] == [(), (0,), (1,), (2,)]
    assert found[1].kernel.moved_bytes == 56
    assert found[0].kernel.ms == 0.0225


def test_a_trace_without_a_kernel_is_refused() -> None:
    events = [event for event in trace() if not event["name"].startswith("b_")]
    with pytest.raises(CheckFailedError, match="lacks 1 of its 4 kernels: b_token_1"):
        ort_kernels(events, [range(3)], GRAPH)
    # Whoever does not know what should be there cannot miss it.
    assert len(ort_kernels(events, [range(3)])) == 3


def test_a_trace_without_a_run_is_refused() -> None:
    with pytest.raises(CheckFailedError, match="has 4 runs of 5"):
        ort_kernels(trace(), [range(5)], GRAPH)


def renumbered(events: list[dict]) -> list[dict]:
    text = (
        json.dumps(events).replace("ReorderOutput_token_7", "ReorderOutput").replace("b_token_1", "b_token_9")
    )
    return json.loads(text)


def test_what_the_runtime_numbers_anew_in_every_process_is_the_same() -> None:
    graph = {
        "a": GRAPH["a"],
        "ReorderOutput": GRAPH["ReorderOutput_token_7"],
        "b_token_9": Ran(("ReorderOutput",), ("b:0",)),
        "l": Ran(("b_token_9",), ("l:0",)),
    }
    first = ort_kernels(trace(), [range(3)], GRAPH)
    other = ort_kernels(renumbered(trace()), [range(3)], graph)
    assert [each.name for each in merged([first, other])] == [
        "a",
        "ReorderOutput behind a",
        "b",
        "l",
    ]


def test_processes_that_ran_something_else_do_not_add_up() -> None:
    one, two = (timed(Kernel((name,), "Conv", 0.0), [1.0, 3.0]) for name in "ab")
    assert [each.ms for each in merged([[one, two], [two, one]])] == [2.0, 2.0]
    with pytest.raises(CheckFailedError, match="same kernels in every process: b differs"):
        merged([[one, two], [one]])


def test_a_kernel_crosses_the_border_between_processes() -> None:
    kernel = Kernel(("a", "b"), "Conv", 0.0, "fp32", "label", (1, 2), "layer1.0", ("v",), 64)
    sent = json.loads(json.dumps(timed(kernel, (1.0, 2.0)).to_json()))
    assert Timed.from_json(sent) == timed(kernel, (1.0, 2.0))


def test_the_middle_half_is_as_steady_as_the_median() -> None:
    assert middle_mean([1.0, 3.0, 4.0, 1000.0]) == 3.5
    assert middle_mean([2.0]) == 2.0


@pytest.mark.parametrize(
    ("element", "precision"),
    [("Float", "fp32"), ("u8", "int8"), ("Half", "fp16"), ("complex64", "complex64")],
)
def test_types_have_one_name(element: str, precision: str) -> None:
    assert precision_of(element) == precision


def test_a_node_without_a_name_goes_by_what_it_writes() -> None:
    graph = {
        **{name: ran for name, ran in GRAPH.items() if name != "l"},
        "l:0": Ran(("b_token_1",), ("l:0",), "Relu"),
    }
    events = json.loads(json.dumps(trace()).replace('"l_kernel_time"', '"Relu_17_kernel_time"'))
    assert [each.kernel.name for each in ort_kernels(events, [range(3)], graph)][-1] == "l:0"
    # One that has a name is missing under any other.
    with pytest.raises(CheckFailedError, match="lacks 1 of its 4 kernels: l"):
        ort_kernels(events, [range(3)], GRAPH)
