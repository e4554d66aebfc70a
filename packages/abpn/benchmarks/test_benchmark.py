"""Speed and memory of ABPN: every stage and the whole, beside a plain version and the machine's limits.

``nox -s benchmark`` runs it. In the JSON, times are seconds; ``extra_info`` of every benchmark holds

- ``device_seconds``: median and quartiles, by events on the GPU; on the CPU those of the benchmark itself,
- ``roofline_seconds``: the time that the operations at this machine's matrix peak, or the bytes at its copying speed,
  would take, whichever is more, and ``share_of_roofline``, that time over the median,
- ``peak_memory``: bytes, measured in a process of its own that runs the case once; ``before``: imports and inputs,
- ``times_as_fast_as_reference``: of the whole, against the reference timed in the same run.
"""

import json
import statistics
import sys
from functools import cache
from pathlib import Path
from typing import Any

import abpn_cases
import pytest
import torch
from abpn_cases import CASES, END_TO_END, REFERENCE, make_case
from retouch_common.testing.machine import copy_bandwidth, device_seconds, matmul_peak, run_measured

SIZES = (512, 1024, 2048, 4096)
SECONDS = 3.0  # of measuring a case, within the rounds below
FEWEST_ROUNDS, MOST_ROUNDS = 3, 50
PRECISION = "auto"

no_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICES = ("cpu", pytest.param("cuda", marks=[pytest.mark.cuda, no_gpu]))

_reference_medians: dict[tuple[str, int], float] = {}


@pytest.mark.parametrize("stage", CASES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("device", DEVICES)
@torch.inference_mode()
def test_stage(benchmark, device, size, stage):
    where = torch.device(device)
    case = make_case(stage, size, where, PRECISION)
    if stage in ("pyramid", "expansion") and not case.levels:
        pytest.skip(f"l = 0 at {size} x {size}: there is no {stage}")
    benchmark.group = f"{device} {size} x {size}"
    once = min(device_seconds(case.call, where, rounds=1, warmup=1))
    rounds = int(min(MOST_ROUNDS, max(FEWEST_ROUNDS, SECONDS / once)))
    times = device_seconds(case.call, where, rounds=rounds) if device == "cuda" else []
    benchmark.pedantic(_finished(case.call, where), rounds=rounds)  # warm already
    if benchmark.disabled:
        return
    times = times or list(benchmark.stats.stats.data)
    median = statistics.median(times)
    benchmark.extra_info.update(
        {
            "stage": stage,
            "size": size,
            "device": device,
            "preset": abpn_cases.PRESET,
            "levels": case.levels,
            "format": str(case.dtype).removeprefix("torch."),
            "device_seconds": dict(zip(("q1", "median", "q3"), _quartiles(times), strict=True)),
            "peak_memory": _peak_memory(stage, size, device),
            **_roofline(case, median, where),
        }
    )
    if stage == REFERENCE:
        _reference_medians[device, size] = median
    if stage == END_TO_END and (device, size) in _reference_medians:
        benchmark.extra_info["times_as_fast_as_reference"] = _reference_medians[device, size] / median


def _finished(call: Any, device: torch.device) -> Any:
    """The call and, on a GPU, waiting until its work is done."""
    if device.type != "cuda":
        return call

    def finished() -> None:
        call()
        torch.cuda.synchronize(device)

    return finished


def _quartiles(times: list[float]) -> list[float]:
    return statistics.quantiles(times, n=4, method="inclusive")


def _roofline(case: abpn_cases.Case, median: float, device: torch.device) -> dict[str, Any]:
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


@cache
def _bandwidth(device: torch.device) -> float:
    return copy_bandwidth(device)


@cache
def _matrix_peak(device: torch.device, dtype: torch.dtype) -> float:
    return matmul_peak(device, dtype)


def _peak_memory(stage: str, size: int, device: str) -> dict[str, Any]:
    finished = run_measured([sys.executable, str(Path(abpn_cases.__file__)), stage, str(size), device, PRECISION])
    assert finished.status == 0, finished.stderr
    return {"process": finished.peak, **json.loads(finished.stdout.splitlines()[-1])}
