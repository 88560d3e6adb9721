"""Compiled networks as files: engines that the user asked for, and a cache of them.

Openvino takes one of which a bit has flipped, and computes something else. So each is kept with its hash, which is
compared before openvino sees it.
"""

import hashlib
import io
from pathlib import Path

from cnnport.artifact import Artifact
from cnnport.errors import ArtifactError
from cnnport.files import sha256_of
from cnnport.onnxfile import data_files, load_model
from cnnport.runtimes.engine_cache import Slot, engines_folder
from cnnport.runtimes.engine_file import EngineFacts, engine_facts, write_engine
from cnnport.runtimes.openvino import package
from cnnport.runtimes.openvino.choices import NAME, Choices
from cnnport.runtimes.openvino.network import FaultyFileError, Network, bring_back, compile_network, read

SUFFIX = ".blob"

# What a sidecar or an entry of the cache calls the network without its weights.
_SIZES = "sizes"


def open_network(artifact: Artifact, choices: Choices) -> Network:
    """The network of an ONNX file or of an engine.

    Raises:
        ArtifactError: If the file cannot be used.
        OutputError: If the cache cannot be written.
        CnnportError: If openvino does not do what was asked for.
    """
    engine = engine_facts(artifact)
    if engine is not None:
        return _engine(artifact, engine.facts.get(_SIZES, ""), choices)
    if choices.cache:
        return _cached(artifact, choices)
    return compile_network(artifact, read(artifact), choices)


def write(network: Network, artifact: Artifact, target: Path, choices: Choices) -> int:
    """Write a network as an engine file with its sidecar. Gives its bytes. Raises ``OutputError``."""
    data = _exported(network)
    facts = {**facts_of(choices), _SIZES: network.sizes_text}
    engine = EngineFacts(NAME, artifact.sha256, choices.settings, facts)
    write_engine(target, data, artifact, engine)
    return len(data)


def facts_of(choices: Choices) -> dict[str, str]:
    """What decides where a compiled network runs."""
    return {
        "version": package.load().get_version(),
        "device": choices.device,
        "device_name": package.full_name(choices.device),
    }


def _engine(artifact: Artifact, sizes: str, choices: Choices) -> Network:
    try:
        data = artifact.path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"cannot read {artifact.path}: {error.strerror or error}") from error
    if hashlib.sha256(data).hexdigest() != artifact.sha256:
        raise ArtifactError(f"{artifact.path} is damaged or has changed: build it again")
    return bring_back(artifact, data, sizes, choices)


def _exported(network: Network) -> bytes:
    stream = io.BytesIO()
    network.compiled.export_model(stream)
    return stream.getvalue()


def _cached(artifact: Artifact, choices: Choices) -> Network:
    slot = Slot(engines_folder(), artifact.path.stem[:100], _key(artifact, choices), f".{NAME}")
    network = _kept(slot, artifact, choices)
    if network is not None:
        return network
    with slot.held():
        # Another process may have made it meanwhile.
        network = _kept(slot, artifact, choices)
        if network is None:
            network = compile_network(artifact, read(artifact), choices)
            slot.write(_exported(network), {_SIZES: network.sizes_text})
    return network


def _kept(slot: Slot, artifact: Artifact, choices: Choices) -> Network | None:
    """The network of an entry; None if there is none that is whole, or openvino does not take it."""
    entry = slot.read()
    if entry is None:
        return None
    try:
        return bring_back(artifact, entry.data, entry.notes.get(_SIZES, ""), choices)
    except FaultyFileError:
        return None


def _key(artifact: Artifact, choices: Choices) -> dict[str, str]:
    """Everything that decides what comes of compiling.

    Raises:
        ArtifactError: If the file is not the one that the artifact describes.
    """
    folder = artifact.path.parent
    try:
        sha256 = sha256_of(artifact.path)
        apart = sorted(data_files(load_model(artifact.path, external_data=False)))
        weights = [sha256_of(folder / name) for name in apart]
    except OSError as error:
        raise ArtifactError(f"cannot read {artifact.path} and its data: {error.strerror or error}") from error
    if sha256 != artifact.sha256:
        raise ArtifactError(f"{artifact.path} has changed since it was read")
    return {
        "runtime": NAME,
        "sha256": sha256,
        "data": " ".join(weights),
        "inputs": ", ".join(map(str, artifact.inputs)),
        **{name: str(value) for name, value in choices.properties.items()},
        **facts_of(choices),
    }
