"""Backbones of the router and the degree estimators.

Shapes: images (N, 3, H, W) in [0, 1]; tokens (N, K, F).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mofrr.efficientnet import EfficientNetLite0
from mofrr.subband_cnn import SubbandCNN
from mofrr.traces import image_traces

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's
REDUCED = 32  # channels to which the pretrained network's are reduced; their positions are kept


class Backbone(nn.Module):
    """A backbone by name.

    Args:
        name: "resnet50", "resnet18", "mam", "subbands", "subbands-traces" or "subbands-traces-imagenet".
        size: Side in pixels to which images are resized.

    Attributes:
        width: F.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, size: int) -> None:
        super().__init__()
        self.size, self.with_traces = size, "traces" in name
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)
        self.network: nn.Module
        self.pretrained: EfficientNetLite0 | None = None
        if name == "mam":
            from mofrr.mam import WIDTH, ResNetMAM

            self.network, self.width = ResNetMAM(), WIDTH
        elif name.startswith("subbands"):
            self.network = SubbandCNN(size, with_traces=self.with_traces)
            self.width = self.network.width
            if name.endswith("imagenet"):
                self.pretrained, self.reduce = EfficientNetLite0(), nn.Conv2d(EfficientNetLite0.width, REDUCED, 1)
                self.width += REDUCED * (self._coarse // 32) ** 2
        else:
            import torchvision  # takes seconds, which restoring with the bundled weights need not

            resnet = getattr(torchvision.models, name)(weights=None)
            self.width, resnet.fc = int(resnet.fc.in_features), nn.Identity()
            self.network = resnet

    @property
    def _coarse(self) -> int:
        """Side to which the pretrained network's images are reduced: fine traces are left to the other network."""
        return 3 * self.size // 4

    def forward(self, image: Tensor, traces: Tensor | None = None) -> Tensor:
        """Return tokens, (N, K, F); K is 1 but for "mam".

        Args:
            image: (N, 3, H, W) in [0, 1].
            traces: (N, C, G, G) of the photographs that the images were cut from, for networks that see them; None if
                the images are the photographs.
        """
        if self.with_traces and traces is None:
            traces = image_traces(image)
        if image.shape[-2:] != (self.size, self.size):
            image = F.interpolate(image, (self.size, self.size), mode="bilinear", antialias=True)
        normalised = (image - self.mean) / self.std
        tokens = self.network(normalised, traces) if self.with_traces else self.network(normalised)
        if self.pretrained is not None:
            coarse = F.interpolate(image, (self._coarse, self._coarse), mode="bilinear", antialias=True)
            tokens = torch.cat([tokens, F.relu(self.reduce(self.pretrained(coarse))).flatten(1)], dim=1)
        return tokens if tokens.ndim == 3 else tokens[:, None]


class TokenHead(nn.Module):
    """Attention pooling of tokens by a learnt query, and a linear layer.

    Args:
        width: F.
        out_channels: Number of outputs.
    """

    def __init__(self, width: int, out_channels: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(width))
        self.answer = nn.Linear(width, out_channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (N, K, F) to (N, out_channels)."""
        weight = torch.softmax(tokens @ self.query / tokens.shape[-1] ** 0.5, dim=1)
        return self.answer((weight[..., None] * tokens).sum(dim=1))
