"""The runtimes ``trt`` and ``trt-rtx``."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from cnnport.artifact import Artifact
from cnnport.errors import ArtifactError, CnnportError, RuntimeMissingError
from cnnport.onnxfile import load_model
from cnnport.runtimes.build import Built
from cnnport.runtimes.cuda import Gpu
from cnnport.runtimes.driver import Device, Driver, driver
from cnnport.runtimes.engine_file import EngineFacts, engine_facts, misfit, read_engine, write_engine
from cnnport.runtimes.protocol import Options
from cnnport.runtimes.settings import Setting, settle
from cnnport.runtimes.trt.engine import Engine
from cnnport.runtimes.trt.making import Made, Maker
from cnnport.runtimes.trt.package import RTX, TENSORRT, Package
from cnnport.runtimes.trt.session import TensorRtSession
from cnnport.runtimes.trt.wishes import OF_A_SESSION, RTX_SETTINGS, TRT_SETTINGS, Wishes, read_wishes


class TensorRtRuntime:
    """TensorRT or TensorRT-RTX on one GPU; both are told apart by their package alone."""

    engine_suffix = ".plan"

    def __init__(self, name: str, package: Package) -> None:
        self.name = name
        self.settings: tuple[Setting, ...] = RTX_SETTINGS if package.rtx else TRT_SETTINGS
        self._package = package

    @classmethod
    def trt(cls) -> "TensorRtRuntime":
        """TensorRT 10.12 and later, and 11."""
        return cls("trt", TENSORRT)

    @classmethod
    def rtx(cls) -> "TensorRtRuntime":
        """TensorRT for RTX, which builds without a GPU too."""
        return cls("trt-rtx", RTX)

    def missing(self) -> str | None:
        """Why it cannot run here: no package, no driver, one that is too old, a package that does not import."""
        found = self._usable(0)
        return found if isinstance(found, str) else None

    def cannot_build(self) -> str | None:
        """Why it cannot build here; RTX needs no GPU for that."""
        return self._package.fault() if self._package.rtx else self.missing()

    def version(self) -> str:
        """Of the package. Raises ``RuntimeMissingError``."""
        self._require(0)
        return f"{self._package.module} {self._package.version()}"

    def device(self) -> str:
        """The first GPU. Raises ``RuntimeMissingError``."""
        return str(self._require(0))

    def open(self, artifact: Artifact, options: Options) -> TensorRtSession:
        """Build or take from the cache what an ONNX file becomes, or take an engine file, and bring it to the GPU.

        ``optimize=False`` builds at the lowest level, for TensorRT cannot leave a graph as it is; memory is always
        kept from run to run. Raises ``RuntimeMissingError``, ``ArtifactError`` and ``CnnportError``.
        """
        device = self._require(options.device)
        job = self._job(artifact, options)
        gpu = Gpu(device.index)
        try:
            maker = Maker(self._package, device, options.threads)
            data = self._engine_of(maker, job)
            engine = Engine(self._package, data, str(artifact.path), hosted=_is_hosted(job))
            try:
                keep = self._package.rtx and job.wishes.cache
                kernels = maker.kernel_slot(job.artifact, data) if keep else None
                return TensorRtSession(job.artifact, gpu, engine, job.wishes, kernels)
            except BaseException:
                engine.close()
                raise
        except BaseException:
            gpu.close()
            raise

    def placement(self, artifact: Artifact, options: Options) -> dict[str, dict[str, int]]:
        """The file's operators: all of them on the GPU, or the file does not load. Of an engine its layers, by kind.

        Raises as ``open``.
        """
        device = self._require(options.device)
        with self.open(artifact, options) as session:
            if engine_facts(artifact) is not None:
                kinds = Counter(layer.kind for layer in session.engine.layers())
                return {device.name: dict(sorted(kinds.items()))}
        nodes = load_model(artifact.path, external_data=False).graph.node
        return {device.name: dict(sorted(Counter(node.op_type for node in nodes).items()))}

    def check(self, artifact: Artifact, options: Options) -> Built:
        """Build and throw away. Raises ``RuntimeMissingError`` and ``CnnportError``."""
        job, _, made = self._make(artifact, options, fresh=True)
        return self._built(job.artifact, made)

    def build(self, artifact: Artifact, target: Path, options: Options) -> Built:
        """Build into a file. Raises as ``check``, and ``ArtifactError`` and ``OutputError``."""
        job, maker, made = self._make(artifact, options, fresh=False)
        data = made.bytes_or_raise(self._package, artifact)
        settings = settle(self.name, self.settings, job.settings).values
        stated = {name: value for name, value in settings.items() if value}
        facts = {**maker.place, "structure": made.structure}
        write_engine(target, data, job.artifact, EngineFacts(self.name, artifact.sha256, stated, facts))
        return self._built(job.artifact, made, target, facts)

    def _job(self, artifact: Artifact, options: Options) -> "_Job":
        """What is asked for. Raises ``ArtifactError`` if an engine was named that is none of this runtime."""
        source, settings = None, dict(options.settings)
        if named := settings.get("refit_from"):
            source = self._source(Path(named))
            facts = engine_facts(source)
            assert facts is not None
            settings = {**facts.settings, **settings}
        wishes = read_wishes(self.name, self.settings, artifact, replace(options, settings=settings))
        # An engine says itself which of its sizes are open.
        settled = artifact if engine_facts(artifact) else wishes.settled(artifact)
        return _Job(settled, wishes, settings, options.settings, source)

    def _make(self, artifact: Artifact, options: Options, *, fresh: bool) -> "tuple[_Job, Maker, Made]":
        if reason := self.cannot_build():
            raise RuntimeMissingError(f"runtime {self.name} cannot build here: {reason}")
        if engine_facts(artifact) is not None:
            raise ArtifactError(f"{artifact.path} is an engine already: build from the .onnx file")
        job = self._job(artifact, options)
        found = self._usable(options.device)
        if isinstance(found, str):
            if not self._package.rtx or job.source or job.wishes.refit:
                raise RuntimeMissingError(f"runtime {self.name} needs a GPU for this: {found}")
            maker = Maker(self._package, None, options.threads)
            return job, maker, (maker.built if fresh else maker.make)(job.artifact, job.wishes)
        gpu = Gpu(found.index)
        try:
            maker = Maker(self._package, found, options.threads)
            if fresh:
                return job, maker, maker.built(job.artifact, job.wishes)
            return job, maker, self._made(maker, job)
        finally:
            gpu.close()

    def _made(self, maker: Maker, job: "_Job") -> Made:
        if job.source is not None:
            given = {name: value for name, value in job.given.items() if name != "refit_from"}
            self._check_engine(job.source, maker, given)
        return maker.make(job.artifact, job.wishes, job.source)

    def _engine_of(self, maker: Maker, job: "_Job") -> bytes:
        artifact = job.artifact
        if engine_facts(artifact) is None:
            return self._made(maker, job).bytes_or_raise(self._package, artifact)
        self._check_engine(artifact, maker, job.given)
        try:
            return artifact.path.read_bytes()
        except OSError as error:
            raise ArtifactError(f"cannot read {artifact.path}: {error.strerror or error}") from error

    def _source(self, path: Path) -> Artifact:
        """An engine whose weights are to be replaced. Raises ``ArtifactError``."""
        if path.suffix != self.engine_suffix:
            raise ArtifactError(
                f"setting refit_from takes an engine, a {self.engine_suffix} file, and not {path}"
            )
        source = read_engine(path)
        if reason := misfit(source, self.name):
            raise ArtifactError(reason)
        return source

    def _check_engine(self, artifact: Artifact, maker: Maker, given: Mapping[str, str]) -> None:
        """Whether an engine is one for here and as it is asked for. Raises ``ArtifactError`` and ``CnnportError``."""
        facts = engine_facts(artifact)
        assert facts is not None
        if reason := misfit(artifact, self.name):
            raise ArtifactError(reason)
        if reason := _foreign(facts, maker):
            raise ArtifactError(f"{artifact.path} {reason}: build it again from the .onnx file")
        for name, value in given.items():
            if name not in OF_A_SESSION and value != facts.settings.get(name, ""):
                own = facts.settings.get(name) or "none"
                raise CnnportError(
                    f"{artifact.path} was built with {name}={own}: {name}={value} needs a build"
                )

    def _built(
        self, artifact: Artifact, made: Made, path: Path | None = None, facts: dict[str, str] | None = None
    ) -> Built:
        return Built(
            model=artifact.model,
            runtime=self.name,
            parsed=made.parsed,
            built=made.data is not None,
            layers=made.layers,
            errors=made.errors,
            warnings=made.warnings,
            path=path,
            bytes=len(made.data or b""),
            facts=facts or {},
        )

    def _require(self, index: int) -> Device:
        found = self._usable(index)
        if isinstance(found, str):
            raise RuntimeMissingError(f"runtime {self.name} is not available: {found}")
        return found

    def _usable(self, index: int) -> Device | str:
        """The device of a number, or why it cannot be used."""
        # The driver comes first: without one, parts of TensorRT end the process.
        found: Driver | str = driver()
        if find_spec(self._package.module) is None:
            missing = str(self._package.fault())
            return missing if isinstance(found, Driver) else f"{missing}; and {found}"
        if isinstance(found, str):
            return found
        if reason := self._package.fault() or self._package.unfit(found, index):
            return reason
        return found.devices[index]


@dataclass(frozen=True)
class _Job:
    """What is to be built or opened.

    Attributes:
        artifact: The file, with those sizes settled of which the engine takes one alone.
        wishes: How.
        settings: That the wishes came from: those given, behind those of the engine that gets new weights.
        given: What the user said.
        source: The engine that gets new weights, if one was named.
    """

    artifact: Artifact
    wishes: Wishes
    settings: Mapping[str, str]
    given: Mapping[str, str]
    source: Artifact | None = None


def _is_hosted(job: _Job) -> bool:
    """Whether an engine is stated to be for later releases, which brings code of its own for the CPU."""
    facts = engine_facts(job.artifact)
    return facts.settings.get("version_compatible") == "1" if facts else job.wishes.version_compatible


def _foreign(facts: EngineFacts, maker: Maker) -> str | None:
    """Why an engine does not run here, as far as its sidecar tells; None if it may."""
    built, here = dict(facts.facts), maker.place
    if built.get("version") != here["version"] and not _serves(facts, here["version"]):
        return f"was built by {built.get('package')} {built.get('version')}, here is {here['version']}"
    # RTX builds for families of GPUs and compiles the rest on the device; it knows best what it can run.
    portable = maker.package.rtx or facts.settings.get("hardware") == "ampere_plus"
    if built.get("compute") != here.get("compute") and not portable:
        return f"was built for compute capability {built.get('compute')}, this GPU has {here.get('compute')}"
    return None


def _serves(facts: EngineFacts, version: str) -> bool:
    """Whether an engine was built for later releases, and this is one."""
    built = facts.facts.get("version", "")
    if (
        facts.settings.get("version_compatible") != "1"
        or built.split(".")[0] != version.split(".", maxsplit=1)[0]
    ):
        return False
    return [int(part) for part in version.split(".")[:3]] >= [int(part) for part in built.split(".")[:3]]
