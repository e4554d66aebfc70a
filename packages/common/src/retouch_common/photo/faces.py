"""Finding faces at every scale, cropping them with margin, and blending a crop back without a seam.

The detector is kornia's YuNet, which knows faces of about 15 to 250 pixels. A photo is therefore shown to it
several times, each time at half the size, and a face must be seen at every size at which it should be: on
skin or cloth filling the frame a single look is often wrong with great confidence, but rarely twice in the
same place.

Where the detector's weights cannot be had, a face parser with bundled weights finds frontal faces, less reliably
(:mod:`retouch_common.parsing.finder`).
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import tempfile
import threading
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from kornia.contrib import FaceDetector

    from retouch_common.parsing.parser import FaceParser

logger = logging.getLogger(__name__)

WEIGHTS_NAME = "yunet_final.pth"
WEIGHTS_SHA256 = "ee0a3035c5cbfc9484a31332223c9fd9c0ddcdb7c46b6a19e558ed393b6f2c67"
_WEIGHTS_URL = "https://github.com/kornia/data/raw/main/yunet_final.pth"
_DOWNLOAD_SECONDS = 15.0

DETECTION_SIDE = 2560  # photos are shown to the detector no larger than this
_SMALLEST_LEVEL = 128
_SEEN = (20.0, 200.0)  # face sizes in pixels at which YuNet must agree
_LOOK = (10.0, 400.0)  # face sizes at which its answers are taken into account
_STRIDE = 64


class DetectorUnavailable(RuntimeError):
    """The face detector's weights are not there; the message says which file to put where."""


@dataclass(frozen=True)
class Face:
    """A face in a photo.

    Attributes:
        box: (x, y, width, height) in pixels of the photo, from brow to chin.
        score: Confidence in [0, 1].
        landmarks: (5, 2) float32 pixels: the eyes, the tip of the nose, the corners of the mouth, each pair
            from left to right in the picture; NaN when unknown.
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: np.ndarray

    @property
    def size(self) -> float:
        """The longer side of the box in pixels."""
        return max(self.box[2:])


def detect_faces(image: np.ndarray, *, score_threshold: float = 0.6) -> list[Face]:
    """Find the faces in a photo, from about 1/150 of its longer side to the whole frame.

    Args:
        image: (H, W, 3) uint8 RGB. Larger ones than ``DETECTION_SIDE`` are scaled down first.
        score_threshold: Least mean confidence over the sizes at which the face must be seen.

    Returns:
        Faces in the image's pixels, largest first.

    Raises:
        DetectorUnavailable: If neither the detector's weights nor a parser's can be had.
        ValueError: If the image is not (H, W, 3) uint8.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"expected an (H, W, 3) uint8 image, got shape {image.shape} and type {image.dtype}")
    try:
        detector = _detector()
    except DetectorUnavailable as error:
        parser = _parser()
        if parser is None:
            raise
        _warn_once(str(error))
        from retouch_common.parsing.finder import find_faces

        return find_faces(image, parser, score_threshold=score_threshold)
    level = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
    scale = min(1.0, DETECTION_SIDE / max(image.shape[:2]))
    if scale < 1:
        level = _resized(level, scale)
    looks = []
    scales = []
    while True:
        looks.append(_look(detector, level, scale))
        scales.append(scale)
        if max(level.shape[2:]) <= _SMALLEST_LEVEL or min(level.shape[2:]) < 32:
            break
        level, scale = _resized(level, 0.5), scale / 2
    return _agree(looks, scales, score_threshold)


def _resized(level: torch.Tensor, factor: float) -> torch.Tensor:
    """Scale (1, 3, h, w) down with antialiasing."""
    size = [max(1, round(side * factor)) for side in level.shape[2:]]
    return F.interpolate(level, size, mode="bilinear", antialias=True)


