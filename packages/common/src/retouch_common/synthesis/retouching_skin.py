"""The skin that retouching programs whiten and smooth: face, ears and neck without eyes, brows, lips and hair.

The masks for blemishes (`retouch_common.faces.skin`) exclude lids, nostrils and all that is rough. Whitening within
them would leave dark rings around the eyes, so between brows and upper lip, where hair is rare, colour alone decides.
"""

from __future__ import annotations

import numpy as np

from retouch_common.faces.geometry import FaceGeometry
from retouch_common.faces.landmarks import FaceLandmarks
from retouch_common.faces.skin import enlarge, skin_maps
from retouch_common.photo.colour import rgb_to_lab
from retouch_common.photo.filters import dilate, fill_polygon, gaussian_blur, resize, smoothstep

WORKING_SIDE = 256  # the mask is computed in a copy of the image of this side, or of half its own if that is more
EAR = 0.2  # reach of the ears beyond the face, in eye distances; so are all lengths below
NECK = 1.4  # below the chin
DARK = (0.4, 0.6)  # lightness of what is not skin and what is, over that of cheeks and forehead
FRINGE = (0.52, 0.7)  # the same of hair before the forehead and of the forehead
BRIGHT = (1.7, 1.4)  # the same of a white wall and of shine
GREY = (0.3, 0.55)  # colourfulness of what is not skin and what is, over that of cheeks and forehead
UNLIKE = (16.0, 9.0)  # distance in the plane of a and b of what is not skin and what is
UNLIKE_WIDE = (18.0, 12.0)  # the same where texture separates skin as well
EYE_MARGIN, BROW_MARGIN, LIP_MARGIN = 0.035, 0.02, 0.02


def retouching_skin(image: np.ndarray, landmarks: FaceLandmarks) -> np.ndarray:
    """Return the mask of one face's skin: where the landmarks allow it and its colour is that of cheeks and forehead.

    Returns:
        (H, W) float32 in [0, 1] with soft borders, exactly 0 away from skin; all 0 if too little of the face has one
        colour.
    """
    height, width = image.shape[:2]
    factor = min(1.0, max(WORKING_SIDE / min(height, width), 0.5))
    rows, columns = round(height * factor), round(width * factor)
    small = resize(image, rows, columns, antialias=True) if factor < 1 else image
    placed = landmarks.scaled(factor)
    geometry = _geometry(placed, rows, columns)
    skin = skin_maps(small, geometry).skin
    if skin.any():
        lab = rgb_to_lab(gaussian_blur(small, 0.01 * geometry.unit))
        colours = _SkinColours(lab, np.median(lab[geometry.seeds > 0.5], axis=0), geometry)
        fringe = _forehead(placed, rows, columns) * (1.0 - colours.lit(*FRINGE))
        skin = skin * colours.hue(*UNLIKE_WIDE) * (1.0 - fringe) * colours.vivid
        speck = 0.04 * geometry.unit
        skin = np.minimum(skin, dilate(dilate(skin, -speck), speck))
        inner = _inner_face(placed, rows, columns) * (1.0 - geometry.excluded)
        skin = np.maximum(skin, inner * colours.lit(*DARK) * colours.hue(*UNLIKE) * colours.vivid)
    return enlarge(skin, height, width)


def _inner_face(landmarks: FaceLandmarks, height: int, width: int) -> np.ndarray:
    left, right = landmarks.brows
    below = (landmarks.mouth[::-1] + landmarks.nose[-1]) / 2
    corners = np.stack([left[left[:, 0].argmin()], right[right[:, 0].argmax()], *below])
    inside = fill_polygon(corners, height, width)
    return gaussian_blur(dilate(inside, 0.1 * landmarks.unit), 0.05 * landmarks.unit)


