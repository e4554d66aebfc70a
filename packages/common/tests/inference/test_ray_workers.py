"""Runs over many photographs in Ray: on this machine, and in a cluster of two nodes on it."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import psutil
import pytest
from many_runs import contents, draw, planned, run, table
from retouch_common.inference import ray_workers
from retouch_common.inference.ray_workers import run_in_ray
from retouch_common.inference.workers import ATTEMPTS, DEATHS, Outcome

pytestmark = pytest.mark.timeout(240)  # where Ray cannot start, it waits for ever
HERE = Path(__file__).parent
ENVIRONMENT = {
    "PYTHONPATH": os.pathsep.join([str(HERE), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]),  # for drawn_work
    "RAY_AUTH_MODE": "disabled",  # or tokens are kept in the home folder
    "RAY_worker_niceness": "0",
}
PROBE = """
import ray
ray.init("local", num_cpus=1, include_dashboard=False)
assert ray.get(ray.remote(lambda value: -value).remote(-1)) == 1
"""
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


@pytest.fixture(scope="module", autouse=True)
def environment():
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        # Not below $TMPDIR: Ray refuses a folder in a virtual environment, and its sockets need a short path.
        with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as folder:
            patch.setenv("RAY_TMPDIR", folder)
            pytest.importorskip("ray", reason="the engine ray needs the extra retouch-common[ray]")  # which reads them
            yield


@pytest.fixture(scope="module")
def working(environment):
    """Skip where Ray itself cannot run a task: it would wait for ever."""
    try:
        subprocess.run([sys.executable, "-c", PROBE], check=True, capture_output=True, timeout=150)
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        pytest.skip(f"Ray does not start on this machine: {error}")


@pytest.fixture(scope="module")
def cluster(working):
    """A cluster of two nodes, of which the first runs the command."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    cluster.add_node(**NODE)
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()


def in_the_middle(root, act):
    """Call ``act`` when some photographs are finished."""

    def wait():
        journal = root / "results.parquet.journal"
        while not journal.exists() or journal.read_text().count('"done"') < 4:
            time.sleep(0.05)
        act()

    threading.Thread(target=wait, daemon=True).start()


def kill_a_worker():
    actors = [p for p in psutil.process_iter(["cmdline"]) if "_Actor" in " ".join(p.info["cmdline"] or [])]
    actors[0].kill()


def fail():
    raise ValueError("weights.safetensors: no such file")


def test_the_ledger_knows_how_often_a_photograph_was_begun():
    ledger = ray_workers._Ledger()
    assert [ledger.begin(7) for _ in range(3)] == [0, 1, ATTEMPTS]
    outcome = Outcome(None, 1, 0.5, 2.0)
    ledger.finish(7, outcome)
    assert ledger.begin(7) == outcome  # its block is done again, as another photograph killed the worker
    ledger.forget([7])
    assert ledger.begin(7) == 0


def test_workers_that_die_in_a_row_end_the_run():
    ledger = ray_workers._Ledger()

    def die(numbers):
        for number in numbers:
            ledger.begin(number)
            ledger.begin(number)

    die(range(DEATHS - 1))
    ledger.finish(0, Outcome(None))
    die(range(DEATHS, 2 * DEATHS - 1))
    with pytest.raises(ValueError, match="20 worker processes died in a row"):
        die([2 * DEATHS])


@pytest.mark.parametrize(
    ("there", "workers", "gpus", "expected"),
    [
        ({"CPU": 8.0}, None, True, (8, {"num_cpus": 1})),
        ({"CPU": 8.0}, 3, True, (3, {"num_cpus": 1})),
        ({"CPU": 8.0, "GPU": 4.0}, None, True, (4, {"num_gpus": 1})),
        ({"CPU": 8.0, "GPU": 4.0}, 8, True, (8, {"num_gpus": 0.5})),
        ({"CPU": 8.0, "GPU": 4.0}, 6, True, (6, {"num_gpus": 0.5})),
        ({"CPU": 8.0, "GPU": 4.0}, None, False, (8, {"num_cpus": 1})),
    ],
)
def test_actors_use_the_gpus_if_there_are_any_and_they_may(monkeypatch, there, workers, gpus, expected):
    import ray

    monkeypatch.setattr(ray, "cluster_resources", lambda: there)
    assert ray_workers._resources(workers, gpus) == expected


