"""The blend layer in the studio's Retouch tool."""

import numpy as np
import pytest
from abpn.retouch import Retoucher
from retouch_common.faces.face import Face
from retouch_common.photo.io import Photo

pytest.importorskip("starlette")
from abpn.studio import CONTRAST, StudioABPN


def test_the_overlay_shows_what_becomes_lighter_and_what_becomes_darker(monkeypatch, tmp_path):
    import pyvips

    pyvips.Image.black(200, 160, bands=3).copy(interpretation="srgb").pngsave(str(tmp_path / "anna.png"))
    network = StudioABPN("cpu")
    B = np.zeros((4, 4, 3), np.float32)
    B[0], B[1] = 0.1, -0.1
    monkeypatch.setattr(Retoucher, "blend_layer", lambda self, image: B)
    face = Face((60.0, 40.0, 50.0, 60.0), 1.0, np.full((5, 2), np.nan, np.float32))
    (overlay,) = network.overlay("blend", Photo.open(tmp_path / "anna.png"), [face])
    expected = [0.5 + 0.1 * CONTRAST, 0.5 - 0.1 * CONTRAST, 0.5, 0.5]
    np.testing.assert_allclose(overlay.image[:, 0, 0], expected, atol=1e-6)


def test_the_blend_layer_has_both_signs():
    retoucher = Retoucher("small", device="cpu")
    photo = np.random.default_rng(0).integers(60, 200, (128, 160, 3)).astype(np.uint8)
    B = retoucher.blend_layer(photo)
    assert B.shape == photo.shape and B.min() < 0 < B.max()
