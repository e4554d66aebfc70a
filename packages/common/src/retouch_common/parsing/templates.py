"""Labels from the 189 landmarks of a portrait before a plain background.

The landmarks give skin, brows, eyes, nose and lips. Hair is what remains of the person around the face without skin,
clothes, neck and ears, separated by colours that are learnt from the same image. Beards are skin, as in Helen; so is a
bald head.
"""

from __future__ import annotations

import numpy as np

from retouch_common.faces.geometry import FaceGeometry, geometry_from_template
from retouch_common.faces.skin import plain_background, skin_maps
from retouch_common.faces.webmorph import Template
from retouch_common.parsing.labels import CLASSES
from retouch_common.photo.colour import rgb_to_lab
from retouch_common.photo.filters import dilate, fill_polygon, gaussian_blur, resize
from retouch_common.ranges import from_levels

WORKING_UNIT = 96.0  # distance between the pupils in pixels at which hair is segmented; larger photos are downsampled
SKIN, HAIR = CLASSES.index("skin"), CLASSES.index("hair")
BALD = (-15.0, 2.2)
"""A bald head is at most this much darker (L of Lab) and rougher than the forehead, as in :func:`colour_features`."""


class NotPlain(ValueError):
    """The background is not plain, so that the outline of the hair is unknown."""


