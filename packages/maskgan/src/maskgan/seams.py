"""Bringing a drawn face back into its photograph without a seam.

What the network does not draw exactly (pores, strands of hair, a pattern behind the person) would be lost if its
picture simply replaced the photograph. So the photograph changes by what the edit changes and by nothing else,

    result = photograph + c,    c = G_edited - G_as_it_is,

and hair in another colour keeps its strands. Labels end at whole pixels, hair does not: at its border c is a mean of
what hair and its surroundings change by, weighted by a matte. Where the labels change, the result is the network's
picture with the difference of photograph and network, photograph - G_as_it_is, filled in smoothly from around: in the
light and colour of its surroundings.

Shapes: pictures (S, S, 3) float32 in [0, 1]; labels (S, S).
"""

import numpy as np
import torch
from retouch_common.faces.alignment import FaceSquare
from retouch_common.faces.pasting import AlignedLayer
from retouch_common.parsing.labels import CLASSES
from retouch_common.photo.filters import dilate, gaussian_blur
from torch import Tensor

from maskgan.filling import filled

REACH = 5 / 256  # by how much an edit acts beyond its labels, as a share of the side
SOFTNESS = 2 / 256  # width of its border
MATTE_REACH = 6 / 256  # by how much hair may reach beyond its labels, or end before them
EDGE, CONTRAST = (
    0.2,
    0.15,
)  # of a matte: share of the way between two colours that is either's; distance that tells them
HAIR = CLASSES.index("hair")


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


def with_detail(
    photo: np.ndarray, labels: np.ndarray, as_it_is: np.ndarray, edited: np.ndarray, region: np.ndarray
) -> np.ndarray:
    """The formula above.

    Args:
        photo: The aligned photograph.
        labels: Its labels.
        as_it_is: The network's picture of it.
        edited: The network's picture of the edit.
        region: From :func:`edited_region`.
    """
    outside = photo + soft_change(photo, labels, edited - as_it_is)
    inside = torch.from_numpy(region)[None, None]
    around = filled(_tensor(photo - as_it_is), (inside < 0.5).float())
    drawn = edited + around[0].permute(1, 2, 0).numpy()
    return np.clip(outside + region[..., None] * (drawn - outside), 0, 1)


def soft_change(photo: np.ndarray, labels: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Return a change whose step between hair and what is around follows the photograph.

    Args:
        photo: The aligned photograph.
        labels: Its labels.
        change: (S, S, 3), of the photograph.
    """
    hair = labels == HAIR
    if not change.any() or not hair.any() or hair.all():
        return change
    sides = torch.from_numpy(np.stack([hair, ~hair]).astype(np.float32))[:, None]
    of_hair, of_others = filled(_tensor(change).expand(2, -1, -1, -1), sides)  # what each changes by, everywhere
    soft = torch.lerp(of_others, of_hair, torch.from_numpy(hair_matte(photo, labels)))
    return soft.permute(1, 2, 0).contiguous().numpy()


def hair_matte(photo: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return how much of every pixel is hair, (S, S) float32 in [0, 1].

    Labels decide but near their border. There a pixel's colour does, between what hair and what its surroundings have
    in the neighbourhood, as far as the two colours differ.

    Args:
        photo: The aligned photograph.
        labels: Its labels.
    """
    hair = (labels == HAIR).astype(np.float32)
    reach = max(1.0, MATTE_REACH * len(photo))
    inside, outside = (torch.from_numpy(dilate(side, -reach))[None, None] for side in (hair, 1 - hair))
    around = torch.from_numpy(gaussian_blur(hair, reach / 3))
    if not inside.any() or not outside.any():
        return around.numpy()
    picture = _tensor(photo)
    fore, back = filled(picture, inside), filled(picture, outside)
    contrast = (fore - back).square().sum(dim=1)
    share = ((picture - back) * (fore - back)).sum(dim=1) / contrast.clamp(min=1e-6)
    share = ((share - EDGE) / (1 - 2 * EDGE)).clamp(0, 1)  # neither hair nor walls are of one colour
    known = torch.lerp(around, share[0], contrast[0] / (contrast[0] + CONTRAST**2))
    return torch.where(inside[0, 0] > 0, 1.0, torch.where(outside[0, 0] > 0, 0.0, known)).numpy()


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
