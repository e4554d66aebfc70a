"""Refuse NaN and infinity in training: in losses and gradients before an update, in all state before it is kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from retouch_common.weights import non_finite

_ADVICE = (
    "repeat the command with a lower train.lr, with train.clip or with train.precision=fp32; "
    "it goes on from the last checkpoint, if there is one"
)
_NAMED = 3  # tensors that a message names; the others are counted


class NonFiniteError(ValueError):
    """A loss, a gradient or a part of the state is NaN or infinite; the message names the step and what it is."""


def check_step(
    step: int, losses: Mapping[str, torch.Tensor | float], networks: Mapping[str, nn.Module], *, gradients: bool = True
) -> None:
    """Refuse an update by losses or gradients that are not finite; call it between backward pass and optimiser step.

    Losses and the norms of the networks' gradients are read together, with one synchronisation of the device.

    Args:
        step: Number of the step, for the message.
        losses: Scalars by name.
        networks: Trained networks by name.
        gradients: Whether to look at gradients; not before a loss scaler has unscaled them, which skips such steps.

    Raises:
        NonFiniteError: Names what is NaN or infinite, and the parameters that are or whose gradients are.
    """
    norms: dict[str, torch.Tensor] = {}
    for name, network in networks.items():
        grads = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
        if gradients and grads:
            norms[f"gradient norm of {name}"] = torch.nn.utils.get_total_norm(grads)
    values = as_floats({**losses, **norms})
    bad = [f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)]
    if bad:
        raise NonFiniteError(f"step {step}: {', '.join(bad)}; {_origin(networks)}{_ADVICE}")


def check_state(step: int, groups: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
    """Refuse to keep or show a state that is not finite.

    Args:
        step: Number of the step it was reached by, for the message.
        groups: Group ("model", "optimizer-model") to tensors by name.

    Raises:
        NonFiniteError: Names the tensors that hold NaN or infinite values.
    """
    bad = [f"{group}/{name}" for group, tensors in groups.items() for name in non_finite(tensors)]
    if bad:
        raise NonFiniteError(
            f"step {step}: {listed(bad)} NaN or infinite values after the update; nothing of it is saved; {_ADVICE}"
        )


def listed(names: Sequence[str]) -> str:
    """Return the subject and verb of "… hold NaN": the first names, and how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more} {'hold' if len(names) > 1 else 'holds'}"


def as_floats(values: Mapping[str, torch.Tensor | float]) -> dict[str, float]:
    """Turn scalar tensors into floats with one transfer from the device."""
    names = [name for name, value in values.items() if isinstance(value, torch.Tensor)]
    if names:
        stacked = torch.stack([torch.as_tensor(values[name]).detach().float().reshape(()) for name in names])
        read = dict(zip(names, stacked.tolist(), strict=True))
        return {name: read[name] if name in read else float(values[name]) for name in values}
    return {name: float(value) for name, value in values.items()}


def _origin(networks: Mapping[str, nn.Module]) -> str:
    """Say which parameters are broken already, or else which gradients are."""
    parameters = {f"{name}/{key}": p for name, network in networks.items() for key, p in network.named_parameters()}
    broken = non_finite(parameters)
    if broken:
        return f"{listed(broken)} NaN or infinite values since an earlier update; "
    broken = non_finite({key: p.grad for key, p in parameters.items() if p.grad is not None})
    return f"the gradient{'s' if broken[1:] else ''} of {listed(broken)} NaN or infinite values; " if broken else ""
