"""MediaPipe's face mesh network: 468 landmarks of a face.

Kartynnik et al., *Real-time Facial Surface Geometry from Monocular Video on Mobile GPUs*, CVPR workshops 2019. The
network (Apache-2.0) is not bundled; it runs in onnxruntime, the extra `retouch-common[landmarks]`.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np

from retouch_common import hub
from retouch_common.faces import mesh
from retouch_common.faces.alignment import FaceSquare, align
from retouch_common.faces.face import Face
from retouch_common.files import check_sha256

MODEL_FILE = "face_landmark.onnx"
MODEL_SHA256 = "2ece916c568172aafde5d8beaf0198c65b10691a618e551c4b1015a32116e326"

SIZE = 192
"""Side in pixels of what the network sees."""
MARGIN = 1.5
"""Side of the square around a face over the longer side of its box."""
ROUNDS = 3
"""The square is turned and centred by the landmarks of the round before."""


class MeshModel:
    """Estimator of the 468 landmarks of a detected face.

    Args:
        name: ONNX file, its folder, or hub id ``owner/name[@revision]`` with `face_landmark.onnx`.

    Raises:
        ValueError: If the file is missing or another one, or onnxruntime is missing.
    """

    def __init__(self, name: str | Path) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise ValueError("landmarks need onnxruntime: pip install 'retouch-common[landmarks]'") from None
        path = _model_path(name)
        check_sha256(path, MODEL_SHA256)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def __call__(self, image: np.ndarray, face: Face) -> tuple[np.ndarray, float]:
        """Estimate the landmarks of a face in an image (H, W, 3), uint8 RGB.

        They are (468, 2) float32 x, y in pixels; the second result is the probability in [0, 1] that they are a face's.

        Raises:
            ValueError: If the face lies outside the image.
        """
        x, y, width, height = face.box
        eyes = np.asarray(face.landmarks, np.float64)[:2]
        angle = _angle(*eyes) if np.isfinite(eyes).all() else 0.0
        square = FaceSquare((x + width / 2, y + height / 2), MARGIN * max(width, height), angle)
        for _ in range(ROUNDS):
            points, logit = self._run(align(image, square, SIZE))
            points = np.stack(square.to_photo(points[:, 0] / SIZE, points[:, 1] / SIZE), axis=1)
            square = _square_of(points)
        return (points - 0.5).astype(np.float32), 1.0 / (1.0 + math.exp(-logit))

    def _run(self, crop: np.ndarray) -> tuple[np.ndarray, float]:
        """Return landmarks (468, 2) in pixels of the crop, the first pixel covering [0, 1], and the face logit."""
        coordinates, logit = self._session.run(None, {"input_1": crop.transpose(2, 0, 1)[None]})
        return coordinates.reshape(mesh.NUM_POINTS, 3)[:, :2], float(logit.item())


def _square_of(points: np.ndarray) -> FaceSquare:
    """Return the square around a face, eyes level."""
    left, right = (points[list(eye)].mean(0) for eye in mesh.EYES)
    angle = _angle(left, right)
    upright = points @ np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    low, high = upright.min(0), upright.max(0)
    x, y = (low + high) / 2
    centre = x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)
    return FaceSquare(centre, MARGIN * float((high - low).max()), angle)


def _angle(left: np.ndarray, right: np.ndarray) -> float:
    return math.atan2(right[1] - left[1], right[0] - left[0])


def _model_path(name: str | Path) -> Path:
    path = Path(os.path.expanduser(name))
    if path.is_dir():
        path /= MODEL_FILE
    if path.is_file():
        return path
    mistyped = path.suffix == ".onnx" or (path.parent.is_dir() and "@" not in str(name))
    if isinstance(name, str) and hub.HUB_ID.fullmatch(name) and not mistyped:
        return hub.verified_file(name, MODEL_FILE)
    raise ValueError(
        f"{name}: no such file; give {MODEL_FILE}, its folder, or a hub id owner/name[@revision] that holds it"
    )
