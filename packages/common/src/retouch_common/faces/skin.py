"""Skin masks of portraits: geometry says where skin may be, an adaptive colour model where it is.

The model is a Gaussian in Lab around the colour of this face's cheeks and forehead, wide in lightness, narrow in
colour, with a test of texture that excludes hair and beards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from retouch_common.faces.geometry import FaceGeometry
from retouch_common.photo.colour import rgb_to_lab
from retouch_common.photo.filters import dilate, gaussian_blur, label_regions, resize, smoothstep

WORKING_UNIT = 128.0
"""Pupil distance in pixels at which geometry and colour are evaluated (larger photos are reduced)."""


@dataclass(frozen=True)
class SkinMaps:
    """Skin of one photo, all (H, W) float32 in [0, 1].

    Attributes:
        skin: Certain skin; exactly 0 elsewhere.
        drawable: Where blemishes may be drawn: skin, also close to eyes, brows, lips and the face's outline, and
            stubble; exactly 0 elsewhere. Equal to ``skin`` where the geometry has no ``bare``.
        cleanable: Where natural blemishes may be searched: further from eyes, brows, lips and nostrils.
        other: What is certainly not skin, of this person or another.
        tone: Skin with eyes, brows, lips and gaps filled in, for soft changes of a face's tone.
    """

    skin: np.ndarray
    drawable: np.ndarray
    cleanable: np.ndarray
    other: np.ndarray
    tone: np.ndarray


def skin_maps(image: np.ndarray, geometry: FaceGeometry) -> SkinMaps:
    """Segment the skin of one face in an image (H, W, 3) in [0, 1], at about `WORKING_UNIT` pixels between the pupils.

    The masks are empty if too little skin is certain, or its colour is not skin's, as of a mask.
    """
    unit = geometry.unit
    lab = rgb_to_lab(image)
    smooth = gaussian_blur(lab, 0.02 * unit)
    certain = geometry.seeds > 0.5
    nothing = SkinMaps(*[np.zeros(image.shape[:2], dtype=np.float32)] * 5)
    if certain.sum() < 50:
        return nothing
    centre, spread = _skin_colour(smooth[certain])
    if not _has_skin_colour(centre, lab):
        return nothing
    inside = gaussian_blur(dilate(geometry.allowed, -0.3 * unit), 0.08 * unit)
    distance, ratio = colour_distance(smooth, centre, spread, inside)
    lit = smoothstep(ratio, 0.33, 0.48)

    detail = np.abs(lab[..., 0] - gaussian_blur(lab[..., 0], 0.03 * unit))
    roughness = gaussian_blur(detail, 0.05 * unit)
    roughness /= float(np.median(roughness[certain])) + 0.25
    likely = smoothstep(distance, 4.4, 3.0) * lit * smoothstep(roughness, 4.0, 2.6)

    closed = dilate(dilate(likely, 0.06 * unit), -0.06 * unit)  # blemishes leave no holes
    opened = dilate(dilate(closed, -0.05 * unit), 0.05 * unit)  # thin leftovers go
    body = np.clip(1.6 * gaussian_blur(opened, 0.02 * unit) - 0.5, 0.0, 1.0)
    body = np.minimum(body, gaussian_blur(geometry.allowed, 0.01 * unit))
    lightness = lab[..., 0]
    lines = long_lines(lightness, float(np.median(lightness[certain])), dilate(geometry.allowed, 0.1 * unit), unit)
    covers, beard = _covers(lines, roughness, ratio, distance, geometry)
    skin = body * (1.0 - geometry.excluded) * (1.0 - covers)
    drawable = skin
    if geometry.bare is not None:
        tinted = smoothstep(distance, 6.0, 4.0) * lit * (1.0 - dilate(lines, 0.03 * unit))
        drawable = np.maximum(skin, gaussian_blur(dilate(tinted * geometry.bare, -0.01 * unit), 0.01 * unit))
    even = smoothstep(roughness, 2.6, 1.9)
    cleanable = smoothstep(dilate(body * even, -0.05 * unit), 0.4, 0.9) * (1.0 - geometry.excluded_wide)
    cleanable = cleanable * (1.0 - dilate(covers, 0.05 * unit)) * (1.0 - beard)
    doubtful = np.maximum(smoothstep(distance, 7.0, 5.0) * smoothstep(ratio, 0.15, 0.25), geometry.allowed)
    other = np.clip(1.0 - 1.5 * gaussian_blur(dilate(doubtful, 0.06 * unit), 0.03 * unit), 0.0, 1.0)
    whole = np.maximum(body, likely * (other < 0.5))
    tone = gaussian_blur(dilate(dilate(whole, 0.4 * unit), -0.4 * unit), 0.05 * unit)
    return SkinMaps(*map(_exact_zero, (skin, drawable, cleanable, other, tone)))


def _covers(
    lines: np.ndarray, roughness: np.ndarray, ratio: np.ndarray, distance: np.ndarray, geometry: FaceGeometry
) -> tuple[np.ndarray, np.ndarray]:
    """Return masks (H, W) of covers (hair, beards, glasses, jewellery, clothes) and of stubble, which is not cleaned.

    Roughness and ratio are fine detail and lightness relative to certain skin, distance is that from its colour; lines
    are those of :func:`long_lines`.
    """
    unit = geometry.unit
    covers = gaussian_blur(dilate(lines, 0.05 * unit), 0.01 * unit)
    if geometry.sockets is not None:
        ring = dilate(geometry.sockets, 0.3 * unit) * (1.0 - np.minimum(1.0, geometry.excluded))
        if geometry.face is not None:
            ring = ring * dilate(geometry.face, -0.15 * unit)  # not the hair beside it
        if (lines * ring).sum() > _GLASSES * unit * unit:
            covers = np.maximum(covers, gaussian_blur(dilate(geometry.sockets, 0.22 * unit), 0.03 * unit))
    if geometry.face is not None:  # clothes, chains and walls have no place in a face
        beyond = 1.0 - dilate(geometry.face, -0.03 * unit)
        strange = np.maximum(smoothstep(distance, 1.6, 2.6), smoothstep(roughness, 1.5, 2.2))
        strange = np.maximum(strange, smoothstep(ratio, 1.12, 1.2))
        covers = np.maximum(covers, beyond * gaussian_blur(dilate(strange, 0.06 * unit), 0.02 * unit))
    if geometry.beard is None:
        return np.minimum(covers, 1.0), np.zeros_like(covers)
    texture = gaussian_blur(roughness, 0.05 * unit)
    shade = gaussian_blur(ratio, 0.04 * unit)
    hairy = np.maximum(smoothstep(texture, 1.7, 2.4), smoothstep(shade, 0.72, 0.6))
    hairy = np.maximum(hairy, smoothstep(texture, 1.2, 1.7) * smoothstep(shade, 0.92, 0.82)) * geometry.beard
    hairy = gaussian_blur(dilate(hairy, 0.06 * unit), 0.03 * unit)
    chin = (geometry.beard * (1.0 - geometry.excluded_wide)) > 0.5  # without the creases around mouth and jaw
    rough, light = 0.0, 1.0
    if chin.sum() > 50:
        rough, light = float(np.median(texture[chin])), float(np.median(ratio[chin]))
    zone = gaussian_blur(geometry.beard, 0.05 * unit)
    if rough > 1.9 or light < 0.7 or (rough > 1.4 and light < 0.87):  # a beard: none of it is skin
        hairy = np.maximum(hairy, 2.0 * zone)
    stubble = zone if rough > 1.25 else np.zeros_like(zone)
    return np.clip(np.maximum(covers, hairy), 0.0, 1.0), np.maximum(stubble, np.minimum(hairy, 1.0))


_GLASSES = 0.06
"""Lines around the eyes that cover more than this, in squares of the distance between the pupils, are rims."""


def long_lines(lightness: np.ndarray, skin_lightness: float, where: np.ndarray, unit: float) -> np.ndarray:
    """Find dark or bright lines longer than any blemish (rims, strands of hair, chains), (H, W) float32 of 0 and 1.

    Args:
        lightness: (H, W), L of Lab.
        skin_lightness: That of certain skin.
        where: (H, W), 0 where no lines are searched.
        unit: Distance between the pupils in pixels.
    """
    from scipy.ndimage import find_objects

    width = 0.05 * unit
    smooth = gaussian_blur(lightness, 0.008 * unit)
    dark = -dilate(-dilate(smooth, width), width) - smooth
    bright = smooth - dilate(dilate(smooth, -width), width)
    least = 0.13 * skin_lightness + 1.0
    labels = label_regions(((dark > least) | (bright > 1.2 * least)) * where)
    extents = [math.hypot(*(side.stop - side.start - 1 for side in region)) for region in find_objects(labels)]
    return np.isin(labels, 1 + np.flatnonzero(np.array(extents) > 0.3 * unit)).astype(np.float32)


def _skin_colour(values: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the centre (3,) of certain skin in Lab, without outliers, and the mean spread of its a and b."""
    centre = np.median(values, axis=0)
    for _ in range(3):
        distance = np.abs(values - centre) / np.array([14.0, 6.0, 6.0], dtype=np.float32)
        kept = values[distance.max(1) < 2.0]
        if len(kept) < 30:
            break
        centre = kept.mean(0)
    spread = 1.48 * np.median(np.abs(values - centre), axis=0)[1:]
    return centre, float(np.clip(spread, 2.5, 5.0).mean())


