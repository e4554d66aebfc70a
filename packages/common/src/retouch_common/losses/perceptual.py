"""Perceptual loss on the features of an ImageNet VGG (Johnson et al., ECCV 2016)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

_BLOCKS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}  # convolutions between poolings
VGG19_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
"""Layers of pix2pixHD's perceptual loss, for papers that do not name theirs."""

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


class PerceptualLoss(nn.Module):
    """Mean squared or absolute error between VGG features of two images, summed over layers.

    Args:
        network: "vgg16" or "vgg19".
        state_dict: Torchvision's ImageNet weights, see :func:`retouch_common.weights.read_vgg`.
        layers: Names of layers: reluB_C is the C-th of block B.
        distance: "mse" or "l1", averaged over each layer's features.

    Raises:
        ValueError: If the network or a layer is unknown, or the weights are of another network.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        network: Literal["vgg16", "vgg19"] = "vgg16",
        *,
        state_dict: Mapping[str, torch.Tensor],
        layers: Sequence[str] = ("relu1_2", "relu2_2", "relu3_3"),
        distance: Literal["mse", "l1"] = "mse",
    ):
        super().__init__()
        if network not in _BLOCKS:
            raise ValueError(f"perceptual network '{network}' is not one of {', '.join(_BLOCKS)}")
        if distance not in ("mse", "l1"):
            raise ValueError(f"perceptual distance '{distance}' is not one of mse, l1")
        self.distance = distance
        places = _layer_places(network)
        for layer in layers:
            if layer not in places:
                raise ValueError(f"{network} has no layer '{layer}'; its layers are {', '.join(places)}")
        self.places = sorted(places[layer] for layer in layers)
        self.features = _truncated(network, self.places[-1] + 1, state_dict)
        self.register_buffer("mean", torch.tensor(_MEAN).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).reshape(1, 3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss of ``output``, which alone has gradients, against ``target``, both (N, 3, H, W) in [0, 1]."""
        with torch.no_grad():
            expected = self._extract(target)
        compare = F.mse_loss if self.distance == "mse" else F.l1_loss
        return torch.stack([compare(a, b) for a, b in zip(self._extract(output), expected, strict=True)]).sum()

    def _extract(self, image: torch.Tensor) -> list[torch.Tensor]:
        x = (image - self.mean) / self.std
        found = []
        for place, layer in enumerate(self.features):
            x = layer(x)
            if place in self.places:
                found.append(x)
        return found


def _layer_places(network: str) -> dict[str, int]:
    """Return the index of each ReLU in torchvision's ``features``."""
    places, place = {}, 0
    for block, count in enumerate(_BLOCKS[network], 1):
        for convolution in range(1, count + 1):
            places[f"relu{block}_{convolution}"] = place + 1
            place += 2
        place += 1  # the pooling
    return places


def _truncated(network: str, length: int, state_dict: Mapping[str, torch.Tensor]) -> nn.Sequential:
    import torchvision

    with torch.device("meta"):  # no random initialisation of weights that are replaced at once
        features = getattr(torchvision.models, network)(weights=None).features[:length]
    for layer in features:
        if isinstance(layer, nn.ReLU):
            layer.inplace = False  # the features before it are not needed, those after it are kept
    names = {f"features.{name}" for name in features.state_dict()}
    missing = sorted(names - set(state_dict))
    if missing:
        raise ValueError(f"these are not weights of torchvision's {network}: {missing[0]} is missing")
    own = {name.removeprefix("features."): state_dict[name].float() for name in names}
    try:
        features.load_state_dict(own, assign=True)
    except RuntimeError as error:
        raise ValueError(f"these are not weights of torchvision's {network} ({error})") from None
    return features
