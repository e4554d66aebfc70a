"""Section 3.2, the router: which retouching operations were applied, Eq. 1.

Paper: one output of N logits. Here: a head for each operation on a common backbone, so that operations can be added.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mofrr.backbones import Backbone, TokenHead

THRESHOLD = 0.5  # of the probability; training calibrates the logits for it
UNTRAINED = -4.0  # logit of a new head: a probability of 2 %


class Router(nn.Module):
    """The router.

    Args:
        operations: Names of the operations.
        backbone: See :class:`mofrr.backbones.Backbone`.
        size: Side in pixels to which images are resized.
    """

    def __init__(self, operations: Sequence[str], backbone: str, size: int) -> None:
        super().__init__()
        self.backbone = Backbone(backbone, size)
        self.heads = nn.ModuleDict({name: TokenHead(self.backbone.width, 1) for name in operations})

    def add_head(self, name: str) -> None:
        """Add a head of a new operation, which finds it nowhere before it is trained."""
        head = self.heads[name] = TokenHead(self.backbone.width, 1)
        nn.init.zeros_(head.answer.weight)
        nn.init.constant_(head.answer.bias, UNTRAINED)

    def forward(self, image: Tensor, traces: Tensor | None = None) -> Tensor:
        """Return logits, (N, operations); arguments as of :class:`mofrr.backbones.Backbone`."""
        tokens = self.backbone(image, traces)
        return torch.cat([head(tokens) for head in self.heads.values()], dim=1)
