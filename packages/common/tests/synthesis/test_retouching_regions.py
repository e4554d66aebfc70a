"""Regions in which programs whiten and smooth."""

from __future__ import annotations

import numpy as np
import pytest
from retouch_common.faces.landmarks import canonical_landmarks
from retouch_common.synthesis.retouching_regions import retouched_region

SKIN = np.float32([0.8, 0.6, 0.5])


@pytest.fixture
def face() -> tuple[np.ndarray, np.ndarray]:
    """Skin to the left of a green right half, and a mask of all of it."""
    image = np.broadcast_to(SKIN, (300, 300, 3)).copy()
    image[:, 150:] = (0.2, 0.7, 0.3)
    return image, np.ones((300, 300), np.float32)


def test_regions_by_kind(face: tuple[np.ndarray, np.ndarray]) -> None:
    image, skin = face
    landmarks = canonical_landmarks(300)
    regions = {kind: retouched_region(image, landmarks, kind, skin) for kind in ("skin", "face", "ellipse", "colour")}
    assert all(region.shape == (300, 300) and 0 <= region.min() <= region.max() <= 1 for region in regions.values())
    assert regions["skin"] is skin
    chin, neck, corner = landmarks.jaw[8], landmarks.jaw[8] + (0, 20), (5, 5)
    for kind in ("face", "ellipse"):
        assert regions[kind][150, 150] == 1 and regions[kind][5, 5] == 0, kind
        x, y = neck.astype(int)
        assert regions[kind][y, x] < 0.1, kind
    x, y = chin.astype(int)
    assert regions["colour"][y, x - 20] > 0.9 and regions["colour"][y, x + 20] < 0.1
    assert regions["colour"][corner] < 0.05
    brown = np.float32([0.3, 0.2, 0.15])  # of no usual skin colour, but this face's
    half = np.where(np.arange(300)[None, :, None] < 150, brown, image).astype(np.float32)
    likely = retouched_region(
        half, landmarks, "likelihood", (np.arange(300)[None] < 150).repeat(300, 0).astype(np.float32)
    )
    assert likely[y, x - 20] > 0.9 and likely[y, x + 20] < 0.1 and likely[corner] < 0.05
    assert not retouched_region(half, landmarks, "likelihood", np.zeros((300, 300), np.float32)).any()
    with pytest.raises(ValueError, match="not 'hands'"):
        retouched_region(image, landmarks, "hands", skin)