@torch.inference_mode()
def _look(detector: FaceDetector, level: torch.Tensor, scale: float) -> torch.Tensor:
    """What the detector sees at one size: (N, 15) box corners, landmarks and score, in the photo's pixels."""
    height, width = level.shape[2:]
    padded = F.pad(level, (0, -width % _STRIDE, 0, -height % _STRIDE))
    found = detector(padded.contiguous(memory_format=torch.channels_last))[0]
    size = (found[:, 2:4] - found[:, :2]).amax(dim=1)
    found = found[(size >= _LOOK[0]) & (size <= _LOOK[1])]
    return torch.cat([found[:, :14] / scale, found[:, 14:]], dim=1)


def _agree(looks: list[torch.Tensor], scales: list[float], threshold: float) -> list[Face]:
    """Keep what was seen at every size at which it should be."""
    from torchvision.ops import box_iou, nms

    seen = torch.cat(looks)
    if not len(seen):
        return []
    faces = seen[nms(seen[:, :4], seen[:, 14], 0.3)]
    size = (faces[:, 2:4] - faces[:, :2]).amax(dim=1)
    support = torch.zeros(len(faces), len(looks))
    for index, look in enumerate(looks):
        if len(look):
            overlap = box_iou(faces[:, :4], look[:, :4])
            support[:, index] = torch.where(overlap > 0.4, look[:, 14], 0.0).amax(dim=1)
    sizes = size[:, None] * torch.tensor(scales)
    expected = (sizes >= _SEEN[0]) & (sizes <= _SEEN[1])
    expected |= ~expected.any(dim=1, keepdim=True) & (support == support.amax(dim=1, keepdim=True))
    score = (support * expected).sum(dim=1) / expected.sum(dim=1)
    order = score.argsort(descending=True)
    faces, score = faces[order], score[order]
    kept: list[int] = []
    for index in range(len(faces)):
        if score[index] >= threshold and not any(_inside(faces[index], faces[other]) for other in kept):
            kept.append(index)
    result = [_face(faces[index], float(score[index])) for index in kept]
    return sorted(result, key=lambda face: -face.size)


