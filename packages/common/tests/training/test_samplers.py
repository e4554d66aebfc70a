from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch
from retouch_common.training.samplers import EndlessBatches, endless_loader


def stream(steps, **options):
    options = {"batch_size": 4, "seed": 3, **options}
    batches = EndlessBatches(10, **options)
    return list(itertools.islice(batches, steps * options.get("accumulate", 1)))


def test_every_sample_once_an_epoch_under_an_index_that_never_returns():
    indices = list(itertools.chain(*stream(15)))  # 60 samples: six epochs
    assert Counter(index % 10 for index in indices) == dict.fromkeys(range(10), 6)
    assert sorted(indices) == list(range(60))
    for epoch in range(6):
        assert {index // 10 for index in indices[epoch * 10 : epoch * 10 + 10]} == {epoch}
    assert len({tuple(i % 10 for i in indices[e * 10 : e * 10 + 10]) for e in range(6)}) == 6, "shuffled anew"


def test_another_seed_gives_another_order():
    assert stream(3) == stream(3)
    assert stream(3) != stream(3, seed=4)


@pytest.mark.parametrize("start", [1, 2, 3, 7])
def test_resuming_goes_on_where_the_run_stopped(start):
    assert stream(10)[start:] == stream(10 - start, start_step=start)
    assert stream(10, accumulate=2)[2 * start :] == stream(10 - start, accumulate=2, start_step=start)


@pytest.mark.parametrize(("processes", "accumulate"), [(1, 2), (2, 1), (2, 2), (4, 1), (1, 4)])
def test_a_step_has_the_same_samples_however_it_is_divided(processes, accumulate):
    whole = stream(6)
    parts = [
        stream(6, num_processes=processes, process_index=index, accumulate=accumulate) for index in range(processes)
    ]
    for step in range(6):
        shares = [part[step * accumulate : (step + 1) * accumulate] for part in parts]
        together = [index for share in shares for batch in share for index in batch]
        assert sorted(together) == sorted(whole[step])
        assert {len(batch) for share in shares for batch in share} == {4 // processes // accumulate}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 0, "batch_size": 1}, "no samples"),
        ({"num_samples": 5, "batch_size": 0}, "cannot be divided"),
        ({"num_samples": 5, "batch_size": 4, "num_processes": 3}, "a batch of 4 .* over 3 process"),
        ({"num_samples": 5, "batch_size": 4, "accumulate": 8}, "8 micro-batch"),
    ],
)
def test_mistakes(options, message):
    options = dict(options)
    with pytest.raises(ValueError, match=message):
        EndlessBatches(options.pop("num_samples"), **options)


class Echo(torch.utils.data.Dataset):
    def __len__(self):
        return 10

    def __getitem__(self, index):
        return {"index": index}


def test_loader_leaves_the_global_random_state_alone():
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[2], random.getstate()
    loader = iter(endless_loader(Echo(), EndlessBatches(10, batch_size=4, seed=3)))
    found = [next(loader)["index"].tolist() for _ in range(5)]
    assert found == stream(5)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[2], random.getstate()) == before[1:]


class Blocked(Echo):
    """Whether the signals that end a run were blocked where a sample is loaded."""

    def __getitem__(self, index):
        return {signal.SIGINT, signal.SIGTERM} <= signal.pthread_sigmask(signal.SIG_BLOCK, [])


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="needs signal masks")
def test_signals_to_the_whole_group_do_not_end_workers():
    """Not even while they start: they import for seconds before they can ignore them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    batches = EndlessBatches(4, batch_size=2, seed=0)
    assert next(iter(endless_loader(Blocked(), batches, num_workers=1))).all()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("killed", [False, True])
def test_workers_end_with_their_process(killed, tmp_path):
    """Quietly where an exception keeps the loader, and also where the process is killed while they start."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os, signal\n"
        "from retouch_common.training.samplers import EndlessBatches, endless_loader\n"
        "if __name__ == '__main__':\n"
        "    kept = iter(endless_loader(range(4), EndlessBatches(4, batch_size=2), num_workers=2))\n"
        f"    os.kill(os.getpid(), signal.SIGKILL) if {killed} else next(kept)\n"
    )
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=400)  # waits for workers
    assert ended.returncode == (-signal.SIGKILL if killed else 0)
    assert killed or not ended.stderr
