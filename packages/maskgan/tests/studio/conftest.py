"""Applications with the stand-in of :mod:`flat_editor` for a network."""

import sys
from pathlib import Path

import pytest
from maskgan.studio import session
from maskgan.studio.server import create_app
from maskgan.studio.session import Limits, Studio
from retouch_common.photo.faces import Face

sys.path.insert(0, str(Path(__file__).parent))  # for the tests beside it
from flat_editor import HEIGHT, MARKS, WIDTH, FlatEditor


@pytest.fixture(autouse=True)
def one_face(monkeypatch):
    """Photographs of WIDTH x HEIGHT show a face, others none."""

    def locate(photo):
        if (photo.width, photo.height) != (WIDTH, HEIGHT):
            return []
        return [Face((55.0, 65.0, 40.0, 50.0), 1.0, MARKS)]

    monkeypatch.setattr(session, "locate_faces", locate)


@pytest.fixture
def editor():
    return FlatEditor()


@pytest.fixture
def make_app(tmp_path, editor):
    """An application and its studio."""

    def make(**limits):
        folder = tmp_path / "uploads"
        folder.mkdir(exist_ok=True)
        studio = Studio(editor, Limits(**limits))
        return create_app(studio, folder), studio, folder

    return make
