"""Tables, to the letter."""

import csv
import io
from dataclasses import replace

import pytest
from rich.console import Console

from cnnport.errors import CnnportError, OutputError
from cnnport.measuring import (
    Comparison,
    Environment,
    Measurement,
    Results,
    Round,
    Skipped,
    Verdict,
    cautions,
    check_format,
    csv_text,
    environment_lines,
    json_text,
    markdown_text,
    read_results,
    render,
    write_results,
)

# 100 samples: 1 ms to 1.099 ms.
STEADY = tuple(round(0.001 + step * 1e-6, 6) for step in range(100))
ROW = Measurement(
    model="lenet5",
    runtime="ort-cpu",
    precision="fp32",
    batch=1,
    threads=2,
    rounds=(Round(STEADY, 0.25, 64 * 2**20), Round(STEADY, 0.35, 65 * 2**20)),
    weights="random",
    sha256="ab" * 32,
    cpus=(0, 1),
)
MISSED = Skipped("lenet5", "trt", "TensorRT [no] | not here", "fp32", 1, 2, "random", 3)
ENVIRONMENT = Environment(
    date_utc="2026-01-02T03:04:05+00:00",
    cpu_model="A CPU",
    cpu_flags=("avx2", "fma"),
    cores_physical=2,
    cores_logical=4,
    cpus_allowed=(0, 1, 2, 3),
    cpu_quota=1.5,
    governor="powersave",
    frequency_mhz=2600.0,
    load_average_start=0.1,
    load_average_end=0.9,
    memory_bytes=8 * 2**30,
    os="An OS 1",
    kernel="Linux 6",
    python="CPython 3.11.7",
    packages={"cnnport": "0.1.0", "numpy": "2.4"},
)
RESULTS = Results(ENVIRONMENT, (ROW, replace(ROW, batch=8)), (MISSED,))


def shown(renderable, width):
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(renderable)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_terminal():
    assert shown(render(RESULTS), 100) == [
        "Latency (ms)  model: lenet5 · precision: fp32 · threads: 2 · weights: random",
        "runtime  batch   mean    p50    p90    p95    p99    min    max     std  images/s",
        "──────────────────────────────────────────────────────────────────────────────────",
        "ort-cpu  1      1.050  1.050  1.089  1.094  1.098  1.000  1.099  0.0289     952.8",
        "ort-cpu  8      1.050  1.050  1.089  1.094  1.098  1.000  1.099  0.0289      7623",
        "",
        "Loading and memory  model: lenet5 · precision: fp32 · threads: 2 · weights: random",
        "runtime  batch  load s  memory MiB  of it session  samples  rounds  spread     95 % of p50",
        "───────────────────────────────────────────────────────────────────────────────────────────",
        "ort-cpu  1       0.300          65                     200       2    0.0%  1.042 to 1.056",
        "ort-cpu  8       0.300          65                     200       2    0.0%  1.042 to 1.056",
        "",
        "Skipped  model: lenet5 · precision: fp32 · batch: 1 · threads: 2 · weights: random",
        "runtime  reason",
        "──────────────────────────────────",
        "trt      TensorRT [no] | not here",
        "",
    ]


def test_narrow_terminals_lose_no_figure():
    other = replace(ROW, model="shufflenet_v2_x1_0", batch=8, threads=1)
    lines = shown(render(replace(RESULTS, results=(ROW, other), skipped=())), 80)
    assert max(map(len, lines)) <= 80
    for figure in ("1.050", "1.089", "1.094", "1.098", "1.000", "1.099", "0.0289", "952.8", "7623"):
        assert any(figure in line for line in lines), figure
    assert any("weights: random" in line for line in lines)


def test_different_weights_are_a_column():
    results = replace(RESULTS, results=(ROW, replace(ROW, weights="default")))
    assert "weights" in shown(render(results), 120)[1]


def test_markdown():
    assert markdown_text(RESULTS) == (
        "Latency in milliseconds.\n"
        "\n"
        "| model | runtime | precision | batch | threads | weights | mean | p50 | p90 | p95 "
        "| p99 | min | max | std | images/s | load s | memory MiB |\n"
        "| --- | --- | --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: "
        "| ---: | ---: | ---: |\n"
        "| lenet5 | ort-cpu | fp32 | 1 | 2 | random | 1.050 | 1.050 | 1.089 | 1.094 "
        "| 1.098 | 1.000 | 1.099 | 0.0289 | 952.8 | 0.300 | 65 |\n"
        "| lenet5 | ort-cpu | fp32 | 8 | 2 | random | 1.050 | 1.050 | 1.089 | 1.094 "
        "| 1.098 | 1.000 | 1.099 | 0.0289 | 7623 | 0.300 | 65 |\n"
        "\n"
        "Skipped:\n"
        "\n"
        "| model | runtime | precision | batch | threads | weights | reason |\n"
        "| --- | --- | --- | --- | --- | --- | --- |\n"
        "| lenet5 | trt | fp32 | 1 | 2 | random | TensorRT [no] \\| not here |\n"
        "\n"
        "- A CPU: 2 cores, 4 CPUs, 4 allowed, quota 1.5\n"
        "- avx2 fma\n"
        "- governor powersave, 2600 MHz, 8.0 GiB memory, load average 0.1 to 0.9\n"
        "- An OS 1, Linux 6, CPython 3.11.7\n"
        "- cnnport 0.1.0, numpy 2.4\n"
        "- 2026-01-02T03:04:05+00:00\n"
    )


