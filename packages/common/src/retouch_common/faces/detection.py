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
from retouch_common.faces.registry import DetectorUnavailable, register_detector, registered_detectors

logger = logging.getLogger(__name__)


def detect_faces(image: np.ndarray, *, score_threshold: float = 0.6) -> list[Face]:
    """Detect faces in a photo (H, W, 3), uint8 RGB, in its pixels, largest first.

    ``score_threshold`` is the minimum confidence, averaged over the scales at which a face must be detected.

    Raises:
        DetectorUnavailable: If no detector is available; the message is that of the first one.
        ValueError: If the image is not (H, W, 3) uint8.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"expected an (H, W, 3) uint8 image, got shape {image.shape} and type {image.dtype}")
    unavailable: DetectorUnavailable | None = None
    for name, load in registered_detectors().items():
        try:
            detect = load()
        except DetectorUnavailable as error:
            unavailable = unavailable or error
            continue
        if unavailable is not None:
            _warn_once(name, str(unavailable))
        return detect(image, score_threshold=score_threshold)
    raise unavailable or DetectorUnavailable("no face detector is registered")


@functools.lru_cache(maxsize=8)
def _warn_once(name: str, reason: str) -> None:
    logger.warning("faces are found by the %s, less reliably: %s", name, reason)


register_detector("YuNet", yunet.load_detector)
