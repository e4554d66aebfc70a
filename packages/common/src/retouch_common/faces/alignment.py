"""Alignment of faces: upright, of one size, in the centre of a square.

The square of a face is turned and may exceed the photo. Points of it are given as shares (u, v) from (0, 0) at its top
left to (1, 1) at its bottom right corner, so that one square serves networks of all sizes. Pixel i covers [i, i + 1].

The framing is FFHQ's (Karras, Laine, Aila. "A Style-Based Generator Architecture for Generative Adversarial Networks."
CVPR 2019), which takes the larger of two distances as the scale so that turned heads are not cropped too tightly. The
template is the mean of five landmarks over FFHQ (facexlib, ``face_restoration_helper.py``), in pixels of 512.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F

from retouch_common.faces.face import Face, require_inside
from retouch_common.photo.sources import ArraySource, RowSource, blocks

TEMPLATE = np.array([[193.0, 239.9], [318.9, 240.2], [256.6, 314.0], [201.3, 371.4], [313.1, 371.2]]) / 512
PORTRAIT_TEMPLATE = np.array([[99.0, 116.0], [156.0, 116.0], [127.0, 180.0]]) / 256
"""Both eyes and the middle of the mouth in the wider frame of portrait editing, which has room for hair. Measured on
18 aligned images that Gu et al. ("Mask-Guided Portrait Editing with Conditional GANs." CVPR 2019) publish."""
PORTRAIT_EYES = 57 / 256
"""Between the eyes of :data:`PORTRAIT_TEMPLATE`, as a share of the square's side."""

FEATHER = 1 / 16  # width of a square's soft border; chins come as close as 1/10

# Measured with the detector on 25 frontal portraits aligned to the template, as shares of the square's side.
_EYES = 131 / 512  # between the eyes
_EYES_TO_MOUTH = 126 / 512  # between the middle of the eyes and the middle of the mouth's corners
_BOX = (0.53, 0.72)  # width and height of the face's box
_BOX_CENTRE = 0.553  # how far down its centre is