def test_settings_are_a_column_where_there_are_any():
    chosen = replace(RESULTS.results[0], settings={"streams": "2", "hint": "latency"})
    text = markdown_text(replace(RESULTS, results=(chosen, *RESULTS.results[1:])))
    assert "| weights | settings | mean |" in text
    assert "| random | hint=latency, streams=2 | 1.050 |" in text
    assert "| random |  | 1.050 |" in text


def test_csv():
    assert csv_text(RESULTS) == (
        "model,runtime,precision,batch,threads,concurrency,weights,settings,"
        "mean_ms,p50_ms,p90_ms,p95_ms,p99_ms,min_ms,max_ms,std_ms,p50_low_ms,p50_high_ms,"
        "throughput,load_s,build_s,peak_memory_bytes,session_memory_bytes,device_memory_bytes,"
        "samples,rounds,sha256,reason\n"
        "lenet5,ort-cpu,fp32,1,2,1,random,,"
        "1.049500,1.049500,1.089100,1.094050,1.098010,1.000000,1.099000,0.028866,1.042000,1.056000,"
        f"952.835,0.300000,0.000000,{65 * 2**20},,,200,2,{'ab' * 32},\n"
        "lenet5,ort-cpu,fp32,8,2,1,random,,"
        "1.049500,1.049500,1.089100,1.094050,1.098010,1.000000,1.099000,0.028866,1.042000,1.056000,"
        f"7622.68,0.300000,0.000000,{65 * 2**20},,,200,2,{'ab' * 32},\n"
        "lenet5,trt,fp32,1,2,1,random,,,,,,,,,,,,,,,,,,,,,TensorRT [no] | not here\n"
    )


def test_csv_reads_back_whatever_the_reason_holds():
    reason = 'quotes ", commas, and | more'
    rows = list(
        csv.DictReader(io.StringIO(csv_text(replace(RESULTS, skipped=(replace(MISSED, reason=reason),)))))
    )
    assert [row["reason"] for row in rows] == ["", "", reason]
    assert float(rows[0]["p50_ms"]) == pytest.approx(ROW.p50_s * 1e3)


@pytest.mark.parametrize("results", [Results(Environment(), ()), Results(Environment(), (), (MISSED,))])
def test_nothing_measured(results):
    text = "\n".join(shown(render(results), 80))
    assert ("Skipped" in text) == bool(results.skipped)
    assert "Latency" not in text
    assert "Latency" not in markdown_text(results)
    assert len(csv_text(results).splitlines()) == 1 + len(results.skipped)
    assert cautions(results) == ()


def test_the_ending_chooses_the_format(tmp_path):
    write_results(RESULTS, tmp_path / "r.json")
    write_results(RESULTS, tmp_path / "r.CSV")
    write_results(RESULTS, tmp_path / "r.md")
    assert read_results(tmp_path / "r.json") == RESULTS
    assert (tmp_path / "r.json").read_text() == json_text(RESULTS)
    assert (tmp_path / "r.CSV").read_text() == csv_text(RESULTS)
    assert (tmp_path / "r.md").read_text() == markdown_text(RESULTS)


@pytest.mark.parametrize("name", ["r", "r.txt", "r.json.gz"])
def test_other_endings_are_refused(tmp_path, name):
    with pytest.raises(CnnportError, match=r"\.json, \.csv, \.md"):
        check_format(tmp_path / name)
    with pytest.raises(CnnportError, match="end the name"):
        write_results(RESULTS, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_target_that_cannot_be_written(tmp_path):
    with pytest.raises(OutputError):
        write_results(RESULTS, tmp_path / "absent" / "r.json")


def test_an_empty_environment_says_nothing():
    assert environment_lines(Environment()) == ()


def test_a_comparison_is_told():
    found = Comparison(
        "c", "p50", "p50+5%", 1.05, 1.1, 1.08, 1.12, 0.99, Verdict.REGRESSION, True, 5, 2.0, 2.2
    )
    text = "\n".join(shown(render(replace(RESULTS, comparisons=(found,))), 140))
    assert "c: p50 +10.0% (+8.0% to +12.0% with 99% confidence, limit +5.0%): regression" in text
