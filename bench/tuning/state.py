"""Every finished step of a tuning, on disk, so that one that was killed goes on where it was."""

import json
import shutil
from pathlib import Path
from typing import Any

from cnnport.errors import OutputError
from cnnport.files import sha256_of, write_atomically
from cnnport.measuring.record import Json

_FORMAT = 1
_NAME = "state.json"


class State:
    """The steps, and the files that they made, in a folder of their own.

    Attributes:
        folder: Holds the record and the files.
        is_resumed: Whether there were steps of the same tuning.
        built: By variant name: ``sha256`` of its file, and ``problem``, or ``same_as`` another variant.
        probed: By what runs (``Candidate.run``): why it cannot be opened; empty if it can.
        judged: By what runs (``Candidate.run``): what was judged.
        raced: By stage and candidate name: turns in seconds of the plain one and of the candidate, by rounds.
        failed: By candidate name: why it could not be measured.
        spent_s: Seconds that the finished steps took.
    """

    def __init__(self, folder: Path, identity: Json) -> None:
        """Take up what there is, or begin.

        Args:
            folder: Is made if it is not there; what another tuning left in it is removed.
            identity: Everything that steps depend on; with another one they are worth nothing.

        Raises:
            OutputError: If the folder cannot be made, or is one of somebody else's.
        """
        self.folder = folder
        self._identity = identity
        self.is_resumed = False
        self.built: dict[str, Json] = {}
        self.probed: dict[str, str] = {}
        self.judged: dict[str, Json] = {}
        self.raced: dict[str, dict[str, Json]] = {}
        self.failed: dict[str, str] = {}
        self.spent_s = 0.0
        found = self._read()
        if found is not None and found["identity"] == json.loads(json.dumps(identity)):
            self.is_resumed = True
            self.built, self.probed, self.judged = found["built"], found["probed"], found["judged"]
            self.raced, self.failed = found["raced"], found["failed"]
            self.spent_s = found["spent_s"]
        else:
            self._begin(is_ours=found is not None)

    def path_of(self, variant: str) -> Path:
        """Where a variant's file lies."""
        return self.folder / f"{variant}.onnx"

    def is_built(self, variant: str) -> bool:
        """Whether a variant was made, or found not to be possible, and its file is still what it was."""
        row = self.built.get(variant)
        if row is None:
            return False
        if "sha256" not in row:
            return True
        path = self.path_of(variant)
        return path.is_file() and sha256_of(path) == row["sha256"]

    def save(self) -> None:
        """Write everything. Raises ``OutputError``."""
        document = {
            "cnnport_tune": _FORMAT,
            "identity": self._identity,
            "spent_s": round(self.spent_s, 3),
            "built": self.built,
            "probed": self.probed,
            "judged": self.judged,
            "raced": self.raced,
            "failed": self.failed,
        }
        write_atomically(self.folder / _NAME, (json.dumps(document, indent=1) + "\n").encode())

    def _read(self) -> Any:
        """The record of an earlier tuning, of this one or another; None if there is none."""
        try:
            found = json.loads((self.folder / _NAME).read_bytes())
            return found if found["cnnport_tune"] == _FORMAT else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _begin(self, *, is_ours: bool) -> None:
        try:
            if self.folder.exists():
                if not is_ours and any(self.folder.iterdir()):
                    raise OutputError(
                        f"{self.folder} is there and is no folder of cnnport tune's: move it away, it is where steps "
                        "are kept"
                    )
                shutil.rmtree(self.folder)
            self.folder.mkdir(parents=True)
        except OSError as error:
            raise OutputError(f"cannot write {self.folder}: {error.strerror or error}") from error
        self.save()
