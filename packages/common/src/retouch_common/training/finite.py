"""Refuse NaN and infinity in training: in losses and gradients before an update, in the state before it is saved."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from retouch_common.weights import non_finite

_ADVICE = (
    "repeat the command with a lower train.lr, with train.clip or with train.precision=fp32; "
    "it resumes from the last checkpoint, if there is one"
)
_NAMED = 3  # tensors that a message names; others are counted


class NonFiniteError(ValueError):
    """A loss, a gradient or part of the state is NaN or infinite; the message names the step and the tensors."""


def check_step(
    step: int, losses: Mapping[str, torch.Tensor | float], networks: Mapping[str, nn.Module], *, gradients: bool = True
) -> None:
    """Refuse losses or gradients that are not finite; call it between backward pass and optimiser step.

    Args:
        step: Number of the step, for the message.
        losses: Scalars by name.
        networks: Trained networks by name.
        gradients: Check gradients too; not before a loss scaler has unscaled them.

    Raises:
        NonFiniteError: Names what is not finite, and the parameters or gradients that are the origin.
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
    """Refuse to save a state that is not finite: tensors by name for each group ("model", "optimizer-model")."""
    bad = [f"{group}/{name}" for group, tensors in groups.items() for name in non_finite(tensors)]
    if bad:
        raise NonFiniteError(
            f"step {step}: {listed(bad)} NaN or infinite values after the update; nothing of it is saved; {_ADVICE}"
        )


def listed(names: Sequence[str]) -> str:
    """Return subject and verb of "… hold NaN": the first names and the number of others."""
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
    """Return which parameters are broken already, or else which gradients are, as part of a message."""
    parameters = {f"{name}/{key}": p for name, network in networks.items() for key, p in network.named_parameters()}
    broken = non_finite(parameters)
    if broken:
        return f"{listed(broken)} NaN or infinite values since an earlier update; "
    broken = non_finite({key: p.grad for key, p in parameters.items() if p.grad is not None})
    return f"the gradient{'s' if broken[1:] else ''} of {listed(broken)} NaN or infinite values; " if broken else ""
