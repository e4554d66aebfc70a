"""Which pixels around a face are this person's skin: where retouching may change something.

The face parser separates skin, nose, eyes, brows, lips and hair. Colour and place decide about the rest:

- nostrils are dark pixels at the base of the nose;
- a beard is where the lower face is much rougher than the cheeks, rougher and darker, or very dark;
- a fringe is where the forehead, from the hair on, is rougher and darker than the cheeks, or of another colour;
- rims of glasses, which are skin to the parser, are long dark or bright lines around the eyes;
- ears and neck are beside and below the face and have its colour, unless the background has it too.

Where the parser sees no face (a profile, a covered or very small face), five landmarks and the colour of the cheeks
decide; where colour fails as well, an ellipse around the landmarks without eyes, brows, lips and nostrils is used.

Lengths are multiples of `unit`, the distance between the eyes of a frontal face; masks are (S, S).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from retouch_common.faces.alignment import TEMPLATE, portrait_square, read_aligned
from retouch_common.faces.face import Face
from retouch_common.faces.pasting import AlignedMask
from retouch_common.faces.skin import colour_distance, long_lines
from retouch_common.parsing.finder import find_landmarks
from retouch_common.parsing.labels import CLASSES
from retouch_common.parsing.parser import FaceParser
from retouch_common.photo.colour import rgb_to_lab
from retouch_common.photo.filters import gaussian_blur, resize, smoothstep
from retouch_common.photo.sources import RowSource

_BACKGROUND, _HAIR, _NOSE = (CLASSES.index(name) for name in ("background", "hair", "nose"))
_SKIN, _BROWS, _EYES, _LIPS = (
    [CLASSES.index(name) for name in names]
    for names in (
        ("skin", "nose"),
        ("brow_left", "brow_right"),
        ("eye_left", "eye_right"),
        ("upper_lip", "mouth", "lower_lip"),
    )
)

_FOUND = 0.25  # share of skin in the middle of a face; beards may be hair to the parser
_SEEN = 0.015  # square units: a smaller eye was not seen
_CERTAIN = 0.02  # square units of skin to learn its colour from
_BEARDED = 3.0  # roughness of the lower face over that of the cheeks of a bearded person
_FRINGE = 0.12  # square units of it, without the narrow line where hair begins
_GLASSES = 0.065  # square units of lines around the eyes of somebody with glasses
_AMBIGUOUS = 0.2  # share of the background that has the skin's colour, which then decides nothing
_EDGE = 0.025  # standard deviation of the mask's soft edge


class SkinSegmenter:
    """Segments the skin of a face.

    Args:
        parser: The face parser; the bundled one by default.
    """

    def __init__(self, parser: FaceParser | None = None) -> None:
        self.parser = parser or FaceParser("small", "cpu", precision="auto")

    @property
    def size(self) -> int:
        """Side in pixels of the analysed faces and their masks."""
        return self.parser.size

    def __call__(self, face: np.ndarray, landmarks: np.ndarray | None = None) -> np.ndarray:
        """Return the mask of one person's skin: face, ears and neck.

        Args:
            face: (S, S, 3) float32 in [0, 1], framed by :func:`retouch_common.faces.alignment.face_square` or
                :func:`~retouch_common.faces.alignment.portrait_square`; ValueError if it is not square.
            landmarks: (5, 2) x, y of eyes, tip of the nose and corners of the mouth, pairs from left to right, as
                shares of S; by default where the parser sees them, or where aligned faces have them.

        Returns:
            (size, size) float32 in [0, 1]: 1 on skin, exactly 0 on eyes, brows, lips, nostrils, hair, beards, rims of
            glasses, clothes, background and other people, smooth in between.
        """
        if face.ndim != 3 or face.shape[0] != face.shape[1]:
            raise ValueError(f"a face is a square image (S, S, 3), not {face.shape}")
        if face.shape[0] != self.size:
            face = resize(face, self.size, self.size, antialias=True)
        likely = self.parser.probabilities(face)
        if landmarks is None:
            landmarks = find_landmarks(likely)
        frame = _Frame(TEMPLATE if landmarks is None else landmarks, self.size)
        lab = rgb_to_lab(face)
        skin = _parsed(likely, lab, frame)
        if skin is None:
            skin = _from_landmarks(lab, frame)
        return smoothstep(gaussian_blur(skin.astype(np.float32), _EDGE * frame.unit), 0.2, 0.8)

    def locate(self, source: RowSource, face: Face) -> AlignedMask:
        """Return the mask of a face's skin at its place in a photo; ValueError if it lies outside.

        The rows of the source are read once, from top to bottom.
        """
        square = portrait_square(face, source.height, source.width)
        ((_, crop),) = read_aligned(source, [square], self.size)
        place = (np.arange(self.size) + 0.5) / self.size
        return AlignedMask(square, self(crop, square.landmarks) * square.weights(place[None], place[:, None]))


class _Frame:
    """Coordinates of an aligned face, in units from the middle between the eyes; y points down.

    Attributes:
        unit: In pixels.
        x: (1, S).
        y: (S, 1).
        eyes: (2, 2) x, y.
        nose: (2,) of its tip.
        mouth: (2,) of its middle.
        mouth_width: Width of the mouth.
    """

    def __init__(self, landmarks: np.ndarray, size: int) -> None:
        points = size * np.asarray(landmarks, np.float32)
        middle, mouth = points[:2].mean(0), points[3:].mean(0)
        self.unit = max(float(np.hypot(*(points[1] - points[0]))), float(np.hypot(*(mouth - middle))), 1.0)
        pixels = np.arange(size, dtype=np.float32) + np.float32(0.5)
        self.x = ((pixels - middle[0]) / self.unit)[None]
        self.y = ((pixels - middle[1]) / self.unit)[:, None]
        points = (points - middle) / self.unit
        self.eyes, self.nose, self.mouth = points[:2], points[2], points[3:].mean(0)
        self.mouth_width = max(float(np.hypot(*(points[4] - points[3]))), 0.4)

    def ellipse(self, x: float, y: float, right: float, below: float) -> np.ndarray:
        """Return an ellipse, given its middle, half its width and half its height."""
        return ((self.x - x) / right) ** 2 + ((self.y - y) / below) ** 2 < 1

    def face(self, right: float, below: float) -> np.ndarray:
        """Return an ellipse around the middle of the face."""
        return self.ellipse(self.mouth[0] / 2, 0.4, right, below)

    def nostrils(self) -> np.ndarray:
        """Return where nostrils are in a frontal view."""
        x, y = self.nose
        return self.ellipse(x - 0.16, y + 0.15, 0.08, 0.05) | self.ellipse(x + 0.16, y + 0.15, 0.08, 0.05)

    def grown(self, mask: np.ndarray, right: float, below: float | None = None) -> np.ndarray:
        """Dilate a mask by so many units to the sides, and up and down; erode it if they are negative."""
        if right < 0:
            return ~self.grown(~mask, -right, None if below is None else -below)
        below = right if below is None else below
        return _spread(_spread(mask.T, round(right * self.unit)).T, round(below * self.unit))

    def closed(self, mask: np.ndarray, radius: float) -> np.ndarray:
        """Close holes and gaps narrower than twice the radius."""
        return self.grown(self.grown(mask, radius), -radius)

    def area(self, mask: np.ndarray) -> float:
        """Return the area in square units."""
        return float(mask.sum()) / self.unit**2


def _parsed(likely: np.ndarray, lab: np.ndarray, frame: _Frame) -> np.ndarray | None:
    """Return the skin seen by the parser; None where it sees no face."""
    skin, hair = likely[_SKIN].sum(0), likely[_HAIR] > 0.5
    core = frame.face(0.75, 1.0)
    if skin[core].mean() < _FOUND:
        return None
    room = frame.ellipse(frame.nose[0] / 2, 0.45, 1.5, 2.1)
    face = frame.closed((skin > 0.5) & room, 0.13)  # blemishes leave no holes
    covered = _features(likely, frame) | _nostrils(lab[..., 0], likely[_NOSE] > 0.5, frame) | hair
    bare = _connected(face & ~covered, core)
    certain = frame.grown(bare, -0.1) & (frame.y < frame.nose[1] + 0.1)
    if frame.area(certain) < _CERTAIN:
        return None
    tone = _Tone(lab, certain, bare, frame)
    face |= tone.alike(3.0) & frame.face(0.95, 1.25)  # in hard light the parser takes parts of a face for background
    covered |= _glasses(lab[..., 0], bare, frame.grown(face, -0.08) & ~covered, likely, frame)
    bare = _connected(face & ~covered, core)
    bare &= ~_beard(tone, bare, frame) & ~_fringe(lab, bare, hair, frame)
    return bare | _ears_and_neck(likely, tone, face | (covered & room), frame)


def _features(likely: np.ndarray, frame: _Frame) -> np.ndarray:
    """Return eyes, brows and lips with a margin; those eyes and lips that the parser has not seen by place."""
    brow, eye, lips = (likely[part].sum(0) > 0.5 for part in (_BROWS, _EYES, _LIPS))
    above, eyes = np.zeros_like(brow), np.zeros_like(eye)
    for x, y in frame.eyes:
        above |= frame.ellipse(x, y - 0.38, 0.4, 0.22)
        seen = eye & frame.ellipse(x, y, 0.5, 0.35)
        eyes |= seen if frame.area(seen) > _SEEN else frame.ellipse(x, y, 0.28, 0.1)
    lips &= frame.ellipse(frame.mouth[0], frame.mouth[1], 0.5 * frame.mouth_width + 0.35, 0.6)
    if frame.area(lips) < 4 * _SEEN:
        lips |= frame.ellipse(frame.mouth[0], frame.mouth[1], 0.5 * frame.mouth_width, 0.1)
    brows = _connected(brow, above)  # a blemish on the forehead may be a brow to the parser
    return frame.grown(brows, 0.06, 0.02) | frame.grown(eyes, 0.1, 0.04) | frame.grown(lips, 0.05, 0.02)


def _nostrils(lightness: np.ndarray, nose: np.ndarray, frame: _Frame) -> np.ndarray:
    """Return dark pixels at the base of the nose, with a margin, and where nostrils usually are."""
    x, y = frame.nose
    above = nose & (frame.y < y)
    if not above.any():
        return frame.nostrils()
    dark = gaussian_blur(lightness, 0.02 * frame.unit) < 0.65 * np.median(lightness[above])
    return frame.grown(dark & frame.ellipse(x, y + 0.15, 0.36, 0.18), 0.035) | frame.nostrils()


class _Tone:
    """Comparison of an image with the certain skin in it.

    Attributes:
        distance: Distance of the colour from the skin's, in its spreads.
        shade: Lightness over the skin's.
        roughness: Fine contrast over the skin's, 0 outside the bare face.
    """

    def __init__(self, lab: np.ndarray, certain: np.ndarray, bare: np.ndarray, frame: _Frame) -> None:
        smooth = gaussian_blur(lab, 0.02 * frame.unit)
        centre = np.median(smooth[certain], axis=0)
        spread = np.clip(1.5 * np.median(np.abs(smooth[certain] - centre), axis=0)[1:].mean(), 2.5, 5.0)
        self.distance, self.shade = colour_distance(smooth, centre, float(spread))
        # Within the bare face only: its outline is not roughness.
        inside = bare.astype(np.float32)
        mean = gaussian_blur(lab[..., 0] * inside, 0.015 * frame.unit)
        mean /= gaussian_blur(inside, 0.015 * frame.unit) + 1e-6
        contrast = np.abs(lab[..., 0] / np.maximum(mean, 3.0) - 1) * inside
        self.roughness = contrast / (float(np.median(contrast[certain])) + 1e-3)

    def alike(self, distance: float) -> np.ndarray:
        """Return what has the skin's colour up to so many spreads, in shadow too."""
        return (self.distance < distance) & (self.shade > 0.4)

    def surroundings(self, bare: np.ndarray, frame: _Frame) -> tuple[np.ndarray, np.ndarray]:
        """Return roughness, within the bare face, and shade, averaged over surroundings."""
        weight = gaussian_blur(bare.astype(np.float32), 0.06 * frame.unit) + 1e-3
        rough = gaussian_blur(self.roughness, 0.06 * frame.unit) / weight
        return rough, gaussian_blur(self.shade, 0.05 * frame.unit)


