"""MoFRR prepared for inference."""

from typing import Any

import torch
from retouch_common.inference.network import InferenceModel
from torch import Tensor

from mofrr.model import Restoration


class InferenceMoFRR(InferenceModel):
    """A copy of a MoFRR for inference; convolutions run in its precision, wavelets and diffusion in fp32."""

    @torch.inference_mode()
    def forward(self, image: Tensor, *, traces: Tensor | None = None, **options: Any) -> Restoration:
        """Restore faces; see :meth:`mofrr.model.MoFRR.restore`."""
        traces = None if traces is None else traces.to(self.device)
        with self.autocast():
            return self.model.restore(self.to_device(image), traces=traces, **options)
