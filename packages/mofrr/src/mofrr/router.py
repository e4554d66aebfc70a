"""Section 3.2, the router: which retouching operations were applied, Eq. 1.

Paper: one output of N numbers. Here a head for each operation on a common backbone, so that a new operation gets a head
of its own and the others keep theirs.
"""

import torch
from torch import Tensor, nn

from mofrr.backbones import Backbone, TokenHead
from mofrr.config import ModelConfig

UNTRAINED = -4.0  # what a new head answers: a probability of 2 %


class Router(nn.Module):
    """The router.

    Args:
        config: Of the model.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.backbone = Backbone(config)
        self.heads = nn.ModuleDict({name: TokenHead(self.backbone.width, 1) for name in config.operations})

    def add_head(self, name: str) -> None:
        """A head for a new operation; it starts by finding it nowhere, so that nothing changes before it is trained."""
        head = self.heads[name] = TokenHead(self.backbone.width, 1)
        nn.init.zeros_(head.answer.weight)
        nn.init.constant_(head.answer.bias, UNTRAINED)

    def forward(self, image: Tensor, traces: Tensor | None = None) -> Tensor:
        """Logits, (N, operations), of pictures (N, 3, H, W) in [0, 1]; traces as for :class:`Backbone`."""
        tokens = self.backbone(image, traces)
        return torch.cat([head(tokens) for head in self.heads.values()], dim=1)
