"""MoFRR prepared for inference."""

from collections.abc import Callable
from typing import Any

import torch
from retouch_common.inference.network import InferenceModel
from retouch_common.weights import require_finite
from torch import Tensor

from mofrr.model import Consultation, Restoration, to_unit


class InferenceMoFRR(InferenceModel):
    """A MoFRR for inference; convolutions run in its precision, wavelets and diffusion in fp32."""

    @torch.inference_mode()
    def forward(self, image: Tensor, *, traces: Tensor | None = None, **options: Any) -> Restoration:
        """Restore faces; see :meth:`mofrr.model.MoFRR.restore`.

        Raises:
            ValueError: If probabilities are NaN.
        """
        return self._run(self.model.restore, image, traces, options)

    @torch.inference_mode()
    def consult(self, image: Tensor, *, traces: Tensor | None = None, **options: Any) -> Consultation:
        """Run router and experts; see :meth:`mofrr.model.MoFRR.consult`.

        Raises:
            ValueError: If probabilities are NaN.
        """
        return self._run(self.model.consult, image, traces, options)

    def _run(self, method: Callable[..., Any], image: Tensor, traces: Tensor | None, options: dict[str, Any]) -> Any:
        with self.autocast():
            found = method(self.to_device(image), traces=None if traces is None else traces.to(self.device), **options)
        require_finite(found.probabilities)
        return found

    @torch.inference_mode()
    def combine(self, found: Consultation, shares: Tensor) -> Tensor:
        """Return the image of one face, (1, 3, H, W) in [0, 1], where experts count by ``shares``, (1, operations).

        Raises:
            ValueError: If the network has no Combine Module.
        """
        if self.model.combine is None:
            raise ValueError("this network has no Combine Module (model.combine=false)")
        if not shares.any() and not self.model.always_active:
            return to_unit(found.X)
        names = [name for name, share in zip(self.model.config.operations, shares[0].tolist(), strict=True) if share]
        experts = {name: found.experts[name] for name in names}
        with self.autocast():
            return to_unit(self.model.combine(found.X, found.shared, experts, shares.to(found.X.device)))
