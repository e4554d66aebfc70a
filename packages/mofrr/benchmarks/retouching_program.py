"""An independent program that whitens, smooths and lifts faces and enlarges eyes, for measuring networks.

It shares nothing with :mod:`retouch_common.synthesis`, and works on the photograph at full resolution:

- white: gains in linear RGB with a shoulder towards white, larger for blue than for red;
- smooth: anisotropic diffusion (Perona and Malik, 1990) of a reduced copy, and finer texture made fainter;
- lift: a thin-plate spline that moves the jaw of the face mesh inwards;
- eye: an elliptical enlargement around each eye that fades as a quintic.

Then the image is compressed as JPEG.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from retouch_common.faces.mesh import BROWS, EYES, NOSE, OUTER_LIPS, OVAL
from retouch_common.testing.anywhere import CHEEKS, MeshPortrait, face_window, filled
from retouch_common.testing.blemish_program import to_oklab
from scipy.ndimage import gaussian_filter, map_coordinates, zoom

OPERATIONS = ("white", "smooth", "lift", "eye")
STRENGTHS = (1, 2, 3)

WHITE = (0.5, 0.9, 1.4)  # by strength, times GAINS
GAINS = np.array([0.32, 0.40, 0.46])
SMOOTH = (0.5, 0.75, 1.0)  # share of the detail that is removed
SMOOTH_STEPS, SMOOTH_EDGE = 60, 0.05
LIFT = (0.014, 0.022, 0.032)  # of the face's width
EYE = (0.09, 0.14, 0.20)  # the middle is enlarged by 1 / (1 - this)
EYE_REACH = 1.15  # of the eye's width

QUALITIES = (88, 96)  # of JPEG
REDUCED = 256  # width in pixels of the face in the copy in which skin is found and diffused

JAW = OVAL[8:29]  # from below one ear along the chin to below the other
STEP = 8  # pixels between the points at which the spline is computed


@dataclass(frozen=True)
class _Work:
    """The part of a photograph around the face.

    Attributes:
        image: (h, w, 3) float32 in [0, 1].
        mesh: In its pixels.
        width: Width of the face.
        window: Its place in the photograph.
    """

    image: np.ndarray
    mesh: np.ndarray
    width: float
    window: tuple[slice, slice]

    @cached_property
    def reduced(self) -> tuple[np.ndarray, np.ndarray]:
        """A copy in which the face is at most ``REDUCED`` pixels wide, and the mesh in its pixels."""
        from skimage.transform import rescale

        scale = min(1.0, REDUCED / self.width)
        copy = rescale(self.image, scale, anti_aliasing=scale < 1, channel_axis=2).astype(np.float32)
        return copy, (self.mesh + 0.5) * scale - 0.5

    def enlarged(self, part: np.ndarray) -> np.ndarray:
        """Return a plane or image of the reduced copy at full size."""
        factors = [full / small for full, small in zip(self.image.shape, part.shape, strict=False)]
        return zoom(part, [*factors[:2], 1][: part.ndim], order=1, grid_mode=True, mode="nearest")


def retouch(portrait: MeshPortrait, strengths: Mapping[str, int], seed: int) -> np.ndarray:
    """Return the retouched photograph, compressed as JPEG and decoded, (H, W, 3) uint8.

    ``strengths`` are 1, 2 or 3 by operation, ValueError for others; ``seed`` draws the quality of the JPEG file.
    """
    for name, strength in strengths.items():
        if name not in OPERATIONS or strength not in STRENGTHS:
            raise ValueError(f"{name}: {strength}: operations are {', '.join(OPERATIONS)}, strengths 1 to 3")
    work, image = _cut(portrait), portrait.levels.copy()
    result = work.image
    if "white" in strengths:
        result = _whitened(result, work.enlarged(_complexion(work)), WHITE[strengths["white"] - 1])
    if "smooth" in strengths:
        result = _smoothed(replace(work, image=result), SMOOTH[strengths["smooth"] - 1])
    flow = np.zeros((2, *work.image.shape[:2]), np.float32)
    if "eye" in strengths:
        flow += _enlarging(work, EYE[strengths["eye"] - 1])
    if "lift" in strengths:
        flow += _lifting(work, LIFT[strengths["lift"] - 1])
    if flow.any():
        result = _warped(result, flow)
    image[work.window] = np.rint(255 * result).clip(0, 255).astype(np.uint8)
    return compressed(image, seed)


def compressed(levels: np.ndarray, seed: int) -> np.ndarray:
    """Compress and decode a photograph as JPEG of a quality between 88 and 96."""
    from PIL import Image

    generator, file = np.random.default_rng((seed, 0x19E6)), io.BytesIO()
    quality, subsampling = int(generator.integers(*QUALITIES, endpoint=True)), int(generator.choice([0, 2]))
    Image.fromarray(levels).save(file, "JPEG", quality=quality, subsampling=subsampling)
    return np.array(Image.open(file))


def _cut(portrait: MeshPortrait) -> _Work:
    window = face_window(portrait, 0.6)
    mesh = portrait.mesh.astype(np.float64) - (window[1].start, window[0].start)
    return _Work(portrait.levels[window].astype(np.float32) / 255, mesh, portrait.face_width, window)


def _complexion(work: _Work) -> np.ndarray:
    """Return the likelihood of the cheeks' colour near the face, without eyes and lips; reduced, in [0, 1]."""
    image, mesh = work.reduced
    rows, columns, width = *image.shape[:2], np.ptp(mesh[list(OVAL), 0])
    lab = gaussian_filter(to_oklab(image), (0.004 * width,) * 2 + (0,))
    cheek = np.median(lab[sum(filled(mesh[list(part)], rows, columns) for part in CHEEKS) > 0], axis=0)
    apart = np.hypot(lab[..., 1] - cheek[1], lab[..., 2] - cheek[2])
    likely = np.exp(-((apart / 0.05) ** 2)) * _ramp(lab[..., 0] / cheek[0], 0.6, 0.8)
    for part, scale in ((EYES[0], 1.3), (EYES[1], 1.3), (OUTER_LIPS, 1.05)):
        likely *= ~filled(mesh[list(part)], rows, columns, scale)
    near = filled(mesh[list(OVAL)], rows, columns, 1.35).astype(np.float32)
    return gaussian_filter(near, 0.05 * width) * gaussian_filter(likely, 0.006 * width)


