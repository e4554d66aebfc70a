from __future__ import annotations

import sys
import time

import pytest
import torch
from retouch_common.testing import machine
from retouch_common.testing.machine import copy_bandwidth, device_seconds, matmul_peak, run_measured

MB = 1_000_000


def test_peak_memory_is_the_childs_own():
    ballast = bytearray(400 * MB)  # what this process holds must not count
    small = run_measured([sys.executable, "-c", "print('done')"])
    assert (small.status, small.stdout.strip()) == (0, "done")
    assert 2 * MB < small.peak < 100 * MB < len(ballast)
    large = run_measured([sys.executable, "-c", f"bytearray({300 * MB}).count(1)"])
    assert 300 * MB < large.peak < 400 * MB


def test_processor_time_is_the_childs_own():
    sum(range(3_000_000))  # what this process computes must not count
    asleep = run_measured([sys.executable, "-c", "import time; time.sleep(0.5)"])
    assert asleep.seconds > 0.5 and asleep.cpu_seconds < 0.4
    busy = "import time\nwhile time.process_time() < 0.5: pass"
    assert run_measured([sys.executable, "-c", busy]).cpu_seconds > 0.5


def test_status_output_and_environment_come_back():
    code = "import os, sys; print(os.environ['COLOUR'], file=sys.stderr); sys.exit(3)"
    finished = run_measured([sys.executable, "-c", code], environment={"COLOUR": "green"})
    assert (finished.status, finished.stderr.strip()) == (3, "green")


def test_a_program_that_is_not_there_is_named():
    with pytest.raises(OSError, match="no-such-program"):
        run_measured(["no-such-program"])


def test_times_are_those_of_the_call():
    calls = []
    times = device_seconds(lambda: calls.append(torch.ones(10).sum()), torch.device("cpu"), rounds=4, warmup=3)
    assert len(times) == 4 and len(calls) == 7 and min(times) > 0


@pytest.fixture
def small(monkeypatch):
    """Benchmarks of 16 MiB and of matrices of 256 x 256."""
    monkeypatch.setattr(machine, "_COPY_BYTES", {"cpu": 1 << 24})
    monkeypatch.setattr(machine, "_MATRIX_SIDE", {"cpu": 256})
    return torch.device("cpu")


def test_limits_are_of_the_fastest_round(small, monkeypatch):
    monkeypatch.setattr(machine, "device_seconds", lambda call, device, rounds: [0.5, 0.25, 1.0])
    assert copy_bandwidth(small) == 2 * (1 << 24) / 0.25
    assert matmul_peak(small, torch.float32) == 2 * 256**3 / 0.25


def test_limits_are_those_of_a_copy_and_a_product(small, monkeypatch):
    """In processor time, which does not pass while other processes run."""
    monkeypatch.setattr(time, "perf_counter", time.thread_time)
    source, a = torch.ones(1 << 22), torch.randn(256, 256)
    target = torch.empty_like(source)
    copied = 2 * (1 << 24) / min(device_seconds(lambda: target.copy_(source), small, rounds=10))
    multiplied = 2 * 256**3 / min(device_seconds(lambda: a @ a, small, rounds=10))
    assert copied / 4 < copy_bandwidth(small) < 4 * copied
    assert multiplied / 4 < matmul_peak(small, torch.float32) < 4 * multiplied
