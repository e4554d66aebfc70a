"""Checkpoints that survive a kill at any instant and a full disk; safetensors and JSON only, nothing pickled.

A checkpoint is a directory ``step-00001000`` of one safetensors file per group of tensors (``model``, ``ema``,
``optimizer``, ...), ``state.json`` for everything else, and ``manifest.json`` with the size and SHA-256 of each file.
It is written under a temporary name, flushed to disk, and renamed; the manifest is checked on reading all the same.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from retouch_common.files import DISK_FULL, flush, sha256
from retouch_common.training.finite import check_state, listed
from retouch_common.weights import non_finite, own_memory

logger = logging.getLogger(__name__)

Tensors = dict[str, Any]  # names to tensors or to further such dicts
_NAME = re.compile(r"step-(\d{8,})(?:\.(\d+))?")  # the second number: the same step saved again
KEPT = 2  # checkpoints of a run


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint on disk, its manifest already checked.

    Attributes:
        path: The directory.
        step: Number of optimiser steps done.
        meta: The JSON values given to :func:`save`.
    """

    path: Path
    step: int
    meta: dict[str, Any]

    def groups(self) -> list[str]:
        """Return the names of the groups of tensors."""
        return sorted(file.stem for file in self.path.glob("*.safetensors"))

    def tensors(self, group: str) -> Tensors:
        """Return one group of tensors on the CPU, nested as it was saved; ValueError if there is none."""
        file = self.path / f"{group}.safetensors"
        if not file.is_file():
            raise ValueError(f"{self.path}: has no '{group}', only {', '.join(self.groups())}")
        return _nest(safetensors.torch.load_file(file))


def save(folder: str | Path, step: int, *, tensors: Mapping[str, Tensors], meta: Mapping[str, Any]) -> Path:
    """Write a checkpoint, then delete all but the ``KEPT`` newest.

    What was there stays intact until the new checkpoint has its final name.

    Args:
        folder: Directory of the run's checkpoints; created if missing.
        step: Number of optimiser steps done.
        tensors: Nested dicts of tensors by group; each group becomes one safetensors file, whose metadata holds
            ``meta["config"]`` if there is one.
        meta: JSON values.

    Returns:
        The directory of the new checkpoint; equal tensors and configuration make equal safetensors files.

    Raises:
        NonFiniteError: A tensor holds NaN or infinite values.
        OSError: It cannot be written.
        ValueError: ``folder`` holds an intact checkpoint of a later step.
    """
    folder = Path(folder)
    groups = {group: flatten(nested) for group, nested in tensors.items()}
    check_state(step, groups)
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(".step-*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)
    for later in [path for path in _list(folder) if _step(path)[0] > step]:
        if _fault(later) is None:
            raise ValueError(f"{folder}: holds {later.name}, later than step {step}; train into another folder")
    taken = [_step(path)[1] for path in _list(folder) if _step(path)[0] == step]
    target = folder / (f"step-{step:08d}" + (f".{max(taken) + 1}" if taken else ""))
    temporary = folder / f".{target.name}-{os.getpid()}.tmp"
    try:
        temporary.mkdir()
        _write_all(temporary, step, groups, meta)
        os.rename(temporary, target)
        flush(folder)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            good = latest(folder)
            last = f"the last good checkpoint is {good.path}" if good else "there is no earlier checkpoint"
            raise OSError(error.errno, f"disk full while writing checkpoint {target}; {last}") from None
        raise
    _prune(folder, target)
    return target


def latest(folder: str | Path) -> Checkpoint | None:
    """Return the newest intact checkpoint in ``folder`` or None; warn of each damaged one that is skipped.

    One with NaN or infinite values counts as damaged.
    """
    for path in _list(Path(folder)):
        fault = _fault(path)
        if fault is None:
            state = json.loads((path / "state.json").read_text(encoding="utf-8"))
            return Checkpoint(path=path, step=state["step"], meta=state["meta"])
        logger.warning("skipping the damaged checkpoint %s: %s", path, fault)
    return None


def _write_all(
    folder: Path, step: int, groups: Mapping[str, Mapping[str, torch.Tensor]], meta: Mapping[str, Any]
) -> None:
    # one entry at most: safetensors writes several in varying order
    header = {"config": json.dumps(meta["config"])} if "config" in meta else None
    files = {}
    for group, flat in groups.items():
        data = safetensors.torch.save(own_memory(flat), metadata=header)
        files[f"{group}.safetensors"] = _write(folder / f"{group}.safetensors", data)
    state = json.dumps({"step": step, "meta": meta}, indent=1)
    files["state.json"] = _write(folder / "state.json", state.encode())
    _write(folder / "manifest.json", json.dumps({"files": files}, indent=1).encode())
    flush(folder)


def _write(path: Path, data: bytes) -> dict[str, Any]:
    path.write_bytes(data)
    flush(path)
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _fault(path: Path, *, contents: bool = True) -> str | None:
    """Return what is wrong with a checkpoint, or None; ``contents=False`` compares sizes only."""
    try:
        files = json.loads((path / "manifest.json").read_text(encoding="utf-8"))["files"]
        if "state.json" not in files:
            return "manifest.json does not name state.json"
        unnamed = {file.name for file in path.glob("[!.]*")} - {"manifest.json", *files}
        if unnamed:
            return f"manifest.json does not name {min(unnamed)}"
        for name, entry in files.items():
            size = (path / name).stat().st_size
            if size != entry["bytes"]:
                return f"{name} has {size} bytes instead of {entry['bytes']}"
            if contents and sha256(path / name) != entry["sha256"]:
                return f"{name} does not match its checksum"
        if contents:
            step = json.loads((path / "state.json").read_text(encoding="utf-8"))["step"]
            if step != _step(path)[0]:
                return f"state.json is of step {step}, not of the folder's"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return f"manifest.json is unreadable ({error})"
    for name in files if contents else ():
        if name.endswith(".safetensors") and (broken := non_finite(safetensors.torch.load_file(path / name))):
            return f"in {name}, {listed(broken)} NaN or infinite values"
    return None


def _step(path: Path) -> tuple[int, int]:
    match = _NAME.fullmatch(path.name)
    assert match is not None
    return int(match[1]), int(match[2] or 0)


def _list(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if _NAME.fullmatch(path.name)), key=_step, reverse=True)


def _prune(folder: Path, new: Path) -> None:
    """Delete what is older than the ``KEPT`` newest checkpoints, and damaged ones that claim a later step."""
    kept = 0
    for path in _list(folder):
        stale = _step(path) > _step(new) or (_step(path)[0] == _step(new)[0] and path != new)
        if not stale and kept < KEPT and (path == new or _fault(path, contents=False) is None):
            kept += 1
            continue
        doomed = folder / f".{path.name}-{os.getpid()}.tmp"
        os.rename(path, doomed)  # hidden first, so that a kill leaves no half-deleted checkpoint
        shutil.rmtree(doomed, ignore_errors=True)


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, torch.Tensor]:
    """Flatten nested dicts of tensors: ``{"a": {"b": tensor}}`` becomes ``{"a/b": tensor}``."""
    flat: dict[str, torch.Tensor] = {}
    for key, value in nested.items():
        assert "/" not in key, f"checkpoint key {prefix}{key!r} contains a slash"
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}/"))
        else:
            flat[prefix + key] = value
    return flat


def _nest(flat: Mapping[str, torch.Tensor]) -> Tensors:
    nested: Tensors = {}
    for name, tensor in flat.items():
        *path, leaf = name.split("/")
        inner = nested
        for key in path:
            inner = inner.setdefault(key, {})
        inner[leaf] = tensor
    return nested
