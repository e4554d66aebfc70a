"""The order of training samples: endless, shuffled, resumable, and the same for any number of processes.

Sample number n of a run is a pure function of the seed, so that a run resumed at step s begins with
n = s * batch size. The processes of a step share the samples that a single process would take.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import multiprocessing
import signal
import sys
import weakref
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from multiprocessing import resource_tracker
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset


@dataclass(frozen=True)
class EndlessBatches:
    """Batches of sample indices for one process, for ``DataLoader(batch_sampler=...)``.

    In epoch e every sample i of N comes once, in an order drawn from (seed, e), under the index e * N + i. A data set
    uses ``index % N`` to choose the sample and the whole index to draw its augmentation.

    Attributes:
        num_samples: N, the length of the data set.
        batch_size: Samples in one step, over all processes and micro-batches.
        accumulate: Micro-batches in one step; each gets a list of indices.
        process_index: Number of this process.
        num_processes: Number of processes.
        seed: Seed of the order.
        start_step: Steps already done.

    Raises:
        ValueError: The data set is empty, or the batch cannot be divided equally.
    """

    num_samples: int
    _: KW_ONLY
    batch_size: int
    accumulate: int = 1
    process_index: int = 0
    num_processes: int = 1
    seed: int = 0
    start_step: int = 0

    def __post_init__(self) -> None:
        if self.num_samples < 1:
            raise ValueError("the data set has no samples")
        if self.batch_size < 1 or self.batch_size % (self.accumulate * self.num_processes):
            raise ValueError(
                f"a batch of {self.batch_size} cannot be divided equally over {self.num_processes} process(es) "
                f"with {self.accumulate} micro-batch(es) each"
            )

    def __iter__(self) -> Iterator[list[int]]:
        """Yield ``accumulate`` lists of indices for each step, from ``start_step`` on, without end."""
        size = self.batch_size // (self.accumulate * self.num_processes)
        start = self.start_step * self.batch_size + self.process_index * size
        for first in itertools.count(start, self.num_processes * size):
            yield [self._index(position) for position in range(first, first + size)]

    def _index(self, position: int) -> int:
        epoch, place = divmod(position, self.num_samples)
        return epoch * self.num_samples + int(_order(self.num_samples, self.seed, epoch)[place])


@functools.lru_cache(maxsize=4)  # data sets of a run
def _order(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(num_samples)


def endless_loader(dataset: Dataset, batches: EndlessBatches, *, num_workers: int = 0) -> DataLoader:
    """Return a loader over ``batches`` that leaves the global random state alone.

    Workers are spawned, since libvips and thread pools do not survive a fork. From their start they block SIGINT and
    SIGTERM, which terminals, torchrun and SLURM send to them too, so that the running step ends with its samples.
    """
    workers: dict[str, Any] = {}
    if num_workers > 0:
        workers = {
            "multiprocessing_context": "spawn",
            "worker_init_fn": _start_worker,
            "prefetch_factor": 2,
            "persistent_workers": True,
        }
    return _Loader(
        dataset,
        batch_sampler=batches,
        num_workers=num_workers,
        generator=torch.Generator().manual_seed(batches.seed),
        **workers,
    )


class _Loader(DataLoader):
    """A loader whose workers are started with signals blocked: they import for seconds before they can ignore them."""

    def __iter__(self) -> Any:
        if not self.num_workers or not hasattr(signal, "pthread_sigmask"):  # Windows
            return super().__iter__()
        resource_tracker.ensure_running()  # unblocks signals when it starts
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})  # new processes inherit it
        try:
            batches = super().__iter__()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        atexit.register(_end_workers, weakref.ref(batches))
        return batches


def _end_workers(batches: weakref.ref[Any]) -> None:
    """Let the workers of a loader end that an exception keeps: multiprocessing would wait for them after a SIGTERM."""
    if (kept := batches()) is not None:
        kept._shutdown_workers()


def _start_worker(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():  # killed meanwhile; torch watches from now on only
        sys.exit(1)
