"""Compositing of a generated face into its photo.

Details that the network does not reproduce (pores, strands of hair, a pattern behind the person) would be lost if its
image replaced the photo. Therefore only the change that an edit makes is added,

    result = photo + c,    c = G_edited - G_as_it_is,

and hair in another colour keeps its strands. Labels end at whole pixels, hair does not: at its border, c mixes the
changes of hair and of its surroundings by a matte. Where labels change, the result is the network's image plus
photo - G_as_it_is, continued smoothly from around, so that it has the light and colour of its surroundings.

Shapes: images (S, S, 3) float32 in [0, 1]; labels (S, S).
"""

import numpy as np
import torch
from retouch_common.faces.alignment import FaceSquare
from retouch_common.faces.pasting import AlignedLayer
from retouch_common.parsing.labels import CLASSES
from retouch_common.photo.filters import dilate, gaussian_blur
from torch import Tensor

from maskgan.filling import filled

REACH = 5 / 256  # dilation of the changed labels, as a share of the side
SOFTNESS = 2 / 256  # blur of the region's border
MATTE_REACH = 6 / 256  # distance of hair's true border from its labels' border, at most
EDGE = 0.2  # share of the way between two colours that still belongs to either
CONTRAST = 0.15  # distance of two colours that can be told apart
HAIR = CLASSES.index("hair")


def edited_region(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return the soft mask of an edit, (S, S) float32, 1 around the labels that differ."""
    side = before.shape[0]
    grown = dilate((before != after).astype(np.float32), max(1.0, REACH * side))
    return np.clip(gaussian_blur(grown, max(0.5, SOFTNESS * side)), 0, 1)


def with_detail(
    photo: np.ndarray,
    labels: np.ndarray,
    as_it_is: np.ndarray,
    edited: np.ndarray,
    region: np.ndarray,
    *,
    matte: np.ndarray | None = None,
) -> np.ndarray:
    """Composite an edit, see the module's description.

    Args:
        photo: The aligned photo.
        labels: Its labels.
        as_it_is: The network's image for these labels.
        edited: The network's image for the edited labels.
        region: From :func:`edited_region`.
        matte: From :func:`hair_matte` of the photo and its labels, if it is known.
    """
    outside = photo + soft_change(photo, labels, edited - as_it_is, matte=matte)
    inside = torch.from_numpy(region)[None, None]
    around = filled(_tensor(photo - as_it_is), (inside < 0.5).float())
    drawn = edited + around[0].permute(1, 2, 0).numpy()
    return np.clip(outside + region[..., None] * (drawn - outside), 0, 1)


def soft_change(
    photo: np.ndarray, labels: np.ndarray, change: np.ndarray, *, matte: np.ndarray | None = None
) -> np.ndarray:
    """Return a change (S, S, 3) of the photo whose step at the hair's border follows the photo instead of labels."""
    hair = labels == HAIR
    if not change.any() or not hair.any() or hair.all():
        return change
    sides = torch.from_numpy(np.stack([hair, ~hair]).astype(np.float32))[:, None]
    of_hair, of_others = filled(_tensor(change).expand(2, -1, -1, -1), sides)  # each one's change, everywhere
    soft = torch.lerp(of_others, of_hair, torch.from_numpy(hair_matte(photo, labels) if matte is None else matte))
    return soft.permute(1, 2, 0).contiguous().numpy()


def hair_matte(photo: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the matte of hair, (S, S) float32 in [0, 1].

    Labels decide except near their border. There a pixel's colour does, between those of hair and surroundings nearby,
    as far as these differ.
    """
    hair = (labels == HAIR).astype(np.float32)
    reach = max(1.0, MATTE_REACH * len(photo))
    inside, outside = (torch.from_numpy(dilate(side, -reach))[None, None] for side in (hair, 1 - hair))
    around = torch.from_numpy(gaussian_blur(hair, reach / 3))
    if not inside.any() or not outside.any():
        return around.numpy()
    image = _tensor(photo)
    fore, back = filled(image, inside), filled(image, outside)
    contrast = (fore - back).square().sum(dim=1)
    share = ((image - back) * (fore - back)).sum(dim=1) / contrast.clamp(min=1e-6)
    share = ((share - EDGE) / (1 - 2 * EDGE)).clamp(0, 1)  # neither hair nor walls have one colour
    known = torch.lerp(around, share[0], contrast[0] / (contrast[0] + CONTRAST**2))
    return torch.where(inside[0, 0] > 0, 1.0, torch.where(outside[0, 0] > 0, 0.0, known)).numpy()


class Repainted(AlignedLayer):
    """A face pasted into a photo: replaced inside the edit, elsewhere the photo plus a change.

    The photo's detail beyond S pixels is kept outside the edit; inside it would be a ghost of the former content.

    Args:
        square: Position of the face.
        image: The composited aligned face, (S, S, 3) in [0, 1].
        change: Its difference from the aligned photo, (S, S, 3).
        region: From :func:`edited_region`.
        height: Height of the photo in pixels.
        width: Width of the photo in pixels.
        largest: Largest level of the photo.
    """

    def __init__(
        self, square: FaceSquare, image: np.ndarray, change: np.ndarray, region: np.ndarray, height: int, width: int,
        largest: int,
    ) -> None:  # fmt: skip
        levels = np.concatenate([change * largest, image * largest, region[..., None]], axis=-1)
        super().__init__(square, levels, height, width)

    def take(self, before: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`retouch_common.photo.pasting.Layer`."""
        values, weights = super().take(before, first)
        change, image, inside = values[..., :3], values[..., 3:6], values[..., 6:].clip(0, 1)
        return (1 - inside) * change + inside * (image - before), weights


def _tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image, np.float32)).permute(2, 0, 1)[None]
