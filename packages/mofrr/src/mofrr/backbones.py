"""What the router and the degree estimators see faces with: a network that turns a picture into a few tokens.

Shapes: pictures (N, 3, H, W) in [0, 1]; tokens (N, K, F).
"""

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from mofrr.config import ModelConfig
from mofrr.mam import WIDTH, ResNetMAM
from mofrr.subband_cnn import SubbandCNN
from mofrr.traces import picture_traces

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's


class Backbone(nn.Module):
    """A backbone by name.

    Args:
        config: Of the model: ``backbone`` and ``backbone_size``.

    Attributes:
        width: F.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.size = config.backbone_size
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION).view(1, 3, 1, 1), persistent=False)
        self.network: nn.Module
        if config.backbone == "mam":
            self.network = ResNetMAM()
            self.width = WIDTH
        elif config.backbone in ("subbands", "subbands-traces"):
            self.network = SubbandCNN(self.size, with_traces=config.backbone == "subbands-traces")
            self.width = self.network.width
        else:
            network = getattr(torchvision.models, config.backbone)(weights=None)
            self.width = int(network.fc.in_features)
            network.fc = nn.Identity()
            self.network = network

    def forward(self, image: Tensor, traces: Tensor | None = None) -> Tensor:
        """Tokens, (N, K, F); only ResNet-MAM gives more than one.

        Args:
            image: The pictures.
            traces: Maps of the photographs that they come from, for "subbands-traces"; None: they are the
                photographs.
        """
        sees_traces = isinstance(self.network, SubbandCNN) and self.network.traces is not None
        if sees_traces and traces is None:
            traces = picture_traces(image)
        if image.shape[-2:] != (self.size, self.size):
            image = F.interpolate(image, (self.size, self.size), mode="bilinear", antialias=True)
        seen = (image - self.mean) / self.deviation
        tokens = self.network(seen, traces) if sees_traces else self.network(seen)
        return tokens if tokens.ndim == 3 else tokens[:, None]


class TokenHead(nn.Module):
    """Pools tokens by attention with a learnt query, and answers; for one token the pooling changes nothing.

    Args:
        width: F.
        answers: Length of the answer.
    """

    def __init__(self, width: int, answers: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(width))
        self.answer = nn.Linear(width, answers)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, K, F) to (N, answers)."""
        weight = torch.softmax(tokens @ self.query / tokens.shape[-1] ** 0.5, dim=1)
        return self.answer((weight[..., None] * tokens).sum(dim=1))