def _plain(work: _Work) -> np.ndarray:
    """Return the oval without brows, with soft borders; reduced, in [0, 1]."""
    image, mesh = work.reduced
    rows, columns = image.shape[:2]
    oval = filled(mesh[list(OVAL)], rows, columns)
    for part in BROWS:
        oval &= ~filled(mesh[list(part)], rows, columns, 1.2)
    return gaussian_filter(oval.astype(np.float32), 0.015 * np.ptp(mesh[list(OVAL), 0]))


def _whitened(image: np.ndarray, where: np.ndarray, strength: float) -> np.ndarray:
    linear = np.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055) ** 2.4)
    gain = strength * GAINS * where[..., None]
    linear = linear * (1 + gain) / (1 + gain * linear)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _smoothed(work: _Work, strength: float) -> np.ndarray:
    small, _ = work.reduced
    skin = _complexion(work) * _plain(work)
    (top, left), (bottom, right) = (end(np.argwhere(skin > 0.01), axis=0) for end in (np.min, np.max))
    face, difference = (slice(top, bottom + 1), slice(left, right + 1)), np.zeros_like(small)
    difference[face] = _diffused(small[face]) - small[face]
    where, change = work.enlarged(skin)[..., None], work.enlarged(difference)
    fine = work.image - work.enlarged(small)
    fine *= _ramp(np.abs(fine).max(axis=-1, keepdims=True), 2.5 * SMOOTH_EDGE, SMOOTH_EDGE)  # edges stay
    return np.clip(work.image + strength * where * (change - fine), 0, 1)


