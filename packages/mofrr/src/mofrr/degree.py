"""Section 3.3, the degree estimator: how strongly one operation was applied, in five classes.

An expert is conditioned on the expected degree, which says more than the likeliest class.
"""

import torch
from torch import Tensor, nn

from mofrr.backbones import Backbone, TokenHead
from mofrr.config import NUM_DEGREES


class DegreeEstimator(nn.Module):
    """The estimator of one operation.

    Args:
        backbone: See :class:`mofrr.backbones.Backbone`.
        size: See there.
    """

    def __init__(self, backbone: str, size: int) -> None:
        super().__init__()
        self.backbone = Backbone(backbone, size)
        self.head = TokenHead(self.backbone.width, NUM_DEGREES)

    def forward(self, image: Tensor, traces: Tensor | None = None) -> Tensor:
        """Return logits of the degrees 1 to 5, (N, 5); arguments as of :class:`mofrr.backbones.Backbone`."""
        return self.head(self.backbone(image, traces))


def expected_degree(logits: Tensor) -> Tensor:
    """Return the degree z = sum of p_d d / 5, (N,) in [0.2, 1]."""
    degrees = torch.arange(1, NUM_DEGREES + 1, device=logits.device)
    return (logits.float().softmax(dim=1) * degrees / NUM_DEGREES).sum(dim=1)
