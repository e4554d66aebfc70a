from __future__ import annotations

import functools
import json
import os
import platform
import runpy
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from retouch_common.training.runner import Runner

SCRIPT = Path(__file__).with_name("distributed_training.py")


@pytest.fixture(scope="module")
def train():
    return functools.partial(runpy.run_path(str(SCRIPT))["train"], cpu=True)


@pytest.fixture(scope="module")
def alone(train):
    return train(accumulate=1)


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """The same runs by two processes over gloo, started as a user starts them; one result for each rank."""
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen([*command, str(SCRIPT), str(folder)], env=environment, stderr=subprocess.PIPE, text=True)
    try:
        errors = process.communicate(timeout=400)[1]
    finally:
        process.terminate()  # the launcher takes its workers with it
        process.wait()
    assert process.returncode == 0, errors[-3000:]
    return [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in (0, 1)]


def close(a, b):
    return all(np.allclose(x, y, rtol=1e-5, atol=1e-7) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulated_micro_batches_equal_the_whole_batch(train, alone, accumulate):
    parts = train(accumulate=accumulate)
    for name in ("losses", "norms", "weights", "ema"):
        assert close(parts[name], alone[name]), name


@pytest.mark.parametrize("run", ["plain", "accumulated"])
def test_two_processes_equal_one_with_the_same_batch(alone, together, run):
    for rank in (0, 1):
        result = together[rank][run]
        assert result["processes"] == 2
        assert result["main"] == (rank == 0)
        for name in ("losses", "norms", "weights", "ema"):
            assert close(result[name], alone[name]), name
    assert together[0][run]["weights"] == together[1][run]["weights"], "the replicas are equal to the bit"


def test_without_the_exchange_of_gradients_they_would_differ(together):
    """Shows that the test above can fail."""
    assert not close(together[0]["unsynchronised"]["weights"], together[1]["unsynchronised"]["weights"])


def test_a_signal_to_one_process_stops_all_after_the_same_step(together):
    assert [result["stopped"]["last"] for result in together] == [3, 3]


def test_random_states_of_all_processes_reach_the_main_one(together):
    random = together[0]["plain"]["random"]
    assert sorted(random) == together[0]["plain"]["random_meta"] == ["process-0", "process-1"]
    assert random["process-0"] != random["process-1"], "seeded apart"


def test_a_signal_ends_the_loop_and_the_old_handlers_come_back(train):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    assert train(accumulate=1, signal_at=2)["last"] == 2
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_the_second_signal_kills():
    """In a fork for each signal, so that they need not import torch."""
    code = """
        import os, sys
        from retouch_common.training.runner import Runner
        for number in map(int, sys.argv[1:]):
            if (child := os.fork()) == 0:
                with Runner(cpu=True) as runner:
                    os.kill(os.getpid(), number)
                    if not runner.stop_requested():
                        os._exit(3)
                    os.kill(os.getpid(), number)
                os._exit(4)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    numbers = [signal.SIGINT, signal.SIGTERM]
    command = [sys.executable, "-c", textwrap.dedent(code), *(str(int(number)) for number in numbers)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert [int(status) for status in ended.stdout.split()] == [-number for number in numbers], ended.stderr
    assert ended.stderr.count("stopping after this step") == 2


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_memory_of_large_tensors_is_reused_on_a_cpu():
    script = """
        import resource, torch
        from retouch_common.training.runner import Runner
        Runner(cpu=True)
        for step in range(8):
            faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            torch.ones(20_000_000)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults)
    """
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    assert int(result.stdout) < 1000  # of 20,000 pages


def test_random_states_come_back():
    with Runner(cpu=True) as runner:
        tensors, meta = runner.random_states()
        drawn = torch.rand(3)
        runner.set_random_states(tensors, meta)
        assert torch.equal(torch.rand(3), drawn)
        runner.set_random_states({}, {})  # a run with fewer processes: nothing for this one


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp32"])
def test_precision_and_several_runners_in_one_process(precision):
    with Runner(precision=precision, cpu=True) as runner:
        model = torch.nn.Linear(4, 2)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        model, optimizer = runner.prepare(model, optimizer)
        x = runner.to_device({"x": torch.ones(1, 4), "name": "a"})
        with runner.micro_step(model), runner.autocast():
            inside = x["x"] @ torch.ones(4, 4)
            loss = model(x["x"]).float().square().sum()
            runner.backward(loss)
        optimizer.step()
    assert inside.dtype == (torch.bfloat16 if precision == "bf16" else torch.float32)
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize(("instructions", "precision"), [(False, "fp32"), (True, "bf16")])
def test_auto_is_what_the_cpu_computes_in_and_emulation_is_warned_of(monkeypatch, caplog, instructions, precision):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: instructions, raising=False)
    with Runner(precision="auto", cpu=True) as runner:
        assert runner.precision == precision
    assert not caplog.records
    with Runner(precision="bf16", cpu=True) as runner:
        assert runner.precision == "bf16"
    assert [record for record in caplog.messages if "only emulates bf16" in record] == caplog.messages
    assert bool(caplog.messages) == (not instructions)


def test_clip_returns_the_norm_before():
    with Runner(cpu=True) as runner:
        model = torch.nn.Linear(1, 1, bias=False)
        model, optimizer = runner.prepare(model, torch.optim.SGD(model.parameters()))
        runner.backward((model(torch.ones(1, 1)) * 6).sum())
        assert float(runner.clip(model, 2.0, optimizer)) == pytest.approx(6.0)
        assert model.weight.grad.item() == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "half"}, "'half' is unknown; choose one of auto, fp32, bf16, fp16"),
        ({"precision": "fp16", "cpu": True}, "fp16 needs a GPU"),
        ({"accumulate": 0}, "at least 1"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(ValueError, match=message):
        Runner(**options)
