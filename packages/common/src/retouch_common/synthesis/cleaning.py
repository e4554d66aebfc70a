"""Remove natural blemishes from a portrait, so that a network is not taught to keep them.

Local outliers of skin are found by differences of masked Gaussians at several scales, in lightness and redness. They
are filled with lightness and colour from the clean skin around (normalised convolution) and with fine texture from a
clean place nearby. Distinct moles stay.
"""

from __future__ import annotations

import numpy as np

from retouch_common.photo.colour import rgb_to_lab
from retouch_common.photo.filters import dilate, gaussian_blur, label_regions, resize, smoothstep

DETECTION_UNIT = 192.0  # blemishes are detected at no more than this distance between the pupils in pixels

# Lengths are for a face with 256 pixels between the pupils.
SIGMAS = (1.5, 3.0, 6.0, 10.0)  # scales of the differences of Gaussians; the outer one is three times as wide
THRESHOLD, BRIGHT_THRESHOLD = 2.8, 4.0  # outliers lie so many local spreads away
LARGEST_BRIGHT_SIGMA = 4.0  # wider bright spots are the light on nose and forehead, not blemishes
ROUNDS = 2  # what the worst blemishes hid is found in the next round
MIN_LIGHTNESS, MIN_REDNESS = 1.2, 0.9  # least difference of a spot in Lab L and a, however even the skin is
ROUNDNESS = 0.4
"""A spot rises above both sides in every direction by at least this share of its mean rise; edges of shadows, folds and
strands of hair do not."""
MOLE_CONTRAST = 7.5  # a spot this much darker (Lab L), small, round and brown, not red, is a mole and stays
ORNAMENT_CONTRAST = 16.0  # one this much brighter (L) or redder (a) is jewellery, a reflection or paint and stays

_EPS = 1e-4


def find_blemishes(image: np.ndarray, cleanable: np.ndarray, unit: float) -> tuple[np.ndarray, np.ndarray]:
    """Find local outliers of skin in an image (H, W, 3) float32 in [0, 1], where ``cleanable`` (H, W) is above 0.5.

    ``unit`` is the distance between the pupils in pixels. Returns blemishes and moles, each (H, W) float32 of 0 and 1,
    not dilated.
    """
    lab = rgb_to_lab(image)[..., :2]
    scale = unit / 256.0
    skin = (cleanable > 0.5).astype(np.float32)
    support = skin > 0
    found = np.zeros(skin.shape, dtype=bool)
    dark, bright, red = (np.zeros(skin.shape, dtype=np.float32) for _ in range(3))
    values = lab * skin[..., None]
    for sigma in SIGMAS:
        inner = max(sigma * scale, 0.7)
        near = _masked_blur(values, skin, inner)
        far = _masked_blur(values, skin, 3.0 * inner)
        difference = (near - far) * skin[..., None]
        # outliers must not hide themselves in the spread they are measured by
        typical = _masked_blur(np.abs(difference), skin, 12.0 * inner)
        limited = np.minimum(np.abs(difference), 2.5 * typical)
        spread = 1.35 * _masked_blur(limited, skin, 12.0 * inner) + _EPS
        z = difference / spread
        lightness, redness = difference[..., 0], difference[..., 1]
        least = MIN_LIGHTNESS * (1.5 if inner < 1.5 * scale + 0.5 else 1.0)  # pores are not blemishes
        outlier_dark = (z[..., 0] < -THRESHOLD) & (lightness < -least)
        outlier_bright = (z[..., 0] > BRIGHT_THRESHOLD) & (lightness > 1.5 * least)
        outlier_bright &= sigma <= LARGEST_BRIGHT_SIGMA
        outlier_red = (z[..., 1] > THRESHOLD) & (redness > MIN_REDNESS)
        reach = 2.0 * inner
        surrounded = gaussian_blur(skin, 2.0 * inner) > 0.93  # else the wide mean is one-sided: nose, chin
        for outlier, field, size, rise in (
            (outlier_dark, -near[..., 0], np.abs(lightness), least),
            (outlier_bright, near[..., 0], np.abs(lightness), 1.5 * least),
            (outlier_red, near[..., 1], np.abs(redness), MIN_REDNESS),
        ):
            core = outlier & _stands_out(field, reach, rise) & surrounded
            peak = dilate(np.where(core, size, np.float32(0.0)), max(1.0, 2.5 * inner))
            found |= outlier & (peak > 0) & (size > 0.4 * peak)  # not the wide skirt of a strong spot
        dark = np.maximum(dark, -lightness)
        bright = np.maximum(bright, lightness)
        red = np.maximum(red, redness)
    found &= support
    return _separate_moles(found.astype(np.float32), dark, red, np.maximum(bright, red), scale)


