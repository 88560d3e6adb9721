"""The page of what a machine can do beside what public tools say: made of the record alone."""

from cnnport.measuring.record import Json

_HEAD = """# What the machine can do

`cnnport profile` holds the time of each layer against what this machine can do at most. Both limits are measured, not
read from a data sheet, in processes of their own that are pinned as a benchmark's are, and kept per machine: another
CPU, another number of threads or another version of a runtime is measured anew.

- **Arithmetic.** Square matrix products of 512, 1024 and 2048, and a 3x3 convolution of 256 channels at 28x28, as
  small ONNX files on ONNX Runtime and OpenVINO, and PyTorch's own matrix product; a multiply-add counts two. In 8
  bits: MatMulInteger on ONNX Runtime (unsigned by signed), and the same products between quantizers on both. In bf16
  and fp16: OpenVINO, where the CPU has them. The best run of the fastest of these is the peak of its precision.
- **Bandwidth.** STREAM's four kernels over three arrays of doubles, each four times the last cache, in PyTorch's
  vectorised loops over all threads, in place. Bytes as STREAM counts them: what a kernel reads and what it writes,
  once each, not the line that a cache fetches before it is overwritten. The best run of the fastest kernel is the
  bandwidth. Layers whose values stay in the cache may be faster than that; the record has the bandwidth of the cache
  beside it.

The peak is what these libraries reach, not what the silicon could: a network runs on their kernels. Where the best
run of a peak is more than 1.3 times as fast as the median one, others were at work; such a record is measured again
the next time it is asked for, up to three times, and the better figures stay.
"""


def page(record: Json) -> str:
    """The whole page."""
    environment = record["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    virtual = ", a virtual machine" if "hypervisor" in environment["cpu_flags"] else ""
    lines = [
        _HEAD,
        "## Beside public tools",
        "",
        f"{environment['cpu_model']}, {environment['cores_physical']} cores{virtual}; {versions}. Measured in one",
        f"quiet window of a few minutes, {environment['date_utc'][:10]}, by",
        "`python -m cnnport.measuring.studies.machine`; the record is `bench/results/machine.json`.",
    ]
    for each in record["machines"]:
        lines += ["", *_of_threads(each)]
    return "\n".join(lines) + "\n"


def _of_threads(row: Json) -> list[str]:
    machine, tools = row["machine"], row["tools"]
    threads = machine["threads"]
    lines = [
        f"### {threads} thread{'s' * (threads > 1)}",
        "",
        "| | cnnport | public tools |",
        "|---|---|---|",
        f"| fp32, GFLOP/s | {_peak(machine, 'fp32')} | {_said(tools, 'fp32', 1e9)} |",
    ]
    lines += [
        f"| {precision}, GFLOP/s | {_peak(machine, precision)} | |"
        for precision in machine["peak_flops"]
        if precision != "fp32"
    ]
    for kernel in ("copy", "scale", "add", "triad"):
        own = next(
            (each for each in machine["streams"] if each["kernel"] == kernel and each["level"] == "memory"),
            None,
        )
        figure = "" if own is None else f"{own['bytes_s'] / 1e9:.1f}"
        lines.append(f"| {kernel}, GB/s | {figure} | {_said(tools, kernel, 1e9)} |")
    lines += [
        f"| **roofline** | **{machine['peak_flops']['fp32'] / 1e9:.0f} GFLOP/s, "
        f"{machine['bandwidth_bytes_s'] / 1e9:.1f} GB/s** | {_roof(tools)} |",
        "",
        "Matrix products and convolutions by library, the best run of each, GFLOP/s:",
        "",
        "| operation | library | precision | best | median |",
        "|---|---|---|--:|--:|",
        *(
            f"| {each['operation']} | {each['runtime']} | {each['precision']} | {each['flops_s'] / 1e9:.1f} | "
            f"{each['median_flops_s'] / 1e9:.1f} |"
            for each in machine["products"]
        ),
    ]
    if row["skipped"]:
        lines += ["", *(f"- {tool} was not run: {reason}" for tool, reason in row["skipped"].items())]
    return lines


def _peak(machine: Json, precision: str) -> str:
    best = max(
        (each for each in machine["products"] if each["precision"] == precision),
        key=lambda each: float(each["flops_s"]),
    )
    return f"{best['flops_s'] / 1e9:.1f} ({best['operation']} on {best['runtime']})"


def _said(tools: list[Json], kind: str, unit: float) -> str:
    return "; ".join(
        f"{each['value'] / unit:.1f} {each['tool']}, {each['what']}" for each in tools if each["kind"] == kind
    )


def _roof(tools: list[Json]) -> str:
    flops = max((each["value"] for each in tools if each["kind"] == "fp32"), default=None)
    moved = max((each["value"] for each in tools if each["kind"] != "fp32"), default=None)
    parts = [
        *([] if flops is None else [f"{flops / 1e9:.0f} GFLOP/s"]),
        *([] if moved is None else [f"{moved / 1e9:.1f} GB/s"]),
    ]
    return ", ".join(parts)
