"""Preparation of networks for inference: device, memory format and precision of a copy without gradients."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from retouch_common.devices import resolve_device, resolve_precision

M = TypeVar("M", bound=nn.Module)


def prepare_for_inference(
    model: M,
    device: torch.device,
    *,
    memory_format: torch.memory_format = torch.channels_last,
    convolutions: torch.dtype | None = None,
    copied: bool = True,
) -> M:
    """Return a copy of a network, or itself if not ``copied``, on a device, in evaluation mode and without gradients.

    The weights of ``nn.Conv2d`` layers are stored in the dtype ``convolutions``, if given, which saves autocast from
    casting them at every call.
    """
    model = copy.deepcopy(model) if copied else model
    prepared = model.to(device).to(memory_format=memory_format).eval().requires_grad_(False)
    if convolutions is not None:
        for layer in prepared.modules():
            if isinstance(layer, nn.Conv2d):
                layer.to(convolutions)
    return prepared


class InferenceModel(nn.Module):
    """A network, ready for inference on a device and in a precision by name.

    Convolutions run in reduced precision by autocast; what the network excludes from it, and images, stay in fp32.

    Args:
        model: Network with a ``config``.
        device: "auto", "cpu", "cuda" or a torch device.
        precision: "auto", "fp32", "bf16" or "fp16".
        cast_convolutions: Store the weights of convolutions in this precision, see :func:`prepare_for_inference`.
        copied: Leave ``model`` as it is, and use a copy; False where nothing else uses it, for copying a network of
            thousands of layers takes longer than loading it.

    Raises:
        ValueError: If the device or precision is unknown or not available.
    """

    def __init__(
        self,
        model: nn.Module,
        device: str = "auto",
        precision: str = "auto",
        *,
        cast_convolutions: bool = False,
        copied: bool = True,
    ) -> None:
        super().__init__()
        self.device = resolve_device(device)
        self.dtype = resolve_precision(precision, self.device)
        convolutions = self.dtype if cast_convolutions else None
        self.model: Any = prepare_for_inference(model, self.device, convolutions=convolutions, copied=copied)
        self.config: Any = model.config

    def to_device(self, image: Tensor) -> Tensor:
        """Move images (N, C, H, W) to the network's device, in fp32, channels last."""
        return image.to(self.device, torch.float32).contiguous(memory_format=torch.channels_last)

    def autocast(self) -> torch.autocast:
        """Return the autocast context of the precision."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    @torch.inference_mode()
    def forward(self, image: Tensor, **options: Any) -> Any:
        """Run the network on images (N, C, H, W) of any device; ``options`` are those of its ``forward``."""
        with self.autocast():
            return self.model(self.to_device(image), **options)