@dataclass(frozen=True)
class FaceSquare:
    """A rotated square of a photo.

    Attributes:
        centre: (x, y) in pixels of the photo.
        side: Side in pixels of the photo.
        angle: Clockwise rotation in radians.
        feather: Width of the soft border as a share of the side; 0 for none.
        landmarks: (5, 2) landmarks of the face, x, y as shares of the square; None if unknown.
    """

    centre: tuple[float, float]
    side: float
    angle: float = 0.0
    feather: float = FEATHER
    landmarks: np.ndarray | None = field(default=None, compare=False, repr=False)

    @property
    def _axis(self) -> tuple[float, float]:
        """Vector of the unit of u in pixels of the photo."""
        return self.side * math.cos(self.angle), self.side * math.sin(self.angle)

    def to_photo(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Map points of the square to (x, y) of the photo."""
        right, down = self._axis
        u, v = u - 0.5, v - 0.5
        return self.centre[0] + right * u - down * v, self.centre[1] + down * u + right * v

    def from_photo(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Map points of the photo to (u, v) of the square."""
        right, down = (part / self.side**2 for part in self._axis)
        x, y = x - self.centre[0], y - self.centre[1]
        return 0.5 + right * x + down * y, 0.5 - down * x + right * y

    def bounds(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Return the bounding box (x, y, w, h) in pixels, clipped to a photo of this height and width.

        Raises:
            ValueError: If the square lies outside the photo.
        """
        x, y = self.to_photo(np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.0, 0.0, 1.0, 1.0]))
        # what rounding leaves of an upright square's corner is no pixel
        left, top = (max(0, math.floor(axis.min() + 1e-6)) for axis in (x, y))
        right, bottom = (min(end, math.ceil(axis.max() - 1e-6)) for axis, end in ((x, width), (y, height)))
        if left >= right or top >= bottom:
            raise ValueError(f"the face lies outside the photo of {width}x{height} pixels")
        return left, top, right - left, bottom - top

    def weights(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return float32 weights of points (u, v): 1 inside, falling smoothly to 0 at the border, 0 outside."""
        distance = np.minimum(np.minimum(u, 1 - u), np.minimum(v, 1 - v))
        if not self.feather:
            return (distance >= 0).astype(np.float32)
        t = np.clip(distance / self.feather, 0, 1)
        return (t * t * (3 - 2 * t)).astype(np.float32)


def face_square(face: Face, height: int, width: int) -> FaceSquare:
    """Return the aligned square of a face in a photo of this height and width.

    With landmarks it is the similarity transform that fits them to the template best, enlarged where the distance
    between the eyes, or from eyes to mouth, asks for more (a turned or tilted head). Without landmarks it is upright
    and fits the box.

    Raises:
        ValueError: If the face lies outside the photo, or its landmarks coincide.
    """
    require_inside(face, height, width)
    landmarks = np.asarray(face.landmarks, np.float64)
    if not np.isfinite(landmarks).all():
        return _box_square(face)
    left_eye, right_eye, _, left_corner, right_corner = landmarks
    eyes = math.dist(left_eye, right_eye) / _EYES
    eyes_to_mouth = math.dist(left_corner + right_corner, left_eye + right_eye) / 2 / _EYES_TO_MOUTH
    return _with_landmarks(_closest(landmarks, TEMPLATE, eyes, eyes_to_mouth), landmarks)


def portrait_square(face: Face, height: int, width: int) -> FaceSquare:
    """Return the square in which portraits are parsed and edited: wider than FFHQ's, with room for the hair.

    A face without landmarks is taken as upright.

    Raises:
        ValueError: If the face lies outside the photo, or its landmarks coincide.
    """
    require_inside(face, height, width)
    points = np.asarray(face.landmarks, np.float64)
    if not np.isfinite(points).all():
        points = np.stack(_box_square(face).to_photo(*TEMPLATE.T), axis=1)
        return fit_portrait(points[:2], points[3:].mean(axis=0))
    return _with_landmarks(fit_portrait(points[:2], points[3:].mean(axis=0)), points)


def fit_portrait(eyes: np.ndarray, mouth: np.ndarray) -> FaceSquare:
    """Fit eyes (2, 2) and mouth (2,), in pixels with the first covering [0, 1], to :data:`PORTRAIT_TEMPLATE`.

    The square of the similarity transform is enlarged where the distance from eyes to mouth asks for more (a head
    turned aside).

    Raises:
        ValueError: If the points coincide.
    """
    points = np.vstack([eyes, mouth]).astype(np.float64)
    down, template_down = (math.dist(2 * below, left + right) for left, right, below in (points, PORTRAIT_TEMPLATE))
    return _closest(points, PORTRAIT_TEMPLATE, down / template_down)


def _closest(points: np.ndarray, template: np.ndarray, *sides: float) -> FaceSquare:
    """Fit points to a template by a similarity transform, enlarged to the largest of the sides."""
    points, template = points @ [1, 1j], template @ [1, 1j]
    mean, template_mean = points.mean(), template.mean()
    template = template - template_mean
    turn = np.vdot(template, points - mean) / np.vdot(template, template).real  # least squares over all similarities
    side = max(abs(turn), *sides)
    if not abs(turn) or side < 1:
        raise ValueError("the landmarks of the face coincide")
    centre = mean + side * turn / abs(turn) * (0.5 + 0.5j - template_mean)
    return FaceSquare((float(centre.real), float(centre.imag)), float(side), float(np.angle(turn)))


def _with_landmarks(square: FaceSquare, landmarks: np.ndarray) -> FaceSquare:
    return replace(square, landmarks=np.stack(square.from_photo(*landmarks.T), axis=1))


def _box_square(face: Face) -> FaceSquare:
    x, y, w, h = face.box
    side = max(w / _BOX[0], h / _BOX[1])
    return FaceSquare((x + w / 2, y + h / 2 + (0.5 - _BOX_CENTRE) * side), side)


def whole_square(height: int, width: int) -> FaceSquare:
    """Return the square that covers a whole image, for one that is aligned already.

    Raises:
        ValueError: If the image is not square.
    """
    if height != width:
        raise ValueError(f"an aligned face is a square image, not one of {width}x{height} pixels")
    return FaceSquare((width / 2, height / 2), float(width), feather=0.0)


def align(image: np.ndarray, square: FaceSquare, size: int) -> np.ndarray:
    """Crop an aligned face from an image (H, W, 3) in memory, uint8 or uint16, which is mirrored outside.

    The result, (size, size, 3) float32 in [0, 1], is antialiased where the square is larger, and equal to the image
    where pixels coincide.

    Raises:
        ValueError: If the array is no image, or the square lies outside it.
    """
    ((_, face),) = read_aligned(ArraySource(image), [square], size)
    return face


def points_in_square(points: np.ndarray, square: FaceSquare, size: int) -> np.ndarray:
    """Return points of a photo in the pixels of ``align(photo, square, size)``."""
    shares = np.stack(square.from_photo(points[:, 0] + 0.5, points[:, 1] + 0.5), axis=1)
    return (shares * size - 0.5).astype(np.float32)


def read_aligned(source: RowSource, squares: Sequence[FaceSquare], size: int) -> Iterator[tuple[int, np.ndarray]]:
    """Crop aligned faces of size x size pixels from a photo that is read once, from top to bottom, in bounded memory.

    Yield (index of the square, face as from :func:`align`), in the order of their last rows.

    Raises:
        ValueError: If a square lies outside the photo.
    """
    waiting = [_Reduced(source, square, size, index) for index, square in enumerate(squares)]
    for top, bottom in blocks(source.height, source.width):
        crossed = [part for part in waiting if part.y < bottom]
        if not crossed:
            continue
        rows = source.read_rows(top, bottom)
        for part in crossed:
            part.add(rows, top)
            if part.y + part.height <= bottom:
                waiting.remove(part)
                yield part.index, part.aligned()
        if not waiting:
            return


class _Reduced:
    """The part of a photo around a square, at less than twice the final size: means of factor x factor pixels."""

    def __init__(self, source: RowSource, square: FaceSquare, size: int, index: int) -> None:
        self.index, self._square, self._size = index, square, size
        self._factor = factor = max(1, math.floor(square.side / size))
        x, y, w, h = square.bounds(source.height, source.width)
        margin = 3 * factor  # the interpolation's reach
        self.x, self.y = max(0, x - margin), max(0, y - margin)
        self.width = min(x + w + margin, source.width) - self.x
        self.height = min(y + h + margin, source.height) - self.y
        self._largest = float(np.iinfo(source.dtype).max)
        self._cells: np.ndarray | None = None

    def add(self, rows: np.ndarray, top: int) -> None:
        """Add the photo's rows from ``top`` on."""
        k = self._factor
        if self._cells is None:
            self._cells = np.zeros((-(-self.height // k), -(-self.width // k), rows.shape[2]), np.float32)
        first, last = max(top, self.y), min(top + len(rows), self.y + self.height)
        part = rows[first - top : last - top, self.x : self.x + self.width]
        first, last = first - self.y, last - self.y
        if k == 1:
            self._cells[first:last] = part
            return
        starts = np.maximum(np.arange(first // k * k, last, k) - first, 0)  # of the cells in these rows
        part = _sums(_sums(part, np.arange(0, self.width, k), 1), starts, 0)
        self._cells[first // k : first // k + len(part)] += part

    def aligned(self) -> np.ndarray:
        """Return the face; see :func:`align`."""
        assert self._cells is not None
        k, size = self._factor, self._size
        counts = (np.diff(np.append(np.arange(0, n, k), n)) for n in (self.height, self.width))
        down, across = (count.astype(np.float32) for count in counts)
        self._cells /= self._largest * down[:, None, None] * across[:, None]
        image = torch.from_numpy(self._cells).permute(2, 0, 1)[None]
        self._cells = None
        # First turned at the photo's own scale, which loses nothing, then reduced with antialiasing.
        steps = max(size, round(self._square.side / k))
        unit = (np.arange(steps) + 0.5) / steps
        x, y = self._square.to_photo(unit[None, :], unit[:, None])
        points = np.stack([(x - self.x) / k / image.shape[3], (y - self.y) / k / image.shape[2]], axis=-1)
        face = sampled(image, points)
        if steps > size:
            face = F.interpolate(face, (size, size), mode="bilinear", antialias=True)
        return face[0].clamp_(0, 1).permute(1, 2, 0).contiguous().numpy()


def sampled(image: torch.Tensor, points: np.ndarray) -> torch.Tensor:
    """Sample an image (1, C, h, w), mirrored outside, bicubically at points (H, W, 2), shares x, y of its sides."""
    grid = torch.from_numpy((2 * points - 1).astype(np.float32))[None]
    return F.grid_sample(image, grid, mode="bicubic", padding_mode="reflection", align_corners=False)


def _sums(values: np.ndarray, starts: np.ndarray, axis: int) -> np.ndarray:
    return np.add.reduceat(values, starts, axis=axis, dtype=np.float32)