def _glasses(
    lightness: np.ndarray, bare: np.ndarray, room: np.ndarray, likely: np.ndarray, frame: _Frame
) -> np.ndarray:
    """Return rims, with a margin: long lines around the eyes, of which faces without glasses have few."""
    room = room & frame.ellipse(0, 0.1, 1.2, 0.62) & (frame.y < 0.42)
    lines = long_lines(lightness, float(np.median(lightness[bare])), room, frame.unit) > 0
    lids = frame.grown(likely[_BROWS].sum(0) > 0.5, 0.12, 0.1)
    return frame.grown(lines, 0.03) if frame.area(lines & ~lids) > _GLASSES else np.zeros_like(lines)


def _beard(tone: _Tone, bare: np.ndarray, frame: _Frame) -> np.ndarray:
    below = bare & (frame.y > frame.nose[1] + 0.12)
    chin = frame.grown(below & frame.ellipse(frame.mouth[0], frame.mouth[1], 0.75, 0.75), -0.05)
    if not chin.any() or np.median(tone.roughness[chin]) < _BEARDED:
        return np.zeros_like(bare)
    rough, shade = tone.surroundings(bare, frame)
    hairy = (rough > 4.0) | ((rough > 2.5) & (shade < 0.66)) | (shade < 0.4)
    return frame.grown(frame.closed(below & hairy, 0.12), 0.06)


