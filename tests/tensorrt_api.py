"""What TensorRT's Python bindings offer, read from the wheels themselves: ``python tests/tensorrt_api.py``.

Writes ``tests/data/tensorrt_api.json``: of each release named below, the members of the classes and enumerations that
the adapter may touch. The bindings are small and on the public index, the libraries behind them are not; so each
wheel is imported over a stub library that defines the symbols that it wants and does nothing. That needs a C compiler
(``cc``) and ``nm``. A class that a release does not have is left out.
"""

import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from cnnport.runtimes.trt.api import CONTRACT

TARGET = Path(__file__).parent / "data" / "tensorrt_api.json"

# The oldest that is served, the newest of its major, the first and the newest of the next one; oldest and newest RTX.
RELEASES = (
    ("tensorrt_cu12_bindings", "10.12.0.36"),
    ("tensorrt_cu13_bindings", "10.16.1.11"),
    ("tensorrt_cu13_bindings", "11.0.0.114"),
    ("tensorrt_cu13_bindings", "11.4.0.106"),
    ("tensorrt_rtx_cu13_bindings", "1.4.0.76"),
    ("tensorrt_rtx_cu13_bindings", "1.7.1.116"),
)

_READER = """
import importlib, json, os, sys
sys.setdlopenflags(os.RTLD_LAZY | os.RTLD_LOCAL)
sys.path.insert(0, sys.argv[1])
module = importlib.import_module(sys.argv[2])
found = {}
for name in json.loads(sys.argv[3]):
    held = getattr(module, name, None)
    if held is not None:
        found[name] = sorted(member for member in dir(held) if not member.startswith("_"))
print(json.dumps(found))
"""


def main() -> int:
    """Fetch, import and write every release."""
    names = sorted({name for contract in CONTRACT.values() for name in contract})
    releases = {}
    for package, version in RELEASES:
        with tempfile.TemporaryDirectory() as folder:
            releases[f"{package}=={version}"] = read_wheel(package, version, names, Path(folder))
    document = {"source": f"python tests/{Path(__file__).name}", "releases": releases}
    TARGET.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


def read_wheel(package: str, version: str, names: list[str], folder: Path) -> dict[str, list[str]]:
    """The members of the classes of one wheel."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    subprocess.run([*pip, "--dest", str(folder), f"{package}=={version}"], check=True)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder)
    (library,) = folder.glob("*/tensorrt*.so")
    _write_stubs(library)
    command = [sys.executable, "-c", _READER, str(folder), library.parent.name, json.dumps(names)]
    found: dict[str, list[str]] = json.loads(subprocess.check_output(command, text=True))
    return found


def _write_stubs(library: Path) -> None:
    """Libraries that define whatever the bindings leave undefined, beside them, where they look first."""
    listing = subprocess.check_output(["nm", "-D", "--undefined-only", str(library)], text=True)
    # A symbol with a version is the C library's own.
    wanted = [line.split()[-1] for line in listing.splitlines() if "@" not in line and " U " in line]
    source = library.parent / "stub.c"
    source.write_text("\n".join(f"char {name}[64];" for name in wanted), encoding="utf-8")
    dynamic = subprocess.check_output(["readelf", "-d", str(library)], text=True)
    needed = [line.split("[")[1].split("]")[0] for line in dynamic.splitlines() if "NEEDED" in line]
    for name in needed:
        if "nvinfer" in name or "nvonnxparser" in name or "tensorrt" in name:
            command = ["cc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(library.parent / name)]
            subprocess.run([*command, str(source)], check=True)


if __name__ == "__main__":
    sys.exit(main())
