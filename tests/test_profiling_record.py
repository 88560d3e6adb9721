"""What is left of a profile: records old and new, the roof, sentences, traces, differences, tables."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cnnport.measuring.fields import RecordError
from cnnport.measuring.profiling import (
    Profile,
    ProfiledLayer,
    chrome_trace,
    diff,
    json_text,
    read_profile,
    render,
    render_diff,
)
from cnnport.measuring.profiling.limits import limits, notes
from cnnport.measuring.profiling.roof import Roof
from cnnport.measuring.record import Environment
from cnnport.measuring.studies.profiles import summary, table

MACHINE = {"peak_flops": {"fp32": 100e9, "int8": 400e9}, "bandwidth_bytes_s": 10e9, "threads": 1}
ROOF = Roof.of(MACHINE)
assert ROOF is not None


def layer(
    name: str,
    ms: float,
    original: tuple[str, ...] = (),
    modules: tuple[str, ...] = (),
    operator: str = "Conv",
    flops: int | None = None,
    moved: int | None = None,
) -> ProfiledLayer:
    bound, of_peak = ROOF.judge(flops, moved, "fp32", ms)
    return ProfiledLayer(
        name, operator, ms, "fp32", original, original, modules, flops, moved, bound, of_peak
    )


def profile_of(*layers: ProfiledLayer, end_to_end_ms: float = 8.0, **changes: object) -> Profile:
    plain = Profile(
        environment=Environment(cpu_model="a CPU"),
        model="net",
        runtime="ort-cpu",
        precision="fp32",
        batch=1,
        threads=1,
        end_to_end_ms=end_to_end_ms,
        profiled_ms=9.0,
        layers=layers,
        settings={"a": "b"},
        file="net.onnx",
        command="cnnport profile net",
        machine=MACHINE,
        rounds=3,
        turns_ms=(8.0, 8.1),
    )
    return replace(plain, **changes)


@pytest.fixture
def profile() -> Profile:
    return profile_of(
        # 0.8 of the peak, 0.5 of the bandwidth, a hundredth of either, and a change of layout.
        layer("one", 4.0, ("s.0/Conv", "s.0/Relu"), ("s.0",), flops=320_000_000, moved=100_000),
        layer("two", 2.0, ("s.1/Concat",), ("s.1",), "Concat", 0, 10_000_000),
        layer("three", 1.0, ("t/Gemm",), ("t",), "Gemm", 1_000, 100_000),
        layer("ReorderOutput behind one", 0.5, (), ("s.0",), "ReorderOutput", 0, 4_000_000),
    )


def test_what_is_written_is_read_again(profile: Profile, tmp_path: Path) -> None:
    found = replace(profile, limits=limits(profile), notes=("a note",))
    path = tmp_path / "a.json"
    path.write_text(json_text(found))
    assert read_profile(path) == found
    document = json.loads(json_text(found))
    assert document == json.loads(json.dumps(found.to_json()))
    assert document["cnnport_profile"] == 1
    assert sum(row["share"] for row in document["layers"]) == pytest.approx(1)
    assert document["layers_ms"] == 7.5
    row = document["layers"][0]
    assert (row["intensity"], row["flops_s"], row["bytes_s"]) == (3200.0, 80e9, 25e6)


def test_old_records_and_those_of_later_fields_are_read(profile: Profile) -> None:
    document = profile.to_json()
    for name in ("noting_ms", "turns_ms", "notes", "limits", "rounds", "settings", "machine", "command"):
        del document[name]
    document["layers"] = [{"name": "one", "ms": 4.0, "later": True}]
    found = Profile.from_json(document)
    assert (found.noting_ms, found.turns_ms, found.machine, found.rounds) == (0.0, (), None, 0)
    assert found.layers == (ProfiledLayer("one", "", 4.0),)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cnnport_profile": 2}, "of version 2"),
        ({"end_to_end_ms": -1}, "'end_to_end_ms' holds -1"),
        ({"layers": [{"name": "x", "ms": None}]}, "'ms' holds None"),
        ({"layers": [{"name": "x", "ms": 1.0, "bound": "luck"}]}, "'bound' holds 'luck'"),
        ({"layers": [{"name": "x", "ms": 1.0, "nodes": [1]}]}, "'nodes' holds something that is no text"),
        ({"batch": "1"}, "'batch' holds '1'"),
    ],
)
def test_damaged_records_are_refused(profile: Profile, change: dict, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(profile.to_json() | change))
    with pytest.raises(RecordError, match=f"bad.json is not a cnnport profile: .*{message}"):
        read_profile(path)
    path.write_text(path.read_text()[:-20])
    with pytest.raises(RecordError, match="is not JSON, or is damaged"):
        read_profile(path)


def test_layers_are_held_against_the_roof(profile: Profile) -> None:
    assert [(each.bound, each.of_peak) for each in profile.layers] == [
        ("compute", pytest.approx(0.8)),
        ("memory", pytest.approx(0.5)),
        ("overhead", pytest.approx(0.01)),
        ("memory", pytest.approx(0.8)),
    ]
    # In 8 bits the peak is another, and one that was not measured is that of float32.
    assert ROOF.judge(320_000_000, 0, "int8", 4.0) == ("compute", pytest.approx(0.2))
    assert ROOF.judge(320_000_000, 0, "bf16", 4.0) == ("compute", pytest.approx(0.8))
    # What is not known, and what is too short for the clock, is not judged.
    assert ROOF.judge(None, None, "fp32", 4.0) == ROOF.judge(100, 100, "fp32", 0.0005) == (None, None)
    assert Roof.of(None) is Roof.of({"peak_flops": {}, "bandwidth_bytes_s": 1.0}) is None


def test_what_limits_a_model_is_said_in_words(profile: Profile) -> None:
    assert limits(profile) == (
        "50% of the time goes to 1 layer bound by arithmetic, at 80% of the measured peak",
        "31% of the time goes to 2 layers bound by memory, at 56% of the measured bandwidth",
        "12% goes to 1 layer of which neither arithmetic nor memory explains a tenth of the time: "
        "too small, or its kernel is slow",
        "6% goes to 1 conversion of layout or type that the runtime put in",
        "6% is between the layers: starting and ending the run, and each of its kernels",
        "the 3 costliest layers are s.0 (Conv) 4 ms, s.1 (Concat) 2 ms, t (Gemm) 1 ms: 88% of the time",
    )
    assert notes(profile) == ()


def test_figures_that_do_not_agree_are_told(profile: Profile) -> None:
    (told,) = notes(replace(profile, end_to_end_ms=10.0, turns_ms=()))
    assert told.startswith("the layers add up to 7.5 ms, a run without the profiler takes 10 ms (-25%)")
    (busy,) = notes(replace(profile, turns_ms=(5.0, 8.0)))
    assert busy.startswith("the machine was not quiet")
    (noted,) = notes(replace(profile, noting_ms=0.002))
    assert "costs 2 µs" in noted
    assert "0.008 ms in all" in noted
    assert (
        "too coarse"
        not in limits(replace(profile, machine=None, layers=(ProfiledLayer("a", "Conv", 1.0),)))[-1]
    )
    unknown = replace(profile, layers=(ProfiledLayer("a", "Conv", 8.0),))
    assert limits(unknown)[-1].startswith("what bounds the layers is not known")
    assert limits(replace(profile, layers=())) == ()


def test_a_trace_shows_layers_in_order_and_modules_nested(profile: Profile) -> None:
    document = json.loads(json.dumps(chrome_trace(profile)))
    events = [event for event in document["traceEvents"] if event["ph"] == "X"]
    assert all({"name", "ts", "dur", "pid", "tid", "args"} <= event.keys() for event in events)
    layers = [event for event in events if event["tid"] == 1]
    assert [(event["ts"], event["dur"]) for event in layers] == [
        (0.0, 4000.0),
        (4000.0, 2000.0),
        (6000.0, 1000.0),
        (7000.0, 500.0),
        (7500.0, 500.0),
    ]
    assert layers[-1]["name"] == "between the layers"
    assert layers[0]["args"]["original"] == ["s.0/Conv", "s.0/Relu"]
    modules = {(event["name"], event["ts"], event["dur"]) for event in events if event["tid"] == 2}
    assert modules == {
        ("s", 0.0, 6000.0),
        ("s.0", 0.0, 4000.0),
        ("s.1", 4000.0, 2000.0),
        ("t", 6000.0, 1000.0),
        ("s", 7000.0, 500.0),
        ("s.0", 7000.0, 500.0),
    }


def test_layers_are_matched_by_what_they_were_and_sums_agree(profile: Profile) -> None:
    after = profile_of(
        # Taken apart, and not fused.
        layer("part 1", 1.0, ("s.0/Conv",), ("s.0",)),
        layer("part 2", 1.5, ("s.0/Conv",), ("s.0",)),
        layer("act", 0.5, ("s.0/Relu",), ("s.0",), "Relu"),
        layer("head", 1.0, ("t/Gemm",), ("t",), "FullyConnected"),
        layer("Reorder x", 0.75, (), ("s.0",), "Reorder"),
        layer("new", 0.25, ("u/Sin",), ("u",), "Sin"),
        end_to_end_ms=5.0,
        model="other",
    )
    found = diff(profile, after)
    assert [(row.name, row.before_ms, row.after_ms, row.difference_ms) for row in found.rows] == [
        ("s.1", 2.0, 0.0, -2.0),
        ("s.0", 4.0, 3.0, -1.0),
        ("s.0", 0.5, 0.75, 0.25),
        ("u", 0.0, 0.25, 0.25),
        ("t", 1.0, 1.0, 0.0),
    ]
    document = json.loads(json.dumps(found.to_json()))
    assert document["difference_ms"] == pytest.approx(sum(row["difference_ms"] for row in document["rows"]))
    assert (document["only_before_ms"], document["only_after_ms"]) == (2.0, 0.25)
    assert document["rows"][0]["after_ms"] is None
    assert sum(row.before_ms for row in found.rows) == profile.layers_ms
    assert sum(row.after_ms for row in found.rows) == after.layers_ms
    assert found.notes == ("the model is another: net and other",)
    # Against itself nothing differs; a layer under another name is found out.
    assert all(row.difference_ms == 0 for row in diff(profile, profile).rows)
    renamed = replace(profile, layers=(replace(profile.layers[0], original=("v/Conv",)), *profile.layers[1:]))
    assert len(diff(profile, renamed).only_before) == len(diff(profile, renamed).only_after) == 1


def shown(renderable: object) -> str:
    from rich.console import Console

    console = Console(width=160)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def test_tables_add_up(profile: Profile) -> None:
    text = shown(render(replace(profile, limits=("a sentence",), notes=("mind this",)), top=2))
    rows = [line.split() for line in text.splitlines()]
    assert ["s.0", "Conv", "4.000", "50.0%", "80.0", "0.0", "3200.0", "compute", "80%"] in rows
    assert ["2", "more", "1.500", "18.8%"] in rows
    assert ["all", "layers", "7.500", "93.8%"] in rows
    assert ["between", "the", "layers", "0.500", "6.2%"] in rows
    assert "- a sentence" in text
    assert "- note: mind this" in text
    # All of them, in the order in which they run.
    assert shown(render(profile)).index("ReorderOutput") > shown(render(profile)).index("Gemm")
    text = shown(render_diff(diff(profile, profile_of(*profile.layers[1:])), top=1))
    rows = [line.split() for line in text.splitlines()]
    assert ["s.0", "Conv", "4.000", "-4.000", "before", "only"] in rows
    assert ["3", "more", "3.500", "3.500", "+0.000"] in rows
    assert ["all", "layers", "7.500", "3.500", "-4.000"] in rows


def test_the_study_keeps_what_the_acceptance_asks(profile: Profile) -> None:
    kept = summary(replace(profile, layers=(*profile.layers, layer("odd", 0.25))))
    assert (kept["end_to_end_ms"], kept["layers_ms"], kept["ratio"]) == (8.0, 7.75, 0.9688)
    assert kept["without_module"] == ["odd"]
    row = {"name": "net", "problem": "no openvino here", "profiles": {"ort-cpu": kept}}
    assert table([row]).splitlines()[1].split() == [
        "net",
        "8.000",
        "7.750",
        "0.969!",
        *["no", "openvino", "here"],
    ]
    far = {
        "name": "far",
        "problem": None,
        "profiles": {"openvino": summary(replace(profile, end_to_end_ms=9.0))},
    }
    assert table([far]).splitlines()[1].split() == ["far", "9.000", "7.500", "0.833*"]
