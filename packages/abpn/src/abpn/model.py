"""ABPN, the adaptive blend pyramid network, in the order of Fig. 3.

Lei, Guo, Yang, Cui, Xie, Huang. "ABPN: Adaptive Blend Pyramid Network for Real-Time Local Retouching of Ultra
High-Resolution Photo." CVPR 2022.

Retouch a thumbnail of the photograph, express the change as a blend layer, upsample and refine that layer to the
photograph's size, and apply it. The expensive network sees only the thumbnail; the photograph itself costs two small
convolutions per level.

Shapes: the photograph I_0 is (N, 3, H, W) in [0, 1]; level i is (N, 3, H / 2^i, W / 2^i); the thumbnail is level l;
the mask M is a quarter of the thumbnail's size.
"""

import math
from dataclasses import dataclass
from importlib import resources

import torch
import torch.nn.functional as F
from retouch_common.pretrained import Pretrained
from torch import Tensor

from abpn.blend import make_blend
from abpn.blend_pyramid import BlendPyramid, image_pyramid
from abpn.config import PRESETS, ModelConfig
from abpn.local_retouching import LocalRetouchingLayer

THUMBNAIL_MULTIPLE = 64  # the encoder halves the thumbnail six times


@dataclass(frozen=True)
class ABPNOutput:
    """Output of :class:`ABPN`.

    Attributes:
        results: [ABM(I_0, B_0), ..., ABM(I_l, B_l)], unclamped; the first is R_0.
        blends: [B_0, ..., B_l].
        images: [I_0, ..., I_l], padded like the blends.
        retouched_thumbnail: R_l as the local retouching layer outputs it, unclamped. The last of ``results`` equals it
            where R-ABM inverts ABM.
        mask_logits: Logits of M, a quarter of the padded thumbnail's size; None without the mask branch.
    """

    results: list[Tensor]
    blends: list[Tensor]
    images: list[Tensor]
    retouched_thumbnail: Tensor
    mask_logits: Tensor | None

    @property
    def mask(self) -> Tensor | None:
        """M in [0, 1], or None."""
        return None if self.mask_logits is None else torch.sigmoid(self.mask_logits)


class ABPN(Pretrained):
    """Adaptive blend pyramid network.

    Args:
        config: Architecture; by default that of the preset "recommended".
    """

    presets, bundled = PRESETS, resources.files("abpn") / "weights"
    tags = ("face-retouching", "image-to-image")

    def __init__(self, config: ModelConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or ModelConfig()
        self.local_retouching = LocalRetouchingLayer(
            config.widths,
            mask_branch=config.mask_branch,
            attention=config.attention,
            residual=config.residual,
        )
        self.blend = make_blend(config.blend)
        self.blend_pyramid = BlendPyramid(config.refine_width, config.refine, config.pyramid)

    def num_levels(self, height: int, width: int) -> int:
        """Return l = max(0, round(log2(long side / thumbnail))).

        With a thumbnail of 256: 512 -> 1, 1024 -> 2, 4096 -> 4, as in Table 3.
        """
        return max(0, round(math.log2(max(height, width) / self.config.thumbnail)))

    def forward(self, image: Tensor, num_levels: int | None = None) -> ABPNOutput:
        """Retouch photographs.

        Args:
            image: I_0, (N, 3, H, W) in [0, 1]. It is padded to multiples of 2^l by repeating the edge;
                ``results[0]`` is cropped to (H, W).
            num_levels: l; that of :meth:`num_levels` if None.
        """
        height, width = image.shape[-2:]
        l = self.num_levels(height, width) if num_levels is None else num_levels
        images = image_pyramid(pad_to_multiple(image, 2**l), l, self.config.pyramid)
        R_l, mask_logits = self.retouch_thumbnail(images[l])
        B_l = self.blend.reverse(images[l], R_l)  # Eq. 4
        blends = self.blend_pyramid(B_l, images)  # Eq. 5
        results = [self.blend(I, B) for I, B in zip(images, blends, strict=True)]  # Eq. 3
        results[0] = results[0][..., :height, :width]
        return ABPNOutput(results, blends, images, R_l, mask_logits)

    def retouch_thumbnail(self, thumbnail: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return R_l for I_l of any size, and the mask's logits, which cover I_l padded to multiples of 64."""
        height, width = thumbnail.shape[-2:]
        retouched, logits = self.local_retouching(pad_to_multiple(thumbnail, THUMBNAIL_MULTIPLE))
        return retouched[..., :height, :width], logits


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Pad (N, C, H, W) at the bottom and the right to multiples of ``multiple`` by repeating the edge."""
    # Not the remainder, of which exports, which calculate with symbolic sizes, do not see that it makes a multiple.
    bottom, right = ((side + multiple - 1) // multiple * multiple - side for side in image.shape[-2:])
    return F.pad(image, (0, right, 0, bottom), mode="replicate") if right or bottom else image
