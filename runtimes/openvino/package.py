"""The openvino package: imported without its usage reports, asked for its devices, its errors made one line."""

import re
import sys
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from cnnport.errors import first_line

_REPORTS = "openvino_telemetry"

# What precedes the cause in its errors: where in its sources it was noticed, and what was being done.
_PREAMBLE = (
    "Exception from ",
    "Check '",
    "FrontEnd API failed",
    "While validating ",
    "Summary:",
    "Model wasn't",
)
_TITLE = re.compile(r"^-- (?:Conversion is failed for: |.* with a message:$)")
_NODE = re.compile(
    r"<Node\(\w+\): (?P<onnx>[^>]+)>|\[(?:CPU|GPU)\] \w+ node with name '(?P<layer>[^']+)'"
    r"|with friendly_name '(?P<friendly>[^']+)'"
)


def load() -> ModuleType:
    """Import openvino.

    Its package for usage reports, which would send one to its maker at every import, is kept out while that lasts.

    Raises:
        ImportError: If it is not installed or does not import.
        OSError, RuntimeError: If its libraries are damaged.
    """
    if "openvino" in sys.modules or _REPORTS in sys.modules:
        return import_module("openvino")
    sys.modules[_REPORTS] = None  # type: ignore[assignment]  # that is how an import is refused
    try:
        return import_module("openvino")
    finally:
        del sys.modules[_REPORTS]


@cache
def core() -> Any:
    """The one entry to the plugins, shared by all sessions; it holds no network."""
    return load().Core()


@cache
def readers() -> Any:
    """Where the reader of ONNX comes from; ``core().read_model`` offers a damaged file to those of all formats."""
    load()
    return import_module("openvino.frontend").FrontEndManager()


def missing() -> str | None:
    """Why openvino cannot be used here, and the command that would change that; None if it can."""
    if find_spec("openvino") is None:
        return "openvino is not installed: pip install 'cnnport[openvino]'"
    try:
        devices = core().available_devices
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        return f"openvino does not import ({first_line(error)}): pip install --force-reinstall openvino"
    if "CPU" not in devices:
        return "openvino finds no CPU that it can use: pip install --force-reinstall openvino"
    return None


def devices(kind: str) -> tuple[str, ...]:
    """Names of the devices of a kind, ``CPU`` or ``GPU``, as openvino calls them, in its order."""
    return tuple(name for name in core().available_devices if name.partition(".")[0] == kind)


def full_name(device: str) -> str:
    """The maker's name of a device."""
    return str(core().get_property(device, "FULL_DEVICE_NAME")).strip()


def reason(error: BaseException) -> str:
    """The cause in an error of openvino's, in one line, without the places in its sources."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(_PREAMBLE) and not _TITLE.match(line)]
    if not told:
        return first_line(error)
    return told[-1].removeprefix("-- ").removeprefix("[CPU] ").removeprefix("[GPU] ")


def refusal(runtime: str, error: BaseException) -> str:
    """What a user is told who gave inputs on which a network cannot run."""
    node = node_of(error)
    return f"{runtime} cannot run on these inputs: {f'{node}: ' if node else ''}{reason(error)}"


def node_of(error: BaseException) -> str:
    """The node of the file that an error of openvino's names; empty if it names none."""
    found = [match[match.lastgroup or 0] for match in _NODE.finditer(str(error))]
    return found[0] if found else ""
