from __future__ import annotations

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


OPTIMIZERS = {
    "adam": lambda p: torch.optim.Adam(p, lr=1e-2, betas=(0.8, 0.95)),
    "adamw-amsgrad": lambda p: torch.optim.AdamW(p, lr=1e-2, amsgrad=True),
    "sgd-momentum": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9, nesterov=True),
    "tensor-lr": lambda p: torch.optim.Adam(p, lr=torch.tensor(1e-2), foreach=False, capturable=False),
}
SCHEDULERS = {
    "cosine": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 20),
    "milestones": lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [3, 7], 0.1),
    "lambda": lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda step: 1 / (1 + step)),
    "warm-up": lambda o: torch.optim.lr_scheduler.SequentialLR(
        o,
        [torch.optim.lr_scheduler.LinearLR(o, 0.1, total_iters=3), torch.optim.lr_scheduler.StepLR(o, 2)],
        milestones=[3],
    ),
    "one-cycle": lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=20, cycle_momentum=False),
}


def build(optimizer, scheduler):
    torch.manual_seed(0)
    model = Net()
    opt = OPTIMIZERS[optimizer](model.parameters())
    return model, opt, SCHEDULERS[scheduler](opt)


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


@pytest.mark.parametrize(
    ("optimizer", "scheduler"),
    [
        *(("adam", scheduler) for scheduler in SCHEDULERS),
        ("adamw-amsgrad", "cosine"),
        ("sgd-momentum", "milestones"),
        ("tensor-lr", "milestones"),
    ],
)
def test_five_steps_and_five_resumed_equal_ten_to_the_bit(tmp_path, optimizer, scheduler):
    def start():
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)

    model, opt, sched = build(optimizer, scheduler)
    start()
    train(model, opt, sched, 10)
    expected, rate = digest(model, opt), sched.get_last_lr()

    model, opt, sched = build(optimizer, scheduler)
    start()
    train(model, opt, sched, 5)
    opt_tensors, opt_meta = state.optimizer_state(opt)
    rng_tensors, rng_meta = state.random_state()
    checkpoint.save(
        tmp_path,
        5,
        tensors={"model": model.state_dict(), "optimizer": opt_tensors, "random": rng_tensors},
        meta={"optimizer": opt_meta, "random": rng_meta, "scheduler": state.scheduler_state(sched)},
    )

    torch.manual_seed(77)
    random.seed(77)
    np.random.seed(77)
    saved = checkpoint.latest(tmp_path)
    model, opt, sched = build(optimizer, scheduler)
    model.load_state_dict(saved.tensors("model"))
    state.load_optimizer_state(opt, saved.tensors("optimizer"), saved.meta["optimizer"])
    state.load_scheduler_state(sched, saved.meta["scheduler"])
    state.set_random_state(saved.tensors("random"), saved.meta["random"])
    train(model, opt, sched, 5)

    assert sched.get_last_lr() == rate
    resumed = digest(model, opt)
    assert resumed.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(torch.as_tensor(resumed[name]), torch.as_tensor(value)), name


def test_moments_come_back_in_the_parameters_memory_format_and_tuples_as_tuples():
    model, opt, sched = build("adam", "cosine")
    train(model, opt, sched, 1)
    tensors, meta = state.optimizer_state(opt)
    contiguous = {key: {n: t.contiguous() for n, t in entry.items()} for key, entry in tensors.items()}
    other, fresh, _ = build("adam", "cosine")
    state.load_optimizer_state(fresh, contiguous, {k: _through_json(v) for k, v in meta.items()})
    weight = other.layers[0].weight
    assert fresh.state[weight]["exp_avg"].stride() == weight.stride()
    assert weight.stride() != weight.contiguous().stride()
    assert fresh.param_groups[0]["betas"] == (0.8, 0.95)


def _through_json(value):
    import json

    return json.loads(json.dumps(value))


def test_another_model_is_refused():
    model, opt, sched = build("adam", "cosine")
    train(model, opt, sched, 1)
    tensors, meta = state.optimizer_state(opt)
    wide = Net(width=8)
    with pytest.raises(ValueError, match=r"exp_avg.*\(4, 3, 3, 3\) for parameter 0, .*\(8, 3, 3, 3\)"):
        state.load_optimizer_state(OPTIMIZERS["adam"](wide.parameters()), tensors, meta)
    with pytest.raises(ValueError, match="other parameter groups"):
        state.load_optimizer_state(OPTIMIZERS["adam"](list(wide.parameters())[:2]), tensors, meta)


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


def test_grad_scaler_state_is_json(tmp_path):
    scaler = torch.amp.GradScaler("cpu", init_scale=128.0)
    scaler.scale(torch.ones(1))
    checkpoint.save(tmp_path, 1, tensors={}, meta={"scaler": state.scheduler_state(scaler)})
    other = torch.amp.GradScaler("cpu")
    state.load_scheduler_state(other, checkpoint.latest(tmp_path).meta["scaler"])
    assert other.state_dict() == scaler.state_dict()
