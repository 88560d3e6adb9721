"""CPUs, quotas and what is said of the machine."""

import os
import subprocess
import sys
from datetime import datetime

import pytest

from cnnport.measuring import cpus
from cnnport.measuring.cpus import allowed_cpus, choose_cpus, cores_of, default_threads, read_quota
from cnnport.measuring.environment import read_environment, relevant_flags

HYPERTHREADED = ((0, 4), (1, 5), (2, 6), (3, 7))


@pytest.mark.parametrize(
    ("threads", "chosen"),
    [
        (1, (0,)),
        (3, (0, 1, 2)),
        (4, (0, 1, 2, 3)),
        (5, (0, 1, 2, 3, 4)),
        (6, (0, 1, 2, 3, 4, 5)),
        (99, (0, 1, 2, 3, 4, 5, 6, 7)),
    ],
)
def test_a_core_gives_its_second_cpu_last(threads, chosen):
    assert choose_cpus(threads, HYPERTHREADED) == chosen


def test_cores_of_which_only_some_cpus_are_allowed():
    assert choose_cpus(3, ((3,), (8, 9))) == (3, 8, 9)
    assert choose_cpus(2, ((2, 3), (8, 9))) == (2, 8)


def test_cpus_are_grouped_by_package_and_core(tmp_path, monkeypatch):
    for cpu, (package, core) in {0: (0, 0), 1: (0, 1), 2: (0, 0), 3: (1, 0)}.items():
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "physical_package_id").write_text(f"{package}\n")
        (folder / "core_id").write_text(f"{core}\n")
    monkeypatch.setattr(cpus, "_CPU_FOLDER", tmp_path)
    assert cores_of((0, 1, 2, 3)) == ((0, 2), (1,), (3,))
    # CPU 9 has no folder: a core of its own.
    assert cores_of((2, 9)) == ((2,), (9,))


def test_quota_of_version_2_is_the_tightest_on_the_way(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert read_quota(tmp_path, "0::/a/b") is None
    (tmp_path / "a" / "b" / "cpu.max").write_text("max 100000\n")
    assert read_quota(tmp_path, "0::/a/b") is None
    (tmp_path / "a" / "cpu.max").write_text("150000 100000\n")
    assert read_quota(tmp_path, "0::/a/b") == 1.5
    (tmp_path / "cpu.max").write_text("400000 100000\n")
    assert read_quota(tmp_path, "0::/a/b") == 1.5
    assert read_quota(tmp_path, "0::/") == 4.0


def test_quota_of_version_1(tmp_path):
    folder = tmp_path / "cpu"
    folder.mkdir()
    (folder / "cpu.cfs_quota_us").write_text("-1\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    assert read_quota(tmp_path, "3:cpu,cpuacct:/") is None
    (folder / "cpu.cfs_quota_us").write_text("250000\n")
    assert read_quota(tmp_path, "3:cpu,cpuacct:/") == 2.5


@pytest.mark.parametrize(("quota", "threads"), [(None, 4), (2.9, 2), (0.5, 1), (16.0, 4)])
def test_default_threads_respect_cores_and_quota(monkeypatch, quota, threads):
    monkeypatch.setattr(cpus, "allowed_cpus", lambda: tuple(range(8)))
    monkeypatch.setattr(cpus, "cores_of", lambda _: HYPERTHREADED)
    monkeypatch.setattr(cpus, "cpu_quota", lambda: quota)
    assert default_threads() == threads


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin")
def test_allowed_cpus_respect_the_affinity():
    last = max(os.sched_getaffinity(0))
    code = (
        f"import os; os.sched_setaffinity(0, [{last}]); "
        "from cnnport.measuring.cpus import allowed_cpus; print(allowed_cpus())"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == f"({last},)"


def test_flags_that_matter():
    flags = "fpu sse4_2 avx2 avx512f avx512_vnni avx_vnni amx_tile amx_int8 fma aes hypervisor avx2"
    assert relevant_flags(flags) == (
        "amx_int8", "amx_tile", "avx2", "avx512_vnni", "avx512f", "avx_vnni", "fma", "hypervisor",
    )  # fmt: skip


def test_environment_of_this_machine():
    environment = read_environment()
    assert environment.cpus_allowed == allowed_cpus()
    assert 1 <= environment.cores_physical <= environment.cores_logical == os.cpu_count()
    assert environment.cpu_model
    assert environment.kernel
    assert environment.python.endswith(".".join(map(str, sys.version_info[:3])))
    assert environment.packages["cnnport"]
    assert environment.packages["numpy"]
    assert datetime.fromisoformat(environment.date_utc).utcoffset().total_seconds() == 0
    if sys.platform == "linux":
        assert environment.memory_bytes > environment.memory_available_bytes > 0
        assert environment.load_average_start >= 0


def test_the_package_imports_nothing_heavy():
    code = "import sys, cnnport.measuring, cnnport.measuring.worker; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "torch", "onnx", "onnxruntime", "rich"} & set(ran.stdout.split())