def _fringe(lab: np.ndarray, bare: np.ndarray, hair: np.ndarray, frame: _Frame) -> np.ndarray:
    cheeks = frame.grown(bare, -0.1) & (frame.y > -0.2) & (frame.y < frame.nose[1] + 0.1)
    if frame.area(cheeks) < _CERTAIN:
        return np.zeros_like(bare)
    tone = _Tone(lab, cheeks, bare, frame)
    rough, shade = tone.surroundings(bare, frame)
    foreign = ((rough > 1.7) & (shade < 0.9)) | (shade < 0.62) | (tone.distance > 4.0)
    above = bare & (frame.y < -0.42)
    found = _connected(above & foreign, above & foreign & frame.grown(hair, 0.12))
    broad = frame.grown(frame.grown(found, -0.11), 0.11) & found
    return frame.grown(found, 0.03) & above if frame.area(broad) > _FRINGE else np.zeros_like(bare)


def _ears_and_neck(likely: np.ndarray, tone: _Tone, head: np.ndarray, frame: _Frame) -> np.ndarray:
    alike = tone.alike(2.0)
    around = (likely[_BACKGROUND] > 0.5) & ~frame.ellipse(0, 0.5, 1.8, 2.4)
    if not around.any() or alike[around].mean() > _AMBIGUOUS:
        return np.zeros_like(head)
    x, y = frame.x, frame.y
    turned = float(frame.nose[0]) if abs(frame.nose[0]) > 0.2 else 0.0
    beside = frame.grown(head, 0.4) & (y > -0.4) & (y < 0.8) & (x * turned <= 0)  # no ear where the face turns to
    below = (np.abs(x - frame.mouth[0]) < 0.85) & (y > frame.mouth[1]) & (y < frame.mouth[1] + 1.7)
    room = (beside | below) & tone.alike(4.0) & (tone.shade < 1.15) & (likely[_HAIR] < 0.5) & ~head
    found = frame.grown(frame.grown(alike & room, -0.05), 0.05)  # removes thin leftovers
    return _connected((frame.closed(found, 0.15) & room) | head, head) & ~head


