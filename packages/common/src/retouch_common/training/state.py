"""Convert optimisers, schedulers and random generators to tensors and JSON and back, bit by bit.

The tensors form a group of a checkpoint, the JSON values are part of its ``meta``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from retouch_common.training.checkpoint import Tensors


def optimizer_state(optimizer: Any) -> tuple[Tensors, dict[str, Any]]:
    """Split the state of an optimiser into tensors and JSON values."""
    state = optimizer.state_dict()
    tensors: Tensors = {}
    scalars: dict[str, dict[str, Any]] = {}
    for key, entries in [
        *((f"state-{index}", entry) for index, entry in state["state"].items()),
        *((f"group-{index}", group) for index, group in enumerate(state["param_groups"])),
    ]:
        tensors[key] = {name: value for name, value in entries.items() if isinstance(value, torch.Tensor)}
        scalars[key] = {name: value for name, value in entries.items() if name not in tensors[key]}
    return {key: entry for key, entry in tensors.items() if entry}, scalars


def load_optimizer_state(optimizer: Any, tensors: Tensors, meta: Mapping[str, Any]) -> None:
    """Restore what :func:`optimizer_state` returned, bit by bit, in the parameters' memory format.

    Raises:
        ValueError: The optimiser has other groups or parameters of other shapes than the saved one.
    """
    groups = optimizer.state_dict()["param_groups"]
    saved = [meta[key] for key in sorted((k for k in meta if k.startswith("group-")), key=_index)]
    if [len(group["params"]) for group in groups] != [len(group["params"]) for group in saved]:
        raise ValueError("the checkpoint's optimiser has other parameter groups than this model's")
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for key in (k for k in meta if k.startswith("state-")):
        index, entry = _index(key), {**meta[key], **tensors.get(key, {})}
        shape = parameters[index].shape if index < len(parameters) else None
        for name, value in entry.items():
            if isinstance(value, torch.Tensor) and value.ndim and value.shape != shape:
                raise ValueError(f"the checkpoint's optimiser has {name} of shape {tuple(value.shape)} "
                                 f"for parameter {index}, whose shape is {tuple(shape or ())}")  # fmt: skip
        state[index] = entry
    loaded = []
    for index, (group, present) in enumerate(zip(saved, groups, strict=True)):
        loaded.append({**_like(present, group), **tensors.get(f"group-{index}", {})})
    optimizer.load_state_dict({"state": state, "param_groups": loaded})
    for parameter, entry in optimizer.state.items():
        for name, value in entry.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape and value.ndim:
                entry[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value).detach()


def scheduler_state(scheduler: Any) -> dict[str, Any]:
    """Return the state of a learning-rate scheduler or GradScaler for ``meta``, without functions."""
    return {key: _numbers(value) for key, value in scheduler.state_dict().items() if not callable(value)}


def load_scheduler_state(scheduler: Any, state: Mapping[str, Any]) -> None:
    """Restore what :func:`scheduler_state` returned, with the types JSON lost (tuples, integer keys)."""
    scheduler.load_state_dict(_like(scheduler.state_dict(), dict(state)))


def random_state() -> tuple[Tensors, dict[str, Any]]:
    """Return the states of the global generators of python, numpy and torch (CPU and every CUDA device)."""
    version, words, gauss = random.getstate()
    legacy: Any = np.random.get_state(legacy=True)
    name, keys, position, has_gauss, cached = legacy
    tensors: Tensors = {"torch": torch.get_rng_state(), "numpy": torch.from_numpy(keys.astype(np.int64))}
    if torch.cuda.is_available():
        tensors |= {f"cuda-{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    return tensors, {
        "python": [version, list(words), gauss],
        "numpy": [name, int(position), int(has_gauss), float(cached)],
    }


def set_random_state(tensors: Tensors, meta: Mapping[str, Any]) -> None:
    """Restore what :func:`random_state` returned; CUDA devices that are not here are skipped."""
    version, words, gauss = meta["python"]
    random.setstate((version, tuple(words), gauss))
    name, position, has_gauss, cached = meta["numpy"]
    np.random.set_state((name, tensors["numpy"].numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(tensors["torch"])
    for key in (k for k in tensors if k.startswith("cuda-")):
        if _index(key) < torch.cuda.device_count():
            torch.cuda.set_rng_state(tensors[key], _index(key))


def _index(key: str) -> int:
    return int(key.rpartition("-")[2])


def _numbers(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.item()
    if isinstance(value, Mapping):
        return {key: _numbers(item) for key, item in value.items()}
    return [_numbers(item) for item in value] if isinstance(value, list | tuple) else value


def _like(present: Any, loaded: Any) -> Any:
    """Give values read from JSON the types that the same values have in ``present``."""
    if isinstance(present, Mapping) and isinstance(loaded, Mapping):
        convert: Callable[[str], Any] = int if any(isinstance(key, int) for key in present) else str
        items = {convert(key): value for key, value in loaded.items()}
        return type(present)({key: _like(present.get(key), value) for key, value in items.items()})  # type: ignore[call-arg]
    if isinstance(present, torch.Tensor):
        return torch.as_tensor(loaded, dtype=present.dtype, device=present.device)
    if isinstance(present, tuple) and isinstance(loaded, list):
        return tuple(loaded)
    if isinstance(present, list) and isinstance(loaded, list) and len(present) == len(loaded):
        return [_like(a, b) for a, b in zip(present, loaded, strict=True)]
    return loaded
