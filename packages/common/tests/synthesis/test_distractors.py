from __future__ import annotations

import numpy as np
import pytest
from retouch_common.synthesis.blemish_shapes import NoisePool
from retouch_common.synthesis.distractors import ANYWHERE, ON_SKIN, Scenery

SIZE = 160
KINDS = ANYWHERE | {name: thing for name, (thing, _) in ON_SKIN.items()}


@pytest.fixture(scope="module")
def noise() -> NoisePool:
    return NoisePool(size=384)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_thing_stays_in_its_place_and_the_matte_covers_it(name: str, noise: NoisePool) -> None:
    where = np.ones((SIZE, SIZE), dtype=np.float32)
    where[:, :40] = 0.0
    changed_once = False
    for seed in range(6):
        image = np.full((SIZE, SIZE, 3), 0.55, dtype=np.float32)
        scene = Scenery(image, where, np.zeros_like(where), 0.5, noise)
        KINDS[name](scene, np.random.default_rng(seed))
        changed = np.abs(image - np.float32(0.55)).max(-1)
        assert image.min() >= 0.0 and image.max() <= 1.0
        assert changed[:, :40].max() == 0.0
        assert scene.matte[changed > 0.03].min(initial=1.0) > 0.02
        changed_once |= bool((changed > 0.1).sum() > 8)
    assert changed_once
