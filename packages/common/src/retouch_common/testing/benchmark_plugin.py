"""pytest plugin that stores our description of the environment in the JSON of pytest-benchmark.

pytest packages/*/benchmarks --benchmark-only -p retouch_common.testing.benchmark_plugin --benchmark-json=FILE
"""

from __future__ import annotations

from typing import Any

from retouch_common.metrics.environment import environment


def pytest_benchmark_update_machine_info(config: Any, machine_info: dict[str, Any]) -> None:
    """Replace the machine description, which names the host, by ours."""
    machine_info.clear()
    machine_info.update(environment())
