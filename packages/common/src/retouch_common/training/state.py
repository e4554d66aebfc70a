"""Convert optimisers and random generators to tensors and JSON and back, bit by bit.

The tensors form a group of a checkpoint, the JSON values are part of its ``meta``.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from retouch_common.training.checkpoint import Tensors


def optimizer_state(optimizer: Any) -> tuple[Tensors, dict[str, Any]]:
    """Return the state of Adam: tensors by parameter, and the options of each parameter group."""
    state = optimizer.state_dict()
    groups = {f"group-{index}": group for index, group in enumerate(state["param_groups"])}
    return {f"state-{index}": entry for index, entry in state["state"].items()}, groups


def load_optimizer_state(optimizer: Any, tensors: Tensors, meta: Mapping[str, Any]) -> None:
    """Restore what :func:`optimizer_state` returned, bit by bit, in the parameters' memory format.

    Raises:
        ValueError: The optimiser has other groups or parameters of other shapes than the saved one.
    """
    groups = [meta[key] for key in sorted((key for key in meta if key.startswith("group-")), key=_index)]
    state = {_index(key): entry for key, entry in tensors.items()}
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    for parameter, entry in optimizer.state.items():
        for name, value in entry.items():
            if value.ndim and value.shape != parameter.shape:
                raise ValueError(f"the checkpoint's optimiser has {name} of shape {tuple(value.shape)} "
                                 f"for a parameter of shape {tuple(parameter.shape)}")  # fmt: skip
            if value.ndim:  # not the number of steps
                entry[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value).detach()


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
