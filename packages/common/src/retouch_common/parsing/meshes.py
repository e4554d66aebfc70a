"""Labels from the 468-point face mesh, and from a teacher outside the face.

The mesh gives brows, eyes, nose, lips and the oval of the face, but not hair: outside the oval a pixel is NOT_FACE
(hair or background) or UNKNOWN, unless the background is plain or a teacher, a parser trained before, is confident.
"""

from __future__ import annotations

import numpy as np

from retouch_common.faces import mesh
from retouch_common.parsing.labels import CLASSES, NOT_FACE, UNKNOWN
from retouch_common.parsing.templates import ColourMixture, colour_features, connected_part
from retouch_common.photo.filters import dilate, fill_polygon

SKIN, HAIR = CLASSES.index("skin"), CLASSES.index("hair")
SURE, UNSURE = 0.7, 0.4
"""A teacher's probability from which its class is used, and from which a fringe makes the mesh's skin unknown."""
LEAST_HAIR = 200  # pixels of hair to learn its colours from


def labels_from_mesh(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """Rasterise the parts of a face, given by points (468, 2) x, y, as (H, W) uint8; the rest is background."""
    labels = np.zeros((height, width), np.uint8)
    eyes, brows = (dict(zip(("left", "right"), parts, strict=True)) for parts in (mesh.EYES, mesh.BROWS))
    upper_edge, lower_edge = _edges(points, mesh.OUTER_LIPS)
    inner_top, inner_bottom = _edges(points, mesh.INNER_LIPS)
    outlines = {
        "skin": points[list(mesh.OVAL)],
        "nose": points[list(mesh.NOSE)],
        **{f"brow_{side}": points[list(outline)] for side, outline in brows.items()},
        **{f"eye_{side}": points[list(outline)] for side, outline in eyes.items()},
        "mouth": points[list(mesh.INNER_LIPS)],
        "upper_lip": np.concatenate([upper_edge, inner_top[::-1]]),
        "lower_lip": np.concatenate([inner_bottom, lower_edge[::-1]]),
    }
    for name, outline in outlines.items():
        labels[fill_polygon(outline, height, width) > 0] = CLASSES.index(name)
    return labels


def with_mesh_parts(labels: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Replace the parts of a labelled portrait (H, W) by those of its mesh; hair, and skin above the brows, stay."""
    parts = labels_from_mesh(points, *labels.shape)
    head = _Head(points, *labels.shape)
    kept = np.where(head.forehead & (labels > 0) & (labels != HAIR), SKIN, 0).astype(np.uint8)
    result = np.where(parts > 0, parts, kept)
    over_skin = (labels == HAIR) & (result <= SKIN)
    return np.where(over_skin, HAIR, result).astype(np.uint8)


def certain_background(image: np.ndarray, points: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Return the matte (H, W) of a plain background, or zeros where it may be wrong.

    It must cover what is beside and above the head in the image (H, W, 3) in [0, 1], and not be as dark as hair.
    """
    head = _Head(points, *background.shape)
    beside = (head.down < 0.2) & ((np.abs(head.across) > 0.9) | (head.down < -1.0))
    plain = beside.any() and float((background[beside] > 0.9).mean()) > 0.97
    return background if plain and float(image[beside].mean()) > 0.25 else np.zeros_like(background)


def with_open_surroundings(points: np.ndarray, background: np.ndarray, bare: np.ndarray) -> np.ndarray:
    """Rasterise the mesh and mark what is not known outside the oval.

    Args:
        points: (468, 2) x, y in pixels.
        background: (H, W) float32, matte of a plain background, or all 0.
        bare: (H, W) bool, pixels of the colour of the face's skin.

    Returns:
        (H, W) uint8 with NOT_FACE and UNKNOWN. The forehead is skin where it is bare; it is unknown where a fringe may
        cover it, and above the oval.
    """
    head, labels = _Head(points, *background.shape), labels_from_mesh(points, *background.shape)
    face = labels > 0
    surroundings = np.where(head.forehead, UNKNOWN, NOT_FACE)
    near = dilate(face.astype(np.float32), 0.04 * head.unit) > 0
    surroundings[near] = UNKNOWN  # neither the mesh nor a hairline is exact to the pixel
    away = (np.abs(head.across) > 1.25) | (head.down < -1.3)
    surroundings[away | ((background > 0.9) & ~near)] = 0
    fringe = (labels == SKIN) & head.above_brows & ~bare
    return np.where(face & ~fringe, labels, np.where(fringe, UNKNOWN, surroundings)).astype(np.uint8)


def teacher_labels(image: np.ndarray, labels: np.ndarray, points: np.ndarray, likely: np.ndarray) -> np.ndarray:
    """Label with a teacher what the mesh leaves open, where it is confident.

    Teachers trained on people with tied-back hair take long hair for background. What is connected with hair and has
    its colour therefore stays open, even if the teacher is confident of background.

    Args:
        image: (H, W, 3) float32 in [0, 1].
        labels: (H, W) uint8, what :func:`with_open_surroundings` returns.
        points: (468, 2) x, y in its pixels.
        likely: (3, H, W) the teacher's probabilities of background, hair, and anything else.
    """
    head = _Head(points, *labels.shape)
    background, hair, face = likely
    result = labels.copy()
    open_ = (labels >= NOT_FACE) & ~head.oval
    result[open_ & (background > SURE)] = 0
    result[open_ & (hair > SURE)] = HAIR
    result[open_ & (labels == UNKNOWN) & head.forehead & (face > SURE)] = SKIN
    fringe = head.oval & (labels == UNKNOWN)
    result[fringe & (hair < UNSURE)] = SKIN
    result[fringe & (hair > SURE)] = HAIR
    near = dilate(head.oval.astype(np.float32), 0.4 * head.unit) > 0
    on_head = connected_part(result == HAIR, near)
    result[(result == HAIR) & ~on_head] = UNKNOWN
    if on_head.sum() > LEAST_HAIR:
        features = colour_features(image, head.unit)
        hair_colours = ColourMixture.fitted(features[on_head])
        similar = hair_colours.log_density(features) > -hair_colours.typical
        doubtful = (labels >= NOT_FACE) & (result == 0) & similar
        result[connected_part(doubtful | on_head | (result >= NOT_FACE), on_head) & doubtful] = NOT_FACE
    return result


def _edges(points: np.ndarray, outline: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return upper and lower edge of lips, each from the left to the right corner."""
    corner = len(outline) // 2 - 1  # the outline's right corner, as it starts with the left one
    upper = points[list(outline[: corner + 1])]
    lower = points[[outline[0], *outline[: corner - 1 : -1]]]
    return upper, lower


class _Head:
    """Where a head is, from the mesh of its face; masks are (H, W) bool.

    Attributes:
        unit: Unit of lengths in pixels: 0.45 of the height of the oval, a fifth more than the distance between the eyes
            from the front; that distance, if it is larger.
        across: (H, W) to the right from between the eyes, in heights of the face's oval.
        down: (H, W) the same from the forehead towards the chin.
        oval: Face up to the forehead.
        above_brows: What is higher than the lowest point of the brows.
        forehead: What is above the brows and not wider than the face: there skin may continue beyond the oval.
    """

    def __init__(self, points: np.ndarray, height: int, width: int) -> None:
        eyes = np.stack([points[list(eye)].mean(0) for eye in mesh.EYES])
        middle, chin = eyes.mean(0), points[152] - points[10]
        tall = float(np.hypot(*chin))
        right, down = np.array([chin[1], -chin[0]]) / tall, chin / tall
        # Not faces.geometry.mesh_unit, which is a fifth smaller: with this unit the bundled parser's labels were made.
        self.unit = max(float(np.hypot(*(eyes[1] - eyes[0]))), 0.45 * tall)
        y, x = np.mgrid[:height, :width].astype(np.float32)
        x, y = x - middle[0], y - middle[1]
        self.across, self.down = (x * right[0] + y * right[1]) / tall, (x * down[0] + y * down[1]) / tall
        outline = points[list(mesh.OVAL)]
        self.oval = fill_polygon(outline, height, width) > 0
        brows = np.concatenate([points[list(brow)] for brow in mesh.BROWS])
        rows, columns = (np.clip(np.rint(brows[:, i]), 0, n - 1).astype(int) for i, n in ((1, height), (0, width)))
        self.above_brows = self.down < float(self.down[rows, columns].max())
        reach = ((outline - middle) @ right) / tall
        beside = (self.across > reach.min()) & (self.across < reach.max())
        self.forehead = self.above_brows & beside & (self.down > -0.9)