def parse_portrait(image: np.ndarray, template: Template) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Label a portrait (H, W, 3) float32 in [0, 1], at about 100 pixels between the pupils.

    Returns:
        Labels (H, W) uint8, and two mattes (H, W) float32 in [0, 1]: the plain background, and where the tone of skin
        can be changed.

    Raises:
        NotPlain: Hair cannot be separated from the background.
        ValueError: Another kind of template.
    """
    geometry, background = _before_background(image, template)
    hair, scalp = hair_mask(image, template, background)
    labels = labels_from_template(template, *image.shape[:2], hair=hair, scalp=scalp)
    return labels, background, skin_maps(image, geometry).tone


def reduced(levels: np.ndarray, template: Template, scale: float) -> tuple[np.ndarray, Template]:
    """Return a photo (H, W, 3) uint8 as float32 in [0, 1], and its landmarks, at another scale."""
    height, width = (round(n * scale) for n in levels.shape[:2])
    image = resize(from_levels(levels), height, width, antialias=True)
    return image.clip(0, 1), template.scaled(scale)


def labels_of_photo(levels: np.ndarray, template: Template) -> np.ndarray:
    """Label a photo (H, W, 3) uint8 with landmarks in its pixels at its own size, (H, W) uint8.

    Errors as for :func:`parse_portrait`.
    """
    height, width = levels.shape[:2]
    image, small = reduced(levels, template, min(1.0, WORKING_UNIT / template.pupil_distance))
    _, background = _before_background(image, small)
    hair, scalp = (resize(mask.astype(np.float32), height, width) > 0.5 for mask in hair_mask(image, small, background))
    return labels_from_template(template, height, width, hair=hair, scalp=scalp)


def _before_background(image: np.ndarray, template: Template) -> tuple[FaceGeometry, np.ndarray]:
    """Return the regions of a person, and the matte of the plain background."""
    geometry = geometry_from_template(template, *image.shape[:2])
    background = plain_background(image, geometry)
    if background.mean() < 0.02:
        raise NotPlain("its background is not plain, so where hair ends cannot be determined")
    return geometry, background


def labels_from_template(
    template: Template, height: int, width: int, *, hair: np.ndarray | None = None, scalp: np.ndarray | None = None
) -> np.ndarray:
    """Rasterise the parts of a face from its landmarks, (H, W) uint8.

    Args:
        template: Landmarks in the image's pixels; ValueError if it is of another kind.
        height: H.
        width: W.
        hair: (H, W) bool; it lies over skin and under everything else.
        scalp: (H, W) bool, skin above the hairline of the landmarks.
    """
    labels = np.zeros((height, width), np.uint8)

    def fill(outline: np.ndarray, name: str) -> None:
        labels[fill_polygon(outline, height, width) > 0] = CLASSES.index(name)

    fill(template.outline("face"), "skin")
    if scalp is not None:
        labels[scalp] = SKIN
    fill(nose_outline(template), "nose")
    if hair is not None:
        labels[hair] = HAIR
    for name in ("brow_left", "brow_right", "eye_left", "eye_right"):
        fill(template.outline(name), name)
    upper_edge, inner_top, inner_bottom, lower_edge = (template.polyline(index) for index in (20, 21, 22, 23))
    # Closed lips leave the inner lines crossing by a pixel: what is between them is not an open mouth.
    fill(np.concatenate([inner_top, inner_bottom[::-1]]), "mouth")
    fill(np.concatenate([upper_edge, inner_top[::-1]]), "upper_lip")
    fill(np.concatenate([inner_bottom, lower_edge[::-1]]), "lower_lip")
    return labels


def nose_outline(template: Template) -> np.ndarray:
    """Return the closed outline of the nose, (n, 2).

    The landmarks follow the light on its ridge; Helen's nose includes the shadows, narrow between the eyes and widening
    down to the wings.
    """
    left_side, right_side, left_wing, right_wing = template.lines("nose")
    unit = template.pupil_distance
    eyes = template.points[:2]
    across = (eyes[1] - eyes[0]) / unit
    if left_wing[0] @ across > right_wing[0] @ across:
        left_wing, right_wing = right_wing, left_wing
        left_side, right_side = right_side, left_side

    def slope(side: np.ndarray, wing: np.ndarray, outwards: np.ndarray) -> np.ndarray:
        """Return a line from the top of the ridge down to the wing, increasingly further out."""
        top = side[round(0.2 * (len(side) - 1))]  # the uppermost point lies between the brows
        steps = np.linspace(0.0, 1.0, 7, dtype=np.float32)[:, None]
        line = top + steps * (wing[0] - top)
        bulge = outwards * (0.06 * unit) * (1 - steps)
        return line + bulge

    return np.concatenate(
        [
            slope(left_side, left_wing, -across),
            left_wing[1:],
            right_wing[::-1][1:],
            slope(right_side, right_wing, across)[::-1],
        ]
    ).astype(np.float32)


def hair_mask(image: np.ndarray, template: Template, background: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Segment hair and bare scalp, (H, W) bool each, before a plain background of a given matte."""
    regions = _Regions(image, template, background)
    features = colour_features(image, regions.unit)
    sure_skin, crown = regions.sure_skin, regions.crown
    if crown.sum() < 20 or sure_skin.sum() < 100:
        empty = np.zeros(crown.shape, bool)
        return empty, empty
    skin = ColourMixture.fitted(features[sure_skin])
    hair = None if _is_bald(features, regions) else _hair_colours(features, crown, skin)
    if hair is None:
        return np.zeros(crown.shape, bool), regions.person & regions.above & ~regions.ears
    likely = hair.log_density(features)
    # what looks like neither is not hair
    usual = likely + hair.typical
    score = np.minimum(likely - skin.log_density(features), usual + np.where(regions.low, 1.0, 4.0))
    if (regions.cloth & (score < 0)).sum() > 100:
        clothes = ColourMixture.fitted(features[regions.cloth & (score < 0)])
        score = np.where(regions.low, np.minimum(score, likely - clothes.log_density(features)), score)
    score = gaussian_blur(np.clip(score, -6.0, 6.0).astype(np.float32), 0.012 * regions.unit)
    found = _opened(regions.allowed & (score + regions.prior > 0), 0.012 * regions.unit)
    on_head = connected_part(found, crown & found)
    same = (score > 1.5) & (usual > 0)
    behind_neck = _opened(found & ~on_head & same, 0.05 * regions.unit) & ~regions.neck & regions.below_ears
    behind_neck &= ~regions.low & ~connected_part(found, found & regions.cloth)
    found = _filled(on_head | connected_part(found, behind_neck), 0.04 * regions.unit) & regions.allowed
    rest = regions.person & regions.above & ~found & ~regions.ears
    near = dilate(regions.face.astype(np.float32), 0.2 * regions.unit) > 0
    scalp = connected_part(rest & near, rest & regions.rim) | _opened(rest, 0.06 * regions.unit)
    return found, scalp


