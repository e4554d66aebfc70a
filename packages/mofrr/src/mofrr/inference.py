"""MoFRR ready for inference."""

from collections.abc import Sequence

import torch
from retouch_common.inference.network import InferenceModel
from torch import Tensor

from mofrr.model import Restoration


class InferenceMoFRR(InferenceModel):
    """A copy of a MoFRR that only restores; convolutions run in its precision, wavelets and diffusion steps in fp32."""

    @torch.inference_mode()
    def forward(  # type: ignore[override]
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
        image, traces = self.to_device(image), None if traces is None else traces.to(self.device)
        with self.autocast():
            return self.model.restore(image, seeds=seeds, steps=steps, experts=experts, samples=samples, traces=traces)
