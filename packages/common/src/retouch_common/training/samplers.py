"""The order of training samples: endless, shuffled, resumable, and the same for any number of processes.

Sample number n of a run is a pure function of the seed, so that a run resumed at step s begins with
n = s * batch size. The processes of a step share the samples that a single process would take.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler


class EndlessBatches(Sampler[list[int]]):
    """Batches of sample indices for one process, for ``DataLoader(batch_sampler=...)``.

    In epoch e every sample i of N comes once, in an order drawn from (seed, e), under the index e * N + i. A data set
    uses ``index % N`` to choose the sample and the whole index to draw its augmentation.

    Args:
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

    def __init__(
        self,
        num_samples: int,
        *,
        batch_size: int,
        accumulate: int = 1,
        process_index: int = 0,
        num_processes: int = 1,
        seed: int = 0,
        start_step: int = 0,
    ):
        if num_samples < 1:
            raise ValueError("the data set has no samples")
        if batch_size < 1 or batch_size % (accumulate * num_processes):
            raise ValueError(
                f"a batch of {batch_size} cannot be divided equally over {num_processes} process(es) "
                f"with {accumulate} micro-batch(es) each"
            )
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.accumulate = accumulate
        self.process_index = process_index
        self.num_processes = num_processes
        self.seed = seed
        self.start_step = start_step
        self._epoch: tuple[int, np.ndarray] | None = None

    def indices(self, step: int, micro_batch: int = 0) -> list[int]:
        """Return this process's indices of one micro-batch of step number ``step`` (from 0)."""
        size = self.batch_size // (self.accumulate * self.num_processes)
        first = step * self.batch_size + (micro_batch * self.num_processes + self.process_index) * size
        return [self._index(position) for position in range(first, first + size)]

    def __iter__(self) -> Iterator[list[int]]:
        """Yield ``accumulate`` lists of indices for each step, from ``start_step`` on, without end."""
        step = self.start_step
        while True:
            for micro_batch in range(self.accumulate):
                yield self.indices(step, micro_batch)
            step += 1

    def _index(self, position: int) -> int:
        epoch, place = divmod(position, self.num_samples)
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = (epoch, np.random.default_rng((self.seed, epoch)).permutation(self.num_samples))
        return epoch * self.num_samples + int(self._epoch[1][place])


def endless_loader(dataset: Dataset, batches: EndlessBatches, *, num_workers: int = 0) -> DataLoader:
    """Return a loader over ``batches`` that leaves the global random state alone.

    Workers are spawned, since libvips and thread pools do not survive a fork, and ignore SIGINT, so that Ctrl-C lets
    the running step end.
    """
    workers: dict[str, Any] = {}
    if num_workers > 0:
        workers = {
            "multiprocessing_context": "spawn",
            "worker_init_fn": _start_worker,
            "prefetch_factor": 2,
            "persistent_workers": True,
        }
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=num_workers,
        generator=torch.Generator().manual_seed(batches.seed),
        **workers,
    )


def _start_worker(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
