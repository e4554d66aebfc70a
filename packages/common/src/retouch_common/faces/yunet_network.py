"""YuNet (Wu, Peng and Yu, "YuNet: A Tiny Millisecond-level Face Detector", 2023) for inference.

Computes the same as ``kornia.contrib.FaceDetector`` with the same weights in about half of its CPU time: batch
normalisation is folded into the convolutions, 1x1 convolutions are matrix products in channels-last order, and only
candidates are decoded. kornia's own takes a second to import.

Shapes: activations are (1, H, W, C).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from retouch_common.faces.boxes import nms

STRIDE = 64  # height and width of the input are multiples of it
_ANCHORS = {8: (10, 16, 24), 16: (32, 48), 32: (64, 96), 64: (128, 192, 256)}  # sizes in pixels, by stride
_VARIANCES = (0.1, 0.2)
_CANDIDATES = 5000
_NMS_THRESHOLD = 0.3
_KEPT = 750
_BN_EPS = 1e-5
_BAND = 256  # rows of the image whose early features are computed at once, which saves memory and cache misses
_HALO = 32

Layer = tuple[Tensor, Tensor]  # weight and bias


class YuNet:
    """YuNet with weights of kornia's module of the same name.

    Args:
        state: State dictionary.
    """

    def __init__(self, state: dict[str, Tensor]) -> None:
        weight, bias = _folded(state, "model0.conv1", "model0.bn1")
        self._stem = weight.flip(1), bias  # the weights are for BGR
        self._units = {
            name.removesuffix(".conv1.weight"): _unit(state, name.removesuffix(".conv1.weight"))
            for name in state
            if name.endswith(".conv1.weight") and name != "model0.conv1.weight"
        }

    @torch.inference_mode()
    def __call__(self, image: Tensor, threshold: float) -> Tensor:
        """Detect faces in an RGB image.

        Args:
            image: (H, W, 3) in [0, 255], float32; H and W are multiples of ``STRIDE``.
            threshold: Minimum score.

        Returns:
            (N, 15): corners of the boxes x0, y0, x1, y1, five landmarks x, y, and the score, best first.
        """
        sources = self._features(image[None])
        found = torch.cat(
            [
                self._candidates(self._block(f"head.{index}", source), stride, threshold)
                for index, (stride, source) in enumerate(sources.items())
            ]
        )
        found = found[found[:, 14].argsort(descending=True)[:_CANDIDATES]]
        return found[nms(found[:, :4], found[:, 14], _NMS_THRESHOLD)[:_KEPT]]

    def _features(self, x: Tensor) -> dict[int, Tensor]:
        """Return the feature maps by stride."""
        height, first = x.shape[1], 8
        bands = []
        for start in range(0, height, _BAND):
            stop = min(height, start + _BAND)
            top = max(0, start - _HALO)
            band = self._early_features(x[:, top : stop + _HALO])
            bands.append(band[:, (start - top) // first : (stop - top) // first])
        x = torch.cat(bands, dim=1)
        sources = {}
        for index, stride in enumerate(_ANCHORS, start=3):
            x = self._block(f"model{index}", x if stride == first else _pool(x))
            sources[stride] = x
        return sources

    def _early_features(self, x: Tensor) -> Tensor:
        """Return the features of stride 8 before the first detection layer; a pixel depends on ``_HALO`` around it."""
        weight, bias = self._stem
        x = F.conv2d(x.permute(0, 3, 1, 2), weight, bias, stride=2, padding=1).relu_().permute(0, 2, 3, 1)
        x = _pool(self._unit("model0.conv2", x))
        return _pool(self._block("model2", self._block("model1", x)))

    def _block(self, name: str, x: Tensor) -> Tensor:
        return self._unit(f"{name}.conv2", self._unit(f"{name}.conv1", x))

    def _unit(self, name: str, x: Tensor) -> Tensor:
        """Apply a 1x1 convolution, a depthwise 3x3 convolution, and a ReLU where the unit has one."""
        (pointwise, bias), (depthwise, shift), has_relu = self._units[name]
        x = F.linear(x, pointwise, bias).permute(0, 3, 1, 2)
        x = F.conv2d(x, depthwise, shift, padding=1, groups=len(depthwise))
        return (x.relu_() if has_relu else x).permute(0, 2, 3, 1)

    def _candidates(self, output: Tensor, stride: int, threshold: float) -> Tensor:
        """Decode the anchors of one stride whose score exceeds the threshold, (N, 15)."""
        sizes = torch.tensor(_ANCHORS[stride], dtype=torch.float32)
        _, height, width, _ = output.shape
        output = output.reshape(height, width, len(sizes), 17)
        confidence = (output[..., 15] - output[..., 14]).sigmoid_()
        scores = confidence.mul_(output[..., 16].clamp(0, 1)).sqrt_()
        y, x, anchor = (scores > threshold).nonzero(as_tuple=True)
        location, side = output[y, x, anchor, :14], sizes[anchor, None]
        middle = (torch.stack([x, y], dim=1) + 0.5) * stride
        points = middle[:, None] + location.view(-1, 7, 2) * _VARIANCES[0] * side[:, None]
        extent = side * torch.exp(location[:, 2:4] * _VARIANCES[1])
        corner = points[:, 0] - extent / 2
        return torch.cat([corner, corner + extent, points[:, 2:].flatten(1), scores[y, x, anchor, None]], dim=1)


def _pool(x: Tensor) -> Tensor:
    return F.max_pool2d(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)


def _unit(state: dict[str, Tensor], name: str) -> tuple[Layer, Layer, bool]:
    pointwise = state[f"{name}.conv1.weight"].flatten(1), state[f"{name}.conv1.bias"]
    has_relu = f"{name}.bn.weight" in state
    depthwise = _folded(state, f"{name}.conv2", f"{name}.bn") if has_relu else _convolution(state, f"{name}.conv2")
    return pointwise, depthwise, has_relu


def _convolution(state: dict[str, Tensor], name: str) -> Layer:
    weight = state[f"{name}.weight"].contiguous(memory_format=torch.channels_last)
    return weight, state[f"{name}.bias"]


def _folded(state: dict[str, Tensor], convolution: str, norm: str) -> Layer:
    """Fold a batch normalisation into the convolution before it."""
    weight, bias = _convolution(state, convolution)
    scale = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + _BN_EPS).sqrt()
    shift = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale
    return weight * scale[:, None, None, None], bias * scale + shift
