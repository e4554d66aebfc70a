"""The neck and the ears: background to the labels, but of the face's skin, and so of the face's colour.

Section 3.1 names them as one of two reasons why a new face pasted before the target's background shows a border: "the
background contains neck skin parts", whose colour is not the source's. Nothing that G_b sees tells it what is neck and
what is a brown wall, and Eq. 9 asks for nothing there.

Here: bare skin around the face is told by its colour and by being connected with the face, and takes the change of the
face's mean colour. Unpaired training data and edits both see backgrounds made so.

Shapes: pictures (N, 3, S, S) in [-1, 1]; labels (N, S, S) long; mattes (N, 1, S, S) in [0, 1]; colours (N, 3) in
[0, 1].
"""

import torch
import torch.nn.functional as F
from retouch_common.parsing.labels import CLASSES
from retouch_common.ranges import to_signed, to_unit
from torch import Tensor

FACE = tuple(CLASSES.index(name) for name in ("skin", "nose"))
DARK = 0.05  # added before logarithms: what is darker than that has no reliable hue
HUE, LIGHT, SHADE = 0.12, 0.25, 0.9
"""How far, as logarithms, a neck's hue may be from the face's, how much lighter and how much darker it may be."""
REACH = 0.3  # how far from the face skin is looked for, as a share of the picture's side
STEPS = 24  # of growing from the face, at a quarter of the resolution
GAIN = 6.0  # largest change of a colour, as a factor


def skin_colour(picture: Tensor, labels: Tensor) -> Tensor:
    """Return the mean colour of the face's skin, (N, 3); mid-grey where there is none."""
    where = _face(labels)
    count = where.sum(dim=(2, 3))
    mean = (to_unit(picture.float()) * where).sum(dim=(2, 3)) / count.clamp(min=1)
    return torch.where(count > 0, mean, 0.5)


def neck_matte(picture: Tensor, labels: Tensor) -> Tensor:
    """Return where the background shows skin of the person's: neck and ears.

    Args:
        picture: (N, 3, S, S) in [-1, 1].
        labels: (N, S, S) long.

    Returns:
        (N, 1, S, S) in [0, 1], 0 wherever the labels have a part of the face or hair.
    """
    face = _face(labels)
    tone = torch.log(to_unit(picture.float()) + DARK)
    light = tone.mean(dim=1, keepdim=True)
    hue = torch.stack([tone[:, 0] - tone[:, 1], tone[:, 1] - tone[:, 2]], dim=1)
    (hue_mean, hue_spread), (light_mean, light_spread) = _moments(hue, face), _moments(light, face)
    away = ((hue - hue_mean) / (hue_spread + HUE)).square().sum(dim=1, keepdim=True)
    lighter, darker = (light - light_mean).clamp(min=0), (light_mean - light).clamp(min=0)
    away = away + (lighter / (light_spread + LIGHT)).square() + (darker / (light_spread + SHADE)).square()
    likely = torch.exp(-away / 2) * (labels == 0)[:, None]
    return likely * _connected(likely, face)


def recoloured(picture: Tensor, matte: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Return a picture whose colours, where a matte says so, change as one colour does to become another.

    Args:
        picture: (N, 3, S, S) in [-1, 1].
        matte: (N, 1, S, S).
        before: (N, 3) in [0, 1].
        after: (N, 3).
    """
    gain = ((after + DARK) / (before + DARK)).clamp(1 / GAIN, GAIN)[..., None, None]
    changed = ((to_unit(picture) + DARK) * gain - DARK).clamp(0, 1)
    return picture + matte * (to_signed(changed) - picture)


def _face(labels: Tensor) -> Tensor:
    return torch.isin(labels, torch.tensor(FACE, device=labels.device))[:, None].float()


def _moments(values: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of (N, C, S, S) values where (N, 1, S, S) says so, (N, C, 1, 1) each."""
    count = where.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    mean = (values * where).sum(dim=(2, 3), keepdim=True) / count
    return mean, (((values - mean).square() * where).sum(dim=(2, 3), keepdim=True) / count).sqrt()


def _connected(likely: Tensor, face: Tensor) -> Tensor:
    """Return how well every pixel is connected with the face through likely ones, (N, 1, S, S) in [0, 1]."""
    side = likely.shape[-1]
    near = F.avg_pool2d(likely, 4)
    seeds = F.max_pool2d(face, 4)
    reach = 2 * round(REACH * side / 4) + 1
    near = near * F.max_pool2d(seeds, reach, 1, reach // 2)
    found = seeds
    for _ in range(STEPS):
        grown = F.max_pool2d(found, 3, 1, 1)
        found = torch.maximum(seeds, torch.minimum(grown, (2 * near).clamp(max=1)))
    return F.interpolate(found, size=(side, side), mode="bilinear", align_corners=False)
