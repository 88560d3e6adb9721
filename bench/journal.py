"""What a benchmark has measured so far, on disk after every process, so that a killed run goes on where it was.

A journal is a file of JSON lines beside the result: first what the run is, then one line for every finished process.
A line is on the disk before the next process starts. A last line that was cut short is dropped, and its process is
started again.
"""

import fcntl
import json
import os
from pathlib import Path
from typing import IO

from cnnport.errors import CnnportError, OutputError
from cnnport.measuring.fields import Json

_FORMAT = 1


def journal_path(target: Path) -> Path:
    """Where the journal of a result lies."""
    return target.with_name(f"{target.name}.partial.jsonl")


class Journal:
    """The answers of processes by what was asked, on disk where there is a file, else in memory alone."""

    def __init__(self, path: Path | None = None, *, fresh: bool = False) -> None:
        """Choose the file.

        Args:
            path: Of the journal; None to keep nothing.
            fresh: Whether what an earlier run left there is thrown away.
        """
        self._path = path
        self._fresh = fresh
        self._answers: dict[str, Json] = {}
        self._file: IO[bytes] | None = None
        self.resumed = 0
        """How often the run had been interrupted."""

    def open(self, run: Json, facts: Json) -> Json:
        """Begin, or go on.

        Args:
            run: What the run is; an earlier one that was anything else is none to go on from.
            facts: What is known at its beginning, such as the environment.

        Returns:
            The facts of the run's beginning, which may have been before this process.

        Raises:
            CnnportError: If the file is of another run.
            OutputError: If it cannot be written.
        """
        if self._path is None:
            return facts
        try:
            file = self._path.open("ab")
            _hold(file)
            self._file = file
            lines = [] if self._fresh else self._lines()
            # A run that had measured nothing is none to go on with.
            if any("key" in line for line in lines):
                facts = self._read(lines, run, facts)
                self._write({"resumed": self.resumed})
            else:
                file.truncate(0)
                self._write({"cnnport_bench_partial": _FORMAT, "run": run, "facts": facts})
        except OSError as error:
            raise OutputError(f"cannot write {self._path}: {error.strerror or error}") from error
        return facts

    def get(self, key: str) -> Json | None:
        """The answer that was given to what has this name; None if it has not been asked."""
        return self._answers.get(key)

    def put(self, key: str, answer: Json) -> None:
        """Keep an answer. Raises ``OutputError`` if that cannot be done."""
        self._answers[key] = answer
        if self._file is not None:
            try:
                self._write({"key": key, "answer": answer})
            except OSError as error:
                raise OutputError(f"cannot write {self._path}: {error.strerror or error}") from error

    def close(self) -> None:
        """Let go of the file, which stays."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def remove(self) -> None:
        """Take the file away: the result is in place."""
        self.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _lines(self) -> list[Json]:
        """What is there. Raises ``CnnportError`` if it is no journal."""
        assert self._path is not None
        lines = [_object(line) for line in _whole_lines(self._path)]
        is_ours = not lines or lines[0].get("cnnport_bench_partial") == _FORMAT
        if not is_ours or (lines and not {"run", "facts"} <= set(lines[0])):
            raise CnnportError(
                f"{self._path} is no benchmark that was interrupted: remove it, or pass --fresh"
            )
        return lines

    def _read(self, lines: list[Json], run: Json, facts: Json) -> Json:
        header = lines[0]
        if changed := _changed(header["run"], json.loads(json.dumps(run))):
            raise CnnportError(
                f"{self._path} is of a run with other {changed}: give the same arguments to go on, "
                "or pass --fresh to begin anew"
            )
        for entry in lines[1:]:
            if "key" in entry:
                self._answers[entry["key"]] = entry["answer"]
            else:
                self.resumed = entry["resumed"]
        self.resumed += 1
        found: Json = {**facts, **header["facts"]}
        return found

    def _write(self, entry: Json) -> None:
        assert self._file is not None
        self._file.write(json.dumps(entry).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def _hold(file: IO[bytes]) -> None:
    """Have the file for this process alone. Raises ``CnnportError`` if another one has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise CnnportError(
            f"another benchmark is writing {file.name}: wait for it, or give another -o"
        ) from error


def _whole_lines(path: Path) -> list[bytes]:
    """The lines that were written to their end; what lies behind them is cut off the file."""
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    if end < len(data):
        with path.open("r+b") as file:
            file.truncate(end)
            os.fsync(file.fileno())
    return data[:end].splitlines()


def _object(line: bytes) -> Json:
    """A line. Raises ``CnnportError`` if it is none of ours."""
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise CnnportError("a line of the interrupted benchmark is damaged: pass --fresh to begin anew")
    return found


def _changed(before: Json, now: Json) -> str:
    """What differs, by name; empty if nothing does."""
    return ", ".join(name for name in {**before, **now} if before.get(name) != now.get(name))