class _Regions:
    """Where the parts of a person can be, from the landmarks; (H, W) bool unless said otherwise."""

    def __init__(self, image: np.ndarray, template: Template, background: np.ndarray) -> None:
        height, width = image.shape[:2]
        self.unit = unit = template.pupil_distance

        def filled(name: str) -> np.ndarray:
            return fill_polygon(template.outline(name), height, width)

        face, neck = filled("face"), filled("neck")
        ears = np.maximum(filled("ear_left"), filled("ear_right"))
        features = np.maximum.reduce([filled(n) for n in ("brow_left", "brow_right", "eye_left", "eye_right", "lips")])
        brows = np.concatenate([template.outline(name) for name in ("brow_left", "brow_right")])
        brow_top, eye_line = float(brows[:, 1].min()), float(template.points[:2, 1].mean())
        lip_top, chin = (float(f(template.outline(name)[:, 1])) for f, name in ((np.min, "lips"), (np.max, "face")))
        y, x = np.mgrid[:height, :width].astype(np.float32)
        left, right = (float(f(template.outline("face")[:, 0])) for f in (np.min, np.max))

        self.person = background < 0.5
        self.face = face > 0
        wide = dilate(face, 0.05 * unit) > 0
        self.above = ~self.face & (y < eye_line) & (dilate(filled("head"), 0.25 * unit) > 0)
        self.crown = self.person & ~wide & (y < brow_top) & (x > left) & (x < right)
        middle = (dilate(face, -0.15 * unit) > 0) & (dilate(features, 0.1 * unit) == 0)
        self.sure_skin = middle & (y > brow_top + 0.1 * unit) & (y < lip_top - 0.1 * unit)
        self.forehead = middle & (y < brow_top - 0.1 * unit)
        self.low, self.below_ears = y > chin, y > lip_top
        self.neck, self.ears = dilate(neck, 0.03 * unit) > 0, ears > 0
        self.rim = wide & ~self.face
        self.cloth = self.person & (y > height - 0.35 * unit) & (neck == 0) & self.low
        inner = dilate(face, -0.06 * unit) > 0
        protected = (inner & (y > brow_top)) | (dilate(features, 0.02 * unit) > 0) | (self.face & (y > lip_top))
        self.allowed = self.person & ~protected
        self.prior = np.zeros((height, width), np.float32)
        self.prior += np.where(self.crown, 1.0, 0.0)
        self.prior -= np.where(self.face, 0.5, 0.0) + np.where(ears > 0, 1.5, 0.0)
        self.prior -= np.where((dilate(neck, 0.05 * unit) > 0) & (y > lip_top), 3.0, 0.0)
        self.prior -= np.where(self.low, 1.0, 0.0)
        beard = (dilate(face, 0.1 * unit) > 0) & (y > lip_top)
        self.prior -= np.where(beard, 2.5, 0.0)


def colour_features(image: np.ndarray, unit: float) -> np.ndarray:
    """Return the features of :class:`ColourMixture`, (H, W, 4) float32: Lab of blurred pixels, and their roughness.

    Args:
        image: (H, W, 3) float32 in [0, 1].
        unit: Distance between the eyes in pixels.
    """
    lab = rgb_to_lab(image)
    soft = gaussian_blur(lab, 0.015 * unit)
    detail = np.abs(lab[..., :1] - gaussian_blur(lab[..., :1], 0.03 * unit))
    rough = np.log(0.3 + gaussian_blur(detail, 0.04 * unit))
    return np.concatenate([soft, 4.0 * rough], axis=-1)


