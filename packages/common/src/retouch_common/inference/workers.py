"""Worker processes on this machine, each with its own network and one thread, one photograph at a time.

Every worker is a process pool of one, so that the death of a process names the photograph that it was working on. The
number of threads is fixed because results depend on it in the last bits: files are the same for any number of workers.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import pyvips

from retouch_common.inference.batch import Job, Processed, failure_line, run_job
from retouch_common.inference.storage import OutputFolder, local_copy

ATTEMPTS = 2  # at a photograph whose worker dies
PHOTOS_PER_PROCESS = 1000  # then it is replaced, and with it what libraries have leaked
WORKER_MEMORY = 1_500_000_000  # bytes that a worker needs at most (docs/evidence/common.json)
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
DEATHS = 20  # of workers in a row without a finished photograph: then the machine is at fault


@dataclass(frozen=True)
class Work:
    """What a command does with one photograph, with its network loaded.

    Attributes:
        process: Process a job.
        weights: SHA-256 of the network's weights.
    """

    process: Callable[[Job], Processed]
    weights: str | None


Start = Callable[[], Work]
"""Loads the network; pickled, as a partial of a module's function is."""


@dataclass(frozen=True)
class Task:
    """A photograph, by path or URL, with its outputs in ``out``; the other attributes as of :func:`run_jobs`."""

    path: str
    job: Job
    out: OutputFolder
    copy_faceless: Callable[[Job], object] | None = None
    keep_times: bool = False


class Outcome(NamedTuple):
    """Result of processing a photograph: ``reason`` of a failure, else faces, share of changed pixels; seconds."""

    reason: str | None
    faces: int | None = None
    changed: float | None = None
    seconds: float | None = None


def default_workers() -> int:
    """Return the number of cores that this process may use, or fewer where memory is short."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, memory_limit() // WORKER_MEMORY))


def memory_limit() -> int:
    """Return the bytes of memory of this machine, or of the container (cgroup v2) if that has less."""
    try:
        installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError):  # not on POSIX
        installed = sys.maxsize
    try:
        return min(installed, int(CGROUP_LIMIT.read_text()))
    except (OSError, ValueError):  # no such file, or "max"
        return installed


def run_in_workers(start: Start, tasks: Iterable[Task], workers: int) -> Iterator[tuple[Task, Outcome]]:
    """Process photographs in worker processes; yield outcomes as they come.

    A photograph whose worker dies is tried once more, by a process that has shown that it works, if there is one.

    Raises:
        ValueError: If workers die one after the other; and what ``start`` raises.
    """
    remaining = ((task, 1) for task in tasks)
    again: deque[tuple[Task, int]] = deque()
    idle = [_Worker() for _ in range(workers)]
    running: dict[Future[Outcome], tuple[_Worker, Task, int]] = {}
    deaths = 0
    try:
        while True:
            while idle:
                following = again.popleft() if again and idle[-1].is_running else next(remaining, None)
                if following is None:
                    if not again:
                        break
                    following = again.popleft()
                worker = idle.pop()
                running[worker.submit(start, following[0])] = (worker, *following)
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                worker, task, attempt = running.pop(future)
                idle.append(worker)
                try:
                    outcome = future.result()
                except BrokenProcessPool:
                    worker.close()
                    deaths += 1
                    if deaths == DEATHS:
                        raise ValueError(
                            f"{DEATHS} worker processes died in a row, the last at {task.path}; if memory is short, "
                            "use fewer --workers"
                        ) from None
                    if attempt < ATTEMPTS:
                        again.append((task, attempt + 1))
                    else:
                        yield task, death(task)
                else:
                    deaths = 0
                    yield task, outcome
    finally:
        for worker in [*idle, *(worker for worker, _, _ in running.values())]:
            worker.close()


class _Worker:
    """A process that is replaced when it died or has processed ``PHOTOS_PER_PROCESS``."""

    def __init__(self) -> None:
        self._photos = 0
        self._pool: ProcessPoolExecutor | None = None

    @property
    def is_running(self) -> bool:
        return self._pool is not None

    def submit(self, start: Start, task: Task) -> Future[Outcome]:
        if self._photos == PHOTOS_PER_PROCESS:
            self.close()
        try:
            return self._submit(start, task)
        except BrokenProcessPool:  # it died at an earlier photograph, or idle
            self.close()
            return self._submit(start, task)

    def _submit(self, start: Start, task: Task) -> Future[Outcome]:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")  # forks of a process with threads may hang
            self._pool = ProcessPoolExecutor(1, mp_context=context, initializer=_prepare)
        self._photos += 1
        return self._pool.submit(_process, start, task)

    def close(self) -> None:
        """Wait for the photograph in progress, and end the process."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._pool, self._photos = None, 0


_work: Work | None = None  # of this worker process


def _prepare() -> None:
    """Set up a worker process: one thread for torch, which is not imported yet, and for libvips, which is."""
    os.environ["OMP_NUM_THREADS"] = os.environ["VIPS_CONCURRENCY"] = "1"
    pyvips.vips_lib.vips_concurrency_set(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches all; the parent ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _process(start: Start, task: Task) -> Outcome:
    global _work
    if _work is None:
        _work = start()
    return process_task(_work, task)


def death(task: Task) -> Outcome:
    """Return the outcome of a photograph whose worker died at every attempt."""
    return Outcome(f"{task.path}: its worker process died {ATTEMPTS} times")


def process_task(work: Work, task: Task) -> Outcome:
    """Process a photograph in this process, whatever goes wrong with it."""
    began = time.perf_counter()
    file = Path(task.path)
    names = {file: task.path}  # of local copies, which messages name
    try:
        with local_copy(task.path) as file, task.out.local_outputs(replace(task.job, source=file)) as job:
            names[file] = task.path
            names |= zip(job.outputs, map(task.out.name, task.job.outputs), strict=True)
            done = run_job(job, work.process, copy_faceless=task.copy_faceless, keep_times=task.keep_times)
    except Exception as error:
        reason = failure_line(file, error)
        for local, name in names.items():
            reason = reason.replace(str(local), name)
        return Outcome(reason, seconds=time.perf_counter() - began)
    return Outcome(None, done.num_faces, done.changed, time.perf_counter() - began)