def test_a_cluster_that_cannot_be_joined_is_named(tmp_path, monkeypatch):
    import ray

    def init(address, **options):
        raise ConnectionError("Could not find any running\nRay instance.")

    monkeypatch.setattr(ray, "init", init)
    draw(tmp_path / "in", 1)
    with pytest.raises(ValueError, match=r"^--ray-address auto: Could not find any running Ray instance\.$"):
        list(run_in_ray(fail, planned(tmp_path / "in", tmp_path / "out"), 1, address="auto"))


def test_a_temporary_folder_that_ray_refuses_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", os.path.join(sys.prefix, "tmp"))
    draw(tmp_path / "in", 1)
    with pytest.raises(ValueError, match="lies in the virtual environment; set RAY_TMPDIR"):
        list(run_in_ray(fail, planned(tmp_path / "in", tmp_path / "out"), 1))


@pytest.mark.slow
def test_without_an_address_ray_runs_on_this_machine_until_the_run_ends(tmp_path, working):
    import ray
    from drawn_work import lighten

    draw(tmp_path / "in", 3)
    handler = signal.getsignal(signal.SIGTERM)
    outcomes = run_in_ray(lighten(), planned(tmp_path / "in", tmp_path / "out"), 1)
    task, outcome = next(outcomes)
    assert outcome.reason is None and task.job.target.exists()
    assert signal.getsignal(signal.SIGTERM) == handler
    outcomes.close()
    assert not ray.is_initialized()


@pytest.mark.slow
def test_a_poisonous_file_and_a_killed_worker_lose_nothing_and_files_are_those_of_the_engine_local(tmp_path, cluster):
    from drawn_work import lighten

    work = lighten(seconds=0.1, provenance=False)  # the time is in the history
    draw(tmp_path / "in", 24)
    (tmp_path / "in" / "photo001.png").rename(tmp_path / "in" / "photo001 poison.png")
    in_the_middle(tmp_path, kill_a_worker)
    totals, failures = run(tmp_path, work=work, engine=partial(run_in_ray, workers=2, address=cluster.address))
    assert totals == (23, 0, 1)
    assert "photo001 poison.png: its worker process died 2 times" in failures[0]
    row = table(tmp_path)["photo002.png"]
    assert (row["status"], row["faces"], row["changed"], row["weights"]) == ("done", 1, 0.25, "weights 50")
    there = contents(tmp_path / "out")
    assert len(there) == 23
    (tmp_path / "in" / "photo001 poison.png").unlink()
    (tmp_path / "results.parquet").unlink()
    run(tmp_path, work=work, out="local")
    assert contents(tmp_path / "local") == there


@pytest.mark.slow
def test_a_worker_that_cannot_start_ends_the_run_in_one_line(tmp_path, cluster):
    draw(tmp_path / "in", 1)
    with pytest.raises(ValueError, match=r"weights\.safetensors: no such file") as raised:
        list(run_in_ray(fail, planned(tmp_path / "in", tmp_path / "out"), 1, address=cluster.address))
    assert "\n" not in str(raised.value)


@pytest.mark.slow
def test_a_node_lost_in_the_middle_loses_nothing(tmp_path, cluster):
    """The last test: the cluster has one node afterwards."""
    from drawn_work import lighten

    (second,) = cluster.worker_nodes
    draw(tmp_path / "in", 24)
    in_the_middle(tmp_path, partial(cluster.remove_node, second))
    engine = partial(run_in_ray, workers=2, address=cluster.address)
    assert run(tmp_path, work=lighten(seconds=0.3), engine=engine)[0] == (24, 0, 0)
    assert not cluster.worker_nodes
    assert len(contents(tmp_path / "out")) == 24
