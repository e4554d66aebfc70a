from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from retouch_common.data.face_cache import read_levels
from retouch_common.data.portraits import mesh_of
from retouch_common.faces.face import Face
from retouch_common.faces.mesh import EYES, OVAL, landmarks_from_mesh
from retouch_common.faces.mesh_model import MeshModel

_DATA = Path(os.environ.get("RETOUCH_DATA", Path(__file__).parents[4].parent / "shared" / "data"))
_MODEL = _DATA / "models" / "face_landmark.onnx"

pytestmark = pytest.mark.skipif(not _MODEL.is_file(), reason="the mesh network (RETOUCH_DATA) is not here")


@pytest.mark.parametrize("turned", [0, 1])
def test_landmarks_are_those_that_came_with_the_portraits(turned: int) -> None:
    pytest.importorskip("onnxruntime", reason="the extra 'landmarks' is not installed")
    photo = sorted((_DATA / "faces" / "canada").glob("*.jpg"))[1]
    levels, expected = read_levels(photo), mesh_of(photo)
    assert expected is not None
    if turned:  # a quarter turn to the left
        x, y = expected.T
        levels, expected = np.rot90(levels).copy(), np.stack([y, levels.shape[1] - 1 - x], axis=1)
    low, high = expected.min(0), expected.max(0)
    box = (*map(float, low + 10), *map(float, high - low))  # as inexact as a detector's
    face = Face(box, 1.0, landmarks_from_mesh(expected).five_points)
    points, probability = MeshModel(_MODEL)(levels, face)
    assert probability > 0.99
    width = float(np.ptp(expected[list(OVAL), turned]))
    for part in (OVAL, *EYES):
        assert np.hypot(*(points - expected)[list(part)].T).mean() < 0.02 * width