def _is_bald(features: np.ndarray, regions: _Regions) -> bool:
    if not regions.forehead.any():
        return False
    above, below = (np.median(features[part], axis=0) for part in (regions.crown, regions.forehead))
    return bool(above[0] - below[0] > BALD[0] and above[3] - below[3] < BALD[1])


def _hair_colours(features: np.ndarray, crown: np.ndarray, skin: ColourMixture) -> ColourMixture | None:
    """Fit the colours of the hair; None if hardly anything differs from skin."""
    hair, values = None, features[crown]
    for _ in range(3):
        if len(values) < 50:
            return None
        hair = ColourMixture.fitted(values)
        values = features[crown]
        values = values[hair.log_density(values) > skin.log_density(values)]
    return hair


class ColourMixture:
    """A mixture of Gaussians over :func:`colour_features`.

    Attributes:
        typical: Negative log density that 95 % of the fitted values fall below.
    """

    def __init__(self, weights: np.ndarray, means: np.ndarray, covariances: np.ndarray) -> None:
        self.weights, self.means = weights, means
        self._inverse = np.linalg.inv(covariances)
        self._constant = np.log(weights) - 0.5 * np.linalg.slogdet(2 * np.pi * covariances)[1]
        self.typical = 0.0

    @classmethod
    def fitted(cls, values: np.ndarray, count: int = 3, rounds: int = 8) -> ColourMixture:
        """Fit (n, f) values by expectation maximisation, initialised along their widest direction."""
        values = values[:: max(1, len(values) // 4000)].astype(np.float64)
        width = values.shape[1]
        centred = values - values.mean(0)
        _, _, axes = np.linalg.svd(centred, full_matrices=False)
        parts = np.array_split(np.argsort(centred @ axes[0], kind="stable"), count)
        shares = np.zeros((len(values), count))
        for index, part in enumerate(parts):
            shares[part, index] = 1.0
        for _ in range(rounds):
            total = shares.sum(0) + 1e-6
            means = shares.T @ values / total[:, None]
            covariances = np.stack(
                [
                    ((values - mean).T * share) @ (values - mean) / sum_ + 1.5 * np.eye(width)
                    for mean, share, sum_ in zip(means, shares.T, total, strict=True)
                ]
            )
            mixture = cls(total / total.sum(), means, covariances)
            parts_ = mixture._parts(values)
            shares = np.exp(parts_ - np.logaddexp.reduce(parts_, axis=1, keepdims=True))
        mixture.typical = float(np.quantile(-mixture.log_density(values), 0.95))
        return mixture

    def log_density(self, values: np.ndarray) -> np.ndarray:
        """Return the log density of (…, f) values, (…)."""
        flat = values.reshape(-1, values.shape[-1])
        return np.logaddexp.reduce(self._parts(flat), axis=1).reshape(values.shape[:-1]).astype(np.float32)

    def _parts(self, values: np.ndarray) -> np.ndarray:
        """Return the log density of every component, (n, k)."""
        columns = []
        for mean, inverse, constant in zip(self.means, self._inverse, self._constant, strict=True):
            away = values - mean
            columns.append(constant - 0.5 * np.einsum("nf,nf->n", away @ inverse, away))
        return np.stack(columns, axis=1)


def _opened(mask: np.ndarray, radius: float) -> np.ndarray:
    """Remove what is thinner than twice the radius."""
    return dilate(dilate(mask.astype(np.float32), -max(1.0, radius)), max(1.0, radius)) > 0


def connected_part(mask: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Return the part of a mask (H, W) bool that is connected with seeds (H, W) bool in it or beside it."""
    from scipy.ndimage import binary_propagation

    return binary_propagation(seeds, np.ones((3, 3)), mask) & mask


def _filled(mask: np.ndarray, radius: float) -> np.ndarray:
    """Close gaps narrower than twice the radius."""
    return dilate(dilate(mask.astype(np.float32), radius), -radius) > 0
