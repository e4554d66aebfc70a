"""Multi-scale face detection with YuNet.

YuNet detects faces of about 15 to 250 pixels. So it runs on a pyramid of the photo, and a face must be
detected at every scale at which its size is suitable: on skin or cloth that fills the frame a single detection is often
wrong with high confidence, but rarely twice in the same place. The finest level, which would take three quarters of the
time, is searched only where the next one shows something.
"""

from __future__ import annotations

import functools
import hashlib
import http.client
import os
import threading
import urllib.request
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from retouch_common.faces.boxes import box_iou, nms
from retouch_common.faces.face import Face
from retouch_common.faces.registry import Detector, DetectorUnavailable
from retouch_common.faces.yunet_network import STRIDE, YuNet
from retouch_common.files import sha256, write_atomically

WEIGHTS_NAME = "yunet_final.pth"
WEIGHTS_SHA256 = "ee0a3035c5cbfc9484a31332223c9fd9c0ddcdb7c46b6a19e558ed393b6f2c67"
_WEIGHTS_URL = "https://github.com/kornia/data/raw/main/yunet_final.pth"
_OFFLINE = ("1", "ON", "YES", "TRUE")  # of HF_HUB_OFFLINE, as the Hugging Face hub reads it
_DOWNLOAD_SECONDS = 15.0

DETECTION_SIDE = 2560  # photos are shown to the detector no larger than this
_SMALLEST_LEVEL = 128
_RELIABLE_SIZES = (20.0, 200.0)  # face sizes in pixels that YuNet must detect
_VALID_SIZES = (10.0, 400.0)  # face sizes at which its detections are considered
_CONFIDENCE = 0.4  # of a detection at one scale
_SEARCHED_SIDE = 1536  # no level with a longer side is searched as a whole
_SUSPICION = 0.2  # score of what is searched at the finest scale; faces of 14 pixels and more score 0.97 at least
_SMALLEST_MARGIN = 64.0  # around it, in pixels
_MINOR = 0.2  # size beside the largest face below which a face must be ...
_MINOR_CONFIDENCE = 0.9  # ... this certain: badges and hands are not; faces in the background are


def load_detector() -> Detector:
    """Return the detector with verified weights.

    Raises:
        DetectorUnavailable: If the weights are missing and cannot be downloaded, or are not the expected ones.
    """
    return functools.partial(_find_faces, _detector())


def _find_faces(detector: YuNet, image: np.ndarray, *, score_threshold: float) -> list[Face]:
    """Detect faces from about 1/150 of the image's longer side to the whole frame, largest first."""
    level = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]  # bytes are resized faster
    scale = min(1.0, DETECTION_SIDE / max(image.shape[:2]))
    if scale < 1:
        level = _resized(level, scale)
    finest = (level, scale) if max(level.shape[2:]) > _SEARCHED_SIDE and min(level.shape[2:]) >= 32 else None
    if finest is not None:
        level, scale = _resized(level, 0.5), scale / 2
    detections, scales = [_detect_at_scale(detector, level, scale)], [scale]
    suspects = detections[0]
    while max(level.shape[2:]) > _SMALLEST_LEVEL and min(level.shape[2:]) >= 32:
        level, scale = _resized(level, 0.5), scale / 2
        detections.append(_detect_at_scale(detector, level, scale))
        scales.append(scale)
    if finest is not None:
        detections.insert(0, _detect_in_windows(detector, *finest, suspects))
        scales.insert(0, finest[1])
    valid = [_valid(found, scale) for found, scale in zip(detections, scales, strict=True)]
    return _merge(valid, scales, score_threshold)


def _resized(level: torch.Tensor, factor: float) -> torch.Tensor:
    size = [max(1, round(side * factor)) for side in level.shape[2:]]
    return F.interpolate(level, size, mode="bilinear", antialias=True)


