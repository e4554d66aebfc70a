"""A drawn face with its mesh, at the size of a photograph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from retouch_common.faces import mesh
from retouch_common.testing import anywhere
from retouch_common.testing.anywhere import MeshPortrait, filled

SIDE, UNIT, CENTRE = 400, 90.0, np.array([200.0, 170.0])
SKIN = np.array([205, 155, 130])


def drawn_mesh() -> np.ndarray:
    """A frontal face of simple outlines, 198 pixels wide."""
    points = np.tile(CENTRE, (mesh.NUM_POINTS, 1))

    def ellipse(indices: tuple[int, ...], x: float, y: float, rx: float, ry: float, start: float) -> None:
        turn = np.radians(start) + np.linspace(0.0, 2.0 * np.pi, len(indices), endpoint=False)
        points[list(indices)] = CENTRE + UNIT * np.stack([x + rx * np.cos(turn), y + ry * np.sin(turn)], axis=1)

    ellipse(mesh.NOSE, 0.0, 0.35, 0.18, 0.3, -90.0)
    ellipse(mesh.OVAL, 0.0, 0.5, 1.1, 1.5, -90.0)
    for side, x in enumerate((-0.5, 0.5)):
        ellipse(mesh.EYES[side], x, 0.0, 0.22, 0.09, 180.0)
        ellipse(mesh.BROWS[side], x, -0.35, 0.3, 0.05, 180.0)
        ellipse(anywhere.CHEEKS[side], x, 0.55, 0.2, 0.15, 0.0)
    ellipse(anywhere.NOSTRILS, 0.0, 0.68, 0.2, 0.06, 0.0)
    ellipse(mesh.OUTER_LIPS, 0.0, 1.1, 0.4, 0.15, 180.0)
    points[mesh.NOSE_TIP] = CENTRE + UNIT * np.array([0.0, 0.55])
    return points.astype(np.float32)


@pytest.fixture
def drawn_portrait(tmp_path: Path) -> MeshPortrait:
    """Skin with grain and dark features before a patterned wall; no file."""
    points, generator = drawn_mesh(), np.random.default_rng(0)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    picture = np.repeat((110 + 40 * np.sin(rows / 5.0) * np.sin(columns / 7.0))[..., None], 3, axis=2)
    picture[filled(points[list(mesh.OVAL)], SIDE, SIDE)] = SKIN
    for part in (*mesh.EYES, *mesh.BROWS, mesh.OUTER_LIPS):
        picture[filled(points[list(part)], SIDE, SIDE)] = (90, 50, 50)
    picture += generator.normal(0, 3, (SIDE, SIDE, 1))
    portrait = MeshPortrait(tmp_path / "drawn" / "person.png", points)
    portrait.__dict__["levels"] = np.rint(picture).clip(0, 255).astype(np.uint8)  # what reading the file would cache
    return portrait
