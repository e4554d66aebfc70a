"""Workers in a Ray cluster: Ray Data's ``map_batches`` with a pool of actors, over paths and never pixels.

Ray places the actors, replaces those that die and gives a dead one's block of photographs to another. An actor beside
the command knows how often each photograph was begun, so that one that kills its workers is not tried for ever, and the
others of its block are not done again.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import signal
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from retouch_common.inference.batch import Job
from retouch_common.inference.workers import ATTEMPTS, DEATHS, Outcome, Start, Task, death, process_task

MAX_BLOCK = 32  # photographs that an actor is given at once
BLOCKS_PER_ACTOR = 16  # at least, so that all are busy until the end
_FAILED_STARTS = 3  # of actors in a row, which are tried again
_OBJECT_STORE = 256 * 2**20  # bytes, of a Ray on this machine: it holds paths
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "VIPS_CONCURRENCY": "1"}  # as of local workers: pixels depend on it
_TYPES = {"number": "int64", "reason": "string", "faces": "int64", "changed": "float64", "seconds": "float64"}


def require_ray() -> None:
    """Refuse to start without Ray.

    Raises:
        ValueError: If it is not installed.
    """
    try:
        import ray.data  # noqa: F401
    except ImportError:
        raise ValueError('--engine ray needs Ray: pip install "retouch-common[ray]"') from None


def run_in_ray(
    start: Start, tasks: Iterable[Task], workers: int | None, *, address: str | None = None, gpus: bool = True
) -> Iterator[tuple[Task, Outcome]]:
    """Process photographs in actors of a Ray cluster; yield outcomes as they come.

    A photograph whose actor dies, also with its node, is tried once more.

    Args:
        start: Loads the network, in every actor.
        tasks: Photographs.
        workers: Number of actors; None for the number of GPUs in the cluster, or without GPUs that of its cores.
        address: Address of the cluster, "auto" for the one that this machine belongs to; None to start Ray here.
        gpus: Whether actors share the cluster's GPUs, if it has any.

    Raises:
        ValueError: If the cluster cannot be joined, an actor cannot start, or actors die one after the other.
    """
    due = list(tasks)
    if not due:
        return
    with _connected(address):
        import ray

        actors, reserved = _resources(workers, gpus)
        rows = min(MAX_BLOCK, math.ceil(len(due) / (actors * BLOCKS_PER_ACTOR)))
        actors = min(actors, math.ceil(len(due) / rows))
        try:
            for row in _outcomes(start, due, rows, actors, reserved):
                yield due[row.pop("number")], Outcome(**row)
        except ray.exceptions.RayError as error:
            raise ValueError(_reason(error)) from error


def _outcomes(
    start: Start, tasks: Sequence[Task], rows: int, actors: int, reserved: dict[str, float]
) -> Iterator[dict[str, Any]]:
    """Process tasks in blocks of ``rows``; yield a row of number and outcome for each."""
    import pyarrow as pa
    import ray
    from ray.data import ActorPoolStrategy, from_blocks
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    ledger = (
        ray.remote(_Ledger).options(num_cpus=0, scheduling_strategy=here, max_restarts=-1, max_task_retries=-1).remote()
    )
    paths = [
        {
            "number": number,
            "path": task.path,
            "target": str(task.job.target),
            "companions": list(map(str, task.job.companions)),
        }
        for number, task in enumerate(tasks)
    ]
    blocks = [pa.Table.from_pylist(paths[at : at + rows]) for at in range(0, len(paths), rows)]
    results = from_blocks(blocks).map_batches(
        _Actor,
        fn_constructor_args=[start, tasks[0], ledger, os.getcwd()],
        batch_size=None,  # a block
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=1),
        runtime_env={"env_vars": _ENVIRONMENT},
        **reserved,
    )
    yield from results.iter_rows()


class _Ledger:
    """Results of the photographs of unfinished blocks."""

    def __init__(self) -> None:
        self._begun: Counter[int] = Counter()
        self._outcomes: dict[int, Outcome] = {}
        self._deaths = 0  # in a row

    def begin(self, number: int) -> Outcome | int:
        """Return the outcome of a photograph if it has one, else the number of workers that died at it."""
        if number in self._outcomes:
            return self._outcomes[number]
        deaths = self._begun[number]
        self._begun[number] += 1
        self._deaths += deaths > 0
        if self._deaths == DEATHS:
            raise ValueError(f"{DEATHS} worker processes died in a row; if memory is short, use fewer --workers")
        return deaths

    def finish(self, number: int, outcome: Outcome) -> None:
        self._outcomes[number] = outcome
        self._deaths = 0

    def forget(self, numbers: Sequence[int]) -> None:
        """Drop the photographs of a finished block."""
        for number in numbers:
            self._outcomes.pop(number, None)
            self._begun.pop(number, None)


class _Actor:
    """A worker with its own network; called with a block of paths. ``like`` is a task of which only paths differ."""

    def __init__(self, start: Start, like: Task, ledger: Any, folder: str) -> None:
        with contextlib.suppress(OSError):  # a node that does not have it needs absolute paths
            os.chdir(folder)
        self._work, self._like, self._ledger = start(), like, ledger

    def __call__(self, block: Any) -> Any:
        """Return a table with a row per photograph: number and outcome."""
        import pyarrow as pa

        outcomes = [{"number": row["number"], **self._outcome(**row)._asdict()} for row in block.to_pylist()]
        self._ledger.forget.remote(block["number"].to_pylist())
        return pa.Table.from_pylist(outcomes, schema=pa.schema(_TYPES.items()))

    def _outcome(self, number: int, path: str, target: str, companions: Sequence[str]) -> Outcome:
        import ray

        known = ray.get(self._ledger.begin.remote(number))
        if isinstance(known, Outcome):
            return known
        job = Job(Path(path), Path(target), tuple(map(Path, companions)))
        task = replace(self._like, path=path, job=job)
        outcome = death(task) if known == ATTEMPTS else process_task(self._work, task)
        self._ledger.finish.remote(number, outcome)
        return outcome


def _resources(workers: int | None, gpus: bool) -> tuple[int, dict[str, float]]:
    """Return the number of actors, and what Ray reserves for each."""
    import ray

    there = ray.cluster_resources()
    if gpus and (number := int(there.get("GPU", 0))):
        actors = workers or number
        return actors, {"num_gpus": 1 / math.ceil(actors / number)}
    return workers or max(1, int(there.get("CPU", 1))), {"num_cpus": 1}


def _reason(error: Exception) -> str:
    """Return the message of the exception that ended a worker, out of Ray's account of it."""
    account = str(error)
    first = re.search(r"^[\w.]*(?:Error|Exception): (.+)$", account, re.MULTILINE)
    return first[1] if first else " ".join(account.split())


@contextlib.contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """Join a cluster, or start Ray on this machine, and leave it at the end.

    Raises:
        ValueError: If that is not possible.
    """
    import ray
    import ray.data

    alone: dict[str, Any] = {} if address else {"include_dashboard": False, "object_store_memory": _OBJECT_STORE}
    handler = signal.getsignal(signal.SIGTERM)
    temporary = Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir())).resolve()
    if not address and temporary.is_relative_to(sys.prefix):  # its workers would not start, and Ray wait for ever
        raise ValueError(
            f"--engine ray: Ray's temporary folder {temporary} lies in the virtual environment; set RAY_TMPDIR"
        )
    try:
        ray.init(address or "local", logging_level=logging.ERROR, log_to_driver=False, **alone)
    except (ConnectionError, RuntimeError, ray.exceptions.RayError) as error:  # not there, or of another version
        option = f"--ray-address {address}" if address else "--engine ray"
        raise ValueError(f"{option}: {' '.join(str(error).split())}") from None
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)  # instead of Ray's
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_consecutive_actor_init_deaths = _FAILED_STARTS
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # errors are raised
    try:
        yield
    finally:
        ray.shutdown()