def _inside(face: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether one of two boxes lies mostly in the other."""
    corner = torch.minimum(face[2:4], other[2:4]) - torch.maximum(face[:2], other[:2])
    areas = [(box[2:4] - box[:2]).prod() for box in (face, other)]
    return bool(corner.clamp(min=0).prod() > 0.6 * min(areas))


def _face(row: torch.Tensor, score: float) -> Face:
    x0, y0, x1, y1 = row[:4].tolist()
    return Face((x0, y0, x1 - x0, y1 - y0), score, row[4:14].reshape(5, 2).numpy().astype(np.float32))


def face_crop(face: Face, height: int, width: int, margin: float = 2.0) -> tuple[int, int, int, int]:
    """The part of a photo to retouch for a face.

    Args:
        face: The face.
        height: Height of the photo in pixels.
        width: Width of the photo in pixels.
        margin: Side of the crop over the longer side of the face's box.

    Returns:
        (x, y, w, h) in pixels: a square around the face, shifted into the photo and cut where the photo is
        smaller.

    Raises:
        ValueError: If the face's box has no pixel in common with the photo.
    """
    require_inside(face, height, width)
    x, y, w, h = face.box
    side = max(1, round(margin * face.size))
    columns, rows = min(side, width), min(side, height)
    left = min(max(round(x + w / 2 - columns / 2), 0), width - columns)
    top = min(max(round(y + h / 2 - rows / 2), 0), height - rows)
    return left, top, columns, rows


def require_inside(face: Face, height: int, width: int) -> None:
    """Refuse a face whose box has no pixel in common with the photo.

    Args:
        face: The face.
        height: Height of the photo in pixels.
        width: Width of the photo in pixels.

    Raises:
        ValueError: If it lies outside.
    """
    x, y, w, h = face.box
    if w <= 0 or h <= 0 or x >= width or y >= height or x + w <= 0 or y + h <= 0:
        box = ",".join(f"{value:g}" for value in face.box)
        raise ValueError(f"the face box {box} lies outside the photo of {width}x{height} pixels")


def feather_profile(length: int, ramp: float, *, open_start: bool, open_stop: bool) -> np.ndarray:
    """Weights along one axis of a crop: 1 inside, smoothly down to exactly 0 at its ends.

    Args:
        length: Length of the axis in pixels.
        ramp: Length of the slope as a fraction of the axis, in (0, 0.5].
        open_start: The start lies on the photo's border: no slope there.
        open_stop: The end lies on the photo's border: no slope there.

    Returns:
        (length,) float32.
    """
    slope = max(1.0, ramp * length)
    position = np.arange(length, dtype=np.float32)
    weights = np.ones(length, np.float32)
    for is_open, distance in ((open_start, position), (open_stop, position[::-1])):
        if not is_open:
            t = np.clip(distance / slope, 0, 1)
            weights *= t * t * (3 - 2 * t)
    return weights


def feather(
    height: int,
    width: int,
    *,
    ramp: float = 0.125,
    open_edges: tuple[bool, bool, bool, bool] = (False, False, False, False),
) -> np.ndarray:
    """Weights to blend a retouched crop into its photo.

    Args:
        height: Height of the crop in pixels.
        width: Width of the crop in pixels.
        ramp: Length of the slopes as a fraction of each side, in (0, 0.5].
        open_edges: Whether the (left, top, right, bottom) edge lies on the photo's border and needs no slope.

    Returns:
        (height, width) float32 in [0, 1]: 1 inside, exactly 0 along the edges that are not open.
    """
    left, top, right, bottom = open_edges
    rows = feather_profile(height, ramp, open_start=top, open_stop=bottom)
    columns = feather_profile(width, ramp, open_start=left, open_stop=right)
    return rows[:, None] * columns[None, :]


@functools.lru_cache(maxsize=1)
def _detector() -> FaceDetector:
    """The detector, loaded from verified weights on first use."""
    _ensure_weights(Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS_NAME)
    from kornia.contrib import FaceDetector

    detector = FaceDetector(confidence_threshold=0.4).eval()
    detector.model.to(memory_format=torch.channels_last)
    return detector


@functools.lru_cache(maxsize=1)
def _parser() -> FaceParser | None:
    """The parser that comes with this package; None if its weights do not."""
    from retouch_common.parsing.model import BUNDLED
    from retouch_common.weights import bundled_names

    if "small" not in bundled_names(BUNDLED):
        return None
    from retouch_common.parsing.parser import FaceParser

    return FaceParser("small", "cpu")


@functools.lru_cache(maxsize=8)
def _warn_once(reason: str) -> None:
    """Say once why another way of finding faces is used."""
    logger.warning("faces are found by the face parser, frontal ones and less reliably: %s", reason)


def _ensure_weights(path: Path) -> None:
    """Check the weights that kornia is about to load, fetching them if they are not there."""
    if not path.exists():
        content = None if os.environ.get("HF_HUB_OFFLINE") == "1" else _download()
        if content is None or hashlib.sha256(content).hexdigest() != WEIGHTS_SHA256:
            raise DetectorUnavailable(
                f"the face detector's weights could not be downloaded; put {WEIGHTS_NAME} "
                f"(sha256 {WEIGHTS_SHA256[:8]}…, from {_WEIGHTS_URL}) into {path.parent}"
            )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
                file.write(content)
            os.replace(file.name, path)
        except OSError as error:
            raise DetectorUnavailable(f"{path}: cannot be written: {error.strerror}") from error
    elif hashlib.sha256(path.read_bytes()).hexdigest() != WEIGHTS_SHA256:
        raise DetectorUnavailable(
            f"{path}: is not the face detector's file (sha256 {WEIGHTS_SHA256[:8]}…); "
            f"delete it or put the one from {_WEIGHTS_URL} there"
        )


@functools.lru_cache(maxsize=1)
def _download() -> bytes | None:
    """Fetch the weights; None when that fails or takes too long, which is not tried again for the next photo."""
    result: list[bytes] = []

    def fetch() -> None:
        try:
            with urllib.request.urlopen(_WEIGHTS_URL, timeout=_DOWNLOAD_SECONDS) as response:
                result.append(response.read())
        except OSError:
            return

    worker = threading.Thread(target=fetch, daemon=True)  # looking up the host's name has no timeout of its own
    worker.start()
    worker.join(_DOWNLOAD_SECONDS)
    return result[0] if result else None
