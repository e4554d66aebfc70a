"""Section 3.3, the degree estimator: how strongly one operation was applied.

Five classes from 1 to 5, the heaviest (the lowest 15 % by PSNR). An expert is given the soft expectation of the degree
over 5, which says more than the likeliest class.
"""

import torch
from torch import Tensor, nn

from mofrr.backbones import Backbone, TokenHead
from mofrr.config import NUM_DEGREES, ModelConfig


class DegreeEstimator(nn.Module):
    """The estimator of one operation.

    Args:
        config: Of the model.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.backbone = Backbone(config)
        self.head = TokenHead(self.backbone.width, NUM_DEGREES)

    def forward(self, image: Tensor, traces: Tensor | None = None) -> Tensor:
        """Logits of the degrees 1 to 5, (N, 5), of pictures (N, 3, H, W) in [0, 1]; traces as for the router."""
        return self.head(self.backbone(image, traces))


def expected_degree(logits: Tensor) -> Tensor:
    """The degree z = sum of p_d d / 5, (N,) in [0.2, 1]."""
    degrees = torch.arange(1, NUM_DEGREES + 1, device=logits.device)
    return (logits.float().softmax(dim=1) * degrees / NUM_DEGREES).sum(dim=1)
