"""A small training run for test_runner.py: the same script for one process and, under torchrun, for two."""

from __future__ import annotations

import json
import os
import signal
import sys

import torch
from retouch_common.training.ema import EMA
from retouch_common.training.runner import Runner
from retouch_common.training.samplers import EndlessBatches, endless_loader

STEPS = 6


class Noise(torch.utils.data.Dataset):
    """Thirteen random pictures."""

    def __len__(self):
        return 13

    def __getitem__(self, index):
        return {"x": torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(index))}


def train(*, accumulate: int, signal_at: int | None = None, skip_exchange: bool = False, cpu: bool = False) -> dict:
    """Train six steps with a batch of 8 altogether; return what the test compares."""
    with Runner(cpu=cpu, accumulate=accumulate) as runner:
        runner.seed(3)
        model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 3, 3))
        ema = EMA(model, decay=0.9)
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        model, optimizer = runner.prepare(model, optimizer)
        runner.seed(3, per_process=True)
        batches = EndlessBatches(
            13,
            batch_size=8,
            accumulate=accumulate,
            process_index=runner.process_index,
            num_processes=runner.num_processes,
            seed=1,
        )
        samples = iter(endless_loader(Noise(), batches))
        losses, norms, last = [], [], 0
        for step in range(1, STEPS + 1):
            total = 0.0
            for _ in range(runner.accumulate):
                batch = runner.to_device(next(samples))
                with runner.micro_step(model), runner.autocast():
                    output = (runner.unwrap(model) if skip_exchange else model)(batch["x"])
                    loss = (output - 0.3).square().mean()
                    runner.backward(loss)
                total += runner.mean({"loss": loss})["loss"].item() / accumulate
            norms.append(float(runner.clip(model, 1.0, optimizer)))
            optimizer.step()
            optimizer.zero_grad()
            ema.update(runner.unwrap(model))
            losses.append(total)
            last = step
            if step == signal_at and runner.process_index == runner.num_processes - 1:
                os.kill(os.getpid(), signal.SIGTERM)
            if runner.stop_requested():
                break
        random, meta = runner.random_states()
        return {
            "processes": runner.num_processes,
            "main": runner.is_main,
            "last": last,
            "losses": losses,
            "norms": norms,
            "weights": [p.tolist() for p in runner.unwrap(model).parameters()],
            "ema": [p.tolist() for p in ema.module.parameters()],
            "random": {key: value["torch"].tolist() for key, value in random.items()},
            "random_meta": sorted(meta),
        }


if __name__ == "__main__":
    torch.set_num_threads(1)
    rank = os.environ.get("RANK", "0")
    results = {
        "plain": train(accumulate=1),
        "accumulated": train(accumulate=2),
        "stopped": train(accumulate=1, signal_at=3),
        "unsynchronised": train(accumulate=1, skip_exchange=True),
    }
    with open(os.path.join(sys.argv[1], f"rank-{rank}.json"), "w", encoding="utf-8") as file:
        json.dump(results, file)
