"""Limits of the machine, and resources of a process: the references of benchmarks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

_COPY_BYTES = {"cpu": 1 << 28, "cuda": 1 << 30}  # far more than any cache holds
_MATRIX_SIDE = {"cpu": 2048, "cuda": 8192}

# A child's ru_maxrss starts with the size of the process it was forked from, so that a small process does the forking.
_LAUNCHER = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
status = subprocess.call(sys.argv[2:])
seconds = time.perf_counter() - start
used = resource.getrusage(resource.RUSAGE_CHILDREN)
peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
cpu_seconds = used.ru_utime + used.ru_stime
json.dump({"status": status, "peak": peak, "seconds": seconds, "cpu_seconds": cpu_seconds}, open(sys.argv[1], "w"))
"""


@dataclass(frozen=True)
class Finished:
    """A command that ran to its end.

    Attributes:
        status: Exit status; negative is the signal that ended it.
        stdout: What it printed.
        stderr: What it printed on standard error.
        peak: Largest resident memory of the process, bytes.
        seconds: From start to end.
        cpu_seconds: Processor time of all its threads.
    """

    status: int
    stdout: str
    stderr: str
    peak: int
    seconds: float
    cpu_seconds: float


def run_measured(command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> Finished:
    """Run a command, with further variables, and measure its time and peak memory (Linux and macOS)."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        finished = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(report), *command],
            capture_output=True,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        if not report.is_file():
            raise OSError(f"{command[0]}: could not be run ({finished.stderr.strip()[-300:]})")
        about = json.loads(report.read_text())
    return Finished(stdout=finished.stdout, stderr=finished.stderr, **about)


def copy_bandwidth(device: torch.device) -> float:
    """Return bytes per second, read and written ones both counted, of copying a large tensor; best of several."""
    source = torch.ones(_COPY_BYTES[device.type] // 4, device=device)
    target = torch.empty_like(source)
    seconds = min(device_seconds(lambda: target.copy_(source), device, rounds=10))
    return 2 * source.numel() * 4 / seconds


def matmul_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Return floating-point operations per second of multiplying large square matrices; best of several."""
    side = _MATRIX_SIDE[device.type]
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / min(device_seconds(lambda: a @ b, device, rounds=10))


def device_seconds(call: Callable[[], object], device: torch.device, *, rounds: int, warmup: int = 2) -> list[float]:
    """Time a call ``rounds`` times, after ``warmup`` calls: by events on a GPU, by the clock on the CPU."""
    for _ in range(warmup):
        call()
    if device.type != "cuda":
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        return times
    events = []
    for _ in range(rounds):
        start_event, end_event = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start_event.record()
        call()
        end_event.record()
        events.append((start_event, end_event))
    torch.cuda.synchronize(device)
    return [start_event.elapsed_time(end_event) / 1000 for start_event, end_event in events]
