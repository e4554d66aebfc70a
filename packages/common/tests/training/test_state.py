from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch
from retouch_common.training import checkpoint, state


class Net(torch.nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(3, width, 3),
            torch.nn.BatchNorm2d(width),
            torch.nn.Dropout(0.3),
            torch.nn.Conv2d(width, 3, 3),
        ).to(memory_format=torch.channels_last)

    def forward(self, x):
        return self.layers(x)


def build(model=None):
    torch.manual_seed(0)
    model = model or Net()
    first, *others = model.parameters()
    groups = [{"params": [first]}, {"params": others, "lr": 2e-2}]
    optimizer = torch.optim.Adam(groups, lr=1e-2, betas=(0.8, 0.95))
    return model, optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))


def train(model, optimizer, scheduler, steps):
    for _ in range(steps):
        x = torch.rand(2, 3, 12, 12) * random.random() * np.random.rand()
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        scheduler.step()


def digest(model, optimizer):
    values = dict(model.state_dict())
    for index, entry in optimizer.state_dict()["state"].items():
        values |= {f"{index}/{name}": value for name, value in entry.items()}
    return values


def test_five_steps_and_five_resumed_equal_ten_to_the_bit(tmp_path):
    def start():
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)

    model, opt, sched = build()
    start()
    train(model, opt, sched, 10)
    expected, rate = digest(model, opt), sched.get_last_lr()

    model, opt, sched = build()
    start()
    train(model, opt, sched, 5)
    opt_tensors, opt_meta = state.optimizer_state(opt)
    rng_tensors, rng_meta = state.random_state()
    checkpoint.save(
        tmp_path,
        5,
        tensors={"model": model.state_dict(), "optimizer": opt_tensors, "random": rng_tensors},
        meta={"optimizer": opt_meta, "random": rng_meta, "scheduler": sched.state_dict()},
    )

    torch.manual_seed(77)
    random.seed(77)
    np.random.seed(77)
    saved = checkpoint.latest(tmp_path)
    model, opt, sched = build()
    model.load_state_dict(saved.tensors("model"))
    state.load_optimizer_state(opt, saved.tensors("optimizer"), saved.meta["optimizer"])
    sched.load_state_dict(saved.meta["scheduler"])
    state.set_random_state(saved.tensors("random"), saved.meta["random"])
    train(model, opt, sched, 5)

    assert sched.get_last_lr() == rate
    resumed = digest(model, opt)
    assert resumed.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(torch.as_tensor(resumed[name]), torch.as_tensor(value)), name


def test_moments_come_back_in_the_parameters_memory_format():
    model, opt, sched = build()
    train(model, opt, sched, 1)
    tensors, meta = state.optimizer_state(opt)
    contiguous = {key: {n: t.contiguous() for n, t in entry.items()} for key, entry in tensors.items()}
    other, fresh, _ = build()
    state.load_optimizer_state(fresh, contiguous, json.loads(json.dumps(meta)))
    weight = other.layers[0].weight
    assert fresh.state[weight]["exp_avg"].stride() == weight.stride()
    assert weight.stride() != weight.contiguous().stride()


def test_another_model_is_refused():
    model, opt, sched = build()
    train(model, opt, sched, 1)
    tensors, meta = state.optimizer_state(opt)
    _, wide, _ = build(Net(width=8))
    with pytest.raises(ValueError, match=r"exp_avg.*\(4, 3, 3, 3\) for a parameter of shape \(8, 3, 3, 3\)"):
        state.load_optimizer_state(wide, tensors, meta)
    with pytest.raises(ValueError, match="group"):
        state.load_optimizer_state(torch.optim.Adam(model.parameters()), tensors, meta)


def test_random_state_covers_python_numpy_and_torch(tmp_path):
    random.gauss(0, 1)  # leaves a second value waiting, which is part of the state
    np.random.randn()
    tensors, meta = state.random_state()
    drawn = [random.gauss(0, 1), random.random(), np.random.randn(), np.random.rand(), torch.rand(3).tolist()]
    checkpoint.save(tmp_path, 0, tensors={"random": tensors}, meta=meta)
    saved = checkpoint.latest(tmp_path)
    state.set_random_state(saved.tensors("random"), saved.meta)
    again = [random.gauss(0, 1), random.random(), np.random.randn(), np.random.rand(), torch.rand(3).tolist()]
    assert again == drawn


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_random_state_covers_cuda():
    tensors, meta = state.random_state()
    drawn = torch.rand(3, device="cuda")
    state.set_random_state(tensors, meta)
    assert torch.equal(torch.rand(3, device="cuda"), drawn)