def _stands_out(field: np.ndarray, reach: float, least: float) -> np.ndarray:
    """Return where a field is higher than on both sides in every direction: on spots, not on edges and folds."""
    steps = np.stack([np.cos(np.arange(6) * np.pi / 6.0), np.sin(np.arange(6) * np.pi / 6.0)], 1) * reach
    margin = int(np.ceil(reach)) + 1
    padded = np.pad(field, margin, mode="edge")
    height, width = field.shape
    smallest, total = np.full(field.shape, np.inf, dtype=np.float32), np.zeros(field.shape, dtype=np.float32)
    for dy, dx in np.round(steps).astype(int):
        ahead = padded[margin + dy : margin + dy + height, margin + dx : margin + dx + width]
        behind = padded[margin - dy : margin - dy + height, margin - dx : margin - dx + width]
        rise = field - 0.5 * (ahead + behind)
        smallest = np.minimum(smallest, rise)
        total += rise
    return (smallest > np.maximum(ROUNDNESS * total / len(steps), 0.5 * least)) & (total > 0)


def _masked_blur(values: np.ndarray, skin: np.ndarray, sigma: float) -> np.ndarray:
    weight = gaussian_blur(skin, sigma)
    return gaussian_blur(values, sigma) / (weight[..., None] + _EPS)


