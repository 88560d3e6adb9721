"""The record of the benchmark of graphs: its networks, what is made of each, and what was measured."""

import json
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import median

from cnnport import registry
from cnnport._version import __version__
from cnnport.errors import ArtifactError, CheckFailedError, CnnportError, UnknownNameError
from cnnport.files import write_atomically
from cnnport.measuring.command import cnnport_command
from cnnport.measuring.environment import read_environment
from cnnport.measuring.paired import circumstances, measure_in_turn, ratio
from cnnport.measuring.progress import Tell
from cnnport.measuring.record import Json
from cnnport.measuring.studies.graph_tools import TOOL_THREADS, perform
from cnnport.measuring.studies.graphs_page import CANDIDATES, PEERS, markdown
from cnnport.metadata import tool_versions
from cnnport.onnxfile import read_artifact

# At least one network of every kind of layer and of joining branches.
REPRESENTATIVES = (
    "lenet5",
    "alexnet",
    "vgg16_bn",
    "nin_imagenet",
    "googlenet",
    "inception_v2",
    "inception_v3",
    "inception_v4",
    "inception_resnet_v2",
    "xception",
    "resnet18",
    "resnet50",
    "preact_resnet50",
    "resnext50_32x4d",
    "wide_resnet50_2",
    "se_resnet50",
    "densenet121",
    "squeezenet1_1",
    "mobilenet_v1_x1_0",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "shufflenet_v1_g3",
    "shufflenet_v2_x0_5",
    "shufflenet_v2_x1_0",
    "convnext_tiny",
    "aa_resnet50",
)
BATCHES = (1, 8)
THREADS = (1, 2)


def chosen(patterns: Sequence[str]) -> tuple[str, ...]:
    """The networks that match, in the order of the catalogue: of the representatives and all shuffle nets.

    Raises:
        UnknownNameError: If none does.
    """
    names = tuple(
        name
        for name in registry.names()
        if (name in REPRESENTATIVES or name.startswith("shufflenet_"))
        and any(fnmatchcase(name, pattern) for pattern in patterns)
    )
    if not names:
        raise UnknownNameError(f"no network of this benchmark matches {' '.join(patterns)}")
    return names


