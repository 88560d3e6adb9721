"""What the figures were taken on: machine and software, each once."""

import json
from collections.abc import Sequence
from dataclasses import replace

from cnnport.measuring.page.figure import Figure, Section, Table
from cnnport.measuring.page.measured import Measured
from cnnport.measuring.page.profiled import Profiled
from cnnport.measuring.page.words import listed, number
from cnnport.measuring.record import Environment


def environments(
    benchmarks: Sequence[Measured], profiles: Sequence[Profiled]
) -> tuple[tuple[str, Environment], ...]:
    """The environment of each benchmark and profile that states one, with the name of its file."""
    found = [(each.document.label, each.results.environment) for each in benchmarks]
    found += [(each.document.label, each.record.environment) for each in profiles]
    return tuple((label, each) for label, each in found if each != Environment())


def machine_section(found: Sequence[tuple[str, Environment]]) -> Section | None:
    """A table for each machine or set of versions; None where nothing states one."""
    alike: dict[str, list[tuple[str, Environment]]] = {}
    for label, each in found:
        alike.setdefault(json.dumps(_lasting(each).to_json(), sort_keys=True), []).append((label, each))
    figures = []
    for place, entries in enumerate(alike.values(), start=1):
        labels = list(dict.fromkeys(label for label, _ in entries))
        model = entries[0][1].cpu_model or "A machine that is not named"
        title = model + (f" ({place})" if len(alike) > 1 else "")
        says = f"Of {listed(labels)}."
        figures.append(Figure(title=title, says=says, tables=_tables(entries), is_open=True))
    if not figures:
        return None
    return Section(
        "Machine and software", "Figures hold for this machine and these versions.", tuple(figures)
    )


def differing(found: Sequence[tuple[str, Environment]]) -> str:
    """What differs between the environments, in words; empty where nothing does."""
    lasting = [_lasting(each) for _, each in found]
    said = []
    for name, what in (
        ("cpu_model", "processors"),
        ("os", "systems"),
        ("kernel", "kernels"),
        ("python", "Python versions"),
    ):
        if len({getattr(each, name) for each in lasting}) > 1:
            said.append(what)
    packages = [dict(each.packages) for each in lasting]
    names = sorted({name for each in packages for name in each})
    other = [name for name in names if len({each.get(name) for each in packages}) > 1]
    if other:
        said.append(f"versions of {listed(other)}")
    return listed(said)


def _lasting(each: Environment) -> Environment:
    """Without what is another at every start."""
    return replace(
        each,
        date_utc="",
        frequency_mhz=None,
        load_average_start=None,
        load_average_end=None,
        memory_available_bytes=None,
    )


def _tables(entries: Sequence[tuple[str, Environment]]) -> tuple[Table, ...]:
    first = entries[0][1]
    cores = [
        f"{count} {noun}"
        for count, noun in (
            (first.cores_physical, "cores"),
            (first.cores_logical, "CPUs"),
            (len(first.cpus_allowed) or None, "allowed"),
        )
        if count is not None
    ]
    facts = [
        ("processor", first.cpu_model),
        ("cores", ", ".join(cores)),
        ("instruction sets", " ".join(first.cpu_flags)),
        ("limit of a container", "" if first.cpu_quota is None else f"{first.cpu_quota:g} CPUs"),
        ("clock", _clock(first)),
        ("memory", "" if first.memory_bytes is None else f"{first.memory_bytes / 2**30:.1f} GiB"),
        ("system", ", ".join(part for part in (first.os, first.kernel, first.machine) if part)),
        ("Python", first.python),
        *sorted(first.packages.items()),
    ]
    stated = tuple((name, value) for name, value in facts if value)
    runs = tuple(
        (label, each.date_utc, number(each.load_average_start), number(each.load_average_end))
        for label, each in entries
    )
    return (
        Table("Environment", ("what", "value"), stated, frozenset({0, 1})),
        Table("Runs", ("file", "begun (UTC)", "load before", "load after"), runs, frozenset({0, 1})),
    )


def _clock(environment: Environment) -> str:
    parts = [
        environment.governor and f"governor {environment.governor}",
        environment.frequency_max_mhz and f"at most {environment.frequency_max_mhz:.0f} MHz",
    ]
    return ", ".join(part for part in parts if part)
