"""``cnnport list``: the networks of the zoo."""

from typing import Annotated, Any

import typer

from cnnport.cli import console
from cnnport.cli.options import Json
from cnnport.registry import ModelSpec


def list_models(
    pattern: Annotated[
        str | None, typer.Argument(help="Part of a name, or a pattern with * and ?.", show_default=False)
    ] = None,
    family: Annotated[str | None, typer.Option("--family", metavar="F", help="One family only.")] = None,
    json: Json = False,
) -> None:
    """List the networks of the zoo: parameters, multiply-adds, input, weights, paper."""
    from fnmatch import fnmatchcase

    from cnnport import registry
    from cnnport.errors import UnknownNameError

    families = sorted({spec.family for spec in registry.specs()})
    if family is not None and family not in families:
        raise UnknownNameError(f"no family is called {family!r}: there are {', '.join(families)}")
    wanted = pattern or "*"
    if not set(wanted) & set("*?["):
        wanted = f"*{wanted}*"
    found = [
        spec
        for spec in registry.specs()
        if any(fnmatchcase(name, wanted) for name in (spec.name, *spec.aliases))
        and family in {None, spec.family}
    ]
    if json:
        console.print_json([_row(spec) for spec in found])
        return
    if not found:
        raise UnknownNameError(
            f"no network matches {pattern!r}: cnnport list shows all {len(registry.specs())}"
        )
    table = console.table(
        "", "name", "parameters", "MACs", "input", "weights", "paper", numbers=("parameters", "MACs")
    )
    for spec in found:
        size = "x".join(map(str, spec.input_shape))
        table.add_row(
            spec.name, f"{spec.params:,}", f"{spec.macs:,}", size, describe_weights(spec), str(spec.paper)
        )
    console.results().print(table)


def describe_weights(spec: ModelSpec) -> str:
    """Published accuracy of the official weights, or that there are none."""
    if spec.weights is None:
        return "random only"
    return f"{spec.weights.top1:g} % top-1" + (" (packaged)" if spec.weights.is_packaged else "")


def _row(spec: ModelSpec) -> dict[str, Any]:
    weights = spec.weights and {
        "location": spec.weights.location,
        "top1": spec.weights.top1,
        "note": spec.weights.note,
    }
    return {
        "name": spec.name,
        "family": spec.family,
        "aliases": list(spec.aliases),
        "params": spec.params,
        "macs": spec.macs,
        "input": list(spec.input_shape),
        "classes": spec.classes,
        "weights": weights,
        "paper": str(spec.paper),
    }
