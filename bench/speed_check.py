"""The speed contract at work: a file in 8 bits is measured before it is put in place, and refused if too slow."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from cnnport.errors import CheckFailedError, RuntimeMissingError
from cnnport.measuring.cpus import default_threads
from cnnport.measuring.paired import measure_in_turn
from cnnport.measuring.speed_contract import Speed, settings_of, speed
from cnnport.onnxfile import read_artifact
from cnnport.runtimes import get_runtime

# TensorRT's files are for a GPU, of which the times are taken by ``cnnport bench`` where there is one.
_RUNTIMES = {"ort": "ort-cpu", "openvino": "openvino"}

# Of the candidates that were tried: there may be a dozen.
_ROUNDS = 3
_DURATION_S = 0.5


class SpeedCheck:
    """What ``quantize_file`` calls with its files before it puts one in place.

    Attributes:
        speed: What was found; None until then, and where nothing is measured.
        latencies_ms: Of the float file and of every candidate, in turn; empty unless they were asked for.
        missing: Why nothing can be measured here; None where it can.
    """

    def __init__(
        self,
        target: str,
        *,
        required: float | None = None,
        is_wanted: bool = True,
        candidates: bool = False,
        threads: int | None = None,
    ) -> None:
        """Look whether the target's runtime is here.

        Args:
            target: For whom files are written.
            required: How many times as fast as float32 a file has to be; None if that does not matter.
            is_wanted: Whether it is measured where nothing is required.
            candidates: Whether everything that was tried is measured too.
            threads: Inside one run; None for all CPUs.

        Raises:
            RuntimeMissingError: If something is required that cannot be measured here.
        """
        self.speed: Speed | None = None
        self.latencies_ms: tuple[float, ...] = ()
        self._required, self._candidates = required, candidates
        self._threads = default_threads() if threads is None else threads
        self._runtime = _RUNTIMES.get(target)
        self.missing = (
            f"files for {target} run on its GPU: cnnport bench measures them there"
            if self._runtime is None
            else get_runtime(self._runtime).missing()
        )
        if required is not None and self.missing:
            raise RuntimeMissingError(f"--require-speedup cannot be measured here: {self.missing}")
        self._is_wanted = (is_wanted or required is not None) and not self.missing

    def __call__(self, floats: Path, written: Path, candidates: Sequence[Path]) -> None:
        """Measure.

        Args:
            floats: The float file, with the passes of the target.
            written: The file in 8 bits.
            candidates: Everything that was tried.

        Raises:
            CheckFailedError: If the file is not as fast as required, or a process fails.
        """
        if not self._is_wanted:
            return
        assert self._runtime is not None
        batch = _batch_of(floats)
        self.speed = speed(
            floats,
            written,
            runtime=self._runtime,
            batch=batch,
            threads=self._threads,
            wanted=self._required or 1.0,
        )
        if self._required is not None and not self.speed.is_kept:
            raise CheckFailedError(
                f"--require-speedup {self._required:g} is not reached, nothing was written\n{self.speed}"
            )
        if self._candidates:
            turns_s = measure_in_turn(
                [read_artifact(path) for path in (floats, *candidates)],
                batch=batch,
                threads=self._threads,
                rounds=_ROUNDS,
                duration_s=_DURATION_S,
                runtimes=[self._runtime] * (1 + len(candidates)),
                settings=settings_of(batch),
            )
            self.latencies_ms = tuple(median(each) * 1e3 for each in turns_s)


def _batch_of(path: Path) -> int:
    """The batch that a file takes: its own, or one."""
    first = read_artifact(path).inputs[0].shape[:1]
    return first[0] if first and isinstance(first[0], int) else 1
