"""Two profiles against each other: before and after a pass, on two runtimes, in two precisions.

Layers are put together by the nodes that they were before the passes, so that a runtime that fuses more, and a pass
that takes nodes apart, are held against the same part of the network. Layers that no node stands for, such as changes
of layout, are put together by module and operator. Every layer of either profile is in exactly one row.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from cnnport.measuring.fields import Json
from cnnport.measuring.profiling.layers import is_conversion
from cnnport.measuring.profiling.record import Profile, ProfiledLayer

# In the place of an operator: those of all runtimes that change layout or type are one.
_CONVERSION = "conversion"


@dataclass(frozen=True)
class Row:
    """A part of the network in both profiles.

    Attributes:
        modules: Of either; empty in files that were not exported from modules.
        before: Its layers in the first profile; none if it is only in the second.
        after: In the second.
    """

    modules: tuple[str, ...]
    before: tuple[ProfiledLayer, ...]
    after: tuple[ProfiledLayer, ...]

    @property
    def before_ms(self) -> float:
        """In the first profile; 0 if it is not there."""
        return sum(layer.ms for layer in self.before)

    @property
    def after_ms(self) -> float:
        """In the second."""
        return sum(layer.ms for layer in self.after)

    @property
    def difference_ms(self) -> float:
        """How much longer it takes in the second."""
        return self.after_ms - self.before_ms

    @property
    def operators(self) -> tuple[str, ...]:
        """Of either, each once."""
        return tuple(dict.fromkeys(layer.operator for layer in (*self.before, *self.after)))

    @property
    def name(self) -> str:
        """For people: the modules, or what the runtimes call it."""
        layers = self.before or self.after
        return "+".join(self.modules) or "+".join(dict.fromkeys(layer.name for layer in layers))

    def to_json(self) -> Json:
        """As plain JSON values."""
        layers = (*self.before, *self.after)
        return {
            "name": self.name,
            "modules": list(self.modules),
            "operators": list(self.operators),
            "original": list(dict.fromkeys(name for layer in layers for name in layer.original)),
            "before_ms": round(self.before_ms, 6) if self.before else None,
            "after_ms": round(self.after_ms, 6) if self.after else None,
            "difference_ms": round(self.difference_ms, 6),
            "before": [layer.name for layer in self.before],
            "after": [layer.name for layer in self.after],
        }


@dataclass(frozen=True)
class Diff:
    """Two profiles, row by row, the largest difference first."""

    before: Profile
    after: Profile
    rows: tuple[Row, ...]

    @property
    def only_before(self) -> tuple[Row, ...]:
        """What the second does not have."""
        return tuple(row for row in self.rows if not row.after)

    @property
    def only_after(self) -> tuple[Row, ...]:
        """What the first does not have."""
        return tuple(row for row in self.rows if not row.before)

    @property
    def notes(self) -> tuple[str, ...]:
        """What else differs than what may be the subject, in sentences."""
        pairs = (
            ("model", self.before.model, self.after.model),
            ("batch", self.before.batch, self.after.batch),
            ("threads", self.before.threads, self.after.threads),
            ("machine", self.before.environment.cpu_model, self.after.environment.cpu_model),
        )
        return tuple(
            f"the {what} is another: {one} and {other}" for what, one, other in pairs if one != other
        )

    def to_json(self) -> Json:
        """As plain JSON values."""
        return {
            "before": _summary(self.before),
            "after": _summary(self.after),
            "difference_ms": round(self.after.layers_ms - self.before.layers_ms, 6),
            "only_before_ms": round(sum(row.before_ms for row in self.only_before), 6),
            "only_after_ms": round(sum(row.after_ms for row in self.only_after), 6),
            "notes": list(self.notes),
            "rows": [row.to_json() for row in self.rows],
        }


def diff(before: Profile, after: Profile) -> Diff:
    """Hold one profile against another."""
    layers = [(side, layer) for side, each in enumerate((before, after)) for layer in each.layers]
    groups = _grouped([list(_keys(layer)) for _, layer in layers])
    rows = []
    for group in groups:
        members = [layers[place] for place in group]
        sides = [tuple(layer for own, layer in members if own == side) for side in (0, 1)]
        modules = tuple(dict.fromkeys(path for _, layer in members for path in layer.modules))
        rows.append(Row(modules, sides[0], sides[1]))
    return Diff(before, after, tuple(sorted(rows, key=lambda row: -abs(row.difference_ms))))


def _keys(layer: ProfiledLayer) -> Iterator[Hashable]:
    """What layers have in common that belong together; at least one."""
    if layer.original:
        yield from (("node", name) for name in layer.original)
    elif layer.modules:
        yield "module", layer.modules, _CONVERSION if is_conversion(layer.operator) else layer.operator
    else:
        yield "name", layer.name


def _grouped(keys: Sequence[Sequence[Hashable]]) -> list[list[int]]:
    """Places that a chain of common keys connects, in the order of the first of each."""
    parent = list(range(len(keys)))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    bearer: dict[Hashable, int] = {}
    for place, own in enumerate(keys):
        for key in own:
            one, other = root(bearer.setdefault(key, place)), root(place)
            parent[max(one, other)] = min(one, other)
    groups: dict[int, list[int]] = {}
    for place in range(len(keys)):
        groups.setdefault(root(place), []).append(place)
    return list(groups.values())


def _summary(profile: Profile) -> Json:
    return {
        "model": profile.model,
        "runtime": profile.runtime,
        "runtime_version": profile.runtime_version,
        "precision": profile.precision,
        "batch": profile.batch,
        "threads": profile.threads,
        "file": profile.file,
        "sha256": profile.sha256,
        "end_to_end_ms": profile.end_to_end_ms,
        "layers_ms": profile.layers_ms,
    }
