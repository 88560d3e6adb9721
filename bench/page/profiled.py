"""Profiles as a page sees them: with names that are fit to be shown, and what the machine could do."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from cnnport.measuring.fields import RecordError
from cnnport.measuring.page.documents import Document, DocumentError, Fields
from cnnport.measuring.page.measured import shown_environment
from cnnport.measuring.page.words import clean, command, file_word, own_command, plural
from cnnport.measuring.profiling.record import Profile, ProfiledLayer


@dataclass(frozen=True)
class Profiled:
    """One network on one runtime, by layers.

    Attributes:
        document: Where it was read.
        record: What it says; it has a layer that took time.
        peaks_flop_s: What the machine can do, by precision; empty where it was not measured.
        bandwidth_bytes_s: Of its memory; 0 where it was not measured.
    """

    document: Document
    record: Profile
    peaks_flop_s: Mapping[str, float]
    bandwidth_bytes_s: float

    @property
    def name(self) -> str:
        """In words."""
        each = self.record
        traits = (
            f"{each.model} on {each.runtime}",
            each.precision,
            f"batch {each.batch}",
            plural(each.threads, "thread"),
        )
        return ", ".join(trait for trait in traits if trait)

    @property
    def command(self) -> str:
        """Which makes it again: as the record states, or what would do the same."""
        each = self.record
        words = ["cnnport", "profile", file_word(each.file or each.model), "--runtime", each.runtime]
        words += [
            "--batch",
            str(each.batch),
            "--threads",
            str(each.threads),
            "-o",
            file_word(self.document.path.name),
        ]
        return own_command(each.command) or command(words)


def read_profiles(documents: Iterable[Document]) -> tuple[Profiled, ...]:
    """The profiles among documents. Raises ``DocumentError``."""
    return tuple(_read(each) for each in documents if each.kind == "profile")


def _read(document: Document) -> Profiled:
    try:
        record = Profile.from_json(document.body)
    except RecordError as error:
        raise DocumentError(f"{document.path} is not a cnnport profile: {clean(error)}") from error
    if not record.layers_ms > 0:
        raise DocumentError(f"{document.path} is damaged: it has no layers that took time")
    machine = Fields(document.body, document.path).one_or_none("machine")
    peaks = machine.numbers("peak_flops") if machine else {}
    bandwidth = machine.number_or_none("bandwidth_bytes_s") if machine else None
    return Profiled(
        document,
        replace(
            record,
            environment=shown_environment(record.environment),
            model=clean(record.model),
            runtime=clean(record.runtime),
            precision=clean(record.precision),
            file=clean(record.file),
            limits=tuple(map(clean, record.limits)),
            notes=tuple(map(clean, record.notes)),
            layers=tuple(map(_shown, record.layers)),
        ),
        {name: peak for name, peak in peaks.items() if peak > 0},
        max(bandwidth or 0.0, 0.0),
    )


def _shown(layer: ProfiledLayer) -> ProfiledLayer:
    return replace(
        layer,
        name=clean(layer.name),
        operator=clean(layer.operator) or "unnamed",
        precision=clean(layer.precision),
        nodes=tuple(map(clean, layer.nodes)),
        modules=tuple(map(clean, layer.modules)),
    )