@torch.inference_mode()
def _detect_at_scale(detector: YuNet, level: torch.Tensor, scale: float) -> torch.Tensor:
    """Detect at one scale: (N, 15) box corners, landmarks and score, in pixels of the photo."""
    height, width = level.shape[2:]
    padded = F.pad(level.float(), (0, -width % STRIDE, 0, -height % STRIDE))
    found = detector(padded[0].permute(1, 2, 0).contiguous(), _SUSPICION)
    return torch.cat([found[:, :14] / scale, found[:, 14:]], dim=1)


def _detect_in_windows(detector: YuNet, level: torch.Tensor, scale: float, suspects: torch.Tensor) -> torch.Tensor:
    """Detect at one scale where the next coarser one has found what may be a face; as :func:`_detect_at_scale`."""
    height, width = level.shape[2:]
    size = scale * (suspects[:, 2:4] - suspects[:, :2]).amax(dim=1, keepdim=True)
    small = size[:, 0] <= _RELIABLE_SIZES[1]
    suspects, margin = suspects[small], size[small].clamp(min=_SMALLEST_MARGIN)
    first = ((scale * suspects[:, :2] - margin) / STRIDE).floor().clamp(min=0) * STRIDE
    last = ((scale * suspects[:, 2:4] + margin) / STRIDE).ceil() * STRIDE
    last = torch.minimum(last, torch.tensor([width, height]))
    if (last - first).prod(dim=1).sum() >= height * width:
        return _detect_at_scale(detector, level, scale)
    found = [torch.empty(0, 15)]
    for x0, y0, x1, y1 in torch.cat([first, last], dim=1).int().unique(dim=0).tolist():
        inside = _detect_at_scale(detector, level[..., y0:y1, x0:x1], scale)
        corner = torch.tensor([x0, y0] * 7 + [0]) / scale
        found.append(inside + corner)
    return torch.cat(found)


def _valid(found: torch.Tensor, scale: float) -> torch.Tensor:
    """Return the certain detections of a scale, of sizes at which they are considered."""
    size = scale * (found[:, 2:4] - found[:, :2]).amax(dim=1)
    return found[(found[:, 14] > _CONFIDENCE) & (size >= _VALID_SIZES[0]) & (size <= _VALID_SIZES[1])]


def _merge(detections: list[torch.Tensor], scales: list[float], threshold: float) -> list[Face]:
    """Keep the faces that were detected at every suitable scale."""
    candidates = torch.cat(detections)
    if not len(candidates):
        return []
    faces = candidates[nms(candidates[:, :4], candidates[:, 14], 0.3)]
    size = (faces[:, 2:4] - faces[:, :2]).amax(dim=1)
    support = torch.zeros(len(faces), len(detections))
    for index, found in enumerate(detections):
        if len(found):
            overlap = box_iou(faces[:, :4], found[:, :4])
            support[:, index] = torch.where(overlap > 0.4, found[:, 14], 0.0).amax(dim=1)
    sizes = size[:, None] * torch.tensor(scales)
    expected = (sizes >= _RELIABLE_SIZES[0]) & (sizes <= _RELIABLE_SIZES[1])
    expected |= ~expected.any(dim=1, keepdim=True) & (support == support.amax(dim=1, keepdim=True))
    score = (support * expected).sum(dim=1) / expected.sum(dim=1)
    kept: list[Face] = []
    for index in score.argsort(descending=True).tolist():
        face = _face(faces[index], float(score[index]))
        if face.score < threshold or any(_shared(face, other) > 0.6 * min(_area(face), _area(other)) for other in kept):
            continue
        same = next((place for place, other in enumerate(kept) if _same_landmarks(face, other)), None)
        if same is None:
            kept.append(face)
        else:
            kept[same] = _joined(kept[same], face)
    kept = [face for face in kept if not any(_is_part(face, other) for other in kept)]
    largest = max((face.size for face in kept), default=0.0)
    kept = [face for face in kept if face.score >= _MINOR_CONFIDENCE or face.size >= _MINOR * largest]
    return sorted(kept, key=lambda face: -face.size)


