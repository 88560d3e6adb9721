"""``cnnport info``: all facts of a network, or of a file."""

import json as jsonlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnnport.cli import console
from cnnport.cli.listing import describe_weights
from cnnport.cli.options import (
    Device,
    Json,
    Model,
    Settings,
    artifact_for,
    complete_runtime,
    options_for,
)
from cnnport.errors import CnnportError

if TYPE_CHECKING:
    from cnnport.artifact import Artifact
    from cnnport.registry import ModelSpec
    from cnnport.runtimes import Options

# Of a text that is for people; what is longer is for programs.
_LONG = 1000


def info(
    model: Model,
    runtime: Annotated[
        str | None,
        typer.Option(
            "--runtime", metavar="R", help="Also where it runs each node.", autocompletion=complete_runtime
        ),
    ] = None,
    settings: Settings = None,
    device: Device = 0,
    json: Json = False,
) -> None:
    """Show all facts of a network, file or engine: metadata, inputs, outputs, operators, node placement."""
    from cnnport.runtimes.engine_file import is_engine

    place = _place(runtime, settings, device)
    if model.endswith(".onnx") or is_engine(model) or place is not None:
        with console.progress() as progress:
            artifact = artifact_for(model, progress)
        facts = _of_engine(artifact) if is_engine(model) else _of_file(artifact)
        if place is not None:
            facts |= place(artifact)
    elif ":" in model:
        facts = _of_callable(model)
    else:
        from cnnport import registry

        facts = _of_network(registry.get(model))
    if json:
        console.print_json(facts)
    else:
        _print(facts)


def _place(
    runtime: str | None, settings: list[str] | None, device: int
) -> "Callable[[Artifact], dict[str, Any]] | None":
    """What tells where a runtime places nodes; checked before the export that it may take to have a file."""
    if runtime is None:
        if settings or device:
            raise CnnportError("--set and --device are for the runtime that places nodes: add --runtime")
        return None
    from cnnport.runtimes import require_runtime

    require_runtime(runtime)
    return partial(_placement, runtime, options_for(runtime, settings, device=device))


def _of_network(spec: "ModelSpec") -> dict[str, Any]:
    from cnnport.documents import documented

    facts: dict[str, Any] = {
        "name": spec.name,
        "family": spec.family,
        "aliases": list(spec.aliases),
        "paper": str(spec.paper),
        "inputs": [f"{name}:{'x'.join(map(str, spec.input_shape))}" for name in spec.input_names],
        "output": list(spec.output_shape),
        "classes": spec.classes,
        "params": spec.params,
        "params_with_aux": spec.params_with_aux,
        "macs": spec.macs,
        "weights": describe_weights(spec),
        "weights_location": spec.weights.location if spec.weights else None,
        "weights_note": spec.weights.note if spec.weights else None,
        "preprocess": spec.preprocess.to_json() if spec.preprocess else None,
        "labels": spec.labels,
    }
    if known := documented(spec.name):
        facts |= {
            "documents": list(known.documents),
            "statement": known.statement,
            "notes": known.notes or None,
            "published_params": known.published_params or None,
            "published_accuracy": known.published_accuracy or None,
            "corrections": [str(correction) for correction in known.corrections],
        }
    return facts


def _of_callable(model: str) -> dict[str, Any]:
    """What counting tells of a network from outside the zoo, and what its library states of it."""
    from cnnport.count import count
    from cnnport.source import find_source

    source = find_source(model)
    counted = count(source.build(None, None), [source.input_shape])
    facts: dict[str, Any] = {
        "name": source.name,
        "input": list(source.input_shape),
        "params": counted.params,
        "macs": counted.macs,
        "output": list(counted.output_shape),
    }
    if len(counted.output_shapes) > 1:
        facts["outputs"] = [list(shape) for shape in counted.output_shapes]
    if source.spec is not None:
        weights = source.spec.weights
        facts |= {
            "weights_location": weights.location if weights else None,
            "preprocess": source.preprocess.to_json() if source.preprocess else None,
            "labels": f"{len(source.labels)} class names" if source.labels else None,
        }
    return facts


def _of_file(artifact: "Artifact") -> dict[str, Any]:
    from cnnport.graphs import count_ops
    from cnnport.onnxfile import load_model

    graph = load_model(artifact.path, external_data=False)
    ops = count_ops(graph)
    return {
        **_identity(artifact),
        "ir_version": graph.ir_version,
        "producer": f"{graph.producer_name} {graph.producer_version}".strip(),
        "nodes": sum(ops.values()),
        "ops": ops,
        "metadata": _readable(artifact.metadata),
    }


def _of_engine(artifact: "Artifact") -> dict[str, Any]:
    """What stands beside an engine; the runtime that built it is not needed for that."""
    from cnnport.runtimes.engine_file import engine_facts, metadata_of_source

    engine = engine_facts(artifact)
    assert engine is not None
    return {
        **_identity(artifact),
        "engine": {"runtime": engine.runtime, **_readable(engine.facts)},
        "settings": dict(engine.settings),
        "built_from": {"sha256": engine.source_sha256},
        "metadata": _readable(metadata_of_source(artifact)),
    }


def _identity(artifact: "Artifact") -> dict[str, Any]:
    return {
        "file": str(artifact.path),
        "bytes": artifact.path.stat().st_size,
        "sha256": artifact.sha256,
        "model": artifact.model,
        "opset": artifact.opset,
        "precision": artifact.precision,
        "target": artifact.target,
        "inputs": [str(spec) for spec in artifact.inputs],
        "outputs": [str(spec) for spec in artifact.outputs],
    }


def _placement(runtime: str, options: "Options", artifact: "Artifact") -> dict[str, Any]:
    from cnnport.errors import ArtifactError
    from cnnport.runtimes import get_runtime
    from cnnport.runtimes.engine_file import misfit

    if reason := misfit(artifact, runtime):
        raise ArtifactError(reason)
    return {"runtime": runtime, "placement": get_runtime(runtime).placement(artifact, options)}


def _readable(entries: Mapping[str, str]) -> dict[str, Any]:
    """The entries, JSON values parsed; the long ones (labels, golden values) told by their size."""
    shown: dict[str, Any] = {}
    for key, text in entries.items():
        try:
            value = jsonlib.loads(text) if text[:1] in {"{", "["} else text
        except ValueError:
            value = text
        if key == "cnnport.labels" and isinstance(value, list):
            value = f"{len(value)} class names"
        if key == "cnnport.golden" and isinstance(value, dict):
            value = {name: value.get(name) for name in ("seed", "batch")}
        if isinstance(value, str) and len(value) > _LONG:
            value = f"{len(value)} characters"
        shown[key] = value
    return shown


def _print(facts: dict[str, Any]) -> None:
    table = console.table("", "fact", "value")
    for key, value in facts.items():
        nested = value.items() if isinstance(value, dict) else [("", value)]
        for index, (name, item) in enumerate(nested):
            label = f"{key if index == 0 else ''}"
            text = _text(item)
            table.add_row(label, (f"{name}: {text}" if name else text).replace("[", r"\["))
    console.results().print(table)


def _text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list):
        # Sentences get a line each.
        separator = "\n" if any(len(str(item)) > 60 for item in value) else ", "
        return separator.join(map(str, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return str(value)
