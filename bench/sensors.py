"""Clocks, temperature and power, where the machine tells: read before and after a round, never during one.

Linux says it under ``/sys`` (cpufreq, thermal zones, hwmon, RAPL), NVIDIA's driver through its library; a virtual
machine mostly says nothing. What cannot be read is None.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from cnnport.measuring import nvml
from cnnport.measuring.cpus import read_line
from cnnport.measuring.fields import Json, number

_SYS = Path("/sys")
# Of hwmon's chips, those that sit in a CPU.
_CPU_CHIPS = {"coretemp", "k10temp", "zenpower", "cpu_thermal"}
# Thermal zones of a CPU, by what their kind begins with.
_CPU_ZONES = ("x86_pkg_temp", "cpu", "acpitz", "soc")


@dataclass(frozen=True)
class Sensors:
    """One reading; None where the machine does not tell.

    Attributes:
        cpu_mhz: Clock of the CPUs in use, their mean.
        cpu_celsius: The hottest of the CPU's sensors.
        cpu_throttles: How often the CPUs in use have slowed down for heat since the machine was started.
        package_joules: What the CPU packages have used since some time in the past; two readings make a power.
        gpu_mhz: Clock of the GPU's multiprocessors.
        gpu_celsius: Of the GPU.
        gpu_watts: What the GPU takes.
        gpu_throttled: 1 where the GPU is slowed down for heat, else 0.
    """

    cpu_mhz: float | None = None
    cpu_celsius: float | None = None
    cpu_throttles: float | None = None
    package_joules: float | None = None
    gpu_mhz: float | None = None
    gpu_celsius: float | None = None
    gpu_watts: float | None = None
    gpu_throttled: float | None = None

    def to_json(self) -> Json:
        """What is known, by name."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_json(cls, row: Json) -> "Sensors":
        """Read one. Raises ``RecordError``."""
        names = {entry.name for entry in fields(cls)} & {name for name in row if row[name] is not None}
        return cls(**{name: number(row[name], name) for name in names})


def read_sensors(cpus: Sequence[int], gpu: "nvml.Gpu | None" = None, sys: Path = _SYS) -> Sensors:
    """All sensors as they are now.

    Args:
        cpus: The CPUs in use.
        gpu: The GPU in use, if there is one.
        sys: Where Linux tells.
    """
    state = gpu.state() if gpu is not None else nvml.State()
    return Sensors(
        cpu_mhz=_mean(
            _read(sys, (f"devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq" for cpu in cpus), 1e3)
        ),
        cpu_celsius=max(_temperatures(sys), default=None),
        cpu_throttles=_sum(
            _read(
                sys, (f"devices/system/cpu/cpu{cpu}/thermal_throttle/core_throttle_count" for cpu in cpus), 1
            )
        ),
        package_joules=_sum(_read(sys, _packages(sys), 1e6)),
        gpu_mhz=state.mhz,
        gpu_celsius=state.celsius,
        gpu_watts=state.watts,
        gpu_throttled=state.throttled,
    )


def _read(sys: Path, names: Iterable[str], divisor: float) -> list[float]:
    """The numbers that small files hold, of those that can be read."""
    found = []
    for name in names:
        text = read_line(sys / name) or ""
        if text.lstrip("-").isdigit():
            found.append(int(text) / divisor)
    return found


def _temperatures(sys: Path) -> list[float]:
    zones = [
        f"{zone.relative_to(sys)}/temp"
        for zone in _folders(sys / "class/thermal", "thermal_zone*")
        if (read_line(zone / "type") or "").startswith(_CPU_ZONES)
    ]
    chips = [
        str(place.relative_to(sys))
        for chip in _folders(sys / "class/hwmon", "hwmon*")
        if read_line(chip / "name") in _CPU_CHIPS
        for place in _folders(chip, "temp*_input")
    ]
    return _read(sys, [*zones, *chips], 1e3)


def _packages(sys: Path) -> list[str]:
    """The energy counters of whole packages; those of their parts, with a second colon, are in them."""
    zones = _folders(sys / "class/powercap", "intel-rapl:*")
    return [f"{zone.relative_to(sys)}/energy_uj" for zone in zones if zone.name.count(":") == 1]


def _folders(folder: Path, pattern: str) -> list[Path]:
    try:
        return sorted(folder.glob(pattern))
    except OSError:
        return []


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _sum(values: Sequence[float]) -> float | None:
    return sum(values) if values else None
