"""The same evaluation on a cluster of two workers, of which one is killed midway."""

import os
import signal
from pathlib import Path

import psutil
import pytest

from cnnport.artifact import Artifact
from cnnport.errors import RuntimeMissingError
from cnnport.evaluation import Plan, Request, Status, evaluate, ray_engine
from cnnport.evaluation.ray_engine import _shards
from cnnport.runtimes import Options
from evaluation_files import result_of, write_digits

# Ray's own sockets and processes are left to the collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def cluster():
    """Its address; two nodes of one CPU each, and a head that has none."""
    pytest.importorskip("ray", reason="ray is not installed: pip install 'cnnport[ray]'")
    from ray.cluster_utils import Cluster

    patch = pytest.MonkeyPatch()
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Workers find what this process does.
    patch.setenv("PYTHONPATH", str(Path(__file__).parent))
    size = 100 * 2**20
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": size})
    for _ in range(2):
        made.add_node(num_cpus=1, object_store_memory=size)
    made.wait_for_nodes(timeout=60)
    yield made.address
    made.shutdown()
    patch.undo()


def busy_worker() -> psutil.Process | None:
    """A process of ours that is at a task, as Ray writes into its title."""
    for process in psutil.process_iter(["cmdline"]):
        if (process.info["cmdline"] or [""])[0].startswith(
            "ray::_serve"
        ) and process.uids().real == os.getuid():
            return process
    return None


@pytest.mark.timeout(240)
def test_a_worker_that_is_killed_changes_no_digit(
    exported, tmp_path: Path, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact: Artifact = exported("lenet5")
    folder = write_digits(tmp_path / "digits", 40)
    (folder / "3" / "damaged.png").write_bytes(b"no picture")
    requests = [Request(artifact, "ort-cpu", Options())]
    monkeypatch.setenv("CNNPORT_CACHE", str(tmp_path / "local"))
    (local,) = evaluate(requests, Plan(str(folder)))

    monkeypatch.setenv("CNNPORT_CACHE", str(tmp_path / "cluster"))
    monkeypatch.setattr(ray_engine, "_VIEWS_PER_TASK", 8)
    killed: list[int] = []
    seen: list[Status] = []

    def kill_one(status: Status) -> None:
        seen.append(status)
        if status.done and not killed and (process := busy_worker()) is not None:
            killed.append(process.pid)
            process.send_signal(signal.SIGKILL)

    (found,) = evaluate(requests, Plan(str(folder), engine="ray", ray_address=cluster), on_status=kill_one)
    assert killed
    assert not psutil.pid_exists(killed[0]) or psutil.Process(killed[0]).status() == psutil.STATUS_ZOMBIE
    assert seen[-1].done == seen[-1].total == 401
    assert result_of(found) == result_of(local)
    assert found.tally.unreadable == 1

    # What the cluster has done, nobody does again, here neither.
    (again,) = evaluate(requests, Plan(str(folder)))
    assert again.resumed == 401
    assert result_of(again) == result_of(local)


def test_a_cluster_that_is_not_there(exported, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'cnnport[ray]'")
    folder = write_digits(tmp_path / "digits", 2)
    request = Request(exported("lenet5"), "ort-cpu", Options())
    with pytest.raises(RuntimeMissingError, match=r"no Ray cluster at 127\.0\.0\.1:1"):
        evaluate([request], Plan(str(folder), engine="ray", ray_address="127.0.0.1:1"))


def test_without_ray(exported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_engine, "find_spec", lambda _name: None)
    request = Request(exported("lenet5"), "ort-cpu", Options())
    with pytest.raises(RuntimeMissingError, match=r"pip install 'cnnport\[ray\]'"):
        evaluate([request], Plan("digits", engine="ray"))


def test_tasks_are_of_neighbours_that_the_same_networks_want() -> None:
    wants = {0: [0], 1: [0], 2: [0, 1], 3: [0, 1], 5: [0, 1], 6: [], 7: [1], 8: [1], 9: [1]}
    found = [(shard.batches, shard.places) for shard in _shards(sorted(wants), wants.__getitem__, 2)]
    assert found == [
        ((0, 1), (0,)),
        ((2, 3), (0, 1)),
        ((5,), (0, 1)),
        ((7, 8), (1,)),
        ((9,), (1,)),
    ]
