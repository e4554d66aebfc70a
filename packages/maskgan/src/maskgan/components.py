"""The five components of a face: labels, windows, placement of features.

Section 3.1 and section 4: "left eye", "right eye", "mouth", "skin & nose" and "hair" are cut out of the source in
windows of a fixed size, and their features are copied "centered at c_i according to the target mask".

The paper does not say what happens to components that are missing or close to the border. Here pixels outside the image
are zeros, features are clipped at the border, and missing components are reported, never an error.

Shapes: labels (N, S, S) long, of :data:`retouch_common.parsing.labels.CLASSES`; images (N, 3, S, S) in [-1, 1];
coordinates are (x, y) in pixels, the first pixel covering [0, 1]; left is the image's left.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from retouch_common.parsing.labels import CLASSES, NUM_CLASSES
from torch import Tensor

SIDE = 256
"""Side of an aligned face to which the sizes below refer; they scale with S."""

FEATURE_STRIDE = 4
"""Stride in pixels of the feature maps that G_m fuses."""


@dataclass(frozen=True)
class Component:
    """A component of the face.

    Attributes:
        name: Name in options, files and codes.
        title: Name in messages.
        classes: Names of its labels.
        width: Width of its window in pixels at S = 256, "decided by the max size of each component".
        height: Height of its window.
        canonical: Centre (x, y) where it is missing, at S = 256, as in the official code.
        bottom: Height and width of its encoder's last map at any S; None: given by ``model.code_grid``.
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
        """Class indices."""
        return tuple(CLASSES.index(name) for name in self.classes)

    @property
    def whole(self) -> bool:
        """Whether its window is as large as the image."""
        return self.width == SIDE

    def size(self, side: int) -> tuple[int, int]:
        """Return height and width of its window in images of a side."""
        return self.height * side // SIDE, self.width * side // SIDE

    def feature_size(self, side: int) -> tuple[int, int]:
        """Return height and width of its features."""
        height, width = self.size(side)
        return height // FEATURE_STRIDE, width // FEATURE_STRIDE


COMPONENTS = (
    Component("eye_left", "left eye", ("eye_left",), 48, 32, (96, 116), (2, 3)),
    Component("eye_right", "right eye", ("eye_right",), 48, 32, (160, 116), (2, 3)),
    Component("mouth", "mouth", ("upper_lip", "mouth", "lower_lip"), 144, 80, (128, 184), (5, 9)),
    Component("skin", "skin and nose", ("skin", "brow_left", "brow_right", "nose"), 256, 256, (128, 128)),
    Component("hair", "hair", ("hair",), 256, 256, (128, 128)),
)
"""All components, in the order of :data:`maskgan.config.COMPONENT_NAMES`."""

_ENLARGED = 3  # components enlarged in the official code's conditioning labels: eyes and mouth
_MEMBERS = torch.tensor([[label in component.labels for label in range(NUM_CLASSES)] for component in COMPONENTS])


def masks(labels: Tensor) -> Tensor:
    """Return the masks of all components, (N, 5, S, S) bool."""
    return _MEMBERS.to(labels.device)[:, labels].transpose(0, 1)


def centres(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the centres of the components' bounding boxes, (N, 5, 2), and which are present, (N, 5) bool.

    A missing component has its canonical centre.
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
    """Return the top left corner (x, y) of a component's features in the feature map, (N, 2) long.

    Args:
        component: The component.
        centre: (N, 2) in pixels of the image; the features' centre is int(centre / 4 + 0.5).
        side: S.
    """
    height, width = component.feature_size(side)
    return _corner(centre / FEATURE_STRIDE, height, width)


def window_corner(component: Component, centre: Tensor, side: int, *, snap: bool = False) -> Tensor:
    """Return the top left corner (x, y) of a component's window in the image, (N, 2) long.

    Args:
        component: The component.
        centre: (N, 2) in pixels.
        side: S.
        snap: Move the window by up to two pixels, so that :func:`place` puts its features exactly where it was.
    """
    if snap:
        return FEATURE_STRIDE * feature_corner(component, centre, side)
    height, width = component.size(side)
    return _corner(centre, height, width)


def crop(image: Tensor, component: Component, corner: Tensor) -> Tensor:
    """Cut a component's window (N, C, h, w) out of images (N, C, S, S), without resizing; zeros beyond the border.

    ``corner`` is (N, 2) from :func:`window_corner`.
    """
    height, width = component.size(image.shape[-1])
    return _shifted(image, corner, height, width)


def place(feature: Tensor, corner: Tensor, side: int) -> Tensor:
    """Copy features (N, C, h, w) into zeros (N, C, side, side), clipped at the border.

    ``corner`` is (N, 2) from :func:`feature_corner`; ``side`` is S / 4.
    """
    return _shifted(feature, -corner, side, side)


def enlarged(labels: Tensor, factor: float) -> Tensor:
    """Return labels with eyes and mouth enlarged about their centres by a factor of at least 1."""
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
    """Return one-hot labels, (N, 11, S, S)."""
    return F.one_hot(labels, NUM_CLASSES).permute(0, 3, 1, 2).to(dtype)


def warnings_of(labels: np.ndarray) -> list[str]:
    """Return warnings on components that are missing in labels (S, S) or larger than their window."""
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


def _shifted(image: Tensor, corner: Tensor, height: int, width: int) -> Tensor:
    """Return windows (N, C, height, width) from corners (N, 2) of x and y on; zeros outside the image."""
    columns = corner[:, :1] + torch.arange(width, device=image.device)  # (N, width)
    rows = corner[:, 1:] + torch.arange(height, device=image.device)
    inside_x, inside_y = (columns >= 0) & (columns < image.shape[3]), (rows >= 0) & (rows < image.shape[2])
    rows, columns = rows.clamp(0, image.shape[2] - 1), columns.clamp(0, image.shape[3] - 1)
    sample = torch.arange(len(image), device=image.device)[:, None, None]
    # (N, height, width, C): in this order both gathering and its gradient move whole pixels.
    found = image.permute(0, 2, 3, 1)[sample, rows[:, :, None], columns[:, None, :]]
    return (found * (inside_x[:, None, :] & inside_y[:, :, None])[..., None]).permute(0, 3, 1, 2)
