"""Timing with pytest-benchmark beside the machine's limits, and memory in a separate process.

Times in the JSON are seconds; ``extra_info`` of every benchmark holds what the case says about itself and

- ``device_seconds``: median and quartiles, by events on the GPU; on the CPU those of the benchmark itself,
- ``roofline_seconds``: the larger of the times of its operations at this machine's matrix peak and of its bytes at its
  copying speed, and ``share_of_roofline``, that time over the median,
- ``peak_memory``: bytes, in a process that runs the case once; ``before``: imports and inputs.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import nn

from retouch_common.testing.machine import copy_bandwidth, device_seconds, matmul_peak, run_measured

SECONDS = 3.0  # of measuring a case, within the rounds below
FEWEST_ROUNDS, MOST_ROUNDS = 3, 50

_reference_medians: dict[str, float] = {}


@dataclass(frozen=True)
class Case:
    """Something to time, with the format of its convolutions and further JSON values to record.

    Attributes:
        count_flops: Counts floating-point operations, a multiply-add as two. A function, since torch's counter alone
            takes hundreds of megabytes.
        num_bytes: Least number of bytes through the memory bus: inputs, outputs and weights once.
    """

    call: Callable[[], object]
    dtype: torch.dtype
    count_flops: Callable[[], int]
    num_bytes: int
    about: Mapping[str, Any] = field(default_factory=dict)


def time_case(
    benchmark: Any,
    case: Case,
    device: torch.device,
    script: Sequence[str],
    *,
    group: str,
    about: Mapping[str, Any],
    name: str,
    reference: str | None,
) -> float | None:
    """Time a case and record everything about it, with ``about``, in the benchmark's ``extra_info``.

    ``script`` is a Python file and its arguments that carry out the case once by :func:`run_once`. Cases of a ``group``
    are shown together; of those that follow the one called ``reference``, ``times_as_fast_as_REFERENCE`` is recorded.
    Returns the median in seconds; None where benchmarks are disabled.
    """
    benchmark.group = group
    once = min(device_seconds(case.call, device, rounds=1, warmup=1))
    rounds = int(min(MOST_ROUNDS, max(FEWEST_ROUNDS, SECONDS / once)))
    times = device_seconds(case.call, device, rounds=rounds) if device.type == "cuda" else []
    benchmark.pedantic(_finished(case.call, device), rounds=rounds)  # warm already
    if benchmark.disabled:
        return None
    times = times or list(benchmark.stats.stats.data)
    median = statistics.median(times)
    quartiles = statistics.quantiles(times, n=4, method="inclusive")
    benchmark.extra_info.update(
        {
            **about,
            **case.about,
            "device": device.type,
            "format": str(case.dtype).removeprefix("torch."),
            "device_seconds": dict(zip(("q1", "median", "q3"), quartiles, strict=True)),
            "peak_memory": _peak_memory(script),
            **_roofline(case, median, device),
        }
    )
    if name == reference:
        _reference_medians[group] = median
    elif reference and group in _reference_medians:
        benchmark.extra_info[f"times_as_fast_as_{reference}"] = _reference_medians[group] / median
    return median


def run_once(case: Callable[[], Case], device: torch.device) -> None:
    """Build a case, run it once and print the memory before and, on a GPU, the device's peak, as JSON."""
    built = case()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    held = peak = None
    if device.type == "cuda":
        held = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
    with torch.inference_mode():
        built.call()
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
    print(json.dumps({"before": before, "device_before": held, "device_peak": peak}))


def num_bytes(*values: Any) -> int:
    """Return the bytes of tensors and of the parameters of modules, also within lists, tuples and dicts."""
    total = 0
    for value in values:
        if isinstance(value, nn.Module):
            total += sum(parameter.numel() * parameter.element_size() for parameter in value.parameters())
        elif isinstance(value, torch.Tensor):
            total += value.numel() * value.element_size()
        elif isinstance(value, Mapping):
            total += num_bytes(*value.values())
        elif isinstance(value, list | tuple):
            total += num_bytes(*value)
    return total


def _finished(call: Callable[[], object], device: torch.device) -> Callable[[], object]:
    if device.type != "cuda":
        return call

    def finished() -> None:
        call()
        torch.cuda.synchronize(device)

    return finished


def _roofline(case: Case, median: float, device: torch.device) -> dict[str, Any]:
    bandwidth, peak = _bandwidth(device), _matrix_peak(device, case.dtype)
    flops = case.count_flops()
    seconds = max(flops / peak, case.num_bytes / bandwidth)
    return {
        "flops": flops,
        "bytes": case.num_bytes,
        "machine": {"copy_bytes_per_second": bandwidth, "matmul_flops_per_second": peak},
        "roofline_seconds": seconds,
        "share_of_roofline": seconds / median,
    }


_bandwidth, _matrix_peak = cache(copy_bandwidth), cache(matmul_peak)


def _peak_memory(script: Sequence[str]) -> dict[str, Any]:
    finished = run_measured([sys.executable, *script])
    assert finished.status == 0, finished.stderr
    return {"process": finished.peak, **json.loads(finished.stdout.splitlines()[-1])}