class _SkinColours:
    """How well colours fit the skin of one face, each (H, W) in [0, 1].

    Args:
        lab: (H, W, 3), slightly blurred.
        centre: (3,) Lab of cheeks and nose.
        geometry: Regions of the face.
    """

    def __init__(self, lab: np.ndarray, centre: np.ndarray, geometry: FaceGeometry) -> None:
        self._lightness = lightness = lab[..., 0] / max(float(centre[0]), 1.0)
        # shadows are less colourful, and so are highlights
        expected = centre[1:] * np.clip(np.minimum(lightness, 2.0 - lightness), 0.5, 1.0)[..., None]
        self._unlike = np.hypot(*np.moveaxis(lab[..., 1:] - expected, -1, 0))
        # grey is shine in the middle of cheeks and forehead, but otherwise walls, teeth or the white of an eye
        middle = dilate(geometry.allowed, -0.15 * geometry.unit) * (1.0 - geometry.excluded_wide)
        shine = gaussian_blur(middle, 0.05 * geometry.unit) * smoothstep(lightness, *BRIGHT)
        colourful = (lab[..., 1:] @ centre[1:]) / max(float(centre[1:] @ centre[1:]), 9.0)
        self.vivid = np.maximum(shine, smoothstep(colourful, *GREY))

    def lit(self, dark: float, light: float) -> np.ndarray:
        """Return 0 below ``dark`` times the skin's lightness, 1 above ``light`` times."""
        return smoothstep(self._lightness, dark, light)

    def hue(self, far: float, near: float) -> np.ndarray:
        """Return 1 within ``near`` of the skin's a and b, 0 beyond ``far``."""
        return smoothstep(self._unlike, far, near)


def _geometry(landmarks: FaceLandmarks, height: int, width: int) -> FaceGeometry:
    unit = landmarks.unit

    def filled(*outlines: np.ndarray) -> np.ndarray:
        return np.maximum.reduce([fill_polygon(outline, height, width) for outline in outlines])

    face, brows, lips = filled(landmarks.outline), filled(*landmarks.brows), filled(landmarks.lips)
    eyes = filled(*landmarks.eyes)
    ears = dilate(face, EAR * unit) * _band(landmarks, 0.3, height, width)
    allowed = np.maximum.reduce([face, ears, filled(_neck(landmarks))])
    excluded = np.maximum.reduce(
        [dilate(eyes, EYE_MARGIN * unit), dilate(brows, BROW_MARGIN * unit), dilate(lips, LIP_MARGIN * unit)]
    )
    excluded = gaussian_blur(excluded, 0.02 * unit)
    wide = np.maximum(dilate(eyes, 0.2 * unit), dilate(lips, 0.2 * unit))
    seeds = dilate(face, -0.22 * unit) * (1.0 - wide) * _band(landmarks, 0.0, height, width)  # foreheads may be hair
    x, y = landmarks.outline.T
    box = (float(x.min()), float(y.min()), float(np.ptp(x)), float(np.ptp(y)))
    return FaceGeometry(allowed, excluded, wide, seeds, unit, box)


def _frame(landmarks: FaceLandmarks) -> tuple[np.ndarray, np.ndarray]:
    """Return unit vectors to the right and down along the face."""
    left, right = landmarks.eye_centres
    along = (right - left) / landmarks.unit
    return along, np.array([-along[1], along[0]])


def _band(landmarks: FaceLandmarks, above: float, height: int, width: int) -> np.ndarray:
    """Return a band across the face, from ``above`` the eyes down to the mouth."""
    top = landmarks.eye_centres.mean(0) - above * landmarks.unit * _frame(landmarks)[1]
    return _stripe(landmarks, top, landmarks.mouth.mean(0), height, width)


def _forehead(landmarks: FaceLandmarks, height: int, width: int) -> np.ndarray:
    middle, up = landmarks.eye_centres.mean(0), -landmarks.unit * _frame(landmarks)[1]
    return _stripe(landmarks, middle + 4.0 * up, middle + 0.4 * up, height, width)


def _stripe(landmarks: FaceLandmarks, top: np.ndarray, bottom: np.ndarray, height: int, width: int) -> np.ndarray:
    far = 4.0 * landmarks.unit * _frame(landmarks)[0]
    return fill_polygon(np.stack([top - far, top + far, bottom + far, bottom - far]), height, width)


def _neck(landmarks: FaceLandmarks) -> np.ndarray:
    along, down = _frame(landmarks)
    across = (landmarks.jaw - landmarks.nose[-1]) @ along
    left, right = landmarks.jaw[across.argmin()], landmarks.jaw[across.argmax()]
    mouth = landmarks.mouth.mean(0)
    level = [side + ((mouth - side) @ down) * down for side in (left, right)]
    inward = 0.04 * (level[1] - level[0])
    chin = ((landmarks.jaw - mouth) @ down).max()
    reach = (chin + NECK * landmarks.unit) * down
    return np.stack([level[0] + inward, level[1] - inward, level[1] - inward + reach, level[0] + inward + reach])
