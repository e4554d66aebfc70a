"""``maskgan-edit --sign`` and ``maskgan-swap --sign``."""

import numpy as np
import pytest
from maskgan.cli import edit, swap
from retouch_common.faces.face import Face
from retouch_common.inference import regions
from retouch_common.parsing.labels import write_labels
from retouch_common.parsing.parser import FaceParser
from retouch_common.testing.credentials_contract import CredentialsContract
from retouch_common.testing.photos import make_photo

UNKNOWN = np.full((5, 2), np.nan, np.float32)


@pytest.fixture
def networks(weights, parser_weights):
    return ["--weights", weights, "--parser", parser_weights, "--device", "cpu", "--precision", "fp32"]


class TestEdit(CredentialsContract):
    package, command = "maskgan", edit

    @pytest.fixture
    def options(self, networks, tmp_path):
        write_labels(tmp_path / "mask.png", np.ones((64, 64), np.uint8))
        return ["--mask", tmp_path / "mask.png", *networks]


class TestSwap(CredentialsContract):
    package, command = "maskgan", swap

    @pytest.fixture
    def options(self, networks, tmp_path, drawn_labels, monkeypatch):
        labels = drawn_labels(1)[0].numpy().astype(np.uint8)
        monkeypatch.setattr(FaceParser, "__call__", lambda self, image: labels)
        monkeypatch.setattr(regions, "detect_faces", lambda image: [Face((90, 80, 60, 80), 1, UNKNOWN)])
        return [make_photo(tmp_path / "other.png", size=(260, 300)), "--parts", "skin", *networks]
