"""A benchmark that is killed goes on where it was: nothing is lost, nothing is done twice."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from cnnport.artifact import Artifact
from cnnport.errors import CnnportError
from cnnport.measuring import Journal, bench, journal_path, make_cases
from cnnport.measuring.case import artifact_to_json

# A worker that writes down every case that it was started for, and takes a while.
WORKER = """
import json, sys, time
from pathlib import Path
from cnnport.measuring import worker

def serve(case):
    with (Path(__file__).parent / "started").open("a") as file:
        file.write(f"{case['batch']}\\n")
    answer = serve_really(case)
    time.sleep(0.15)
    return answer

serve_really, worker.serve = worker.serve, serve
if __name__ == "__main__":
    worker.main()
"""

PROGRAM = """
import json, sys
from pathlib import Path
from cnnport.measuring import Journal, bench, json_text, make_cases, run
from cnnport.measuring.case import artifact_from_json
folder = Path({folder!r})
run.command_of = lambda _: (sys.executable, "-P", str(folder / "slow_worker.py"))
artifact = artifact_from_json(json.loads({artifact!r}))
journal = Journal(folder / "r.json.partial.jsonl")
results = bench(make_cases([artifact], ["null"], [1, 2, 3], [1]), rounds=3, warmup_s=0, duration_s=0, journal=journal)
(folder / "r.json").write_text(json_text(results))
"""


@pytest.fixture
def artifact(null_artifact: Artifact) -> Artifact:
    return null_artifact


def lines_of(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def answers_in(path: Path) -> dict[str, Any]:
    return {line["key"]: line["answer"] for line in lines_of(path) if "key" in line}


@pytest.mark.skipif(sys.platform != "linux", reason="workers follow their parent on Linux only")
def test_kills_of_the_whole_group_lose_nothing_and_repeat_nothing(tmp_path: Path, artifact: Artifact) -> None:
    (tmp_path / "slow_worker.py").write_text(WORKER)
    program = textwrap.dedent(
        PROGRAM.format(folder=str(tmp_path), artifact=json.dumps(artifact_to_json(artifact)))
    )
    partial, kept = tmp_path / "r.json.partial.jsonl", {}
    kills = 0
    for wanted in (2, 5):
        started = subprocess.Popen([sys.executable, "-c", program], start_new_session=True)
        deadline = time.monotonic() + 60
        while len(answers_in(partial)) < wanted:
            assert time.monotonic() < deadline
            assert started.poll() is None
            time.sleep(0.005)
        os.killpg(started.pid, signal.SIGKILL)
        assert started.wait() == -signal.SIGKILL
        kills += 1
        found = answers_in(partial)
        assert {key: found[key] for key in kept} == kept
        kept = found
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
    document = json.loads((tmp_path / "r.json").read_text())
    final = answers_in(partial)
    assert len(final) == 9
    # What was finished before the kills is in the result to the last bit.
    assert {key: final[key] for key in kept} == kept
    samples = {row["batch"]: row["samples_s"] for row in document["results"]}
    for place, batch in enumerate((1, 2, 3)):
        answers = [final[f"round {number}, case {place}"] for number in (1, 2, 3)]
        assert samples[batch] == [each / 1e9 for answer in answers for each in answer["samples_ns"]]
    # Every case was started once a round, but for the one that a kill hit.
    started_cases = (tmp_path / "started").read_text().split()
    assert 9 <= len(started_cases) <= 9 + kills
    keys = [line["key"] for line in lines_of(partial) if "key" in line]
    assert len(keys) == len(set(keys)) == 9
    assert document["method"]["resumed"] == 2


def run(artifact: Artifact, path: Path, **changed: Any) -> Any:
    settings = {"rounds": 2, "warmup_s": 0.0, "duration_s": 0.0, **changed}
    fresh = settings.pop("fresh", False)
    cases = make_cases([artifact], ["null"], settings.pop("batches", [1]), [1])
    journal = Journal(path, fresh=fresh)
    try:
        return bench(cases, journal=journal, **settings)
    finally:
        journal.close()


def test_a_torn_last_line_is_dropped(tmp_path: Path, artifact: Artifact) -> None:
    path = journal_path(tmp_path / "r.json")
    first = run(artifact, path)
    whole = path.read_bytes()
    torn = whole.rstrip(b"\n")
    path.write_bytes(torn[: len(torn) - 20])
    again = run(artifact, path)
    assert again.results[0].rounds[0] == first.results[0].rounds[0]
    assert again.results[0].rounds[1] != first.results[0].rounds[1]
    assert len(answers_in(path)) == 2
    # The environment is that of the beginning.
    assert again.environment.date_utc == first.environment.date_utc


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"duration_s": 0.01}, "duration_s"),
        ({"seed": 3}, "seed"),
        ({"batches": [2]}, "cases"),
        ({"rounds": 3}, "rounds"),
    ],
)
def test_another_run_is_not_gone_on_with(
    tmp_path: Path, artifact: Artifact, changed: dict[str, Any], said: str
) -> None:
    path = journal_path(tmp_path / "r.json")
    run(artifact, path)
    before = path.read_bytes()
    with pytest.raises(CnnportError, match=f"a run with other {said}: .* pass --fresh"):
        run(artifact, path, **changed)
    assert path.read_bytes() == before
    assert run(artifact, path, fresh=True, **changed).method.resumed == 0


def test_another_file_of_the_same_name_is_another_run(tmp_path: Path, artifact: Artifact) -> None:
    from dataclasses import replace

    path = journal_path(tmp_path / "r.json")
    run(artifact, path)
    artifact.path.write_bytes(b"another")
    changed = replace(artifact, sha256=hashlib.sha256(b"another").hexdigest())
    with pytest.raises(CnnportError, match="other cases"):
        run(changed, path)


@pytest.mark.parametrize("text", [b"{}\n", b"junk\n", b'{"cnnport_bench_partial": 1}\n', b"[]\n"])
def test_a_file_that_is_no_journal_is_left_alone(tmp_path: Path, artifact: Artifact, text: bytes) -> None:
    path = journal_path(tmp_path / "r.json")
    path.write_bytes(text)
    with pytest.raises(CnnportError, match="--fresh"):
        run(artifact, path)
    assert path.read_bytes() == text


def test_a_failure_is_kept_too(tmp_path: Path, artifact: Artifact) -> None:
    path = journal_path(tmp_path / "r.json")
    artifact.path.write_bytes(b"another")
    first = run(artifact, path)
    assert "has changed" in first.skipped[0].reason
    assert run(artifact, path).skipped == first.skipped
    assert len(answers_in(path)) == 1


def test_two_at_once_do_not_write_one_file(tmp_path: Path, artifact: Artifact) -> None:
    path = journal_path(tmp_path / "r.json")
    first = Journal(path)
    first.open({}, {})
    with pytest.raises(CnnportError, match="another benchmark is writing"):
        run(artifact, path, fresh=True)
    first.close()


def test_without_a_file_nothing_is_written(tmp_path: Path, artifact: Artifact) -> None:
    bench(make_cases([artifact], ["null"], [1], [1]), rounds=1, warmup_s=0, duration_s=0)
    assert [each.name for each in tmp_path.iterdir()] == ["none.onnx"]
