"""Clocks, heat, power and other people's load, read from files as Linux writes them, and from a stand-in for NVML."""

import ctypes
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cnnport.measuring import nvml
from cnnport.measuring.sensors import Sensors, read_sensors
from cnnport.measuring.usage import Load, read_load, resident_bytes


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


def machine(root: Path) -> Path:
    cpu = "devices/system/cpu/cpu{}/"
    write(
        root,
        **{
            cpu.format(0) + "cpufreq/scaling_cur_freq": "2600000",
            cpu.format(2) + "cpufreq/scaling_cur_freq": "2400000",
            cpu.format(1) + "cpufreq/scaling_cur_freq": "800000",
            cpu.format(0) + "thermal_throttle/core_throttle_count": "3",
            cpu.format(2) + "thermal_throttle/core_throttle_count": "4",
            "class/thermal/thermal_zone0/type": "x86_pkg_temp",
            "class/thermal/thermal_zone0/temp": "61000",
            "class/thermal/thermal_zone1/type": "iwlwifi",
            "class/thermal/thermal_zone1/temp": "95000",
            "class/hwmon/hwmon0/name": "k10temp",
            "class/hwmon/hwmon0/temp1_input": "62500",
            "class/hwmon/hwmon1/name": "nvme",
            "class/hwmon/hwmon1/temp1_input": "99000",
            "class/powercap/intel-rapl:0/energy_uj": "2500000",
            "class/powercap/intel-rapl:1/energy_uj": "1000000",
            "class/powercap/intel-rapl:0:0/energy_uj": "9000000",
        },
    )
    return root


def test_the_cpus_in_use_are_read(tmp_path: Path) -> None:
    assert read_sensors([0, 2], sys=machine(tmp_path)) == Sensors(
        cpu_mhz=2500.0, cpu_celsius=62.5, cpu_throttles=7.0, package_joules=3.5
    )


def test_what_is_not_there_is_none(tmp_path: Path) -> None:
    assert read_sensors([0], sys=tmp_path) == Sensors()
    assert Sensors().to_json() == {}
    write(
        tmp_path,
        **{"class/thermal/thermal_zone0/type": "cpu-thermal", "class/thermal/thermal_zone0/temp": "?"},
    )
    assert read_sensors([0], sys=tmp_path) == Sensors()


def stat(path: Path, busy: int, steal: int = 0) -> Path:
    path.write_text(
        f"cpu  9 9 9 9\ncpu0 {busy} 0 0 500 7 0 0 {steal} 5 0\ncpu1 0 0 0 0 0 0 0 0 0 0\nintr 1\n"
    )
    return path


def test_what_others_had_is_what_we_had_not(tmp_path: Path) -> None:
    file = tmp_path / "stat"
    first = read_load([0], stat(file, 100), clock=lambda: 10.0)
    last = read_load([0], stat(file, 180, steal=10), clock=lambda: 11.0)
    # Ninety ticks of a hundred were busy; of these we had 0.6 s.
    ours = Load(last.busy_s, first.own_s + 0.6, 11.0)
    assert first.others_until(ours) == pytest.approx(0.3)
    assert Load(first.busy_s, 0.0, 10.0).others_until(Load(first.busy_s, 0.5, 11.0)) == 0
    # Too short a time, or nothing to read.
    assert first.others_until(Load(last.busy_s, ours.own_s, 10.1)) is None
    assert read_load([7], file).busy_s == ()
    assert read_load([0], tmp_path / "absent").others_until(ours) is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_this_process_is_not_others() -> None:
    cpus = [0]
    before, ran = read_load(cpus), time.process_time()
    while time.process_time() - ran < 0.1:
        pass
    after = read_load(cpus)
    assert after.own_s - before.own_s >= 0.1
    assert len(after.busy_s) == 1
    size = resident_bytes()
    assert size is not None
    assert 10 * 2**20 < size < 2**35


class Library:
    """NVML, of a GPU with a number; ``refused`` are functions that it does not serve."""

    def __init__(self, refused: tuple[str, ...] = ()) -> None:
        self.refused = refused
        self.reasons = 0x40
        self.asked: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        answers = {
            "nvmlInit_v2": lambda: 0,
            "nvmlDeviceGetHandleByPciBusId_v2": self._handle,
            "nvmlDeviceGetPowerUsage": lambda handle, value: _set(value, 312_500),
            "nvmlDeviceGetClockInfo": lambda handle, kind, value: _set(value, 1980 if kind == 1 else 0),
            "nvmlDeviceGetTemperature": lambda handle, kind, value: _set(value, 54),
            "nvmlDeviceGetCurrentClocksThrottleReasons": lambda handle, value: _set(value, self.reasons),
            "nvmlDeviceGetMemoryInfo": self._memory,
        }
        if name in self.refused:
            return lambda *_: 3
        return answers[name]

    def _handle(self, place: Any, handle: Any) -> int:
        self.asked.append(place.value)
        handle._obj.value = 7
        return 0

    def _memory(self, handle: Any, memory: Any) -> int:
        memory._obj.used = 123
        return 0


def _set(value: Any, number: int) -> int:
    value._obj.value = number
    return 0


def driver(code: int = 0) -> Any:
    def bus(text: Any, size: int, device: Any) -> int:
        text.value = b"0000:65:00.0"
        return code

    return SimpleNamespace(
        cuInit=lambda flags: 0, cuDeviceGet=lambda device, index: 0, cuDeviceGetPCIBusId=bus
    )


def test_a_gpu_is_found_by_its_place_on_the_bus_and_asked(tmp_path: Path) -> None:
    library = Library()
    gpu = nvml._find(library, driver(), 0)
    assert gpu is not None
    assert library.asked == [b"0000:65:00.0"]
    assert gpu.used_bytes() == 123
    found = read_sensors([], gpu, tmp_path)
    assert found == Sensors(gpu_mhz=1980.0, gpu_celsius=54.0, gpu_watts=312.5, gpu_throttled=1.0)
    library.reasons = 0x4
    assert gpu.state().throttled == 0.0


def test_a_gpu_that_does_not_tell() -> None:
    functions = (
        "nvmlDeviceGetPowerUsage",
        "nvmlDeviceGetMemoryInfo",
        "nvmlDeviceGetCurrentClocksThrottleReasons",
    )
    gpu = nvml._find(Library(functions), driver(), 0)
    assert gpu is not None
    assert gpu.state() == nvml.State(mhz=1980.0, celsius=54.0)
    assert gpu.used_bytes() is None
    assert nvml._find(Library(("nvmlInit_v2",)), driver(), 0) is None
    assert nvml._find(Library(), driver(101), 0) is None


def test_without_a_driver_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", absent)
    assert nvml.find_gpu(0) is None