def _has_skin_colour(centre: np.ndarray, lab: np.ndarray) -> bool:
    """Return whether the colour is between pink and yellow; in black-and-white images any grey is."""
    chroma = float(np.hypot(*centre[1:]))
    if float(np.hypot(lab[..., 1], lab[..., 2]).mean()) < 3.0:
        return True
    return chroma > 4.0 and -0.6 < float(np.arctan2(centre[2], centre[1])) < 1.65


def colour_distance(
    lab: np.ndarray, centre: np.ndarray, spread: float, inside: np.ndarray | float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the distance from the skin colour, in spreads, and the lightness relative to the skin's.

    Darker skin and highlights are less colourful: along the direction of the skin's colour a whole range is usual,
    across it (another hue) only the spread. Highlights count only well `inside` the face, and nowhere by default.
    """
    chroma = max(float(np.hypot(*centre[1:])), 3.0)
    axis = centre[1:] / chroma
    ratio = lab[..., 0] / max(float(centre[0]), 1.0)
    along = lab[..., 1:] @ axis
    across = lab[..., 1] * axis[1] - lab[..., 2] * axis[0]
    highlight = smoothstep(ratio, 1.1, 1.35) * inside
    low = chroma * np.clip(ratio, 0.4, 1.0) * (0.75 - 0.5 * highlight)
    high = chroma * 1.35 + spread
    outside = np.maximum(np.maximum(low - along, along - high), 0.0)
    return np.hypot(outside, across) / spread, ratio


def plain_background(image: np.ndarray, geometry: FaceGeometry) -> np.ndarray:
    """Return a matte (H, W) float32 of an even studio background; all 0 if the background is not plain.

    A smooth surface is fitted to the upper rim of the image; what is close to it in colour, away from the face, is
    background.
    """
    height, width = image.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    rim = ((y < -0.9) | ((np.abs(x) > 0.94) & (y < 0.0))) & (geometry.allowed == 0)
    basis = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], -1)
    fitted, kept = np.zeros_like(image), rim
    sampled = np.zeros(rim.shape, dtype=bool)
    sampled[::3, ::3] = True
    for _ in range(4):
        if kept.sum() < 0.3 * rim.sum() or kept.sum() < 50:
            return np.zeros((height, width), dtype=np.float32)
        sparse = kept & sampled
        weights, *_ = np.linalg.lstsq(basis[sparse], image[sparse], rcond=None)
        fitted = (basis @ weights).astype(np.float32)
        error = np.abs(image - fitted).max(-1)
        kept = (rim | (error < 0.05)) & (error < 0.08) & (geometry.allowed == 0)
    if float(error[kept].mean()) > 0.03:
        return np.zeros((height, width), dtype=np.float32)
    near = smoothstep(error, 0.11, 0.05) * (1.0 - dilate(geometry.allowed, -0.2 * geometry.unit))
    solid = dilate(dilate(near, -2), 2)
    return np.clip(1.5 * gaussian_blur(np.minimum(near, solid), 0.8) - 0.25, 0.0, 1.0).astype(np.float32)


def enlarge(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize a mask and set small values to exactly 0."""
    return _exact_zero(resize(mask, height, width))


def _exact_zero(mask: np.ndarray) -> np.ndarray:
    return np.where(mask < 0.02, np.float32(0.0), np.minimum(mask, 1.0)).astype(np.float32)