def _diffused(image: np.ndarray) -> np.ndarray:
    """Diffuse by Perona and Malik's equation in four directions, with one conductance for all channels."""
    result = image.copy()
    for _ in range(SMOOTH_STEPS):
        change = np.zeros_like(result)
        for axis in (0, 1):
            step = np.diff(result, axis=axis)
            flux = step / (1 + (np.abs(step).max(axis=-1, keepdims=True) / SMOOTH_EDGE) ** 2)
            first, last = [slice(None)] * 3, [slice(None)] * 3
            first[axis], last[axis] = slice(None, -1), slice(1, None)
            change[tuple(first)] += flux
            change[tuple(last)] -= flux
        result += 0.2 * change
    return result


def _enlarging(work: _Work, amount: float) -> np.ndarray:
    """Return where colours come from, relative to a pixel's own place; (2, h, w), y and x in pixels."""
    y, x = np.mgrid[: work.image.shape[0], : work.image.shape[1]].astype(np.float32)
    flow = np.zeros((2, *y.shape), np.float32)
    for part in EYES:
        eye = work.mesh[list(part)]
        (cx, cy), across = eye.mean(axis=0), eye[8] - eye[0]
        reach, angle = EYE_REACH * np.hypot(*across), np.arctan2(across[1], across[0])
        along = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
        aside = (y - cy) * np.cos(angle) - (x - cx) * np.sin(angle)
        t = np.clip(np.hypot(along / reach, aside / (0.8 * reach)), 0, 1)
        fading = amount * (1 - t**3 * (10 - 15 * t + 6 * t**2))
        flow -= fading * np.stack([y - cy, x - cx])
    return flow


def _lifting(work: _Work, amount: float) -> np.ndarray:
    """Return the same as :func:`_enlarging` for a slimmer jaw."""
    from skimage.transform import ThinPlateSplineTransform

    mesh = work.mesh
    jaw, nose = mesh[list(JAW)], mesh[list(NOSE)].mean(axis=0)
    place = np.linspace(-1, 1, len(JAW))  # the chin is at 0
    inwards = nose - jaw
    inwards /= np.hypot(*inwards.T)[:, None]
    moved = jaw + amount * work.width * (1 - np.abs(2 * np.abs(place) - 1))[:, None] * inwards
    still = [index for part in (*EYES, *BROWS, NOSE, OUTER_LIPS) for index in part[::2]]
    oval = mesh[list(OVAL)]
    ring = oval.mean(axis=0) + 1.5 * (oval - oval.mean(axis=0))
    fixed = np.concatenate([mesh[still], oval[:8], oval[29:], ring])
    spline = ThinPlateSplineTransform.from_estimate(np.concatenate([moved, fixed]), np.concatenate([jaw, fixed]))
    height, width = work.image.shape[:2]
    rows, columns = np.arange(0, height + STEP, STEP), np.arange(0, width + STEP, STEP)
    x, y = np.meshgrid(columns, rows)
    points = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float64)
    coarse = (spline(points) - points).T[::-1].reshape(2, *x.shape)
    at = np.mgrid[:height, :width] / STEP
    flow = np.stack([map_coordinates(part, at, order=1) for part in coarse])
    inside = filled(mesh[list(OVAL)], height, width, 1.4).astype(np.float64)
    return flow * gaussian_filter(inside, 0.03 * work.width)


def _warped(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
    at = np.mgrid[: image.shape[0], : image.shape[1]] + flow
    moved = np.stack([map_coordinates(image[..., c], at, order=3, mode="mirror") for c in range(3)], axis=-1)
    return np.where((np.abs(flow).max(axis=0) > 1e-3)[..., None], moved.clip(0, 1), image)


def _ramp(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return 0 at ``low``, 1 at ``high``, linear between."""
    return np.clip((values - low) / (high - low), 0, 1)
