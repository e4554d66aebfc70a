"""Bringing a drawn face back into its photograph without a seam.

What the network does not draw exactly (pores, strands of hair, a pattern behind the person) would be lost if its
picture simply replaced the photograph. So the photograph keeps its difference from the network's own picture *of it*,

    result = G_edited + r,    r = photograph - G_as_it_is,

except where the labels change: there the old difference belongs to what is gone, and r is filled in smoothly from
around. Elsewhere, then, the photograph changes by what the edit changes and by nothing else, so hair in another colour
keeps its strands; inside it shows the network's picture, in the light and colour of its surroundings.

Shapes: pictures (S, S, 3) float32 in [0, 1]; labels (S, S).
"""

import numpy as np
import torch
from retouch_common.photo.alignment import FaceSquare
from retouch_common.photo.pasting import AlignedLayer
from retouch_common.synthesis.filters import dilate, gaussian_blur
from torch import Tensor

from maskgan.filling import filled

REACH = 5 / 256  # by how much an edit acts beyond its labels, as a share of the side
SOFTNESS = 2 / 256  # width of its border


def edited_region(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Where an edit draws something else than there was.

    Args:
        before: Labels of the photograph.
        after: Labels that were asked for.

    Returns:
        (S, S) float32, 1 there, softly down to 0 around.
    """
    side = before.shape[0]
    grown = dilate((before != after).astype(np.float32), max(1.0, REACH * side))
    return np.clip(gaussian_blur(grown, max(0.5, SOFTNESS * side)), 0, 1)


def with_detail(photo: np.ndarray, as_it_is: np.ndarray, edited: np.ndarray, region: np.ndarray) -> np.ndarray:
    """The formula above.

    Args:
        photo: The aligned photograph.
        as_it_is: The network's picture of it.
        edited: The network's picture of the edit.
        region: From :func:`edited_region`.
    """
    residual = _tensor(photo - as_it_is)
    inside = torch.from_numpy(region)[None, None]
    around = filled(residual, (inside < 0.5).float())
    kept = residual + inside * (around - residual)
    return np.clip(edited + kept[0].permute(1, 2, 0).numpy(), 0, 1)


class Repainted(AlignedLayer):
    """A face brought back to its place in a photograph: new where the edit is, elsewhere the photograph plus a change.

    The photograph's own detail, finer than S pixels show it, is painted over inside the edit, where it would be a ghost
    of what was there, and kept outside.

    Args:
        square: Where the face is.
        picture: The finished aligned face, (S, S, 3) in [0, 1].
        change: What it adds to the aligned photograph, (S, S, 3).
        region: From :func:`edited_region`.
        height: Height of the photograph in pixels.
        width: Width of the photograph in pixels.
        largest: Largest level of the photograph.
    """

    def __init__(
        self, square: FaceSquare, picture: np.ndarray, change: np.ndarray, region: np.ndarray, height: int, width: int,
        largest: int,
    ) -> None:  # fmt: skip
        levels = np.concatenate([change * largest, picture * largest, region[..., None]], axis=-1)
        super().__init__(square, levels, height, width)

    def take(self, before: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`retouch_common.photo.pasting.Layer`."""
        values, weights = super().take(before, first)
        change, picture, inside = values[..., :3], values[..., 3:6], values[..., 6:].clip(0, 1)
        return (1 - inside) * change + inside * (picture - before), weights


def _tensor(picture: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture, np.float32)).permute(2, 0, 1)[None]
