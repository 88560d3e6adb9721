"""A candidate in a process of its own, seen from here: samples go there and outputs come back, by way of the disk."""

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from cnnport.agreement.candidates import Candidate
from cnnport.agreement.inputs import InputSet
from cnnport.agreement.rows import Array, read_rows
from cnnport.errors import CnnportError, RuntimeMissingError
from cnnport.process import Conversation, Failure, Json, command_of

WORKER = "cnnport.agreement.worker"

CHUNK = 8
"""Samples in one run, where the file leaves that open."""

# Building an engine takes minutes, a run of a large network in float64 too.
_TIMEOUT_S = 1800.0


class CandidateError(CnnportError):
    """A candidate cannot be opened or run, or its process died; the text is the reason."""


class Opened:
    """A candidate that is open.

    Attributes:
        candidate: Which.
        chunk: Samples that it takes at once.
        version: Of what runs it.
        device: It runs on.
    """

    def __init__(self, candidate: Candidate, folder: Path, *, exact: bool = False) -> None:
        """Start the process.

        Args:
            candidate: Which.
            folder: Where outputs are handed over; nobody else's.
            exact: Whether to compute in float64 instead, for its own sake and not the runtime's.

        Raises:
            CandidateError: If it cannot be opened.
            RuntimeMissingError: If its runtime is not available.
        """
        self.candidate = candidate
        self.chunk = _chunk_of(candidate)
        folder.mkdir(parents=True, exist_ok=True)
        self._stack = ExitStack()
        conversation = Conversation(
            command_of(WORKER), threads=candidate.options.threads, timeout_s=_TIMEOUT_S
        )
        self._conversation = self._stack.enter_context(conversation)
        try:
            self._ask({**candidate.to_json(), "exact": exact, "folder": str(folder)})
            facts = self._ask({})
        except BaseException:
            # Who is interrupted here has no context manager yet that would end the process.
            self._stack.close()
            raise
        self.version, self.device = str(facts["version"]), str(facts["device"])

    def run(self, inputs: InputSet, start: int, stop: int) -> dict[str, Array]:
        """Outputs of some samples by name, a row a sample. Raises ``CandidateError``."""
        asked = [[str(path), start, stop] for path in inputs.files.values()]
        answer = self._ask({"inputs": asked})
        # The next run writes over the files, so what is given away is a copy.
        return {row["name"]: np.array(read_rows(Path(row["file"]))) for row in answer["outputs"]}

    def run_all(self, inputs: InputSet, *, together: int | None = None) -> dict[str, Array]:
        """The same for a whole set, in pieces of ``chunk`` or of so many. For sets that fit into memory."""
        pieces = [self.run(inputs, *piece) for piece in inputs.chunks(together or self.chunk)]
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}

    def _ask(self, question: Json) -> Json:
        answer = self._conversation.ask(question)
        if isinstance(answer, Failure):
            kind = (
                RuntimeMissingError if answer.exit_code == RuntimeMissingError.exit_code else CandidateError
            )
            raise kind(answer.reason)
        return answer

    def close(self) -> None:
        """End the process."""
        self._stack.close()

    def __enter__(self) -> Self:
        """The candidate itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        self.close()


def _chunk_of(candidate: Candidate) -> int:
    """A fixed batch is what it is; outputs without a row for each sample are asked for one sample at a time."""
    artifact = candidate.artifact
    batches = {spec.shape[0] if spec.shape else None for spec in artifact.inputs}
    if fixed := [size for size in batches if isinstance(size, int)]:
        return fixed[0]
    rows = {spec.shape[0] if spec.shape else None for spec in artifact.outputs}
    return CHUNK if rows == batches and len(batches) == 1 else 1