def _face(row: torch.Tensor, score: float) -> Face:
    x0, y0, x1, y1 = row[:4].tolist()
    return Face((x0, y0, x1 - x0, y1 - y0), score, row[4:14].reshape(5, 2).numpy())


def _area(face: Face) -> float:
    return face.box[2] * face.box[3]


def _shared(face: Face, other: Face) -> float:
    """Return the area that two boxes share."""
    (x, y, w, h), (x_, y_, w_, h_) = face.box, other.box
    return max(0.0, min(x + w, x_ + w_) - max(x, x_)) * max(0.0, min(y + h, y_ + h_) - max(y, y_))


def _same_landmarks(face: Face, other: Face) -> bool:
    """Whether landmarks are closer than two faces can be: by less than a third of the distance of the eyes."""
    eyes = min(np.hypot(*(points[1] - points[0])) for points in (face.landmarks, other.landmarks))
    return bool(np.hypot(*(face.landmarks - other.landmarks).T).mean() < eyes / 3)


def _joined(face: Face, other: Face) -> Face:
    """Return the face that was detected as two halves."""
    (x, y, w, h), (x_, y_, w_, h_) = face.box, other.box
    left, top = min(x, x_), min(y, y_)
    box = (left, top, max(x + w, x_ + w_) - left, max(y + h, y_ + h_) - top)
    return Face(box, face.score, (face.landmarks + other.landmarks) / 2)


def _is_part(face: Face, other: Face) -> bool:
    """Whether a detection is a part of a much larger and more certain face that it touches, such as an ear."""
    smaller = face.size < 0.4 * other.size and face.score < other.score
    return smaller and _shared(face, other) > 0.1 * _area(face)


@functools.lru_cache(maxsize=1)
def _detector() -> YuNet:
    """Load the detector from verified weights."""
    _ensure_weights(weights_path())
    return YuNet(torch.load(weights_path(), map_location="cpu", weights_only=True))


def weights_path() -> Path:
    """Return where the weights are looked for: the folder into which kornia and torch.hub download."""
    return Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS_NAME


def _ensure_weights(path: Path) -> None:
    """Verify the weights; download them if they are missing."""
    try:
        if sha256(path) != WEIGHTS_SHA256:
            raise DetectorUnavailable(
                f"{path}: is not the face detector's file (sha256 {WEIGHTS_SHA256[:8]}…); "
                f"delete it or put the one from {_WEIGHTS_URL} there"
            )
        return
    except FileNotFoundError:
        offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in _OFFLINE
        content = None if offline else _download()
    except OSError as error:
        raise DetectorUnavailable(f"{path}: cannot be read: {error.strerror or error}") from error
    if content is None or hashlib.sha256(content).hexdigest() != WEIGHTS_SHA256:
        raise DetectorUnavailable(
            f"the face detector's weights could not be downloaded; put {WEIGHTS_NAME} "
            f"(sha256 {WEIGHTS_SHA256[:8]}…, from {_WEIGHTS_URL}) into {path.parent}"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except OSError as error:
        raise DetectorUnavailable(f"{path}: cannot be written: {error.strerror or error}") from error


@functools.lru_cache(maxsize=1)
def _download() -> bytes | None:
    """Download the weights; None if that fails or takes too long, which is not tried again for the next photo."""
    result: list[bytes] = []

    def fetch() -> None:
        try:
            with urllib.request.urlopen(_WEIGHTS_URL, timeout=_DOWNLOAD_SECONDS) as response:
                result.append(response.read())
        except (OSError, http.client.HTTPException):
            return

    worker = threading.Thread(target=fetch, daemon=True)  # looking up the host's name has no timeout of its own
    worker.start()
    worker.join(_DOWNLOAD_SECONDS)
    return result[0] if result else None
