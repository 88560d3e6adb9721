"""The runtimes ``trt`` and ``trt-rtx``."""

from collections import Counter
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from cnnport.artifact import Artifact
from cnnport.errors import ArtifactError, CnnportError, RuntimeMissingError
from cnnport.onnxfile import load_model
from cnnport.runtimes.build import Built
from cnnport.runtimes.cuda import Gpu
from cnnport.runtimes.driver import Device, Driver, driver
from cnnport.runtimes.engine_file import EngineFacts, engine_facts, misfit, write_engine
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
        wishes = read_wishes(self.name, self.settings, artifact, options)
        gpu = Gpu(device.index)
        try:
            maker = Maker(self._package, device, options.threads)
            data = self._engine_of(maker, artifact, wishes, options.settings)
            engine = Engine(self._package, data, str(artifact.path))
            try:
                kernels = maker.kernel_slot(artifact, data) if self._package.rtx and wishes.cache else None
                return TensorRtSession(artifact, gpu, engine, wishes, kernels)
            except BaseException:
                engine.close()
                raise
        except BaseException:
            gpu.close()
            raise

    def placement(self, artifact: Artifact) -> dict[str, dict[str, int]]:
        """The file's operators: all of them on the GPU, or the file does not load. Raises as ``open``."""
        device = self._require(0)
        if engine_facts(artifact) is not None:
            raise ArtifactError(
                f"{artifact.path} is an engine: its operators are those of the file that it came from"
            )
        with self.open(artifact, Options()):
            pass
        nodes = load_model(artifact.path, external_data=False).graph.node
        return {device.name: dict(sorted(Counter(node.op_type for node in nodes).items()))}

    def check(self, artifact: Artifact, options: Options) -> Built:
        """Build and throw away. Raises ``RuntimeMissingError`` and ``CnnportError``."""
        _, made = self._make(artifact, options, fresh=True)
        return self._built(artifact, made)

    def build(self, artifact: Artifact, target: Path, options: Options) -> Built:
        """Build into a file. Raises as ``check``, and ``ArtifactError`` and ``OutputError``."""
        maker, made = self._make(artifact, options, fresh=False)
        data = made.bytes_or_raise(self._package, artifact)
        settings = settle(self.name, self.settings, options.settings).values
        facts = {**maker.place, "structure": made.structure}
        stated = {name: value for name, value in settings.items() if value}
        write_engine(target, data, artifact, EngineFacts(self.name, artifact.sha256, stated, facts))
        return self._built(artifact, made, target, facts)

    def _make(self, artifact: Artifact, options: Options, *, fresh: bool) -> tuple[Maker, Made]:
        if reason := self.cannot_build():
            raise RuntimeMissingError(f"runtime {self.name} cannot build here: {reason}")
        if engine_facts(artifact) is not None:
            raise ArtifactError(f"{artifact.path} is an engine already: build from the .onnx file")
        wishes = read_wishes(self.name, self.settings, artifact, options)
        found = self._usable(options.device)
        if isinstance(found, str):
            if not self._package.rtx or wishes.refit_from or wishes.refit:
                raise RuntimeMissingError(f"runtime {self.name} needs a GPU for this: {found}")
            maker = Maker(self._package, None, options.threads)
            return maker, (maker.built if fresh else maker.make)(artifact, wishes)
        gpu = Gpu(found.index)
        try:
            maker = Maker(self._package, found, options.threads)
            return maker, (maker.built if fresh else maker.make)(artifact, wishes)
        finally:
            gpu.close()

    def _engine_of(self, maker: Maker, artifact: Artifact, wishes: Wishes, given: Mapping[str, str]) -> bytes:
        facts = engine_facts(artifact)
        if facts is None:
            return maker.make(artifact, wishes).bytes_or_raise(self._package, artifact)
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
        try:
            return artifact.path.read_bytes()
        except OSError as error:
            raise ArtifactError(f"cannot read {artifact.path}: {error.strerror or error}") from error

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
        if find_spec(self._package.module) is None:
            return str(self._package.fault())
        # The driver comes first: without one, parts of TensorRT end the process.
        found: Driver | str = driver()
        if isinstance(found, str):
            return found
        if reason := self._package.fault() or self._package.unfit(found, index):
            return reason
        return found.devices[index]


def _foreign(facts: EngineFacts, maker: Maker) -> str | None:
    """Why an engine does not run here, as far as its sidecar tells; None if it may."""
    built, here = dict(facts.facts), maker.place
    if built.get("version") != here["version"] and not _serves(facts, here["version"]):
        return f"was built by {built.get('package')} {built.get('version')}, here is {here['version']}"
    # RTX builds for families of GPUs and compiles the rest on the device; it knows best what it can run.
    portable = maker.package.rtx or facts.settings.get("hardware", "none") != "none"
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
