"""The network made ready for use: memory order, number format, no gradients."""

import copy
from collections.abc import Sequence

import torch
from retouch_common.devices import resolve_device, resolve_precision
from torch import Tensor, nn

from mofrr.model import MoFRR, Restoration


class Inference(nn.Module):
    """A network that only restores.

    Convolutions run in ``dtype`` with channels last in memory; wavelets, diffusion steps and pictures in fp32.

    Args:
        model: The network; it is copied.
        device: Where to compute.
        dtype: Number format of the convolutions.
    """

    def __init__(self, model: MoFRR, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self.device, self.dtype = device, dtype
        self.model = copy.deepcopy(model).to(device).eval().requires_grad_(False)
        self.model.to(memory_format=torch.channels_last)
        self.config = model.config

    @torch.inference_mode()
    def forward(
        self,
        image: Tensor,
        *,
        seeds: int | Sequence[int] = 0,
        steps: int | None = None,
        experts: Sequence[str] | None = None,
        samples: int = 1,
        traces: Tensor | None = None,
    ) -> Restoration:
        """Restore faces; see :meth:`mofrr.model.MoFRR.restore`."""
        image = image.to(self.device, torch.float32).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            traces = None if traces is None else traces.to(self.device)
            return self.model.restore(image, seeds=seeds, steps=steps, experts=experts, samples=samples, traces=traces)


def prepare(model: MoFRR, device: str = "auto", precision: str = "auto") -> Inference:
    """Make a network ready for a device and a precision by name, as the commands' options have them.

    Raises:
        ValueError: Unknown device or precision, or one that is not there.
    """
    where = resolve_device(device)
    return Inference(model, where, resolve_precision(precision, where))
