"""OpenVINO on the CPU, and on Intel's GPUs."""

from dataclasses import replace
from pathlib import Path

from cnnport.artifact import Artifact
from cnnport.errors import ArtifactError, RuntimeMissingError
from cnnport.runtimes.build import BuildError, Built, for_batch
from cnnport.runtimes.engine_file import engine_facts, misfit
from cnnport.runtimes.openvino import package
from cnnport.runtimes.openvino.blobs import SUFFIX, facts_of, open_network, write
from cnnport.runtimes.openvino.choices import NAME, SETTINGS, Choices, choose
from cnnport.runtimes.openvino.layers import placement_of
from cnnport.runtimes.openvino.network import FaultyFileError, Network, compile_network, read
from cnnport.runtimes.openvino.session import OpenVinoSession
from cnnport.runtimes.protocol import Options
from cnnport.runtimes.settings import Setting


class OpenVinoRuntime:
    """One device at a time, never two of them together, so that nothing falls back."""

    name = NAME
    settings: tuple[Setting, ...] = SETTINGS
    engine_suffix = SUFFIX

    def missing(self) -> str | None:
        """None where openvino imports and finds the CPU."""
        return package.missing()

    def version(self) -> str:
        """Of openvino, without the number of its build."""
        self._require()
        return f"openvino {package.load().get_version().partition('-')[0]}"

    def device(self) -> str:
        """The CPU, and the GPUs that a setting would choose."""
        self._require()
        cpu, *gpus = (package.full_name(name) for kind in ("CPU", "GPU") for name in package.devices(kind))
        return f"{cpu}; by --set device=GPU: {', '.join(gpus)}" if gpus else cpu

    def open(self, artifact: Artifact, options: Options) -> OpenVinoSession:
        """Load an ONNX file, or an engine that ``build`` wrote.

        Raises:
            RuntimeMissingError: If openvino or the device is not here.
            ArtifactError: If openvino cannot load the file, or it is another runtime's engine.
            OutputError: If a cache is wanted and cannot be written.
            CnnportError: If a setting is wrong, or openvino would do something else than was asked for.
        """
        artifact, network = self._network(artifact, options)
        return OpenVinoSession(artifact, network, reuse_memory=options.reuse_memory)

    def placement(self, artifact: Artifact, options: Options) -> dict[str, dict[str, int]]:
        """The layers that openvino runs, after fusion, by kind, with their type where it is not f32."""
        _, network = self._network(artifact, options)
        return {network.device: placement_of(network.layers)}

    def cannot_build(self) -> str | None:
        """As ``missing``."""
        return self.missing()

    def check(self, artifact: Artifact, options: Options) -> Built:
        """Compile and throw away; what goes wrong with the file is in the result.

        Raises:
            RuntimeMissingError: If openvino or the device is not here.
            ArtifactError: If the file is an engine already.
            CnnportError: If a setting is wrong, or openvino would do something else than was asked for.
        """
        choices = self._choices(artifact, options)
        artifact = for_batch(artifact, choices.batch)
        try:
            network = compile_network(artifact, read(artifact), choices)
        except FaultyFileError as error:
            fault = BuildError(error.node, error.cause)
            return Built(artifact.model, self.name, parsed=error.parsed, built=False, errors=(fault,))
        return self._built(artifact, network, choices)

    def build(self, artifact: Artifact, target: Path, options: Options) -> Built:
        """Compile into a file that ``open`` takes with this version of openvino on this kind of device.

        Raises:
            RuntimeMissingError: As ``check``.
            ArtifactError: If openvino cannot load or compile the file, or it is an engine already.
            OutputError: If the engine cannot be written.
            CnnportError: As ``check``.
        """
        choices = self._choices(artifact, options)
        artifact = for_batch(artifact, choices.batch)
        network = compile_network(artifact, read(artifact), choices)
        size = write(network, artifact, target, choices)
        return replace(self._built(artifact, network, choices), path=target, bytes=size)

    def _built(self, artifact: Artifact, network: Network, choices: Choices) -> Built:
        properties = {name: str(value) for name, value in choices.properties.items()}
        return Built(
            artifact.model,
            self.name,
            parsed=True,
            built=True,
            layers=network.layers,
            facts={**facts_of(choices), **properties},
        )

    def _choices(self, artifact: Artifact, options: Options) -> Choices:
        """What to build for. Raises as ``check``, and ``ArtifactError`` if there is nothing to build."""
        self._require()
        if engine := engine_facts(artifact):
            raise ArtifactError(
                f"{artifact.path} is an engine of {engine.runtime} already: build from the ONNX file"
            )
        return choose(options)

    def _network(self, artifact: Artifact, options: Options) -> tuple[Artifact, Network]:
        """The network, and the artifact with its batch settled if only one was asked for."""
        self._require()
        if reason := misfit(artifact, self.name):
            raise ArtifactError(reason)
        engine = engine_facts(artifact)
        if engine:
            options = replace(options, settings={**engine.settings, **options.settings})
        choices = choose(options)
        if engine and choices.settings.get("batch") != engine.settings.get("batch"):
            raise ArtifactError(
                f"{artifact.path} was built for another batch: leave out --set batch, or build again"
            )
        artifact = for_batch(artifact, choices.batch)
        return artifact, open_network(artifact, choices)

    def _require(self) -> None:
        if reason := self.missing():
            raise RuntimeMissingError(f"runtime {self.name} is not available: {reason}")
