"""The five components of a face: which labels they have, their windows, and where their features go.

Section 3.1 and section 4: "left eye", "right eye", "mouth", "skin & nose" and "hair" are cut out of the source with
windows of a fixed size, and their features are copied "centered at c_i according to the target mask".

The paper does not say what happens to a component that is not there, or that is too near to the border. Here pixels
outside the picture are zeros, features are clipped at the border, and what is missing is reported, never an error.

Shapes: labels (N, S, S) long, of :data:`retouch_common.parsing.labels.CLASSES`; pictures (N, 3, S, S) in [-1, 1];
coordinates are (x, y) in pixels, the first pixel covering [0, 1]; left is the picture's left.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from retouch_common.parsing.labels import CLASSES, NUM_CLASSES
from torch import Tensor

SIDE = 256
"""Side of an aligned face for which the sizes below are given; other sides have all of them in proportion."""

FEATURE_STRIDE = 4
"""Pixels between neighbours in the feature maps that G_m puts together."""


@dataclass(frozen=True)
class Component:
    """A component of the face.

    Attributes:
        name: In options, files and codes.
        title: In sentences.
        classes: Names of its labels.
        width: Of its window in pixels at S = 256: "decided by the max size of each component".
        height: Likewise.
        canonical: (x, y) of its centre where it is missing, at S = 256, in the official code.
        bottom: Height and width of its encoder's last map at any S; None leaves them to ``model.code_grid``.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    width: int
    height: int
    canonical: tuple[int, int]
    bottom: tuple[int, int] | None = None

    @property
    def labels(self) -> tuple[int, ...]:
        """Its labels."""
        return tuple(CLASSES.index(name) for name in self.classes)

    @property
    def whole(self) -> bool:
        """Whether its window is as large as the picture."""
        return self.width == SIDE

    def size(self, side: int) -> tuple[int, int]:
        """Height and width of its window in pictures of a side."""
        return self.height * side // SIDE, self.width * side // SIDE

    def feature_size(self, side: int) -> tuple[int, int]:
        """Height and width of its features."""
        height, width = self.size(side)
        return height // FEATURE_STRIDE, width // FEATURE_STRIDE


COMPONENTS = (
    Component("eye_left", "left eye", ("eye_left",), 48, 32, (96, 116), (2, 3)),
    Component("eye_right", "right eye", ("eye_right",), 48, 32, (160, 116), (2, 3)),
    Component("mouth", "mouth", ("upper_lip", "mouth", "lower_lip"), 144, 80, (128, 184), (5, 9)),
    Component("skin", "skin and nose", ("skin", "brow_left", "brow_right", "nose"), 256, 256, (128, 128)),
    Component("hair", "hair", ("hair",), 256, 256, (128, 128)),
)
"""All components, in the paper's order; their names are :data:`maskgan.config.COMPONENT_NAMES`."""

_ENLARGED = 3  # so many, eyes and mouth, are larger in the official code's conditioning labels
_MEMBERS = torch.tensor([[label in component.labels for label in range(NUM_CLASSES)] for component in COMPONENTS])


def masks(labels: Tensor) -> Tensor:
    """Where each component is, (N, 5, S, S) bool."""
    return _MEMBERS.to(labels.device)[:, labels].transpose(0, 1)


def centres(labels: Tensor) -> tuple[Tensor, Tensor]:
    """The middle of every component's bounding box.

    Args:
        labels: (N, S, S) long.

    Returns:
        ``xy`` (N, 5, 2) float, the canonical centre where a component is missing, and ``present`` (N, 5) bool.
    """
    side = labels.shape[-1]
    where = masks(labels)
    present = where.flatten(2).any(dim=2)
    middles = []
    for along in (where.any(dim=2), where.any(dim=3)):  # columns, rows: (N, 5, S)
        first = along.int().argmax(dim=2)
        end = side - along.flip(2).int().argmax(dim=2)
        middles.append((first + end) / 2)
    canonical = torch.tensor([component.canonical for component in COMPONENTS], device=labels.device) * (side / SIDE)
    return torch.where(present[..., None], torch.stack(middles, dim=2), canonical), present


def feature_corner(component: Component, centre: Tensor, side: int) -> Tensor:
    """Top left corner (x, y) of a component's features in the feature map, (N, 2) long.

    Args:
        component: Which.
        centre: (N, 2) in pixels of the picture; its features' middle is at int(centre / 4 + 0.5).
        side: S.
    """
    height, width = component.feature_size(side)
    return _corner(centre / FEATURE_STRIDE, height, width)


