"""Run the commands of a recipe in their order, skip finished ones, and let them stop and resume."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from retouch_common.metrics.environment import commit

FINISHED = "stages.jsonl"


def run_stages(commands: Iterable[str], run: Path) -> int:
    """Run commands one after another.

    What is finished stands in `stages.jsonl` of the run directory, a line for each command with its duration in seconds
    (of the last call, if it was resumed), its peak memory in units of 10^9 bytes and the commit it ended at.

    Returns:
        0, or the exit status of the command that failed or was stopped.
    """
    run.mkdir(parents=True, exist_ok=True)
    done = {entry["command"] for entry in finished_stages(run)}
    for command in commands:
        if command in done:
            print(f"finished before: {command}", flush=True)
            continue
        print(command, flush=True)
        start = time.perf_counter()
        status, peak = _run(command)
        if status:
            return status
        seconds = round(time.perf_counter() - start, 1)
        entry = {"command": command, "seconds": seconds, "peak_gb": peak, "commit": commit()}
        with (run / FINISHED).open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
    return 0


def finished_stages(run: Path) -> list[dict[str, Any]]:
    """Return the entries of `stages.jsonl`; [] if nothing is finished."""
    file = run / FINISHED
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []


def _run(command: str) -> tuple[int, float]:
    """Return exit status and peak memory; SIGTERM is forwarded, and SIGINT reaches the command from the terminal."""
    process = subprocess.Popen(shlex.split(command))
    signal.signal(signal.SIGTERM, lambda number, frame: os.kill(process.pid, number))
    signal.signal(signal.SIGINT, lambda number, frame: None)  # SIG_IGN would be inherited by the commands that follow
    _, raw_status, usage = os.wait4(process.pid, 0)
    status = os.waitstatus_to_exitcode(raw_status)
    return (status if status >= 0 else 128 - status), usage.ru_maxrss * 1024 / 1e9  # as shells do for signals
