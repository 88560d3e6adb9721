"""What one process measured of one case: raw samples, and what was read beside them."""

from dataclasses import dataclass

from cnnport.measuring.fields import Json, count, number, optional_count, optional_number, take
from cnnport.measuring.sensors import Sensors


@dataclass(frozen=True)
class Warmup:
    """How a process was warmed up.

    Attributes:
        seconds: How long it took.
        runs: That were thrown away.
        settled: Whether it ended because the latency had settled, by ``measure.warm_up``'s rule; None where that was
            not looked at.
    """

    seconds: float
    runs: int
    settled: bool | None = None

    def to_json(self) -> Json:
        """All of it."""
        return {"seconds": round(self.seconds, 6), "runs": self.runs, "settled": self.settled}

    @classmethod
    def from_json(cls, row: Json) -> "Warmup":
        """Read one. Raises ``RecordError``."""
        return cls(
            number(row.get("seconds"), "seconds"),
            count(row.get("runs"), "runs"),
            take(row, "settled", bool, None),
        )


@dataclass(frozen=True)
class Round:
    """What one process measured of one case; None where it could not be told.

    Attributes:
        samples_s: Latency of every run, in order.
        load_s: Seconds to open the session, without what was compiled; imports are not in it.
        peak_memory_bytes: The largest resident set that the process had, Python and the runtime's code
            included; 0 where the system does not tell.
        build_s: Seconds in which the runtime compiled: a TensorRT engine, a network of openvino's, a module of
            PyTorch's; 0 where it compiles nothing or had it from a cache.
        session_memory_bytes: By how much the resident set grew from before the session was opened until it was warm.
        device_memory_bytes: By how much more of the GPU's memory was in use than before, at most.
        elapsed_s: From the first run's start to the last one's end; what lay between runs is in it.
        warmup: How it was warmed up.
        before: What sensors said, warm, right before the first sample.
        after: And right after the last one.
        other_load: Share of the time of the CPUs in use that went to others, the hypervisor's among them.
        transfer_share: Of the median run, what went into copying inputs and outputs, where they were to be included.
    """

    samples_s: tuple[float, ...]
    load_s: float = 0.0
    peak_memory_bytes: int = 0
    build_s: float = 0.0
    session_memory_bytes: int | None = None
    device_memory_bytes: int | None = None
    elapsed_s: float | None = None
    warmup: Warmup | None = None
    before: Sensors | None = None
    after: Sensors | None = None
    other_load: float | None = None
    transfer_share: float | None = None

    @property
    def package_watts(self) -> float | None:
        """What the CPU packages took while it was measured; None where the machine does not tell, or wrongly."""
        ends = [None if each is None else each.package_joules for each in (self.before, self.after)]
        seconds = self.elapsed_s or sum(self.samples_s)
        if ends[0] is None or ends[1] is None or ends[1] < ends[0] or not seconds:
            return None
        return (ends[1] - ends[0]) / seconds

    def to_json(self) -> Json:
        """All but the samples, of which it has the number; what is not known is left out."""
        row: Json = {
            "samples": len(self.samples_s),
            "load_s": self.load_s,
            "build_s": self.build_s,
            "peak_memory_bytes": self.peak_memory_bytes,
            "session_memory_bytes": self.session_memory_bytes,
            "device_memory_bytes": self.device_memory_bytes,
            "elapsed_s": self.elapsed_s,
            "warmup": self.warmup and self.warmup.to_json(),
            "before": self.before and self.before.to_json(),
            "after": self.after and self.after.to_json(),
            "package_watts": self.package_watts,
            "other_load": self.other_load,
            "transfer_share": self.transfer_share,
        }
        return {name: value for name, value in row.items() if value is not None}

    @classmethod
    def from_json(cls, row: Json, samples_s: tuple[float, ...]) -> "Round":
        """Read one whose samples lie elsewhere. Raises ``RecordError``."""
        warmup, before, after = (take(row, name, dict, None) for name in ("warmup", "before", "after"))
        return cls(
            samples_s,
            number(row.get("load_s") or 0, "load_s"),
            count(row.get("peak_memory_bytes") or 0, "peak_memory_bytes"),
            number(row.get("build_s") or 0, "build_s"),
            optional_count(row, "session_memory_bytes"),
            optional_count(row, "device_memory_bytes"),
            optional_number(row, "elapsed_s"),
            None if warmup is None else Warmup.from_json(warmup),
            None if before is None else Sensors.from_json(before),
            None if after is None else Sensors.from_json(after),
            optional_number(row, "other_load"),
            optional_number(row, "transfer_share"),
        )

    @classmethod
    def from_answer(cls, answer: Json) -> "Round":
        """What ``worker`` answered."""
        nanoseconds = 1e9
        return cls.from_json(
            {
                **answer,
                "load_s": answer["load_ns"] / nanoseconds,
                "build_s": answer.get("build_ns", 0) / nanoseconds,
                "elapsed_s": answer["elapsed_ns"] / nanoseconds if "elapsed_ns" in answer else None,
            },
            tuple(sample / nanoseconds for sample in answer["samples_ns"]),
        )
