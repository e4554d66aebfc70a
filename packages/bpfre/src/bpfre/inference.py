"""The network made ready for use: memory order, number format, no gradients."""

import copy

import torch
from retouch_common.devices import resolve_device, resolve_precision
from torch import Tensor, nn

from bpfre.model import BPFRe, BPFReOutput, Stage


class Inference(nn.Module):
    """A network that only retouches.

    Channels lie last in memory and the convolutions are scaled, not grouped by sample, which together is what makes it
    fast; convolutions run in ``dtype``, attention maps, styles and pictures in fp32.

    Args:
        model: The network; it is copied.
        device: Where to compute.
        dtype: Number format of the convolutions.
    """

    def __init__(self, model: BPFRe, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self.device, self.dtype = device, dtype
        self.model = copy.deepcopy(model).to(device).eval().requires_grad_(False)
        self.model.to(memory_format=torch.channels_last)
        for layer in self.model.modules():
            if isinstance(layer, nn.Conv2d):  # once, not at every call as autocast would
                layer.to(dtype)
        self.config = model.config

    @torch.inference_mode()
    def forward(self, image: Tensor, *, stage: Stage = "refined") -> BPFReOutput:
        """Retouch faces.

        Args:
            image: (N, 3, S, S) in [0, 1], on any device.
            stage: "coarse" leaves the second stage out.
        """
        image = image.to(self.device, torch.float32).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.model(image, stage=stage)


def prepare(model: BPFRe, device: str = "auto", precision: str = "auto") -> Inference:
    """Make a network ready for a device and a precision by name, as the commands' options have them.

    Raises:
        ValueError: Unknown device or precision, or one that is not there.
    """
    where = resolve_device(device)
    return Inference(model, where, resolve_precision(precision, where))
