"""The attention maps in the studio's Retouch tool."""

from types import SimpleNamespace

import numpy as np
import pytest
import pyvips
from bpfre.retouch import Retoucher
from retouch_common.faces.face import Face
from retouch_common.photo.io import Photo

pytest.importorskip("starlette")
from bpfre.studio import MIN_PEAK, StudioBPFRe


@pytest.mark.parametrize("peak, shown", [(0.8, 1), (0.16, 1), (MIN_PEAK / 2, 0.5), (0, 0)])
def test_attention_is_stretched_by_its_largest_value_but_not_without_limit(monkeypatch, tmp_path, peak, shown):
    pyvips.Image.black(200, 160, bands=3).copy(interpretation="srgb").pngsave(str(tmp_path / "anna.png"))

    def retouch_faces(self, source, squares, *, confine):
        return [SimpleNamespace(square=squares[0], skin=None, attention_coarse=np.full((32, 32), peak, np.float32))]

    monkeypatch.setattr(Retoucher, "retouch_faces", retouch_faces)
    face = Face((60.0, 40.0, 50.0, 60.0), 1.0, np.full((5, 2), np.nan, np.float32))
    photo = Photo.open(tmp_path / "anna.png")
    (overlay,) = StudioBPFRe("cpu").overlay("attention_coarse", photo, [face])
    assert overlay.image.max() == pytest.approx(shown, abs=0.02) and overlay.image.dtype == np.float32
