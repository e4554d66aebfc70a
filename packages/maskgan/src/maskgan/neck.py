"""Colour of neck and ears: background to the labels, but of the face's skin.

Section 3.1 names them as one of two reasons why a face pasted over the target's background shows a border: "the
background contains neck skin parts", whose colour is not the source's. G_b cannot tell a neck from a brown wall, and no
term of Eq. 9 asks it to.

Here: bare skin around the face is found by its colour and its connection with the face, and its colour changes as the
face's mean colour does, in unpaired training data and in edits.

Shapes: images (N, 3, S, S) in [-1, 1]; labels (N, S, S) long; mattes (N, 1, S, S) in [0, 1]; colours (N, 3) in [0, 1].
"""

import torch
import torch.nn.functional as F
from retouch_common.parsing.labels import CLASSES
from retouch_common.ranges import to_signed, to_unit
from torch import Tensor

FACE = tuple(CLASSES.index(name) for name in ("skin", "nose"))
DARK = 0.05  # added before logarithms: darker pixels have no reliable hue
HUE, LIGHT, SHADE = 0.12, 0.25, 0.9
"""Tolerances of a neck's hue, of how much lighter and how much darker than the face it is; logarithms."""
REACH = 0.3  # search radius around the face as a share of the image's side
STEPS = 24  # dilations from the face, at a quarter of the resolution
GAIN = 6.0  # largest factor of a colour's change


def skin_colour(image: Tensor, labels: Tensor) -> Tensor:
    """Return the mean colour of the face's skin, (N, 3); mid-grey where there is none."""
    where = _face(labels)
    count = where.sum(dim=(2, 3))
    mean = (to_unit(image.float()) * where).sum(dim=(2, 3)) / count.clamp(min=1)
    return torch.where(count > 0, mean, 0.5)


def neck_matte(image: Tensor, labels: Tensor) -> Tensor:
    """Return the matte of the person's skin in the background, neck and ears; 0 wherever labels are not background."""
    face = _face(labels)
    tone = torch.log(to_unit(image.float()) + DARK)
    light = tone.mean(dim=1, keepdim=True)
    hue = torch.stack([tone[:, 0] - tone[:, 1], tone[:, 1] - tone[:, 2]], dim=1)
    (hue_mean, hue_spread), (light_mean, light_spread) = _moments(hue, face), _moments(light, face)
    away = ((hue - hue_mean) / (hue_spread + HUE)).square().sum(dim=1, keepdim=True)
    lighter, darker = (light - light_mean).clamp(min=0), (light_mean - light).clamp(min=0)
    away = away + (lighter / (light_spread + LIGHT)).square() + (darker / (light_spread + SHADE)).square()
    likely = torch.exp(-away / 2) * (labels == 0)[:, None]
    return likely * _connected(likely, face)


def recoloured(image: Tensor, matte: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Return an image whose colours change inside a matte by the gain that turns ``before`` into ``after``."""
    gain = ((after + DARK) / (before + DARK)).clamp(1 / GAIN, GAIN)[..., None, None]
    changed = ((to_unit(image) + DARK) * gain - DARK).clamp(0, 1)
    return image + matte * (to_signed(changed) - image)


def _face(labels: Tensor) -> Tensor:
    return torch.isin(labels, torch.tensor(FACE, device=labels.device))[:, None].float()


def _moments(values: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and deviation, (N, C, 1, 1) each, of values (N, C, S, S) inside a mask (N, 1, S, S)."""
    count = where.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    mean = (values * where).sum(dim=(2, 3), keepdim=True) / count
    return mean, (((values - mean).square() * where).sum(dim=(2, 3), keepdim=True) / count).sqrt()


def _connected(likely: Tensor, face: Tensor) -> Tensor:
    """Return the connectedness of pixels with the face through likely ones, (N, 1, S, S) in [0, 1]."""
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