def _from_landmarks(lab: np.ndarray, frame: _Frame) -> np.ndarray:
    """Return skin without the parser: in an ellipse without features, what has the colour of cheeks and nose."""
    covered = frame.nostrils() | frame.ellipse(frame.mouth[0], frame.mouth[1], 0.5 * frame.mouth_width + 0.12, 0.28)
    seeds = frame.ellipse(frame.nose[0], frame.nose[1] - 0.2, 0.15, 0.25)
    for (x, y), side in zip(frame.eyes, (-1, 1), strict=True):
        covered |= frame.ellipse(x, y, 0.42, 0.26) | frame.ellipse(x + 0.05 * side, y - 0.4, 0.52, 0.2)
        seeds |= frame.ellipse(frame.nose[0] + 0.5 * side, frame.nose[1], 0.2, 0.22)
    oval = frame.face(1.0, 1.3) & ~covered
    seeds &= oval
    if frame.area(seeds) < _CERTAIN:
        return oval
    alike = frame.closed(_Tone(lab, seeds, oval, frame).alike(4.0), 0.08) & oval
    return alike if frame.area(alike) > 0.4 * frame.area(oval) else oval


def _spread(mask: np.ndarray, radius: int) -> np.ndarray:
    """Dilate a bool mask along its columns."""
    if radius < 1:
        return mask
    count = len(mask)
    total = np.zeros((count + 2 * radius + 1, mask.shape[1]), np.int16)
    np.cumsum(mask, axis=0, out=total[radius + 1 : radius + 1 + count])
    total[radius + 1 + count :] = total[radius + count]
    return total[2 * radius + 1 :] > total[:count]


def _connected(mask: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Return the part of a mask that is connected with seeds, at a quarter of its resolution."""
    step = 4
    room, found = (torch.from_numpy(plane[::step, ::step].copy())[None].float() for plane in (mask, mask & seeds))
    while not torch.equal(found, grown := F.max_pool2d(found, 3, 1, 1) * room):
        found = grown
    near = F.max_pool2d(found, 3, 1, 1)[0].numpy() > 0
    near = np.repeat(np.repeat(near, step, 0), step, 1)
    return mask & near[: mask.shape[0], : mask.shape[1]]
