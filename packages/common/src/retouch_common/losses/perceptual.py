"""Perceptual loss on the features of an ImageNet VGG (Johnson et al., ECCV 2016)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from retouch_common.files import sha256
from retouch_common.weights import refuse_non_finite

_BLOCKS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}  # convolutions between poolings
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


class PerceptualLoss(nn.Module):
    """Mean squared or absolute error between the features of two pictures, summed over layers.

    The network's weights are torchvision's ImageNet ones and nothing else: they are read from the cache of
    ``torch.hub`` or from a given file, never downloaded in the middle of a run and never replaced by random
    ones.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        network: Literal["vgg16", "vgg19"] = "vgg16",
        *,
        layers: Sequence[str] = ("relu1_2", "relu2_2", "relu3_3"),
        weights: str | Path | None = None,
        state_dict: Mapping[str, torch.Tensor] | None = None,
        distance: Literal["mse", "l1"] = "mse",
        normalise: bool = True,
    ):
        """Build the feature network.

        Args:
            network: "vgg16" or "vgg19".
            layers: names as in the literature: reluB_C is the C-th of block B.
            weights: torchvision's file (.pth, or the same as .safetensors); by default looked up in the
                cache.
            state_dict: weights given directly, named as torchvision names them (for tests).
            distance: "mse" or "l1", each the mean over a layer's features.
            normalise: bring pictures to ImageNet's mean and deviation first, as the network was trained.

        Raises:
            ValueError: unknown network or layer; the weights are missing or damaged (says which file to put
                where, and that the term's weight may be 0 instead).
        """
        super().__init__()
        if network not in _BLOCKS:
            raise ValueError(f"perceptual network '{network}' is not one of {', '.join(_BLOCKS)}")
        if distance not in ("mse", "l1"):
            raise ValueError(f"perceptual distance '{distance}' is not one of mse, l1")
        self.distance, self.normalise = distance, normalise
        places = _layer_places(network)
        for layer in layers:
            if layer not in places:
                raise ValueError(f"{network} has no layer '{layer}'; its layers are {', '.join(places)}")
        self.places = sorted(places[layer] for layer in layers)
        if state_dict is None:
            state_dict = _read_weights(network, Path(weights) if weights is not None else None)
        self.features = _truncated(network, self.places[-1] + 1, state_dict, weights)
        self.register_buffer("mean", torch.tensor(_MEAN).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).reshape(1, 3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss (scalar) of ``output`` against ``target``, both (B, 3, H, W) in [0, 1].

        Gradients flow into ``output`` only.
        """
        with torch.no_grad():
            wanted = self._extract(target)
        compare = F.mse_loss if self.distance == "mse" else F.l1_loss
        return torch.stack([compare(a, b) for a, b in zip(self._extract(output), wanted, strict=True)]).sum()

    def _extract(self, image: torch.Tensor) -> list[torch.Tensor]:
        x = (image - self.mean) / self.std if self.normalise else image
        found = []
        for place, layer in enumerate(self.features):
            x = layer(x)
            if place in self.places:
                found.append(x)
        return found


def _layer_places(network: str) -> dict[str, int]:
    """Return the position of each ReLU in torchvision's ``features``."""
    places, place = {}, 0
    for block, count in enumerate(_BLOCKS[network], 1):
        for convolution in range(1, count + 1):
            places[f"relu{block}_{convolution}"] = place + 1
            place += 2
        place += 1  # the pooling
    return places


def _truncated(
    network: str, length: int, state_dict: Mapping[str, torch.Tensor], source: str | Path | None
) -> nn.Sequential:
    import torchvision

    with torch.device("meta"):  # no random initialisation of weights that are replaced at once
        features = getattr(torchvision.models, network)(weights=None).features[:length]
    for layer in features:
        if isinstance(layer, nn.ReLU):
            layer.inplace = False  # the features before it are not needed, those after it are kept
    wanted = {f"features.{name}" for name in features.state_dict()}
    missing = sorted(wanted - set(state_dict))
    if missing:
        raise ValueError(f"{source or 'state_dict'}: not weights of torchvision's {network}, {missing[0]} is missing")
    own = {name.removeprefix("features."): state_dict[name].float() for name in wanted}
    refuse_non_finite(own, str(source or "state_dict"))
    try:
        features.load_state_dict(own, assign=True)
    except RuntimeError as error:
        raise ValueError(f"{source or 'state_dict'}: not weights of torchvision's {network} ({error})") from None
    return features


def _read_weights(network: str, path: Path | None) -> Mapping[str, torch.Tensor]:
    import torchvision

    url: str = torchvision.models.get_model_weights(network).IMAGENET1K_V1.url
    name = os.path.basename(url)
    cached = Path(torch.hub.get_dir()) / "checkpoints" / name
    file = path or cached
    if not file.is_file():
        raise ValueError(
            f"perceptual loss: the ImageNet weights of {network} are not at {file}; put torchvision's {name} "
            "there (TORCH_HOME moves the folder), give its path, or set the weight of this loss to 0"
        )
    if file.name == name and not sha256(file).startswith(name.removesuffix(".pth").rpartition("-")[2]):
        raise ValueError(f"{file}: damaged, its checksum is not the one in its name; download {name} again")
    try:
        if file.suffix == ".safetensors":
            import safetensors.torch

            return safetensors.torch.load_file(file)
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # both raise many kinds for a file that is not their own
        raise ValueError(f"{file}: not a file of weights ({str(error).splitlines()[0]})") from None
