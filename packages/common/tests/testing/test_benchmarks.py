"""What a benchmark writes down, on a case whose numbers are known."""

import json

import pytest
import torch
from retouch_common.testing import benchmarks
from retouch_common.testing.benchmarks import Case, num_bytes, run_once, time_case

CPU = torch.device("cpu")


def test_bytes_of_modules_and_nested_tensors():
    linear = torch.nn.Linear(3, 2)  # 6 weights and 2 biases
    assert num_bytes(linear, [torch.zeros(5), {4: torch.zeros(2, dtype=torch.float16)}], None) == 4 * (8 + 5) + 2 * 2


def test_a_case_is_timed_beside_its_roofline(benchmark, monkeypatch):
    monkeypatch.setattr(benchmarks, "_bandwidth", lambda device: 1e9)
    monkeypatch.setattr(benchmarks, "_matrix_peak", lambda device, dtype: 1e10)
    monkeypatch.setattr(benchmarks, "_peak_memory", lambda script: {"process": len(script)})
    monkeypatch.setattr(benchmarks, "SECONDS", 0.01)
    work = torch.zeros(1000)
    case = Case(lambda: work.add_(1), torch.float32, lambda: 2000, 8000, {"levels": 3})
    monkeypatch.setattr(benchmarks, "_reference_medians", {"sums": 10.0})
    script, about = ["script.py", "add"], {"stage": "add"}
    median = time_case(benchmark, case, CPU, script, group="sums", about=about, name="add", reference="plain")
    if benchmark.disabled:
        pytest.skip("benchmarks are disabled")
    info = benchmark.extra_info
    assert (info["stage"], info["levels"], info["format"], info["device"]) == ("add", 3, "float32", "cpu")
    assert info["roofline_seconds"] == 8000 / 1e9  # the bytes take longer than the operations
    assert info["share_of_roofline"] == pytest.approx(8000 / 1e9 / median)
    assert info["device_seconds"]["q1"] <= info["device_seconds"]["median"] == median
    assert info["peak_memory"] == {"process": 2}
    assert info["times_as_fast_as_plain"] == 10 / median


def test_a_reference_is_compared_with_in_its_own_group_alone(benchmark, monkeypatch):
    monkeypatch.setattr(benchmarks, "_peak_memory", lambda script: {})
    monkeypatch.setattr(benchmarks, "_roofline", lambda case, median, device: {})
    monkeypatch.setattr(benchmarks, "_reference_medians", medians := {"other": 1.0})
    monkeypatch.setattr(benchmarks, "SECONDS", 0.01)
    case = Case(lambda: None, torch.float32, lambda: 0, 0)
    median = time_case(benchmark, case, CPU, [], group="sums", about={}, name="plain", reference="plain")
    if benchmark.disabled:
        pytest.skip("benchmarks are disabled")
    assert medians == {"other": 1.0, "sums": median} and "times_as_fast_as_plain" not in benchmark.extra_info


def test_a_single_run_says_what_memory_there_was_before(capsys):
    calls = []
    run_once(lambda: Case(lambda: calls.append(1), torch.float32, lambda: 0, 0), CPU)
    report = json.loads(capsys.readouterr().out)
    assert calls == [1] and report["before"] > 1e6 and report["device_peak"] is None


def test_a_script_that_fails_fails_the_benchmark(tmp_path):
    (tmp_path / "broken.py").write_text("raise SystemExit('no memory')")
    with pytest.raises(AssertionError, match="no memory"):
        benchmarks._peak_memory([str(tmp_path / "broken.py")])
