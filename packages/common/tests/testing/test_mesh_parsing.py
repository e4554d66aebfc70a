from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from retouch_common.faces import mesh
from retouch_common.faces.face import Face
from retouch_common.parsing.labels import CLASSES
from retouch_common.testing.anywhere import MeshPortrait, filled

BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")
SKIN = CLASSES.index("skin")


@pytest.fixture
def mesh_parsing(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import mesh_parsing

    yield mesh_parsing
    sys.modules.pop("mesh_parsing")


@pytest.fixture
def detected(drawn_portrait: MeshPortrait, mesh_parsing: ModuleType, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """The mesh of a portrait whose face is detected where it is."""
    points = drawn_portrait.mesh
    eyes, lips = [points[list(eye)].mean(axis=0) for eye in mesh.EYES], points[list(mesh.OUTER_LIPS)]
    corners = [lips[lips[:, 0].argmin()], lips[lips[:, 0].argmax()]]
    (x, y), (width, height) = points.min(axis=0), np.ptp(points, axis=0)
    landmarks = np.stack([*eyes, points[mesh.NOSE_TIP], *corners]) + 0.5
    faces = [Face((float(x), float(y), float(width), float(height)), 1.0, landmarks.astype(np.float32))]
    monkeypatch.setattr(mesh_parsing, "detect_faces", lambda levels: faces)
    return points


def score(mesh_parsing: ModuleType, points: np.ndarray, white: np.ndarray) -> dict[str, float]:
    """F1 of a parser that labels as skin what is white in the photograph."""
    portrait = MeshPortrait(Path("drawn"), points)
    portrait.__dict__["levels"] = np.repeat(255 * white[..., None].astype(np.uint8), 3, axis=2)
    scores = mesh_parsing.f1_by_portrait(lambda face: np.where(face.mean(axis=-1) > 0.5, SKIN, 0), 256, [portrait])
    return {name: values[0] for name, values in scores.items()}


def test_the_forehead_above_the_oval_is_no_error(
    detected: np.ndarray, drawn_portrait: MeshPortrait, mesh_parsing: ModuleType
) -> None:
    oval = filled(detected[list(mesh.OVAL)], *drawn_portrait.levels.shape[:2])
    assert score(mesh_parsing, detected, oval)["face"] > 0.98
    forehead = oval | np.roll(oval, -25, axis=0)
    found = score(mesh_parsing, detected, forehead)
    assert found["face"] > 0.98 and 0.9 < found[mesh_parsing.FULL_FACE] < 0.97
    assert found["eyes"] == found["lips"] == 0
    chin = score(mesh_parsing, detected, oval | np.roll(oval, 25, axis=0))
    assert chin["face"] < 0.96, "skin below the oval is an error"
    assert chin["face"] == pytest.approx(chin[mesh_parsing.FULL_FACE], abs=1e-3)


def test_a_face_that_is_not_detected_scores_nothing(
    detected: np.ndarray, mesh_parsing: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mesh_parsing, "detect_faces", lambda levels: [])
    assert set(score(mesh_parsing, detected, np.ones((400, 400), bool)).values()) == {0.0}
