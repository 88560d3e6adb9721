"""What is to be measured: one artifact on one runtime at one batch size with one number of threads."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType

from cnnport.artifact import Artifact, TensorSpec
from cnnport.errors import CnnportError
from cnnport.measuring.cpus import default_threads
from cnnport.measuring.record import Json, Skipped


@dataclass(frozen=True)
class Case:
    """One row of a benchmark.

    Attributes:
        artifact: The file.
        runtime: Name of a runtime, whether or not it is available.
        batch: Images per run.
        threads: Threads inside one run, and CPUs that the process is pinned to.
        settings: What is chosen of what the runtime offers, by name.
        device: Which of several devices.
        deterministic: As of ``Options``.
        concurrency: Requests in flight at once, in one process.
        transfers: Whether, on a GPU, copies of inputs and outputs are to be in the times.
    """

    artifact: Artifact
    runtime: str
    batch: int
    threads: int
    settings: Mapping[str, str] = field(default_factory=dict)
    device: int = 0
    deterministic: bool = False
    concurrency: int = 1
    transfers: bool = False

    @property
    def weights(self) -> str:
        """The kind of the weights, as the file says."""
        return self.artifact.metadata.get("cnnport.weights", "unknown")

    @property
    def stated_settings(self) -> Mapping[str, str]:
        """As a record states them: what tells this case from the same one without it."""
        return {**self.settings, **({"deterministic": "1"} if self.deterministic else {})}

    def misfit(self) -> str | None:
        """Why the file cannot be run at this batch size, in one line; None if it can."""
        # The package of the runtimes brings NumPy, which a worker must not import before it is pinned.
        from cnnport.runtimes.engine_file import misfit

        if reason := misfit(self.artifact, self.runtime):
            return reason
        for spec in self.artifact.inputs:
            try:
                size = spec.fixed(self.batch)[:1]
            except ValueError as error:
                return f"{error}: give the input's --shape, or export it with fixed sizes"
            if size not in {(), (self.batch,)}:
                return (
                    f"the file's batch is fixed at {size[0]}: export it with --batch {self.batch} or dynamic"
                )
        return None

    def skipped(self, reason: str, exit_code: int) -> Skipped:
        """The row that stands for this case when it is not measured."""
        return Skipped(
            model=self.artifact.model,
            runtime=self.runtime,
            reason=reason,
            precision=self.artifact.precision,
            batch=self.batch,
            threads=self.threads,
            weights=self.weights,
            exit_code=exit_code,
            settings=self.stated_settings,
            concurrency=self.concurrency,
        )

    @property
    def title(self) -> str:
        """The case in words, for messages."""
        return title(
            self.artifact.model,
            self.runtime,
            self.artifact.precision,
            self.batch,
            self.threads,
            self.concurrency,
        )

    @property
    def identity(self) -> Json:
        """What tells this case from others in a record, the file by its hash."""
        return {
            "model": self.artifact.model,
            "sha256": self.artifact.sha256,
            "runtime": self.runtime,
            "precision": self.artifact.precision,
            "batch": self.batch,
            "threads": self.threads,
            "settings": dict(self.stated_settings),
            "device": self.device,
            "concurrency": self.concurrency,
            "transfers": self.transfers,
        }


def make_cases(
    artifacts: Sequence[Artifact],
    runtimes: Sequence[str],
    batches: Sequence[int] | None = None,
    threads: Sequence[int] | None = None,
    *,
    settings: Mapping[str, Mapping[str, str]] | None = None,
    device: int = 0,
    deterministic: bool = False,
    concurrency: Sequence[int] = (1,),
    transfers: bool = False,
) -> tuple[Case, ...]:
    """Every artifact on every runtime at every batch size, number of threads and of requests, nested in that order.

    Args:
        artifacts: The files; sizes that they leave open become the native ones that they state.
        runtimes: Names of runtimes.
        batches: Batch sizes; without them, a file's own where it is fixed, and 1 where it is not.
        threads: Numbers of threads; without them, ``default_threads()``.
        settings: By runtime.
        device: Which of several devices.
        deterministic: As of ``Options``.
        concurrency: Numbers of requests in flight.
        transfers: As of ``Case``.

    Raises:
        CnnportError: If a batch size, or a number of threads or of requests, is less than 1.
    """
    # It brings NumPy, which whoever only reads records does not need.
    from cnnport.metadata import at_native_size

    threads = (default_threads(),) if threads is None else threads
    for name, numbers in (("batch", batches or ()), ("threads", threads), ("concurrency", concurrency)):
        if wrong := [number for number in numbers if number < 1]:
            raise CnnportError(f"{name} must be at least 1, not {wrong[0]}")
    return tuple(
        Case(
            artifact,
            runtime,
            batch,
            count,
            (settings or {}).get(runtime, {}),
            device,
            deterministic,
            requests,
            transfers,
        )
        for artifact in map(at_native_size, artifacts)
        for runtime in runtimes
        for batch in (_own_batch(artifact),) * (batches is None) + tuple(batches or ())
        for count in threads
        for requests in concurrency
    )


def title(model: str, runtime: str, precision: str, batch: int, threads: int, concurrency: int = 1) -> str:
    """A case in words, for messages."""
    requests = f", concurrency {concurrency}" if concurrency > 1 else ""
    return f"{model} on {runtime} ({precision}, batch {batch}, threads {threads}{requests})"


def artifact_to_json(artifact: Artifact) -> Json:
    """The artifact for another process, so that it need not parse the file before the runtime does."""
    return {
        "path": str(artifact.path),
        "sha256": artifact.sha256,
        "model": artifact.model,
        "opset": artifact.opset,
        "precision": artifact.precision,
        "target": artifact.target,
        "inputs": [asdict(spec) for spec in artifact.inputs],
        "outputs": [asdict(spec) for spec in artifact.outputs],
        "metadata": dict(artifact.metadata),
    }


def artifact_from_json(row: Json) -> Artifact:
    """The other end of ``artifact_to_json``."""
    return Artifact(
        path=Path(row["path"]),
        sha256=row["sha256"],
        model=row["model"],
        opset=row["opset"],
        precision=row["precision"],
        target=row["target"],
        inputs=_specs(row["inputs"]),
        outputs=_specs(row["outputs"]),
        metadata=MappingProxyType(row["metadata"]),
    )


def _specs(rows: list[Json]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(row["name"], row["dtype"], tuple(row["shape"])) for row in rows)


def _own_batch(artifact: Artifact) -> int:
    for spec in artifact.inputs:
        if spec.shape and isinstance(spec.shape[0], int):
            return spec.shape[0]
    return 1