class Graphs:
    """The rows of some networks, on disk after every one."""

    def __init__(
        self, record: Path, page: Path, files: Path, names: Sequence[str], wanted: Json, tell: Tell
    ) -> None:
        """Take up what an earlier run left.

        Args:
            record: The file of rows; it need not exist.
            page: The same for people.
            files: Where ONNX files lie.
            names: The networks.
            wanted: ``passes`` and ``target`` as ``cnnport export`` takes them, or None.
            tell: Is told how far it is.

        Raises:
            ArtifactError: If the record is a foreign file.
        """
        self._record, self._page, self._files, self._names = record, page, files, names
        self._wanted, self._tell = wanted, tell
        self._rows = _kept(record, wanted)

    def rows(self) -> list[Json]:
        """One row for each network, in order."""
        return [self._rows[name] for name in self._names]

    def forget(self) -> None:
        """Drop what cnnport made of the networks, and the measurements; the other tools' files stay."""
        for name in self._names:
            if row := self._rows.get(name):
                _forget_ours(row)

    def make(self) -> None:
        """Make and check the files that are missing of networks that are not measured."""
        self._files.mkdir(parents=True, exist_ok=True)
        for number, name in enumerate(self._names):
            row = self._rows.setdefault(name, self._empty(name))
            missing = [each for each in CANDIDATES if not self._has(row, each)]
            if row["measured"] is not None or not missing:
                continue
            for candidate in missing:
                self._tell(f"{candidate} {name}", number, len(self._names))
                row["candidates"][candidate] = self._made(name, candidate)
            # In their order, whichever of them are new.
            row["candidates"] = {each: row["candidates"][each] for each in CANDIDATES}
            self._write()

    def measure(self, rounds: int, duration_s: float) -> None:
        """Measure the networks that are not yet, as ``measure_in_turn`` does, each graph once."""
        for number, name in enumerate(self._names):
            row = self._rows[name]
            made = {each: facts["graph"] for each, facts in row["candidates"].items() if not facts["problem"]}
            if row["measured"] is not None or not {"raw", "cnnport"} <= made.keys():
                continue
            row["problem"] = None
            facts = circumstances(rounds, duration_s)
            cases = []
            try:
                for batch in BATCHES:
                    for threads in THREADS:
                        self._tell(
                            f"measure {name} batch {batch} threads {threads}", number, len(self._names)
                        )
                        cases.append(self._case(name, made, batch, threads, rounds, duration_s))
            except CnnportError as error:
                row["problem"] = str(error)
            else:
                row["measured"] = {**facts, "cases": cases}
            self._write()

    def _case(
        self, name: str, made: dict[str, str], batch: int, threads: int, rounds: int, duration_s: float
    ) -> Json:
        """One batch size with one number of threads, each different graph of ``made`` once."""
        once: dict[str, str] = {}
        for candidate, digest in made.items():
            once.setdefault(digest, candidate)
        measured = measure_in_turn(
            [read_artifact(self._file(name, candidate)) for candidate in once.values()],
            batch=batch,
            threads=threads,
            rounds=rounds,
            duration_s=duration_s,
        )
        by_graph = dict(zip(once, measured, strict=True))
        turns_s = {candidate: by_graph[digest] for candidate, digest in made.items()}
        best = min((peer for peer in PEERS if peer in made), key=lambda peer: median(turns_s[peer]))
        return {
            "batch": batch,
            "threads": threads,
            "p50_ms": {each: round(median(values) * 1e3, 4) for each, values in turns_s.items()},
            "over_raw": {each: ratio(turns_s["raw"], values).to_json() for each, values in turns_s.items()},
            "best_peer": best,
            "over_best_peer": ratio(turns_s[best], turns_s["cnnport"]).to_json(),
            "turns_p50_ms": {
                each: [round(value * 1e3, 4) for value in values] for each, values in turns_s.items()
            },
        }

    def _made(self, name: str, candidate: str) -> Json:
        """What is known of a candidate after it was made: it has ``problem`` and, without one, the rest."""
        raw, path = str(self._file(name, "raw")), str(self._file(name, candidate))
        try:
            if candidate != "raw" and not self._has(self._rows[name], "raw"):
                raise CheckFailedError("there is no raw file to hold it against")
            if candidate == "raw":
                seconds = perform("torch_onnx", network=name, target=path)["seconds"]
            elif candidate == "cnnport":
                seconds = self._exported(name, path)
            else:
                seconds = perform(candidate, source=raw, target=path)["seconds"]
            facts = perform("inspect", first=raw, other=path, batches=BATCHES)
        except CnnportError as error:
            return {"problem": str(error)}
        if not facts.pop("agrees"):
            return {"problem": f"its outputs are {facts['error_in_std']} standard deviations from raw's"}
        return {"problem": None, "seconds": round(seconds, 3), **facts}

    def _exported(self, name: str, path: str) -> float:
        """Write cnnport's file; the seconds that it spent after torch.onnx."""
        arguments = ["-q", "export", name, "--weights", "random", "--overwrite", "-o", path, "--json"]
        for option, value in self._wanted.items():
            arguments += [] if value is None else [f"--{option}", value]
        steps = json.loads(cnnport_command(arguments, threads=TOOL_THREADS))["steps"]
        return float(sum(step["seconds"] for step in steps[1:]))

    def _has(self, row: Json, candidate: str) -> bool:
        facts = row["candidates"].get(candidate)
        return facts is not None and not facts["problem"] and self._file(row["name"], candidate).exists()

    def _file(self, name: str, candidate: str) -> Path:
        return self._files / f"{name}.{candidate}.onnx"

    def _empty(self, name: str) -> Json:
        return {
            "name": name,
            "versions": _versions(),
            "wanted": self._wanted,
            "problem": None,
            "candidates": {},
            "measured": None,
        }

    def _write(self) -> None:
        ordered = [self._rows[name] for name in registry.names() if name in self._rows]
        document = {"environment": read_environment().to_json(), "networks": ordered}
        for path, text in (
            (self._record, json.dumps(document, indent=1) + "\n"),
            (self._page, markdown(document, REPRESENTATIVES)),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, text.encode())


def _forget_ours(row: Json) -> None:
    row["problem"] = row["measured"] = None
    row["candidates"].pop("cnnport", None)


def _versions() -> dict[str, str]:
    packages = read_environment().packages
    measuring = {name: packages[name] for name in ("onnxruntime", "onnxslim") if name in packages}
    return {"cnnport": __version__, **tool_versions(), **measuring}


def _kept(path: Path, wanted: Json) -> dict[str, Json]:
    """The rows of an earlier run of the same versions by name; of other passes or another target, the peers' part."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["networks"]
        versions = _versions()
        kept = {row["name"]: row for row in rows if row["versions"] == versions}
        for row in kept.values():
            if row["wanted"] != wanted:
                row["wanted"] = wanted
                _forget_ours(row)
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} is not a record of this command: move it away") from error
    return kept
