"""From what TensorRT writes to its log to errors that name the node of the ONNX file and what it has against it."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cnnport.runtimes.build import BuildError
from cnnport.runtimes.trt import api
from cnnport.runtimes.trt.package import Api

if TYPE_CHECKING:
    import onnx

# Without a GPU every call that fails asks the driver for an error of its own, which says nothing.
_NOISE = ("catchCudaError", "Skipping tactic")
_LAYERS = "Layers:"

_CODE = re.compile(r"^.*?Error Code \d+: [\w ]+ ?\((?P<text>.*)\)$", re.DOTALL)
_PLACE = re.compile(r"\s*\bIn [\w:~<>]+ at \S+:\d+\b:?")
_ASSERTION = re.compile(r"Assertion failed: .*?: (?=[A-Z])", re.DOTALL)
_BARE_ASSERTION = re.compile(r"Assertion failed: ")
_INTERNAL = re.compile(r"^\[[\w.]+:\d+: \w+\]\s*")


@dataclass
class Log:
    """What TensorRT said while something was done.

    Attributes:
        errors: Its errors, oldest first.
        warnings: Its warnings.
        listing: The layers of the engine that was built, as it lists them at the end of a build; empty before.
    """

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    listing: str = ""

    def take(self, severity: str, text: str) -> None:
        """Note one message."""
        if severity in {"ERROR", "INTERNAL_ERROR"}:
            if not any(noise in text for noise in _NOISE):
                self.errors.append(text)
        elif severity == "WARNING":
            if text not in self.warnings:
                self.warnings.append(text)
        elif text.startswith(_LAYERS):
            self.listing = text

    def reason(self, otherwise: str) -> str:
        """The last error in one line, for what fails outside a build; it is told once."""
        last = clean(self.errors[-1]) if self.errors else otherwise
        self.errors.clear()
        return last


def logger_of(trt: Api, log: Log) -> api.ILogger:
    """A logger of TensorRT's kind that fills ``log``; it must live as long as whatever it was given to."""

    class Listener(trt.ILogger):  # type: ignore[misc, name-defined]  # the class is found while the program runs
        def __init__(self) -> None:
            # The bindings refuse an object whose own constructor did not run, and super() does not reach it.
            trt.ILogger.__init__(self)

        def log(self, severity: api.Value, msg: str) -> None:
            log.take(severity.name, msg)

    listener: api.ILogger = Listener()
    return listener


def clean(text: str) -> str:
    """One message without error codes, places in TensorRT's source, and line breaks."""
    text = text.strip()
    if found := _CODE.match(text):
        text = found["text"]
    text = _INTERNAL.sub("", _PLACE.sub("", text))
    text = _BARE_ASSERTION.sub("", _ASSERTION.sub("", text))
    return " ".join(text.split()).rstrip(" .") or "no reason given"


def parse_errors(
    parser: api.OnnxParser | api.OnnxParserRefitter, nodes: "Sequence[onnx.NodeProto]"
) -> tuple[BuildError, ...]:
    """What the parser has against a file, by node.

    Args:
        parser: After it failed.
        nodes: Of the file's graph; empty where the file cannot be read.
    """
    found = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        position = error.node()
        node = error.node_name()
        if not node and 0 <= position < len(nodes):
            node = label(nodes[position], position)
        message = _parser_message(error.desc(), error.node_operator())
        found.append(BuildError(node, message.removeprefix(f"{node}: ")))
    return tuple(dict.fromkeys(found))


def build_errors(errors: Iterable[str], nodes: "Sequence[onnx.NodeProto]") -> tuple[BuildError, ...]:
    """What the builder wrote to the log, by the node that each message names."""
    names = sorted((node.name for node in nodes if node.name), key=len, reverse=True)
    found = []
    for text in errors:
        message = clean(text)
        node = next((name for name in names if _names(message, name)), "")
        found.append(BuildError(node, message))
    return tuple(dict.fromkeys(found)) or (BuildError("", "TensorRT gives no reason"),)


def label(node: "onnx.NodeProto", position: int) -> str:
    """A node's name, or for one without a name its operator, place and first output."""
    return node.name or f"{node.op_type} number {position} ({next(iter(node.output), 'no output')})"


def _parser_message(text: str, operator: str) -> str:
    lines = [line for line in text.splitlines() if line.strip() and not _is_noise(line)]
    message = "; ".join(clean(line) for line in lines)
    if "Plugin not found" in message:
        return f"operator {operator} is unknown to TensorRT"
    if message in {"", "false"}:
        return f"operator {operator} is not supported" if operator else "no reason given"
    return message


def _is_noise(line: str) -> bool:
    return line.startswith("Invalid Node") or any(noise in line for noise in _NOISE)


def _names(message: str, name: str) -> bool:
    """Whether a message names a node, and not one whose name only begins or ends alike."""
    return re.search(rf"(?<![\w./]){re.escape(name)}(?![\w/])", message) is not None