def window_corner(component: Component, centre: Tensor, side: int, *, snap: bool = False) -> Tensor:
    """Top left corner (x, y) of a component's window in the picture, (N, 2) long.

    Args:
        component: Which.
        centre: (N, 2) in pixels.
        side: S.
        snap: Move the window by up to two pixels, so that placing its features puts them exactly where it was.
    """
    if snap:
        return FEATURE_STRIDE * feature_corner(component, centre, side)
    height, width = component.size(side)
    return _corner(centre, height, width)


def crop(picture: Tensor, component: Component, corner: Tensor) -> Tensor:
    """Cut a component's window out of every picture, without resizing; zeros where it reaches beyond the picture.

    Args:
        picture: (N, C, S, S).
        component: Which.
        corner: (N, 2) from :func:`window_corner`.

    Returns:
        (N, C, h, w).
    """
    height, width = component.size(picture.shape[-1])
    return _shifted(picture, corner, height, width)


def place(feature: Tensor, corner: Tensor, side: int) -> Tensor:
    """Copy features into zeros, each sample's at its own place; what lies beyond the border is clipped.

    Args:
        feature: (N, C, h, w).
        corner: (N, 2) from :func:`feature_corner`.
        side: Of the feature map, S / 4.

    Returns:
        (N, C, side, side).
    """
    return _shifted(feature, -corner, side, side)


def enlarged(labels: Tensor, factor: float) -> Tensor:
    """Labels with the eyes and the mouth enlarged about their centres, over whatever is around them.

    Args:
        labels: (N, S, S) long.
        factor: At least 1; the official code conditions on 1.1.
    """
    if factor == 1:
        return labels
    side = labels.shape[-1]
    xy, present = centres(labels)
    middle = torch.arange(side, device=labels.device) + 0.5
    sample = torch.arange(len(labels), device=labels.device)[:, None, None]
    result = labels
    for number, member in enumerate(_MEMBERS[:_ENLARGED].to(labels.device)):
        columns, rows = (
            ((middle - c[:, None]) / factor + c[:, None]).floor().long().clamp(0, side - 1) for c in xy[:, number].T
        )
        found = labels[sample, rows[:, :, None], columns[:, None, :]]
        here = member[found] & present[:, number, None, None]
        result = torch.where(here, found, result)
    return result


def one_hot(labels: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Labels as 11 planes of zeros and ones, (N, 11, S, S)."""
    return F.one_hot(labels, NUM_CLASSES).permute(0, 3, 1, 2).to(dtype)


def warnings_of(labels: np.ndarray) -> list[str]:
    """What a user should know about a face's labels, in words: components that are missing or larger than their window.

    Args:
        labels: (S, S) of classes.
    """
    if not (labels != 0).any():
        return ["nothing but background: there is no face in these labels"]
    side, found = labels.shape[-1], []
    for component in COMPONENTS:
        rows, columns = np.nonzero(np.isin(labels, component.labels))
        if not len(rows):
            found.append(f"no {component.title}: it has no appearance to take, and none is drawn")
            continue
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        most_high, most_wide = component.size(side)
        if height > most_high or width > most_wide:
            found.append(
                f"the {component.title} measures {width} x {height} pixels, its window {most_wide} x {most_high}: "
                "what is outside is not seen"
            )
    return found


def _corner(centre: Tensor, height: int, width: int) -> Tensor:
    half = torch.tensor([width / 2, height / 2], device=centre.device)
    return (centre - half + 0.5).floor().long()


def _shifted(picture: Tensor, corner: Tensor, height: int, width: int) -> Tensor:
    """The windows of a size from a corner, (N, 2) of x and y, on; zeros outside the picture."""
    device = picture.device
    columns = corner[:, :1] + torch.arange(width, device=device)  # (N, width)
    rows = corner[:, 1:] + torch.arange(height, device=device)
    inside = ((columns >= 0) & (columns < picture.shape[3]))[:, None, :] & ((rows >= 0) & (rows < picture.shape[2]))[
        :, :, None
    ]
    rows, columns = rows.clamp(0, picture.shape[2] - 1), columns.clamp(0, picture.shape[3] - 1)
    sample = torch.arange(len(picture), device=device)[:, None, None]
    # (N, height, width, C): in this order both gathering and its gradient move whole pixels.
    found = picture.permute(0, 2, 3, 1)[sample, rows[:, :, None], columns[:, None, :]]
    return (found * inside[..., None]).permute(0, 3, 1, 2)
