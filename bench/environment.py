"""What a measurement was taken on, read without importing any of the packages that it names."""

import os
import platform
import re
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from cnnport.measuring.cpus import allowed_cpus, cores_of, cpu_quota, read_line
from cnnport.measuring.record import Environment

PACKAGES = (
    "cnnport",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxsim",
    "onnxslim",
    "openvino",
    "tensorrt-cu13",
    "tensorrt-rtx-cu13",
    "torch",
)

# Instruction sets that decide which kernels a runtime picks, and the sign of a virtual machine.
_FLAGS = re.compile(r"avx|avx2|fma|f16c|avx512.*|avx_vnni.*|amx_.*|hypervisor|asimd.*|sve.*|i8mm|bf16|fphp")


def read_environment() -> Environment:
    """The machine and the software as they are now; what cannot be read is None or left out."""
    allowed = allowed_cpus()
    present = tuple(range(os.cpu_count() or 1))
    cpuinfo = _colon_separated(Path("/proc/cpuinfo"))
    memory = _colon_separated(Path("/proc/meminfo"))
    frequency = Path(f"/sys/devices/system/cpu/cpu{allowed[0]}/cpufreq")
    return Environment(
        date_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        cpu_model=cpuinfo.get("model name") or platform.processor() or platform.machine(),
        cpu_flags=relevant_flags(cpuinfo.get("flags") or cpuinfo.get("Features") or ""),
        cores_physical=len(cores_of(present)),
        cores_logical=len(present),
        cpus_allowed=allowed,
        cpu_quota=cpu_quota(),
        governor=read_line(frequency / "scaling_governor"),
        frequency_mhz=_megahertz(read_line(frequency / "scaling_cur_freq"), cpuinfo.get("cpu MHz")),
        frequency_max_mhz=_megahertz(read_line(frequency / "cpuinfo_max_freq"), None),
        load_average_start=load_average(),
        memory_bytes=_kibibytes(memory.get("MemTotal")),
        memory_available_bytes=_kibibytes(memory.get("MemAvailable")),
        os=_distribution(),
        kernel=f"{platform.system()} {platform.release()}",
        machine=platform.machine(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        packages=_versions(),
    )


def load_average() -> float | None:
    """Processes that ran or wanted to, averaged over the last minute."""
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return None


def relevant_flags(flags: str) -> tuple[str, ...]:
    """Of the kernel's list of CPU flags those that matter here, sorted."""
    return tuple(sorted({flag for flag in flags.split() if _FLAGS.fullmatch(flag)}))


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _colon_separated(path: Path) -> dict[str, str]:
    """A ``key : value`` file of the kernel's; of repeated keys (one block a CPU) the first."""
    fields: dict[str, str] = {}
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return fields
    for line in lines:
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), value.strip())
    return fields


def _kibibytes(text: str | None) -> int | None:
    number = (text or "").partition(" ")[0]
    return int(number) * 1024 if number.isdigit() else None


def _megahertz(kilohertz: str | None, fallback_mhz: str | None) -> float | None:
    try:
        if kilohertz is not None:
            return round(float(kilohertz) / 1000, 1)
        return None if fallback_mhz is None else round(float(fallback_mhz), 1)
    except ValueError:
        return None


def _distribution() -> str:
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]}"
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()