def _separate_moles(
    found: np.ndarray, dark: np.ndarray, red: np.ndarray, loud: np.ndarray, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Divide spots into blemishes and what stays: moles, which are dark, brown, small and round, and ornaments."""
    rows, columns = np.nonzero(found)
    if len(rows) == 0:
        return found, np.zeros_like(found)
    labels = label_regions(found)[rows, columns]
    count = np.bincount(labels).astype(np.float64)
    count_safe = np.maximum(count, 1.0)
    peak_dark, peak_red, peak_loud = np.zeros((3, len(count)))
    for peak, field in ((peak_dark, dark), (peak_red, red), (peak_loud, loud)):
        np.maximum.at(peak, labels, field[rows, columns])
    mean_y = np.bincount(labels, rows) / count_safe
    mean_x = np.bincount(labels, columns) / count_safe
    dy, dx = rows - mean_y[labels], columns - mean_x[labels]
    yy, xx, xy = (np.bincount(labels, v) / count_safe + 0.08 for v in (dy * dy, dx * dx, dx * dy))
    xy -= 0.08
    root = np.sqrt(((yy - xx) / 2.0) ** 2 + xy**2)
    major, minor = (yy + xx) / 2.0 + root, np.maximum((yy + xx) / 2.0 - root, 1e-6)
    round_ = (count >= 10) & (major / minor < 2.2)
    filled = count > 0.6 * 4.0 * np.pi * np.sqrt(major * minor)
    strong = np.bincount(labels, dark[rows, columns] > 0.5 * peak_dark[labels])  # to half the depth
    small = np.sqrt(strong / np.pi) < 10.0 * scale
    ornament = peak_loud > ORNAMENT_CONTRAST
    mole = (peak_dark > MOLE_CONTRAST) & (peak_red < 0.5 * peak_dark) & round_ & filled & small
    moles = np.zeros_like(found)
    moles[rows, columns] = (mole | ornament)[labels]
    # too long or too large for a spot: a shadow or a fold
    long = (major / minor > 5.0) & (major > (4.0 * scale) ** 2)
    huge = np.sqrt(count_safe / np.pi) > 24.0 * scale
    spots = np.zeros_like(found)
    spots[rows, columns] = ~(mole | ornament | long | huge)[labels]
    return spots, moles


def clean_skin(image: np.ndarray, cleanable: np.ndarray, unit: float) -> np.ndarray:
    """Return a portrait (H, W, 3) float32 in [0, 1] without its natural blemishes.

    They are detected and filled where ``cleanable`` (H, W) in [0, 1] is not 0; ``unit`` is the distance between the
    pupils in pixels.
    """
    reduction = min(1.0, DETECTION_UNIT / unit)
    height, width = (round(n * reduction) for n in image.shape[:2])
    where = resize(cleanable, height, width, antialias=True)
    for _ in range(ROUNDS):
        small = resize(image, height, width, antialias=True)
        found, moles = find_blemishes(small, where, unit * reduction)
        found, moles = (resize(m, *image.shape[:2]) > 0.4 for m in (found, moles))
        image = fill_blemishes(image, cleanable, found.astype(np.float32), moles.astype(np.float32), unit / 256.0)
    return image


def fill_blemishes(
    image: np.ndarray, cleanable: np.ndarray, blemishes: np.ndarray, moles: np.ndarray, scale: float
) -> np.ndarray:
    """Fill masks (H, W) of blemishes with the clean skin around; lengths are multiplied by ``scale``, pupils / 256."""
    if not blemishes.any():
        return image.copy()
    grown = dilate(blemishes, max(1.0, 3.0 * scale)) * (cleanable > 0.0)
    dirty = dilate(np.maximum(grown, dilate(moles, max(1.0, 3.0 * scale))), max(1.0, 1.5 * scale))
    clean = ((cleanable > 0.3) * (1.0 - dirty)).astype(np.float32)
    base = _inpaint(image, clean, scale)
    patched = base * grown[..., None] + image * (1.0 - grown[..., None])
    smooth = gaussian_blur(patched, max(0.8, 2.5 * scale))
    filled = smooth + _borrow((image - smooth) * clean[..., None], clean, grown, scale)
    weight = gaussian_blur(dilate(grown, max(1.0, 1.0 * scale)), max(0.8, 2.0 * scale))
    weight = np.where(cleanable > 0, weight * smoothstep(cleanable, 0.0, 0.5), 0.0).astype(np.float32)
    return np.clip(image + weight[..., None] * (filled - image), 0.0, 1.0).astype(np.float32)


def _inpaint(image: np.ndarray, clean: np.ndarray, scale: float) -> np.ndarray:
    """Normalised convolution over clean skin, with the narrowest kernel that sees enough of it."""
    result = np.zeros_like(image)
    missing = np.ones(clean.shape, dtype=np.float32)
    values = image * clean[..., None]
    for sigma in (3.0, 6.0, 12.0, 24.0, 48.0):
        weight = gaussian_blur(clean, sigma * scale)
        estimate = gaussian_blur(values, sigma * scale) / (weight[..., None] + _EPS)
        take = missing * smoothstep(weight, 0.15, 0.45)
        if sigma == 48.0:
            take = missing
        result += take[..., None] * estimate
        missing = missing - take
    return result


def _borrow(texture: np.ndarray, clean: np.ndarray, wanted: np.ndarray, scale: float) -> np.ndarray:
    """Fill every wanted pixel with texture from the first shift whose source region is clean."""
    from scipy.ndimage import shift

    result = np.zeros_like(texture)
    open_ = gaussian_blur(wanted, 2.0 * scale) > 0.01
    dirty = 1.0 - clean
    todo = open_.copy()
    for radius in (28.0, 36.0, 48.0, 64.0):
        for angle in np.arange(8) * np.pi / 4.0 + radius:
            dy, dx = round(radius * scale * np.sin(angle)), round(radius * scale * np.cos(angle))
            source = shift(dirty, (dy, dx), order=0, cval=1.0)
            clear = (gaussian_blur(source, 6.0 * scale) < 0.05) & todo
            if clear.any():
                rows, columns = np.nonzero(clear)
                result[rows, columns] = texture[rows - dy, columns - dx]
                todo &= ~clear
        if not todo.any():
            break
    return result
