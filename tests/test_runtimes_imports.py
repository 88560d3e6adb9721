"""What is imported when: a runtime's package only where that runtime is used or asked whether it works."""

import json
import resource
import subprocess
import sys

import pytest

from cnnport.runtimes import RUNTIMES

HEAVY = ("torch", "onnx", "onnxruntime", "openvino", "openvino_telemetry", "tensorrt", "tensorrt_rtx")
PACKAGES = ("torch", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx")


def after(program: str) -> str:
    """What a fresh process prints."""
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded_after(program: str) -> set[str]:
    return set(json.loads(after(f"{program}\nimport json, sys\nprint(json.dumps(list(sys.modules)))"))) & set(
        HEAVY
    )


def test_the_table_imports_no_runtime() -> None:
    assert loaded_after("import cnnport.runtimes") == set()
    assert loaded_after("import cnnport.runtimes, cnnport.cli.main, cnnport.measuring") == set()


@pytest.mark.parametrize(("name", "package"), [("ort-cpu", "onnxruntime"), ("openvino", "openvino")])
def test_using_one_imports_that_one(name: str, package: str) -> None:
    """It also shows that an import would be seen."""
    pytest.importorskip(package)
    program = f"from cnnport.runtimes import get_runtime; get_runtime({name!r}).version()"
    assert loaded_after(program) == {package}


def test_without_any_package_all_of_it_says_what_to_install() -> None:
    program = f"""
import sys
for name in {PACKAGES}:
    sys.modules[name] = None
from cnnport.cli import main
sys.exit(main(["doctor", "--json"]))
"""
    rows = {row["runtime"]: row for row in json.loads(after(program))}
    assert set(rows) == set(RUNTIMES)
    for name, row in rows.items():
        assert row["present"] == (name == "null"), row
        if name != "null":
            assert (row["version"], row["device"]) == (None, None)
            assert len(row["reason"].splitlines()) == 1
            assert "pip install" in row["reason"], row


def test_doctor_tells_the_truth_and_soon() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "cnnport", "doctor", "--json"], check=True, capture_output=True, text=True
    )
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert spent.ru_utime + spent.ru_stime - before.ru_utime - before.ru_stime < 5
    for row in json.loads(done.stdout):
        missing = RUNTIMES[row["runtime"]].missing()
        assert row["present"] == (missing is None)
        assert row["reason"] == missing
        if row["present"]:
            assert row["version"]
            assert row["device"]
