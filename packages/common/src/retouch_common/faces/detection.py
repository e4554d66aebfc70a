"""Face detection by the first available detector.

Detectors are registered in :mod:`retouch_common.faces.registry`, YuNet first. The last resort is the face parser with
its bundled weights, which registers itself (:mod:`retouch_common.parsing.detector`).
"""

from __future__ import annotations

import functools
import logging

import numpy as np

from retouch_common.faces import yunet
from retouch_common.faces.face import Face
from retouch_common.faces.registry import Detector, DetectorUnavailable, register_detector, registered_detectors

SIDEWAYS_THRESHOLD = 0.8  # minimum confidence of faces in turned photos, where two more searches may go wrong

logger = logging.getLogger(__name__)


def detect_faces(image: np.ndarray, *, score_threshold: float = 0.6) -> list[Face]:
    """Detect faces in a photo (H, W, 3), uint8 RGB, in its pixels, largest first.

    ``score_threshold`` is the minimum confidence, averaged over the scales at which a face must be detected. Where no
    face is upright, faces are searched for in the photo turned by a quarter to both sides; their landmarks, in pixels
    of the photo as it is, keep the order of the upright face.

    Raises:
        DetectorUnavailable: If no detector is available; the message is that of the first one.
        ValueError: If the image is not (H, W, 3) uint8.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"expected an (H, W, 3) uint8 image, got shape {image.shape} and type {image.dtype}")
    _, detect = available_detector()
    faces = detect(image, score_threshold=score_threshold)
    return faces or _sideways_faces(detect, image, max(score_threshold, SIDEWAYS_THRESHOLD))


def available_detector() -> tuple[str, Detector]:
    """Return the name of the first available detector and the detector.

    Raises:
        DetectorUnavailable: If there is none; the message is that of the first one.
    """
    unavailable: DetectorUnavailable | None = None
    for name, load in registered_detectors().items():
        try:
            detect = load()
        except DetectorUnavailable as error:
            unavailable = unavailable or error
            continue
        if unavailable is not None:
            _warn_once(name, str(unavailable))
        return name, detect
    raise unavailable or DetectorUnavailable("no face detector is registered")


def _sideways_faces(detect: Detector, image: np.ndarray, threshold: float) -> list[Face]:
    """Detect faces in a photo that lies on one of its sides; of the two sides, that with the most certain face."""
    sides = []
    for quarters in (1, 3):
        found = detect(np.ascontiguousarray(np.rot90(image, quarters)), score_threshold=threshold)
        sides.append([_turned_back(face, quarters, *image.shape[:2]) for face in found])
    return max(sides, key=lambda faces: max((face.score for face in faces), default=0.0))


def _turned_back(face: Face, quarters: int, height: int, width: int) -> Face:
    """Return a face of ``np.rot90(image, quarters)`` in pixels of the image (height, width)."""
    x, y, w, h = face.box
    u, v = face.landmarks.T
    if quarters == 1:
        return Face((width - y - h, x, h, w), face.score, np.stack([width - v, u], axis=1))
    return Face((y, height - x - w, h, w), face.score, np.stack([v, height - u], axis=1))


@functools.lru_cache(maxsize=8)
def _warn_once(name: str, reason: str) -> None:
    logger.warning("falling back to the %s, which is less reliable: %s", name, reason)


register_detector("YuNet", yunet.load_detector)
