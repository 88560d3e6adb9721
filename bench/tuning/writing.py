"""The winner's file, with what it was tuned for in its metadata."""

from pathlib import Path

from cnnport.measuring.record import Json
from cnnport.measuring.tuning.tuned import Tuned
from cnnport.metadata import to_json
from cnnport.onnxfile import CHECKSUM_KEY, INITIALIZERS_KEY, load_model, write_foreign, write_model

KEY = "cnnport.tuned"


def tuned_for(done: Tuned) -> Json:
    """How the file is to be run; nothing that depends on the time."""
    winner = done.winner
    return {
        "runtime": winner.runtime,
        "threads": winner.threads,
        "settings": dict(winner.settings),
        "computes": winner.computes,
        "batch": done.wishes.batch,
        "max_drop": done.wishes.max_drop,
    }


def write_winner(done: Tuned, path: Path) -> None:
    """Write the winner's file; an existing one is replaced. Raises ``OutputError``."""
    model = load_model(done.file)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    metadata[KEY] = to_json(tuned_for(done))
    if CHECKSUM_KEY in metadata:
        write_model(
            model,
            path,
            {key: metadata[key] for key in metadata if key not in {CHECKSUM_KEY, INITIALIZERS_KEY}},
        )
        return
    del model.metadata_props[:]
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    write_foreign(model, path)
