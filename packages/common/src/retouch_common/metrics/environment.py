"""The machine and software of a measurement, without names of hosts or users."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from retouch_common.versions import package_version

COMMON = "retouch-common"
LIBRARIES = ("torch", "torchvision", "kornia", "numpy", "pyvips", "onnxruntime", "openvino")

MEASURED = ("docs/evidence", "docs/reproduction")  # results; changes there leave the work tree clean


def environment() -> dict[str, Any]:
    """Return machine and software as JSON values; memory in bytes."""
    import torch

    gpu = None
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        gpu = {
            "name": properties.name,
            "memory": properties.total_memory,
            "capability": f"{properties.major}.{properties.minor}",
            "cuda": torch.version.cuda,
        }
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": commit(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "huge_pages": _huge_pages(),
        "gpu": gpu,
        "packages": {name: version for name in (*_own_packages(), *LIBRARIES) if (version := package_version(name))},
    }


def work_tree_changes() -> list[str] | None:
    """Return the files of the checkout that differ from its commit or are untracked; None outside a checkout."""
    if _git("ls-files", "--error-unmatch", "--", Path(__file__).name) is None:  # installed within another repository
        return None
    left_out = [f":(top,exclude){folder}" for folder in MEASURED]
    status = _git("status", "--porcelain", "--untracked-files=all", "--", ":(top)", *left_out)
    return None if status is None else [line[3:] for line in status.splitlines()]


def _own_packages() -> list[str]:
    """Return the names of this project's installed distributions: common, and those that require it."""
    found = {COMMON}
    for distribution in metadata.distributions():
        if any(re.match(rf"{COMMON}\b", requirement) for requirement in distribution.requires or ()):
            found.add(distribution.metadata["Name"])
    return sorted(found)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _huge_pages() -> str | None:
    """Return when Linux backs large allocations with huge pages: "always", "madvise" or "never"; None elsewhere."""
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    chosen = re.search(r"\[(\w+)\]", setting.read_text()) if setting.is_file() else None
    return chosen and chosen[1]


def commit() -> str | None:
    """Return the commit of the checkout, with "-dirty" if files differ from it; None outside a checkout."""
    changes, head = work_tree_changes(), _git("rev-parse", "--short=12", "HEAD")
    return head + ("-dirty" if changes else "") if head and changes is not None else None


def _git(*arguments: str) -> str | None:
    """Return the output of git in the checkout of this file; None without git or outside a checkout."""
    try:
        result = subprocess.run(["git", *arguments], capture_output=True, text=True, cwd=Path(__file__).parent)
    except OSError:
        return None
    return None if result.returncode else result.stdout.rstrip()
