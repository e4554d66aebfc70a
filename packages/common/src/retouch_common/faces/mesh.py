"""MediaPipe's 468-point face mesh: indices of its parts, and `landmarks.npz`, the meshes of a folder's images.

Kartynnik et al., *Real-time Facial Surface Geometry from Monocular Video on Mobile GPUs*, CVPR workshops 2019.
Points are x, y in pixels with the centre of the first pixel at (0, 0); left and right are the image's.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from retouch_common.faces.landmarks import FaceLandmarks
from retouch_common.files import refuse_special, write_atomically

NUM_POINTS = 468
LANDMARKS_FILE = "landmarks.npz"

# fmt: off
OVAL = (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149,
        150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109)
"""Outline of the face, clockwise from the middle of the forehead."""
EYES = ((33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7),
        (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249))
"""Openings of the left and the right eye."""
BROWS = ((70, 63, 105, 66, 107, 55, 65, 52, 53, 46), (300, 293, 334, 296, 336, 285, 295, 282, 283, 276))
"""Outlines of the left and the right brow."""
OUTER_LIPS = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
INNER_LIPS = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
"""Both from the left corner along the upper edge, half of the points each way."""
NOSE = (168, 122, 174, 198, 49, 48, 64, 98, 97, 2, 326, 327, 294, 278, 279, 420, 399, 351)
"""Outline of the nose: bridge, left side and wing, base, right wing and side."""
NOSTRILS = ((98, 97, 2, 242, 20, 99, 240, 64), (327, 326, 2, 462, 250, 328, 460, 294))
"""Outlines around the left and the right nostril."""
# fmt: on
NOSE_TIP = 4
_BRIDGE = (168, 6, 197, 195, 5, NOSE_TIP)
_JAW_FIRST, _JAW_LAST = OVAL.index(454), OVAL.index(234)  # from the right ear along the chin to the left


def landmarks_from_mesh(points: np.ndarray) -> FaceLandmarks:
    """Return the parts of a face from its mesh (468, 2), x, y in pixels.

    Raises:
        ValueError: If they are not 468 finite points.
    """
    points = np.asarray(points, dtype=np.float32)
    if points.shape != (NUM_POINTS, 2):
        raise ValueError(f"expected {NUM_POINTS} landmarks as an array ({NUM_POINTS}, 2), got {points.shape}")
    outline = points[list(OVAL)]
    lips = points[list(OUTER_LIPS)]
    return FaceLandmarks(
        eyes=(points[list(EYES[0])], points[list(EYES[1])]),
        brows=(points[list(BROWS[0])], points[list(BROWS[1])]),
        lips=lips,
        mouth=lips[[0, len(lips) // 2]],
        nose=points[list(_BRIDGE)],
        jaw=outline[_JAW_FIRST : _JAW_LAST + 1][::-1],
        outline=outline,
    )


def read_mesh_file(path: str | Path) -> dict[str, np.ndarray]:
    """Read the meshes, (468, 2) float32 x, y in pixels, by image name from a `landmarks.npz`.

    Raises:
        ValueError: If the file does not hold `names` (N) and finite `points` (N, 468, 2).
        OSError: If it cannot be read.
    """
    path = Path(path)
    refuse_special(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            names, points = file["names"], file["points"].astype(np.float32)
    except FileNotFoundError:
        raise
    except Exception as error:  # zipfile, zlib and numpy each raise their own
        raise ValueError(f"{path}: not a file of landmarks ({error})") from error
    if names.ndim != 1 or names.dtype.kind != "U" or points.shape != (len(names), NUM_POINTS, 2):
        raise ValueError(
            f"{path}: must hold names (N) and points (N, {NUM_POINTS}, 2), not {names.dtype} {names.shape} and "
            f"{points.shape}"
        )
    if not np.isfinite(points).all():
        raise ValueError(f"{path}: holds landmarks that are not finite")
    return dict(zip(names.tolist(), points, strict=True))


def write_mesh_file(path: str | os.PathLike[str], meshes: Mapping[str, np.ndarray]) -> None:
    """Write `landmarks.npz`; see :func:`read_mesh_file`.

    Raises:
        OSError: If the file cannot be written.
    """
    names = sorted(meshes)
    points = np.stack([meshes[name] for name in names]) if names else np.zeros((0, NUM_POINTS, 2))
    content = io.BytesIO()
    np.savez_compressed(content, names=np.array(names, dtype=np.str_), points=points.astype(np.float32))
    write_atomically(path, content.getvalue())
