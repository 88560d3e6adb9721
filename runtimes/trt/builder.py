"""From an ONNX file to a serialized engine, strongly typed, by one sequence of calls for every release.

Nothing tells the builder a precision: types are those of the file, and what the builder must not do on its own (TF32
in place of float32) is switched off. Flags that went away with TensorRT 11 are never touched.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cnnport.artifact import Artifact
from cnnport.errors import ArtifactError, CnnportError
from cnnport.onnxfile import load_model
from cnnport.runtimes.build import BuildError, Layer
from cnnport.runtimes.trt import api
from cnnport.runtimes.trt.inspector import read_listing
from cnnport.runtimes.trt.messages import Log, build_errors, clean, logger_of, parse_errors
from cnnport.runtimes.trt.package import Api, Package
from cnnport.runtimes.trt.wishes import Wishes

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Outcome:
    """What came of a build.

    Attributes:
        parsed: Whether TensorRT understood the file.
        data: The serialized engine; None if there is none.
        layers: As the builder lists them; empty where it lists none.
        errors: Why there is no engine.
        warnings: What the builder warned of, if there is one.
        learnt: The timing cache after the build, serialized; empty where the package has none.
        model: The ONNX file without its weights; None if it cannot be read.
    """

    parsed: bool
    data: bytes | None = None
    layers: tuple[Layer, ...] = ()
    errors: tuple[BuildError, ...] = ()
    warnings: tuple[str, ...] = ()
    learnt: bytes = b""
    model: "onnx.ModelProto | None" = field(default=None, repr=False)


def build(
    package: Package, artifact: Artifact, wishes: Wishes, *, learnt: bytes = b"", threads: int | None = None
) -> Outcome:
    """Parse and build.

    Args:
        package: Which of the two; it must be usable.
        artifact: An ONNX file.
        wishes: How.
        learnt: A timing cache of an earlier build on the same device; one that does not fit is passed over.
        threads: Of the builder; None leaves it to it.

    Raises:
        CnnportError: If a dynamic size is stated nowhere, or a compute capability is not served.
    """
    trt, log = package.load(), Log()
    logger = logger_of(trt, log)
    try:
        model = load_model(artifact.path, external_data=False)
    except ArtifactError as error:
        return Outcome(False, errors=(BuildError("", str(error)),))
    nodes = list(model.graph.node)

    builder = trt.Builder(logger)
    if not builder:
        return Outcome(False, errors=(BuildError("", log.reason("TensorRT makes no builder")),), model=model)
    if threads is not None:
        builder.max_threads = threads
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(artifact.path)):
        errors = parse_errors(parser, nodes) or build_errors(log.errors, nodes)
        return Outcome(False, errors=errors, model=model)

    config = builder.create_builder_config()
    _configure(trt, config, wishes)
    if package.rtx:
        _choose_devices(package, trt, config, wishes)
    if errors := _add_profiles(builder, network, config, artifact, wishes, log):
        return Outcome(True, errors=errors, model=model)
    timing = None if package.rtx else _give_timing(config, learnt)
    data = builder.build_serialized_network(network, config)
    if data is None:
        return Outcome(True, errors=build_errors(log.errors, nodes), model=model)
    return Outcome(
        parsed=True,
        data=bytes(data),
        layers=read_listing(log.listing),
        warnings=tuple(dict.fromkeys(map(clean, log.warnings))),
        learnt=bytes(timing.serialize()) if timing is not None else b"",
        model=model,
    )


def _configure(trt: Api, config: api.IBuilderConfig, wishes: Wishes) -> None:
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    for flag, wanted in (
        (trt.BuilderFlag.TF32, wishes.tf32),
        (trt.BuilderFlag.REFIT, wishes.refit),
        (trt.BuilderFlag.VERSION_COMPATIBLE, wishes.version_compatible),
    ):
        (config.set_flag if wanted else config.clear_flag)(flag)
    if wishes.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, wishes.workspace_bytes)
    if wishes.level is not None:
        config.builder_optimization_level = wishes.level
    if wishes.hardware != "none":
        levels = trt.HardwareCompatibilityLevel
        config.hardware_compatibility_level = (
            levels.AMPERE_PLUS if wishes.hardware == "ampere_plus" else levels.SAME_COMPUTE_CAPABILITY
        )


def _choose_devices(package: Package, trt: Api, config: api.IBuilderConfig, wishes: Wishes) -> None:
    """Tell RTX which GPUs the engine is for; without a word it takes all from Ampere on."""
    served = package.computes()
    if wrong := [each for each in wishes.computes if each not in served]:
        raise CnnportError(
            f"{package.title} builds nothing for compute capability {wrong[0]}: it knows {', '.join(served)}"
        )
    if wishes.computes:
        config.num_compute_capabilities = len(wishes.computes)
        for index, each in enumerate(wishes.computes):
            config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{each.replace('.', '')}"), index)


def _add_profiles(
    builder: api.Builder,
    network: api.INetworkDefinition,
    config: api.IBuilderConfig,
    artifact: Artifact,
    wishes: Wishes,
    log: Log,
) -> tuple[BuildError, ...]:
    """One optimisation profile for each range of batches; none for a file of fixed sizes."""
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    dynamic = {tensor.name for tensor in inputs if any(size < 0 for size in tensor.shape)}
    specs = [spec for spec in artifact.inputs if spec.name in dynamic]
    for batch in wishes.batches if specs else ():
        profile = builder.create_optimization_profile()
        for spec in specs:
            profile.set_shape(spec.name, *wishes.shapes(spec, batch))
        if config.add_optimization_profile(profile) < 0:
            return (BuildError("", log.reason("TensorRT refuses the range of shapes")),)
    return ()


def _give_timing(config: api.IBuilderConfig, learnt: bytes) -> api.ITimingCache | None:
    """Give the builder what earlier builds learnt, or an empty cache where that does not fit this device."""
    for data in (learnt, b""):
        timing = config.create_timing_cache(data)
        if timing is not None and config.set_timing_cache(timing, False):
            return timing
    return None
