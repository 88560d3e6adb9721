"""The page of the TensorRT build check, for people."""

from collections.abc import Iterable, Iterator, Sequence

from cnnport.measuring.record import Json
from cnnport.measuring.studies.trt_precisions import CALIBRATION

_ENGINE = ("built", "layers", "fused", "engine MB")
_COUNTS = ("network", "products", "asked", "computed", "nameless")
_COLUMNS = {
    "fp32": ("network", "parameters", "parsed", *_ENGINE),
    "fp16": (*_COUNTS, *_ENGINE),
    "int8": (*_COUNTS, "in int8", "faults", *_ENGINE),
}
_TEXTS = frozenset({"network", "parsed", "built"})
_OF_ENGINE = {"in int8": "layers_in"}
_ABOUT = {
    "fp32": (
        "Every network of ImageNet's size. `layers` are what the engine launches, `fused` those that compute more",
        "than one node of the file.",
    ),
    "fp16": (
        "The representatives of `cnnport.measuring.studies.graphs`, in files whose inputs and outputs are float32.",
        "`products` are the convolutions and matrix products of the file, `asked` those in float16, `computed` those",
        "of them that layers of the engine compute which read float16 and are no generated arithmetic. For some such",
        "layers, mostly 1x1 convolutions made matrix products, the engine names no node: `nameless`.",
    ),
    "int8": (
        f"The same networks, quantized with `--calibration {CALIBRATION} --method minmax --no-repair`.",
        "The counts are as above, of operands in 8 bits; `in int8` are all layers that read 8 bits and are no",
        "generated arithmetic, poolings and parts of products among them. `faults` are what is wrong with the file",
        "by our own rules: int32 or uint8, zero points other than 0, scales along a wrong axis, and what else",
        "TensorRT rejects or misreads.",
    ),
}


def reason_of(row: Json) -> str:
    """Why a network does not build as it should, by node, in one line."""
    if row["problem"]:
        return f"not checked: {' '.join(row['problem'].split())}"
    stage = "parsed, not built" if row["parsed"] and not row["built"] else "not parsed"
    if row["built"]:
        stage = "built otherwise than the file asks"
    errors = [
        f"{error['node']}: {error['message']}" if error["node"] else error["message"]
        for error in row["errors"]
    ]
    if row["built"] and not errors:
        stage = "built, but the file is wrong"
    wrong = [*errors, *row.get("faults", ())]
    if row.get("asked") == 0:
        wrong.append(f"none of its {row['products']} products is in {row['precision']}")
    return f"{stage}: {'; '.join(wrong)}"


def markdown(rows: Sequence[Json]) -> str:
    """The rows as a page; networks that do not build stand below their table with their reasons."""
    version = next((row["versions"].get("tensorrt-rtx-cu13", "unknown") for row in rows), "unknown")
    lines = [
        "# The TensorRT build check",
        "",
        f"What TensorRT-RTX {version} parses and builds without a GPU, strongly typed, TF32 off, for batches 1 to 32",
        "on GPUs from Ampere on; weights are random. Made by `make trt-check`; versions and kinds of layers are in",
        "trt_check.json.",
    ]
    for precision in _ABOUT:
        if own := [row for row in rows if row["precision"] == precision]:
            lines += _section(precision, own)
    return "\n".join(lines) + "\n"


def _section(precision: str, rows: Sequence[Json]) -> Iterator[str]:
    built = [row for row in rows if row["ok"]]
    columns = _COLUMNS[precision]
    yield from ("", f"## {precision}", "", f"{len(built)} of {len(rows)} networks are parsed and built.")
    yield from (*_ABOUT[precision], "", _line(columns))
    yield "|" + "".join("---|" if column in _TEXTS else "--:|" for column in columns)
    for row in rows:
        if not row["problem"]:
            yield _line(_cell(row, column) for column in columns)
    if failed := [row for row in rows if not row["ok"]]:
        yield from ("", "Not built:", "", *(f"- {row['name']}: {reason_of(row)}" for row in failed))


def _cell(row: Json, column: str) -> str:
    match column:
        case "network":
            return str(row["name"])
        case "parameters":
            return f"{row['params']:,}"
        case "parsed":
            return "yes" if row["parsed"] else "no"
        case "built":
            return "yes" if row["ok"] else "no"
        case "products" | "asked":
            return str(row[column])
        case "faults":
            return str(len(row["faults"]))
    if not row["built"]:
        return ""
    return f"{row['bytes'] / 1e6:.1f}" if column == "engine MB" else str(row[_OF_ENGINE.get(column, column)])


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
