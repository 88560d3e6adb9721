"""``cnnport report``: one page of results of every kind, whole, harmless, and the same every time."""

import hashlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from cnnport.measuring.page import DocumentError, make_page
from cnnport.measuring.page.charts.spread import density
from cnnport.measuring.page.charts.trade import front
from cnnport.measuring.page.words import command, cut, number, own_command
from html_faults import Page

pytest.importorskip("vl_convert", reason="pip install 'cnnport[report]' brings what draws")

Run = Callable[..., tuple[int, str, str]]

DATA = Path(__file__).parent / "data" / "report"
FILES = sorted(DATA.glob("*.json"))
HOSTILE = (
    "<script>alert(1)</script>\"'><img src=https://example.com/x onerror=alert(2)>$(touch x); "
    "`id` \u202egnp\u0007"
)


def body(name: str) -> Any:
    return json.loads((DATA / f"{name}.json").read_text())


def save(folder: Path, name: str, value: Any) -> Path:
    path = folder / name
    path.write_text(json.dumps(value))
    return path


def small_model(path: Path, *, optimized: bool) -> Path:
    """Two convolutions, of which one is a batch norm more before; the second's pads differ."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, [2, 2, 1, 1], [1.0] * 4)
    scale = [helper.make_tensor(name, TensorProto.FLOAT, [2], [1.0, 1.0]) for name in ("s", "b", "m", "v")]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="first"),
        helper.make_node("BatchNormalization", ["a", "s", "b", "m", "v"], ["n"], name="norm"),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("Conv", ["r", "w"], ["y"], name="second", pads=[0, 0, 0, 0]),
    ]
    if optimized:
        nodes = [
            helper.make_node("Conv", ["x", "w"], ["n"], name="first"),
            helper.make_node("Clip", ["n"], ["r"], name="clip"),
            helper.make_node("Conv", ["r", "w"], ["y"], name="second", pads=[1, 1, 1, 1]),
        ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, None, None]) for name in "xy"]
    graph = helper.make_graph(nodes, "small", ends[:1], ends[1:], [weight, *scale])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), path)
    return path


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("graphs")
    pair = [small_model(folder / f"{name}.onnx", optimized=name == "after") for name in ("before", "after")]
    return make_page([*FILES, *pair])


def test_the_page_is_whole_and_asks_for_nothing(html: str) -> None:
    assert Page(html).faults == []
    assert "default-src 'none'" in html


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("</main>", "<script>1</script></main>", "<script>"),
        ("</main>", "<img alt='' src='https://example.com/a.png'></main>", "asks for"),
        ("</main>", "<p onclick='x()'></p></main>", "onclick"),
        ("</style>", "@import 'x.css';</style>", "style sheet"),
        ("</figcaption>", "", "closes nothing"),
        ('scope="row"', "", "no scope"),
        ("<h2", "<h4></h4><h2", "followed by <h4>"),
        ("<caption", "<tbody></tbody><caption", "no caption"),
        ('id="summary-title"', "", "nothing is called"),
        ('aria-labelledby="change', 'aria-labelledby="" id="change', "says what it shows"),
    ],
)
def test_a_planted_fault_is_found(html: str, old: str, new: str, fault: str) -> None:
    assert old in html
    assert any(fault in each for each in Page(html.replace(old, new)).faults)


def expected_marks() -> dict[str, int]:
    """How many marks the figures of a kind have together, from the records alone."""
    rows = body("bench")["results"]
    profile, quantized = body("profile"), body("quantize")
    timed = [layer for layer in profile["layers"] if layer["ms"]]
    evaluated = body("evaluate")["evaluations"]
    alike = [
        row
        for each in evaluated
        for row in rows
        if (row["model"], row["runtime"], row["precision"], row["batch"])
        == (each["model"], each["runtime"], each["precision"], 1)
    ]
    return {
        "Change since": len(body("bench")["comparisons"]),
        "Latency of": len(rows),
        "Throughput of": len(rows),
        "Accuracy and latency of": len(alike) + sum(p["latency_ms"] is not None for p in quantized["pareto"]),
        "Layers of": len(profile["layers"])
        + sum(layer["alone_sqnr_db"] is not None for layer in quantized["layers"]),
        "Tuning of": sum(each["latency_ms"] is not None for each in body("tune")["candidates"]),
        "Parity with": 4 * len(body("parity")["rows"]),
        "Time by operator": len({layer["operator"] for layer in timed}),
        "Roofline of": sum(bool(layer["flops"] and layer["bytes"]) for layer in timed),
        "Graph of": operators() + 4,
    }


def operators() -> int:
    steps, ops = body("export")["steps"], body("optimize")["ops"]
    return len({*steps[0]["ops"], *steps[-1]["ops"]}) + len({*ops["before"], *ops["after"]})


def drawn_marks(html: str, kind: str) -> dict[str, int]:
    page = Page(html)
    return {
        name: sum(count for of, title, count in page.marks if of == kind and title.startswith(name))
        for name in expected_marks()
    }


@pytest.mark.parametrize("kind", ["wide", "narrow"])
def test_every_drawing_has_a_mark_for_everything(html: str, kind: str) -> None:
    assert drawn_marks(html, kind) == expected_marks()
    assert len(Page(html).marks) == 2 * sum(of == kind for of, _, _ in Page(html).marks)


def test_a_mark_that_is_missing_is_found(tmp_path: Path) -> None:
    short = body("bench")
    short["results"].pop()
    found, wanted = drawn_marks(make_page([save(tmp_path, "bench.json", short)]), "wide"), expected_marks()
    assert found["Latency of"] == wanted["Latency of"] - 1
    # A series of one batch is none.
    assert found["Throughput of"] == wanted["Throughput of"] - 2


def test_headlines_and_doubts(html: str) -> None:
    page = Page(html)
    said = " ".join(text for texts in page.texts.values() for text in texts)
    failed = [row for row in body("parity")["rows"] if not row["pass"]]
    assert f"{len(body('parity')['rows']) - len(failed)}/{len(body('parity')['rows'])}" in said
    for row in failed:
        assert f"{row['candidate']} against {row['reference']}" in said
    for missed in body("bench")["skipped"]:
        assert missed["reason"] in said
    for sentence in body("profile")["limits"]:
        assert sentence[1:] in said
    for each in (
        "few samples",
        "weights of",
        "regression",
        "no GPU is here",
        "trt fp16 was not compared",
        "seeded noise",
    ):
        assert each in said


def test_every_figure_of_a_record_has_its_command(html: str) -> None:
    commands = [shlex.split(text) for text in Page(html).texts["code"] if text.startswith("cnnport ")]
    assert {words[1] for words in commands} == {
        "bench", "evaluate", "export", "optimize", "parity", "profile", "quantize", "report", "tune",
    }  # fmt: skip
    assert html.count("<summary>Reproduce") >= sum(of == "wide" for of, _, _ in Page(html).marks)


def test_two_graphs_are_told_apart_by_nodes(html: str) -> None:
    """Nodes without a name are known by their first output, and one that keeps its name may still be another."""
    cells = Page(html).texts
    for caption in ("Nodes that are gone (2)", "Nodes that are new (1)", "Nodes that are other ones (1)"):
        assert caption in cells["caption"]
    assert {"norm", "r", "clip", "second"} <= set(cells["th"])
    assert "attribute pads" in cells["td"]


def test_foreign_names_are_only_text(tmp_path: Path) -> None:
    """Records come from others: what they name can neither run in the page nor in a shell that it is pasted into."""
    bench, profile, quantized = body("bench"), body("profile"), body("quantize")
    for row in bench["results"]:
        row["model"] = row["settings"]["x"] = HOSTILE
    bench["method"] = None
    bench["environment"]["cpu_model"] = HOSTILE
    bench["skipped"][0]["reason"] = HOSTILE
    profile.update(model=HOSTILE, runtime=HOSTILE, command="rm -rf / ; cnnport", limits=[HOSTILE])
    for layer in profile["layers"]:
        layer.update(
            name=HOSTILE, operator=HOSTILE, nodes=[HOSTILE] * 2, modules=[HOSTILE], precision=HOSTILE
        )
    quantized.update(notes=[HOSTILE], path=HOSTILE)
    quantized["layers"][0]["node"] = HOSTILE
    parity = body("parity")
    for row in parity["rows"]:
        row["candidate"] = HOSTILE
    given = {
        "b": bench,
        "p": profile,
        "q": quantized,
        "a": parity,
        "o": body("optimize") | {"source": HOSTILE},
    }
    page = make_page(
        [save(tmp_path, f"{name}'<b>.json", value) for name, value in given.items()], title=HOSTILE
    )
    read = Page(page)
    assert read.faults == []
    assert not {"img", "b"} & set(read.texts)
    assert "\u202e" not in page
    shown = HOSTILE.replace("\u202e", "�").replace("\u0007", "�")
    assert sum(shown in text for text in read.texts["h1"]) == 1
    commands = [shlex.split(text) for text in read.texts["code"] if text.startswith("cnnport ")]
    assert any(shown in words for words in commands)
    assert not any("rm" in words for words in commands)


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    """In another process, where hashes of texts are others, too."""
    program = "import sys, hashlib; from pathlib import Path; from cnnport.measuring.page import make_page\n"
    program += "print(hashlib.sha256(make_page(list(map(Path, sys.argv[1:]))).encode()).hexdigest())"
    some = [path for path in FILES if path.stem in {"bench", "parity", "profile"}]
    asked = [sys.executable, "-c", program, *map(str, some)]
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    other = subprocess.run(asked, check=True, capture_output=True, text=True, env=environment).stdout.strip()
    assert other == hashlib.sha256(make_page(some).encode()).hexdigest()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("x.json", "{}", "is of no kind that is known"),
        ("x.json", "[]", "is of no kind that is known"),
        ("x.json", "3", "benchmark (cnnport bench -o)"),
        ("x.json", "{", "is not JSON, or is damaged"),
        ("x.json", '{"environment": {}, "results": NaN}', "NaN is not JSON"),
        ("x.json", "[" * 100_000, "is not JSON, or is damaged"),
        ("x.json", '{"environment": {}, "results": [{"model": 1}]}', "is not a cnnport benchmark"),
        ("x.json", '{"cnnport_profile": 1}', "is not a cnnport profile"),
        (
            "x.json",
            '{"pass": true, "rows": [{"reference": "a", "candidate": "b"}]}',
            "'pass' of an item of rows is not true or false",
        ),
        ("x.json", '{"model": "m", "runtime": "r", "top1": 98.5}', "'top1' is a share from 0 to 1, not 98.5"),
        ("x.json", '{"ops": {"before": {"Conv": -1}}, "bytes": {"before": 1, "after": 1}}', "is damaged"),
        ("x.onnx", "no model", "x.onnx has no other to be compared with"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path: Path, name: str, text: str, said: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(DocumentError) as caught:
        make_page([path])
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    for name in ("absent.json", ".", "binary.json", "absent.onnx"):
        with pytest.raises(DocumentError):
            make_page([tmp_path / name])
    for name in ("a.onnx", "b.onnx"):
        (tmp_path / name).write_bytes(b"none")
    with pytest.raises(DocumentError, match="is not an ONNX model"):
        make_page([tmp_path / "a.onnx", tmp_path / "b.onnx"])


def test_edges_of_the_numbers(tmp_path: Path) -> None:
    """One case, one sample, no time at all: a page nevertheless."""
    bench = body("bench")
    row = bench["results"][0] | {"samples_s": [0.0], "rounds": []}
    bench.update(results=[row], comparisons=[], skipped=[])
    page = Page(make_page([save(tmp_path, "bench.json", bench)]))
    assert page.faults == []
    assert [count for of, _, count in page.marks if of == "wide"] == [1]
    nothing = Page(make_page([save(tmp_path, "none.json", bench | {"results": []})]))
    assert nothing.faults == []
    assert nothing.marks == []


def test_cases_that_nothing_tells_apart_are_numbered(tmp_path: Path) -> None:
    one = body("bench")
    one.update(results=one["results"][:1], comparisons=[])
    two = one | {"results": [one["results"][0] | {"samples_s": [0.5] * 32}]}
    page = Page(make_page([save(tmp_path, "one.json", one), save(tmp_path, "two.json", two)]))
    names = set(page.texts["th"])
    assert {"ort-cpu (1)", "ort-cpu (2)"} <= names
    assert page.faults == []


def test_the_command(cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ("report", *FILES[-2:], "-o", "page.html")
    code, out, error = cli(*asked)
    assert (code, error) == (0, "")
    assert out.startswith("written   page.html")
    assert Page((tmp_path / "page.html").read_text()).faults == []
    code, _, error = cli(*asked)
    assert code == 2
    assert "--overwrite" in error
    assert cli(*asked, "--overwrite", "--title", "A title")[0] == 0
    assert "<h1>A title</h1>" in (tmp_path / "page.html").read_text()
    code, _, error = cli("report", *FILES[-2:], "-o", "page.pdf")
    assert (code, error.strip()) == (2, "error: -o page.pdf: a page is a file that ends in .html")
    for name in ("vl_convert", "jinja2"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            code, _, error = cli("report", *FILES[-2:], "-o", f"{name}.html")
        assert code == 3
        assert f"{name}, which is missing: pip install 'cnnport[report]'" in error
        assert not (tmp_path / f"{name}.html").exists()


def test_numbers_and_names() -> None:
    assert [number(value) for value in (0, 1.23456, 12.3456, 123.456, 0.012345, 3e-7, None)] == [
        "0", "1.235", "12.35", "123.5", "0.0123", "3.00e-07", "",
    ]  # fmt: skip
    assert number(12345.6) == "12\N{NARROW NO-BREAK SPACE}346"
    assert cut("stage2.0.branch1.2/Conv_part_2", 13) == "stag…v_part_2"
    assert command(["cnnport", "bench", "a b; rm"]) == "cnnport bench 'a b; rm'"
    assert own_command("cnnport bench x && rm y") == "cnnport bench x '&&' rm y"
    assert own_command("rm -rf /") is None
    assert own_command("cnnport 'unclosed") is None


def test_a_ridge_is_the_histogram() -> None:
    heights = density([1.0] * 8 + [3.5] * 4, [0, 1, 2, 3, 4, 5, 6, 7])
    assert heights[1] == 1.0
    assert heights[3] == pytest.approx((8 * 1 + 4 * 6) / (8 * 6 + 4 * 1))
    assert density([9.0], [0, 1, 2]) == [0.0, 0.0]


def test_the_front_is_what_nothing_beats() -> None:
    points = [(1.0, 90.0), (2.0, 95.0), (2.0, 94.0), (3.0, 95.0), (1.0, 90.0)]
    assert front(points) == (True, True, False, False, True)
